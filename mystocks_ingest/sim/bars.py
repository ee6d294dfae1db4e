"""Daily bars of the simulated market as arrays, and what is made of them: weeks, months, valuations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mystocks_ingest.sim.noise import F64, I64, uniform

if TYPE_CHECKING:
    from mystocks_ingest.sim.market import Market

Bools = npt.NDArray[np.bool_]
Period = Literal["1w", "1mo"]


@dataclass(frozen=True)
class Bars:
    """Daily bars of the pairs (i, t); prices in ticks, volume in shares, amount in yuan."""

    i: I64
    t: I64
    open: I64
    high: I64
    low: I64
    close: I64
    ref: I64  # pre_close: the reference price, ex-right on ex-right days
    up: I64
    down: I64
    volume: I64
    amount: F64
    tick: F64

    def price(self, ticks: I64) -> F64:
        """Yuan; a quotient of integers, so that the nearest double prints as the decimal price."""
        return np.asarray(ticks / np.round(1.0 / self.tick))

    @property
    def change_percent(self) -> F64:
        return np.asarray((self.close - self.ref) / self.ref * 100.0)


def select(bars: Bars, keep: Bools | I64) -> Bars:
    """The rows that a mask or their places name."""
    return Bars(**{name: getattr(bars, name)[keep] for name in Bars.__dataclass_fields__})


def by_period(market: Market, who: I64, period: Period) -> Bars:
    """Weekly or monthly bars of the instruments ``who``; ``t`` is the period's last session."""
    bars = market.bars(*market.pairs(who, 0, market.closed))
    label, last = _periods(market, period)
    keep = last[label[bars.t]] >= 0
    key = bars.i * (int(label.max()) + 1) + label[bars.t]
    bars = select(bars, keep)
    key = key[keep]
    start = np.flatnonzero(np.r_[True, key[1:] != key[:-1]]) if len(key) else np.empty(0, dtype=np.int64)
    end = np.r_[start[1:], len(key)] - 1 if len(key) else start
    if not len(key):
        return bars
    return Bars(
        bars.i[start], last[label[bars.t[start]]], bars.open[start], np.maximum.reduceat(bars.high, start),
        np.minimum.reduceat(bars.low, start), bars.close[end], bars.ref[start], bars.up[start], bars.down[start],
        np.add.reduceat(bars.volume, start), np.add.reduceat(bars.amount, start), bars.tick[start],
    )  # fmt: skip


def _periods(market: Market, period: Period) -> tuple[I64, I64]:
    """Label of each session's period; last session number of each label, -1 where it is not over yet."""
    every = market.calendar_days
    weekly = (every - np.timedelta64(4, "D")).astype("datetime64[W]").astype(np.int64)  # 1970-01-01 was a Thursday
    monthly = every.astype("datetime64[M]").astype(np.int64)
    raw = (weekly if period == "1w" else monthly)[market.begin :]
    raw = raw - raw[0]
    inside = raw[: len(market.days)]
    last = np.full(int(raw.max()) + 1, -1, dtype=np.int64)
    last[inside] = np.arange(len(inside))
    last[inside[market.closed :]] = -1
    after = market.begin + len(market.days)
    if after < len(every) and raw[len(market.days)] == inside[-1]:
        last[inside[-1]] = -1
    return inside, last


def valuations(market: Market, i: I64, t: I64) -> dict[str, pa.Array]:
    """The number columns of DAILY_BASIC for the pairs (i, t); a ratio to a loss is null."""
    own, bars = market.listing, market.bars(i, t)
    close = bars.price(bars.close)
    floating, total = own.float_shares[i], own.total_shares[i]
    free = floating // 20_000 * 10_000 + 10_000
    eps, loss = own.eps[i], own.eps[i] <= 0
    with np.errstate(divide="ignore", invalid="ignore"):
        pe = np.round(close / eps, 4)
    return {
        "turnover": pa.array(np.round(bars.volume / floating * 100, 4)),
        "turnover_free": pa.array(np.round(bars.volume / free * 100, 4)),
        "volume_ratio": pa.array(np.round(0.5 + uniform(market.config.seed, 70, i, t), 2)),
        "pe": pa.array(pe, mask=loss),
        "pe_ttm": pa.array(np.round(pe * 0.97, 4), mask=loss),
        "pb": pa.array(np.round(close / own.book[i], 4)),
        "ps": pa.array(np.round(close / own.book[i] * 0.8, 4)),
        "ps_ttm": pa.array(np.round(close / own.book[i] * 0.78, 4)),
        "dividend_yield": pa.array(np.round(np.abs(eps) / close * 30, 4), mask=loss),
        "dividend_yield_ttm": pa.array(np.round(np.abs(eps) / close * 28, 4), mask=loss),
        "total_shares": pa.array(total.astype(np.float64)),
        "float_shares": pa.array(floating.astype(np.float64)),
        "free_shares": pa.array(free.astype(np.float64)),
        "total_value": pa.array(np.round(close * total, 2)),
        "float_value": pa.array(np.round(close * floating, 2)),
    }
