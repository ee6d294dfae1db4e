"""Tushare's tables and how they are read.

``vol`` is lots and ``amount`` thousands of yuan in daily tables, shares and yuan in minute and realtime ones;
valuations count in units of ten thousand.

``ah_vol`` and ``ah_amount`` (after-hours trading at the fixed price, since 2026-07-06) are left out on purpose: they
are not part of ``vol`` and ``amount``, and no other vendor's volume has them, so adding them would make bars of two
sources differ. They never arrive, because every call names its fields.
"""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

from mystocks_ingest.market.cells import decimals
from mystocks_ingest.market.datasets import (
    ADJ_FACTOR,
    BAR_1D,
    CALENDAR,
    DAILY_BASIC,
    DATASETS,
    INSTRUMENT,
    MINUTE_INTERVALS,
    QUOTE,
    SUSPENSION,
)
from mystocks_ingest.market.layout import Column, Layout, Read

_LOT = 100
_THOUSAND = 1_000
_TEN_THOUSAND = 10_000
_SYMBOL = {"symbol": Column(("ts_code",), Read.SYMBOL)}
_DAY = {"trade_date": Column(("trade_date",), Read.DAY)}
_PRICES = {name: Column((name,), Read.PRICE) for name in ("open", "high", "low", "close")}
_BAR = frozenset({"ts_code", "trade_date", "open", "high", "low", "close", "pre_close", "vol", "amount"})


def _number(*names: str, scale: float = 1.0) -> Column:
    return Column(names, Read.NUMBER, scale)


DAILY = Layout(
    "tushare daily",
    BAR_1D,
    {
        **_SYMBOL,
        **_DAY,
        **_PRICES,
        "pre_close": Column(("pre_close",), Read.PRICE),
        "volume": Column(("vol",), Read.COUNT, _LOT),
        "amount": Column(("amount",), Read.AMOUNT, _THOUSAND),
    },
    signature=_BAR | {"change", "pct_chg"},
)


def _proven_units(out: Mapping[str, pa.Array], raw: pa.RecordBatch) -> Mapping[str, pa.Array]:
    """Weekly and monthly units are documented nowhere: lots and thousands, unless only shares and yuan can be.

    The average price tells: amount over volume lies between low and high in the true unit, and is off by ten in
    the other.
    """
    vol, amount = raw.column("vol").cast(pa.float64()), raw.column("amount").cast(pa.float64())
    low, high = out["low"], out["high"]
    plain = pc.divide(amount, pc.if_else(pc.equal(vol, 0.0), None, vol))
    fits = pc.and_(pc.greater_equal(plain, pc.multiply(low, 0.95)), pc.less_equal(plain, pc.multiply(high, 1.05)))
    share = pc.mean(fits.cast(pa.float64())).as_py()
    lot, thousand = (1, 1) if share is not None and share > 0.5 else (_LOT, _THOUSAND)
    return {
        "volume": pc.round(pc.multiply(vol, lot)).cast(pa.int64()),
        "amount": decimals(pc.multiply(amount, thousand), 2),
    }


def _period(name: str) -> Layout:
    columns = {k: c for k, c in DAILY.columns.items() if k not in ("volume", "amount")}
    return Layout(f"tushare {name}", DATASETS[name], columns, signature=_BAR | {"freq"}, derive=_proven_units)


PERIODS = {name: _period(name) for name in ("bar_1w", "bar_1mo")}

MINUTES = {
    f"bar_{interval}": Layout(
        f"tushare stk_mins {interval}",
        DATASETS[f"bar_{interval}"],
        {
            **_SYMBOL,
            "bar_time": Column(("trade_time",), Read.TIME),
            **_PRICES,
            "volume": Column(("vol",), Read.COUNT),
            "amount": Column(("amount",), Read.AMOUNT),
        },
        signature=frozenset({"ts_code", "trade_time", "open", "close", "high", "low", "vol", "amount"}),
    )
    for interval in MINUTE_INTERVALS
}

FACTORS = Layout(
    "tushare adj_factor",
    ADJ_FACTOR,
    {**_SYMBOL, **_DAY, "factor": _number("adj_factor")},
    signature=frozenset({"ts_code", "trade_date", "adj_factor"}),
)

