"""Who looks on at what the service does, and the gauges that are read when somebody asks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from time import monotonic
from typing import TYPE_CHECKING

from mystocks_ingest.daemon.counted import CountedSource, refusals
from mystocks_ingest.daemon.meters import Meter, MeteredSink
from mystocks_ingest.errors import IngestError
from mystocks_ingest.flow.ingest import Taken
from mystocks_ingest.logs import get
from mystocks_ingest.market.frames import Frame
from mystocks_ingest.monitor.metrics import Metrics
from mystocks_ingest.ports import Sink, Source
from mystocks_ingest.sources.pacing import SourceStatus

if TYPE_CHECKING:
    from mystocks_ingest.daemon.parts import Daemon

log = get("metrics")
_ACCOUNT_SECONDS = 5.0  # budgets are counted in a file: not with every look


@dataclass
class Onlooker:
    """service.Around: every store and source that is opened gets its meter. ``now``: aware, UTC."""

    metrics: Metrics
    now: Callable[[], datetime]
    stores: dict[str, Meter] = field(default_factory=dict)
    sources: dict[str, CountedSource] = field(default_factory=dict)
    _accounts: dict[str, tuple[float, int, SourceStatus | None]] = field(default_factory=dict)

    def sink(self, store: str, sink: Sink) -> Sink:
        meter = self.stores[store] = Meter(store, sink)
        return MeteredSink(meter, self.metrics, self.now)

    def source(self, source: Source) -> Source:
        counted = self.sources[source.name] = CountedSource(source, self.metrics)
        return counted

    def taken(self, frame: Frame, taken: Taken) -> None:
        refusals(self.metrics, frame, taken)

    def account(self, name: str) -> SourceStatus | None:
        """A source's budget, seconds old at most; a failure shows at once. None where it keeps none, or is not open."""
        at, failures, found = self._accounts.get(name, (float("-inf"), 0, None))
        source = self.sources.get(name)
        if source is None or (monotonic() - at < _ACCOUNT_SECONDS and failures == source.failures):
            return found
        try:
            found = source.status()
        except IngestError as exc:  # the disk of the file is full: what was known stands
            log.info("budget.unread", source=name, reason=str(exc))
        self._accounts[name] = (monotonic(), source.failures, found)
        return found


def budgets(status: SourceStatus | None) -> dict[str, int]:
    """Calls that are left, by window; those of a few seconds are about the pace of calls, not their number."""
    used = status.used if status is not None else ()
    return {_window(u.rate.seconds): u.left for u in used if u.rate.seconds >= 60}


def _window(seconds: float) -> str:
    for length, word in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= length and seconds % length == 0:
            count = round(seconds / length)
            return word if count == 1 else f"{count}_{word}s"
    return f"{seconds:g}_seconds"


def feed(daemon: Daemon) -> None:
    """Tell the metrics what can only be seen by looking: queues, the spool, pools, budgets, live collection."""
    metrics, tables = daemon.metrics, {str(t): t for t in daemon.service.written}
    for table, writer in daemon.service.writers.items():
        metrics.queued(table.database_type.store, table.name, *writer.waiting)
    levels = daemon.spool.levels
    metrics.spooled(
        {
            (tables[target].database_type.store, tables[target].name): (level.rows, level.records, level.bytes)
            for target, level in levels.items()
            if target in tables
        },
        daemon.spool.most_bytes,
    )
    metrics.quarantined(sum(level.quarantined for level in levels.values()))
    monitor = daemon.service.log
    metrics.monitored(monitor.seen.entries, lost=monitor.missed.lost, refused=monitor.missed.refused)
    for name, count in (daemon.alerts.counts if daemon.alerts is not None else {}).items():
        metrics.alerted(name, sent=count.sent, failed=count.failed, dropped=count.dropped)
    now = asyncio.get_running_loop().time()
    waiting = {
        tables[target].database_type.store for target, level in levels.items() if level.rows and target in tables
    }
    for store, meter in daemon.onlooker.stores.items():
        metrics.in_step(store, yes=store not in waiting)
        if (pool := meter.pool(now)) is not None:
            metrics.connected(store, *pool)
    for name in daemon.onlooker.sources:
        for window, left in budgets(daemon.onlooker.account(name)).items():
            metrics.budget(name, window, left)
    for name, score in daemon.rounds.quality.items():
        metrics.quality(name, score)
    for name, seen in daemon.collector.figures.items():
        metrics.polled(
            name, polls=seen.polls, failed=seen.failed, unchanged=seen.unchanged,
            late=seen.late, stale=seen.stale, seconds=seen.seconds,
        )  # fmt: skip
