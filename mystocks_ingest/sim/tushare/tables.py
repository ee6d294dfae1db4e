"""The simulated market in tushare's tables: lots and thousands of yuan, newest first, text dates."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import translate

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mystocks_ingest.sim.answers import Answer, Cell
from mystocks_ingest.sim.bars import Bars, Period
from mystocks_ingest.sim.market import Market
from mystocks_ingest.sim.noise import I64
from mystocks_ingest.sim.tushare.lists import Lists, chosen, day_of, session_range
from mystocks_ingest.sim.tushare.wire import Params, Refusal

_PRICES = ("open", "high", "low", "close")
_TOTAL_SHARES = {"total_share": "total_shares", "float_share": "float_shares", "free_share": "free_shares"}


class MarketTables:
    """wire_tushare.Tables over a simulated market."""

    def __init__(self, market: Market) -> None:
        self.market, self.lists = market, Lists(market)
        self._day_text = np.datetime_as_string(market.days, "D").astype("U10")
        self._days = np.char.replace(self._day_text, "-", "")

    def answer(self, api: str, params: Params, fields: Sequence[str], *, cap: int | None, adjusted: bool) -> Answer:
        match api:
            case "daily":
                return self._daily(params, "stock", cap, adjusted=adjusted)
            case "fund_daily":
                return self._daily(params, "etf", cap, adjusted=adjusted)
            case "index_daily":
                if not params.get("ts_code"):
                    raise Refusal(-2001, "参数校验失败, ts_code: 必填参数")
                return self._daily(params, "index", cap, adjusted=False)
            case "weekly" | "monthly" | "index_weekly" | "index_monthly" | "stk_weekly_monthly":
                return self._period(api, params)
            case "adj_factor":
                return self._adj_factor(params, "stock", cap)
            case "fund_adj":
                return self._adj_factor(params, "etf", cap)
            case "daily_basic":
                return self._daily_basic(params, cap)
            case "stk_mins":
                return self._minutes(params)
            case "trade_cal":
                return self._trade_cal(params)
            case "suspend_d":
                return self._suspend(params)
            case "stk_limit":
                return self._stk_limit(params, cap)
            case "rt_k":
                return self._rt_k(params, fields)
            case _:
                return self.lists.answer(api, params, fields)

    # -- bars -----------------------------------------------------------------------------------------------------
    def _pairs(self, params: Params, asset_type: str, cap: int | None, *, listed: bool = False) -> tuple[I64, I64]:
        """(i, t) newest session first, the whole market of a session together; little more than ``cap`` of them."""
        who = chosen(self.market, params, asset_type)
        start, stop = session_range(self.market, params)
        own = self.market.listing
        t = np.arange(start, stop)[:, None]
        inside = (
            (t >= own.first[who]) & (t < own.stop[who]) if listed else self.market.prices.traded[start:stop][:, who]
        )
        row, column = np.nonzero(inside[::-1])
        if cap is not None:
            row, column = row[: cap + 1], column[: cap + 1]
        return who[column], stop - 1 - row

    def _daily(self, params: Params, asset_type: str, cap: int | None, *, adjusted: bool) -> Answer:
        bars = self.market.bars(*self._pairs(params, asset_type, cap))
        table = self._bar_columns(bars)
        order = {
            "stock": "ts_code trade_date open high low close pre_close change pct_chg vol amount",
            "etf": "ts_code trade_date pre_close open high low close change pct_chg vol amount",
            "index": "ts_code trade_date close open high low pre_close change pct_chg vol amount",
        }[asset_type].split()
        return Answer(
            tuple(order), tuple(table[n] for n in order), time="trade_date", prices=_PRICES, volume="vol",
            amount="amount", newest_first=True, adjusted=self._forward(bars) if adjusted else (),
        )  # fmt: skip

    def _bar_columns(self, bars: Bars) -> dict[str, list[Cell]]:
        prices = {n: bars.price(getattr(bars, n)) for n in (*_PRICES, "ref")}
        return {
            "ts_code": self.market.symbol_column(bars.i).to_pylist(),
            "trade_date": self._days[bars.t].tolist(),
            **{n: prices[n].tolist() for n in _PRICES},
            "pre_close": prices["ref"].tolist(),
            "change": bars.price(bars.close - bars.ref).tolist(),
            "pct_chg": np.round(bars.change_percent, 4).tolist(),
            "vol": (bars.volume / 100).tolist(),
            "amount": (bars.amount / 1000).tolist(),
        }

    def _forward(self, bars: Bars) -> tuple[list[Cell], ...]:
        newest = self.market.factor(bars.i, np.full(len(bars.i), len(self.market.days) - 1))
        ratio = self.market.factor(bars.i, bars.t) / newest
        return tuple(np.round(bars.price(getattr(bars, n)) * ratio, 2).tolist() for n in _PRICES)

    def _period(self, api: str, params: Params) -> Answer:
        monthly = params.get("freq") == "month" if api == "stk_weekly_monthly" else api.endswith("monthly")
        period: Period = "1mo" if monthly else "1w"
        bars = self.market.aggregate(
            chosen(self.market, params, "index" if api.startswith("index") else "stock"), period
        )
        start, stop = session_range(self.market, params)
        keep = np.flatnonzero((bars.t >= start) & (bars.t < stop))
        keep = keep[np.argsort(-bars.t[keep], kind="stable")]
        bars = Bars(**{n: getattr(bars, n)[keep] for n in Bars.__dataclass_fields__})
        table = self._bar_columns(bars)
        if api == "stk_weekly_monthly":
            table["end_date"] = table["trade_date"]
            table["freq"] = ["month" if monthly else "week"] * len(keep)
            order = "ts_code trade_date end_date freq open high low close pre_close vol amount change pct_chg"
        else:
            table["pct_chg"] = np.round((bars.close - bars.ref) / bars.ref, 4).tolist()  # a fraction, as documented
            order = "ts_code trade_date close open high low pre_close change pct_chg vol amount"
        names = tuple(order.split())
        return Answer(
            names, tuple(table[n] for n in names), time="trade_date", prices=_PRICES, volume="vol", amount="amount",
            newest_first=True,
        )  # fmt: skip

    def _minutes(self, params: Params) -> Answer:
        names = ("ts_code", "trade_time", "open", "close", "high", "low", "vol", "amount")
        code = params.get("ts_code", "")
        interval = params.get("freq", "1min").lower().removesuffix("in")
        if not code:
            raise Refusal(-2001, "参数校验失败, ts_code: 必填参数")
        if interval not in ("1m", "5m", "15m", "30m", "60m"):
            raise Refusal(-2001, "参数校验失败, freq: 1min/5min/15min/30min/60min")
        if code not in self.market.number:
            return Answer(names, tuple([] for _ in names))
        since, until = params.get("start_date"), params.get("end_date")
        start, stop = self.market.session_range(day_of(since) if since else None, day_of(until) if until else None)
        i = self.market.number[code]
        t = self.market.pairs(np.array([i]), start, stop)[1]
        keep_sessions = 8001 // {"1m": 241, "5m": 48, "15m": 16, "30m": 8, "60m": 4}[interval] + 2
        t = t[-keep_sessions:]
        bars = self.market.minutes(i, t, interval)
        when = np.asarray(self.market.days[t][bars.row].astype("datetime64[s]") + bars.minute, dtype="datetime64[s]")
        keep = np.ones(len(when), dtype=np.bool_)
        if since and len(since) > 10:
            keep &= when >= np.datetime64(since)
        if until and len(until) > 10:
            keep &= when <= np.datetime64(until)
        at = np.flatnonzero(keep)[::-1]
        text = np.char.replace(np.datetime_as_string(when[at], "s"), "T", " ").tolist() if len(at) else []
        prices = {n: bars.price(getattr(bars, n))[at].tolist() for n in _PRICES}
        columns = (
            [code] * len(at), text, prices["open"], prices["close"], prices["high"], prices["low"],
            bars.volume[at].astype(np.float64).tolist(), bars.amount[at].tolist(),
        )  # fmt: skip
        return Answer(
            names, columns, time="trade_time", prices=_PRICES, volume="vol", amount="amount", newest_first=True
        )

    # -- derived --------------------------------------------------------------------------------------------------
    def _adj_factor(self, params: Params, asset_type: str, cap: int | None) -> Answer:
        i, t = self._pairs(params, asset_type, cap, listed=True)
        columns = (
            self.market.symbol_column(i).to_pylist(),
            self._days[t].tolist(),
            self.market.factor(i, t).tolist(),
        )
        return Answer(("ts_code", "trade_date", "adj_factor"), columns, time="trade_date", newest_first=True)

    def _daily_basic(self, params: Params, cap: int | None) -> Answer:
        i, t = self._pairs(params, "stock", cap)
        basics = self.market.basics(i, t)
        bars = self.market.bars(i, t)

        def ten_thousand(name: str) -> list[Cell]:
            return (basics[name].to_numpy() / 10_000).tolist()  # type: ignore[no-any-return]

        table: dict[str, list[Cell]] = {
            "ts_code": self.market.symbol_column(i).to_pylist(),
            "trade_date": self._days[t].tolist(),
            "close": bars.price(bars.close).tolist(),
            "turnover_rate": basics["turnover"].to_pylist(),
            "turnover_rate_f": basics["turnover_free"].to_pylist(),
            **{n: basics[n].to_pylist() for n in ("volume_ratio", "pe", "pe_ttm", "pb", "ps", "ps_ttm")},
            "dv_ratio": basics["dividend_yield"].to_pylist(),
            "dv_ttm": basics["dividend_yield_ttm"].to_pylist(),
            **{theirs: ten_thousand(ours) for theirs, ours in _TOTAL_SHARES.items()},
            "total_mv": ten_thousand("total_value"),
            "circ_mv": ten_thousand("float_value"),
        }
        return Answer(tuple(table), tuple(table.values()), time="trade_date", newest_first=True)

    def _stk_limit(self, params: Params, cap: int | None) -> Answer:
        bars = self.market.bars(*self._pairs(params, "stock", cap))
        table = {
            "trade_date": self._days[bars.t].tolist(),
            "ts_code": self.market.symbol_column(bars.i).to_pylist(),
            "up_limit": bars.price(bars.up).tolist(),
            "down_limit": bars.price(bars.down).tolist(),
        }
        return Answer(tuple(table), tuple(table.values()), time="trade_date", newest_first=True)

    def _rt_k(self, params: Params, fields: Sequence[str]) -> Answer:
        patterns = params.get("ts_code", "").split(",")
        quotes = self.market.quotes()
        wanted = re.compile("|".join(translate(p) for p in patterns)).match
        rows = [n for n, s in enumerate(quotes["symbol"].to_pylist()) if wanted(s)]
        quotes = quotes.take(pa.array(rows, pa.int64()))
        symbols = quotes["symbol"].to_pylist()
        table: dict[str, list[Cell]] = {
            "ts_code": symbols,
            "name": [self.market.listing.names[self.market.number[s]] for s in symbols],
            **{n: quotes[n].to_pylist() for n in ("pre_close", "high", "open", "low")},
            "close": quotes["last"].to_pylist(),
            "vol": quotes["volume"].to_pylist(),
            "amount": [int(a) for a in quotes["amount"].to_pylist()],
            "num": [v // 900 for v in quotes["volume"].to_pylist()],
        }
        if fields:
            table |= {f"{s}_{w}1": quotes[f"{s}_{w}1"].to_pylist() for s in ("ask", "bid") for w in ("price", "volume")}
            table["trade_time"] = pc.strftime(
                quotes["ts"].cast(pa.timestamp("s", quotes["ts"].type.tz)), "%Y-%m-%d %H:%M:%S"
            ).to_pylist()
        return Answer(tuple(table), tuple(table.values()), prices=_PRICES, volume="vol", amount="amount")

    # -- reference ------------------------------------------------------------------------------------------------
    def _trade_cal(self, params: Params) -> Answer:
        days = self.market.calendar_days
        every = np.arange(days[0], np.datetime64(self.market.config.calendar_until) + 1)
        position = np.searchsorted(days, every)  # of the first session not before the day
        opened = days[np.minimum(position, len(days) - 1)] == every
        chosen = np.ones(len(every), dtype=np.bool_)
        if params.get("start_date"):
            chosen &= every >= np.datetime64(day_of(params["start_date"]))
        if params.get("end_date"):
            chosen &= every <= np.datetime64(day_of(params["end_date"]))
        if params.get("is_open"):
            chosen &= opened == (params["is_open"] == "1")
        at = np.flatnonzero(chosen)[::-1]
        before = days[np.maximum(position[at] - 1, 0)]
        columns = (
            [params.get("exchange") or "SSE"] * len(at),
            _compact(every[at]),
            opened[at].astype(np.int64).tolist(),
            _compact(before),
        )
        return Answer(("exchange", "cal_date", "is_open", "pretrade_date"), columns, newest_first=True)

    def _suspend(self, params: Params) -> Answer:
        who = chosen(self.market, params, "stock")
        start, stop = session_range(self.market, params)
        halted = self.market.pairs(who, start, stop, traded=False)
        rows = [(int(t), int(i), "S") for i, t in zip(*halted, strict=True)]
        before = self.market.pairs(who, max(start - 1, 0), stop, traded=False)
        pending = set(zip(before[0].tolist(), before[1].tolist(), strict=True))
        rows += [
            (t + 1, i, "R") for i, t in pending if (i, t + 1) not in pending and start <= t + 1 < stop
            and t + 1 < self.market.listing.stop[i]
        ]  # fmt: skip
        rows = [r for r in rows if params.get("suspend_type") in (None, "", r[2])]
        rows.sort(key=lambda r: (-r[0], r[1], r[2]))
        columns = (
            [self.market.listing.symbols[i] for _, i, _ in rows],
            [str(self._days[t]) for t, _, _ in rows],
            [None] * len(rows),
            [kind for _, _, kind in rows],
        )
        names = ("ts_code", "trade_date", "suspend_timing", "suspend_type")
        return Answer(names, columns, time="trade_date", newest_first=True)


def _compact(days: np.ndarray[tuple[int, ...], np.dtype[np.datetime64]]) -> list[Cell]:
    if not len(days):
        return []
    return np.char.replace(np.datetime_as_string(days, "D").astype("U10"), "-", "").tolist()  # type: ignore[no-any-return]
