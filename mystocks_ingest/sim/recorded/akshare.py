"""Recorded rows on the pages behind akshare; what was not recorded, the sites do not know."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from mystocks_ingest.sim.akshare.wire import Asked, code_of, of_rows
from mystocks_ingest.sim.answers import Answer, Cell
from mystocks_ingest.sim.recorded.library import Library, fixed, inside, minutes
from mystocks_ingest.sim.recorded.reading import asset_type, exchange_of

_PRICES = ("open", "high", "low", "close")
_FIELDS = ("f51", "f52", "f53", "f54", "f55", "f56", "f57", "f58", "f59", "f60", "f61")


class AkshareTables:
    """wire_akshare.Tables for every site; what was not recorded, the sites do not know."""

    def __init__(self, library: Library) -> None:
        self.library = library

    def table(self, asked: Asked, *, adjusted: bool) -> Answer | None:
        match asked.api:
            case "eastmoney/kline":
                return self._kline(asked, adjusted=adjusted)
            case "sina/calendar":
                return Answer(("d",), (np.datetime_as_string(self.library.open_days, "D").tolist(),), time="d")
            case "sina/hfq" | "sina/qfq":
                return self._factors(code_of(asked.path.split("/")[-2]), back=asked.api == "sina/hfq")
            case "sina/daily":
                return self._sina(code_of(asked.path.split("/")[-3]))
            case "sina/shares":
                return self._shares(code_of(asked.query.get("symbol", "")))
            case "sse/list":
                star = asked.query.get("STOCK_TYPE") == "8"
                fields = ("A_STOCK_CODE", "SEC_NAME_CN", "SEC_NAME_FULL", "COMPANY_ABBR", "FULL_NAME", "LIST_DATE")
                rows = [(s["symbol"], s["name"], s["name"], s["name"], s["name"], s["list_date"].replace("-", ""))
                        for s in self._listed("SH") if s["symbol"].startswith("68") == star]  # fmt: skip
                return of_rows(fields, rows)
            case "sse/delisted":
                return of_rows(("COMPANY_CODE", "COMPANY_ABBR", "LIST_DATE", "DELIST_DATE"), [])
            case "szse/report" if asked.query.get("CATALOGID") == "1110":
                lines = [
                    ("主板", s["symbol"], s["name"], s["list_date"], "", "", s.get("industry", ""))
                    for s in self._listed("SZ")
                ]
                return of_rows(
                    ("板块", "A股代码", "A股简称", "A股上市日期", "A股总股本", "A股流通股本", "所属行业"), lines
                )
        return None

    def _listed(self, exchange: str) -> list[dict[str, str]]:
        return [s for s in self.library.stocks if s["ts_code"].endswith(exchange)]

    def _kline(self, asked: Asked, *, adjusted: bool) -> Answer | None:
        query = asked.query
        market, _, code = query.get("secid", ".").partition(".")
        symbol = f"{code}.SH" if market == "1" else f"{code}.{'BJ' if exchange_of(code) == 'BJ' else 'SZ'}"
        wanted = [f for f in query.get("fields2", "").split(",") if f in _FIELDS] or list(_FIELDS)
        if query.get("klt") == "5" and query.get("fqt") == "0":
            answer = self._minutes(symbol)
        elif query.get("klt") == "101" and query.get("fqt") in ("0", "1"):
            answer = self._daily(symbol, query, adjusted=adjusted or query.get("fqt") == "1")
        else:
            answer = None
        return answer.select(wanted) if answer is not None else None

    def _daily(self, symbol: str, query: Mapping[str, str], *, adjusted: bool) -> Answer | None:
        rows = self.library.daily("akshare", adjusted=adjusted).get(symbol)
        if rows is None:
            return None
        rows = rows.take(
            rows.traded & inside(rows.days, {"start_date": query.get("beg", ""), "end_date": query.get("end", "")})
        )
        decimals = 3 if asset_type(symbol) == "etf" else 2
        open_, high, low, close = (rows.prices[:, n] for n in range(4))
        with np.errstate(divide="ignore", invalid="ignore"):
            swing, percent = (high - low) / rows.ref * 100, (close - rows.ref) / rows.ref * 100
        columns: tuple[Sequence[Cell], ...] = (
            np.datetime_as_string(rows.days, "D").tolist(), *(fixed(x, decimals) for x in (open_, close, high, low)),
            [f"{np.floor(v / 100 + 0.5):.0f}" for v in rows.volume.tolist()], fixed(rows.amount, 2), fixed(swing, 2),
            fixed(percent, 2), fixed(close - rows.ref, decimals), [f"{float(x or 0):.2f}" for x in rows.turn.tolist()],
        )  # fmt: skip
        return Answer(
            _FIELDS, columns, time="f51", prices=("f52", "f54", "f55", "f53"), volume="f56", amount="f57", dash="-"
        )

    def _minutes(self, symbol: str) -> Answer | None:
        rows = minutes(self.library, symbol, "akshare")
        if not rows:
            return None
        lines = [
            (
                t,
                f"{o:.2f}",
                f"{c:.2f}",
                f"{h:.2f}",
                f"{low:.2f}",
                f"{np.floor(v / 100 + 0.5):.0f}",
                f"{a:.2f}",
                "0.00",
                "0.00",
                "0.00",
                "0.00",
            )
            for t, o, h, low, c, v, a in rows
        ]
        return replace(
            of_rows(_FIELDS, lines),
            time="f51",
            prices=("f52", "f54", "f55", "f53"),
            volume="f56",
            amount="f57",
            dash="-",
        )

    def _factors(self, symbol: str, *, back: bool) -> Answer:
        days, factors = self.library.factors(symbol)
        rows = [("1900-01-01", 1.0), *zip(map(str, days), factors.tolist(), strict=True)]
        return of_rows(("d", "f"), [(d, f"{f if back else rows[-1][1] / f:.6f}") for d, f in reversed(rows)])

    def _shares(self, symbol: str) -> Answer | None:
        """Shares in circulation, in ten thousands, worked out from the newest row with a turnover."""
        rows = self.library.daily("baostock").get(symbol)
        if rows is None:
            return None
        known = np.flatnonzero((rows.turn != "") & (rows.volume > 0))
        shares = rows.volume[known[-1]] / float(rows.turn[known[-1]]) / 100 if len(known) else 100_000.0
        return of_rows(("date", "amount"), [(str(rows.days[0]), round(float(shares), 4))])

    def _sina(self, symbol: str) -> Answer | None:
        rows = self.library.daily("akshare").get(symbol)
        if rows is None:
            return None
        rows = rows.take(rows.traded)
        columns = (np.datetime_as_string(rows.days, "D").tolist(), *(rows.prices[:, n].tolist() for n in range(4)),
                   rows.volume.tolist(), rows.amount.tolist())  # fmt: skip
        names = ("date", *_PRICES, "volume", "amount")
        return Answer(names, columns, time="date", prices=_PRICES, volume="volume", amount="amount")
