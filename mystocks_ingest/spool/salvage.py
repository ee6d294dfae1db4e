"""What a damaged spool file still gives: every record on a page that can be read."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from mystocks_ingest.logs import get

log = get("spool")


@dataclass(frozen=True, slots=True)
class Found:
    """One record of a damaged file. ``sound``: its bytes bear its checksum; ``body`` is None where nothing is left."""

    target: str | None
    at: str | None
    rows: int | None
    checksum: bytes | None
    body: bytes | None
    sound: bool


def salvaged(path: Path) -> Iterator[Found]:
    """The records of the file in the order in which they were put; those that cannot be used are not sound."""
    _lengthen(path)
    with closing(sqlite3.connect(path)) as file:
        number, last = 0, _last_id(file)
        while number < last:
            try:
                row = file.execute(
                    "SELECT id, target, at, rows, checksum, body FROM record WHERE id > ? ORDER BY id LIMIT 1",
                    (number,),
                ).fetchone()
            except sqlite3.DatabaseError:
                number += 1  # on a page that cannot be read: feel for its end
                yield from _head(file, number)
                continue
            if row is None:
                return
            if not isinstance(row[0], int) or row[0] <= number:  # a damaged page may say anything
                number += 1
                continue
            number = row[0]
            yield _found(row[1:])


def checksum(body: bytes) -> bytes:
    """Of a record's bytes; 16 of them."""
    return hashlib.blake2b(body, digest_size=16).digest()


def _found(values: Sequence[object]) -> Found:
    target, at, rows, stated, body = values
    sound = isinstance(body, bytes) and isinstance(target, str) and checksum(body) == stated
    return Found(
        target if isinstance(target, str) else None,
        at if isinstance(at, str) else None,
        rows if isinstance(rows, int) else None,
        stated if isinstance(stated, bytes) else None,
        body if isinstance(body, bytes) else None,
        sound,
    )


def _head(file: sqlite3.Connection, number: int) -> Iterator[Found]:
    """What is known of a record whose body cannot be read."""
    try:
        row = file.execute("SELECT target, at, rows FROM record WHERE id = ?", (number,)).fetchone()
    except sqlite3.DatabaseError:
        return
    if row is not None:
        yield _found((*row, None, None))


def _lengthen(path: Path) -> None:
    """Of a file that was cut off SQLite reads nothing; with zeros in place of what is gone, all pages that are left."""
    with path.open("r+b") as file:
        head = file.read(100)
        size = int.from_bytes(head[16:18], "big")
        wanted = int.from_bytes(head[28:32], "big") * (65536 if size == 1 else size)
        if head.startswith(b"SQLite format 3") and path.stat().st_size < wanted:
            file.truncate(wanted)


def _last_id(file: sqlite3.Connection) -> int:
    for question in ("SELECT seq FROM sqlite_sequence WHERE name = 'record'", "SELECT max(id) FROM record"):
        try:
            found = file.execute(question).fetchone()
        except sqlite3.DatabaseError as exc:
            log.warning("spool.unreadable", what=question, reason=str(exc))
            continue
        if found is not None and found[0] is not None:
            return int(found[0])
    return 0
