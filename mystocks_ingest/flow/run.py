"""One run's roster: which sources may still be asked, what each answered, and the count of it all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from mystocks_ingest.errors import Banned, Denied, IngestError, Limited, Outcome, Retryable, Unsupported, outcome_of
from mystocks_ingest.flow.ingest import Ingest, Taken
from mystocks_ingest.flow.report import Report, Watch
from mystocks_ingest.logs import get
from mystocks_ingest.market.datasets import Dataset
from mystocks_ingest.market.frames import Frame, Request, Symbol
from mystocks_ingest.ports import Source

log = get("backfill")

STRIKES = 3  # failed requests in a row after which a source is left for the rest of the run
_ANY = "*"


@dataclass
class Run:
    """State of one run. ``sources`` are those the job allows, in the order of preference."""

    sources: Mapping[str, Source]
    ingest: Ingest
    clock: Callable[[], datetime]
    watch: Watch
    report: Report = field(default_factory=Report)
    _left: dict[tuple[str, str], str] = field(default_factory=dict)  # (source, dataset or any) -> why
    _strikes: Counter[str] = field(default_factory=Counter)
    _said: dict[tuple[str, Symbol], dict[str, str]] = field(default_factory=dict)

    def why_left(self, source: Source, wanted: Dataset) -> str | None:
        """Why the source is not asked for the dataset any more in this run; None while it is."""
        return self._left.get((source.name, wanted.name)) or self._left.get((source.name, _ANY))

    def usable(self, wanted: Dataset) -> list[Source]:
        """The sources that offer the dataset and were not left."""
        return [s for s in self.sources.values() if wanted.name in s.offers and self.why_left(s, wanted) is None]

    async def take(self, frame: Frame, source: Source) -> Taken:
        """One frame through check and store, counted. Raises Unavailable when it cannot be stored."""
        taken = await self.ingest.take(frame, source.offers.get(frame.dataset.name), now=self.clock())
        self.report.rows[frame.dataset.name, source.name] += len(taken.accepted)
        for rule, count in taken.refused.items():
            self.report.refused[frame.dataset.name, source.name, rule] += count
            self.watch.refused(frame.dataset.name, source.name, rule, count)
        return taken

    def succeeded(self, source: Source, wanted: Dataset, *, rows: int, calls: int) -> None:
        """Count a request that ended well."""
        self._strikes[source.name] = 0
        self._count(source, outcome_of(None, rows=rows))
        self.report.calls[wanted.name, source.name] += calls
        self.watch.fetched(wanted.name, source.name, rows=rows, calls=calls)

    def failed(self, source: Source, wanted: Dataset, exc: IngestError, request: Request | None = None) -> None:
        """Count a request that failed; leave the source where asking on is useless or does harm."""
        outcome = outcome_of(exc)
        reason = f"{outcome}: {exc}"
        match exc:
            case Banned():
                for other in self.sources.values():
                    if other.family == source.family:
                        self._left[other.name, _ANY] = reason
            case Unsupported():
                pass
            case Denied() | Limited():
                self._left[source.name, wanted.name] = reason
            case Retryable():
                self._strikes[source.name] += 1
                if self._strikes[source.name] >= STRIKES:
                    self._left[source.name, _ANY] = f"{STRIKES} failures in a row, the last {reason}"
            case _:
                raise exc
        self._count(source, outcome)
        self.report.failures[source.name] = reason
        self.remember(wanted, request.symbols if request is not None else (), source.name, reason)
        log.warning("request.failed", source=source.name, dataset=wanted.name, outcome=outcome, reason=str(exc))
        self.watch.failed(wanted.name, source.name, outcome, str(exc))

    def _count(self, source: Source, outcome: Outcome) -> None:
        self.report.outcomes[source.name, outcome] += 1
        self.report.latest[source.name, outcome] = self.clock()

    def remember(self, wanted: Dataset, symbols: Sequence[Symbol], source: str, reason: str) -> None:
        """Keep what a source said of these symbols, for the report of what is missing; the first word stands."""
        for symbol in symbols:
            self._said.setdefault((wanted.name, symbol), {}).setdefault(source, reason)

    def said(self, wanted: Dataset, symbol: Symbol) -> dict[str, str]:
        """What each source said of a symbol in this run."""
        return dict(self._said.get((wanted.name, symbol), {}))
