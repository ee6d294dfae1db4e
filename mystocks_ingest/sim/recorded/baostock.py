"""Recorded rows in baostock's tables: every cell a text, suspended days present, no Beijing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mystocks_ingest.sim.akshare.wire import of_rows
from mystocks_ingest.sim.answers import Answer, Cell
from mystocks_ingest.sim.baostock.wire import Refusal
from mystocks_ingest.sim.holidays import LAST
from mystocks_ingest.sim.recorded.library import Library, fixed, minutes
from mystocks_ingest.sim.recorded.reading import Rows, asset_type, merge

_PRICES = ("open", "high", "low", "close")


class BaostockTables:
    """wire_baostock.Tables."""

    def __init__(self, library: Library) -> None:
        self.library = library

    def answer(self, method: str, args: Sequence[str], *, adjusted: bool) -> Answer:
        match method:
            case "query_history_k_data_plus":
                return self._k_data(*args, forward=adjusted)
            case "query_daily_history_k_AStock" | "query_daily_history_k_ETF":
                return self._market_day(args[0], "etf" if method.endswith("ETF") else "stock")
            case "query_trade_dates":
                first, last = (
                    np.datetime64(args[0] or "2015-01-01"),
                    min(np.datetime64(args[1] or LAST), np.datetime64(LAST)),
                )
                days = np.arange(max(first, self.library.open_days[0]), last + 1)
                flags = np.where(np.isin(days, self.library.open_days), "1", "0").tolist()
                return Answer(("calendar_date", "is_trading_day"), (np.datetime_as_string(days, "D").tolist(), flags))
            case "query_stock_basic":
                return self._stock_basic(*args)
            case "query_adjust_factor":
                return self._adjust_factor(*args)
            case "query_all_stock":
                return self._all_stock(args[0])
            case "query_stock_industry":
                names = ("updateDate", "code", "code_name", "industry", "industryClassification")
                rows = [r for t in self.library.recordings.tables.get(method, [])
                        for r in zip(*(t[n] for n in names), strict=True) if args[0] in ("", r[1])]  # fmt: skip
                return of_rows(names, rows)
        return of_rows(("code",), [])

    def _k_data(
        self, code: str, fields: str, start: str, end: str, frequency: str, flag: str, *, forward: bool
    ) -> Answer:
        names = tuple(f.strip() for f in fields.split(",") if f.strip())
        symbol = f"{code[3:]}.{code[:2].upper()}"
        if frequency == "5" and flag == "3":
            return self._minutes(symbol, code, names, start, end)
        empty = Answer(names, tuple(() for _ in names), dash="")
        if frequency != "d" or flag == "1":
            return empty
        rows = self.library.daily("baostock", adjusted=forward or flag == "2").get(symbol)
        if rows is None:
            return empty
        return self._texts(
            rows.take((rows.days >= np.datetime64(start)) & (rows.days <= np.datetime64(end))), names, flag
        )

    def _market_day(self, text: str, kind: str) -> Answer:
        every = self.library.daily("baostock")
        rows = merge(
            [
                r.take(r.days == np.datetime64(text))
                for s, r in every.items()
                if asset_type(s) == kind and not s.endswith("BJ")
            ]
        )
        names = "date code open high low close preclose volume amount adjustflag turn tradestatus pctChg peTTM pbMRQ psTTM pcfNcfTTM isST"
        return self._texts(rows, tuple(names.split()), "3")

    def _texts(self, rows: Rows, names: Sequence[str], flag: str) -> Answer:
        decimals = 4 if flag == "3" else 10
        with np.errstate(divide="ignore", invalid="ignore"):
            change = (rows.prices[:, 3] / rows.ref - 1) * 100
        table: dict[str, Sequence[Cell]] = {
            "date": np.datetime_as_string(rows.days, "D").tolist(),
            "code": [f"{s[-2:].lower()}.{s[:6]}" for s in rows.symbols.tolist()],
            **{n: fixed(rows.prices[:, k], decimals) for k, n in enumerate(_PRICES)},
            "preclose": fixed(rows.ref, decimals),
            "volume": [f"{v:.0f}" for v in rows.volume.tolist()],
            "amount": fixed(rows.amount, 4),
            "adjustflag": [flag] * len(rows),
            "turn": rows.turn.tolist(),
            "tradestatus": np.where(rows.traded, "1", "0").tolist(),
            "pctChg": fixed(change, 6),
            "isST": rows.st.tolist(),
        }
        columns = tuple(table.get(n, [""] * len(rows)) for n in names)
        return Answer(tuple(names), columns, time="date", prices=_PRICES, volume="volume", amount="amount", dash="")

    def _minutes(self, symbol: str, code: str, names: Sequence[str], start: str, end: str) -> Answer:
        rows = [r for r in minutes(self.library, symbol, "baostock") if start <= str(r[0])[:10] <= end]
        table: dict[str, Sequence[Cell]] = {
            "date": [str(r[0])[:10] for r in rows],
            "time": [f"{str(r[0]).replace('-', '').replace(' ', '').replace(':', '')}00000" for r in rows],
            "code": [code] * len(rows),
            **{n: [f"{r[k]:.4f}" for r in rows] for k, n in enumerate(_PRICES, 1)},
            "volume": [f"{r[5]:.0f}" for r in rows],
            "amount": [f"{r[6]:.4f}" for r in rows],
            "adjustflag": ["3"] * len(rows),
        }
        columns = tuple(table.get(n, [""] * len(rows)) for n in names)
        return Answer(tuple(names), columns, time="time", prices=_PRICES, volume="volume", amount="amount", dash="")

    def _stock_basic(self, code: str, name: str) -> Answer:
        rows = [
            (f"{s['ts_code'][-2:].lower()}.{s['symbol']}", s["name"], s["list_date"], "", "1", "1")
            for s in self.library.stocks
            if not s["ts_code"].endswith("BJ") and name in s["name"]
        ]
        rows += [
            ("sh.000300", "沪深300指数", "2005-04-08", "", "2", "1"),
            ("sh.510300", "沪深300ETF", "2012-05-28", "", "5", "1"),
        ]
        return of_rows(
            ("code", "code_name", "ipoDate", "outDate", "type", "status"), [r for r in rows if code in ("", r[0])]
        )

    def _adjust_factor(self, code: str, start: str, end: str) -> Answer:
        if not code.startswith(("sh.", "sz.")):
            raise Refusal("10004011", "证券代码不正确")
        days, factors = self.library.factors(f"{code[3:]}.{code[:2].upper()}")
        rows = [
            (code, str(day), f"{f / factors[-1]:.6f}", f"{f:.6f}", f"{f:.6f}")
            for day, f in zip(days, factors.tolist(), strict=True)
            if start <= str(day) <= end
        ]
        return of_rows(("code", "dividOperateDate", "foreAdjustFactor", "backAdjustFactor", "adjustFactor"), rows)

    def _all_stock(self, text: str) -> Answer:
        names = {s["ts_code"]: s["name"] for s in self.library.stocks}
        rows: list[tuple[Cell, ...]] = []
        for symbol, daily in self.library.daily("baostock").items():
            at = np.flatnonzero(daily.days == np.datetime64(text))
            if len(at) and not symbol.endswith("BJ"):
                status = "1" if daily.traded[at[0]] else "0"
                rows.append((f"{symbol[-2:].lower()}.{symbol[:6]}", status, names.get(symbol, "")))
        return of_rows(("code", "tradeStatus", "code_name"), rows)
