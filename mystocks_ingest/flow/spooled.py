"""A sink that is never away: what its database cannot take waits in the spool and follows in order.

``write`` returns when the rows are durable, in the database or in the spool. While rows of a table wait, later rows of
it queue behind them, for the later write must win. Trades, quotes and books that are newer than all that wait go past
them, so that the newest are seen first: none of those that wait can be of the same key. ``drain`` brings the spool's
rows home at a pace that leaves the database time for fresh ones. Rows that another version of the table file left are
brought into the table's present form, and become dead letters where that cannot be.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from mystocks_ingest.errors import ConfigError, Drifted, Full, IngestError, Unavailable
from mystocks_ingest.flow.writer import Limits, Writer
from mystocks_ingest.logs import get
from mystocks_ingest.ports import Backlog, Query, Sink, Spooled
from mystocks_ingest.schema.tables import Route, Table

log = get("spool")

STREAMS = frozenset({"tick", "quote", "depth"})
"""Datasets whose rows go past older ones that wait."""
_OF_ROWS = (IngestError, ValueError, TypeError, LookupError, ArithmeticError, pa.ArrowException)  # what rows can cause
_NO_WAITING = Limits(retry_seconds=0.0, linger_seconds=0.0, drain_seconds=0.1)
Bury = Callable[[Table, pa.RecordBatch, Sequence[str]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Pace:
    """How long is waited for what.

    ``write_seconds``: for the database before rows go to the spool, ``own_seconds`` where a store has a time of its
    own; ``drain_seconds``: for a batch on its way home, which is smaller next time where that was not enough.
    A drained batch has up to ``batch_rows``. While fresh rows go to the same store, draining rests after each batch
    as long as the batch took. ``first_pause`` to ``longest_pause`` lie between two looks whether a store is back,
    ``stuck_seconds`` between two whether a table is, of a store that answers for its others.
    """

    write_seconds: float = 5.0
    drain_seconds: float = 30.0
    batch_rows: int = 50_000
    first_pause: float = 0.2
    longest_pause: float = 5.0
    stuck_seconds: float = 30.0
    own_seconds: Mapping[str, float] = field(default_factory=dict)


class SpooledSink:
    """A ports.Sink in front of ``sink``. ``tables`` are all that may be written; ``bury`` takes what drained in vain."""

    name = "spooled"

    def __init__(
        self, sink: Sink, backlog: Backlog, tables: Iterable[Table], bury: Bury, pace: Pace | None = None
    ) -> None:
        self._sink = sink
        self._backlog = backlog
        self._tables = {str(t): t for t in tables}
        self._bury = bury
        self._pace = pace or Pace()
        self._why: dict[str, str] = {}  # by store: why it counts as away
        self._fresh: Counter[str] = Counter()  # by store: writes under way
        self._held: dict[str, str] = {}  # by target: why its rows stay in the spool though the store is there
        self._steps: dict[str, int] = {}  # by target: rows that its database takes in time
        self._filled = asyncio.Event()

    @property
    def away(self) -> Mapping[str, str]:
        """The stores that do not take rows, or not those of a table, and what they said."""
        held = {self._tables[target].database_type.store: why for target, why in self._held.items()}
        return held | self._why

    @property
    def stranded(self) -> tuple[str, ...]:
        """Targets whose rows wait though no table in use has that name: a table or store that was taken out."""
        return tuple(target for target in self._backlog.targets if target not in self._tables)

    async def write(self, table: Table, rows: pa.RecordBatch) -> None:
        """Raises Rejected as the sink does, and Unavailable only where a required table's spool is full."""
        ahead, behind = self._divided(table, rows)
        if ahead.num_rows and not await self._taken(table, ahead):
            behind = rows
        if behind.num_rows:
            await self._keep(table, behind)

    async def read(self, table: Table, query: Query) -> pa.Table:
        return await self._sink.read(table, query)

    async def ping(self) -> None:
        await self._sink.ping()

    async def drain(self) -> None:
        """Bring spooled rows home, for ever; each store by itself."""
        for target in self.stranded:
            log.warning("rows.stranded", target=target, why="no table in use has that name: they stay in the spool")
        stores = {t.database_type.store for t in self._tables.values()}
        async with asyncio.TaskGroup() as group:
            for store in sorted(stores):
                group.create_task(self._drain(store), name=f"drain:{store}")

    def _divided(self, table: Table, rows: pa.RecordBatch) -> tuple[pa.RecordBatch, pa.RecordBatch]:
        """The rows that may go at once, and those that queue behind rows which wait already."""
        target, nothing = str(table), rows.slice(0, 0)
        if not self._backlog.holds(target):
            return rows, nothing
        moments, until = _moments(table, rows), self._backlog.until(target)
        if moments is None or until is None:
            return nothing, rows
        newer = pc.fill_null(pc.greater(moments, until), fill_value=False)
        return rows.filter(newer), rows.filter(pc.invert(newer))

    async def _taken(self, table: Table, rows: pa.RecordBatch) -> bool:
        """Whether the database has them now. Raises Rejected."""
        store = table.database_type.store
        if store in self._why:
            return False
        self._fresh[store] += 1
        try:
            async with asyncio.timeout(self._patience(store)):
                await self._sink.write(table, rows)
        except (Unavailable, TimeoutError) as exc:
            self._missed(store, exc)
            return False
        except ConfigError as exc:  # a right, a password, a table that is gone: it is mended there, not in the rows
            self._hold(table, exc)
            return False
        finally:
            self._fresh[store] -= 1
        self._held.pop(str(table), None)
        return True

    async def _keep(self, table: Table, rows: pa.RecordBatch) -> None:
        """Into the spool; a full one lets best-effort rows go: this table's own, or any for one that is required."""
        target, moments = str(table), _moments(table, rows)
        until = pc.max(moments).as_py() if moments is not None else None
        losers = [target]
        if table.route is Route.REQUIRED:
            losers = [other for other, t in self._tables.items() if t.route is not Route.REQUIRED]
        while True:
            try:
                await self._backlog.put(target, rows, until=until)
            except Full:
                while losers and not await self._backlog.drop_oldest(losers[0], least_bytes=2 * rows.nbytes):
                    losers.pop(0)
                if not losers:
                    raise
            else:
                break
        self._filled.set()

    def _patience(self, store: str) -> float:
        return self._pace.own_seconds.get(store, self._pace.write_seconds)

    def _missed(self, store: str, exc: BaseException) -> None:
        if store not in self._why:
            reason = str(exc) or f"no answer within {self._patience(store):g} s"
            self._why[store] = reason
            log.warning("sink.away", store=store, reason=reason)

    async def _drain(self, store: str) -> None:
        mine = {target: table for target, table in self._tables.items() if table.database_type.store == store}
        pause, clock = self._pace.first_pause, asyncio.get_running_loop().time
        rests = dict[str, float]()  # by target: until when it is left alone, for its own table does not answer
        doubted = set[str]()  # targets that did not answer in the round before, in which others did
        while True:
            waiting = [target for target in mine if self._backlog.holds(target)]
            if not waiting:
                if self._why.pop(store, None) is not None:
                    log.warning("sink.returned", store=store)
                self._filled.clear()
                if not any(self._backlog.holds(target) for target in mine):
                    await self._filled.wait()
                continue
            moved, missed = False, list[tuple[Table, Unavailable]]()
            for target in [t for t in waiting if rests.get(t, 0.0) <= clock()]:
                try:
                    moved |= await self._moved(mine[target], target)
                except Unavailable as exc:
                    missed.append((mine[target], exc))
            for table, why in missed:
                if str(table) in self._held or str(table) in doubted:  # others got home: somebody has this one locked
                    self._hold(table, why)
                    rests[str(table)] = clock() + self._pace.stuck_seconds
                elif not moved:  # else the store may have come back after this one was tried
                    self._missed(store, why)
            doubted = {str(table) for table, _ in missed} if moved else set()
            if moved:
                pause = self._pace.first_pause
            else:
                await asyncio.sleep(pause if store in self._why else self._pace.longest_pause)
                pause = min(pause * 2, self._pace.longest_pause)

    async def _moved(self, table: Table, target: str) -> bool:
        """Whether a batch got home; a table that must not be written to keeps its rows waiting. Raises Unavailable."""
        try:
            await self._home(table, target)
        except (Drifted, ConfigError) as exc:
            self._hold(table, exc)
            return False
        except Unavailable:
            raise
        except _OF_ROWS as exc:
            # a defect that these rows meet: were the service to end by it, they would end it at every start
            if self._hold(table, exc):
                log.exception("rows.undrained", table=table.name)
            return False
        self._held.pop(target, None)
        return True

    def _hold(self, table: Table, exc: Exception) -> bool:
        """Whether that is news."""
        reason = str(exc) or type(exc).__name__
        if self._held.get(str(table)) == reason:
            return False
        self._held[str(table)] = reason
        log.warning("rows.held", table=table.name, reason=reason)
        return True

    async def _home(self, table: Table, target: str) -> None:
        """One batch of a table. Raises Unavailable."""
        clock = asyncio.get_running_loop().time
        records = await self._backlog.oldest(target, most_rows=self._pace.batch_rows)
        if not records:
            return
        began = clock()
        async with Writer(self._sink, table, _NO_WAITING) as writer:
            await self._stored(table, records, writer)
        store = table.database_type.store
        if self._why.pop(store, None) is not None:  # it takes rows again: fresh ones need not queue any more
            log.warning("sink.returned", store=store)
        await self._backlog.done(records)
        log.info("rows.drained", table=table.name, rows=sum(r.rows.num_rows for r in records))
        if self._fresh[store]:
            await asyncio.sleep(clock() - began)

    async def _stored(self, table: Table, records: Sequence[Spooled], writer: Writer) -> None:
        """In steps that a slow database takes in time: half as many rows after each that it did not."""
        clock, target = asyncio.get_running_loop().time, str(table)
        aside: list[tuple[pa.RecordBatch, list[str]]] = []
        for form in _of_one_schema(records):
            rows, why = _fitted(table, pa.concat_batches(r.rows for r in form))
            if why:
                aside.append((rows, [why] * rows.num_rows))
                continue
            done = 0
            while done < rows.num_rows:
                step, began = self._steps.get(target, self._pace.batch_rows), clock()
                part = rows.slice(done, step)
                try:
                    async with asyncio.timeout(self._pace.drain_seconds):
                        refused = await writer.write(part)
                except TimeoutError:
                    self._steps[target] = max(min(step, part.num_rows) // 2, 1)
                    raise Unavailable(f"no answer within {self._pace.drain_seconds:g} s") from None
                if refused:
                    bad = part.take(pa.array([r.row for r in refused], pa.int64()))
                    aside.append((bad, [r.reason for r in refused]))
                if clock() - began < self._pace.drain_seconds / 4:
                    self._steps[target] = min(step * 2, self._pace.batch_rows)
                done += step
        for bad, reasons in aside:  # once, for all of it is sent again after a step that failed
            await self._bury(table, bad, reasons)


def _moments(table: Table, rows: pa.RecordBatch) -> pa.Array | None:
    """The rows' times in µs, where rows of equal keys have equal times and newer ones may go past older ones."""
    time = table.dataset.time if table.dataset is not None and table.dataset.name in STREAMS else None
    if time is None or time not in rows.schema.names:
        return None
    if time not in table.key and table.key_space is None:  # in Redis the newest row wins, whatever its key
        return None
    column = rows.column(time)
    if not pa.types.is_timestamp(column.type):
        return None
    return column.cast(pa.timestamp("us", column.type.tz), safe=False).cast(pa.int64())


def _fitted(table: Table, rows: pa.RecordBatch) -> tuple[pa.RecordBatch, str]:
    """Rows as the table is now, whichever version of the file they were spooled under; else why they cannot be that."""
    missing = [name for name in table.key if name not in rows.schema.names]
    if missing:
        return rows, f"spooled without {', '.join(missing)}, which belongs to the table's key now"
    kept, schema = [c.name for c in table.columns if c.name in rows.schema.names], table.schema
    wanted = pa.schema([schema.field(name).with_nullable(True) for name in kept])
    chosen = rows.select(kept)
    if chosen.schema.types == wanted.types:
        return chosen, ""
    try:
        return chosen.cast(wanted), ""
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as exc:
        return rows, f"spooled when the table had other types: {str(exc).splitlines()[0]}"


def _of_one_schema(records: Sequence[Spooled]) -> list[list[Spooled]]:
    """Neighbours of one schema together: a new version of the program may have another one."""
    parts: list[list[Spooled]] = []
    for record in records:
        if parts and parts[-1][0].rows.schema.equals(record.rows.schema):
            parts[-1].append(record)
        else:
            parts.append([record])
    return parts
