"""Recorded rows in tushare's tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from mystocks_ingest.sim.akshare.wire import of_rows
from mystocks_ingest.sim.answers import Answer, Cell
from mystocks_ingest.sim.holidays import LAST
from mystocks_ingest.sim.recorded.library import Library, compact, inside, minutes
from mystocks_ingest.sim.recorded.reading import asset_type, days_of, merge
from mystocks_ingest.sim.tushare.wire import Refusal

_PRICES = ("open", "high", "low", "close")
_DAILY = tuple("ts_code trade_date open high low close pre_close change pct_chg vol amount".split())  # noqa: SIM905
_NUMBERS = frozenset(
    [
        "adj_factor",
        "weight",
        "close",
        "turnover_rate",
        "turnover_rate_f",
        "volume_ratio",
        "pe",
        "pe_ttm",
        "pb",
        "ps",
        "ps_ttm",
        "dv_ratio",
        "dv_ttm",
        "total_share",
        "float_share",
        "free_share",
        "total_mv",
        "circ_mv",
    ]
)


class TushareTables:
    """wire_tushare.Tables."""

    def __init__(self, library: Library) -> None:
        self.library = library

    def answer(
        self, api: str, params: Mapping[str, str], fields: Sequence[str], *, cap: int | None, adjusted: bool
    ) -> Answer:
        del fields, cap  # the shell selects and caps
        match api:
            case "daily" | "index_daily" | "fund_daily":
                kind = {"daily": "stock", "index_daily": "index", "fund_daily": "etf"}[api]
                return self._daily(params, kind, adjusted=adjusted)
            case "trade_cal":
                return self._trade_cal(params)
            case "stock_basic":
                return self._stock_basic(params)
            case "adj_factor":
                return self._adj_factor(params)
            case "suspend_d":
                return self._suspend(params)
            case "stk_mins":
                return self._minutes(params)
            case "daily_basic" | "fund_adj" | "index_weight":
                return self._recorded(api, params)
        raise Refusal(40001, "请指定正确的接口名")

    def _daily(self, params: Mapping[str, str], kind: str, *, adjusted: bool) -> Answer:
        every = self.library.daily("tushare")
        if adjusted:
            every = every | self.library.daily("tushare", adjusted=True)
        codes = params["ts_code"].split(",") if params.get("ts_code") else list(every)
        parts = []
        for code in codes:
            if code in every and asset_type(code) == kind:
                rows = every[code]
                parts.append(rows.take(rows.traded & inside(rows.days, params)))
        rows = merge(parts)
        rows = rows.take(np.lexsort((rows.symbols, -rows.days.astype(np.int64))))
        change = rows.prices[:, 3] - rows.ref
        columns: list[Sequence[Cell]] = [rows.symbols.tolist(), compact(rows.days)]
        columns += [rows.prices[:, n].tolist() for n in range(4)]
        columns += [rows.ref.tolist(), np.round(change, 4).tolist(), np.round(change / rows.ref * 100, 4).tolist()]
        columns += [(rows.volume / 100).tolist(), (rows.amount / 1000).tolist()]
        return Answer(
            _DAILY, tuple(columns), time="trade_date", prices=_PRICES, volume="vol", amount="amount", newest_first=True
        )

    def _trade_cal(self, params: Mapping[str, str]) -> Answer:
        opened = self.library.open_days
        every = np.arange(opened[0], np.datetime64(LAST) + 1)
        every = every[inside(every, params)][::-1]
        is_open = np.isin(every, opened)
        if params.get("is_open"):
            every, is_open = (
                every[is_open == (params["is_open"] == "1")],
                is_open[is_open == (params["is_open"] == "1")],
            )
        before = opened[np.maximum(np.searchsorted(opened, every) - 1, 0)]
        columns = (
            [params.get("exchange") or "SSE"] * len(every),
            compact(every),
            is_open.astype(int).tolist(),
            compact(before),
        )
        return Answer(("exchange", "cal_date", "is_open", "pretrade_date"), columns, newest_first=True)

    def _stock_basic(self, params: Mapping[str, str]) -> Answer:
        names = (
            "ts_code",
            "symbol",
            "name",
            "area",
            "industry",
            "market",
            "list_date",
            "list_status",
            "exchange",
            "delist_date",
        )
        wanted = set(params["ts_code"].split(",")) if params.get("ts_code") else None
        rows: list[tuple[Cell, ...]] = []
        if "L" in (params.get("list_status") or "L").split(","):
            rows = [
                (s["ts_code"], s["symbol"], s["name"], s.get("area"), s.get("industry"), s.get("market"),
                 s["list_date"].replace("-", ""), "L", {"SH": "SSE", "SZ": "SZSE"}.get(s["ts_code"][-2:], "BSE"), None)
                for s in self.library.stocks
                if wanted is None or s["ts_code"] in wanted
            ]  # fmt: skip
        return of_rows(names, rows)

    def _adj_factor(self, params: Mapping[str, str]) -> Answer:
        """The vendor's own where recorded; otherwise worked out, one row per session since the first row known."""
        own = self._recorded("adj_factor", params)
        codes = [c for c in params.get("ts_code", "").split(",") if c] or list(self.library.daily("baostock"))
        recorded = {c for t in self.library.recordings.tables.get("adj_factor", []) for c in t["ts_code"]}
        rows: list[tuple[Cell, ...]] = list(zip(*own.columns, strict=True)) if own.size else []
        for code in codes:
            daily = self.library.daily("baostock").get(code)
            if code in recorded or daily is None or asset_type(code) != "stock" or len(daily) < 2:
                continue
            days = daily.days[inside(daily.days, params)]
            since, factors = self.library.factors(code)
            known = np.r_[1.0, factors][np.searchsorted(since, days, side="right")]
            rows += zip([code] * len(days), compact(days), known.tolist(), strict=True)
        rows.sort(key=lambda r: str(r[1]), reverse=True)
        return replace(of_rows(("ts_code", "trade_date", "adj_factor"), rows), newest_first=True, time="trade_date")

    def _suspend(self, params: Mapping[str, str]) -> Answer:
        rows: list[tuple[Cell, ...]] = []
        for code, daily in self.library.daily("baostock").items():
            if params.get("ts_code") in (None, "", code) and params.get("suspend_type") in (None, "", "S"):
                days = daily.days[~daily.traded & inside(daily.days, params)]
                rows += [(code, day, None, "S") for day in compact(days)]
        rows.sort(key=lambda r: str(r[1]), reverse=True)
        return of_rows(("ts_code", "trade_date", "suspend_timing", "suspend_type"), rows)

    def _minutes(self, params: Mapping[str, str]) -> Answer:
        names = ("ts_code", "trade_time", "open", "close", "high", "low", "vol", "amount")
        code = params.get("ts_code", "")
        rows = minutes(self.library, code, "tushare") if params.get("freq") == "5min" else []
        since, until = params.get("start_date") or "", params.get("end_date") or "9999"
        kept = [
            (code, f"{t}:00", o, c, h, low, float(v), a)
            for t, o, h, low, c, v, a in reversed(rows)
            if since <= f"{t}:00" <= until
        ]
        return replace(
            of_rows(names, kept), newest_first=True, time="trade_time", prices=_PRICES, volume="vol", amount="amount"
        )

    def _recorded(self, api: str, params: Mapping[str, str]) -> Answer:
        out: list[tuple[Cell, ...]] = []
        names: tuple[str, ...] = ()
        for table in self.library.recordings.tables.get(api, []):
            days = days_of(table["trade_date"])
            keep = inside(days, params)
            for key in ("ts_code", "index_code"):
                if params.get(key) and key in table:
                    keep &= np.isin(np.array(table[key]), params[key].split(","))
            names = names or tuple(table)
            columns = [_cells(n, table[n]) if n != "trade_date" else compact(days) for n in names if n in table]
            out += [row for row, wanted in zip(zip(*columns, strict=True), keep.tolist(), strict=True) if wanted]
        at = names.index("trade_date") if names else 0
        out.sort(key=lambda r: str(r[at]), reverse=True)
        fallback = ("ts_code", "trade_date", "adj_factor") if api.endswith("adj_factor") else ("ts_code", "trade_date")
        return replace(of_rows(names or fallback, out), newest_first=True)


def _cells(name: str, texts: Sequence[str]) -> list[Cell]:
    if name not in _NUMBERS:
        return list(texts)
    return [float(t) if t else None for t in texts]
