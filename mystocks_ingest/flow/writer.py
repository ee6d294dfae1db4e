"""Group commit: many callers' rows go to one table in few large batches.

``await writer.write(rows)`` returns when the batch that holds the rows is durable: that is the acknowledgement.
The bounded queue is the backpressure. A row the sink refuses never takes its batch down with it. An absent sink is
waited for (``write``), or left out for a while (``offer``).
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mystocks_ingest.errors import Rejected, Unavailable
from mystocks_ingest.flow.patience import Patience
from mystocks_ingest.logs import get
from mystocks_ingest.ports import Sink
from mystocks_ingest.schema.newest import Guard, guards, standing
from mystocks_ingest.schema.tables import Table, writable

log = get("writer")

_SHORTEST_REST, _LONGEST_REST = 1.0, 60.0
_DRAIN_AWAY_SECONDS = 1.0  # a sink that is known to be away is not waited for when the writer closes
_SMALL = 8_192  # rows that are merged at once: a thread would take longer to begin
_HOPELESS = 64  # so many single rows refused and none stored: the fault is not in single rows


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one writer. A batch is sent when it is full or its oldest rows have waited ``linger_seconds``.

    Where the same rows go to another table that readers wait for, the first batch after a rest of ``behind_seconds``
    waits that long, so that the two do not compete for processors; under load there is no rest, and no such wait.
    ``queue_*`` bound what is waiting and under way together. ``retry_seconds`` is how long an outage of the sink
    is sat out, counted from its beginning, where no Patience says otherwise; ``drain_seconds`` how long leaving the
    writer may take; ``grace_seconds`` how long an ``offer`` may.
    """

    batch_rows: int = 122_880  # a row group of the embedded store: whole groups bypass its log
    batch_bytes: int = 32 << 20
    linger_seconds: float = 0.01
    behind_seconds: float = 0.0
    queue_rows: int = 245_760
    queue_bytes: int = 48 << 20
    retry_seconds: float = 30.0
    drain_seconds: float = 20.0
    grace_seconds: float = 5.0


@dataclass(frozen=True, slots=True)
class Refusal:
    """Row number ``row`` of those given to ``write`` was refused by the database, in its own words."""

    row: int
    reason: str


@dataclass(eq=False, slots=True)
class _Piece:
    """A slice of one caller's rows; ``first`` is the number of its first row there."""

    rows: pa.RecordBatch
    first: int
    done: asyncio.Future[tuple[Refusal, ...]]


@dataclass(slots=True)
class _Split:
    """What has become of a batch's rows so far."""

    stored: int = 0
    refused: list[Refusal] = field(default_factory=list)


