"""Databases whose reads and writes are counted and timed, and what is known of each of them at the moment."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, TypeVar, runtime_checkable

import pyarrow as pa
import pyarrow.compute as pc

from mystocks_ingest.daemon.ages import Noted
from mystocks_ingest.errors import IngestError, Rejected, Unavailable
from mystocks_ingest.flow.arriving import Arriving
from mystocks_ingest.flow.stores import streamed
from mystocks_ingest.monitor.metrics import Metrics
from mystocks_ingest.monitor.recent import Recent
from mystocks_ingest.ports import Query, Sink, Spooled
from mystocks_ingest.schema.tables import Table
from mystocks_ingest.spool import Spool

T = TypeVar("T")
_PEAK_SECONDS = 15.0  # as long as Prometheus usually waits between two looks


@runtime_checkable
class Pooled(Protocol):
    """A sink that can tell how many of its connections are in use, and how many it may open."""

    @property
    def pool(self) -> tuple[int, int]: ...


@dataclass
class Meter:
    """What is known of one store. ``missing``: from when on it did not answer; None while it does."""

    store: str
    sink: Sink
    recent: Recent = field(default_factory=Recent)
    missing: Noted | None = None
    reason: str = ""
    _used: deque[tuple[float, int]] = field(default_factory=deque)

    @property
    def away(self) -> str:
        """Why it does not answer; empty while it does."""
        waiting = self.sink.away if isinstance(self.sink, Arriving) else ""
        return self.reason or waiting

    def answered(self) -> None:
        self.missing, self.reason = None, ""

    def missed(self, reason: str, at: datetime) -> None:
        self.missing, self.reason = self.missing or Noted.at_once(at), reason

    def pool(self, now: float, *, ending: int = 0) -> tuple[int, int] | None:
        """The most connections in use within the last 15 seconds, and how many there may be. None: it cannot tell.

        ``ending``: so many more were in use until just now.
        """
        if not isinstance(self.sink, Pooled):
            return None
        used, allowed = self.sink.pool
        while self._used and self._used[0][0] < now - _PEAK_SECONDS:
            self._used.popleft()
        used = min(used + ending, allowed)
        if not self._used or self._used[-1] != (now, used):
            self._used.append((now, used))
        return max(u for _, u in self._used), allowed


class MeteredSink:
    """A ports.Sink: ``sink``, told to ``metrics`` and to its ``meter``."""

    def __init__(self, meter: Meter, metrics: Metrics, now: Callable[[], datetime]) -> None:
        self.name = meter.store
        self._meter = meter
        self._sink = meter.sink
        self._metrics = metrics
        self._now = now
        self._failed: set[Table] = set()  # whose last write failed

    async def write(self, table: Table, rows: pa.RecordBatch) -> None:
        store, outcome = self.name, "failed"
        if table in self._failed:
            self._metrics.retried("sink", store)
        number = self._meter.recent.began("write", _clock())
        try:
            await self._sink.write(table, rows)
            outcome = "stored"
        except Rejected:
            outcome = "rejected"
            raise
        except Unavailable as exc:
            self._meter.missed(str(exc), self._now())
            raise
        except asyncio.CancelledError:  # whoever waited has given up
            self._meter.missed("it does not answer in time", self._now())
            raise
        finally:
            seconds = self._over(number, "write", failed=outcome == "failed")
            (self._failed.add if outcome == "failed" else self._failed.discard)(table)
            match outcome:
                case "stored":
                    self._metrics.wrote(store, table.name, rows.num_rows, rows.nbytes, seconds)
                    self._landed(table, rows)
                case "rejected":
                    self._metrics.wrote(store, table.name, rows.num_rows, rows.nbytes, seconds, "rejected")
                case _:
                    self._metrics.wrote(store, table.name, rows.num_rows, rows.nbytes, seconds, "failed")

    async def read(self, table: Table, query: Query) -> pa.Table:
        return await self._timed(self._sink.read(table, query))

    async def stream(self, table: Table, query: Query) -> AsyncGenerator[pa.RecordBatch, None]:
        """Its first rows are what is timed: how soon the others come is also for whoever takes them to say."""
        async with aclosing(streamed(self._sink, table, query)) as parts:
            if (part := await self._timed(anext(parts, None))) is None:
                return
            yield part
            async for part in parts:
                yield part

    async def _timed(self, reading: Awaitable[T]) -> T:
        number = self._meter.recent.began("read", _clock())
        failed = True
        try:
            found = await reading
            failed = False
        except asyncio.CancelledError:  # nobody wants the answer any more
            failed = False
            raise
        except Unavailable as exc:
            self._meter.missed(str(exc), self._now())
            raise
        finally:
            self._over(number, "read", failed=failed)
        return found

    async def ping(self) -> None:
        """Whether it answers is remembered; how long that takes is no figure of its work."""
        try:
            await self._sink.ping()
        except IngestError as exc:
            self._meter.missed(str(exc), self._now())
            raise
        self._meter.answered()

    def _over(self, number: int, operation: str, *, failed: bool) -> float:
        now = _clock()
        seconds = self._meter.recent.ended(number, now, failed=failed)
        self._metrics.asked(self.name, "write" if operation == "write" else "read", seconds, failed=failed)
        self._meter.pool(now, ending=1)
        if not failed:
            self._meter.answered()
        return seconds

    def _landed(self, table: Table, rows: pa.RecordBatch) -> None:
        """The age of the batch is that of the row that waited longest."""
        if table.dataset is None or "fetched_at" not in rows.schema.names:
            return
        oldest = pc.min(rows.column("fetched_at")).as_py()
        if oldest is not None:
            self._metrics.landed(self.name, table.dataset.name, (self._now() - oldest).total_seconds())


class MeteredSpool:
    """A ports.Backlog: ``spool``, told to ``metrics``. ``stores``: by target, where its rows are to go."""

    def __init__(self, spool: Spool, metrics: Metrics, tables: Sequence[Table]) -> None:
        self._spool = spool
        self._metrics = metrics
        self._tables = {str(t): t for t in tables}

    def holds(self, target: str) -> bool:
        return self._spool.holds(target)

    @property
    def targets(self) -> Collection[str]:
        return self._spool.targets

    def until(self, target: str) -> int | None:
        return self._spool.until(target)

    async def put(self, target: str, rows: pa.RecordBatch, *, until: int | None = None) -> None:
        began = _clock()
        await self._spool.put(target, rows, until=until)
        table = self._tables[target]
        store = table.database_type.store
        self._metrics.wrote(store, table.name, rows.num_rows, rows.nbytes, _clock() - began, "spooled")

    async def oldest(self, target: str, *, most_rows: int) -> list[Spooled]:
        return await self._spool.oldest(target, most_rows=most_rows)

    async def done(self, records: Sequence[Spooled]) -> None:
        await self._spool.done(records)

    async def drop_oldest(self, target: str, *, least_bytes: int) -> int:
        dropped = await self._spool.drop_oldest(target, least_bytes=least_bytes)
        table = self._tables[target]
        self._metrics.dropped(table.database_type.store, table.name, dropped)
        return dropped


def _clock() -> float:
    return asyncio.get_running_loop().time()
