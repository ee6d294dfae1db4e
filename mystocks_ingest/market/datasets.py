"""Canonical datasets: one Arrow schema per kind of record, with its key, units and category.

Units never vary: prices in CNY per share (index: points), ``volume`` in shares, ``amount`` in CNY, ratios in
percent, market values in CNY, share counts in shares. Times are Asia/Shanghai; a bar is labelled by its end.
Prices are float64 rounded to four decimals, which a double holds exactly enough to give back every cent.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

import pyarrow as pa

from mystocks_ingest.errors import ConfigError

SHANGHAI = "Asia/Shanghai"
PRICE_DECIMALS = 4
AMOUNT_DECIMALS = 2


class Category(StrEnum):
    """The five classes of data; each dataset has exactly one."""

    MARKET = "market"
    REFERENCE = "reference"
    DERIVED = "derived"
    TRANSACTION = "transaction"
    META = "meta"


@dataclass(frozen=True, slots=True)
class Field:
    """One canonical column. ``required`` columns are never null in an accepted row."""

    name: str
    type: pa.DataType
    unit: str = ""
    required: bool = False


@dataclass(frozen=True)
class Dataset:
    """A kind of record. ``time`` is the column that places a row in time; ``interval`` is set for bars."""

    name: str
    category: Category
    key: tuple[str, ...]
    fields: tuple[Field, ...]
    time: str | None = None
    interval: str | None = None

    @cached_property
    def schema(self) -> pa.Schema:
        """The Arrow schema of every frame of this dataset, in this column order."""
        return pa.schema([pa.field(f.name, f.type, nullable=not f.required) for f in self.fields])

    @cached_property
    def required(self) -> tuple[str, ...]:
        """Names of the columns that must not be null."""
        return tuple(f.name for f in self.fields if f.required)

    def __str__(self) -> str:
        return self.name

    def __hash__(self) -> int:
        return hash(self.name)


_TEXT, _DAY, _F64, _I64, _BOOL = pa.string(), pa.date32(), pa.float64(), pa.int64(), pa.bool_()
_TIME = pa.timestamp("ms", tz=SHANGHAI)
_ORIGIN = (Field("source", _TEXT, required=True), Field("fetched_at", pa.timestamp("ms", tz="UTC"), required=True))
_SYMBOL = Field("symbol", _TEXT, required=True)
_OHLC = tuple(Field(n, _F64, "CNY", required=True) for n in ("open", "high", "low", "close"))
_TRADED = (Field("volume", _I64, "shares", required=True), Field("amount", _F64, "CNY"))


def _daily_bar(name: str, interval: str) -> Dataset:
    return Dataset(
        name,
        Category.MARKET,
        ("symbol", "trade_date"),
        (
            _SYMBOL,
            Field("trade_date", _DAY, required=True),
            *_OHLC,
            Field("pre_close", _F64, "CNY, the exchange's reference price: ex-right on ex-right days"),
            *_TRADED,
            Field("turnover", _F64, "%"),
            Field("provisional", _BOOL, "true until the close gate has passed", required=True),
            *_ORIGIN,
        ),
        time="trade_date",
        interval=interval,
    )


def _minute_bar(interval: str) -> Dataset:
    return Dataset(
        f"bar_{interval}",
        Category.MARKET,
        ("symbol", "bar_time"),
        (
            _SYMBOL,
            Field("bar_time", _TIME, "end of the bar", required=True),
            *(Field(n, _F64, "CNY", required=n != "open") for n in ("open", "high", "low", "close")),
            *_TRADED,
            Field("provisional", _BOOL, required=True),
            *_ORIGIN,
        ),
        time="bar_time",
        interval=interval,
    )


_LEVELS = tuple(
    Field(f"{side}_{what}{level}", _F64 if what == "price" else _I64, "CNY" if what == "price" else "shares")
    for side in ("bid", "ask")
    for level in range(1, 6)
    for what in ("price", "volume")
)

INSTRUMENT = Dataset(
    "instrument",
    Category.REFERENCE,
    ("symbol",),
    (
        _SYMBOL,
        Field("name", _TEXT),
        Field("exchange", _TEXT, required=True),
        Field("asset_type", _TEXT, "stock, index, etf, bond, future", required=True),
        Field("status", _TEXT, "L listed, D delisted, P paused", required=True),
        Field("list_date", _DAY),
        Field("delist_date", _DAY),
        Field("industry", _TEXT),
        Field("area", _TEXT),
        *_ORIGIN,
    ),
)
CALENDAR = Dataset(
    "calendar",
    Category.REFERENCE,
    ("exchange", "trade_date"),
    (
        Field("exchange", _TEXT, required=True),
        Field("trade_date", _DAY, required=True),
        Field("is_open", _BOOL, required=True),
        *_ORIGIN,
    ),
    time="trade_date",
)
SUSPENSION = Dataset(
    "suspension",
    Category.REFERENCE,
    ("symbol", "trade_date"),
    (_SYMBOL, Field("trade_date", _DAY, required=True), Field("timing", _TEXT, "null: the whole session"), *_ORIGIN),
    time="trade_date",
)
BAR_1D = _daily_bar("bar_1d", "1d")
ADJ_FACTOR = Dataset(
    "adj_factor",
    Category.DERIVED,
    ("symbol", "trade_date", "source"),  # factors of two sources never mix in one series
    (
        _SYMBOL,
        Field("trade_date", _DAY, "in force from this session on", required=True),
        Field("factor", _F64, "cumulative back-adjustment factor", required=True),
        *_ORIGIN,
    ),
    time="trade_date",
)
DAILY_BASIC = Dataset(
    "daily_basic",
    Category.DERIVED,
    ("symbol", "trade_date"),
    (
        _SYMBOL,
        Field("trade_date", _DAY, required=True),
        Field("turnover", _F64, "%"),
        Field("turnover_free", _F64, "% of the free float"),
        Field("volume_ratio", _F64, "times"),
        *(Field(n, _F64, "times") for n in ("pe", "pe_ttm", "pb", "ps", "ps_ttm")),
        Field("dividend_yield", _F64, "%"),
        Field("dividend_yield_ttm", _F64, "%"),
        *(Field(n, _F64, "shares") for n in ("total_shares", "float_shares", "free_shares")),
        *(Field(n, _F64, "CNY") for n in ("total_value", "float_value")),
        *_ORIGIN,
    ),
    time="trade_date",
)
QUOTE = Dataset(
    "quote",
    Category.MARKET,
    ("symbol", "ts"),
    (
        _SYMBOL,
        Field("ts", _TIME, "the exchange's time where the vendor gives it, else the time of receipt", required=True),
        Field("last", _F64, "CNY"),
        *(Field(n, _F64, "CNY") for n in ("open", "high", "low", "pre_close")),
        Field("volume", _I64, "shares since the open"),
        Field("amount", _F64, "CNY since the open"),
        *_LEVELS,
        *_ORIGIN,
    ),
    time="ts",
)
TICK = Dataset(
    "tick",
    Category.MARKET,
    ("symbol", "ts", "seq"),
    (
        _SYMBOL,
        Field("ts", _TIME, required=True),
        Field("seq", pa.int32(), "0, 1, ... within one time stamp, in the vendor's order", required=True),
        Field("price", _F64, "CNY", required=True),
        Field("volume", _I64, "shares", required=True),
        Field("amount", _F64, "CNY"),
        Field("side", _TEXT, "B buyer-, S seller-initiated, N neutral"),
        *_ORIGIN,
    ),
    time="ts",
)

MINUTE_INTERVALS = ("1m", "5m", "15m", "30m", "60m")

DATASETS: dict[str, Dataset] = {
    d.name: d
    for d in (
        INSTRUMENT,
        CALENDAR,
        SUSPENSION,
        BAR_1D,
        _daily_bar("bar_1w", "1w"),
        _daily_bar("bar_1mo", "1mo"),
        *(_minute_bar(i) for i in MINUTE_INTERVALS),
        ADJ_FACTOR,
        DAILY_BASIC,
        QUOTE,
        TICK,
    )
}


def dataset(name: str) -> Dataset:
    """The dataset called ``name``. Raises ConfigError naming the known ones."""
    try:
        return DATASETS[name]
    except KeyError:
        raise ConfigError(f"unknown dataset {name!r}; known: {', '.join(sorted(DATASETS))}") from None


def register(new: Dataset) -> Dataset:
    """Add a third party's dataset. Raises ConfigError when the name is taken by a different definition."""
    known = DATASETS.setdefault(new.name, new)
    if known != new:
        raise ConfigError(f"dataset {new.name!r} is already defined with other columns")
    return known
