"""The service's life: what is opened in which order, and closed in the other one.

Connections around writers around the work. The first SIGTERM ends the work; rows that were taken go to their databases
or to the spool, then the connections close, all under a deadline. The second one ends the process at once: what was
acknowledged is in a database or in the spool by then.
"""

from __future__ import annotations

import asyncio
import math
import os
import signal
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import replace
from datetime import timedelta
from functools import partial

import pyarrow as pa

from mystocks_ingest import control, service
from mystocks_ingest.arrow import release_freed_pages
from mystocks_ingest.daemon import commands, directory, jobs, notify, reloading
from mystocks_ingest.daemon.counted import CountedMemories, CountedWork
from mystocks_ingest.daemon.desk import ServiceDesk
from mystocks_ingest.daemon.knowledge import Knowledge
from mystocks_ingest.daemon.meters import MeteredSpool
from mystocks_ingest.daemon.onlooker import Onlooker
from mystocks_ingest.daemon.parts import Daemon, Wall
from mystocks_ingest.daemon.rounds import Rounds
from mystocks_ingest.daemon.stream import StreamConsumer
from mystocks_ingest.daemon.work import Work
from mystocks_ingest.errors import ConfigError, IngestError, StoreBusy, Unavailable
from mystocks_ingest.flow.ingest import Ingest, letters
from mystocks_ingest.flow.live import Collector
from mystocks_ingest.flow.patience import Patience
from mystocks_ingest.flow.schedule import Clock, Schedule
from mystocks_ingest.flow.spooled import Pace, SpooledSink
from mystocks_ingest.flow.witness import Witness
from mystocks_ingest.flow.writer import Limits, Writer
from mystocks_ingest.logs import get
from mystocks_ingest.market.checks import Refused
from mystocks_ingest.market.datasets import CALENDAR
from mystocks_ingest.market.frames import Frame
from mystocks_ingest.monitor.alert_setup import alert_setup
from mystocks_ingest.monitor.alerts import Alerts
from mystocks_ingest.monitor.memories import JobMemories
from mystocks_ingest.monitor.metrics import Metrics
from mystocks_ingest.monitor.retention import Retention, terms
from mystocks_ingest.ports import Source
from mystocks_ingest.schema.jobs import JobEntry
from mystocks_ingest.schema.tables import Database, Route, Table
from mystocks_ingest.service import Service
from mystocks_ingest.settings import Settings
from mystocks_ingest.spool import Spool
from mystocks_ingest.web.app import made
from mystocks_ingest.web.known import Known
from mystocks_ingest.web.server import serve
from mystocks_ingest.web.tokens import read as read_tokens

log = get("service")

STOP_SECONDS = 45.0
"""From the first SIGTERM to the end, at most; the systemd unit waits a little longer."""
_REQUIRED = Limits(drain_seconds=20.0)
_BEST_EFFORT = Limits(retry_seconds=0.0, grace_seconds=15.0, drain_seconds=20.0)
_FINISH_SECONDS = 10.0  # for answers that were being checked or written when the end was asked for
_BEHIND_SECONDS = 0.15  # the history's rows wait so long, for those of the newest state go first
_PACE = Pace(own_seconds={Database.EMBEDDED.store: 60.0})  # a file of ours: slow or full, never silent
_MINUTE, _SETTLED = timedelta(minutes=1), timedelta(seconds=5)  # by then answers that were under way have come
_CALENDAR_SOON, _CALENDAR_AGAIN = timedelta(minutes=1), timedelta(hours=1)
_BUSY_SECONDS, _BUSY_PAUSE_SECONDS = 30.0, 0.5  # for a command beside which the service is started
_TICK_SECONDS, _TICKS = 0.5, 120

Told = Callable[[Daemon], None]


