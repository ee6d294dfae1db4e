"""The datasets of the main job: instruments, calendar, bars, factors, ratios, quotes, ticks."""

from __future__ import annotations

import pyarrow as pa

from mystocks_ingest.market.datasets.kinds import (
    BOOL,
    DAY,
    F64,
    I64,
    ORIGIN,
    SYMBOL,
    TEXT,
    TIME,
    Category,
    Dataset,
    Field,
    levels,
)

_OHLC = tuple(Field(n, F64, "CNY", required=True) for n in ("open", "high", "low", "close"))
_TRADED = (Field("volume", I64, "shares", required=True), Field("amount", F64, "CNY"))


def daily_bar(name: str, interval: str) -> Dataset:
    return Dataset(
        name,
        Category.MARKET,
        ("symbol", "trade_date"),
        (
            SYMBOL,
            Field("trade_date", DAY, required=True),
            *_OHLC,
            Field("pre_close", F64, "CNY, the exchange's reference price: ex-right on ex-right days"),
            *_TRADED,
            Field("turnover", F64, "%"),
            Field("provisional", BOOL, "true until the close gate has passed", required=True),
            *ORIGIN,
        ),
        time="trade_date",
        interval=interval,
    )


def minute_bar(interval: str) -> Dataset:
    return Dataset(
        f"bar_{interval}",
        Category.MARKET,
        ("symbol", "bar_time"),
        (
            SYMBOL,
            Field("bar_time", TIME, "end of the bar", required=True),
            *(Field(n, F64, "CNY", required=n != "open") for n in ("open", "high", "low", "close")),
            *_TRADED,
            Field("provisional", BOOL, required=True),
            *ORIGIN,
        ),
        time="bar_time",
        interval=interval,
    )


INSTRUMENT = Dataset(
    "instrument",
    Category.REFERENCE,
    ("symbol",),
    (
        SYMBOL,
        Field("name", TEXT),
        Field("exchange", TEXT, required=True),
        Field("asset_type", TEXT, "stock, index, etf, bond, future", required=True),
        Field("status", TEXT, "L listed, D delisted, P paused", required=True),
        Field("list_date", DAY),
        Field("delist_date", DAY),
        Field("industry", TEXT),
        Field("area", TEXT),
        *ORIGIN,
    ),
)
CALENDAR = Dataset(
    "calendar",
    Category.REFERENCE,
    ("exchange", "trade_date"),
    (
        Field("exchange", TEXT, required=True),
        Field("trade_date", DAY, required=True),
        Field("is_open", BOOL, required=True),
        *ORIGIN,
    ),
    time="trade_date",
)
SUSPENSION = Dataset(
    "suspension",
    Category.REFERENCE,
    ("symbol", "trade_date"),
    (SYMBOL, Field("trade_date", DAY, required=True), Field("timing", TEXT, "null: the whole session"), *ORIGIN),
    time="trade_date",
)
BAR_1D = daily_bar("bar_1d", "1d")
ADJ_FACTOR = Dataset(
    "adj_factor",
    Category.DERIVED,
    ("symbol", "trade_date", "source"),  # factors of two sources never mix in one series
    (
        SYMBOL,
        Field("trade_date", DAY, "in force from this session on", required=True),
        Field("factor", F64, "cumulative back-adjustment factor", required=True),
        *ORIGIN,
    ),
    time="trade_date",
)
DAILY_BASIC = Dataset(
    "daily_basic",
    Category.DERIVED,
    ("symbol", "trade_date"),
    (
        SYMBOL,
        Field("trade_date", DAY, required=True),
        Field("turnover", F64, "%"),
        Field("turnover_free", F64, "% of the free float"),
        Field("volume_ratio", F64, "times"),
        *(Field(n, F64, "times") for n in ("pe", "pe_ttm", "pb", "ps", "ps_ttm")),
        Field("dividend_yield", F64, "%"),
        Field("dividend_yield_ttm", F64, "%"),
        *(Field(n, F64, "shares") for n in ("total_shares", "float_shares", "free_shares")),
        *(Field(n, F64, "CNY") for n in ("total_value", "float_value")),
        *ORIGIN,
    ),
    time="trade_date",
)
QUOTE = Dataset(
    "quote",
    Category.MARKET,
    ("symbol", "ts"),
    (
        SYMBOL,
        Field("ts", TIME, "the exchange's time where the vendor gives it, else the time of receipt", required=True),
        Field("last", F64, "CNY"),
        *(Field(n, F64, "CNY") for n in ("open", "high", "low", "pre_close")),
        Field("volume", I64, "shares since the open"),
        Field("amount", F64, "CNY since the open"),
        *levels(5),
        *ORIGIN,
    ),
    time="ts",
)
TICK = Dataset(
    "tick",
    Category.MARKET,
    ("symbol", "ts", "seq"),
    (
        SYMBOL,
        Field("ts", TIME, required=True),
        Field("seq", pa.int32(), "0, 1, ... within one time stamp, in the vendor's order", required=True),
        Field("price", F64, "CNY", required=True),
        Field("volume", I64, "shares", required=True),
        Field("amount", F64, "CNY"),
        Field("side", TEXT, "B buyer-, S seller-initiated, N neutral"),
        *ORIGIN,
    ),
    time="ts",
)
