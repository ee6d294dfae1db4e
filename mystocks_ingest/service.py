"""Builds everything from the settings and hands it to the commands; the only composition root.

The nesting is the shutdown order: store, then writers, then the work. Sources are opened when first asked for
and their lanes end before the store closes.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from mystocks_ingest import control, sinks, sources
from mystocks_ingest.errors import StoreBusy
from mystocks_ingest.flow.arriving import Arriving, together
from mystocks_ingest.flow.backfill import Backfill
from mystocks_ingest.flow.ingest import Ingest, Taken
from mystocks_ingest.flow.migrate import UNRECORDED, SchemaManager, Startup
from mystocks_ingest.flow.patience import Patience, PatientReads
from mystocks_ingest.flow.plan import PlanLine
from mystocks_ingest.flow.reference import Reference
from mystocks_ingest.flow.replay import Choice, Replayed, replay
from mystocks_ingest.flow.report import Job, Missing, Report, Silence, Watch
from mystocks_ingest.flow.run import Run as Roster
from mystocks_ingest.flow.stores import Stores, read_everywhere, stream_everywhere
from mystocks_ingest.flow.witness import Witness
from mystocks_ingest.flow.writer import Limits, Writer
from mystocks_ingest.logs import trace, traced
from mystocks_ingest.market.adjust import How
from mystocks_ingest.market.adjust import adjust as adjusted
from mystocks_ingest.market.calendar import Calendar
from mystocks_ingest.market.checks import Context, Quality
from mystocks_ingest.market.datasets import ADJ_FACTOR, CALENDAR, INSTRUMENT, Dataset
from mystocks_ingest.market.frames import Frame, Symbol, Window
from mystocks_ingest.market.instruments import Instruments
from mystocks_ingest.monitor.embedded_log import EmbeddedLog
from mystocks_ingest.monitor.figures import RunFigures
from mystocks_ingest.monitor.journal import EmbeddedJournal
from mystocks_ingest.monitor.log import MonitorLog
from mystocks_ingest.monitor.log import Store as LogStore
from mystocks_ingest.monitor.runs import Runs
from mystocks_ingest.monitor.server_log import ServerLog
from mystocks_ingest.monitor.spool import FILE as SPOOL
from mystocks_ingest.monitor.spool import Spool
from mystocks_ingest.ports import Operations, Paced, Query, Run, SchemaTarget, Sink, Source
from mystocks_ingest.schema import tables
from mystocks_ingest.schema.paces import Pace
from mystocks_ingest.schema.tables import Database, Route, Table, Tables
from mystocks_ingest.settings import Settings
from mystocks_ingest.sinks.embedded import EmbeddedDatabase, EmbeddedSink, EmbeddedTarget

Clock = Callable[[], datetime]
FACTOR_COLUMNS = ("symbol", "trade_date", "source", "factor")
EMBEDDED = Database.EMBEDDED.store
EMBEDDED_WAIT_SECONDS = 30.0  # it is away when its disk is full
BEST_EFFORT_DRAIN_SECONDS = 2.0


class Around(Protocol):
    """Who looks on: gets what is opened, and gives back that, or something around it that does the same."""

    def sink(self, store: str, sink: Sink) -> Sink: ...
    def source(self, source: Source) -> Source: ...
    def taken(self, frame: Frame, taken: Taken) -> None:
        """A frame went its way: what was stored of it, and what was refused."""
        ...


class Nobody:
    """Looks on at nothing."""

    def sink(self, store: str, sink: Sink) -> Sink:  # noqa: ARG002 - Around's
        return sink

    def source(self, source: Source) -> Source:
        return source

    def taken(self, frame: Frame, taken: Taken) -> None: ...


@dataclass
class Service:
    """What the commands work with. Made by ``opened``. ``writers``: shared by all work, where somebody keeps them."""

    settings: Settings
    tables: Tables
    sink: Stores
    journal: EmbeddedJournal
    runs: Runs
    now: Clock
    database: EmbeddedDatabase
    writers: dict[Table, Writer] = field(default_factory=dict)
    around: Around = field(default_factory=Nobody)
    quality: Quality = field(default_factory=Quality)
    _sources: dict[str, Source] = field(default_factory=dict)
    _unwrapped: dict[str, Source] = field(default_factory=dict)
    _paces: Mapping[str, Pace] | None = None

    @property
    def log(self) -> MonitorLog:
        """The monitor log."""
        return self.runs.log

    @property
    def source_names(self) -> tuple[str, ...]:
        """Every source there is, built in or installed beside."""
        return sources.names()

    def source(self, name: str) -> Source:
        """The source, opened on first use. Raises ConfigError for an unknown one."""
        if name not in self._sources:
            if self._paces is None:
                self._paces = sources.paces_of(self.settings)
            opened = sources.open_source(name, self.settings, now=self.now, paces=self._paces)
            self._unwrapped[name] = opened
            self._sources[name] = self.around.source(opened)
        return self._sources[name]

    def pace(self, paces: Mapping[str, Pace]) -> None:
        """Other paces from now on, for the sources that are open too."""
        self._paces = paces
        for name, source in self._unwrapped.items():
            if isinstance(source, Paced):
                source.pace(paces.get(name, Pace()))

    def judged(self, context: Callable[[], Context]) -> Callable[[], Context]:
        """``context`` with the user's own rules as they are by then."""
        return lambda: replace(context(), quality=self.quality)

    async def calendar(self) -> Calendar:
        """The stored trading calendar. Raises ConfigError when none is stored yet."""
        return Calendar.from_table(await self.sink.read(self.tables.holder(CALENDAR), Query()))

    async def instruments(self) -> Instruments:
        """The stored instrument list, possibly empty."""
        return Instruments(await self.sink.read(self.tables.holder(INSTRUMENT), Query()))

    async def plan(self, job: Job) -> list[PlanLine]:
        """What ``backfill`` would ask of whom, and its cost in calls and minutes."""
        async with self._backfill(job, Silence(), run_id="") as work:
            return await work.estimate()

    async def gaps(self, job: Job) -> list[Missing]:
        """What should be stored by now and is not. Raises ConfigError when no calendar is stored yet."""
        await self.calendar()
        async with self._backfill(job, Silence(), run_id="") as work:
            return await work.missing()

    async def backfill(self, job: Job, watch: Watch) -> Report:
        """Fetch what is missing; the run and its end are in the journal."""
        detail: dict[str, object] = {"datasets": job.datasets, "job": str(job)}
        if request := trace("request"):
            detail["request"] = request  # of HTTP, by which somebody asked for it
        run = Run(trace("run") or uuid.uuid4().hex[:12], "backfill", self.now(), detail=detail)
        with traced(run=run.id):
            return await self._told(run, job, watch)

    async def _told(self, run: Run, job: Job, watch: Watch) -> Report:
        async with self.runs.told(run) as telling:
            wait = self.settings.sink_patience_seconds
            async with self._backfill(job, watch, run_id=run.id, wait=wait) as work:
                telling.report = work.run.report
                report = await work.fetch()
            telling.status, telling.error = report.status, report.stopped
        return report

    async def read(
        self, wanted: Dataset, symbols: tuple[Symbol, ...], window: Window, adjust: How, limit: int | None = None
    ) -> pa.Table:
        """Stored rows in key order, the first ``limit`` of them, prices adjusted on read.

        Raises ConfigError where factors are wanted and none is stored.
        """
        query = Query(symbols=symbols, window=window, limit=limit)
        rows = await read_everywhere(wanted, query, tables=self.tables, sink=self.sink)
        if adjust == "none" or not rows.num_rows:
            return rows
        whose = tuple(Symbol(s) for s in rows["symbol"].unique().to_pylist())
        factors = await self.sink.read(self.tables.holder(ADJ_FACTOR), Query(whose, columns=FACTOR_COLUMNS))
        return await asyncio.to_thread(adjusted, rows, factors, adjust)

    def stream(self, wanted: Dataset, query: Query, windows: Iterable[Window]) -> AsyncGenerator[pa.Table, None]:
        """Stored rows as ``stream_everywhere`` has them, so that a long answer is never in memory as a whole."""
        return stream_everywhere(wanted, query, windows, tables=self.tables, sink=self.sink)

    async def replay(self, choice: Choice) -> Replayed:
        """Put dead letters through today's checks again and store what passes."""
        reference = Reference(self.sink, self.journal, self.tables, self.now)
        async with self.runs.told(Run(uuid.uuid4().hex[:12], "replay", self.now())) as telling:
            await reference.recall()
            context = self.judged(reference.context)()
            done = await replay(choice, journal=self.journal, context=context, tables=self.tables, sink=self.sink)
            telling.detail |= {"rows": done.stored.total(), "refused": done.refused.total()}
            telling.status = "complete"
        return done

    @asynccontextmanager
    async def _backfill(self, job: Job, watch: Watch, *, run_id: str, wait: float = 0.0) -> AsyncIterator[Backfill]:
        """The parts of a backfill, joined; a database that goes away meanwhile is waited for ``wait`` seconds."""
        stopped = self.stopped(job.datasets)
        job = replace(job, datasets=tuple(name for name in job.datasets if name not in stopped))
        patience = Patience(wait, watch, own={EMBEDDED: min(wait, EMBEDDED_WAIT_SECONDS)})
        sink = PatientReads(self.sink, patience)
        async with AsyncExitStack() as stack:
            writers = self.writers or {
                table: await stack.enter_async_context(self._writer(table, patience)) for table in self.written
            }
            second = self.source(sources.SECOND_OPINION)
            reference = Reference(sink, self.journal, self.tables, self.now, second)
            ingest = Ingest(
                self.tables,
                writers,
                self.journal,
                self.judged(reference.context),
                run_id,
                Witness(sink, self.tables),
                self.around.taken,
            )
            roster = Roster(self._chosen(job), ingest, self.now, watch)
            roster.report.absent += [f"{name}: {reason}" for name, reason in stopped.items()]
            yield Backfill(job, roster, reference, self.journal, sink, self.sink)

    @property
    def written(self) -> tuple[Table, ...]:
        """The tables that take rows of a dataset."""
        return tuple(t for t in self.tables.all if t.dataset is not None and t.key)

    def stopped(self, datasets: Sequence[str]) -> dict[str, str]:
        """Those of ``datasets`` that must not be written to, and why."""
        blocked = {t.dataset.name: e for t, e in self.sink.blocked.items() if t.dataset and t.route is Route.REQUIRED}
        return {name: str(blocked[name]) for name in datasets if name in blocked}

    def _writer(self, table: Table, patience: Patience) -> Writer:
        """A best-effort table's rows are offered once and never waited for."""
        if table.route is Route.REQUIRED:
            return Writer(self.sink, table, patience=patience)
        return Writer(self.sink, table, Limits(retry_seconds=0.0, drain_seconds=BEST_EFFORT_DRAIN_SECONDS))

    def _chosen(self, job: Job) -> dict[str, Source]:
        """The sources of the job (several: with commas), first the preferred. Raises ConfigError for an unknown one."""
        return {name: self.source(name) for word in job.source.split(",") for name in self.sources_of(word)}

    def sources_of(self, word: str) -> tuple[str, ...]:
        """The names that ``auto``, ``akshare`` or a name stand for. Raises ConfigError for an unknown one."""
        return sources.chosen(word.strip(), self.settings)

    async def _close(self) -> None:
        for source in self._sources.values():
            await source.aclose()