class _Signals:
    """SIGTERM and SIGINT: stop; the second of them: end at once. SIGHUP: look at the files again."""

    def __init__(self) -> None:
        self.stop = asyncio.Event()
        self.reload = asyncio.Event()
        self.ready = asyncio.Event()
        self._starting: asyncio.Task[object] | None = asyncio.current_task()
        self._loop = asyncio.get_running_loop()

    @contextmanager
    def heard(self) -> Iterator[None]:
        """While inside, this process' signals are ours; left alone where the loop is not the main thread's."""
        hearers: dict[signal.Signals, Callable[[], None]] = {
            signal.SIGTERM: partial(self._asked, signal.SIGTERM),
            signal.SIGINT: partial(self._asked, signal.SIGINT),
            signal.SIGHUP: self.reload.set,
        }
        try:
            for number, hearer in hearers.items():
                self._loop.add_signal_handler(number, hearer)
        except (NotImplementedError, RuntimeError, ValueError):
            hearers = {}
        try:
            yield
        finally:
            for number in hearers:
                self._loop.remove_signal_handler(number)

    def started(self) -> None:
        """From now on a stop ends the work in order."""
        self._starting = None
        self.ready.set()

    def _asked(self, number: signal.Signals) -> None:
        if self.stop.is_set():
            log.warning("service.ended", why=f"a second {number.name}", spool="intact")
            os._exit(128 + number)  # what was acknowledged is durable; children end with their parent
        log.warning("service.stopping", why=number.name)
        self.stop.set()
        self._loop.call_later(STOP_SECONDS, _too_late)
        if self._starting is not None:
            self._starting.cancel()


def _too_late() -> None:
    log.error("service.ended", why=f"it did not stop within {STOP_SECONDS:g} s", spool="intact")
    os._exit(1)


async def run(settings: Settings, *, clock: Clock | None = None, told: Told = lambda _: None) -> None:
    """Run until a signal, or ``Daemon.stop``, ends it; ``told`` is called when it is ready.

    Raises ConfigError, StoreBusy (of another service) and Unavailable at the start; later the exception group of what crashed.
    """
    signals = _Signals()
    with signals.heard():
        try:
            async with notify.starting(signals.ready):
                await _run(settings, clock or Wall(), signals, told)
        except asyncio.CancelledError:
            if not signals.stop.is_set():
                raise
            log.warning("service.stopped", ready=False)


async def _run(settings: Settings, clock: Clock, signals: _Signals, told: Told) -> None:
    started_at = clock.now()
    async with AsyncExitStack() as connections:
        metrics = Metrics()
        metrics.started(started_at)
        onlooker = Onlooker(metrics, clock.now)
        opened = await _opened(settings, clock, onlooker, connections)
        entries = jobs.read(opened)
        spool = await connections.enter_async_context(
            Spool(settings.state_dir, most_bytes=settings.spool_megabytes * 1_000_000)
        )
        memories = CountedMemories(await JobMemories.opened(opened.database), metrics)
        knowledge = Knowledge(opened)
        await knowledge.refresh()
        backlog = MeteredSpool(spool, metrics, opened.written)
        front = SpooledSink(opened.sink, backlog, opened.written, _burial(opened), _PACE)
        witness = Witness(opened.sink, opened.tables)
        context = opened.judged(knowledge.reference.context)
        ingest = Ingest(opened.tables, opened.writers, opened.journal, context, "live", witness, onlooker.taken)
        live: dict[str, Source] = {}
        collector = Collector(live, ingest, clock.now, memory=settings.state_dir / "bars.arrow")
        work = CountedWork(Work(opened, knowledge, collector), metrics, clock)
        schedule = Schedule((), lambda: knowledge.calendar, work, clock, memories)
        schedule.known = dict(await memories.jobs())  # a job that a command paused is not begun
        rounds = Rounds(opened, knowledge, schedule, memories, onlooker.stores)
        daemon = Daemon(
            opened,
            spool,
            front,
            knowledge,
            schedule,
            collector,
            live,
            clock,
            started_at,
            signals.stop,
            signals.reload,
            onlooker,
            rounds,
        )
        reloading.say_unheard(daemon)
        jobs.take_over(daemon, entries)
        known = await connections.enter_async_context(Known(settings.state_dir, now=clock.now))
        if settings.stream == "on":
            daemon.stream = StreamConsumer(settings, ServiceDesk(daemon), known)
        async with asyncio.TaskGroup() as feeding:
            draining = feeding.create_task(front.drain(), name="drain")
            async with AsyncExitStack() as writers:
                for table in opened.written:
                    opened.writers[table] = await writers.enter_async_context(_writer(front, table, opened))
                await _work(daemon, known, signals, told)
                await ingest.finish(_FINISH_SECONDS)
            draining.cancel()
        log.warning("service.stopped", ready=True, spool_bytes=spool.bytes)


