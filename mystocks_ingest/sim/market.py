"""The truth of the simulated market: pure, seeded, computed on demand for any symbols and sessions.

Rows are addressed by (i, t): number of the instrument in the listing, number of the session in the range. A day
of the whole market and the history of one symbol are the same arithmetic on other index arrays.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time
from functools import cached_property

import numpy as np
import pyarrow as pa

from mystocks_ingest.market import datasets
from mystocks_ingest.market.datasets import Dataset
from mystocks_ingest.sim import listing as listings
from mystocks_ingest.sim import prices as walk
from mystocks_ingest.sim import snapshot
from mystocks_ingest.sim.bars import Bars, Bools, Period, by_period, valuations
from mystocks_ingest.sim.canonical import Columns, shanghai, tabled
from mystocks_ingest.sim.clock import Clock
from mystocks_ingest.sim.holidays import LAST, Days, sessions
from mystocks_ingest.sim.live import AUCTION_SECOND, LiveSession, State, mixed, second_of
from mystocks_ingest.sim.minutes import MinuteBars, minute_bars
from mystocks_ingest.sim.noise import F64, I64, normal, uniform

CLOSE_SECOND = 15 * 3600


@dataclass(frozen=True)
class MarketConfig:
    """What determines the market: equal configurations give equal truths."""

    seed: int = 7
    stocks: int = 60
    sessions: int = 480
    end: date = date(2026, 6, 30)
    calendar_until: date = LAST  # the last day of which the vendors know whether it is a session
    odd_lots: bool = True  # volumes that are no multiple of 100, as tushare and baostock show them


class Market:
    """The simulated exchange. Its tables have the canonical schemas, ``source`` "sim", and are sorted by key."""

    def __init__(self, config: MarketConfig | None = None) -> None:
        self.config = config = config or MarketConfig()
        if not date(2001, 1, 1) <= config.end <= LAST:
            raise ValueError(f"the simulated market can end between 2001-01-01 and {LAST}, not on {config.end}")
        self.calendar_days = sessions()
        self.begin = listings.first_session(self.calendar_days, config.end, config.sessions)
        if self.begin < 260:
            raise ValueError(f"{config.sessions} sessions before {config.end} reach further back than 2001")
        self.days: Days = self.calendar_days[self.begin : self.begin + config.sessions]
        self.listing = listings.build(config.seed, config.stocks, self.calendar_days, self.begin, config.sessions)
        self.prices = walk.build(config.seed, self.listing, self.days, self.calendar_days, self.begin)
        self.fetched_at = datetime.combine(self.last_day, time(10, 0), UTC)
        self.number = {s: n for n, s in enumerate(self.listing.symbols)}
        self.clock: Clock | None = None
        """Set: the market runs, and answers (not the truth tables below) are those of the clock's moment."""
        self._live: LiveSession | None = None

    @property
    def first_day(self) -> date:
        return self.days[0].item()  # type: ignore[no-any-return]

    @property
    def last_day(self) -> date:
        return self.days[-1].item()  # type: ignore[no-any-return]

    def kind(self, asset_type: str) -> I64:
        """Numbers of the instruments of one asset type."""
        return np.flatnonzero(np.array(self.listing.asset_types) == asset_type)

    def session_range(self, first: date | None, last: date | None) -> tuple[int, int]:
        """Session numbers [start, stop) of the days ``first`` to ``last``, both included."""
        start = 0 if first is None else int(np.searchsorted(self.days, np.datetime64(first)))
        stop = len(self.days) if last is None else int(np.searchsorted(self.days, np.datetime64(last), side="right"))
        return start, max(start, min(stop, self.closed))

    # -- now ------------------------------------------------------------------------------------------------------
    @property
    def today(self) -> int:
        """Number of the session that quotes show: the clock's, else the one before it; the last one without a clock."""
        if self.clock is None:
            return len(self.days) - 1
        return max(int(np.searchsorted(self.days, second_of(self.clock.moment)[0], side="right")) - 1, 0)

    @property
    def closed(self) -> int:
        """How many sessions are over: bars of the others do not exist yet."""
        if self.clock is None:
            return len(self.days)
        day, second = second_of(self.clock.moment)
        if second < CLOSE_SECOND:
            return int(np.searchsorted(self.days, day))
        return int(np.searchsorted(self.days, day, side="right"))

    def live(self, t: int) -> LiveSession:
        """Session ``t`` as it runs; the one asked for last is kept."""
        if self._live is None or self._live.t != t:
            self._live = LiveSession(self, t)
        return self._live

    def now(self, who: I64) -> tuple[Bars, Bools]:
        """Bars of ``who`` as they stand (the close being the last price), and which of them have traded today."""
        t = self.today
        bars = self.bars(who, np.full(len(who), t))
        if self.clock is None:
            return bars, self.prices.traded[t, who]
        state, rows = self._state(self.clock.moment, who)
        if state is None:
            return bars, np.zeros(len(who), dtype=np.bool_)
        traded = rows >= 0
        fields = {}
        for name in ("high", "low", "close", "volume", "amount"):
            fields[name] = getattr(bars, name).copy()
            fields[name][traded] = getattr(state.bars, name)
        return replace(bars, **fields), traded

    def seconds(self, who: I64) -> I64:
        """Second of the day of the last trade of each of ``who``; of the close where nothing else is known."""
        out = np.full(len(who), CLOSE_SECOND)
        if self.clock is not None:
            state, rows = self._state(self.clock.moment, who)
            out[:] = min(second_of(self.clock.moment)[1], CLOSE_SECOND)
            if state is not None:
                out[rows >= 0] = state.second
        return out

    def _state(self, moment: datetime, who: I64) -> tuple[State | None, I64]:
        """The state of those of ``who`` that trade that day, and the place of each in the session (-1: none)."""
        day, second = second_of(moment)
        t = max(int(np.searchsorted(self.days, day, side="right")) - 1, 0)
        session = self.live(t)
        rows = session.row[who]
        if self.days[t] < day:
            second = CLOSE_SECOND  # no session: the last one's end is shown
        ahead = self.clock.leading if self.clock is not None else None
        state = session.state(second, rows[rows >= 0])
        if ahead is None:
            return state, rows
        later = session.state(second_of(ahead)[1], rows[rows >= 0])
        return (later, rows) if state is None or later is None else (mixed(state, later), rows)

    # -- rows -----------------------------------------------------------------------------------------------------
    def pairs(self, who: I64, start: int, stop: int, *, traded: bool = True) -> tuple[I64, I64]:
        """(i, t) of the rows, symbol by symbol: those that traded, or those listed but suspended."""
        inside = self.prices.traded[start:stop][:, who]
        if not traded:
            t = np.arange(start, stop)[:, None]
            inside = ~inside & (t >= self.listing.first[who]) & (t < self.listing.stop[who])
        column, row = np.nonzero(inside.T)
        return who[column], row + start

    def reference(self, i: I64, t: I64) -> I64:
        """pre_close of (i, t) in ticks."""
        ref = self.prices.close[t, i].astype(np.int64)
        keys = i * len(self.days) + t
        at = np.searchsorted(self.prices.event_keys, keys)
        at = np.minimum(at, max(len(self.prices.event_keys) - 1, 0))
        if len(self.prices.event_keys):
            ref = np.where(self.prices.event_keys[at] == keys, self.prices.event_refs[at], ref)
        return ref

    def factor(self, i: I64, t: I64) -> F64:
        """Cumulative back-adjustment factor in force on (i, t)."""
        keys = i * len(self.days) + t
        at = np.searchsorted(self.prices.event_keys, keys, side="right") - 1
        if not len(self.prices.event_keys):
            return self.prices.old_factors[i]
        own = (at >= 0) & (self.prices.event_keys[at] // len(self.days) == i)
        return np.where(own, self.prices.event_factors[at], self.prices.old_factors[i])

    def bars(self, i: I64, t: I64) -> Bars:
        """Daily bars of any pairs that traded."""
        seed, listing = self.config.seed, self.listing
        ref = self.reference(i, t)
        close = self.prices.close[t + 1, i].astype(np.int64)
        old_rule = listing.limit_percent(np.datetime64("2020-01-01"))[i]
        new_rule = listing.limit_percent(np.datetime64("2021-01-01"))[i]
        by_day = np.where(self.days[t] >= np.datetime64("2020-08-24"), new_rule, old_rule)
        percent, free = walk.percent_on(listing, i, t, by_day)
        down, up = walk.limits(ref, percent, free)
        down, up = np.minimum(down, close), np.maximum(up, close)
        u = [uniform(seed, 60 + c, i, t) for c in range(6)]
        wiggle = ref * 0.012
        start = np.floor(ref + (close - ref) * u[0] * 0.7 + (u[1] - 0.5) * wiggle + 0.5).astype(np.int64)
        start = np.clip(start, down, up)
        high = np.minimum(np.maximum(start, close) + np.floor(u[2] ** 2 * 2 * wiggle).astype(np.int64), up)
        low = np.maximum(np.minimum(start, close) - np.floor(u[3] ** 2 * 2 * wiggle).astype(np.int64), down)
        locked = ~free & ((close == up) | (close == down)) & (u[4] < 0.35)
        start, high, low = (np.where(locked, close, x) for x in (start, high, low))
        size = listing.base_volume[i] * np.exp(0.6 * normal(seed, 5, i, t)) * (1.0 + 8.0 * np.abs(close / ref - 1.0))
        volume = np.minimum(size, listing.float_shares[i] * 0.6).astype(np.int64) + 200_000
        if not self.config.odd_lots:
            volume = volume // 100 * 100
        mean = (start + close + 2 * high + 2 * low) / 6.0 + (u[5] - 0.5) * (high - low) * 0.1
        tick = listing.tick[i]
        index = listing.index[i]
        yuan = np.where(index, 9.0 + 6.0 * u[5], np.clip(mean, low, high) * tick)
        return Bars(i, t, start, high, low, close, ref, up, down, volume, np.round(volume * yuan), tick)

    def history(self, i: int, start: int = 0, stop: int | None = None) -> Bars:
        """Bars of one instrument."""
        return self.bars(*self.pairs(np.array([i]), start, self.closed if stop is None else stop))

    def market_day(self, t: int, asset_type: str = "stock") -> Bars:
        """Bars of every instrument of one kind that traded on session ``t``."""
        return self.bars(*self.pairs(self.kind(asset_type), t, t + 1))

    def minutes(self, i: int, t: I64, interval: str) -> MinuteBars:
        """Minute bars of one instrument on sessions ``t`` (which must have traded)."""
        return minute_bars(self.config.seed, self.bars(np.full(len(t), i), t), interval)

    # -- truth tables ---------------------------------------------------------------------------------------------
    def bars_1d(
        self,
        *,
        symbols: tuple[str, ...] | None = None,
        first: date | None = None,
        last: date | None = None,
        asset_types: tuple[str, ...] = ("stock",),
    ) -> pa.Table:
        """BAR_1D of the days ``first`` to ``last``; all instruments of ``asset_types`` unless ``symbols`` are named."""
        i, t = self.pairs(self._who(symbols, asset_types), *self.session_range(first, last))
        return self.bar_table(self.bars(i, t), datasets.BAR_1D)

    def bar_table(self, bars: Bars, dataset: Dataset) -> pa.Table:
        """``bars`` as canonical rows sorted by key."""
        index = self.listing.index[bars.i]
        turnover = np.round(bars.volume / self.listing.float_shares[bars.i] * 100.0, 4)
        columns = {
            "symbol": self.symbol_column(bars.i),
            "trade_date": pa.array(self.days[bars.t]),
            **{n: bars.price(getattr(bars, n)) for n in ("open", "high", "low", "close")},
            "pre_close": bars.price(bars.ref),
            "volume": bars.volume,
            "amount": bars.amount,
            "turnover": pa.array(turnover, mask=index),
        }
        return self._table(dataset, columns)

    def period_bars(self, period: Period, *, symbols: tuple[str, ...] | None = None) -> pa.Table:
        """BAR_1W or BAR_1MO: complete periods only, dated by the period's last session of the exchange."""
        return self.bar_table(self.aggregate(self._who(symbols, ("stock",)), period), datasets.dataset(f"bar_{period}"))

    def aggregate(self, who: I64, period: Period) -> Bars:
        """Weekly or monthly bars of the instruments ``who``; ``t`` is the period's last session."""
        return by_period(self, who, period)

    def instruments(self, asset_types: tuple[str, ...] = ("stock", "index", "etf")) -> pa.Table:
        """INSTRUMENT."""
        who = self._who(None, asset_types)
        own = self.listing
        stock = np.array(own.asset_types)[who] == "stock"
        columns = {
            "symbol": self.symbol_column(who),
            "name": pa.array([own.names[n] for n in who]),
            "exchange": pa.array([own.symbols[n][-2:] for n in who]),
            "asset_type": pa.array([own.asset_types[n] for n in who]),
            "status": pa.array(np.where(np.isnat(own.delist_dates[who]), "L", "D").tolist()),
            "list_date": pa.array(own.list_dates[who]),
            "delist_date": pa.array(own.delist_dates[who]),
            "industry": pa.array([own.industries[n] for n in who], mask=~stock),
            "area": pa.array([own.areas[n] for n in who], mask=~stock),
        }
        return self._table(datasets.INSTRUMENT, columns)

    def calendar(self, first: date | None = None, last: date | None = None) -> pa.Table:
        """CALENDAR of exchange SH: every day, open or not, to the end of the last known year."""
        start = np.datetime64(first or self.first_day)
        days = np.arange(start, np.datetime64(last or self.config.calendar_until) + 1)
        columns = {
            "exchange": pa.array(["SH"] * len(days), pa.string()),
            "trade_date": pa.array(days),
            "is_open": pa.array(np.isin(days, self.calendar_days)),
        }
        return self._table(datasets.CALENDAR, columns)

    def suspensions(self, first: date | None = None, last: date | None = None) -> pa.Table:
        """SUSPENSION: listed stocks that did not trade, one row per session."""
        return self.suspension_table(*self.pairs(self.kind("stock"), *self.session_range(first, last), traded=False))

    def suspension_table(self, i: I64, t: I64) -> pa.Table:
        """SUSPENSION of the pairs (i, t)."""
        return self._table(datasets.SUSPENSION, {"symbol": self.symbol_column(i), "trade_date": pa.array(self.days[t])})

    def factors(self, asset_types: tuple[str, ...] = ("stock", "etf")) -> pa.Table:
        """ADJ_FACTOR as a step function: 1 at listing, then one row per ex-right day."""
        who = self._who(None, asset_types)
        old = who[~np.isnat(self.prices.old_dates[who])]
        chosen = np.isin(self.prices.event_keys // len(self.days), who)
        i = self.prices.event_keys[chosen] // len(self.days)
        t = self.prices.event_keys[chosen] % len(self.days)
        day = np.concatenate([self.listing.list_dates[who], self.prices.old_dates[old], self.days[t]])
        factor = np.concatenate([np.ones(len(who)), self.prices.old_factors[old], self.prices.event_factors[chosen]])
        columns = {
            "symbol": self.symbol_column(np.concatenate([who, old, i])),
            "trade_date": pa.array(day),
            "factor": factor,
        }
        return self._table(datasets.ADJ_FACTOR, columns)

    def minute_table(self, symbol: str, interval: str, first: date | None = None, last: date | None = None) -> pa.Table:
        """A minute dataset of one symbol; 1m has 241 rows a session, the first being the auction at 09:30."""
        _, t = self.pairs(np.array([self.number[symbol]]), *self.session_range(first, last))
        bars = self.minutes(self.number[symbol], t, interval)
        columns = {
            "symbol": self.symbol_column(np.full(bars.count, self.number[symbol])),
            "bar_time": shanghai(self.days[t][bars.row] + bars.minute),
            **{n: bars.price(getattr(bars, n)) for n in ("open", "high", "low", "close")},
            "volume": bars.volume,
            "amount": bars.amount,
        }
        return self._table(datasets.dataset(f"bar_{interval}"), columns)

    def daily_basic(self, first: date | None = None, last: date | None = None) -> pa.Table:
        """DAILY_BASIC of every stock that traded."""
        i, t = self.pairs(self.kind("stock"), *self.session_range(first, last))
        columns = {"symbol": self.symbol_column(i), "trade_date": pa.array(self.days[t]), **self.basics(i, t)}
        return self._table(datasets.DAILY_BASIC, columns)

    def basics(self, i: I64, t: I64) -> dict[str, pa.Array]:
        """The number columns of DAILY_BASIC for the pairs (i, t); a ratio to a loss is null."""
        return valuations(self, i, t)

    def quotes(self) -> pa.Table:
        """QUOTE after the close of the last session, or now: five levels; an empty side at a price limit."""
        if self.clock is not None:
            return self.quotes_at(self.clock.moment)
        return self._table(datasets.QUOTE, snapshot.quote_columns(self))

    def quotes_at(self, moment: datetime) -> pa.Table:
        """QUOTE of stocks and ETFs at ``moment`` (aware); no rows before the auction, the last close on a holiday.

        ``ts`` is the second of the symbol's last trade.
        """
        state, _ = self._state(moment, np.arange(len(self.listing)))
        if state is None:
            return datasets.QUOTE.schema.empty_table()
        return self._table(datasets.QUOTE, snapshot.live_columns(self, self.days[state.bars.t[0]], state))

    def ticks(self, symbol: str, day: date | None = None, *, until: datetime | None = None) -> pa.Table:
        """TICK of ``day`` as it ran, until ``until`` (aware); without a day, of the last session that traded, or now.

        Without a clock that is a modest picture of two trades a minute.
        """
        number = self.number[symbol]
        if day is None and self.clock is None:
            return self._table(datasets.TICK, snapshot.tick_columns(self, number))
        if day is None and self.clock is not None:
            day, until = self.days[self.today].item(), self.clock.moment
        session = self.live(int(np.searchsorted(self.days, np.datetime64(day))))
        if self.days[session.t] != np.datetime64(day):
            raise ValueError(f"{day} is no session")
        last, second = (np.datetime64(day), CLOSE_SECOND) if until is None else second_of(until)
        second = CLOSE_SECOND if last > np.datetime64(day) else second
        if session.row[number] < 0 or second < AUCTION_SECOND:
            return datasets.TICK.schema.empty_table()
        return self._table(datasets.TICK, snapshot.live_tick_columns(self, session, number, second))

    # -- columns --------------------------------------------------------------------------------------------------
    def _who(self, symbols: tuple[str, ...] | None, asset_types: tuple[str, ...]) -> I64:
        if symbols is not None:
            return np.array(sorted(self.number[s] for s in symbols), dtype=np.int64)
        return np.flatnonzero(np.isin(np.array(self.listing.asset_types), asset_types))

    @cached_property
    def _symbol_pool(self) -> pa.Array:
        return pa.array(self.listing.symbols, pa.string())

    def symbol_column(self, i: I64) -> pa.Array:
        return self._symbol_pool.take(pa.array(i))

    def _table(self, dataset: Dataset, columns: Columns) -> pa.Table:
        return tabled(dataset, columns, self.fetched_at)
