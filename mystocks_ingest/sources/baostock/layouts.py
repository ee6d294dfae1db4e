"""Baostock's tables and how they are read: every cell a text, '' for null, shares and yuan, turnover in percent.

Suspended sessions are rows with ``tradestatus`` 0 that repeat the previous close; they become suspensions.
"""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc

from mystocks_ingest.market import symbols
from mystocks_ingest.market.cells import to_text
from mystocks_ingest.market.datasets import (
    ADJ_FACTOR,
    BAR_1D,
    CALENDAR,
    DAILY_BASIC,
    DATASETS,
    INDEX_WEIGHT,
    INDUSTRY,
    INSTRUMENT,
)
from mystocks_ingest.market.frames import Symbol
from mystocks_ingest.market.layout import Column, Layout, Read

MINUTES_OFFERED = ("5m", "15m", "30m", "60m")
_SYMBOL = {"symbol": Column(("code",), Read.SYMBOL)}
_DAY = {"trade_date": Column(("date",), Read.DAY)}
_BAR = {
    **{name: Column((name,), Read.PRICE) for name in ("open", "high", "low", "close")},
    "volume": Column(("volume",), Read.COUNT),
    "amount": Column(("amount",), Read.AMOUNT),
}


def _untraded(raw: pa.RecordBatch) -> pa.Array:
    """Rows of suspended sessions; an index has no such column."""
    if "tradestatus" not in raw.schema.names:
        return pa.repeat(pa.scalar(False), raw.num_rows)
    return pc.equal(to_text(raw.column("tradestatus")), "0")


DAILY = Layout(
    "baostock daily",
    BAR_1D,
    {
        **_SYMBOL,
        **_DAY,
        **_BAR,
        "pre_close": Column(("preclose",), Read.PRICE),
        "turnover": Column(("turn",), Read.NUMBER),
    },
    signature=frozenset({"date", "code", "open", "high", "low", "close", "preclose", "volume", "amount"}),
    suspended=_untraded,
)
PERIODS = {
    name: Layout(
        f"baostock {name}",
        DATASETS[name],
        {**_SYMBOL, **_DAY, **_BAR, "turnover": Column(("turn",), Read.NUMBER)},
        signature=frozenset({"date", "code", "open", "high", "low", "close", "volume", "amount", "frequency"}),
    )
    for name in ("bar_1w", "bar_1mo")
}
MINUTES = {
    f"bar_{interval}": Layout(
        f"baostock {interval}",
        DATASETS[f"bar_{interval}"],
        {**_SYMBOL, "bar_time": Column(("time",), Read.TIME), **_BAR},
        signature=frozenset({"date", "time", "code", "open", "high", "low", "close", "volume", "amount"}),
    )
    for interval in MINUTES_OFFERED
}
BASIC = Layout(
    "baostock valuations",
    DAILY_BASIC,
    {
        **_SYMBOL,
        **_DAY,
        "turnover": Column(("turn",), Read.NUMBER),
        "pe_ttm": Column(("peTTM",), Read.NUMBER),
        "pb": Column(("pbMRQ",), Read.NUMBER),
        "ps_ttm": Column(("psTTM",), Read.NUMBER),
    },
    signature=frozenset({"date", "code", "turn", "peTTM", "pbMRQ", "psTTM"}),
    suspended=_untraded,
)
FACTORS = Layout(
    "baostock adjust_factor",
    ADJ_FACTOR,
    {
        **_SYMBOL,
        "trade_date": Column(("dividOperateDate",), Read.DAY),
        "factor": Column(("backAdjustFactor",), Read.NUMBER),
    },
    signature=frozenset({"code", "dividOperateDate", "backAdjustFactor"}),
)
CALENDARS = Layout(
    "baostock trade_dates",
    CALENDAR,
    {"trade_date": Column(("calendar_date",), Read.DAY), "is_open": Column(("is_trading_day",), Read.FLAG)},
    signature=frozenset({"calendar_date", "is_trading_day"}),
    constants={"exchange": "SH"},  # the stock exchanges share their sessions
)

_TYPES = {"1": "stock", "2": "index", "4": "bond", "5": "etf"}  # 3 is "other": the code's shape decides


def _what_it_is(out: Mapping[str, pa.Array], raw: pa.RecordBatch) -> Mapping[str, pa.Array]:
    """Exchange, asset type and status; one row an instrument, a few thousand in all."""
    named = out["symbol"].to_pylist()
    kinds = to_text(raw.column("type")).to_pylist()
    known = [Symbol(s) if s is not None else None for s in named]
    listed = pc.equal(to_text(raw.column("status")), "1")
    return {
        "exchange": pa.array([symbols.exchange_of(s) if s else None for s in known], pa.string()),
        "asset_type": pa.array(
            [_TYPES.get(k) or (symbols.asset_type_of(s) if s else None) for k, s in zip(kinds, known, strict=True)],
            pa.string(),
        ),
        "status": pc.if_else(listed, "L", "D"),
    }


INSTRUMENTS = Layout(
    "baostock stock_basic",
    INSTRUMENT,
    {
        **_SYMBOL,
        "name": Column(("code_name",), Read.TEXT),
        "list_date": Column(("ipoDate",), Read.DAY),
        "delist_date": Column(("outDate",), Read.DAY),
    },
    signature=frozenset({"code", "code_name", "ipoDate", "outDate", "type", "status"}),
    derive=_what_it_is,
)


def _classified(_: Mapping[str, pa.Array], raw: pa.RecordBatch) -> Mapping[str, pa.Array]:
    """``J66货币金融服务`` is a code of the CSRC's classification and a name."""
    text = to_text(raw.column("industry"))
    parts = pc.extract_regex(text, r"^(?P<code>[A-Z]\d*)?(?P<name>.*)$")
    code = pc.struct_field(parts, "code")
    return {
        "code": pc.if_else(pc.equal(code, ""), None, code),
        "industry": pc.struct_field(parts, "name"),
        "level": pa.repeat(pa.scalar(1, pa.int32()), raw.num_rows),
    }


INDUSTRIES = Layout(
    "baostock stock_industry",
    INDUSTRY,
    {**_SYMBOL, "start_date": Column(("updateDate",), Read.DAY)},
    signature=frozenset({"updateDate", "code", "industry", "industryClassification"}),
    constants={"standard": "CSRC"},
    derive=_classified,
)


def members(index: str) -> Layout:
    """The table of one index's members; Baostock gives no weights."""
    return Layout(
        f"baostock members of {index}",
        INDEX_WEIGHT,
        {**_SYMBOL, "trade_date": Column(("updateDate",), Read.DAY)},
        signature=frozenset({"updateDate", "code", "code_name"}),
        constants={"index_symbol": index},
    )


# Members are not among them: a file of members does not say of which index.
LAYOUTS = (DAILY, *PERIODS.values(), *MINUTES.values(), BASIC, FACTORS, CALENDARS, INSTRUMENTS, INDUSTRIES)
