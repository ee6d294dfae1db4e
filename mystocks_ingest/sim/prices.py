"""Closing prices, ex-right days and suspensions of the whole simulated market, one matrix in memory.

Only closes (int32 ticks) and who traded (one byte) are kept: 5,400 stocks x 2,430 sessions are 65 MB. Everything
else of a bar is derived from them when asked for.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mystocks_ingest.sim.holidays import Days
from mystocks_ingest.sim.listing import Listing
from mystocks_ingest.sim.noise import F64, I64, normal, uniform

FACTOR_DECIMALS = 6
_CHINEXT_REFORM = np.datetime64("2020-08-24")  # a session: ChiNext's limit became 20 %


@dataclass(frozen=True)
class Prices:
    """``close[t + 1, i]`` is the close of session t (carried while not trading); row 0 stands before the range.

    ``event_*``: ex-right days in the range, by (i, t): reference price in ticks, cumulative factor from then on.
    """

    close: npt.NDArray[np.int32]
    traded: npt.NDArray[np.bool_]
    event_keys: I64  # i * sessions + t, ascending
    event_refs: I64
    event_factors: F64
    old_factors: F64  # in force at the range's start
    old_dates: Days  # since when; NaT: no ex-right day before the range


def limits(ref: I64, percent: I64, free: npt.NDArray[np.bool_]) -> tuple[I64, I64]:
    """Lowest and highest allowed price in ticks, rounded half up as the exchanges do."""
    down_percent = np.where(percent == 44, 36, percent)
    up = (ref * (100 + percent) + 50) // 100
    down = (ref * (100 - down_percent) + 50) // 100
    return np.where(free, 1, np.maximum(down, 1)), np.where(free, ref * 10, up)


def percent_on(listing: Listing, i: I64, t: I64, by_day: npt.NDArray[np.int64]) -> tuple[I64, npt.NDArray[np.bool_]]:
    """Limit in percent and "no limit" of (i, t); ``by_day`` are the limits of i on the day of t."""
    age = t - listing.first[i]
    percent = np.where(age == 0, np.maximum(by_day, listing.first_day_percent[i]), by_day)
    free = ((age >= 0) & (age < listing.free_sessions[i])) | (percent >= 1000)
    return np.where(free, 1000, percent), free


def build(seed: int, listing: Listing, days: Days, calendar: Days, begin: int) -> Prices:
    """Walk the market forward through ``days`` (``calendar[begin:...]``)."""
    sessions, size = len(days), len(listing)
    everyone = np.arange(size)
    ex_day, cash, bonus = _distributions(seed, listing, days)
    traded = _trading(seed, listing, sessions, ex_day)
    close = np.empty((sessions + 1, size), dtype=np.int32)
    close[0] = listing.base_ticks
    index = listing.index
    sigma = np.where(listing.stock, 0.022, 0.009)
    log_base = np.log(listing.base_ticks)
    by_day = listing.limit_percent(days[0])
    keys: list[I64] = []
    refs: list[I64] = []
    ratios: list[F64] = []
    block = max(1, 200_000 // size)
    for t in range(sessions):
        if t % block == 0:
            span = np.arange(t, min(t + block, sessions))[:, None]
            shocks = normal(seed, 1, everyone[None, :], span)
            luck = uniform(seed, 2, everyone[None, :], span)
        if days[t] == _CHINEXT_REFORM:
            by_day = listing.limit_percent(days[t])
        last = close[t].astype(np.int64)
        ref = last
        event = np.flatnonzero((ex_day == t).any(axis=0))
        if len(event):
            at = (ex_day[:, event] == t).argmax(axis=0)
            held = last[event]
            paid = np.minimum(cash[at, event], held // 12).clip(1)
            new = np.floor((held - paid) / (1.0 + bonus[at, event]) + 0.5).astype(np.int64).clip(1)
            ref = last.copy()
            ref[event] = new
            keys.append(event * sessions + t)
            refs.append(new)
            ratios.append(held / new)
        percent, free = percent_on(listing, everyone, np.full(size, t), by_day)
        down, up = limits(ref, percent, free)
        drift = 0.004 * (log_base - np.log(ref))
        move = np.exp(drift + sigma * np.where(free & ~index, 4.0, 1.0) * shocks[t % block])
        price = np.floor(ref * move + 0.5).astype(np.int64)
        price = np.where(~free & (luck[t % block] < 0.006), up, price)
        price = np.where(~free & (luck[t % block] > 0.994), down, price)
        price = np.clip(price, np.maximum(down, 50), np.maximum(up, 50))
        close[t + 1] = np.where(traded[t], price, ref)
    old_factors, old_dates = _history(seed, listing, calendar, begin)
    if not keys:
        none = np.empty(0, dtype=np.int64)
        return Prices(close, traded, none, none, np.empty(0), old_factors, old_dates)
    order = np.argsort(np.concatenate(keys))
    event_keys, event_refs = np.concatenate(keys)[order], np.concatenate(refs)[order]
    factors = _cumulate(event_keys // sessions, np.concatenate(ratios)[order], old_factors)
    return Prices(close, traded, event_keys, event_refs, factors, old_factors, old_dates)


def _cumulate(who: I64, ratio: F64, old: F64) -> F64:
    out = np.empty(len(ratio))
    running = 1.0
    for n in range(len(ratio)):  # a few events per stock and year
        if n == 0 or who[n] != who[n - 1]:
            running = old[who[n]]
        running *= ratio[n]
        out[n] = round(running, FACTOR_DECIMALS)
    return out


def _history(seed: int, listing: Listing, calendar: Days, begin: int) -> tuple[F64, Days]:
    """Factors that older listings bring along from ex-right days before the range."""
    size = len(listing)
    u = uniform(seed, 30, np.arange(size), 0)
    since = begin + listing.first + 40 + (u * 200).astype(np.int64)
    index = listing.index
    has = (since < begin - 5) & ~index
    factors = np.where(has, np.round(1.0 + u * 2.0, FACTOR_DECIMALS), 1.0)
    dates = np.full(size, np.datetime64("NaT"), dtype="datetime64[D]")
    dates[has] = calendar[since[has]]
    return factors, dates


def _distributions(seed: int, listing: Listing, days: Days) -> tuple[I64, I64, F64]:
    """Ex-right sessions (-1: none), cash in ticks and bonus shares per share: one row per calendar year."""
    years = days.astype("datetime64[Y]").astype(np.int64)
    size = len(listing)
    i = np.arange(size)
    index = listing.index
    rows, cash, bonus = [], [], []
    for year in np.unique(years):
        inside = np.flatnonzero(years == year)
        lo, hi = int(inside[0]), int(inside[-1])
        u = [uniform(seed, 40 + c, i, int(year)) for c in range(4)]
        day = lo + ((hi - lo) * (0.2 + 0.6 * u[0])).astype(np.int64)
        pays = (u[1] < 0.8) & ~index & (day > listing.first + 20) & (day < listing.stop - 2) & (day > 1)
        rows.append(np.where(pays, day, -1))
        cash.append((listing.base_ticks * (0.005 + 0.035 * u[2])).astype(np.int64).clip(1))
        stock = listing.stock
        bonus.append(np.where(stock & (u[3] > 0.7), np.round(0.1 + (u[3] - 0.7) * 3.0, 1), 0.0))
    return np.stack(rows), np.stack(cash), np.stack(bonus)


def _trading(seed: int, listing: Listing, sessions: int, ex_day: I64) -> npt.NDArray[np.bool_]:
    """Who trades when: listed and not suspended."""
    size = len(listing)
    t = np.arange(sessions)[:, None]
    listed = (t >= listing.first) & (t < listing.stop)
    stock = listing.stock
    halted = np.zeros((sessions, size), dtype=np.bool_)
    i = np.arange(size)
    for block in range(0, sessions, 120):
        u = [uniform(seed, 50 + c, i, block) for c in range(3)]
        start = block + (u[1] * 110).astype(np.int64)
        stop = start + 1 + (u[2] ** 3 * 14).astype(np.int64)
        halted |= (t >= start) & (t < stop) & (u[0] < 0.25)
    special = np.flatnonzero(stock & (i % 9 == 1))  # closed over an ex-right day
    for who in special:
        days = ex_day[:, who]
        for day in days[days > 2][:1]:
            halted[day - 1 : day + 2, who] = True
    halted[sessions - 3 :, stock & (i % 16 == 7)] = True  # the range ends in a suspension
    halted[t < listing.first + 12] = False
    halted[:, ~stock] = False
    return np.asarray(listed & ~halted)