class Writer:
    """The way into one table. ``async with Writer(sink, table) as writer: refused = await writer.write(rows)``."""

    def __init__(
        self, sink: Sink, table: Table, limits: Limits | None = None, patience: Patience | None = None
    ) -> None:
        writable(table)
        self._sink = sink
        self._table = table
        self._home = table.database_type.store
        self._limits = limits or Limits()
        self._patience = patience or Patience(self._limits.retry_seconds)
        self._queue: deque[_Piece] = deque()
        self._held_rows = 0  # waiting and under way
        self._held_bytes = 0
        self._admission = asyncio.Lock()  # callers enter in the order they came
        self._changed = asyncio.Event()  # something arrived, space was freed, or the end was announced
        self._freed = asyncio.Event()
        self._closing = False
        self._commits = 0  # batches that ended, well or not
        self._rested_since = -math.inf  # when the last one ended
        self._rest_until = 0.0  # no offer is taken before this
        self._rest = 0.0
        self._stuck_at: int | None = None  # an offer ran out of time during this batch
        self._worker: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._worker = asyncio.create_task(self._work(), name=f"writer:{self._table.name}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Drain under the deadline. What is not stored by then is raised to those who wait for it."""
        worker = self._worker
        if worker is None:
            return
        self._closing = True
        self._changed.set()
        self._freed.set()
        away = self._patience.waits_for(self._home, self._table.name)
        seconds = min(self._limits.drain_seconds, _DRAIN_AWAY_SECONDS) if away else self._limits.drain_seconds
        try:
            await asyncio.wait({worker}, timeout=seconds)
        finally:
            if not worker.done():
                log.warning("writer.abandoned", table=self._table.name, rows=self._held_rows)
                worker.cancel()
                await asyncio.wait({worker})
        if not worker.cancelled() and worker.exception() is not None and error is None:
            await worker

    @property
    def waiting(self) -> tuple[int, int]:
        """Rows and bytes that wait in memory or are under way."""
        return self._held_rows, self._held_bytes

    async def write(self, rows: pa.RecordBatch) -> tuple[Refusal, ...]:
        """Returns when ``rows`` are durable, with those the database refused for what is in them.

        Of rows with equal keys the newest stands, the later one where nothing tells (see ``Table.guards``). Raises Unavailable when the sink stayed away too long, and
        whatever else the sink raised. Cancelling the caller does not take back rows that were already queued.
        """
        pieces: list[asyncio.Future[tuple[Refusal, ...]]] = []
        try:
            async with self._admission:
                for first, part in self._parts(rows):
                    await self._room(part)
                    pieces.append(self._enqueue(first, part))
                    if any(p.done() and p.exception() for p in pieces):
                        break
            return tuple(refusal for piece in await asyncio.gather(*pieces) for refusal in piece)
        finally:
            for piece in pieces:
                if not piece.cancel() and not piece.cancelled():
                    piece.exception()  # seen: the first one was raised

    async def offer(self, rows: pa.RecordBatch) -> tuple[Refusal, ...]:
        """As ``write``, for a table that others need not wait for: returns or raises within ``grace_seconds``.

        Raises Unavailable where the sink is away, and at once while it is left alone after that. Rows that were on
        their way when the time was up may still be stored.
        """
        clock = asyncio.get_running_loop().time
        if self._stuck_at == self._commits or clock() < self._rest_until:
            raise Unavailable(f"{self._table.name}: {self._home} is away and left alone for a while")
        self._stuck_at = None
        try:
            async with asyncio.timeout(self._limits.grace_seconds):
                refused = await self.write(rows)
        except TimeoutError:
            self._stuck_at = self._commits
            self._leave_alone(clock())
            raise Unavailable(
                f"{self._table.name}: {self._home} did not take the rows within {self._limits.grace_seconds:g} s"
            ) from None
        except Unavailable:
            self._leave_alone(clock())
            raise
        self._rest = 0.0
        return refused

    def _leave_alone(self, now: float) -> None:
        self._rest = min(max(self._rest * 2, _SHORTEST_REST), _LONGEST_REST)
        self._rest_until = now + self._rest

    def _parts(self, rows: pa.RecordBatch) -> list[tuple[int, pa.RecordBatch]]:
        total = rows.num_rows
        by_bytes = total * self._limits.batch_bytes // max(rows.nbytes, 1)
        step = max(1, min(self._limits.batch_rows, by_bytes or 1))
        return [(first, rows.slice(first, step)) for first in range(0, total, step)]

    async def _room(self, rows: pa.RecordBatch) -> None:
        """Wait until ``rows`` fit; a part larger than the whole queue enters when the queue is empty."""
        limits = self._limits
        while True:
            if self._closing or self._worker is None or self._worker.done():
                raise Unavailable(f"the writer of {self._table.name} is closed")
            fits = (
                self._held_rows + rows.num_rows <= limits.queue_rows
                and self._held_bytes + rows.nbytes <= limits.queue_bytes
            )
            if fits or not self._held_rows:
                return
            self._freed.clear()
            await self._freed.wait()

    def _enqueue(self, first: int, rows: pa.RecordBatch) -> asyncio.Future[tuple[Refusal, ...]]:
        done: asyncio.Future[tuple[Refusal, ...]] = asyncio.get_running_loop().create_future()
        self._queue.append(_Piece(rows, first, done))
        self._held_rows += rows.num_rows
        self._held_bytes += rows.nbytes
        self._changed.set()
        return done

    async def _work(self) -> None:
        batch: list[_Piece] = []
        try:
            while batch := await self._next_batch():
                await self._commit(batch)
                self._commits += 1
                self._rested_since = asyncio.get_running_loop().time()
                self._release(batch)
        finally:
            lost = Unavailable(f"{self._table.name}: the writer had to stop before these rows were stored")
            for piece in (*batch, *self._queue):
                if not piece.done.done():
                    piece.done.set_exception(lost)
            self._queue.clear()
            self._freed.set()

    async def _next_batch(self) -> list[_Piece]:
        """The oldest pieces that make one batch; none when the writer closes and nothing is left."""
        while not self._queue:
            if self._closing:
                return []
            self._changed.clear()
            await self._changed.wait()
        linger = self._linger()
        if linger and not self._full() and not self._closing:
            try:
                async with asyncio.timeout(linger):
                    while not self._full() and not self._closing:
                        self._changed.clear()
                        await self._changed.wait()
            except TimeoutError:
                pass  # the oldest rows have waited long enough
        batch = [self._queue.popleft()]
        rows, size = batch[0].rows.num_rows, batch[0].rows.nbytes
        while self._queue:
            rows += self._queue[0].rows.num_rows
            size += self._queue[0].rows.nbytes
            if rows > self._limits.batch_rows or size > self._limits.batch_bytes:
                break
            batch.append(self._queue.popleft())
        return batch

    def _linger(self) -> float:
        limits = self._limits
        rested = asyncio.get_running_loop().time() - self._rested_since > limits.behind_seconds
        return max(limits.linger_seconds, limits.behind_seconds) if rested else limits.linger_seconds

    def _full(self) -> bool:
        return self._held_rows >= self._limits.batch_rows or self._held_bytes >= self._limits.batch_bytes

    def _release(self, batch: list[_Piece]) -> None:
        self._held_rows -= sum(p.rows.num_rows for p in batch)
        self._held_bytes -= sum(p.rows.nbytes for p in batch)
        self._freed.set()

    async def _commit(self, batch: list[_Piece]) -> None:
        split = _Split()
        try:
            parts, key = [p.rows for p in batch], self._table.key
            by = guards(self._table, parts[0].schema.names)
            small = sum(p.num_rows for p in parts) <= _SMALL
            rows, kept = _merged(parts, key, by) if small else await asyncio.to_thread(_merged, parts, key, by)
            await self._store(rows, 0, split)
        except Exception as exc:  # noqa: BLE001 - handed to those who wait for these rows
            for piece in batch:
                if not piece.done.done():
                    piece.done.set_exception(exc)
            return
        log.debug("batch.stored", table=self._table.name, rows=split.stored, refused=len(split.refused))
        refused = {int(kept[r.row]) if kept is not None else r.row: r.reason for r in split.refused}
        start = 0
        for piece in batch:
            end = start + piece.rows.num_rows
            if not piece.done.done():
                piece.done.set_result(
                    tuple(
                        Refusal(row - start + piece.first, refused[row])
                        for row in sorted(refused)
                        if start <= row < end
                    )
                )
            start = end

    async def _store(self, rows: pa.RecordBatch, first: int, split: _Split) -> None:
        """Store ``rows``, halving what is refused until the bad rows stand alone."""
        if not split.stored and len(split.refused) >= _HOPELESS:
            reason = split.refused[-1].reason
            split.refused += [Refusal(first + i, reason) for i in range(rows.num_rows)]
            return
        try:
            await self._deliver(rows)
        except Rejected as exc:
            if rows.num_rows == 1:
                split.refused.append(Refusal(first, str(exc)))
                return
            half = rows.num_rows // 2
            await self._store(rows.slice(0, half), first, split)
            await self._store(rows.slice(half), first + half, split)
        else:
            split.stored += rows.num_rows

    async def _deliver(self, rows: pa.RecordBatch) -> None:
        """Hand ``rows`` to the sink, sitting out an outage. A durable spool would take them where this raises."""
        await self._patience.through(self._home, self._table.name, lambda: self._sink.write(self._table, rows))


def _merged(
    parts: list[pa.RecordBatch], key: tuple[str, ...], by: Sequence[Guard] = ()
) -> tuple[pa.RecordBatch, npt.NDArray[np.int64] | None]:
    """One batch of all parts with each key once, the newest row standing, or the later one where ``by`` does not tell.

    Also the numbers its rows have in the parts laid end to end; None when nothing was dropped.
    """
    rows = parts[0] if len(parts) == 1 else pa.concat_batches(parts)
    if _ascending(rows, key):
        return rows, None
    numbered = pa.table([*(rows.column(k) for k in key), pa.array(np.arange(rows.num_rows))], names=[*key, "#"])
    last = numbered.group_by(list(key), use_threads=False).aggregate([("#", "max")]).column("#_max")
    if len(last) == rows.num_rows:
        return rows, None
    kept = standing(rows, key, by) if by else np.sort(last.to_numpy())
    return rows.take(pa.array(kept)), kept


def _ascending(rows: pa.RecordBatch, key: tuple[str, ...]) -> bool:
    """Whether every row's key is greater than the one before: then no key stands twice."""
    if rows.num_rows < 2:
        return True
    ahead = None
    for name in reversed(key):
        column = rows.column(name)
        before, after = column.slice(0, len(column) - 1), column.slice(1)
        greater = pc.greater(after, before)
        ahead = greater if ahead is None else pc.or_(greater, pc.and_(pc.equal(after, before), ahead))
    return pc.all(ahead, skip_nulls=False).as_py() is True
