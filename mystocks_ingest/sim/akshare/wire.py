"""The web sites behind akshare on one port, told apart by the host the client meant and the path.

Calls are counted and matched by faults under names like ``eastmoney/kline``, ``sina/factor``, ``szse/list``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Protocol
from urllib.parse import parse_qsl

import numpy as np

from mystocks_ingest.sim.akshare.klc import pack_bars, pack_dates
from mystocks_ingest.sim.akshare.spreadsheet import xlsx
from mystocks_ingest.sim.answers import Answer, Cell, distort
from mystocks_ingest.sim.clock import Clock
from mystocks_ingest.sim.faults import Fault, FaultBook
from mystocks_ingest.sim.holidays import Days
from mystocks_ingest.sim.lag import Repeats, lagging
from mystocks_ingest.sim.web import HttpReply, HttpRequest

_ROUTES = (
    ("eastmoney/kline", "*push2*.eastmoney.com/api/qt/stock/kline/get"),
    ("eastmoney/trends", "*push2*.eastmoney.com/api/qt/stock/trends2/get"),
    ("eastmoney/list", "*push2*.eastmoney.com/api/qt/clist/get"),
    ("eastmoney/quote", "*push2*.eastmoney.com/api/qt/stock/get"),
    ("eastmoney/details", "*push2*.eastmoney.com/api/qt/stock/details/sse"),
    ("eastmoney/data", "datacenter-web.eastmoney.com/api/data/v1/get"),
    ("sina/calendar", "finance.sina.com.cn/realstock/company/klc_td_sh.txt"),
    ("sina/daily", "finance.sina.com.cn/realstock/company/*/klc_kl.js"),
    ("sina/hfq", "finance.sina.com.cn/realstock/company/*/hfq.js"),
    ("sina/qfq", "finance.sina.com.cn/realstock/company/*/qfq.js"),
    ("sina/shares", "stock.finance.sina.com.cn/*StockService.getAmountBySymbol"),
    ("sina/count", "vip.stock.finance.sina.com.cn/*getHQNodeStockCount"),
    ("sina/list", "vip.stock.finance.sina.com.cn/*getHQNodeData"),
    ("sina/minute", "quotes.sina.cn/*CN_MarketDataService.getKLineData"),
    ("tencent/start", "web.ifzq.gtimg.cn/other/klineweb/klineWeb/weekTrends"),
    ("tencent/daily", "proxy.finance.qq.com/ifzqgtimg/appstock/app/newfqkline/get"),
    ("tencent/ticks", "stock.gtimg.cn/data/index.php"),
    ("sse/list", "query.sse.com.cn/sseQuery/commonQuery.do"),
    ("sse/delisted", "query.sse.com.cn/commonQuery.do"),
    ("szse/report", "www.szse.cn/api/report/ShowReport"),
    ("bse/list", "www.bse.cn/nqxxController/nqxxCnzq.do"),
    ("csindex/cons", "oss-ch.csindex.com.cn/*cons.xls"),
    ("csindex/weight", "oss-ch.csindex.com.cn/*closeweight.xls"),
)
_XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"


@dataclass(frozen=True)
class Asked:
    """A request as a site sees it: query and form together."""

    api: str
    path: str
    query: Mapping[str, str]

    def number(self, name: str, default: int) -> int:
        text = self.query.get(name, "")
        return int(text) if text.isdigit() else default

    @property
    def page(self) -> int:
        """The page of a paged list, 1 being the first (the Beijing exchange counts from 0)."""
        if self.api == "bse/list":
            return self.number("page", 0) + 1
        if self.api == "tencent/ticks":
            return self.number("p", 0) + 1
        return self.number("pn", self.number("page", self.number("pageNumber", 1)))


class Tables(Protocol):
    """Where the rows of one family of sites come from."""

    def table(self, asked: Asked, *, adjusted: bool) -> Answer | None:
        """The rows asked for, None when the site knows nothing of it; paging is the site's own."""
        ...


