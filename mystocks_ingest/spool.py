"""The spool: a bounded durable queue on local disk in front of sinks that are away.

One SQLite file a state directory. A record is one Arrow batch for one table with the checksum of its bytes; ``put``
returns when it is on disk. Records of a table come out in the order in which they went in, and stay until ``done``.
A record whose bytes do not bear its checksum is set aside in the file's table ``quarantine``; of a file that is damaged
as a whole every record that can still be read is carried over into a new one, and the old file is kept beside it.
"""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import pyarrow as pa

from mystocks_ingest.errors import ConfigError, Unavailable
from mystocks_ingest.logs import get
from mystocks_ingest.ports import Spooled

T = TypeVar("T")
log = get("spool")

FILE = "spool.sqlite"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS record (
    id INTEGER PRIMARY KEY AUTOINCREMENT, target TEXT NOT NULL, at TEXT NOT NULL, rows INTEGER NOT NULL,
    checksum BLOB NOT NULL, body BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS record_of_target ON record (target, id);
CREATE TABLE IF NOT EXISTS quarantine (
    id INTEGER PRIMARY KEY AUTOINCREMENT, target TEXT, at TEXT, rows INTEGER, reason TEXT NOT NULL, body BLOB
);
"""
_OPTIONS = pa.ipc.IpcWriteOptions(compression="lz4")


class Full(Unavailable):
    """The spool, or the disk it lies on, takes no more."""


@dataclass(frozen=True, slots=True)
class Level:
    """What lies in the spool for one target, and what became of rows that do not lie there any more."""

    records: int = 0
    rows: int = 0
    bytes: int = 0
    oldest: datetime | None = None
    dropped_rows: int = 0  # since the spool was opened
    quarantined: int = 0  # records, all those in the file


class Spool:
    """``async with Spool(directory, most_bytes=...) as spool``. One process at a time holds a directory's spool."""

    def __init__(self, directory: Path, *, most_bytes: int = 2 << 30) -> None:
        self._path = directory / FILE
        self.most_bytes = most_bytes
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="spool")
        self._file: sqlite3.Connection | None = None
        self._levels: dict[str, Level] = {}
        self.damage: list[str] = []  # sentences for people: what was found broken since the spool was opened

    async def __aenter__(self) -> Self:
        try:
            await self._run(lambda _: None)
        except BaseException:
            self._thread.shutdown(wait=False)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        finally:
            self._thread.shutdown(wait=False)

    @property
    def levels(self) -> Mapping[str, Level]:
        """By target; a target that never had a record since the spool was opened is absent."""
        return dict(self._levels)

    @property
    def bytes(self) -> int:
        """Of all records together."""
        return sum(level.bytes for level in self._levels.values())

    def holds(self, target: str) -> bool:
        """Whether a record of the target waits."""
        return target in self._levels and self._levels[target].records > 0

    async def put(self, target: str, rows: pa.RecordBatch) -> None:
        """Keep ``rows``; durable on return. Raises Full when they do not fit."""
        body = await asyncio.to_thread(_packed, rows)
        if self.bytes + len(body) > self.most_bytes:
            raise Full(
                f"the spool {self._path} is full ({self.bytes / 1e6:.0f} of {self.most_bytes / 1e6:.0f} MB wait)"
            )
        at = datetime.now(UTC)
        values = (target, at.isoformat(), rows.num_rows, _checksum(body), body)
        insert = "INSERT INTO record (target, at, rows, checksum, body) VALUES (?, ?, ?, ?, ?)"
        await self._run(lambda file: file.execute(insert, values))
        level = self._levels.get(target, Level())
        self._levels[target] = replace(
            level,
            records=level.records + 1,
            rows=level.rows + rows.num_rows,
            bytes=level.bytes + len(body),
            oldest=level.oldest or at,
        )

    async def oldest(self, target: str, *, most_rows: int) -> list[Spooled]:
        """The oldest records of a target, at least one where there is any, together at most ``most_rows``."""
        found: list[Spooled] = await self._run(lambda file: list(self._read(file, target, most_rows)))
        return found

    async def done(self, records: Sequence[Spooled]) -> None:
        """These are durable elsewhere: forget them."""
        await self._forget([r.id for r in records])

    async def drop_oldest(self, target: str, *, least_bytes: int) -> int:
        """Make room at the cost of the target's oldest records; how many rows that were."""

        def choose(file: sqlite3.Connection) -> list[tuple[int, int, int]]:
            chosen, size = [], 0
            ordered = file.execute("SELECT id, rows, length(body) FROM record WHERE target = ? ORDER BY id", (target,))
            for number, rows, length in ordered:
                if size >= least_bytes:
                    break
                chosen.append((number, rows, length))
                size += length
            return chosen

        chosen = await self._run(choose)
        await self._forget([number for number, _, _ in chosen])
        dropped = sum(rows for _, rows, _ in chosen)
        if dropped:
            level = self._levels[target]
            self._levels[target] = replace(level, dropped_rows=level.dropped_rows + dropped)
            log.warning("rows.dropped", target=target, rows=dropped, why="the spool is full")
        return dropped

    async def _forget(self, numbers: Sequence[int]) -> None:
        def forget(file: sqlite3.Connection) -> None:
            file.executemany("DELETE FROM record WHERE id = ?", [(n,) for n in numbers])

        if numbers:
            await self._run(forget)
            await self._run(self._count)
            if not any(level.records for level in self._levels.values()):
                await self._run(_shrink)

    # on the spool's thread -----------------------------------------------------------------------------------------

    async def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._attempt, work)

    def _attempt(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            return self._once(work)
        except sqlite3.DatabaseError as exc:
            if _is_full(exc):
                raise Full(f"the disk of the spool {self._path} is full: free space") from exc
            if isinstance(exc, sqlite3.OperationalError) and "malformed" not in str(exc):
                raise Unavailable(f"the spool {self._path} cannot be used: {exc}") from exc
            self._mend(str(exc))
            return self._once(work)

    def _once(self, work: Callable[[sqlite3.Connection], T]) -> T:
        file = self._file or self._open()
        with file:  # one transaction
            return work(file)

    def _open(self) -> sqlite3.Connection:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            file = sqlite3.connect(self._path, check_same_thread=False, timeout=0)
        except (OSError, sqlite3.OperationalError) as exc:
            raise ConfigError(
                f"the spool {self._path} cannot be opened ({exc}): set MYSTOCKS_STATE_DIR to a folder this user may "
                "write to"
            ) from exc
        try:
            file.execute("PRAGMA locking_mode = EXCLUSIVE")
            file.execute("PRAGMA auto_vacuum = INCREMENTAL")
            file.execute("PRAGMA journal_mode = WAL")
            file.execute("PRAGMA synchronous = FULL")
            file.executescript(_SCHEMA)
            _require_sound(file)
            self._file = file
            self._count(file)
        except sqlite3.OperationalError as exc:
            file.close()
            if "locked" in str(exc):
                raise ConfigError(f"the spool {self._path} is in use by another process: stop that one first") from exc
            raise
        except BaseException:
            self._file = None
            file.close()
            raise
        return file

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _count(self, file: sqlite3.Connection) -> None:
        kept = "SELECT target, count(*), sum(rows), sum(length(body)), min(at) FROM record GROUP BY target"
        aside = dict(file.execute("SELECT coalesce(target, '?'), count(*) FROM quarantine GROUP BY 1").fetchall())
        found = {
            target: Level(records, rows, size, datetime.fromisoformat(oldest))
            for target, records, rows, size, oldest in file.execute(kept)
        }
        self._levels = {
            target: replace(
                found.get(target, Level()),
                dropped_rows=self._levels.get(target, Level()).dropped_rows,
                quarantined=aside.get(target, 0),
            )
            for target in dict.fromkeys((*self._levels, *found, *aside))
        }

    def _read(self, file: sqlite3.Connection, target: str, most_rows: int) -> Iterator[Spooled]:
        total, spoilt = 0, []
        ordered = "SELECT id, at, rows, checksum, body FROM record WHERE target = ? ORDER BY id"
        for number, at, rows, checksum, body in file.execute(ordered, (target,)):
            if total and total + rows > most_rows:
                break
            reason = "its bytes do not bear its checksum"
            batch = None
            if _checksum(body) == checksum:
                try:
                    batch = _unpacked(body)
                except (pa.ArrowException, OSError, StopIteration) as exc:
                    reason = f"it is no Arrow batch: {exc}"
            if batch is None:
                spoilt.append((number, reason))
                continue
            total += rows
            yield Spooled(number, target, datetime.fromisoformat(at), batch)
        for number, reason in spoilt:
            self._set_aside(file, number, target, reason)

    def _set_aside(self, file: sqlite3.Connection, number: int, target: str, reason: str) -> None:
        file.execute(
            "INSERT INTO quarantine (target, at, rows, reason, body) SELECT target, at, rows, ?, body FROM record "
            "WHERE id = ?",
            (reason, number),
        )
        file.execute("DELETE FROM record WHERE id = ?", (number,))
        self._report(f"record {number} for {target} was set aside: {reason}")
        self._count(file)

    def _mend(self, why: str) -> None:
        """Begin a new file with every record of the damaged one that can be read."""
        self._close()
        damaged = self._path.with_name(f"spool-damaged-{datetime.now(UTC):%Y%m%dT%H%M%S%f}.sqlite")
        for suffix in ("", "-wal", "-shm"):
            part = self._path.with_name(self._path.name + suffix)
            if part.exists():
                part.rename(damaged.with_name(damaged.name + suffix))
        file = self._open()
        saved = 0
        with file:
            for row in _salvaged(damaged):
                file.execute("INSERT INTO record (target, at, rows, checksum, body) VALUES (?, ?, ?, ?, ?)", row)
                saved += 1
        self._count(file)
        self._report(f"the file was damaged ({why}): {saved} records could be read; the rest is kept in {damaged}")

    def _report(self, text: str) -> None:
        self.damage.append(text)
        log.error("spool.damaged", path=str(self._path), what=text)


def _salvaged(path: Path) -> Iterator[tuple[object, ...]]:
    """The records of a damaged file that can be read and bear their checksum, in order."""
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
                continue
            if row is None:
                return
            if not isinstance(row[0], int) or row[0] <= number:  # a damaged page may say anything
                number += 1
                continue
            number = row[0]
            if isinstance(row[5], bytes) and _checksum(row[5]) == row[4]:
                yield row[1:]


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


def _shrink(file: sqlite3.Connection) -> None:
    file.execute("PRAGMA incremental_vacuum")


def _require_sound(file: sqlite3.Connection) -> None:
    (found,) = file.execute("PRAGMA quick_check(1)").fetchone()
    if found != "ok":
        raise sqlite3.DatabaseError(f"malformed: {found}")


def _is_full(exc: sqlite3.DatabaseError) -> bool:
    return getattr(exc, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL


def _packed(rows: pa.RecordBatch) -> bytes:
    out = pa.BufferOutputStream()
    with pa.ipc.new_stream(out, rows.schema, options=_OPTIONS) as writer:
        writer.write_batch(rows)
    packed: bytes = out.getvalue().to_pybytes()
    return packed


def _unpacked(body: bytes) -> pa.RecordBatch:
    with pa.ipc.open_stream(body) as reader:
        return reader.read_next_batch()


def _checksum(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=16).digest()
