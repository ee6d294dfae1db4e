"""What each host family offers through akshare, how fast it may be asked, and the questions a request becomes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from mystocks_ingest.errors import Unsupported
from mystocks_ingest.market import symbols
from mystocks_ingest.market.datasets import BAR_1D, INSTRUMENT, SHANGHAI, TICK
from mystocks_ingest.market.frames import Request, Symbol
from mystocks_ingest.market.layout import Column, Layout, Read
from mystocks_ingest.ports import Offer, Rate
from mystocks_ingest.sources.akshare import layouts

_SPOT_CALLS = 60  # pages of 100 for some 5,600 stocks
_SPOT_FROM = 30  # from so many symbols on, one snapshot of all is kinder than a call each
_PERIODS = {"bar_1d": "daily", "bar_1w": "weekly", "bar_1mo": "monthly"}
_MINUTES = {"bar_1m": "1", "bar_5m": "5", "bar_15m": "15", "bar_30m": "30", "bar_60m": "60"}
_EVERYTHING = frozenset({"stock", "etf", "index"})
_LISTED = frozenset({"stock", "etf"})
_NO_BEIJING = frozenset({"SH", "SZ"})
_EXCHANGES = _NO_BEIJING | {"BJ"}
AUCTION = time(9, 25)


@dataclass(frozen=True, slots=True)
class Question:
    """One akshare call and how its answer is read. ``calls`` is what it costs of the family's budget."""

    function: str
    arguments: Mapping[str, str | float]
    layout: Layout
    symbol: Symbol | None = None
    day: date | None = None
    calls: int = 1


@dataclass(frozen=True, slots=True)
class Family:
    """One host family: what it offers, how fast it may be asked, and the questions a request becomes."""

    name: str
    family: str
    offers: Mapping[str, Offer]
    rates: tuple[Rate, ...]
    questions: Callable[[Request, datetime], Iterator[Question]]
    probe: Question
    deadline: float = 60.0
    spacing: float = 1.0  # least seconds between two calls

    def at_once(self, request: Request) -> bool:
        """Whether one snapshot of the whole market answers a request for many symbols."""
        offer = self.offers.get(request.dataset.name)
        return offer is not None and "stock" in offer.whole_market and len(request.symbols) >= _SPOT_FROM


def _inclusive(request: Request, form: str) -> tuple[str, str]:
    return request.window.start.strftime(form), request.window.last.strftime(form)


def _one_session(request: Request, now: datetime) -> date:
    """The session that undated rows belong to: the latest one, which is all these functions can give."""
    if request.window.start != request.window.last:
        raise Unsupported(f"only the latest session's {request.dataset} can be asked for, not {request.window}")
    local = now.astimezone(ZoneInfo(SHANGHAI))
    if request.window.start == local.date() and local.time() < AUCTION:
        raise Unsupported(f"before the auction the vendor still shows the {request.dataset} rows of the day before")
    return request.window.start


# -- Eastmoney --------------------------------------------------------------------------------------------------


def _eastmoney(request: Request, now: datetime) -> Iterator[Question]:
    name = request.dataset.name
    if name == "quote" and (not request.symbols or len(request.symbols) >= _SPOT_FROM):
        yield Question("stock_zh_a_spot_em", {}, layouts.SPOT_EM, calls=_SPOT_CALLS)
        return
    for symbol in request.symbols:
        if name in _PERIODS:
            yield _kline(request, symbol)
        elif name in _MINUTES:
            yield _minutes(request, symbol)
        elif name == "quote":
            yield Question("stock_bid_ask_em", {"symbol": _by_first_digit(symbol)}, layouts.BID_ASK, symbol)
        else:
            day = _one_session(request, now)
            yield Question("stock_intraday_em", {"symbol": _by_first_digit(symbol)}, layouts.INTRADAY, symbol, day)


def _by_first_digit(symbol: Symbol) -> str:
    """The bare code for functions that take any code not starting with 6 for a Shenzhen one."""
    code, exchange = symbols.to_bare(symbol), symbols.exchange_of(symbol)
    if code.startswith("6") != (exchange == "SH"):
        raise Unsupported(f"akshare's stock functions would look for {symbol} on the wrong exchange")
    return code