@dataclass
class Akshare:
    """Answers one request at a time. ``tables`` by the part of the api name before the slash."""

    tables: Mapping[str, Tables]
    faults: FaultBook
    clock: Clock | None = None
    _last: Repeats = field(default_factory=Repeats)

    def reply(self, request: HttpRequest) -> HttpReply:
        where = request.host + request.path
        api = next((name for name, pattern in reversed(_ROUTES) if fnmatchcase(where, pattern)), "unknown")
        form = dict(parse_qsl(request.body.decode("latin-1"), keep_blank_values=True)) if request.body else {}
        asked = Asked(api, request.path, {**request.query, **form})
        acting = tuple(self.faults.draw("akshare", api, asked.page))
        site = self.tables.get(api.partition("/")[0])
        if site is None:
            return HttpReply(f"no such site here: {where}".encode(), 404, "text/plain; charset=utf-8", acting)
        if self.clock is None:
            return _reply(site, asked, acting)
        with lagging(self.clock, api, acting):
            return self._last.given((api, repr(asked)), _reply(site, asked, acting), acting)


def _reply(site: Tables, asked: Asked, acting: tuple[Fault, ...]) -> HttpReply:
    kinds = {f.kind for f in acting}
    answer = site.table(asked, adjusted="forward_adjusted" in kinds)
    if answer is not None:
        answer = distort(answer, acting)
    if "null_data" in kinds:
        answer = None
    return _render(asked, answer, acting)