async def _opened(settings: Settings, clock: Clock, onlooker: Onlooker, connections: AsyncExitStack) -> Service:
    """The stores, open. A command that has the embedded one for a moment is waited for, another service is not.

    Raises StoreBusy for a service, and Unavailable for a command that takes long: a later start may find it gone.
    """
    loop = asyncio.get_running_loop()
    until, said = loop.time() + _BUSY_SECONDS, False
    while True:
        try:
            return await connections.enter_async_context(
                service.opened(settings, now=clock.now, patient=True, around=onlooker)
            )
        except StoreBusy as exc:
            if await asyncio.to_thread(control.answers, settings.state_dir):
                raise
            if loop.time() >= until:
                raise Unavailable(f"{exc} (it was waited for {_BUSY_SECONDS:g} s)") from exc
            if not said:
                log.warning("store.awaited", reason=str(exc))
                notify.tell(notify.status(f"waiting: {exc}"))
                said = True
            await asyncio.sleep(_BUSY_PAUSE_SECONDS)


async def _work(daemon: Daemon, known: Known, signals: _Signals, told: Told) -> None:
    """Everything that makes rows or looks at them; ended as one."""
    settings, desk = daemon.service.settings, ServiceDesk(daemon)
    tokens = settings.http_tokens.get_secret_value() if settings.http_tokens is not None else None
    app = made(desk, read_tokens(tokens), answers=known)
    bound: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    setup = alert_setup(settings, daemon.service.tables.document)
    for remark in setup.remarks:
        log.warning("alerts.remarked", remark=remark)
    alerts = Alerts(
        setup.rules, desk.health, setup.channels,
        now=daemon.clock.now, folder=settings.state_dir, monitor_log=daemon.service.log,
    )  # fmt: skip
    kept, unknown = terms(daemon.service.tables.document.monitoring)
    for remark in unknown:
        log.warning("monitoring.remarked", remark=remark)
    retention = Retention(kept, daemon.service.log, now=daemon.clock.now)
    daemon.alerts = alerts
    async with alerts, asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(daemon.schedule.run(), name="schedule"),
            group.create_task(_flush_bars(daemon), name="bars"),
            group.create_task(_begin(daemon), name="first"),
            group.create_task(_know(daemon), name="calendar"),
            group.create_task(_measure_lag(daemon), name="lag"),
            group.create_task(_stay_small(), name="memory"),
            group.create_task(daemon.rounds.run(), name="rounds"),
            group.create_task(retention.run(), name="retention"),
            group.create_task(reloading.watch(daemon), name="reloading"),
            group.create_task(control.serve(settings.state_dir, partial(commands.answer, daemon)), name="control"),
            group.create_task(notify.watchdog(), name="watchdog"),
            group.create_task(directory.watch(settings.state_dir), name="directory"),
            group.create_task(serve(app, settings.http_host, settings.http_port, bound=bound.set_result), name="http"),
        ]
        if daemon.stream is not None:
            tasks.append(group.create_task(daemon.stream.run(), name="stream"))
        daemon.group, daemon.http_port = group, await bound
        signals.started()
        notify.tell("READY=1", notify.status(daemon.summary))
        log.info("service.ready", jobs=[e.name for e in daemon.schedule.entries])
        told(daemon)
        await signals.stop.wait()
        notify.tell("STOPPING=1", "STATUS=")
        daemon.group = None
        for task in (*tasks, *daemon.asked):
            task.cancel()


