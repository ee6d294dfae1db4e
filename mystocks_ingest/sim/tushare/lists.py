"""The simulated market in tushare's lists: stocks, indices, funds, constituents."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime

import numpy as np

from mystocks_ingest.sim.answers import Answer, Cell
from mystocks_ingest.sim.market import Market
from mystocks_ingest.sim.noise import I64
from mystocks_ingest.sim.tushare.wire import Params, Refusal

_BOARD_NAMES = {"SH": "主板", "SZ": "主板", "CY": "创业板", "KC": "科创板", "BJ": "北交所"}
_STOCK_BASIC = "ts_code symbol name area industry cnspell market list_date act_name act_ent_type".split()  # noqa: SIM905


class Lists:
    """The interfaces that are no time series."""

    def __init__(self, market: Market) -> None:
        self.market = market

    def answer(self, api: str, params: Params, fields: Sequence[str]) -> Answer:
        """Raises Refusal for an interface nobody knows."""
        match api:
            case "stock_basic":
                return self._stock_basic(params, fields)
            case "index_basic":
                return self._listed("index", params)
            case "fund_basic" | "etf_basic":
                return self._funds(api)
            case "bse_mapping":
                return self._bse_mapping()
            case "index_weight":
                return self._index_weight(params)
            case "user":
                names = ("user_id", "exp_date", "exp_points")
                return Answer(names, (["1"], ["20991231"], [5000.0]))
        raise Refusal(40001, "请指定正确的接口名")

    def _stock_basic(self, params: Params, fields: Sequence[str]) -> Answer:
        own = self.market.listing
        status = (params.get("list_status") or "L").split(",")
        who = [
            int(n) for n in chosen(self.market, params, "stock")
            if ("L" if np.isnat(own.delist_dates[n]) else "D") in status and own.first[n] < len(self.market.days)
            and params.get("exchange") in (None, "", {"SH": "SSE", "SZ": "SZSE", "BJ": "BSE"}[own.symbols[n][-2:]])
        ]  # fmt: skip
        table: dict[str, list[Cell]] = {
            "ts_code": [own.symbols[n] for n in who],
            "symbol": [own.symbols[n][:6] for n in who],
            "name": [own.names[n] + ("(退)" if not np.isnat(own.delist_dates[n]) else "") for n in who],
            "area": [own.areas[n] for n in who],
            "industry": [own.industries[n] for n in who],
            "fullname": [own.names[n] + "有限公司" for n in who],
            "enname": [f"Simulated Company {n}" for n in who],
            "cnspell": [f"sim{n}" for n in who],
            "market": [_BOARD_NAMES[own.boards[n]] for n in who],
            "exchange": [{"SH": "SSE", "SZ": "SZSE", "BJ": "BSE"}[own.symbols[n][-2:]] for n in who],
            "curr_type": ["CNY"] * len(who),
            "list_status": ["L" if np.isnat(own.delist_dates[n]) else "D" for n in who],
            "list_date": [_text(own.list_dates[n]) for n in who],
            "delist_date": [_text(own.delist_dates[n]) for n in who],
            "is_hs": ["N"] * len(who),
            "act_name": ["某人"] * len(who),
            "act_ent_type": ["民营企业"] * len(who),
        }
        answer = Answer(tuple(table), tuple(table.values()))
        return answer if fields else answer.select(_STOCK_BASIC)

    def _listed(self, asset_type: str, params: Params) -> Answer:
        own = self.market.listing
        suffix = {"SSE": "SH", "SZSE": "SZ"}.get(params.get("market") or "SSE", "")
        who = [int(n) for n in chosen(self.market, params, asset_type) if own.symbols[n].endswith(suffix) and suffix]
        table: dict[str, list[Cell]] = {
            "ts_code": [own.symbols[n] for n in who],
            "name": [own.names[n] for n in who],
            "market": [params.get("market") or "SSE"] * len(who),
            "publisher": ["中证公司"] * len(who),
            "category": ["规模指数"] * len(who),
            "base_date": ["20041231"] * len(who),
            "base_point": [1000.0] * len(who),
            "list_date": [_text(own.list_dates[n]) for n in who],
        }
        return Answer(tuple(table), tuple(table.values()))

    def _funds(self, api: str) -> Answer:
        own = self.market.listing
        who = self.market.kind("etf")
        name = "csname" if api == "etf_basic" else "name"
        table: dict[str, list[Cell]] = {
            "ts_code": [own.symbols[n] for n in who],
            name: [own.names[n] for n in who],
            "list_date": [_text(own.list_dates[n]) for n in who],
        }
        if api == "etf_basic":
            table |= {"list_status": ["L"] * len(who), "exchange": [own.symbols[n][-2:] for n in who]}
        else:
            table |= {"delist_date": [None] * len(who), "status": ["L"] * len(who), "market": ["E"] * len(who)}
            table |= {"fund_type": ["股票型"] * len(who), "found_date": table["list_date"]}
        return Answer(tuple(table), tuple(table.values()))

    def _bse_mapping(self) -> Answer:
        own = self.market.listing
        who = [n for n, b in enumerate(own.boards) if b == "BJ" and own.list_dates[n] < np.datetime64("2024-04-22")]
        table: dict[str, list[Cell]] = {
            "name": [own.names[n] for n in who],
            "o_code": [f"{('430', '830', '870')[n % 3]}{own.symbols[n][3:]}" for n in who],
            "n_code": [own.symbols[n] for n in who],
            "list_date": [_text(own.list_dates[n]) for n in who],
        }
        return Answer(tuple(table), tuple(table.values()))

    def _index_weight(self, params: Params) -> Answer:
        start, stop = session_range(self.market, params)
        own = self.market.listing
        members = [int(n) for n in self.market.kind("stock") if own.symbols[n][-2:] != "BJ"][:300]
        days = self.market.days
        months = days.astype("datetime64[M]")
        ends = [t for t in range(start, stop) if t + 1 == len(days) or months[t] != months[t + 1]][::-1]
        code = params.get("index_code") or "000300.SH"
        rows = [(t, n) for t in ends for n in members if own.first[n] <= t < own.stop[n]]
        count = {t: sum(1 for x, _ in rows if x == t) for t in ends}
        columns = (
            [code] * len(rows), [own.symbols[n] for _, n in rows], [_text(self.market.days[t]) for t, _ in rows],
            [round(100 / count[t], 4) for t, _ in rows],
        )  # fmt: skip
        return Answer(("index_code", "con_code", "trade_date", "weight"), columns, newest_first=True)


def chosen(market: Market, params: Params, asset_type: str) -> I64:
    """The instruments named by ``ts_code`` (several with commas), all of the kind when none is."""
    kind = market.kind(asset_type)
    if codes := params.get("ts_code"):
        numbers = [market.number[c] for c in codes.split(",") if c in market.number]
        return np.intersect1d(kind, np.array(numbers, dtype=np.int64))
    return kind


def session_range(market: Market, params: Params) -> tuple[int, int]:
    """Session numbers of ``trade_date``, or of ``start_date`` to ``end_date``."""
    if exact := params.get("trade_date"):
        return market.session_range(day_of(exact), day_of(exact))
    first = day_of(params["start_date"]) if params.get("start_date") else None
    last = day_of(params["end_date"]) if params.get("end_date") else None
    return market.session_range(first, last)


def day_of(text: str) -> date:
    return datetime.strptime(text[:10].replace("-", "")[:8], "%Y%m%d").date()  # noqa: DTZ007  (a date has no zone)


def _text(day: np.datetime64) -> str | None:
    return None if np.isnat(day) else str(day).replace("-", "")
