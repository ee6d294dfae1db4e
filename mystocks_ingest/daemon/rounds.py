"""The rounds: what has to be asked for before anybody can look at it. Databases are pinged, checkpoints counted."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, time
from time import monotonic

from mystocks_ingest.daemon.counted import CountedMemories
from mystocks_ingest.daemon.freshness import Held, Plan, held
from mystocks_ingest.daemon.knowledge import Knowledge
from mystocks_ingest.daemon.meters import Meter
from mystocks_ingest.errors import IngestError
from mystocks_ingest.flow.plan import Cadence, cadence
from mystocks_ingest.flow.schedule import Schedule
from mystocks_ingest.logs import get
from mystocks_ingest.market.datasets import DATASETS, Dataset
from mystocks_ingest.monitor.figures import RunFigures
from mystocks_ingest.monitor.quality import quality
from mystocks_ingest.ports import Run
from mystocks_ingest.schema.jobs import JobEntry
from mystocks_ingest.schema.tables import Database
from mystocks_ingest.service import Service

log = get("rounds")

_PING_EVERY, _PING_SECONDS = 5.0, 10.0
_COUNT_EVERY = 60.0
_RUNS = 10
Part = tuple[str, bool]  # a dataset, and whether its indices or everything else


@dataclass
class Rounds:
    """``held``: by dataset and whether of indices; None before anybody counted. ``plans``: by job and dataset."""

    service: Service
    knowledge: Knowledge
    schedule: Schedule
    memories: CountedMemories
    stores: dict[str, Meter]
    held: dict[Part, Held] | None = None
    plans: dict[tuple[str, str], Plan] = field(default_factory=dict)
    quality: dict[str, float] = field(default_factory=dict)
    runs: tuple[Run, ...] = ()
    counted_at: datetime | None = None
    counted_tick: float = field(default_factory=monotonic)  # the same on the monotonic clock; the start, before
    uncounted: str = ""  # why not, the last time

    async def run(self) -> None:
        """Make the rounds until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._count_again(), name="rounds:checkpoints")
            for store in self.stores:
                if store != Database.EMBEDDED.store:  # a file of ours answers as long as we do
                    group.create_task(self._ping_again(store), name=f"rounds:{store}")

    async def count(self) -> None:
        """Look at checkpoints, runs and scores once. Raises IngestError."""
        figures = RunFigures(self.service.database)
        instruments = self.knowledge.reference.instruments
        indices = [i.symbol for i in instruments if i.asset_type == "index"] if instruments is not None else []
        reached = await figures.reached(indices)
        self.held = {part: found for part, days in reached.items() if (found := held(days)) is not None}
        self.plans = dict(self._planned())
        self.runs = tuple(await self.service.journal.runs(limit=_RUNS))
        for name in {name for entry in self.schedule.entries for word in entry.sources for name in self._names(word)}:
            score = quality(await figures.latest(name))
            if score is not None:
                self.quality[name] = score.score
        self.counted_at, self.counted_tick, self.uncounted = self.service.now(), monotonic(), ""

    async def _count_again(self) -> None:
        while True:
            self.memories.ended.clear()
            try:
                await self.count()
            except IngestError as exc:
                self.uncounted = str(exc)
                log.warning("checkpoints.uncounted", reason=self.uncounted)
            try:
                async with asyncio.timeout(_COUNT_EVERY):
                    await self.memories.ended.wait()
            except TimeoutError:
                continue

    async def _ping_again(self, store: str) -> None:
        sink = self.service.sink.at(store)
        while True:
            try:
                async with asyncio.timeout(_PING_SECONDS):
                    await sink.ping()
            except IngestError as exc:
                log.debug("sink.unanswered", store=store, reason=str(exc))
            except TimeoutError:
                self.stores[store].missed(f"it does not answer within {_PING_SECONDS:g} s", self.service.now())
            await asyncio.sleep(_PING_EVERY)

    def _planned(self) -> Iterator[tuple[tuple[str, str], Plan]]:
        for entry in self.schedule.entries:
            for name in () if entry.live else entry.datasets:
                yield (entry.name, name), Plan(entry.name, entry.when, entry.deadline, self._published(entry, name))

    def _published(self, entry: JobEntry, name: str) -> time | None:
        """The earliest hour at which one of the job's sources has a session's final rows."""
        if not _has_sessions(DATASETS[name]):
            return None
        kind = "index" if entry.universe == "index" else "stock"
        hours = []
        for source in (self.service.source(n) for word in entry.sources for n in self._names(word)):
            offer = source.offers.get(name)
            if offer is not None and (kind in offer.asset_types or "stock" not in offer.asset_types):
                hours.append(offer.published)
        return min(hours, default=None)

    def _names(self, word: str) -> tuple[str, ...]:
        return self.service.sources_of(word)


def _has_sessions(dataset: Dataset) -> bool:
    try:
        return cadence(dataset) in (Cadence.SESSION, Cadence.EVENT)
    except IngestError:
        return False
