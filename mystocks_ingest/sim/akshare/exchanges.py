"""The simulated market on the pages of the three exchanges and of CSI."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mystocks_ingest.sim.akshare.wire import Asked, of_rows
from mystocks_ingest.sim.answers import Answer, Cell
from mystocks_ingest.sim.market import Market

_BSE_PAGE = 20
_BSE_WIDTH = 48
_BSE_PLACES = {"listed": 0, "float": 11, "industry": 17, "reported": 22, "area": 29, "broker": 35, "total": 36,
               "code": 38, "name": 40}  # fmt: skip


class ExchangeTables:
    """The lists of the Shanghai, Shenzhen and Beijing exchanges and of CSI."""

    def __init__(self, market: Market) -> None:
        self.market = market

    def table(self, asked: Asked, *, adjusted: bool) -> Answer | None:
        del adjusted  # lists have no prices
        query = asked.query
        match asked.api:
            case "sse/list":
                return self._shanghai({"1": ("SH",), "8": ("KC",)}.get(query.get("STOCK_TYPE", ""), ()))
            case "sse/delisted":
                boards = {"1": "SH", "2": "", "8": "KC"}
                return self._shanghai_delisted([boards.get(x, "") for x in query.get("STOCK_TYPE", "").split(",")])
            case "szse/report" if query.get("CATALOGID") == "1110":
                return self._shenzhen() if query.get("TABKEY") == "tab1" else None
            case "szse/report" if query.get("CATALOGID") == "1793_ssgs":
                return self._shenzhen_delisted(ended=query.get("TABKEY") == "tab2")
            case "bse/list":
                return self._beijing(asked.page)
            case "csindex/cons" | "csindex/weight":
                return self._members(asked.path.rpartition("/")[2][:6], weights=asked.api == "csindex/weight")
        return None

    def _who(self, boards: Sequence[str], *, gone: bool) -> list[int]:
        own, t = self.market.listing, len(self.market.days) - 1
        return [
            n for n, b in enumerate(own.boards)
            if b in boards and own.first[n] <= t and np.isnat(own.delist_dates[n]) != gone
        ]  # fmt: skip

    def _shanghai(self, boards: Sequence[str]) -> Answer:
        own = self.market.listing
        fields = (
            "A_STOCK_CODE",
            "B_STOCK_CODE",
            "SEC_NAME_CN",
            "SEC_NAME_FULL",
            "COMPANY_ABBR",
            "FULL_NAME",
            "LIST_DATE",
        )
        rows = [
            (own.symbols[n][:6], "-", own.names[n], own.names[n], own.names[n], own.names[n] + "股份有限公司",
             _compact(own.list_dates[n]))
            for n in self._who(boards, gone=False)
        ]  # fmt: skip
        return of_rows(fields, rows)

    def _shanghai_delisted(self, boards: Sequence[str]) -> Answer:
        own = self.market.listing
        rows = [
            (own.symbols[n][:6], own.names[n], _compact(own.list_dates[n]), _compact(own.delist_dates[n]))
            for n in self._who(boards, gone=True)
        ]
        return of_rows(("COMPANY_CODE", "COMPANY_ABBR", "LIST_DATE", "DELIST_DATE"), rows)

    def _shenzhen(self) -> Answer:
        own = self.market.listing
        rows = [
            ("主板" if own.boards[n] == "SZ" else "创业板", own.symbols[n][:6], own.names[n], str(own.list_dates[n]),
             f"{own.total_shares[n]:,}", f"{own.float_shares[n]:,}", f"C {own.industries[n]}")
            for n in self._who(("SZ", "CY"), gone=False)
        ]  # fmt: skip
        return of_rows(("板块", "A股代码", "A股简称", "A股上市日期", "A股总股本", "A股流通股本", "所属行业"), rows)

    def _shenzhen_delisted(self, *, ended: bool) -> Answer:
        own = self.market.listing
        rows = [
            (own.symbols[n][:6], own.names[n], str(own.list_dates[n]), str(own.delist_dates[n]))
            for n in (self._who(("SZ", "CY"), gone=True) if ended else [])
        ]
        return of_rows(("证券代码", "证券简称", "上市日期", "终止上市日期"), rows)

    def _beijing(self, page: int) -> Answer:
        own = self.market.listing
        who = self._who(("BJ",), gone=False)
        rows: list[list[Cell]] = []
        for n in who[(page - 1) * _BSE_PAGE : page * _BSE_PAGE]:
            values: dict[str, Cell] = {
                "listed": _compact(own.list_dates[n]), "float": int(own.float_shares[n]), "industry": own.industries[n],
                "reported": _compact(self.market.days[-1]), "area": own.areas[n], "broker": "某证券",
                "total": int(own.total_shares[n]), "code": own.symbols[n][:6], "name": own.names[n],
            }  # fmt: skip
            row: list[Cell] = [""] * _BSE_WIDTH
            for name, at in _BSE_PLACES.items():
                row[at] = values[name]
            rows.append(row)
        return of_rows([f"xx{n:02d}" for n in range(_BSE_WIDTH)], rows, note=len(who))

    def _members(self, index: str, *, weights: bool) -> Answer:
        own, day = self.market.listing, _compact(self.market.days[-1])
        who = self._who(("SH", "SZ", "CY", "KC"), gone=False)[:300]
        fields = ["日期Date", "指数代码 Index Code", "指数名称 Index Name", "指数英文名称Index Name(Eng)",
                  "成份券代码Constituent Code", "成份券名称Constituent Name", "成份券英文名称Constituent Name(Eng)",
                  "交易所Exchange", "交易所英文名称Exchange(Eng)"]  # fmt: skip
        rows: list[list[Cell]] = [
            [day, index, "沪深300", "CSI 300", own.symbols[n][:6], own.names[n], f"Company {n}",
             "上海证券交易所" if own.symbols[n].endswith("SH") else "深圳证券交易所", "Exchange"]
            for n in who
        ]  # fmt: skip
        if weights:
            fields.append("权重(%)weight")
            rows = [[*row, round(100 / len(who), 3)] for row in rows]
        return of_rows(fields, rows)


def _compact(day: np.datetime64) -> str:
    return str(day).replace("-", "")
