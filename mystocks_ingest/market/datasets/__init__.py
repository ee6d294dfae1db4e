"""Canonical datasets: one Arrow schema per kind of record, with its key, units and category.

Units never vary: prices in CNY per share (index: points), ``volume`` in shares, ``amount`` in CNY, ratios in
percent, market values in CNY, share counts in shares. Times are Asia/Shanghai; a bar is labelled by its end.
Prices are float64 rounded to four decimals, which a double holds exactly enough to give back every cent.
"""

from __future__ import annotations

from mystocks_ingest.errors import ConfigError
from mystocks_ingest.market.datasets.kinds import AMOUNT_DECIMALS, PRICE_DECIMALS, SHANGHAI, Category, Dataset, Field
from mystocks_ingest.market.datasets.quotations import (
    ADJ_FACTOR,
    BAR_1D,
    CALENDAR,
    DAILY_BASIC,
    INSTRUMENT,
    QUOTE,
    SUSPENSION,
    TICK,
    daily_bar,
    minute_bar,
)
from mystocks_ingest.market.datasets.records import (
    ACCOUNT,
    DATA_SOURCE,
    DEPTH,
    ETL_JOB,
    EXCHANGE,
    FACTOR,
    FILL,
    FINANCIAL,
    FUTURES_CONTRACT,
    INDEX_WEIGHT,
    INDUSTRY,
    LIMIT_PRICE,
    LIMIT_STATE,
    ORDER,
    POSITION,
    SETTING,
    SIGNAL,
    STRATEGY_PARAM,
)

__all__ = [
    "ACCOUNT",
    "ADJ_FACTOR",
    "AMOUNT_DECIMALS",
    "BAR_1D",
    "CALENDAR",
    "DAILY_BASIC",
    "DATASETS",
    "DATA_SOURCE",
    "DEPTH",
    "ETL_JOB",
    "EXCHANGE",
    "FACTOR",
    "FILL",
    "FINANCIAL",
    "FUTURES_CONTRACT",
    "INDEX_WEIGHT",
    "INDUSTRY",
    "INSTRUMENT",
    "LIMIT_PRICE",
    "LIMIT_STATE",
    "MINUTE_INTERVALS",
    "ORDER",
    "POSITION",
    "PRICE_DECIMALS",
    "QUOTE",
    "SETTING",
    "SHANGHAI",
    "SIGNAL",
    "STRATEGY_PARAM",
    "SUSPENSION",
    "TICK",
    "Category",
    "Dataset",
    "Field",
    "dataset",
    "register",
]

MINUTE_INTERVALS = ("1m", "5m", "15m", "30m", "60m")

DATASETS: dict[str, Dataset] = {
    d.name: d
    for d in (
        INSTRUMENT,
        EXCHANGE,
        CALENDAR,
        SUSPENSION,
        BAR_1D,
        daily_bar("bar_1w", "1w"),
        daily_bar("bar_1mo", "1mo"),
        *(minute_bar(i) for i in MINUTE_INTERVALS),
        ADJ_FACTOR,
        DAILY_BASIC,
        QUOTE,
        TICK,
        *(DEPTH, LIMIT_PRICE, LIMIT_STATE, INDUSTRY, INDEX_WEIGHT, FUTURES_CONTRACT, FINANCIAL, FACTOR, SIGNAL),
        *(ORDER, FILL, POSITION, ACCOUNT, DATA_SOURCE, ETL_JOB, STRATEGY_PARAM, SETTING),
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
