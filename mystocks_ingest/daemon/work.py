"""What a job does when it is due: poll for the newest state, or bring the last sessions to completeness."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from mystocks_ingest.daemon.knowledge import Knowledge
from mystocks_ingest.flow.live import Collector
from mystocks_ingest.flow.report import Job, Report, Silence
from mystocks_ingest.flow.schedule import Ended
from mystocks_ingest.flow.universe import members
from mystocks_ingest.market import sessions
from mystocks_ingest.market.datasets import Dataset, dataset
from mystocks_ingest.market.frames import Symbol
from mystocks_ingest.schema.jobs import JobEntry
from mystocks_ingest.service import Service


@dataclass
class Work:
    """flow.schedule.Work. ``collector`` None: live jobs are refused (no service runs)."""

    service: Service
    knowledge: Knowledge
    collector: Collector | None = None

    async def __call__(self, entry: JobEntry, due: datetime) -> Ended:
        """Raises ConfigError for a job that cannot be done as it is written, Unavailable where no table takes rows."""
        if entry.live:
            return await self._poll(entry)
        symbols, universe = members(entry.universe, folder=self.service.settings.config_dir)
        day = sessions.today(min(due, self.service.now()))
        job = Job(
            datasets=entry.datasets,
            window=self.knowledge.window(day, entry.sessions),
            symbols=symbols,
            universe=universe,
            source=",".join(entry.sources),
        )
        report = await self.service.backfill(job, Silence())
        return Ended(report.status, _why(report))

    async def _poll(self, entry: JobEntry) -> Ended:
        stopped = self.service.stopped(entry.datasets)
        reasons = list(stopped.values())
        for name in entry.datasets:
            if name in stopped:
                continue
            if self.collector is None:
                return Ended("failed", "live datasets are collected by the service: start it with `run`")
            wanted = dataset(name)
            said = await self.collector.poll(
                wanted, order=self._order(entry.sources), symbols=await self._symbols(entry, wanted)
            )
            reasons += [said] if said else []
        return Ended("failed" if reasons else "complete", "; ".join(reasons))

    def _order(self, words: Sequence[str]) -> tuple[str, ...]:
        return tuple(name for word in words for name in self.service.sources_of(word))

    async def _symbols(self, entry: JobEntry, wanted: Dataset) -> tuple[Symbol, ...]:
        """Empty: the whole market."""
        symbols, universe = members(entry.universe, folder=self.service.settings.config_dir)
        if symbols is not None or universe == "all":
            return symbols or ()
        day = sessions.today(self.service.now())
        job = Job((wanted.name,), self.knowledge.window(day, 1), None, universe)
        return tuple(await self.knowledge.reference.universe(job, wanted))


def _why(report: Report) -> str:
    """What is missing, in one sentence."""
    if report.stopped:
        return report.stopped
    missing = sum(m.sessions for m in report.missing)
    parts = [*report.absent[:3]]
    if missing:
        parts.append(f"{missing} sessions of {len(report.missing)} symbols are missing: {report.missing[0].why}")
    return "; ".join(parts)
