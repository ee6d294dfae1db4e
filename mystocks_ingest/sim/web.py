"""A small HTTP/1.1 server: enough for `requests` as a client, with faults on the connection."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote, urlsplit

from mystocks_ingest.sim.faults import Fault
from mystocks_ingest.sim.transport import Handler, send

_BAD_GATEWAY = "<html>\r\n<head><title>{0}</title></head>\r\n<body>\r\n<center><h1>{0}</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
_CAPTCHA = """<!DOCTYPE html><html><head><meta charset="utf-8"><title>安全验证</title></head>
<body><div id="captcha">请拖动滑块完成验证</div><script src="/captcha/slider.js"></script></body></html>"""
_STATUS = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    456: "456",
    500: "Internal Server Error",
    502: "Bad Gateway",
    504: "Gateway Time-out",
}


@dataclass(frozen=True)
class HttpRequest:
    """A request as it arrived. ``host`` is the vendor's host the client meant to reach."""

    method: str
    host: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class HttpReply:
    """An answer with the faults that are to act on its way."""

    body: bytes
    status: int = 200
    content_type: str = "application/json; charset=utf-8"
    faults: tuple[Fault, ...] = field(default=())


def faulty(reply: HttpReply) -> HttpReply:
    """``reply`` with its body and status replaced where a fault of the HTTP kind acts."""
    for fault in reply.faults:
        match fault.kind:
            case "http_500" | "http_502" | "http_504" | "http_456":
                status = int(fault.kind[5:])
                body = _BAD_GATEWAY.format(f"{status} {_STATUS[status]}").encode()
                return HttpReply(body, status, "text/html", reply.faults)
            case "captcha":
                return HttpReply(_CAPTCHA.encode(), 200, "text/html; charset=utf-8", reply.faults)
            case "garbage":
                return HttpReply(reply.body[: len(reply.body) * 2 // 3], 200, reply.content_type, reply.faults)
    return reply


def serve(answer: Callable[[HttpRequest], HttpReply | Awaitable[HttpReply]]) -> Handler:
    """A connection handler that answers each request with ``answer`` (which must be quick: it runs in the loop)."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (request := await _read(reader)) is not None:
            given = answer(request)
            reply = faulty(given if isinstance(given, HttpReply) else await given)
            keep = request.headers.get("connection", "").lower() != "close"
            head = (
                f"HTTP/1.1 {reply.status} {_STATUS.get(reply.status, 'OK')}\r\nServer: nginx\r\n"
                f"Content-Type: {reply.content_type}\r\nContent-Length: {len(reply.body)}\r\n"
                f"Connection: {'keep-alive' if keep else 'close'}\r\n\r\n"
            )
            if not await send(reader, writer, head.encode() + reply.body, reply.faults) or not keep:
                return

    return handle


async def _read(reader: asyncio.StreamReader) -> HttpRequest | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    lines = head.decode("latin-1").split("\r\n")
    method, _, rest = lines[0].partition(" ")
    target = rest.rpartition(" ")[0]
    headers = {k.strip().lower(): v.strip() for k, _, v in (line.partition(":") for line in lines[1:] if line)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    parts = urlsplit(target)  # absolute when the client takes us for its proxy
    host = headers.get("x-sim-host") or parts.hostname or headers.get("host", "").partition(":")[0]
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    return HttpRequest(method, host, unquote(parts.path), query, headers, body)
