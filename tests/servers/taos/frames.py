"""Websocket frames (RFC 6455), the server's side: handshake, messages in, messages out."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import struct
from collections.abc import AsyncIterator

import numpy as np

_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Answer the upgrade request; False when it is none."""
    head = await reader.readuntil(b"\r\n\r\n")
    line, *fields = head.decode("latin-1").split("\r\n")
    headers = {k.strip().lower(): v.strip() for k, _, v in (f.partition(":") for f in fields)}
    key = headers.get("sec-websocket-key")
    if key is None or line.split(" ")[1].split("?")[0] != "/ws":
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        return False
    digest = base64.b64encode(hashlib.sha1(key.encode() + _MAGIC).digest())  # noqa: S324 - the RFC's choice
    writer.write(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + digest + b"\r\n\r\n"
    )
    return True


async def messages(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> AsyncIterator[tuple[int, bytes]]:
    """Whole text and binary messages; pings are answered in passing."""
    kind, parts = 0, []
    while True:
        first, second = await reader.readexactly(2)
        size = second & 0x7F
        if size == 126:
            (size,) = struct.unpack(">H", await reader.readexactly(2))
        elif size == 127:
            (size,) = struct.unpack(">Q", await reader.readexactly(8))
        mask = await reader.readexactly(4) if second & 0x80 else b""
        payload = _unmasked(await reader.readexactly(size), mask) if mask else await reader.readexactly(size)
        code = first & 0x0F
        if code == CLOSE:
            return
        if code == PING:
            writer.write(_frame(PONG, payload))
        elif code != PONG:
            kind = code or kind
            parts.append(payload)
            if first & 0x80:
                yield kind, parts[0] if len(parts) == 1 else b"".join(parts)
                parts = []


def send(writer: asyncio.StreamWriter, kind: int, payload: bytes) -> None:
    """One unfragmented message."""
    writer.write(_frame(kind, payload))


def _frame(kind: int, payload: bytes) -> bytes:
    size = len(payload)
    if size < 126:
        head = struct.pack(">BB", 0x80 | kind, size)
    elif size < 1 << 16:
        head = struct.pack(">BBH", 0x80 | kind, 126, size)
    else:
        head = struct.pack(">BBQ", 0x80 | kind, 127, size)
    return head + payload


def _unmasked(payload: bytes, mask: bytes) -> bytes:
    if not payload:
        return payload
    data = np.frombuffer(payload.ljust((len(payload) + 3) & ~3, b"\0"), np.uint32)
    return (data ^ np.frombuffer(mask, np.uint32)).tobytes()[: len(payload)]
