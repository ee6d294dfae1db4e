"""The spool: a bounded durable queue on local disk in front of sinks that are away.

One SQLite file a state directory. A record is one Arrow batch for one table with the checksum of its bytes; ``put``
returns when it is on disk. Records of a table come out in the order in which they went in, and stay until ``done``.
A record whose bytes do not bear its checksum is set aside in the file's table ``quarantine``; of a file that is damaged
as a whole every record that can still be read is carried over into a new one, and the old file is kept beside it.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import pyarrow as pa

from mystocks_ingest.errors import ConfigError, Full, Unavailable
from mystocks_ingest.logs import get
from mystocks_ingest.ports import Spooled
from mystocks_ingest.spool import ahead
from mystocks_ingest.spool.file import (
    SUFFIXES,
    bytes_of,
    carried_over,
    is_full,
    mark,
    opened,
    packed,
    remove,
    shrink,
    unpacked,
)
from mystocks_ingest.spool.reserve import Reserve
from mystocks_ingest.spool.salvage import checksum

T = TypeVar("T")
Body = bytes  # of a record
log = get("spool")

FILE = "spool.sqlite"
_MENDING = "spool-mending.sqlite"  # what is carried over of a damaged file
_MENDED = "spool-mended.sqlite"  # the same, whole: it is to take the damaged one's place
_RESERVE = "spool-reserve"
_SPARE_BYTES = 1 << 18  # of a record beyond its body, generously


@dataclass(frozen=True, slots=True)
class Level:
    """What lies in the spool for one target, and what became of rows that do not lie there any more."""

    records: int = 0
    rows: int = 0
    bytes: int = 0
    oldest: datetime | None = None
    dropped_rows: int = 0  # since the spool was opened
    quarantined: int = 0  # records, all those in the file
    until: int | None = None  # no row is newer, as ``put`` was told; None where a record says nothing


class Spool:
    """``async with Spool(directory, most_bytes=...) as spool``. One process at a time holds a directory's spool."""

    def __init__(self, directory: Path, *, most_bytes: int = 2 << 30) -> None:
        self._path = directory / FILE
        self.most_bytes = most_bytes
        self._reserve = Reserve(directory / _RESERVE)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="spool")
        self._file: sqlite3.Connection | None = None
        self._levels: dict[str, Level] = {}  # replaced as a whole, on the spool's thread, once a transaction is durable
        self._draft: dict[str, Level] = {}  # as they will be then
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

    @property
    def targets(self) -> tuple[str, ...]:
        """Those of which a record waits."""
        return tuple(target for target, level in self._levels.items() if level.records)

    def until(self, target: str) -> int | None:
        """No row of the target that waits is newer (as told to ``put``); None: that is not known."""
        return self._levels.get(target, Level()).until

    async def put(self, target: str, rows: pa.RecordBatch, *, until: int | None = None) -> None:
        """Keep ``rows``; durable on return. ``until``: the newest one's time. Raises Full when they do not fit."""
        body = await asyncio.to_thread(packed, rows)
        at = datetime.now(UTC)
        await self._run(lambda file: self._insert(file, target, at, rows.num_rows, body, until))

    async def oldest(self, target: str, *, most_rows: int) -> list[Spooled]:
        """The oldest records of a target, at least one where there is any, together at most ``most_rows``."""
        found: list[Spooled] = await self._run(lambda file: list(self._read(file, target, most_rows)), frees=True)
        return found

    async def done(self, records: Sequence[Spooled]) -> None:
        """These are durable elsewhere: forget them."""
        if records:
            await self._run(lambda file: self._forget(file, [r.id for r in records]), frees=True)

    async def drop_oldest(self, target: str, *, least_bytes: int) -> int:
        """Make room at the cost of the target's oldest records; how many rows that were."""
        dropped = await self._run(lambda file: self._drop(file, target, least_bytes), frees=True)
        if dropped:
            log.warning("rows.dropped", target=target, rows=dropped, why="the spool is full")
        return dropped

    # on the spool's thread -----------------------------------------------------------------------------------------

    async def _run(self, work: Callable[[sqlite3.Connection], T], *, frees: bool = False) -> T:
        """``frees``: it takes records out, which a full disk must not hinder."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._attempt, work, frees)

    def _attempt(self, work: Callable[[sqlite3.Connection], T], frees: bool) -> T:  # noqa: FBT001 - of one caller
        try:
            return self._once(work)
        except sqlite3.DatabaseError as exc:
            if is_full(exc):
                if (frees or self._file is None) and self._reserve.release():
                    if self._file is not None:
                        self._restart(self._file)
                    return self._attempt(work, frees)
                raise Full(f"the disk of the spool {self._path} is full: free space") from exc
            if isinstance(exc, sqlite3.OperationalError) and "malformed" not in str(exc):
                raise Unavailable(f"the spool {self._path} cannot be used: {exc}") from exc
            try:
                self._mend(str(exc))
            except (sqlite3.OperationalError, OSError) as second:  # the damaged file is where it was
                raise Full(f"the spool {self._path} is damaged and cannot be mended now: {second}") from second
            return self._once(work)

    def _once(self, work: Callable[[sqlite3.Connection], T]) -> T:
        file = self._file or self._open()
        self._draft = dict(self._levels)
        with file:  # one transaction
            found = work(file)
        emptied = _some(self._levels) and not _some(self._draft)
        self._levels = self._draft
        if emptied:
            shrink(file)
            self._reserve.release()
        return found

    def _restart(self, file: sqlite3.Connection) -> None:
        """Bring the log home, so that it is written over from its beginning and grows no more."""
        try:
            file.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
        except sqlite3.OperationalError as exc:
            log.warning("spool.cramped", reason=str(exc))

    def _open(self) -> sqlite3.Connection:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if self._path.with_name(_MENDED).exists():
                self._take_over()
            found = ahead.made_good(self._path)
        except OSError as exc:
            raise ConfigError(
                f"the spool {self._path} cannot be opened ({exc}): set MYSTOCKS_STATE_DIR to a folder this user may "
                "write to"
            ) from exc
        if found:
            self._report(found)
        file = opened(self._path)
        try:
            self._file = file
            self._levels = self._counted(file)
            mark(file, ahead.OPEN)
        except BaseException:
            self._file = None
            file.close()
            raise
        return file

    def _close(self) -> None:
        if self._file is not None:
            mark(self._file, 0)
            self._file.close()
            self._file = None

    def _insert(
        self, file: sqlite3.Connection, target: str, at: datetime, rows: int, body: Body, until: int | None
    ) -> None:
        if self.bytes + len(body) > self.most_bytes:
            raise Full(
                f"the spool {self._path} is full ({self.bytes / 1e6:.0f} of {self.most_bytes / 1e6:.0f} MB wait)"
            )
        try:
            self._reserve.hold(bytes_of(self._path.with_name(self._path.name + "-wal")) + len(body) + _SPARE_BYTES)
        except OSError as exc:
            raise Full(f"the disk of the spool {self._path} is full: free space") from exc
        insert = "INSERT INTO record (target, at, rows, checksum, body, until) VALUES (?, ?, ?, ?, ?, ?)"
        file.execute(insert, (target, at.isoformat(), rows, checksum(body), body, until))
        level = self._draft.get(target, Level())
        if level.records:
            until = None if until is None or level.until is None else max(until, level.until)
        self._draft[target] = replace(
            level,
            records=level.records + 1,
            rows=level.rows + rows,
            bytes=level.bytes + len(body),
            oldest=level.oldest or at,
            until=until,
        )

    def _forget(self, file: sqlite3.Connection, numbers: Sequence[int]) -> None:
        """Delete these records and take them off the levels."""
        gone: dict[str, tuple[int, int, int]] = {}
        for number in numbers:
            delete = "DELETE FROM record WHERE id = ? RETURNING target, rows, length(body)"
            for target, rows, size in file.execute(delete, (number,)).fetchall():
                before = gone.get(target, (0, 0, 0))
                gone[target] = (before[0] + 1, before[1] + rows, before[2] + size)
        for target, (records, rows, size) in gone.items():
            level = self._draft[target]
            self._draft[target] = replace(
                level,
                records=level.records - records,
                rows=level.rows - rows,
                bytes=level.bytes - size,
                oldest=_oldest(file, target),
            )

    def _drop(self, file: sqlite3.Connection, target: str, least_bytes: int) -> int:
        chosen, size, dropped = [], 0, 0
        ordered = file.execute("SELECT id, rows, length(body) FROM record WHERE target = ? ORDER BY id", (target,))
        for number, rows, length in ordered:
            if size >= least_bytes:
                break
            chosen.append(number)
            size += length
            dropped += rows
        ordered.close()
        self._forget(file, chosen)
        if dropped:
            level = self._draft[target]
            self._draft[target] = replace(level, dropped_rows=level.dropped_rows + dropped)
        return dropped

    def _counted(self, file: sqlite3.Connection) -> dict[str, Level]:
        """The levels as the file has them: every record is looked at."""
        kept = (
            "SELECT target, count(*), sum(rows), sum(length(body)), min(at), "
            "iif(count(until) = count(*), max(until), NULL) FROM record GROUP BY target"
        )
        aside = dict(file.execute("SELECT coalesce(target, '?'), count(*) FROM quarantine GROUP BY 1").fetchall())
        found = {
            target: Level(records, rows, size, datetime.fromisoformat(oldest), until=until)
            for target, records, rows, size, oldest, until in file.execute(kept)
        }
        return {
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
        for number, at, rows, stated, body in file.execute(ordered, (target,)):
            if total and total + rows > most_rows:
                break
            reason = "its bytes do not bear its checksum"
            batch = None
            if checksum(body) == stated:
                try:
                    batch = unpacked(body)
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
        self._forget(file, [number])
        level = self._draft[target]
        self._draft[target] = replace(level, quarantined=level.quarantined + 1)
        self._report(f"record {number} for {target} was set aside: {reason}")

    def _mend(self, why: str) -> None:
        """Begin a new file with every record of the damaged one that can be read; nothing is moved before it is whole."""
        self._close()
        mending = self._path.with_name(_MENDING)
        remove(mending)
        saved, lost = carried_over(self._path, mending)
        mending.rename(self._path.with_name(_MENDED))
        damaged = self._take_over()
        self._open()
        aside = f", {lost} were set aside" if lost else ""
        self._report(
            f"the file was damaged ({why}): {saved} records could be read{aside}; the rest is kept in {damaged}"
        )

    def _take_over(self) -> Path:
        """Put the mended file in the damaged one's place; where that is now. A crash amid it is made good at the start."""
        damaged = self._path.with_name(f"spool-damaged-{datetime.now(UTC):%Y%m%dT%H%M%S%f}.sqlite")
        for suffix in SUFFIXES:
            part = self._path.with_name(self._path.name + suffix)
            if part.exists():
                part.rename(damaged.with_name(damaged.name + suffix))
        self._path.with_name(_MENDED).rename(self._path)
        return damaged

    def _report(self, text: str) -> None:
        self.damage.append(text)
        log.error("spool.damaged", path=str(self._path), what=text)


def _oldest(file: sqlite3.Connection, target: str) -> datetime | None:
    row = file.execute("SELECT at FROM record WHERE target = ? ORDER BY id LIMIT 1", (target,)).fetchone()
    return datetime.fromisoformat(row[0]) if row is not None else None


def _some(levels: Mapping[str, Level]) -> bool:
    return any(level.records for level in levels.values())
