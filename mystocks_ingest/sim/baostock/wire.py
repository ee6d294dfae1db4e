"""Baostock on the wire: its private TCP framing, one session per connection, pages as large as asked for."""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from mystocks_ingest.sim.answers import Answer, distort
from mystocks_ingest.sim.faults import Fault, FaultBook
from mystocks_ingest.sim.transport import send

SPLIT = "\x01"
END = b"<![CDATA[]]>\n"
_VERSION = "00.9.00"
_HEAD = 21  # version 7, type 2, length 10, two separators

# Request type: reply type, number of arguments after page and size (None: no page, one whole table).
_TYPES = {
    "95": ("96", 6), "98": ("99", None), "9A": ("9B", None), "9C": ("9D", None), "33": ("34", 2), "35": ("36", 1),
    "45": ("46", 2), "59": ("60", 2), "61": ("62", 1), "63": ("64", 1), "65": ("66", 1), "13": ("14", 3),
    "15": ("16", 3), "17": ("18", 3), "19": ("20", 3), "21": ("22", 3), "23": ("24", 3), "25": ("26", 3),
    "27": ("28", 3), "29": ("30", 3), "31": ("32", 3), "67": ("68", 1), "69": ("70", 1), "71": ("72", 1),
    "73": ("74", 1),
}  # fmt: skip
_COMPRESSED = frozenset({"96", "99", "9B", "9D"})


class Refusal(Exception):
    """An answer with an error code."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code, self.text = code, text


class Tables(Protocol):
    """Where the rows come from."""

    def answer(self, method: str, args: Sequence[str], *, adjusted: bool) -> Answer:
        """All rows, oldest first, every cell a text. Raises Refusal."""
        ...


@dataclass
class Baostock:
    """One handler for all connections; the login belongs to the connection."""

    tables: Tables
    faults: FaultBook
    _recent: dict[tuple[str, ...], Answer] = field(default_factory=dict)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        logged_in = False
        while True:
            line = await reader.readuntil(b"\n")
            kind, method, page, payload, acting = self._reply(line, logged_in=logged_in)
            if method == "login" and kind == "01":
                logged_in = True
            if page is None and not payload:
                return
            if not await send(reader, writer, payload, acting) or method == "logout":
                return

    def _reply(self, line: bytes, *, logged_in: bool) -> tuple[str, str, int | None, bytes, list[Fault]]:
        text = line.decode(errors="replace").rstrip("\n")
        head, rest = text[:_HEAD].split(SPLIT), text[_HEAD:]
        body, _, crc = rest.rpartition(SPLIT)
        if len(head) != 3 or not head[2].isdigit():
            return "", "", None, b"", []
        parts = body.split(SPLIT)
        method = parts[0]
        page = int(parts[2]) if len(parts) > 3 and parts[2].isdigit() else 1
        acting = self.faults.draw("baostock", method, page)
        sound = int(head[2]) == len(body) and crc == str(zlib.crc32((text[:_HEAD] + body).encode()))
        try:
            kind, fields = self._answer(head[1] if sound else "", parts, acting, logged_in=logged_in)
        except Refusal as no:
            kind, fields = "04", [no.code, no.text]
        return kind, method, page, frame(kind, SPLIT.join(fields), acting), acting

    def _answer(
        self, kind: str, parts: list[str], acting: Sequence[Fault], *, logged_in: bool
    ) -> tuple[str, list[str]]:
        if not kind:
            raise Refusal("10004019", "消息格式错误")
        method, user = parts[0], parts[1] if len(parts) > 1 else ""
        for fault in acting:
            if fault.kind in ("server_error", "page_error"):
                return _TYPES.get(kind, ("01",))[0], ["10005001", "系统错误"]
            if refusal := _REFUSALS.get(fault.kind):
                raise Refusal(*refusal)
        if kind == "00":
            return "01", ["0", "success", method, user, "20260630150000000"]
        if kind == "02":
            return "03", ["0", "success", method, user, *parts[2:]]
        if not logged_in:
            raise Refusal("10001001", "用户未登录")
        if kind not in _TYPES:
            raise Refusal("10004020", "错误的消息类型")
        reply, count = _TYPES[kind]
        paged = count is not None
        args = parts[4:] if paged else parts[2:]
        if len(args) != (count if count is not None else 1):
            raise Refusal("10004006", "请求参数个数不正确")
        answer = distort(self._table(method, args, acting), acting)
        names = ", ".join(answer.fields) if kind != "95" else ",".join(answer.fields)
        if not paged:
            return reply, ["0", "success", method, user, _record(answer), names]
        page, size = int(parts[2]), max(int(parts[3]), 1)
        rows = _record(answer.take(slice((page - 1) * size, page * size)))
        echo = [args[0], names, *args[2:]] if kind == "95" else [*args, names]
        return reply, ["0", "success", method, user, str(page), str(size), rows, *echo]

    def _table(self, method: str, args: list[str], acting: Sequence[Fault]) -> Answer:
        adjusted = any(f.kind == "forward_adjusted" for f in acting)
        key = (method, *args, str(adjusted))
        answer = self._recent.pop(key, None) or self.tables.answer(method, args, adjusted=adjusted)
        self._recent[key] = answer  # the next page of it will be asked for at once
        while len(self._recent) > 8:
            self._recent.pop(next(iter(self._recent)))
        return answer


_REFUSALS = {
    "blacklist": ("10001011", "黑名单用户，请与管理员联系"),
    "client_too_old": ("10001004", "客户端版本号过期"),
    "not_logged_in": ("10001001", "用户未登录"),
    "login_limit": ("10001005", "账号登陆数达到上限"),
    "type_04": ("10004020", "错误的消息类型"),
}


def _record(answer: Answer) -> str:
    """The JSON of the rows; nothing at all when there is none."""
    if not answer.size:
        return ""
    return json.dumps({"record": list(zip(*answer.columns, strict=True))}, ensure_ascii=False, separators=(",", ":"))


def frame(kind: str, body: str, faults: Sequence[Fault] = ()) -> bytes:
    """A reply as the server writes it; LEN counts characters of plain bodies, bytes of compressed ones."""
    kinds = {f.kind for f in faults}
    plain = body.encode()
    if kind in _COMPRESSED:
        packed = zlib.compress(plain, 1)
        if "unzip_error" in kinds:
            packed = packed[:2] + bytes(len(packed) - 2)
        head = f"{_VERSION}{SPLIT}{kind}{SPLIT}{len(packed) + (999 if 'bad_length' in kinds else 0):010d}".encode()
        crc = zlib.crc32(head + plain) ^ ("bad_crc" in kinds)
        return head + packed + f"{SPLIT}{crc}\n".encode() + END
    head = f"{_VERSION}{SPLIT}{kind}{SPLIT}{len(body) + (999 if 'bad_length' in kinds else 0):010d}".encode()
    crc = zlib.crc32(head + plain) ^ ("bad_crc" in kinds)
    return head + plain + f"{SPLIT}{crc}".encode() + END