def _render(asked: Asked, answer: Answer | None, acting: tuple[Fault, ...]) -> HttpReply:
    site, _, what = asked.api.partition("/")
    match site:
        case "eastmoney" if what == "data":
            return _json({"version": "", "result": _result(answer), "success": answer is not None}, acting)
        case "eastmoney":
            return _eastmoney(what, asked, answer, acting)
        case "sina" | "tencent":
            return HttpReply(_script(asked, answer).encode(), 200, "application/javascript; charset=utf-8", acting)
        case "sse":
            rows = _records(answer)
            return _json({"pageHelp": {"total": len(rows), "data": rows}, "result": rows}, acting)
        case "bse":
            total = answer.note if answer is not None else 0
            page = {"totalPages": -(-total // 20), "totalElements": total, "content": _records(answer)}
            return HttpReply(
                f"null([{json.dumps(page, ensure_ascii=False)}])".encode(), 200, "text/html; charset=utf-8", acting
            )
        case _:
            known = answer or Answer((), ())
            return HttpReply(xlsx(known.fields, list(zip(*known.columns, strict=True))), 200, _XLSX, acting)


def _eastmoney(what: str, asked: Asked, answer: Answer | None, acting: tuple[Fault, ...]) -> HttpReply:
    data: dict[str, object] | None = None
    code = asked.query.get("secid", ".").partition(".")[2]
    if answer is not None:
        lines = [",".join(map(str, row)) for row in zip(*answer.columns, strict=True)]
        match what:
            case "kline":
                data = {"code": code, "market": asked.query.get("secid", "0")[:1], "decimal": 2, "klines": lines}
            case "trends":
                data = {"code": code, "trendsTotal": len(lines), "trends": lines}
            case "details":
                data = {"code": code, "prePrice": 0, "details": lines}
            case "list":
                data = {"total": answer.note, "diff": _records(answer)}
            case _:
                data = dict(_records(answer)[0]) if answer.size else None
    content = {"rc": 0 if data else 100, "rt": 17, "svr": 177617938, "lt": 1, "full": 1, "data": data}
    if what == "details":
        return HttpReply(f"data: {json.dumps(content)}\n\n".encode(), 200, "text/event-stream", acting)
    return _json(content, acting)


def _script(asked: Asked, answer: Answer | None) -> str:
    """The JavaScript dialects of sina and tencent."""
    rows = _records(answer)
    symbol = asked.path.split("/")[-2] if asked.path.endswith(".js") else asked.query.get("symbol", "")
    match asked.api:
        case "sina/calendar":
            return f'var datelist="{pack_dates(_days(r["d"] for r in rows))}";'
        case "sina/daily":
            name = asked.path.split("/")[-3]
            return f'var KLC_KL_{name}="{_packed(name, rows)}";'
        case "sina/hfq" | "sina/qfq":
            return f"var {symbol}{asked.api[-3:]}={json.dumps({'total': len(rows), 'data': rows})}\n/* sina */"
        case "sina/shares":
            return (
                f"/*<script>location.href='//sina.com';</script>*/\nvar KKE_ShareAmount_{symbol}=({json.dumps(rows)})"
            )
        case "sina/count":
            return f'"{answer.note if answer is not None else 0}"'
        case "sina/list":
            return json.dumps(rows, ensure_ascii=False)
        case "sina/minute":
            return f"/*<script>location.href='//sina.com';</script>*/\n=({json.dumps(rows) if rows else 'null'});"
        case "tencent/start":
            return f"trend_qfq={json.dumps({'code': 0, 'msg': '', 'data': [list(r.values()) for r in rows]})}"
        case "tencent/daily":
            code = asked.query.get("param", "").partition(",")[0]
            adjust = (asked.query.get("param", "").split(",") + [""] * 6)[5]
            lines: list[list[object]] = [[r["date"], r["open"], r["close"], r["high"], r["low"], r["volume"], {}, r["turn"], r["amount"], ""]
                     if "amount" in r else list(r.values()) for r in rows]  # fmt: skip
            data = {code: {f"{adjust}day": lines, "qt": {}, "version": "16"}}
            return f"{asked.query.get('_var', 'kline')}={json.dumps({'code': 0, 'msg': '', 'data': data})}"
        case _:
            if not rows:
                return ""
            trades = "|".join("/".join(map(str, r.values())) for r in rows)
            return f'v_detail_data_{asked.query.get("c", "")}=[{asked.query.get("p", "0")},"{trades}"]'


def _records(answer: Answer | None) -> list[dict[str, Cell]]:
    if answer is None:
        return []
    return [dict(zip(answer.fields, row, strict=True)) for row in zip(*answer.columns, strict=True)]


def _result(answer: Answer | None) -> dict[str, object] | None:
    rows = _records(answer)
    return {"pages": 1, "data": rows, "count": len(rows)} if rows else None


def _json(content: Mapping[str, object], acting: tuple[Fault, ...]) -> HttpReply:
    return HttpReply(json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode(), faults=acting)


def _packed(name: str, rows: Sequence[Mapping[str, Cell]]) -> str:
    decimals = 3 if name.startswith(("sh5", "sz1")) else 2
    known = [r for r in rows if {"date", "open", "high", "low", "close", "volume", "amount"} <= set(r)]
    cells = (
        [*(round(_number(r[n]) * 10**decimals) for n in ("open", "high", "low", "close")),
         *(round(_number(r[n])) for n in ("volume", "amount"))]
        for r in known
    )  # fmt: skip
    return pack_bars(_days(r["date"] for r in known), cells, decimals)


def _days(texts: Iterable[Cell]) -> Days:
    return np.array([str(t) for t in texts], dtype="datetime64[D]")


def _number(cell: Cell) -> float:
    return float(cell) if cell not in (None, "", "-") else 0.0


def code_of(text: str) -> str:
    """600000.SH of sh600000."""
    found = re.fullmatch(r"(sh|sz|bj)(\d{6})", text)
    return f"{found[2]}.{found[1].upper()}" if found else text


def of_rows(fields: Sequence[str], rows: Sequence[Sequence[Cell]], note: int = 0) -> Answer:
    columns = tuple(zip(*rows, strict=True)) if rows else tuple(() for _ in fields)
    return Answer(tuple(fields), columns, note=note)
