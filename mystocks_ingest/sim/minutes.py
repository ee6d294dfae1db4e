"""Minute bars that add up to the daily bar: volume and amount to the unit, open, high, low and close exactly."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from mystocks_ingest.sim.noise import F64, I64, uniform

# Ends of the 240 one-minute bars, after the opening auction's own bar at 09:30.
_MINUTES = np.r_[9 * 60 + 30, np.arange(9 * 60 + 31, 11 * 60 + 31), np.arange(13 * 60 + 1, 15 * 60 + 1)]
STEPS = {"1m": 1, "5m": 5, "15m": 15, "30m": 30, "60m": 60}


class Day(Protocol):
    """Daily bars to be taken apart (market.Bars)."""

    @property
    def i(self) -> I64: ...
    @property
    def t(self) -> I64: ...
    @property
    def open(self) -> I64: ...
    @property
    def high(self) -> I64: ...
    @property
    def low(self) -> I64: ...
    @property
    def close(self) -> I64: ...
    @property
    def volume(self) -> I64: ...
    @property
    def amount(self) -> F64: ...
    @property
    def tick(self) -> F64: ...


@dataclass(frozen=True)
class MinuteBars:
    """Flat rows; ``row`` is the position of the session in the daily bars given, prices in ticks."""

    row: I64
    minute: npt.NDArray[np.timedelta64]  # end of the bar since midnight
    open: I64
    high: I64
    low: I64
    close: I64
    volume: I64
    amount: F64
    tick: F64

    @property
    def count(self) -> int:
        return len(self.row)

    def price(self, ticks: I64) -> F64:
        return np.asarray(ticks / np.round(1.0 / self.tick))


def minute_bars(seed: int, day: Day, interval: str) -> MinuteBars:
    """Bars of ``interval``; the auction's trades are a bar of their own in 1m and part of the first bar otherwise."""
    step = STEPS[interval]
    sessions = len(day.i)
    start, high, low, close, volume, amount = _one_minute(seed, day)
    ends = _MINUTES
    if step > 1:
        cuts = np.r_[0, np.arange(1 + step, 241, step)]
        start, close = start[:, cuts], close[:, np.r_[cuts[1:], 241] - 1]
        high, low = np.maximum.reduceat(high, cuts, axis=1), np.minimum.reduceat(low, cuts, axis=1)
        volume = np.add.reduceat(volume, cuts, axis=1)
        amount = np.asarray(np.round(np.add.reduceat(amount, cuts, axis=1), 2), dtype=np.float64)
        ends = _MINUTES[np.r_[cuts[1:], 241] - 1]
    per = len(ends)
    return MinuteBars(
        np.repeat(np.arange(sessions), per),
        np.tile(ends, sessions).astype("timedelta64[m]"),
        start.ravel(), high.ravel(), low.ravel(), close.ravel(), volume.ravel(), amount.ravel(),
        np.repeat(day.tick, per),
    )  # fmt: skip


def _one_minute(seed: int, day: Day) -> tuple[I64, I64, I64, I64, I64, F64]:
    path, kh, kl = _path(seed, day)
    rows = np.arange(len(day.i))
    start = np.concatenate([path[:, :1], path[:, :-1]], axis=1)
    high, low = np.maximum(start, path), np.minimum(start, path)
    high[rows, kh] = day.high
    low[rows, kl] = day.low
    middle = (start + path + high + low) / 4.0
    volume = _volumes(seed, day, middle)
    amount = volume * middle * day.tick[:, None]
    with np.errstate(invalid="ignore"):
        amount = np.round(amount * (day.amount / amount.sum(axis=1))[:, None], 2)
    biggest = volume.argmax(axis=1)
    amount[rows, biggest] = np.round(amount[rows, biggest] + day.amount - amount.sum(axis=1), 2)
    return start, high, low, path, volume, amount


def _path(seed: int, day: Day) -> tuple[I64, I64, I64]:
    """Price at the end of each of the 241 bars, from open to close by way of the high and the low."""
    i, t = day.i, day.t
    u = uniform(seed, 80, i, t)
    first = (20 + 80 * u).astype(np.int64)
    second = (130 + 90 * uniform(seed, 81, i, t)).astype(np.int64)
    rising = uniform(seed, 82, i, t) < 0.5
    kh, kl = np.where(rising, second, first), np.where(rising, first, second)
    early, late = np.where(rising, day.low, day.high), np.where(rising, day.high, day.low)
    k = np.arange(241)[None, :]
    a, b = first[:, None], second[:, None]
    line = np.where(
        k <= a,
        day.open[:, None] + (early - day.open)[:, None] * k / a,
        np.where(
            k <= b,
            early[:, None] + (late - early)[:, None] * (k - a) / (b - a),
            late[:, None] + (day.close - late)[:, None] * (k - b) / (240 - b),
        ),
    )
    shake = (uniform(seed, 83, (i * 4_099 + t)[:, None], k) - 0.5) * 0.2 * (day.high - day.low)[:, None]
    path = np.clip(np.floor(line + shake + 0.5).astype(np.int64), day.low[:, None], day.high[:, None])
    path[:, 0], path[:, 240] = day.open, day.close
    return path, kh, kl


def _volumes(seed: int, day: Day, middle: F64) -> I64:
    """Whole lots in every bar (odd shares in the last), weighted so that the amount comes out as the day's."""
    i, t = day.i, day.t
    lots = np.maximum(day.volume // 100 - 241, 0)
    weight = 0.3 + uniform(seed, 84, (i * 4_099 + t)[:, None], np.arange(241)[None, :])
    target = (day.amount / day.volume / day.tick)[:, None]
    scale = np.maximum(day.high - day.low, 1)[:, None]
    q = (middle - target) / scale
    # An index's amount has nothing to do with its points; and without a range there is nothing to tilt.
    tilts = (np.abs(q).max(axis=1) < 3.0) & (q.min(axis=1) < 0) & (q.max(axis=1) > 0)
    theta = np.zeros((len(i), 1))
    for _ in range(15):
        w = weight * np.exp(theta * q)
        total = w.sum(axis=1, keepdims=True)
        mean = (w * q).sum(axis=1, keepdims=True) / total
        spread = (w * q * q).sum(axis=1, keepdims=True) / total - mean**2
        theta = np.clip(theta - np.where(tilts[:, None], mean / np.maximum(spread, 1e-9), 0.0), -30.0, 30.0)
    w = weight * np.exp(theta * q)
    cumulative = np.floor(np.cumsum(w, axis=1) / w.sum(axis=1, keepdims=True) * lots[:, None] + 1e-9)
    cumulative[:, -1] = lots
    volume = (np.diff(cumulative, axis=1, prepend=0.0).astype(np.int64) + 1) * 100
    volume[:, -1] += day.volume - volume.sum(axis=1)
    return np.asarray(volume)
