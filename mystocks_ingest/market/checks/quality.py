"""Rules that the user adds: columns that must be filled, and ranges. They are ``data_quality_rules`` of the table file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mystocks_ingest.market.checks.rows import Keyed, among, kinds, per_row
from mystocks_ingest.market.checks.verdict import Context, Quality, Rows, Rule, Verdict, number
from mystocks_ingest.market.datasets import DATASETS

_PRICES = ("open", "high", "low", "close", "last", "price")
_WORDS = {"price": _PRICES, "market_price": _PRICES}
_NOT_YET = frozenset({"quote", "depth"})  # a zero stands for "none so far"


@dataclass(frozen=True, slots=True)
class _Told:
    """How a refusal by a range reads."""

    column: str
    low: float | None
    high: float | None
    values: npt.NDArray[np.float64]

    def __call__(self, rows: Rows) -> Iterator[str]:
        ends = f"[{'' if self.low is None else number(self.low)}, {'' if self.high is None else number(self.high)}]"
        return (
            f"{self.column} {number(self.values[r])} is outside {ends} of data_quality_rules.accuracy" for r in rows
        )


def check_quality(keyed: Keyed, quality: Quality, context: Context, verdict: Verdict) -> None:
    """Refuse what the user's rules refuse. A range of prices is meant for CNY: an index has points."""
    rows = keyed.frame.rows
    names = rows.schema.names
    for name in quality.required:
        if name in names and rows.column(name).null_count:
            empty = rows.column(name).is_null().to_numpy(zero_copy_only=False)
            verdict.refuse(Rule.MISSING, empty, partial(_empty, name))
    for word, low, high in quality.ranges:
        for name in _columns(word):
            if name not in names or not _is_number(rows.schema.field(name).type):
                continue
            values = keyed.numbers(name)
            wrong = np.zeros(len(keyed), np.bool_)
            if low is not None:
                wrong |= values < low
            if high is not None:
                wrong |= values > high
            if word in _WORDS and wrong.any():
                if "symbol" in names and keyed.frame.dataset.key[0] == "symbol":
                    wrong &= ~per_row(keyed, among(kinds(keyed, context), ("index",)))
                if keyed.frame.dataset.name in _NOT_YET:
                    wrong &= values != 0
            verdict.refuse(Rule.OUT_OF_RANGE, wrong, _Told(name, low, high, values))


def unheard(quality: Quality) -> list[str]:
    """Columns that no dataset has."""
    known = {f.name for d in DATASETS.values() for f in d.fields}
    asked = [*quality.required, *(name for word, _, _ in quality.ranges for name in _columns(word))]
    return sorted({name for name in asked if name not in known})


def _columns(word: str) -> tuple[str, ...]:
    return _WORDS.get(word, (word,))


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))


def _empty(name: str, rows: Rows) -> list[str]:
    return [f"{name} is empty, and data_quality_rules.completeness requires it"] * len(rows)