@asynccontextmanager
async def log_of(settings: Settings, embedded: EmbeddedDatabase | None, *, now: Clock) -> AsyncIterator[MonitorLog]:
    """The monitor log: in MySQL where that store is in use, else in ``embedded``.

    Never fails for an outage. Without either of the two, what it is told waits in the spool for the process that has
    the embedded store.
    """
    async with AsyncExitStack() as stack:
        store: LogStore | None = None
        if "mysql" in settings.stores.split(","):
            server = await stack.enter_async_context(sinks.log_server(settings))
            store = ServerLog(server, settings.monitor_database)
        elif embedded is not None:
            store = EmbeddedLog(embedded)
        yield await stack.enter_async_context(MonitorLog(Spool(settings.state_dir / SPOOL), store, now=now))


@asynccontextmanager
async def monitored(settings: Settings, *, now: Clock) -> AsyncIterator[MonitorLog]:
    """The monitor log alone, to be read or made ready. Raises StoreBusy where it is embedded and the store in use."""
    async with AsyncExitStack() as stack:
        embedded = None
        if "mysql" not in settings.stores.split(","):
            embedded = await _embedded(settings, stack, needed=True, wanted=True)
        yield await stack.enter_async_context(log_of(settings, embedded, now=now))


def quality_of(described: Tables) -> Quality:
    """The rules that the table file adds to the checks."""
    rules = described.document.data_quality_rules
    return Quality(rules.required_columns, rules.ranges)


