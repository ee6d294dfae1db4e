"""Prices as texts, raw and forward-adjusted, as several sites print them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mystocks_ingest.sim.answers import Cell
from mystocks_ingest.sim.bars import Bars
from mystocks_ingest.sim.market import Market
from mystocks_ingest.sim.noise import F64, I64

_PRICES = ("open", "high", "low", "close")


def forward(market: Market, bars: Bars) -> tuple[Sequence[Cell], ...]:
    """Forward-adjusted prices as texts: the ratio of the factor to the newest one."""
    newest = market.factor(bars.i, np.full(len(bars.i), len(market.days) - 1))
    ratio = market.factor(bars.i, bars.t) / newest
    return tuple(texts(bars.price(_ticks(bars, n)) * ratio, 2) for n in _PRICES)


def _ticks(bars: Bars, name: str) -> I64:
    ticks: I64 = getattr(bars, name)
    return ticks


def texts(values: F64, decimals: int) -> list[str]:
    form = f"%.{decimals}f"
    return [form % v for v in values.tolist()]
