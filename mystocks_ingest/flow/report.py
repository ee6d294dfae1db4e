"""What a backfill was asked to do, says while it works, and reports at its end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from mystocks_ingest.errors import Outcome
from mystocks_ingest.flow.plan import PlanLine
from mystocks_ingest.market.frames import Symbol, Window


@dataclass(frozen=True, slots=True)
class Job:
    """What to fetch. ``symbols`` None means the ``universe``: all, index, etf, hs300."""

    datasets: tuple[str, ...]
    window: Window
    symbols: tuple[Symbol, ...] | None = None
    universe: str = "all"
    source: str = "auto"
    workers: int = 8
    force: bool = False


@dataclass(frozen=True, slots=True)
class Missing:
    """Sessions that should exist and do not, and why: what each source answered."""

    dataset: str
    symbol: Symbol
    windows: tuple[Window, ...]
    sessions: int
    why: str
    asked: Mapping[str, int] = field(
        default_factory=dict
    )  # source -> how many of the sessions it was asked for in vain


@dataclass
class Report:
    """The sum of a run; counters are keyed by (dataset, source)."""

    rows: Counter[tuple[str, str]] = field(default_factory=Counter)
    calls: Counter[tuple[str, str]] = field(default_factory=Counter)
    refused: Counter[tuple[str, str, str]] = field(default_factory=Counter)  # dataset, source, rule
    outcomes: Counter[tuple[str, Outcome]] = field(default_factory=Counter)  # source, outcome
    latest: dict[tuple[str, Outcome], datetime] = field(default_factory=dict)  # when a call last ended so
    failures: dict[str, str] = field(default_factory=dict)  # source -> the last failure in words
    missing: list[Missing] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)  # datasets that could not be fetched at all, with the reason
    warnings: list[str] = field(default_factory=list)
    stopped: str = ""  # why the run ended before its work was done; what is stored stays stored
    provisional: int = 0
    seconds: float = 0.0

    @property
    def status(self) -> str:
        """``complete`` when nothing that should exist is missing, else ``partial``."""
        return "partial" if self.missing or self.absent or self.stopped else "complete"

    @property
    def exit_code(self) -> int:
        """0 complete, 3 partial."""
        return 3 if self.status == "partial" else 0

    @property
    def requests(self) -> int:
        """Requests made in this run; 0 when everything was there already."""
        return sum(self.outcomes.values())


class Watch(Protocol):
    """What a backfill tells while it works; the command line turns it into progress."""

    def planned(self, line: PlanLine) -> None: ...
    def fetched(self, dataset: str, source: str, *, rows: int, calls: int) -> None: ...
    def refused(self, dataset: str, source: str, rule: str, rows: int) -> None: ...
    def failed(self, dataset: str, source: str, outcome: Outcome, reason: str) -> None: ...
    def waiting(self, store: str, seconds: float, reason: str) -> None: ...
    def returned(self, store: str, seconds: float) -> None: ...
    def done(self, report: Report) -> None: ...


class Silence:
    """A watch that tells nobody."""

    def planned(self, line: PlanLine) -> None: ...
    def fetched(self, dataset: str, source: str, *, rows: int, calls: int) -> None: ...
    def refused(self, dataset: str, source: str, rule: str, rows: int) -> None: ...
    def failed(self, dataset: str, source: str, outcome: Outcome, reason: str) -> None: ...
    def waiting(self, store: str, seconds: float, reason: str) -> None: ...
    def returned(self, store: str, seconds: float) -> None: ...
    def done(self, report: Report) -> None: ...