def described(settings: Settings, file: Path | None = None) -> tuple[Tables, dict[str, list[Table]]]:
    """The tables of ``file`` (default: ``tables.yaml``), and those of each store in use. Raises ConfigError."""
    named = [name for name in settings.stores.split(",") if name]
    desired = tables.load(file if file is not None else settings.config_dir / "tables.yaml").placed(named)
    homes: dict[str, list[Table]] = {name: [] for name in named}
    for table in desired.all:
        homes.setdefault(table.database_type.store, []).append(table)
    return desired, homes


@asynccontextmanager
async def managed(
    settings: Settings, *, now: Clock, file: Path | None = None, recorded: bool = True
) -> AsyncIterator[SchemaManager]:
    """The schema manager over the stores in use, and nothing else of the service.

    ``recorded``: what it does goes to the monitor log. Raises as ``opened`` does.
    """
    desired, homes = described(settings, file)
    async with AsyncExitStack() as stack:
        embedded = await _embedded(settings, stack, needed=EMBEDDED in homes, wanted=recorded)
        log: Operations = UNRECORDED
        if recorded:
            log = await stack.enter_async_context(log_of(settings, embedded, now=now))
        targets: dict[str, SchemaTarget] = {}
        for name in homes:
            if name != EMBEDDED:
                targets[name] = await stack.enter_async_context(sinks.opened_target(name, settings, homes[name]))
            elif embedded is not None:
                targets[name] = EmbeddedTarget(embedded)
        yield SchemaManager(targets, desired, log_of=log, now=now)


