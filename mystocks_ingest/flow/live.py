"""Live collection: poll a source for the newest state or the trades so far, keep what is news, store it, build bars.

A source that fails rests, longer each time, and the next one is asked; one that is limited or has banned us rests until
the time it named, and with it its whole family. Only rows that are news travel on to the checks and the tables; only
those that were stored are held, so that what could not be stored is news again at the next poll.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from mystocks_ingest.errors import Banned, Denied, IngestError, Limited, Unavailable, Unsupported, outcome_of
from mystocks_ingest.flow.ingest import Ingest
from mystocks_ingest.logs import get
from mystocks_ingest.market import sessions
from mystocks_ingest.market.datasets import QUOTE, TICK, Dataset
from mystocks_ingest.market.frames import Frame, Request, Symbol, Window
from mystocks_ingest.market.live import Known, Latest, MinuteBars, Trades
from mystocks_ingest.ports import Source

log = get("live")

_FIRST_REST, _LONGEST_REST = timedelta(seconds=3), timedelta(minutes=5)
_DENIED_REST = timedelta(hours=1)


@dataclass
class Figures:
    """What was seen of one dataset since the start. ``seconds`` is how long the last poll took."""

    polls: int = 0
    failed: int = 0
    rows: int = 0  # that the sources sent
    news: int = 0  # of them, stored
    unchanged: int = 0
    late: int = 0
    stale: int = 0
    refused: int = 0
    last_news: datetime | None = None
    source: str = ""
    seconds: float = 0.0


@dataclass
class _Rest:
    """A source that is left alone. ``length``: how long next time."""

    until: datetime
    reason: str
    length: timedelta = _FIRST_REST


@dataclass
class Collector:
    """Polls live datasets. ``bars``: build minute bars from quotes, for want of a vendor's."""

    sources: Mapping[str, Source]
    ingest: Ingest
    now: Callable[[], datetime]
    bars: bool = False
    figures: dict[str, Figures] = field(default_factory=dict)
    _known: dict[str, Known] = field(default_factory=dict)
    _turns: dict[str, asyncio.Lock] = field(default_factory=dict)
    _looked: datetime | None = None  # when quotes were last answered
    _resting: dict[str, _Rest] = field(default_factory=dict)
    _minutes: MinuteBars = field(default_factory=MinuteBars)

    async def poll(self, wanted: Dataset, *, order: Sequence[str] = (), symbols: tuple[Symbol, ...] = ()) -> str:
        """Ask once; the reason why nobody answered, empty when somebody did. Raises Unavailable (no table takes rows).

        ``order`` names the sources to ask, first the preferred; empty: all. No symbols: the whole market.
        """
        seen = self.figures.setdefault(wanted.name, Figures())
        seen.polls += 1
        day = sessions.today(self.now())
        request = Request(wanted, Window(day, day + timedelta(days=1)), symbols)
        reasons = []
        for name in order or tuple(self.sources):
            source = self.sources.get(name)
            if source is None or wanted.name not in source.offers:
                continue
            rest = self._resting.get(name)
            if rest is not None and rest.until > self.now():
                reasons.append(f"{name} rests until {rest.until:%H:%M:%S} ({rest.reason})")
                continue
            began = self.now()
            try:
                await self._ask(source, request, seen)
            except Unavailable:
                raise
            except IngestError as exc:
                self._failed(source, exc)
                reasons.append(f"{name}: {outcome_of(exc)}: {exc}")
                continue
            self._resting.pop(name, None)
            seen.source, seen.seconds = name, (self.now() - began).total_seconds()
            return ""
        seen.failed += 1
        return "; ".join(reasons) or f"no source offers {wanted.name}"

    async def flush(self) -> None:
        """Store the bars under way that have ended: after each minute without quotes, and at the session's end."""
        done = self._minutes.flush(self.now())
        if done is not None:
            await self.ingest.take(done, None, now=self.now())

    @property
    def resting(self) -> Mapping[str, str]:
        """The sources that are left alone now, and why."""
        return {name: rest.reason for name, rest in self._resting.items() if rest.until > self.now()}

    async def _ask(self, source: Source, request: Request, seen: Figures) -> None:
        turn = self._turns.setdefault(request.dataset.name, asyncio.Lock())
        async for frame in source.fetch(request):
            if frame.dataset == request.dataset:
                async with turn:
                    self._look(request.dataset)
                    await self._store(frame, source, seen)

    def _look(self, dataset: Dataset) -> None:
        """Tell the bars when nobody looked at the market for longer than a bar."""
        if not self.bars or dataset != QUOTE:
            return
        before, self._looked = self._looked, self.now()
        if not sessions.within_a_bar(before, self._looked):
            self._minutes.lost(self._looked)

    async def _store(self, frame: Frame, source: Source, seen: Figures) -> None:
        known = self._known.setdefault(frame.dataset.name, Trades() if frame.dataset == TICK else Latest())
        found = known.news(frame)
        for name, count in Counter(
            rows=len(frame), unchanged=found.unchanged, late=found.late, stale=found.stale
        ).items():
            setattr(seen, name, getattr(seen, name) + count)
        if not len(found.frame):
            return
        taken = await self.ingest.take(found.frame, source.offers[frame.dataset.name], now=self.now())
        known.hold(taken.accepted, taken.turned_down)
        seen.news += len(taken.accepted)
        seen.refused += sum(taken.refused.values())
        seen.last_news = self.now()
        if self.bars and frame.dataset == QUOTE and len(taken.accepted):
            done = self._minutes.take(taken.accepted)
            if done is not None:
                await self.ingest.take(done, None, now=self.now())

    def _failed(self, source: Source, exc: IngestError) -> None:
        reason = f"{outcome_of(exc)}: {exc}"
        held = self._resting.get(source.name)
        length = held.length if held is not None else _FIRST_REST
        match exc:
            case Limited():
                names = [n for n, s in self.sources.items() if isinstance(exc, Banned) and s.family == source.family]
                for name in names or [source.name]:
                    self._resting[name] = _Rest(exc.until, reason)
            case Denied() | Unsupported():
                self._resting[source.name] = _Rest(self.now() + _DENIED_REST, reason)
            case _:
                self._resting[source.name] = _Rest(self.now() + length, reason, min(length * 2, _LONGEST_REST))
        log.warning("source.rested", source=source.name, reason=reason, until=self._resting[source.name].until)
