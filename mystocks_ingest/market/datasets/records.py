"""The other datasets of the five categories: books and limits, classifications, derived values, trading, settings."""

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
    text,
)

DEPTH = Dataset(
    "depth",
    Category.MARKET,
    ("symbol", "ts"),
    (SYMBOL, Field("ts", TIME, required=True), *levels(10), *ORIGIN),
    time="ts",
)
LIMIT_PRICE = Dataset(
    "limit_price",
    Category.MARKET,
    ("symbol", "trade_date"),
    (
        SYMBOL,
        Field("trade_date", DAY, required=True),
        Field("pre_close", F64, "CNY"),
        Field("up_limit", F64, "CNY", required=True),
        Field("down_limit", F64, "CNY", required=True),
        *ORIGIN,
    ),
    time="trade_date",
)
LIMIT_STATE = Dataset(
    "limit_state",
    Category.MARKET,
    ("symbol", "trade_date", "state"),
    (
        SYMBOL,
        Field("trade_date", DAY, required=True),
        text("state", "up or down", required=True),
        Field("ts", TIME, "of the quote that shows it", required=True),
        Field("first_at", TIME, "when the limit was first reached"),
        Field("sealed", BOOL, "true: at the limit, false: it has left it"),
        Field("price", F64, "CNY, the limit"),
        *ORIGIN,
    ),
    time="trade_date",
)
EXCHANGE = Dataset(
    "exchange",
    Category.REFERENCE,
    ("exchange",),
    (
        text("exchange", "SH, SZ, BJ; CFFEX, SHFE, ...", required=True),
        text("name"),
        text("time_zone", "Asia/Shanghai"),
        text("sessions", "09:30-11:30,13:00-15:00"),
        *ORIGIN,
    ),
)
INDUSTRY = Dataset(
    "industry",
    Category.REFERENCE,
    ("symbol", "standard", "level", "start_date"),
    (
        SYMBOL,
        text("standard", "whose classification: CSRC, SW2021, CITIC", required=True),
        Field("level", pa.int32(), "1 is the widest", required=True),
        text("code"),
        text("industry", required=True),
        Field("start_date", DAY, "a member from this day on; of a snapshot, its day", required=True),
        Field("end_date", DAY, "null: still a member"),
        *ORIGIN,
    ),
)
INDEX_WEIGHT = Dataset(
    "index_weight",
    Category.REFERENCE,
    ("index_symbol", "trade_date", "symbol"),
    (
        text("index_symbol", required=True),
        Field("trade_date", DAY, required=True),
        SYMBOL,
        Field("weight", F64, "%; null where the source lists members only"),
        *ORIGIN,
    ),
    time="trade_date",
)
FUTURES_CONTRACT = Dataset(
    "futures_contract",
    Category.REFERENCE,
    ("symbol",),
    (
        SYMBOL,
        text("name"),
        text("exchange", required=True),
        text("product", "IF of IF2412", required=True),
        Field("multiplier", F64, "CNY per point, or units of the good per lot"),
        text("quote_unit"),
        Field("list_date", DAY),
        Field("last_trade_date", DAY),
        Field("delivery_date", DAY),
        text("delivery_mode", "cash or physical"),
        *ORIGIN,
    ),
)
FINANCIAL = Dataset(
    "financial",
    Category.DERIVED,
    ("symbol", "period_end", "statement", "report_type", "item"),
    (
        SYMBOL,
        Field("period_end", DAY, required=True),
        text("statement", "income, balance, cash_flow, indicator", required=True),
        text("report_type", "1 consolidated; the vendor's number otherwise", required=True),
        text("item", "the vendor's own name of the line", required=True),
        Field("value", F64, "CNY, CNY per share or %, as the item says"),
        Field("announced_on", DAY),
        Field("corrected", BOOL, "true where it replaces an earlier announcement"),
        *ORIGIN,
    ),
    time="period_end",
)
FACTOR = Dataset(
    "factor",
    Category.DERIVED,
    ("symbol", "trade_date", "name"),
    (
        SYMBOL,
        Field("trade_date", DAY, required=True),
        text("name", "sma_20, momentum_60, a model's output", required=True),
        Field("value", F64),
        *ORIGIN,
    ),
    time="trade_date",
)
SIGNAL = Dataset(
    "signal",
    Category.DERIVED,
    ("strategy", "symbol", "ts"),
    (
        text("strategy", required=True),
        SYMBOL,
        Field("ts", TIME, required=True),
        text("side", "B buy, S sell, N flat", required=True),
        Field("strength", F64, "0 to 1"),
        *ORIGIN,
    ),
    time="ts",
)
_ACCOUNT, _AT = text("account", required=True), Field("ts", TIME, required=True)
_SIDE = text("side", "B buy, S sell", required=True)
ORDER = Dataset(
    "order",
    Category.TRANSACTION,
    ("account", "order_id"),
    (
        *(_ACCOUNT, text("order_id", required=True), _AT, text("strategy"), SYMBOL, _SIDE),
        Field("price", F64, "CNY; null for a market order"),
        Field("volume", I64, "shares", required=True),
        Field("filled_volume", I64, "shares"),
        Field(
            "status",
            TEXT,
            "new, partial, filled, cancelled, rejected",
            required=True,
            first=("new",),
            last=("filled", "cancelled", "rejected"),
        ),
        Field("updated_at", TIME, "of this state"),
    ),
    time="ts",
    newest_by=("updated_at", "ts", "status", "filled_volume"),
)
FILL = Dataset(
    "fill",
    Category.TRANSACTION,
    ("account", "fill_id"),
    (
        *(_ACCOUNT, text("fill_id", required=True), text("order_id", required=True), _AT, SYMBOL, _SIDE),
        Field("price", F64, "CNY", required=True),
        Field("volume", I64, "shares", required=True),
        Field("amount", F64, "CNY"),
        Field("fee", F64, "CNY"),
    ),
    time="ts",
)
POSITION = Dataset(
    "position",
    Category.TRANSACTION,
    ("account", "symbol", "ts"),
    (
        *(_ACCOUNT, SYMBOL, _AT),
        Field("volume", I64, "shares, negative when short", required=True),
        Field("available_volume", I64, "shares that may be sold today"),
        Field("cost", F64, "CNY per share"),
        Field("value", F64, "CNY"),
    ),
    time="ts",
)
ACCOUNT = Dataset(
    "account",
    Category.TRANSACTION,
    ("account", "ts"),
    (_ACCOUNT, _AT, *(Field(n, F64, "CNY") for n in ("cash", "available", "margin", "equity"))),
    time="ts",
)
_NAME = text("name", required=True)
DATA_SOURCE = Dataset(
    "data_source",
    Category.META,
    ("name",),
    (
        *(_NAME, text("family"), text("status"), Field("last_success_at", TIME), Field("last_failure_at", TIME)),
        Field("quality", F64, "% of rows that passed the check"),
        text("detail"),
    ),
)
ETL_JOB = Dataset(
    "etl_job",
    Category.META,
    ("run_id", "name"),
    (
        *(text("run_id", required=True), _NAME, text("dataset"), text("source")),
        *(Field("started_at", TIME, required=True), Field("ended_at", TIME)),
        *(text("status", required=True), Field("row_count", I64), text("message")),
    ),
    time="started_at",
)
STRATEGY_PARAM = Dataset(
    "strategy_param",
    Category.META,
    ("strategy", "name"),
    (text("strategy", required=True), _NAME, text("value", "JSON"), Field("updated_at", TIME)),
    newest_by=("updated_at",),
)
SETTING = Dataset(
    "setting",
    Category.META,
    ("name",),
    (_NAME, text("value"), Field("secret", BOOL, "true: the value is encrypted"), Field("updated_at", TIME)),
    newest_by=("updated_at",),
)
