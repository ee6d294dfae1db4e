"""Live collection: poll a source for the newest state or the trades so far, keep what is news, store it, build bars.

A source that fails rests, longer each time, and the next one is asked; one that is limited or has banned us rests until
the time it named, and with it its whole family. Where another one could answer, a source is not waited for much longer
than it usually takes: what happens meanwhile is seen by nobody. Only rows that are news travel on to the checks and the
tables; only those that were stored are held, so that what could not be stored is news again at the next poll. Bars under
way are kept in a file as well, so that a restart within a minute tears none.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, time, timedelta
from pathlib import Path
from time import monotonic

import pyarrow as pa
import pyarrow.compute as pc

from mystocks_ingest.errors import (
    Banned,
    Denied,
    IngestError,
    Limited,
    Malformed,
    Unavailable,
    Unreachable,
    Unsupported,
    outcome_of,
)
from mystocks_ingest.flow.ingest import Ingest
from mystocks_ingest.logs import get
from mystocks_ingest.market import sessions
from mystocks_ingest.market.datasets import QUOTE, TICK, Dataset
from mystocks_ingest.market.frames import Frame, Request, Symbol, Window
from mystocks_ingest.market.live import Known, Latest, Trades
from mystocks_ingest.market.minute_bars import MinuteBars, shown_until
from mystocks_ingest.ports import Source, pressing

log = get("live")

_FIRST_REST, _LONGEST_REST = timedelta(seconds=3), timedelta(minutes=5)
_DENIED_REST = timedelta(hours=1)
_FIRST_TRADE = time(9, 25)  # the opening auction's; before it a vendor shows the trades of the day before, or none
_TIMES_AS_LONG = 4.0  # as its slowest answer of late; a lane may have to start anew
_SAVED_AGAIN = timedelta(seconds=1)


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
    refused_since: int = 0  # rows, since the last news
    news_tick: float = 0.0  # the same moment on the monotonic clock: the other one may be set back
    source: str = ""
    seconds: float = 0.0


@dataclass
class _Rest:
    """A source that is left alone. ``length``: how long next time. A clock set back to before ``since`` ends it."""

    until: datetime
    reason: str
    since: datetime
    length: timedelta = _FIRST_REST

    def lasts(self, now: datetime) -> bool:
        return self.since <= now < self.until


@dataclass
class Collector:
    """Polls live datasets. ``bars``: build minute bars from quotes, for want of a vendor's.

    ``memory``: the file of the bars under way, for the next start; None: they end with this process.
    """

    sources: Mapping[str, Source]
    ingest: Ingest
    now: Callable[[], datetime]
    bars: bool = False
    memory: Path | None = None
    patience_seconds: float = 15.0  # that a source is given at least, where another one could answer
    figures: dict[str, Figures] = field(default_factory=dict)
    _known: dict[str, Known] = field(default_factory=dict)
    _turns: dict[str, asyncio.Lock] = field(default_factory=dict)
    _slowest: dict[tuple[str, str], float] = field(default_factory=dict)  # seconds, by source and dataset
    _resting: dict[tuple[str, str], _Rest] = field(default_factory=dict)  # source; dataset, or empty: all of them
    _minutes: MinuteBars | None = None
    _saved: datetime | None = None
    _waiting: list[Frame] = field(default_factory=list)  # bars that are complete and not stored yet, a day's at most
    _giving: asyncio.Lock = field(default_factory=asyncio.Lock)
    _recalling: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def poll(self, wanted: Dataset, *, order: Sequence[str] = (), symbols: tuple[Symbol, ...] = ()) -> str:
        """Ask once; the reason why nobody answered, empty when somebody did. Raises Unavailable (no table takes rows).

        ``order`` names the sources to ask, first the preferred; empty: all. No symbols: the whole market.
        """
        if wanted == TICK and self.now().astimezone(sessions.ZONE).time() < _FIRST_TRADE:
            return ""
        seen = self.figures.setdefault(wanted.name, Figures())
        seen.polls += 1
        day = sessions.today(self.now())
        request = Request(wanted, Window(day, day + timedelta(days=1)), symbols)
        reasons = []
        names = [n for n in order or tuple(self.sources) if n in self.sources and wanted.name in self.sources[n].offers]
        for place, name in enumerate(names):
            source = self.sources[name]
            rest = self._rests(name, wanted)
            if rest is not None:
                reasons.append(f"{name} rests until {rest.until:%H:%M:%S} ({rest.reason})")
                continue
            began, before = self.now(), seen.rows
            others = any(self._rests(other, wanted) is None for other in names[place + 1 :])
            try:
                await self._ask(source, request, seen, hurry=others)
            except Unavailable:
                raise
            except IngestError as exc:
                reasons.append(f"{name}: {outcome_of(exc)}: {exc}")
                if isinstance(exc, Malformed | Unsupported) and seen.rows > before:
                    log.warning("symbols.missed", source=name, dataset=wanted.name, reason=str(exc))
                    break  # the others' rows are stored; a source that answers is asked again
                self._failed(source, wanted, exc)
                continue
            for part in ("", wanted.name):
                self._resting.pop((name, part), None)
            seen.source, seen.seconds = name, (self.now() - began).total_seconds()
            return ""
        seen.failed += 1
        return "; ".join(reasons) or f"no source offers {wanted.name}"

    async def flush(self) -> None:
        """Store the bars under way that have ended: after each minute without quotes, and at the session's end."""
        if not self.bars and self._minutes is None:
            return
        minutes = await self._under_way()
        if await self._give(minutes.flush(self.now())):
            await self._save(minutes)

    @property
    def resting(self) -> Mapping[str, str]:
        """The sources that are left alone now, and why."""
        return {name: rest.reason for (name, _), rest in self._resting.items() if rest.lasts(self.now())}

    def rests(self, name: str, wanted: Dataset) -> str:
        """Why the source is left alone for this dataset now; empty while it is not."""
        rest = self._rests(name, wanted)
        return "" if rest is None else rest.reason

    def _rests(self, name: str, wanted: Dataset) -> _Rest | None:
        """Why ``name`` is not to be asked for it now."""
        rests = (self._resting.get((name, part)) for part in ("", wanted.name))
        return max((r for r in rests if r is not None and r.lasts(self.now())), key=lambda r: r.until, default=None)

    async def _ask(self, source: Source, request: Request, seen: Figures, *, hurry: bool) -> None:
        turn = self._turns.setdefault(request.dataset.name, asyncio.Lock())
        until = None
        async for frame in self._answers(source, request, hurry=hurry):
            if frame.dataset == request.dataset:
                if frame.dataset == QUOTE and not request.symbols:
                    until = shown_until(frame.rows, self.now())
                async with turn:
                    await self._store(frame, source, seen, until)
        if until is not None and self._minutes is not None:
            self._minutes.looked(until)

    async def _answers(self, source: Source, request: Request, *, hurry: bool) -> AsyncIterator[Frame]:
        """What the source answers; ``hurry``: Unreachable once it takes much longer than it did of late."""
        known, clock = (source.name, request.dataset.name), asyncio.get_running_loop().time
        usual = self._slowest.get(known)
        limit = max(self.patience_seconds, usual * _TIMES_AS_LONG) if hurry and usual is not None else None
        slowest, frames = 0.0, aiter(source.fetch(request))
        while True:
            began = clock()
            try:
                async with asyncio.timeout(limit):
                    with pressing():
                        frame = await anext(frames)
            except StopAsyncIteration:
                break
            except TimeoutError as exc:
                said = f"{source.name} did not answer within {limit:.0f} s, of late it took {usual:.1f} s"
                raise Unreachable(said) from exc
            slowest = max(slowest, clock() - began)
            yield frame
        self._slowest[known] = max(slowest, (usual or 0.0) / 2)

    async def _store(self, frame: Frame, source: Source, seen: Figures, until: datetime | None = None) -> None:
        """``until``: up to when the frame shows what happened; None: until now."""
        known = self._known.setdefault(frame.dataset.name, Trades() if frame.dataset == TICK else Latest())
        found = known.news(frame)
        for name, count in Counter(
            rows=len(frame), unchanged=found.unchanged, late=found.late, stale=found.stale
        ).items():
            setattr(seen, name, getattr(seen, name) + count)
        if not len(found.frame):
            await self._build(frame, found.frame, (), until)
            return
        taken = await self.ingest.take(found.frame, source.offers[frame.dataset.name], now=self.now())
        known.hold(taken.accepted, taken.turned_down)
        seen.news += len(taken.accepted)
        seen.refused += sum(taken.refused.values())
        if len(taken.accepted):  # a vendor whose every row is refused tells nothing
            seen.last_news, seen.news_tick, seen.refused_since = self.now(), monotonic(), 0
        else:
            seen.refused_since += sum(taken.refused.values())
        await self._build(frame, taken.accepted, taken.turned_down, until)

    async def _build(self, shown: Frame, stored: Frame, turned_down: Sequence[Frame], until: datetime | None) -> None:
        """Count quotes into their bars, and store the bars that are complete by that."""
        if not self.bars or shown.dataset != QUOTE:
            return
        minutes, rows = await self._under_way(), shown.rows
        for refused in turned_down:  # what nobody took was not seen
            rows = rows.filter(pc.invert(pc.is_in(rows.column("symbol"), refused.rows.column("symbol"))))
        minutes.look(rows, until or self.now())
        if not len(stored):
            return
        await self._give(minutes.take(stored))
        await self._save(minutes)

    async def _under_way(self) -> MinuteBars:
        """The bars under way; those of the life before at first."""
        async with self._recalling:
            if self._minutes is None:
                self._minutes = await asyncio.to_thread(_recalled, self.memory)
        return self._minutes

    async def _give(self, done: Frame | None) -> bool:
        """Store ``done`` after the bars that could not be stored before; whether there were any. Raises Unavailable."""
        if done is not None:
            self._waiting.append(done)
        given = False
        async with self._giving:
            while self._waiting:
                await self.ingest.take(self._waiting[0], None, now=self.now())
                del self._waiting[0]
                given = True
        return given

    async def _save(self, minutes: MinuteBars) -> None:
        """Keep the bars under way; not for every frame of a poll."""
        now = self.now()
        if self.memory is None or (self._saved is not None and timedelta() <= now - self._saved < _SAVED_AGAIN):
            return
        self._saved = now
        try:
            await asyncio.to_thread(_kept, minutes.state, self.memory)
        except OSError as exc:
            log.warning("bars.unsaved", reason=str(exc), instead="a restart now would leave out the minute under way")

    def _failed(self, source: Source, wanted: Dataset, exc: IngestError) -> None:
        reason, now = f"{outcome_of(exc)}: {exc}", self.now()
        held = self._resting.get((source.name, ""))
        rests = (source.name, "")
        length = held.length if held is not None else _FIRST_REST
        match exc:
            case Limited():
                names = [n for n, s in self.sources.items() if isinstance(exc, Banned) and s.family == source.family]
                for name in names or [source.name]:
                    self._resting[name, ""] = _Rest(exc.until, reason, now)
            case Denied() | Unsupported():
                rests = (source.name, wanted.name)
                self._resting[rests] = _Rest(now + _DENIED_REST, reason, now)
            case _:
                self._resting[rests] = _Rest(now + length, reason, now, min(length * 2, _LONGEST_REST))
        log.warning("source.rested", source=source.name, reason=reason, until=self._resting[rests].until)


def _recalled(file: Path | None) -> MinuteBars:
    """The bars that were under way when ``file`` was written; new ones where there is none that can be read."""
    if file is None or not file.exists():
        return MinuteBars()
    try:
        return MinuteBars.restored(pa.ipc.open_file(file.read_bytes()).read_all())
    except (OSError, ValueError, KeyError) as exc:  # pa.ArrowInvalid is a ValueError
        log.warning("bars.forgotten", reason=str(exc), instead="the minute under way is left out")
        return MinuteBars()


def _kept(state: pa.Table, file: Path) -> None:
    """Whole or not at all. After a power cut an older one may be there: then the minutes since are left out."""
    written = file.with_suffix(".new")
    with pa.ipc.new_file(written, state.schema) as out:
        out.write_table(state)
    written.replace(file)
