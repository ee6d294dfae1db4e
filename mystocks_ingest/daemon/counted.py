"""Sources and jobs whose calls and runs are counted, each run with an id that its log lines, its run and its rows share."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, runtime_checkable

from mystocks_ingest.errors import IngestError, Outcome, Unsupported, outcome_of
from mystocks_ingest.flow.ingest import Taken
from mystocks_ingest.flow.schedule import Clock, Ended, Memories, Memory, Work
from mystocks_ingest.logs import traced
from mystocks_ingest.market.frames import Frame, Request
from mystocks_ingest.monitor.metrics import Metrics
from mystocks_ingest.monitor.recent import Recent
from mystocks_ingest.ports import Offer, Rate, Source
from mystocks_ingest.schema.jobs import JobEntry
from mystocks_ingest.sources.pacing import SourceStatus, Told

_PUT_OFF = (Outcome.LIMITED, Outcome.EMPTY)  # no failures
_BAD = ("partial", "failed", "skipped")


@runtime_checkable
class Accountable(Protocol):
    """A source that keeps accounts: of its budget, and of each call as it ends."""

    def status(self) -> SourceStatus: ...
    def listen(self, told: Told) -> None: ...


class CountedSource:
    """A ports.Source: ``source``, told to ``metrics``."""

    def __init__(self, source: Source, metrics: Metrics) -> None:
        self._source = source
        self._metrics = metrics
        self.recent = Recent()
        self.failures = 0  # calls that did not give rows, since the start
        self._accounts = isinstance(source, Accountable)
        if isinstance(source, Accountable):
            source.listen(self._called)

    @property
    def name(self) -> str:
        return self._source.name

    @property
    def family(self) -> str:
        return self._source.family

    @property
    def offers(self) -> Mapping[str, Offer]:
        return self._source.offers

    @property
    def rates(self) -> Sequence[Rate]:
        return self._source.rates

    @property
    def concurrency(self) -> int:
        return self._source.concurrency

    async def fetch(self, request: Request) -> AsyncIterator[Frame]:
        """As Source.fetch. A source that keeps no accounts has made one call."""
        began, rows = _clock(), 0
        outcome: Outcome | None = None
        try:
            async for frame in self._source.fetch(request):
                rows += len(frame)
                if len(frame):
                    self._metrics.received(frame.dataset.name, self.name, len(frame))
                yield frame
            outcome = outcome_of(None, rows=rows)
        except Unsupported:
            raise
        except IngestError as exc:
            outcome = outcome_of(exc)
            raise
        finally:
            if outcome is not None and not self._accounts:
                self._called(outcome, _clock() - began, again=False)

    def calls(self, request: Request) -> int:
        return self._source.calls(request)

    async def probe(self) -> None:
        await self._source.probe()

    async def aclose(self) -> None:
        await self._source.aclose()

    def status(self) -> SourceStatus | None:
        """Its budget; None where it has none."""
        return self._source.status() if isinstance(self._source, Accountable) else None

    def _called(self, outcome: Outcome, seconds: float, *, again: bool) -> None:
        self._metrics.called(self.name, outcome, seconds)
        if again:
            self._metrics.retried("source", self.name)
        failed = outcome is not Outcome.OK and outcome not in _PUT_OFF
        self.failures += outcome is not Outcome.OK
        self.recent.add("call", _clock(), seconds, failed=failed)


@dataclass
class CountedWork:
    """flow.schedule.Work: ``work``, each run of it with an id of its own in all that it logs."""

    work: Work
    metrics: Metrics
    clock: Clock
    _last: dict[str, datetime] = field(default_factory=dict)  # by job: the firing dealt with last

    async def __call__(self, entry: JobEntry, due: datetime) -> Ended:
        if self._last.get(entry.name) == due and not entry.live:
            self.metrics.retried("job", entry.name)
        self._last[entry.name] = due
        began, ended = self.clock.now(), Ended("failed")
        with traced(job=entry.name, run=uuid.uuid4().hex[:12]):
            try:
                ended = await self.work(entry, due)
            finally:
                if entry.live:  # of the others the schedule itself says how they ended, their retries among it
                    self.metrics.ran(entry.name, ended.status, (self.clock.now() - began).total_seconds())
        return ended


@dataclass
class CountedMemories:
    """flow.schedule.Memories: ``memories``, with each end of a run told to ``metrics`` and to whoever waits for one.

    ``short``: since which firing a job has not been complete.
    """

    memories: Memories
    metrics: Metrics
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    short: dict[str, datetime] = field(default_factory=dict)
    _known: dict[str, Memory] = field(default_factory=dict)

    async def jobs(self) -> Mapping[str, Memory]:
        self._known = dict(await self.memories.jobs())
        self.short |= {n: m.due for n, m in self._known.items() if m.status in _BAD and m.due is not None}
        return dict(self._known)

    async def remember(self, name: str, memory: Memory) -> None:
        before = self._known.get(name, Memory())
        self._known[name] = memory
        await self.memories.remember(name, memory)
        fresh_end = memory.ended is not None and memory.ended != before.ended and memory.status != "running"
        missed = memory.status == "skipped" and memory.due != before.due
        if not (fresh_end or missed):
            return
        seconds = 0.0
        if memory.started is not None and memory.ended is not None and not missed:
            seconds = (memory.ended - memory.started).total_seconds()
        self.metrics.ran(name, memory.status, seconds)
        if memory.status in _BAD:
            since = memory.due or memory.ended
            if since is not None:
                self.short.setdefault(name, since)
        else:
            self.short.pop(name, None)
        self.ended.set()


def refusals(metrics: Metrics, frame: Frame, taken: Taken) -> None:
    """Tell of refused rows by rule. Clients choose their names, so the metrics know them as one."""
    source = "push" if frame.source.startswith("push:") else frame.source
    metrics.refused(frame.dataset.name, source, taken.refused)


def _clock() -> float:
    return asyncio.get_running_loop().time()
