"""What recorded vendors share: the rows, the calendar, the list of stocks, factors worked out from them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import numpy as np

from mystocks_ingest.sim.answers import Cell
from mystocks_ingest.sim.holidays import Days, sessions
from mystocks_ingest.sim.noise import F64
from mystocks_ingest.sim.recorded.reading import Recordings, Rows, Texts, days_of, each_symbol, merge

_PRICES = ("open", "high", "low", "close")


class Library:
    """What the vendors share: the recordings, the calendar, the list of stocks, factors worked out from pre_close."""

    def __init__(self, recordings: Recordings, *, forward_adjusted: bool = False) -> None:
        self.recordings = recordings
        self.forward_adjusted = forward_adjusted
        self._merged: dict[tuple[str, bool], dict[str, Rows]] = {}

    def daily(self, vendor: str, *, adjusted: bool = False) -> dict[str, Rows]:
        """Rows by symbol as ``vendor`` has them; with ``adjusted`` its forward-adjusted archives."""
        key = (vendor, adjusted)
        if key not in self._merged:
            forward = self.recordings.forward.get(vendor, [])
            rows = merge(forward) if adjusted else self.recordings.merged(vendor)
            self._merged[key] = dict(each_symbol(rows))
        if self.forward_adjusted and not adjusted:
            return self._merged[key] | self.daily(vendor, adjusted=True)
        return self._merged[key]

    @cached_property
    def open_days(self) -> Days:
        days = set(sessions().tolist())
        for table in self.recordings.tables.get("trade_cal", []):
            for day, is_open in zip(days_of(table["cal_date"]).tolist(), table["is_open"], strict=True):
                (days.add if is_open == "1" else days.discard)(day)
        return np.array(sorted(days), dtype="datetime64[D]")

    @cached_property
    def stocks(self) -> list[dict[str, str]]:
        """Rows of the largest stock_basic recorded, dates with dashes."""
        tables = sorted(self.recordings.tables.get("stock_basic", []), key=lambda t: len(t["ts_code"]))
        if not tables:
            return []
        table = dict(tables[-1])
        table["list_date"] = np.datetime_as_string(days_of(table["list_date"]), "D").tolist()
        return [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]

    def factors(self, symbol: str) -> tuple[Days, F64]:
        """Ex-right days and cumulative factors of a symbol with a long series of rows: previous close over pre_close."""
        rows = self.daily("baostock").get(symbol)
        if rows is None or len(rows) < 2:
            return np.empty(0, dtype="datetime64[D]"), np.empty(0)
        ratio = rows.prices[:-1, 3] / rows.ref[1:]
        gap = np.diff(rows.days) > np.timedelta64(30, "D")  # recordings with a hole between them tell nothing
        event = np.flatnonzero((np.abs(rows.prices[:-1, 3] - rows.ref[1:]) > 0.0051) & ~gap & np.isfinite(ratio))
        return rows.days[1:][event], np.round(np.cumprod(ratio[event]), 6)


def minutes(library: Library, symbol: str, vendor: str) -> list[tuple[str, float, float, float, float, float, float]]:
    """Recorded 5-minute bars: time, open, high, low, close, shares, yuan; the vendor's own if there are any."""
    every = library.recordings.minutes
    order = [vendor, *(v for v in every if v != vendor)]
    table: Texts | None = next((every[v][symbol] for v in order if symbol in every.get(v, {})), None)
    if table is None:
        return []
    chinese = "时间" in table
    names = ("开盘", "最高", "最低", "收盘", "成交量", "成交额") if chinese else (*_PRICES, "volume", "amount")
    raw = table["时间"] if chinese else table["time"]
    when = [t[:16].replace("/", "-") if "-" in t else f"{t[:4]}-{t[4:6]}-{t[6:8]} {t[8:10]}:{t[10:12]}" for t in raw]
    scale = 100.0 if chinese else 1.0
    values = [[float(c) for c in table[n]] for n in names]
    values[4] = [v * scale for v in values[4]]
    return sorted(zip(when, *values, strict=True))


def inside(days: Days, params: Mapping[str, str]) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    keep = np.ones(len(days), dtype=np.bool_)
    if exact := params.get("trade_date"):
        return np.asarray(days == days_of([exact])[0])
    if len(first := params.get("start_date") or "") >= 8:
        keep &= days >= days_of([first])[0]
    if len(last := params.get("end_date") or "") >= 8 and not last.endswith("0000"):
        keep &= days <= days_of([last])[0]
    return keep


def compact(days: Days) -> list[Cell]:
    return np.char.replace(np.datetime_as_string(days, "D"), "-", "").tolist() if len(days) else []


def fixed(values: F64, decimals: int) -> list[str]:
    form = f"%.{decimals}f"
    return [form % v if v == v else "" for v in values.tolist()]  # noqa: PLR0124  (NaN is not itself)
