"""How the program fares, part by part, as values. Pure: who looks says what was seen and when.

A part is anything whose failing somebody would want to hear of. Only a part that is down and has ``page`` set makes the
whole not ready: a monitoring system that wakes a person asks for that and for nothing less.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from mystocks_ingest.ports import Run


class Kind(StrEnum):
    """What a part is."""

    DATASET = "dataset"
    SINK = "sink"
    SOURCE = "source"
    SPOOL = "spool"
    JOB = "job"
    LOOP = "loop"
    DISK = "disk"
    CALENDAR = "calendar"
    LOG = "log"
    CHANNEL = "channel"


class State(StrEnum):
    """How a part fares. ``DEGRADED``: it works, and somebody should look at it in daytime."""

    FRESH = "fresh"
    DEGRADED = "degraded"
    DOWN = "down"


_GRAVITY = {State.FRESH: 0, State.DEGRADED: 1, State.DOWN: 2}


@dataclass(frozen=True, slots=True)
class Part:
    """One part. ``reason`` is one sentence, empty while there is nothing to say; ``since`` (aware): when this began.

    ``figures`` are numbers that people and alert rules look at; each name ends with its unit where it has one
    (``age_seconds``, ``waiting_bytes``, ``used_percent``). ``page``: being down is worth waking somebody.
    """

    name: str
    kind: Kind
    state: State = State.FRESH
    reason: str = ""
    since: datetime | None = None
    page: bool = False
    figures: Mapping[str, float] = field(default_factory=dict)

    @property
    def pages(self) -> bool:
        """Whether monitoring should page for it now."""
        return self.page and self.state is State.DOWN


@dataclass(frozen=True, slots=True)
class Queue:
    """Rows that wait in memory for their table."""

    store: str
    table: str
    rows: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Health:
    """All parts at one look. ``started_at`` and ``at`` are aware; ``at`` is when the look was taken.

    ``queues``: the writers that hold rows; ``runs``: the latest, newest first. ``uptime_seconds`` does not care whether
    the wall clock was set back since ``started_at``.
    """

    parts: tuple[Part, ...]
    version: str
    started_at: datetime
    at: datetime
    queues: tuple[Queue, ...] = ()
    runs: tuple[Run, ...] = ()
    uptime_seconds: float = 0.0

    @property
    def ready(self) -> bool:
        """False only when monitoring should page."""
        return not any(part.pages for part in self.parts)

    @property
    def state(self) -> State:
        """That of the part that fares worst, except that what does not page makes the whole degraded at most."""
        if not self.ready:
            return State.DOWN
        return State.DEGRADED if any(p.state is not State.FRESH for p in self.parts) else State.FRESH

    def of(self, kind: Kind) -> tuple[Part, ...]:
        """The parts of one kind."""
        return tuple(part for part in self.parts if part.kind is kind)

    def worst_first(self) -> tuple[Part, ...]:
        """The parts, those that page first, then by how they fare; else in the order they were looked at."""
        return tuple(sorted(self.parts, key=lambda p: (not p.pages, -_GRAVITY[p.state])))
