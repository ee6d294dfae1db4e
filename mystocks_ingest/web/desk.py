"""What the HTTP side needs of the service. The service implements it; nothing here knows how."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import pyarrow as pa

from mystocks_ingest.flow.ingest import Taken
from mystocks_ingest.flow.report import Job, Missing
from mystocks_ingest.market.adjust import How
from mystocks_ingest.market.datasets import Dataset
from mystocks_ingest.market.frames import Frame, Symbol, Window
from mystocks_ingest.monitor.health import Health
from mystocks_ingest.monitor.journal import Buried
from mystocks_ingest.monitor.metrics import Metrics
from mystocks_ingest.ports import Run
from mystocks_ingest.schema.tables import Tables


@dataclass(frozen=True, slots=True)
class JobState:
    """A job as it stands. ``when`` in the words of the file; ``next_at`` and the last run's times are aware."""

    name: str
    when: str
    datasets: tuple[str, ...]
    paused: bool
    running: bool
    next_at: datetime | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    status: str = ""
    reason: str = ""


class Desk(Protocol):
    """The service as the HTTP side sees it. Raises the errors of errors.py, each in one sentence for the client."""

    @property
    def metrics(self) -> Metrics: ...

    @property
    def tables(self) -> Tables: ...

    def now(self) -> datetime:
        """Aware, UTC."""
        ...

    async def health(self) -> Health: ...

    async def read(
        self, wanted: Dataset, symbols: tuple[Symbol, ...], window: Window, adjust: How, limit: int
    ) -> pa.Table:
        """The first ``limit`` stored rows in key order; no symbols: all."""
        ...

    async def runs(self, *, limit: int) -> Sequence[Run]:
        """The latest, newest first."""
        ...

    async def gaps(self, job: Job) -> Sequence[Missing]: ...

    async def letters(
        self, *, dataset: str | None, rule: str | None, source: str | None, limit: int, offset: int
    ) -> Sequence[Buried]:
        """Dead letters that were not replayed, oldest first."""
        ...

    async def jobs(self) -> Sequence[JobState]: ...

    async def start(self, job: str) -> None:
        """Have a job run now; returns when it has begun. Raises ConfigError where it runs already."""
        ...

    async def pause(self, job: str, *, paused: bool) -> None: ...

    async def take(self, frame: Frame) -> Taken:
        """Check rows that were delivered and store what passes; returns when they are durable."""
        ...