def _writer(front: SpooledSink, table: Table, opened: Service) -> Writer:
    """Through the spool a required table is away only while the spool is full: then whoever writes waits.

    Rows for Redis go at once. The history of what is shown there follows a moment later: on a small machine the two
    would keep each other from the processors.
    """
    shown = table.dataset is not None and any(_at_once(t) for t in opened.tables.routes(table.dataset))
    if table.route is Route.REQUIRED:
        limits = replace(_REQUIRED, behind_seconds=_BEHIND_SECONDS) if shown and not _at_once(table) else _REQUIRED
        return Writer(front, table, limits, Patience(math.inf))
    return Writer(front, table, replace(_BEST_EFFORT, linger_seconds=0.0) if _at_once(table) else _BEST_EFFORT)


def _at_once(table: Table) -> bool:
    return table.database_type is Database.REDIS


def _burial(opened: Service) -> Callable[[Table, pa.RecordBatch, Sequence[str]], Awaitable[None]]:
    """What becomes of spooled rows that their database refuses: dead letters."""

    async def bury(table: Table, rows: pa.RecordBatch, reasons: Sequence[str]) -> None:
        if table.dataset is None:
            return
        source = str(rows.column("source")[0]) if "source" in rows.schema.names else ""
        frame = Frame(table.dataset, source, opened.now(), rows)
        refused = Refused(frame, ["store"] * len(reasons), [f"{table.name}: {reason}" for reason in reasons])
        await opened.journal.bury(letters(refused, at=opened.now(), run_id="spool"))

    return bury


async def _flush_bars(daemon: Daemon) -> None:
    """Store the bars that ended, a few seconds after each minute: of quiet symbols too, and at the session's end."""
    while True:
        now = daemon.clock.now()
        next_look = now.replace(second=0, microsecond=0) + _MINUTE + _SETTLED
        await asyncio.sleep(max(daemon.clock.seconds(min(next_look - now, _MINUTE)), 0.005))
        try:
            await daemon.collector.flush()
        except IngestError as exc:
            log.warning("bars.unstored", reason=str(exc))


async def _begin(daemon: Daemon) -> None:
    """Where no calendar is stored its job runs at once: checks and jobs lean on it, and it is due tomorrow only.

    "At once" is when the stores can be read: they may be away at the start. What brought none is tried again each hour.
    """
    while True:
        length = _CALENDAR_SOON
        first = next((e for e in daemon.schedule.entries if CALENDAR.name in e.datasets), None)
        if first is not None and daemon.knowledge.nothing_stored and not daemon.schedule.paused(first):
            await _first(daemon, first)
            length = _CALENDAR_AGAIN
        await asyncio.sleep(daemon.clock.seconds(length))


async def _first(daemon: Daemon, entry: JobEntry) -> None:
    log.info("job.first", job=entry.name, why=daemon.knowledge.doubt)
    try:
        await daemon.schedule.now(entry.name)
    except ConfigError as exc:  # it runs already, or the file was changed meanwhile
        log.info("job.refused", job=entry.name, reason=str(exc))
    await _learn(daemon)


async def _know(daemon: Daemon) -> None:
    """Read calendar and instruments again: each hour, and each minute while the stored ones cannot be read."""
    while True:
        length = _CALENDAR_SOON if daemon.knowledge.doubt else _CALENDAR_AGAIN
        await asyncio.sleep(daemon.clock.seconds(length))
        await _learn(daemon)


async def _learn(daemon: Daemon) -> None:
    if await daemon.knowledge.refresh():
        daemon.schedule.replace_entries(daemon.schedule.entries)  # think again about when jobs are due


async def _stay_small() -> None:
    while True:
        await asyncio.sleep(_MINUTE.total_seconds())
        await asyncio.to_thread(release_freed_pages)


async def _measure_lag(daemon: Daemon) -> None:
    """How late the loop wakes those who sleep."""
    clock = asyncio.get_running_loop().time
    lags = [0.0] * _TICKS
    number = 0
    while True:
        began = clock()
        await asyncio.sleep(_TICK_SECONDS)
        lags[number % _TICKS] = late = max(clock() - began - _TICK_SECONDS, 0.0)
        number += 1
        daemon.metrics.lagged(late)
        daemon.lag_seconds = max(lags)