def _fund_code(symbol: Symbol) -> str:
    """The bare code for fund functions, which tell the exchange by the first digit as well."""
    code = symbols.to_bare(symbol)
    if code.startswith(("5", "6")) != (symbols.exchange_of(symbol) == "SH"):
        raise Unsupported(f"akshare's fund functions would look for {symbol} on the wrong exchange")
    return code


def _kline(request: Request, symbol: Symbol) -> Question:
    start, end = _inclusive(request, "%Y%m%d")
    layout = replace(layouts.HIST, dataset=request.dataset)
    span: dict[str, str | float] = {"start_date": start, "end_date": end}
    history = {"period": _PERIODS[request.dataset.name], "adjust": "", **span}
    match symbols.asset_type_of(symbol):
        case "index" if request.dataset is BAR_1D:
            # not index_zh_a_hist: that one first downloads every list of indices to guess the exchange
            return Question(
                "stock_zh_index_daily_em", {"symbol": symbols.to_sina(symbol), **span}, layouts.INDEX_EM, symbol
            )
        case "stock":
            arguments = {"symbol": _by_first_digit(symbol), "timeout": 20.0, **history}
            return Question("stock_zh_a_hist", arguments, layout, symbol)
        case "etf":
            return Question("fund_etf_hist_em", {"symbol": _fund_code(symbol), **history}, layout, symbol)
        case other:
            raise Unsupported(f"akshare gives no {request.dataset} of {symbol} ({other})")


def _minutes(request: Request, symbol: Symbol) -> Question:
    start, end = _inclusive(request, "%Y-%m-%d")
    arguments: dict[str, str | float] = {
        "start_date": f"{start} 00:00:00",
        "end_date": f"{end} 23:59:59",
        "period": _MINUTES[request.dataset.name],
        "adjust": "",
    }
    layout = replace(layouts.MINUTE, dataset=request.dataset)
    match symbols.asset_type_of(symbol):
        case "stock":
            return Question("stock_zh_a_hist_min_em", {"symbol": _by_first_digit(symbol), **arguments}, layout, symbol)
        case "etf":
            return Question("fund_etf_hist_min_em", {"symbol": _fund_code(symbol), **arguments}, layout, symbol)
        case other:
            raise Unsupported(f"akshare gives no {request.dataset} of {symbol} ({other})")


EASTMONEY = Family(
    "akshare",
    "eastmoney",
    {
        "bar_1d": Offer(asset_types=_EVERYTHING, exchanges=_EXCHANGES | {"CSI"}, intraday=True),
        "bar_1w": Offer(asset_types=_LISTED, intraday=True),
        "bar_1mo": Offer(asset_types=_LISTED, intraday=True),
        "bar_1m": Offer(asset_types=_LISTED, latest_sessions=5, intraday=True),
        **{
            f"bar_{i}": Offer(asset_types=_LISTED, latest_sessions=30, intraday=True)
            for i in ("5m", "15m", "30m", "60m")
        },
        "quote": Offer(whole_market=frozenset({"stock"}), latest_sessions=1, intraday=True),
        "tick": Offer(latest_sessions=1),
    },
    (Rate(1, 1.0), Rate(40, 60.0)),
    _eastmoney,
    Question("stock_bid_ask_em", {"symbol": "600519"}, layouts.BID_ASK, Symbol("600519.SH")),
    deadline=300.0,  # a snapshot of the whole market is some sixty paged requests with pauses
)


# -- Sina -------------------------------------------------------------------------------------------------------


def _sina(request: Request, now: datetime) -> Iterator[Question]:
    match request.dataset.name:
        case "calendar":
            yield Question("tool_trade_date_hist_sina", {}, layouts.CALENDAR_SINA)
        case "quote":
            local = now.astimezone(ZoneInfo(SHANGHAI)).date()
            weekday = local - timedelta(days=max(0, local.weekday() - 4))  # stamps are times of day only
            yield Question("stock_zh_a_spot", {}, layouts.SPOT_SINA, day=weekday, calls=70)
        case "adj_factor":
            for symbol in request.symbols:
                arguments = {"symbol": symbols.to_sina(symbol), "adjust": "hfq-factor"}
                yield Question("stock_zh_a_daily", arguments, layouts.FACTOR_SINA, symbol)
        case _:
            start, end = _inclusive(request, "%Y%m%d")
            for symbol in request.symbols:
                arguments = {"symbol": symbols.to_sina(symbol), "start_date": start, "end_date": end, "adjust": ""}
                yield Question("stock_zh_a_daily", arguments, layouts.DAILY_SINA, symbol, calls=2)


