"""The running service as the HTTP side sees it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa

from mystocks_ingest.daemon.health import health
from mystocks_ingest.daemon.onlooker import feed
from mystocks_ingest.daemon.parts import Daemon
from mystocks_ingest.errors import ConfigError, IngestError
from mystocks_ingest.flow.ingest import Taken
from mystocks_ingest.flow.report import Job, Missing
from mystocks_ingest.flow.schedule import Memory
from mystocks_ingest.logs import get
from mystocks_ingest.market.adjust import How
from mystocks_ingest.market.datasets import Dataset
from mystocks_ingest.market.frames import Frame, Symbol, Window
from mystocks_ingest.monitor.health import Health
from mystocks_ingest.monitor.journal import Buried
from mystocks_ingest.monitor.metrics import Metrics
from mystocks_ingest.ports import DeadLetter, Run
from mystocks_ingest.schema.tables import Tables
from mystocks_ingest.web.desk import JobState

log = get("jobs")


@dataclass
class ServiceDesk:
    """web.desk.Desk over the running service."""

    daemon: Daemon

    @property
    def metrics(self) -> Metrics:
        return self.daemon.metrics

    @property
    def tables(self) -> Tables:
        return self.daemon.service.tables

    def now(self) -> datetime:
        return self.daemon.clock.now()

    async def health(self) -> Health:
        feed(self.daemon)
        return await health(self.daemon)

    async def read(
        self, wanted: Dataset, symbols: tuple[Symbol, ...], window: Window, adjust: How, limit: int
    ) -> pa.Table:
        return await self.daemon.service.read(wanted, symbols, window, adjust, limit)

    async def runs(self, *, limit: int) -> Sequence[Run]:
        return await self.daemon.service.journal.runs(limit=limit)

    async def gaps(self, job: Job) -> Sequence[Missing]:
        return await self.daemon.service.gaps(job)

    async def letters(
        self, *, dataset: str | None, rule: str | None, source: str | None, limit: int, offset: int
    ) -> Sequence[Buried]:
        journal = self.daemon.service.journal
        return await journal.letters(dataset=dataset, rule=rule, source=source, limit=limit, offset=offset)

    async def jobs(self) -> Sequence[JobState]:
        schedule = self.daemon.schedule
        found = []
        for entry in schedule.entries:
            memory, firing = schedule.known.get(entry.name, Memory()), schedule.next.get(entry.name)
            running = schedule.running(entry.name)
            status = memory.status if running or memory.status != "running" else "interrupted"
            found.append(
                JobState(
                    entry.name, entry.text, entry.datasets, schedule.paused(entry), running,
                    firing.at if firing is not None else None, memory.started, memory.ended, status, memory.reason,
                )
            )  # fmt: skip
        return found

    async def start(self, job: str) -> None:
        schedule, group = self.daemon.schedule, self.daemon.group
        known = [e.name for e in schedule.entries]
        if job not in known:
            raise ConfigError(f"no job {job}; there are {', '.join(known) or 'none'}")
        if schedule.running(job):
            raise ConfigError(f"job {job} is running already")
        if group is None:
            raise ConfigError("the service is stopping")
        task = group.create_task(self._run(job), name=f"asked:{job}")
        self.daemon.asked.add(task)
        task.add_done_callback(self.daemon.asked.discard)

    async def pause(self, job: str, *, paused: bool) -> None:
        await self.daemon.schedule.pause(job, paused=paused)

    async def take(self, frame: Frame) -> Taken:
        return await self.daemon.collector.ingest.take(frame, None, now=self.now())

    async def bury(self, letters: Sequence[DeadLetter]) -> None:
        """Keep what could not be read of a delivery."""
        await self.daemon.service.journal.bury(letters)

    async def _run(self, job: str) -> None:
        try:
            await self.daemon.schedule.now(job)
        except IngestError as exc:
            log.warning("job.refused", job=job, reason=str(exc))