async def _embedded(
    settings: Settings, stack: AsyncExitStack, *, needed: bool, wanted: bool
) -> EmbeddedDatabase | None:
    """The open embedded store; None where only the log would want it and another process has it."""
    if not needed and (not wanted or "mysql" in settings.stores.split(",")):
        return None
    try:
        return await stack.enter_async_context(EmbeddedDatabase(settings.state_dir))
    except StoreBusy as exc:
        if needed:
            raise await _alone(settings, exc) from exc
        return None


async def _alone(settings: Settings, busy: StoreBusy) -> StoreBusy:
    """``busy``, and what to do where it is the service that has the store."""
    if not await asyncio.to_thread(control.answers, settings.state_dir):
        return busy
    return StoreBusy(
        f"the service (process {busy.owner_pid}) has the store in {settings.state_dir} open, and this command needs it "
        "for itself: stop the service, run the command, start the service again; what is safe it does itself at its start",
        owner_pid=busy.owner_pid,
    )


def grants(settings: Settings, file: Path | None = None) -> Mapping[str, Sequence[str]]:
    """The statements that make users with no more rights than they need, by store in use."""
    _, homes = described(settings, file)
    return {name: sinks.grants(name, here, settings) for name, here in homes.items() if name != EMBEDDED and here}


@asynccontextmanager
async def opened(
    settings: Settings, *, now: Clock, patient: bool = False, around: Around | None = None
) -> AsyncIterator[Service]:
    """The service on its stores, every table there as described.

    A table that differs and is not mended (see ``Startup``) is not written to: whoever tries meets Drifted. Raises
    ConfigError (settings, tables file, a server's rights), StoreBusy, and Unavailable when a named database does not
    answer: it is never replaced silently by the embedded store. ``patient``: such a one is waited for in the
    background instead, its sink raising Unavailable meanwhile.
    """
    desired, homes = described(settings)
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(EmbeddedDatabase(settings.state_dir))
        journal = await EmbeddedJournal.opened(database, now=now)
        log = await stack.enter_async_context(log_of(settings, database, now=now))
        runs = Runs(journal, await RunFigures.opened(database), log, desired, now)
        await runs.forsaken()
        start = Startup(apply=settings.schema_at_start == "apply", log_of=log, now=now)
        here = homes.pop(EMBEDDED, [])
        opening: dict[str, Sink] = {EMBEDDED: await EmbeddedSink.opened(database, here, ensure=start)}
        ways = {n: partial(sinks.opened_sink, n, settings, here, now=now, ensure=start) for n, here in homes.items()}
        if patient:
            arriving = {name: Arriving(name, way) for name, way in ways.items()}
            await together(arriving.values(), stack)
            opening |= arriving
        else:
            opening |= {name: await stack.enter_async_context(way()) for name, way in ways.items()}
        around = around or Nobody()
        stores = Stores({name: around.sink(name, sink) for name, sink in opening.items()}, start.blocked)
        rules = quality_of(desired)
        service = Service(settings, desired, stores, journal, runs, now, database, around=around, quality=rules)
        stack.push_async_callback(service._close)  # noqa: SLF001 - the service's own life
        yield service
