"""Quotes and ticks of the simulated market: the last session as it ended, or any session as it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from mystocks_ingest.sim.canonical import shanghai
from mystocks_ingest.sim.live import LiveSession, State, stamps
from mystocks_ingest.sim.noise import F64, I64, uniform

if TYPE_CHECKING:
    from mystocks_ingest.sim.bars import Bars
    from mystocks_ingest.sim.market import Market

LEVELS = 5


def quote_columns(market: Market) -> dict[str, pa.Array | F64 | I64]:
    """Columns of QUOTE at 15:00:00 of the last session, for stocks and ETFs that traded."""
    t = len(market.days) - 1
    who = np.concatenate([market.kind("stock"), market.kind("etf")])
    bars = market.bars(*market.pairs(who, t, t + 1))
    at = np.full(len(bars.i), market.days[t].astype("datetime64[m]") + np.timedelta64(15 * 60, "m"))
    return {"symbol": market.symbol_column(bars.i), "ts": shanghai(at)} | _state(market.config.seed, bars, bars.t)


def live_columns(market: Market, day: np.datetime64, state: State) -> dict[str, pa.Array | F64 | I64]:
    """Columns of QUOTE while the session runs."""
    known = {"symbol": market.symbol_column(state.bars.i), "ts": shanghai(stamps(day, state.second))}
    return known | _state(market.config.seed, state.bars, state.stamp)


def live_tick_columns(market: Market, session: LiveSession, i: int, second: int) -> dict[str, pa.Array | F64 | I64]:
    """Columns of TICK: the trades of one symbol until ``second`` of the day."""
    when, ticks, shares, yuan = session.trades(int(session.row[i]), second)
    up = np.diff(ticks, prepend=ticks[:1])
    return {
        "symbol": market.symbol_column(np.full(len(ticks), i)),
        "ts": shanghai(stamps(market.days[session.t], when)),
        "seq": np.r_[0, (when[1:] == when[:-1]).astype(np.int32)],
        "price": np.asarray(ticks / np.round(1.0 / market.listing.tick[i])),
        "volume": shares,
        "amount": yuan,
        "side": pa.array(np.where(up > 0, "B", np.where(up < 0, "S", "N")).tolist(), pa.string()),
    }


def _state(seed: int, bars: Bars, stamp: I64) -> dict[str, pa.Array | F64 | I64]:
    """What is the same of a closed session and of one that runs; the book's volumes depend on ``stamp``."""
    columns: dict[str, pa.Array | F64 | I64] = {
        "last": bars.price(bars.close),
        "open": bars.price(bars.open),
        "high": bars.price(bars.high),
        "low": bars.price(bars.low),
        "pre_close": bars.price(bars.ref),
        "volume": bars.volume,
        "amount": bars.amount,
    }
    for sign, side in ((-1, "bid"), (1, "ask")):
        for level in range(1, LEVELS + 1):
            offset = level - 1 if sign < 0 else level
            price = bars.close + sign * offset
            absent = (price < bars.down) | (price > bars.up) | (price < 1)
            if sign < 0:
                absent |= bars.close == bars.down  # locked at the lower limit: nobody bids
            lots = (uniform(seed, 90 + level * 2 + (sign > 0), bars.i, stamp) * 500).astype(np.int64) + 1
            columns[f"{side}_price{level}"] = pa.array(bars.price(price), mask=absent)
            columns[f"{side}_volume{level}"] = pa.array(lots * 100, mask=absent)
    return columns


def tick_columns(market: Market, i: int) -> dict[str, pa.Array | F64 | I64]:
    """Columns of TICK: two trades a minute, the opening auction as one; sums are those of the day."""
    traded = np.flatnonzero(market.prices.traded[:, i])
    t = traded[-1:]
    bars = market.minutes(i, t, "1m")
    half = np.where(np.arange(bars.count) == 0, 0, bars.volume // 200 * 100)
    second = np.arange(bars.count) > 0
    price = np.stack([bars.open, bars.close], axis=1)
    volume = np.stack([half, bars.volume - half], axis=1)
    at = bars.minute.astype("timedelta64[s]")
    auction = np.timedelta64(9 * 3600 + 25 * 60, "s")
    together = np.arange(bars.count) % 5 == 3  # both trades within one second
    opening = np.where(second, at - np.where(together, 3, 57).astype("timedelta64[s]"), auction)
    closing = np.where(second, at - np.timedelta64(3, "s"), auction)
    when = np.stack([opening, closing], axis=1)
    keep = volume.ravel() > 0
    ticks, shares, when = price.ravel()[keep], volume.ravel()[keep], when.ravel()[keep]
    yuan = np.asarray(ticks / np.round(1.0 / bars.tick[0]))
    up = np.diff(ticks, prepend=ticks[:1])
    side = np.where(up > 0, "B", np.where(up < 0, "S", "N"))
    return {
        "symbol": market.symbol_column(np.full(len(ticks), i)),
        "ts": shanghai(market.days[t[0]] + when),
        "seq": np.r_[0, (when[1:] == when[:-1]).astype(np.int32)],
        "price": yuan,
        "volume": shares,
        "amount": np.round(yuan * shares, 2),
        "side": pa.array(side.tolist(), pa.string()),
    }
