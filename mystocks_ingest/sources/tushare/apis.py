"""Which of tushare's APIs answers which request: names, row caps, parameters. Pure.

Windows are cut so that an answer stays below the silent cap; whether it did is checked on what arrives.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, time, timedelta

from mystocks_ingest.errors import Unsupported
from mystocks_ingest.market import symbols
from mystocks_ingest.market.datasets import MINUTE_INTERVALS
from mystocks_ingest.market.frames import Request, Symbol, Window
from mystocks_ingest.market.layout import Layout
from mystocks_ingest.ports import Offer
from mystocks_ingest.sources.tushare import layouts

_BAR_FIELDS = "ts_code,trade_date,open,high,low,close,pre_close,change,pct_chg,vol,amount"
_MINUTE_FIELDS = "ts_code,trade_time,open,close,high,low,vol,amount"
_BASIC_FIELDS = (
    "ts_code,trade_date,turnover_rate,turnover_rate_f,volume_ratio,pe,pe_ttm,pb,ps,ps_ttm,dv_ratio,dv_ttm,"
    "total_share,float_share,free_share,total_mv,circ_mv"
)
_STOCK_FIELDS = "ts_code,symbol,name,area,industry,market,exchange,list_status,list_date,delist_date"
_QUOTE_FIELDS = (
    "ts_code,name,pre_close,high,open,low,close,vol,amount,num,ask_price1,ask_volume1,bid_price1,bid_volume1,trade_time"
)
WHOLE_MARKET_CODES = "6*.SH,0*.SZ,3*.SZ,9*.BJ"
_SESSIONS_A_YEAR = 250
_FILL = 0.9  # of a cap that a cut window may reach
_BARS_A_SESSION = {"1m": 241, "5m": 49, "15m": 17, "30m": 9, "60m": 5}
_CLOSED = time(17, 0)  # tushare loads the day between 15 and 17 h


@dataclass(frozen=True, slots=True)
class Api:
    """One tushare API. ``cap`` is its silent row limit; None: not documented."""

    name: str
    layout: Layout
    fields: str
    cap: int | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """One query. ``window`` is what it can be split by when the cap is reached; None: it cannot."""

    api: Api
    params: Mapping[str, str]
    window: Window | None = None
    symbol: Symbol | None = None


_DAILY = {
    "stock": Api("daily", layouts.DAILY, _BAR_FIELDS, 6000),
    "index": Api("index_daily", layouts.DAILY, _BAR_FIELDS, 8000),
    "etf": Api("fund_daily", layouts.DAILY, _BAR_FIELDS, 5000),
}
_BY_DATASET: Mapping[str, Mapping[str, Api]] = {
    "bar_1d": _DAILY,
    "bar_1w": {
        "stock": Api("weekly", layouts.PERIODS["bar_1w"], _BAR_FIELDS, 6000),
        "index": Api("index_weekly", layouts.PERIODS["bar_1w"], _BAR_FIELDS, 1000),
    },
    "bar_1mo": {
        "stock": Api("monthly", layouts.PERIODS["bar_1mo"], _BAR_FIELDS, 4500),
        "index": Api("index_monthly", layouts.PERIODS["bar_1mo"], _BAR_FIELDS, 1000),
    },
    **{
        f"bar_{i}": {"stock": Api("stk_mins", layouts.MINUTES[f"bar_{i}"], _MINUTE_FIELDS, 8000)}
        for i in MINUTE_INTERVALS
    },
    "adj_factor": {
        "stock": Api("adj_factor", layouts.FACTORS, "ts_code,trade_date,adj_factor"),
        "etf": Api("fund_adj", layouts.FACTORS, "ts_code,trade_date,adj_factor", 2000),
    },
    "daily_basic": {"stock": Api("daily_basic", layouts.BASIC, _BASIC_FIELDS, 6000)},
    "suspension": {"stock": Api("suspend_d", layouts.SUSPENSIONS, "ts_code,trade_date,suspend_timing,suspend_type")},
    "quote": {"stock": Api("rt_k", layouts.QUOTES, _QUOTE_FIELDS, 6000)},
}
_CALENDAR = Api("trade_cal", layouts.CALENDARS, "exchange,cal_date,is_open")
_STOCKS = Api("stock_basic", layouts.STOCKS, _STOCK_FIELDS, 6000)
_INDICES = Api("index_basic", layouts.INDICES, "ts_code,name,market,publisher,category,list_date")
_FUNDS = Api("fund_basic", layouts.FUNDS, "ts_code,name,fund_type,found_date,list_date,delist_date,status", 15000)
PROBE = Call(_CALENDAR, {"exchange": "SSE", "start_date": "20250205", "end_date": "20250207"})

_STOCK, _STOCK_ETF, _ALL = frozenset({"stock"}), frozenset({"stock", "etf"}), frozenset({"stock", "index", "etf"})
OFFERS: Mapping[str, Offer] = {
    "instrument": Offer(by_symbol=False, whole_market=_ALL, asset_types=_ALL),
    "calendar": Offer(by_symbol=False, whole_market=_STOCK, asset_types=_ALL),
    "bar_1d": Offer(whole_market=_STOCK_ETF, rows_per_call=6000, asset_types=_ALL, published=_CLOSED),
    "bar_1w": Offer(
        whole_market=_STOCK, rows_per_call=6000, asset_types=frozenset({"stock", "index"}), published=_CLOSED
    ),
    "bar_1mo": Offer(
        whole_market=_STOCK, rows_per_call=4500, asset_types=frozenset({"stock", "index"}), published=_CLOSED
    ),
    **{f"bar_{i}": Offer(rows_per_call=8000, published=_CLOSED) for i in MINUTE_INTERVALS},
    "adj_factor": Offer(whole_market=_STOCK, asset_types=_STOCK_ETF, published=time(9, 30)),
    "daily_basic": Offer(whole_market=_STOCK, rows_per_call=6000, published=_CLOSED),
    "suspension": Offer(whole_market=_STOCK, published=_CLOSED),
    "quote": Offer(whole_market=_STOCK, symbols_per_call=500, rows_per_call=6000, latest_sessions=1, intraday=True),
}


def plan(request: Request) -> Iterator[Call]:
    """The calls that answer ``request``, oldest window first. Raises Unsupported."""
    match request.dataset.name:
        case "instrument":
            yield from _instruments()
        case "calendar":
            yield _calendar(request.window)
        case "quote":
            yield _quote(request)
        case name if name in _BY_DATASET and request.symbols:
            for symbol in request.symbols:
                yield from _windows(name, symbol, request.window)
        case name if name in _BY_DATASET:
            yield _whole_market(request)
        case name:
            raise Unsupported(f"tushare is not asked for {name}")


def split(call: Call) -> tuple[Call, Call] | None:
    """The call as two of half the window each; None when a day is the smallest there is."""
    window = call.window
    if window is None or (window.end - window.start).days < 2:
        return None
    middle = window.start + (window.end - window.start) // 2
    first, second = Window(window.start, middle), Window(middle, window.end)
    return dated(call, first), dated(call, second)


def _api(dataset: str, asset_type: str, what: object) -> Api:
    api = _BY_DATASET[dataset].get(asset_type)
    if api is None:
        raise Unsupported(f"tushare has no {dataset} of {what} ({asset_type})")
    return api


def _whole_market(request: Request) -> Call:
    name, asset_type = request.dataset.name, request.asset_type
    if asset_type not in OFFERS[name].whole_market:
        raise Unsupported(f"tushare gives {name} of {asset_type} by symbol only")
    api = _api(name, asset_type, "the whole market")
    params = {"trade_date": _text(request.window.last)}
    if name not in ("bar_1w", "bar_1mo") and (request.window.end - request.window.start).days > 1:
        raise Unsupported(f"tushare gives the whole market a session at a time, not {request.window}")
    if name == "suspension":
        params["suspend_type"] = "S"
    return Call(api, params)


def _windows(name: str, symbol: Symbol, window: Window) -> Iterator[Call]:
    api = _api(name, symbols.asset_type_of(symbol), symbol)
    params = {"ts_code": symbols.to_tushare(symbol)}
    if name == "suspension":
        params["suspend_type"] = "S"
    interval = name.removeprefix("bar_")
    if interval in _BARS_A_SESSION:
        params["freq"] = interval.replace("m", "min")
    call = Call(api, params, window, symbol)
    rows_a_year = _SESSIONS_A_YEAR * _BARS_A_SESSION.get(interval, 1)
    years = (window.end - window.start).days / 365
    parts = max(1, math.ceil(years * rows_a_year / (_FILL * (api.cap or 6000))))
    step = math.ceil((window.end - window.start).days / parts)
    start = window.start
    while start < window.end:
        end = min(start + timedelta(days=step), window.end)
        yield dated(call, Window(start, end))
        start = end


def dated(call: Call, window: Window) -> Call:
    """The call for another window."""
    if "freq" in call.params:
        days = {"start_date": f"{window.start} 09:00:00", "end_date": f"{window.last} 19:00:00"}
    else:
        days = {"start_date": _text(window.start), "end_date": _text(window.last)}
    return Call(call.api, {**call.params, **days}, window, call.symbol)


def _calendar(window: Window) -> Call:
    return dated(Call(_CALENDAR, {"exchange": "SSE"}), window)


def _instruments() -> Iterator[Call]:
    """Listed, delisted and paused separately: without ``list_status`` only the listed ones come."""
    for status in ("L", "D", "P"):
        yield Call(_STOCKS, {"exchange": "", "list_status": status})
    for market in ("SSE", "SZSE", "CSI"):
        yield Call(_INDICES, {"market": market})
    yield Call(_FUNDS, {"market": "E"})  # all that are traded on an exchange, whatever their status


def _quote(request: Request) -> Call:
    codes = ",".join(symbols.to_tushare(s) for s in request.symbols) or WHOLE_MARKET_CODES
    return Call(_BY_DATASET["quote"]["stock"], {"ts_code": codes})


def _text(day: date) -> str:
    return day.strftime("%Y%m%d")