SINA = Family(
    "akshare-sina",
    "sina",
    {
        "calendar": Offer(),
        "adj_factor": Offer(exchanges=_NO_BEIJING),
        "bar_1d": Offer(exchanges=_NO_BEIJING, published=time(16, 0)),
        "quote": Offer(by_symbol=False, whole_market=frozenset({"stock"}), latest_sessions=1, intraday=True),
    },
    (Rate(1, 1.0), Rate(30, 60.0)),
    _sina,
    Question("tool_trade_date_hist_sina", {}, layouts.CALENDAR_SINA),
    deadline=300.0,
)


# -- Tencent ----------------------------------------------------------------------------------------------------


def _tencent(request: Request, now: datetime) -> Iterator[Question]:
    for symbol in request.symbols:
        code = symbols.to_sina(symbol)
        if request.dataset is TICK:
            day = _one_session(request, now)
            yield Question("stock_zh_a_tick_tx_js", {"symbol": code}, layouts.TICK_TX, symbol, day, calls=70)
            continue
        if symbols.asset_type_of(symbol) != "stock":
            raise Unsupported(f"the unit of tencent's volumes is not known for {symbol}")
        start, end = _inclusive(request, "%Y-%m-%d")  # with dashes: otherwise akshare asks for every year since
        years = request.window.last.year - request.window.start.year + 2
        arguments: dict[str, str | float] = {"symbol": code, "start_date": start, "end_date": end, "timeout": 20.0}
        yield Question("stock_zh_a_hist_tx", arguments, _tencent_layout(code), symbol, calls=years)


def _tencent_layout(code: str) -> Layout:
    """Tencent sends lots for sz000xxx too, but akshare takes them for indices and leaves them so."""
    if not code.startswith("sz000"):
        return layouts.HIST_TX
    lots = Column(("volume",), Read.COUNT, 100)
    return replace(layouts.HIST_TX, columns={**layouts.HIST_TX.columns, "volume": lots})


TENCENT = Family(
    "akshare-tencent",
    "tencent",
    {
        "bar_1d": Offer(exchanges=_NO_BEIJING, published=time(16, 0)),
        "tick": Offer(exchanges=_NO_BEIJING, latest_sessions=1, published=time(16, 0)),
    },
    (Rate(1, 1.0), Rate(60, 60.0)),
    _tencent,
    Question(
        "stock_zh_a_hist_tx",
        {"symbol": "sh600519", "start_date": "2024-01-02", "end_date": "2024-01-05", "timeout": 20.0},
        layouts.HIST_TX,
        Symbol("600519.SH"),
    ),
    deadline=300.0,
)


# -- the exchanges' own lists -----------------------------------------------------------------------------------


def _exchanges(_: Request, __: datetime) -> Iterator[Question]:
    """Delisted first: where a code stands in both lists, the later, listed row is kept."""
    yield Question("stock_info_sh_delist", {"symbol": "全部"}, layouts.SH_DELISTED)
    yield Question("stock_info_sz_delist", {"symbol": "终止上市公司"}, layouts.SZ_DELISTED)
    yield Question("stock_info_sh_name_code", {"symbol": "主板A股"}, layouts.SH_LIST)
    yield Question("stock_info_sh_name_code", {"symbol": "科创板"}, layouts.SH_LIST)
    yield Question("stock_info_sz_name_code", {"symbol": "A股列表"}, layouts.SZ_LIST)
    yield Question("stock_info_bj_name_code", {}, layouts.BJ_LIST, calls=20)


EXCHANGES = Family(
    "akshare-exchanges",
    "exchanges",
    {INSTRUMENT.name: Offer()},
    (Rate(1, 1.0),),
    _exchanges,
    Question("stock_info_sh_delist", {"symbol": "科创板"}, layouts.SH_DELISTED),
    deadline=120.0,
)
FAMILIES = {f.name: f for f in (EASTMONEY, SINA, TENCENT, EXCHANGES)}
