"""The parts of a running service, for those who look at it and those who tell it something."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from mystocks_ingest.daemon.ages import Noted
from mystocks_ingest.daemon.knowledge import Knowledge
from mystocks_ingest.daemon.onlooker import Onlooker
from mystocks_ingest.daemon.rounds import Rounds
from mystocks_ingest.daemon.stream import StreamConsumer
from mystocks_ingest.flow.live import Collector
from mystocks_ingest.flow.schedule import Clock, Schedule
from mystocks_ingest.flow.spooled import SpooledSink
from mystocks_ingest.monitor.alerts import Alerts
from mystocks_ingest.monitor.metrics import Metrics
from mystocks_ingest.ports import Source
from mystocks_ingest.service import Service
from mystocks_ingest.spool import Spool


class Wall:
    """flow.schedule.Clock: the time it is; ``now`` where somebody else says so."""

    def __init__(self, now: Callable[[], datetime] | None = None) -> None:
        self._now = now

    def now(self) -> datetime:
        return self._now() if self._now is not None else datetime.now(UTC)

    def seconds(self, length: timedelta) -> float:
        return length.total_seconds()


@dataclass
class Daemon:
    """``refused``: files that were not taken over as they stand now, and why."""

    service: Service
    spool: Spool
    front: SpooledSink
    knowledge: Knowledge
    schedule: Schedule
    collector: Collector
    live_sources: dict[str, Source]  # the collector's
    clock: Clock
    started_at: datetime
    stop: asyncio.Event
    reload: asyncio.Event
    onlooker: Onlooker
    rounds: Rounds
    group: asyncio.TaskGroup | None = None  # of the work, while it goes on
    asked: set[asyncio.Task[None]] = field(default_factory=set)  # jobs that run because somebody asked for them
    stream: StreamConsumer | None = None  # where deliveries by Redis streams are on
    alerts: Alerts | None = None  # while the work goes on
    http_port: int = 0
    refused: dict[str, str] = field(default_factory=dict)
    lag_seconds: float = 0.0  # the loop's longest delay in the last minute
    outages: dict[str, Noted] = field(default_factory=dict)  # by store: since when it has been away
    began: Noted = field(init=False)  # its start
    watched: dict[str, Noted] = field(default_factory=dict)  # by live dataset: from when on news is awaited
    looked: bool = False  # whether anybody has looked at its health
    seen: dict[str, tuple[str, datetime]] = field(default_factory=dict)  # by part: its state, and since when

    def __post_init__(self) -> None:
        self.began = Noted.at_once(self.started_at)

    @property
    def metrics(self) -> Metrics:
        return self.onlooker.metrics

    @property
    def summary(self) -> str:
        """How many jobs, and where it answers."""
        return f"{len(self.schedule.entries)} jobs, {self.service.settings.http_host}:{self.http_port}"
