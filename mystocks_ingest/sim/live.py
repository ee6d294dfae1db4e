"""One session of the simulated market as it runs: the state of every symbol at any second, and its trades.

Each one-minute bar of the truth is four trades: its open, its extremes and its close, at seconds that depend on the
symbol. So what is seen after a minute is over adds up to the bar to the share and to the cent, and what is seen after
15:00 is the daily bar. The opening auction is one trade at 09:25:00.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mystocks_ingest.sim.bars import Bars, select
from mystocks_ingest.sim.clock import ZONE
from mystocks_ingest.sim.minutes import minute_bars
from mystocks_ingest.sim.noise import F64, I64, uniform

if TYPE_CHECKING:
    from mystocks_ingest.sim.market import Market

AUCTION_SECOND = (9 * 60 + 25) * 60
_OPEN, _NOON, _AFTERNOON, _CLOSE = (9 * 3600 + 1800, 11 * 3600 + 1800, 13 * 3600, 15 * 3600)
_EVENTS = 4
_LAST = 240 * _EVENTS + _EVENTS - 1  # the number of the day's last trade
_FAR = 1_000_003


@dataclass(frozen=True)
class State:
    """``bars`` as they stand, ``close`` being the last price; ``second`` of the day of the last trade; ``stamp`` for books."""

    bars: Bars
    second: I64
    stamp: I64  # of the book's volumes: another one after each trade; after the last trade the session's number


class LiveSession:
    """The whole market (stocks and ETFs) on session ``t``. Some 100 bytes a bar: 130 MB for 5,400 stocks."""

    def __init__(self, market: Market, t: int) -> None:
        who = np.concatenate([market.kind("stock"), market.kind("etf")])
        self.day = day = market.bars(*market.pairs(np.sort(who), t, t + 1))
        self.t, self._seed = t, market.config.seed
        self.row = np.full(len(market.listing), -1)
        self.row[day.i] = np.arange(len(day.i))
        bars = minute_bars(self._seed, day, "1m")
        shape = (len(day.i), 241)
        self.open, self.high, self.low, self.close = (
            getattr(bars, n).reshape(shape).astype(np.int32) for n in ("open", "high", "low", "close")
        )
        self.volume, self.amount = bars.volume.reshape(shape), bars.amount.reshape(shape)
        self.highs = np.maximum.accumulate(self.high, axis=1)
        self.lows = np.minimum.accumulate(self.low, axis=1)
        self.shares = np.cumsum(self.volume, axis=1)
        self.yuan = np.round(np.cumsum(self.amount, axis=1), 2)

    def state(self, second: int, rows: I64) -> State | None:
        """The symbols in ``rows`` (positions in ``day``) at ``second`` of the day; None before the auction."""
        if second < AUCTION_SECOND:
            return None
        column, elapsed = _column(second)
        day = select(self.day, rows)
        offsets = self._offsets(rows, column) if column else np.zeros((len(rows), _EVENTS))
        happened = (offsets <= elapsed).sum(axis=1)
        price, volume, amount = self._trades(rows, column)
        before = max(column - 1, 0)
        some = happened > 0
        at = np.maximum(happened - 1, 0)[:, None]
        reached = np.arange(_EVENTS)[None, :] < happened[:, None]
        high = np.where(reached, price, np.iinfo(np.int32).min).max(axis=1)
        low = np.where(reached, price, np.iinfo(np.int32).max).min(axis=1)
        shares, yuan = (volume * reached).sum(axis=1), (amount * reached).sum(axis=1)
        if column:
            high, low = np.maximum(high, self.highs[rows, before]), np.minimum(low, self.lows[rows, before])
            shares, yuan = shares + self.shares[rows, before], yuan + self.yuan[rows, before]
        last = np.where(some, np.take_along_axis(price, at, axis=1)[:, 0], self.close[rows, before])
        within = np.take_along_axis(self._seconds(rows, column), at, axis=1)[:, 0]
        event = column * _EVENTS + happened - 1
        return State(
            replace(
                day, high=high.astype(np.int64), low=low.astype(np.int64), close=last.astype(np.int64),
                volume=shares, amount=np.round(yuan, 2),
            ),
            np.where(some, within, self._seconds(rows, before)[:, -1]),
            day.t + (_LAST - event) * _FAR,
        )  # fmt: skip

    def trades(self, row: int, second: int) -> tuple[I64, I64, I64, F64]:
        """Second of the day, price in ticks, shares and yuan of one symbol's trades until ``second``, ascending."""
        rows = np.full(241, row)
        columns = np.arange(241)
        price, volume, amount = self._trades(rows, columns)
        when = self._seconds(rows, columns)
        done = (volume > 0) & (when <= second)
        return when[done], price[done], volume[done], amount[done]

    def _trades(self, rows: I64, column: int | I64) -> tuple[I64, I64, F64]:
        """Price in ticks, shares and yuan of the four trades of each bar; small bars have trades of no shares."""
        first, high, low, last = (a[rows, column] for a in (self.open, self.high, self.low, self.close))
        rising = last >= first
        price = np.stack([first, np.where(rising, low, high), np.where(rising, high, low), last], axis=1)
        whole, yuan = self.volume[rows, column], self.amount[rows, column]
        auction = np.broadcast_to(np.asarray(column) == 0, rows.shape)
        lots = np.where(auction, 0, whole // 100)
        part = np.zeros((len(rows), _EVENTS), dtype=np.int64)
        for rank, event in enumerate((3, 1, 2, 0)):  # a bar of few lots shows its close and extremes before its open
            part[:, event] = lots > rank
        rest = np.maximum(lots - _EVENTS, 0)
        i = self.day.i[rows]
        for event in range(3):
            share = 0.1 + 0.2 * uniform(self._seed, 180 + event, i, self.t * 241 + np.asarray(column))
            part[:, event] += (rest * share).astype(np.int64)
        volume = part * 100
        volume[:, 3] = whole - volume[:, :3].sum(axis=1)
        worth = volume * price
        with np.errstate(invalid="ignore", divide="ignore"):
            amount = np.round(worth * (yuan / np.maximum(worth.sum(axis=1), 1))[:, None], 2)
        amount[:, 3] = np.round(yuan - amount[:, :3].sum(axis=1), 2)
        return price.astype(np.int64), volume, amount

    def _offsets(self, rows: I64, column: int | I64) -> I64:
        """Seconds after the bar's start at which its trades happen, ascending: within 1-13, 16-28, 31-43, 46-58.

        In every fifth bar the middle two happen in one second.
        """
        i = self.day.i[rows][:, None]
        number = (self.t * 241 + np.asarray(column)).reshape(-1, 1) * _EVENTS + np.arange(_EVENTS)[None, :]
        spread = (uniform(self._seed, 183, i, number) * 13).astype(np.int64)
        offsets = np.asarray(1 + 15 * np.arange(_EVENTS)[None, :] + spread)
        together = number[:, 0] // _EVENTS % 5 == 3
        offsets[:, 2] = np.where(together, offsets[:, 1], offsets[:, 2])
        return offsets

    def _seconds(self, rows: I64, column: int | I64) -> I64:
        """Second of the day of the trades of each bar."""
        number = np.broadcast_to(np.asarray(column), rows.shape)
        start = np.where(number <= 120, _OPEN + (number - 1) * 60, _AFTERNOON + (number - 121) * 60)
        return np.where((number == 0)[:, None], AUCTION_SECOND, start[:, None] + self._offsets(rows, column))


def _column(second: int) -> tuple[int, int]:
    """The bar that is under way at ``second`` of the day, and how many of its seconds have passed."""
    if second < _OPEN:
        return 0, 60
    if second < _AFTERNOON:
        inside = min(second, _NOON) - _OPEN
        return (120, 60) if inside == _NOON - _OPEN else (1 + inside // 60, inside % 60)
    inside = min(second, _CLOSE) - _AFTERNOON
    return (240, 60) if inside == _CLOSE - _AFTERNOON else (121 + inside // 60, inside % 60)


def mixed(older: State, newer: State) -> State:
    """Every other symbol of ``older``, the rest of ``newer``."""
    odd = older.bars.i % 2 == 1
    both = {n: np.where(odd, getattr(older.bars, n), getattr(newer.bars, n)) for n in Bars.__dataclass_fields__}
    return State(Bars(**both), np.where(odd, older.second, newer.second), np.where(odd, older.stamp, newer.stamp))


def second_of(moment: datetime) -> tuple[np.datetime64, int]:
    """Shanghai's day and the second of it."""
    local = moment.astimezone(ZONE)
    return np.datetime64(local.date()), local.hour * 3600 + local.minute * 60 + local.second


def stamps(day: np.datetime64, second: I64) -> npt.NDArray[np.datetime64]:
    """Wall-clock times of the exchange."""
    return np.asarray(day.astype("datetime64[s]") + second.astype("timedelta64[s]"))
