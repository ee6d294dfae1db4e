"""AkShare: Eastmoney, Sina, Tencent and the exchanges' own lists, each a source of its own family.

One package, four sources, because what fails together is the server and not the package: when Eastmoney shuts an
address out, the next family must be asked. A request becomes questions (``families.py``), each one akshare function
called in the family's lane (``calls.py``) and read by that function's layout (``layouts.py``).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from datetime import date, datetime, time, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from mystocks_ingest.errors import IngestError, Malformed, Unsupported
from mystocks_ingest.market import symbols
from mystocks_ingest.market.datasets import ADJ_FACTOR, QUOTE, TICK
from mystocks_ingest.market.frames import Frame, Request, Symbol, Window
from mystocks_ingest.market.layout import empty, normalize, where, within
from mystocks_ingest.market.sessions import ZONE
from mystocks_ingest.ports import Rate
from mystocks_ingest.schema.paces import Pace
from mystocks_ingest.settings import Settings
from mystocks_ingest.sources.akshare.families import AUCTION, FAMILIES, Family, Question
from mystocks_ingest.sources.akshare.layouts import LAYOUTS
from mystocks_ingest.sources.lane import Lane, LaneAnswer, Setup
from mystocks_ingest.sources.pacing import UNPACED, Breaker, Budget, Pacer, SourceStatus, Told, utc_now

__all__ = ["LAYOUTS", "NAMES", "Akshare", "open_akshare"]

NAMES = tuple(FAMILIES)
_CALL = "mystocks_ingest.sources.akshare.calls:call"
_PREPARE = "mystocks_ingest.sources.akshare.calls:prepare"
_RETRY_SECONDS = 15.0  # a site that answered nothing for its whole read time-out is not asked the same at once
_BREAKER = Breaker(
    strikes=2, seconds=1800.0, matches="RemoteDisconnected|Connection aborted|Connection reset|ProxyError"
)
_AHEAD = timedelta(minutes=5)  # a vendor's clock may be before ours; trades later than that are another day's
_LAST_MINUTES = time(14, 55)  # from then on an earlier day's trades may look like today's
_LISTS = frozenset({"calendar", "instrument"})  # datasets that are asked for as a whole


class Akshare:
    """One family as a source. Bans and the breaker survive a restart through the pacer's file."""

    concurrency = 1

    def __init__(
        self,
        family: Family,
        *,
        endpoint: str | None,
        pacing: Path | None,
        budget: Budget | None = None,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        """``budget`` None: the family's own."""
        self.name = family.name
        self.family = family.family
        self.offers = family.offers
        self._family = family
        self._older: set[tuple[str, date]] = set()  # datasets that showed an earlier day when they should show this one
        self._clock = clock
        budget = budget or Budget(family.rates, spacing_seconds=family.spacing, breaker=_BREAKER)
        self._pacer = Pacer(family.name, budget, path=pacing, clock=clock)
        self._lane = Lane(family.name, setup=Setup(_PREPARE, {"endpoint": endpoint}))

    @property
    def rates(self) -> Sequence[Rate]:
        """As Source.rates."""
        return self._pacer.budget.rates

    def pace(self, pace: Pace) -> None:
        """As Paced.pace."""
        self._pacer.pace(pace)

    async def fetch(self, request: Request) -> AsyncIterator[Frame]:
        """As Source.fetch. Zero rows are a frame without rows: whether that can be, the caller knows.

        What one symbol's answer lacks costs the others nothing: it is raised after theirs.
        """
        failed: dict[Symbol, IngestError] = {}
        for part in self._parts(request):
            try:
                async for frame in self._answers(part):
                    yield frame
            except (Malformed, Unsupported) as exc:
                if part == request:
                    raise
                failed[part.symbols[0]] = exc
        if failed:
            symbol, first = next(iter(failed.items()))
            count = f"{len(failed)} of {len(request.symbols)} symbols"
            raise type(first)(f"{count} could not be had, such as {symbol}: {first}") from first

    def _parts(self, request: Request) -> list[Request]:
        """The request symbol by symbol, where the vendor is asked so."""
        if len(request.symbols) < 2 or self._family.at_once(request):
            return [request]
        return [replace(request, symbols=(symbol,)) for symbol in request.symbols]

    async def _answers(self, request: Request) -> AsyncIterator[Frame]:
        for question in self._questions(request):
            answer = await self._ask(question)
            fetched_at = self._clock()
            if answer.table is None:
                yield empty(request.dataset, source=self.name, fetched_at=fetched_at)
                continue
            for frame in self._read(question, answer.table, fetched_at):
                yield _wanted(self._of_today(frame, question, fetched_at), request)

    def calls(self, request: Request) -> int:
        """As Source.calls."""
        return sum(question.calls for part in self._parts(request) for question in self._questions(part))

    async def probe(self) -> None:
        """As Source.probe."""
        await self._ask(self._family.probe)

    def status(self) -> SourceStatus:
        """Budget left, breaker, last success."""
        return self._pacer.status()

    def listen(self, told: Told) -> None:
        """Have each call told as it ends."""
        self._pacer.told = told

    async def aclose(self) -> None:
        """As Source.aclose."""
        await self._lane.aclose()
        self._pacer.close()

    def _questions(self, request: Request) -> list[Question]:
        offer = self.offers.get(request.dataset.name)
        if offer is None:
            raise Unsupported(f"{self.name} has no {request.dataset}")
        if not request.symbols and request.dataset.name not in _LISTS and request.asset_type not in offer.whole_market:
            raise Unsupported(f"{self.name} gives {request.dataset} by symbol only")
        for symbol in request.symbols:
            kind, exchange = symbols.asset_type_of(symbol), symbols.exchange_of(symbol)
            if kind not in offer.asset_types or exchange not in offer.exchanges:
                raise Unsupported(f"{self.name} has no {request.dataset} of {symbol} ({kind})")
        return list(self._family.questions(request, self._clock()))

    async def _ask(self, question: Question) -> LaneAnswer:
        arguments = {"function": question.function, "arguments": dict(question.arguments)}

        async def call() -> LaneAnswer:
            return await self._lane.call(_CALL, arguments, deadline=self._family.deadline)

        answer = await self._pacer.run(call, within=_RETRY_SECONDS)
        self._pacer.charge(question.calls - 1)
        return answer

    def _of_today(self, frame: Frame, question: Question, fetched_at: datetime) -> Frame:
        """Without rows of an earlier day, where rows tell the time of day only: before a session and on a holiday."""
        today = fetched_at.astimezone(ZONE)
        if question.day != today.date() or frame.dataset not in (QUOTE, TICK) or not len(frame):
            return frame
        ahead = pc.greater(frame.rows.column("ts"), pa.scalar(fetched_at + _AHEAD, frame.rows.schema.field("ts").type))
        ahead = pc.fill_null(ahead, False)
        part, key = pc.mean(ahead.cast(pa.float64())).as_py(), (frame.dataset.name, today.date())
        if part > 0.5 or (frame.dataset == TICK and part):
            self._older.add(key)
        elif today.time() < _LAST_MINUTES:
            self._older.discard(key)
        nothing = key in self._older and (frame.dataset == TICK or today.time() >= _LAST_MINUTES)
        return frame.take(pa.array([], pa.int64())) if nothing else where(frame, pc.invert(ahead))

    def _read(self, question: Question, table: pa.RecordBatch, fetched_at: datetime) -> list[Frame]:
        layout = question.layout
        if layout.dataset is QUOTE and "ts" not in layout.columns:
            received = fetched_at.replace(microsecond=fetched_at.microsecond // 1000 * 1000)
            layout = replace(layout, constants={**layout.constants, "ts": received})
        return normalize(
            layout, table, source=self.name, fetched_at=fetched_at, symbol=question.symbol, day=question.day
        )


def _wanted(frame: Frame, request: Request) -> Frame:
    """The rows asked for; of adjustment factors also those before the window, one of which is in force at its start."""
    if frame.dataset is ADJ_FACTOR:
        frame = within(frame, Window(date.min, request.window.end))
    else:
        frame = within(frame, request.window)
    if frame.dataset is TICK:
        frame = where(frame, _matched(frame.rows.column("ts")))
    if request.symbols and "symbol" in frame.rows.schema.names:
        theirs = frame.rows.column("symbol")
        asked = pc.is_in(theirs, value_set=pa.array([str(s) for s in request.symbols]))
        frame = where(frame, pc.or_(asked, pc.is_null(theirs)))
    return frame


def _matched(stamps: pa.Array) -> pa.Array:
    """Before 09:25 Eastmoney lists what the auction would give, which is not traded."""
    seconds = pc.local_timestamp(stamps).cast(pa.time32("ms"))
    return pc.fill_null(pc.greater_equal(seconds, pa.scalar(AUCTION, pa.time32("ms"))), True)


def open_akshare(name: str, settings: Settings, *, clock: Callable[[], datetime] = utc_now) -> Akshare:
    """The family called ``name``. The exchanges' lists are many pages each: their deadline stays a multiple."""
    endpoint, family = settings.akshare_endpoint, FAMILIES[name]
    usual = type(settings).model_fields["call_deadline_seconds"].default
    family = replace(family, deadline=family.deadline * settings.call_deadline_seconds / usual)
    budget = UNPACED if settings.pacing == "none" and endpoint is not None else None
    pacing = settings.state_dir / "pacing.sqlite"
    return Akshare(family, endpoint=endpoint, pacing=pacing, budget=budget, clock=clock)
