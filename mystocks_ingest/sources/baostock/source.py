"""Baostock as a source: one lane, one connection, 40,000 calls a day. No Beijing stocks, no 1-minute bars, no quotes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from pathlib import Path

import pyarrow.compute as pc

from mystocks_ingest.errors import IngestError, Malformed, Unsupported
from mystocks_ingest.logs import get
from mystocks_ingest.market import symbols
from mystocks_ingest.market.cells import to_text
from mystocks_ingest.market.frames import Frame, Request, Symbol, Window
from mystocks_ingest.market.layout import Layout, normalize
from mystocks_ingest.ports import Offer, Rate
from mystocks_ingest.schema.paces import Pace
from mystocks_ingest.settings import Settings
from mystocks_ingest.sources.baostock import layouts
from mystocks_ingest.sources.lane import Lane, LaneAnswer, Setup
from mystocks_ingest.sources.pacing import UNPACED, Budget, Pacer, SourceStatus, Told, utc_now

log = get("baostock")

_FETCH = "mystocks_ingest.sources.baostock.calls:fetch"
_PREPARE = "mystocks_ingest.sources.baostock.calls:prepare"
_LOGOUT = "mystocks_ingest.sources.baostock.calls:logout"
BUDGET = Budget(rates=(Rate(40_000, 86_400.0),), spacing_seconds=0.05)  # 50,000 a day ban the address for 6 h
_SOCKET_SECONDS = 20.0
_RETRY_SECONDS = 20.0  # so that a short deadline leaves room for a repetition; silence is not repeated for long
_PAGE = 2000
_SESSIONS_A_YEAR = 250
_FIRST_DAY = date(1990, 12, 19)
_DAILY_FIELDS = "date,code,open,high,low,close,preclose,volume,amount,adjustflag,turn,tradestatus,pctChg,isST"
_INDEX_FIELDS = "date,code,open,high,low,close,preclose,volume,amount,pctChg"
_PERIOD_FIELDS = "date,code,open,high,low,close,volume,amount,adjustflag,turn,pctChg"
_MINUTE_FIELDS = "date,time,code,open,high,low,close,volume,amount,adjustflag"
_BASIC_FIELDS = "date,code,turn,tradestatus,peTTM,pbMRQ,psTTM"
_RAW_PRICES = "3"
_WHOLE_MARKET = {"stock": "query_daily_history_k_AStock", "etf": "query_daily_history_k_ETF"}
_MEMBERS = {
    "000300.SH": "query_hs300_stocks",
    "000016.SH": "query_sz50_stocks",
    "000905.SH": "query_zz500_stocks",
}
_BARS_A_SESSION = {"bar_5m": 48, "bar_15m": 16, "bar_30m": 8, "bar_60m": 4}
_FREQUENCIES = {"bar_1d": "d", "bar_1w": "w", "bar_1mo": "m", "daily_basic": "d"} | {
    f"bar_{i}": i.removesuffix("m") for i in layouts.MINUTES_OFFERED
}

_EXCHANGES = frozenset({"SH", "SZ"})
_ALL = frozenset({"stock", "index", "etf"})
_DAY_READY, _MINUTES_READY, _FACTORS_READY = time(18, 0), time(20, 30), time(19, 0)
OFFERS: Mapping[str, Offer] = {
    "instrument": Offer(by_symbol=False, whole_market=_ALL, exchanges=_EXCHANGES, asset_types=_ALL),
    "calendar": Offer(by_symbol=False, exchanges=_EXCHANGES, asset_types=_ALL),
    "industry": Offer(by_symbol=False, exchanges=_EXCHANGES),
    "index_weight": Offer(by_symbol=False, exchanges=_EXCHANGES),
    "bar_1d": Offer(
        whole_market=frozenset(_WHOLE_MARKET),
        exchanges=_EXCHANGES,
        asset_types=_ALL,
        published=_DAY_READY,
        reports_suspensions=True,
    ),
    **{
        n: Offer(exchanges=_EXCHANGES, asset_types=frozenset({"stock", "index"}), published=_DAY_READY)
        for n in ("bar_1w", "bar_1mo")
    },
    **{n: Offer(exchanges=_EXCHANGES, published=_MINUTES_READY) for n in _BARS_A_SESSION},
    "adj_factor": Offer(exchanges=_EXCHANGES, published=_FACTORS_READY),
    "daily_basic": Offer(
        whole_market=frozenset({"stock"}), exchanges=_EXCHANGES, published=_DAY_READY, reports_suspensions=True
    ),
}


@dataclass(frozen=True, slots=True)
class Query:
    """One function of the package. ``pages`` is what it should cost in calls."""

    function: str
    arguments: Mapping[str, str]
    layout: Layout
    symbol: Symbol | None = None
    pages: int = 1

    @property
    def columns(self) -> list[str]:
        """The columns that must come. Without tradestatus a suspended session would look like a bar."""
        if "fields" in self.arguments:
            return self.arguments["fields"].split(",")
        more = {layouts.DAILY.name: ["tradestatus"], layouts.BASIC.name: ["tradestatus"]}
        more |= {layouts.INSTRUMENTS.name: ["type", "status"], layouts.INDUSTRIES.name: ["industry"]}
        return [c.names[0] for c in self.layout.columns.values()] + more.get(self.layout.name, [])


def plan(request: Request) -> Iterator[Query]:
    """The queries that answer ``request``. Raises Unsupported."""
    name, window = request.dataset.name, request.window
    first, last = str(max(window.start, _FIRST_DAY)), str(window.last)
    offer = OFFERS.get(name)
    if offer is None:
        raise Unsupported(f"baostock has no {name}")
    if name == "instrument":
        yield Query("query_stock_basic", {}, layouts.INSTRUMENTS, pages=5)
    elif name == "calendar":
        pages = 1 + (window.end - window.start).days // _PAGE
        yield Query("query_trade_dates", {"start_date": first, "end_date": last}, layouts.CALENDARS, pages=pages)
    elif name == "industry":
        yield Query("query_stock_industry", {}, layouts.INDUSTRIES, pages=4)
    elif name == "index_weight":
        for index, function in _MEMBERS.items():
            yield Query(function, {}, layouts.members(index))
    elif not request.symbols:
        yield _whole_market(request, offer)
    for symbol in request.symbols:
        kind = symbols.asset_type_of(symbol)
        if kind not in offer.asset_types:
            raise Unsupported(f"baostock has no {name} of {symbol} ({kind})")
        yield _by_symbol(name, symbol, kind, first, last, window)


def _whole_market(request: Request, offer: Offer) -> Query:
    if request.asset_type not in offer.whole_market or (request.window.end - request.window.start).days > 1:
        raise Unsupported(f"baostock gives {request.dataset} by symbol only, or of one session")
    layout = layouts.DAILY if request.dataset.name == "bar_1d" else layouts.BASIC
    return Query(_WHOLE_MARKET[request.asset_type], {"date": str(request.window.start)}, layout)


def _by_symbol(name: str, symbol: Symbol, kind: str, first: str, last: str, window: Window) -> Query:
    code = symbols.to_baostock(symbol)  # Unsupported for Beijing
    if name == "adj_factor":  # the event in force at the window's start lies before it
        arguments = {"code": code, "start_date": str(_FIRST_DAY), "end_date": last}
        return Query("query_adjust_factor", arguments, layouts.FACTORS, symbol)
    match name:
        case "bar_1d":
            fields, layout = (_INDEX_FIELDS if kind == "index" else _DAILY_FIELDS), layouts.DAILY
        case "daily_basic":
            fields, layout = _BASIC_FIELDS, layouts.BASIC
        case "bar_1w" | "bar_1mo":
            fields, layout = _PERIOD_FIELDS, layouts.PERIODS[name]
        case _:
            fields, layout = _MINUTE_FIELDS, layouts.MINUTES[name]
    arguments = {
        "code": code,
        "fields": fields,
        "start_date": first,
        "end_date": last,
        "frequency": _FREQUENCIES[name],
        "adjustflag": _RAW_PRICES,
    }
    years = (window.end - window.start).days / 365
    rows = years * _SESSIONS_A_YEAR * _BARS_A_SESSION.get(name, 1)
    return Query("query_history_k_data_plus", arguments, layout, symbol, pages=1 + int(rows) // _PAGE)


class Baostock:
    """See ports.Source."""

    name = "baostock"
    family = "baostock"
    offers = OFFERS
    concurrency = 1  # several connections get an address black-listed

    def __init__(
        self,
        *,
        endpoint: str | None = None,
        api_key: str | None = None,
        budget: Budget = BUDGET,
        pacing: Path | None = None,
        deadline: float = 60.0,
        clock: Callable[[], datetime] = utc_now,
    ) -> None:
        self._clock = clock
        self._deadline = deadline
        self._pacer = Pacer(self.name, budget, path=pacing, clock=clock)
        prepare = {
            "endpoint": endpoint,
            "api_key": api_key,
            "timeout": max(1.0, min(_SOCKET_SECONDS, deadline / 2)),
            "pause": budget.spacing_seconds,
        }
        self._lane = Lane(self.name, setup=Setup(_PREPARE, prepare), secrets=[api_key] if api_key else ())

    @property
    def rates(self) -> Sequence[Rate]:
        """As Source.rates."""
        return self._pacer.budget.rates

    def pace(self, pace: Pace) -> None:
        """As Paced.pace; the pause between the pages of one answer is the lane's, from its start to its end."""
        self._pacer.pace(pace)

    async def fetch(self, request: Request) -> AsyncIterator[Frame]:
        """As Source.fetch. Suspended sessions come as suspension frames."""
        for query in plan(request):
            answer = await self._ask(query)
            for frame in self._read(query, answer):
                yield frame  # a row outside the window too: it is for the check to say what is wrong with it

    def calls(self, request: Request) -> int:
        """As Source.calls."""
        return sum(query.pages for query in plan(request))

    async def probe(self) -> None:
        """As Source.probe."""
        week = {"start_date": "2025-02-03", "end_date": "2025-02-07"}
        await self._ask(Query("query_trade_dates", week, layouts.CALENDARS))

    def status(self) -> SourceStatus:
        """Budget left, what is closed, last success and failure."""
        return self._pacer.status()

    def listen(self, told: Told) -> None:
        """Have each call told as it ends."""
        self._pacer.told = told

    async def aclose(self) -> None:
        """As Source.aclose."""
        if self._lane.pid is not None and not self._lane.busy:
            try:
                await self._lane.call(_LOGOUT, {}, deadline=2.0)
                self._pacer.charge(1)
            except IngestError as exc:
                log.info("logout.failed", reason=str(exc))
        await self._lane.aclose()
        self._pacer.close()

    async def _ask(self, query: Query) -> LaneAnswer:
        arguments = {"function": query.function, "arguments": dict(query.arguments), "columns": query.columns}

        async def once() -> LaneAnswer:
            return await self._lane.call(_FETCH, arguments, deadline=self._deadline)

        answer = await self._pacer.run(once, within=max(self._deadline / 2, _RETRY_SECONDS))
        match answer.value:
            case {"calls": int(calls)}:
                self._pacer.charge(calls - 1)  # the login and the pages after the first
        return answer

    def _read(self, query: Query, answer: LaneAnswer) -> list[Frame]:
        raw = answer.rows
        if "adjustflag" in raw.schema.names:
            others = [
                f for f in pc.unique(to_text(raw.column("adjustflag"))).to_pylist() if f not in (_RAW_PRICES, "", None)
            ]
            if others:
                raise Malformed(f"baostock {query.function}: raw prices were asked for, adjustflag {others[0]} came")
        if query.layout is layouts.INDUSTRIES:  # stocks that nobody has classified yet have no row to give
            raw = raw.filter(pc.not_equal(raw.column("industry"), ""))
        frames = normalize(query.layout, raw, source=self.name, fetched_at=self._clock())
        for frame in frames if query.symbol is not None else ():
            wrong = pc.unique(frame.rows.column("symbol")).drop_null().to_pylist()
            if wrong not in ([], [str(query.symbol)]):
                raise Malformed(f"baostock: {query.symbol} was asked for, {wrong[0]} came")
        return frames


def open_baostock(settings: Settings, *, clock: Callable[[], datetime] = utc_now) -> Baostock:
    """Baostock by the settings."""
    key = settings.baostock_api_key.get_secret_value() if settings.baostock_api_key is not None else None
    unpaced = settings.pacing == "none" and settings.baostock_endpoint is not None
    return Baostock(
        endpoint=settings.baostock_endpoint,
        api_key=key or None,
        budget=UNPACED if unpaced else BUDGET,
        pacing=settings.state_dir / "pacing.sqlite",
        deadline=settings.call_deadline_seconds,
        clock=clock,
    )