BASIC = Layout(
    "tushare daily_basic",
    DAILY_BASIC,
    {
        **_SYMBOL,
        **_DAY,
        "turnover": _number("turnover_rate"),
        "turnover_free": _number("turnover_rate_f"),
        **{n: _number(n) for n in ("volume_ratio", "pe", "pe_ttm", "pb", "ps", "ps_ttm")},
        "dividend_yield": _number("dv_ratio"),
        "dividend_yield_ttm": _number("dv_ttm"),
        "total_shares": _number("total_share", scale=_TEN_THOUSAND),
        "float_shares": _number("float_share", scale=_TEN_THOUSAND),
        "free_shares": _number("free_share", scale=_TEN_THOUSAND),
        "total_value": _number("total_mv", scale=_TEN_THOUSAND),
        "float_value": _number("circ_mv", scale=_TEN_THOUSAND),
    },
    signature=frozenset({"ts_code", "trade_date", "turnover_rate", "pe", "pb", "total_mv"}),
)

SUSPENSIONS = Layout(
    "tushare suspend_d",
    SUSPENSION,
    {**_SYMBOL, **_DAY, "timing": Column(("suspend_timing",), Read.TEXT)},
    signature=frozenset({"ts_code", "trade_date", "suspend_timing", "suspend_type"}),
)

CALENDARS = Layout(
    "tushare trade_cal",
    CALENDAR,
    {"trade_date": Column(("cal_date",), Read.DAY), "is_open": Column(("is_open",), Read.FLAG)},
    signature=frozenset({"exchange", "cal_date", "is_open"}),
    constants={"exchange": "SH"},  # the stock exchanges share their sessions
)


def _exchange(out: Mapping[str, pa.Array], _: pa.RecordBatch) -> Mapping[str, pa.Array]:
    """The exchange stands behind the dot of the symbol."""
    return {"exchange": pc.list_element(pc.split_pattern(out["symbol"], ".", reverse=True, max_splits=1), 1)}


_INSTRUMENT = {
    **_SYMBOL,
    "name": Column(("name",), Read.TEXT),
    "list_date": Column(("list_date",), Read.DAY),
}
STOCKS = Layout(
    "tushare stock_basic",
    INSTRUMENT,
    {
        **_INSTRUMENT,
        "delist_date": Column(("delist_date",), Read.DAY),
        "status": Column(("list_status",), Read.TEXT),
        "industry": Column(("industry",), Read.TEXT),
        "area": Column(("area",), Read.TEXT),
    },
    signature=frozenset({"ts_code", "symbol", "name", "area", "industry", "list_date"}),
    constants={"asset_type": "stock"},
    derive=_exchange,
)
INDICES = Layout(
    "tushare index_basic",
    INSTRUMENT,
    _INSTRUMENT,
    signature=frozenset({"ts_code", "name", "market", "publisher", "category"}),
    constants={"asset_type": "index", "status": "L"},
    derive=_exchange,
    asset_type="index",
)
FUNDS = Layout(
    "tushare fund_basic",
    INSTRUMENT,
    {
        **_INSTRUMENT,
        "delist_date": Column(("delist_date",), Read.DAY),
        "status": Column(("status",), Read.TEXT),
    },
    signature=frozenset({"ts_code", "name", "fund_type", "found_date", "list_date", "status"}),
    constants={"asset_type": "etf"},
    derive=_exchange,
    asset_type="etf",
)

QUOTES = Layout(
    "tushare rt_k",
    QUOTE,
    {
        **_SYMBOL,
        "ts": Column(("trade_time",), Read.TIME),
        "last": Column(("close",), Read.PRICE),
        **{n: Column((n,), Read.PRICE) for n in ("open", "high", "low", "pre_close")},
        "volume": Column(("vol",), Read.COUNT),
        "amount": Column(("amount",), Read.AMOUNT),
        "bid_price1": Column(("bid_price1",), Read.PRICE),
        "bid_volume1": Column(("bid_volume1",), Read.COUNT),
        "ask_price1": Column(("ask_price1",), Read.PRICE),
        "ask_volume1": Column(("ask_volume1",), Read.COUNT),
    },
    signature=frozenset({"ts_code", "name", "pre_close", "close", "vol", "amount", "num"}),
)

LAYOUTS = (
    DAILY,
    *PERIODS.values(),
    *MINUTES.values(),
    FACTORS,
    BASIC,
    SUSPENSIONS,
    CALENDARS,
    STOCKS,
    INDICES,
    FUNDS,
    QUOTES,
)
