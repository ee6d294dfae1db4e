"""Tushare Pro on the wire: HTTP and JSON, row caps without a word, errors as HTTP 200 with a code and a text."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from mystocks_ingest.sim.answers import Answer, distort
from mystocks_ingest.sim.clock import Clock
from mystocks_ingest.sim.faults import Fault, FaultBook
from mystocks_ingest.sim.lag import Repeats, lagging
from mystocks_ingest.sim.web import HttpReply, HttpRequest

Params = Mapping[str, str]

# Rows per call as documented; where no cap is stated, none is simulated.
CAPS = {
    "stock_basic": 6000,
    "daily": 6000,
    "weekly": 6000,
    "monthly": 4500,
    "stk_weekly_monthly": 6000,
    "daily_basic": 6000,
    "stk_mins": 8000,
    "rt_k": 6000,
    "index_daily": 8000,
    "index_weekly": 1000,
    "index_monthly": 1000,
    "fund_daily": 5000,
    "fund_adj": 2000,
    "stk_limit": 5800,
    "fund_basic": 15000,
    "etf_basic": 5000,
    "bse_mapping": 1000,
}
_PAGED = frozenset({"fund_adj", "bak_daily"})  # the only interfaces for which `offset` is documented

_SEE = "权限的具体详情访问：https://tushare.pro/document/1?doc_id=108。"


class Refusal(Exception):
    """An answer with a code other than 0."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code, self.text = code, text


class Tables(Protocol):
    """Where the rows come from: the simulated market, or recordings."""

    def answer(self, api: str, params: Params, fields: Sequence[str], *, cap: int | None, adjusted: bool) -> Answer:
        """All rows asked for, in the vendor's order (at least ``cap + 1`` of them, if there are). Raises Refusal.

        ``fields`` empty: the interface's default columns. ``adjusted``: fill the answer's adjusted prices.
        """
        ...


@dataclass
class Tushare:
    """Answers one request at a time."""

    tables: Tables
    faults: FaultBook
    clock: Clock | None = None
    _given: dict[str, deque[float]] = field(default_factory=dict)
    _last: Repeats = field(default_factory=Repeats)

    def reply(self, request: HttpRequest) -> HttpReply:
        api = request.path.rstrip("/").rpartition("/")[2]
        acting = tuple(self.faults.draw("tushare", api))
        if self.clock is None:
            return self._reply(api, request, acting)
        with lagging(self.clock, api, acting):
            return self._last.given((api, request.body), self._reply(api, request, acting), acting)

    def _reply(self, api: str, request: HttpRequest, acting: tuple[Fault, ...]) -> HttpReply:
        try:
            body = json.loads(request.body or b"{}")
            answer = self._answer(api, body, acting)
        except Refusal as no:
            return _json({"code": no.code, "msg": no.text, "data": None}, acting)
        except (ValueError, AttributeError, TypeError) as exc:
            return _json({"code": -2001, "msg": f"参数校验失败, {exc}", "data": None}, acting)
        if any(f.kind == "null_data" for f in acting):
            return _json({"code": 0, "msg": "", "data": None}, acting)
        rows = list(zip(*answer.columns, strict=True))
        data = {"fields": answer.fields, "items": rows, "has_more": answer.has_more, "count": -1}
        return _json({"code": 0, "msg": "", "data": data}, acting)

    def _answer(self, api: str, body: Mapping[str, object], acting: Sequence[Fault]) -> Answer:
        if not body.get("token"):
            raise Refusal(40101, "您的token不对，请确认。")
        for fault in acting:
            refusal = self._over(fault, api) if fault.kind == "quota" else _refusal(fault, api)
            if refusal:
                raise refusal
        given = body.get("params")
        params = {k: str(v) for k, v in given.items() if v is not None} if isinstance(given, Mapping) else {}
        fields = [f.strip() for f in str(body.get("fields") or "").split(",") if f.strip()]
        cap = CAPS.get(api)
        limit = min(int(params.get("limit") or cap or 1 << 40), cap or 1 << 40)
        offset = int(params.get("offset") or 0) if api in _PAGED else 0
        adjusted = any(f.kind == "forward_adjusted" for f in acting)
        answer = self.tables.answer(api, params, fields, cap=offset + limit, adjusted=adjusted)
        more = answer.size > offset + limit
        if offset or more:
            answer = replace(answer.take(slice(offset, offset + limit)), has_more=more)
        answer = distort(answer, acting)
        added = [f for f in answer.fields if f.startswith("new_column") or f.endswith("_new")]
        return answer.select([*fields, *added]) if fields else answer

    def _over(self, fault: Fault, api: str) -> Refusal | None:
        """The rate text once ``calls`` answers were given within ``seconds``; refused calls do not count."""
        now, calls = time.monotonic(), int(fault.number("calls", 50))
        given = self._given.setdefault(api, deque())
        while given and given[0] <= now - fault.number("seconds", 60):
            given.popleft()
        if len(given) >= calls:
            return Refusal(40203, f"抱歉，您每分钟最多访问该接口{calls}次，{_SEE}")
        given.append(now)
        return None


def _refusal(fault: Fault, api: str) -> Refusal | None:
    match fault.kind:
        case "bad_token":
            return Refusal(40101, "您的token不对，请确认。")
        case "rate_minute":
            return Refusal(40203, f"抱歉，您每分钟最多访问该接口{fault.number('calls', 500):.0f}次，{_SEE}")
        case "rate_minute_new":
            return Refusal(40203, f"抱歉，您访问接口({api})频率超限({fault.number('calls', 500):.0f}次/分钟)，{_SEE}")
        case "rate_hour":
            return Refusal(40203, f"抱歉，您每小时最多访问该接口{fault.number('calls', 10):.0f}次，{_SEE}")
        case "rate_day":
            return Refusal(40203, f"抱歉，您每天最多访问该接口{fault.number('calls', 5):.0f}次，{_SEE}")
        case "permission":
            return Refusal(40203, f"抱歉，您没有接口({api})访问权限，{_SEE}")
        case "ip_limit":
            return Refusal(40204, "您的IP数量超限，最大数量为5个！")
        case "code_2002":
            return Refusal(-2002, f"抱歉，您没有访问该接口的权限，{_SEE}")
    return None


def _json(content: Mapping[str, object], acting: tuple[Fault, ...]) -> HttpReply:
    body = {"request_id": "a1b2c3d4e5f64718", **content}
    return HttpReply(json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode(), faults=acting)
