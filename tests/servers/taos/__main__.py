"""``python -m servers.taos --port 6041 --control 6042``: serve until the process is ended.

The control port takes one JSON object a connection: ``{"fault": {...}}``, ``{"clear": true}``, ``{"refuse": true}`` (no
new connections, and the old ones are cut), ``{"cut": true}`` (the old ones are cut), ``{"asked": true}``.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
from pathlib import Path
from typing import Any

from . import frames
from .engine import VERSION, Engine
from .faults import Faults
from .session import Session

_BUFFER = 1 << 25


class Server:
    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._engine = Engine(options.folder, version=options.version, counts_only=options.counts_only)
        self._faults = Faults()
        self._writers: set[asyncio.StreamWriter] = set()
        self._listener: asyncio.Server | None = None

    async def run(self) -> None:
        await self._listen()
        control = await asyncio.start_server(self._control, "127.0.0.1", self._options.control)
        async with control:
            await control.serve_forever()

    async def _listen(self) -> None:
        self._listener = await asyncio.start_server(self._connected, "127.0.0.1", self._options.port, limit=_BUFFER)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            if await frames.accept(reader, writer):
                self._faults.connected += 1
                await Session(self._engine, self._faults, self._options.user, self._options.password).serve(
                    reader, writer
                )
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client has gone
        finally:
            self._writers.discard(writer)
            writer.close()

    def _cut(self) -> None:
        for writer in tuple(self._writers):
            writer.transport.abort()

    async def _control(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            order: dict[str, Any] = json.loads(await reader.readline())
            writer.write(json.dumps(await self._obeyed(order)).encode() + b"\n")
            await writer.drain()
            writer.close()

    async def _obeyed(self, order: dict[str, Any]) -> dict[str, Any]:
        if "fault" in order:
            self._faults.add(order["fault"])
        if order.get("clear"):
            self._faults.all.clear()
            if self._listener is None:
                await self._listen()
        if order.get("refuse") and self._listener is not None:
            self._listener.close()
            self._listener = None
        if order.get("cut") or order.get("refuse"):
            self._cut()
        counts = {"asked": self._faults.asked, "connected": self._faults.connected, "open": len(self._writers)}
        return counts | {"rows": self._engine.counted}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--control", type=int, required=True)
    parser.add_argument("--user", default="root")
    parser.add_argument("--password", default="taosdata")
    parser.add_argument("--folder", type=Path, help="where changes are kept over a restart")
    parser.add_argument(
        "--counts-only", action="store_true", help="rows of prepared inserts are counted, and forgotten"
    )
    parser.add_argument("--version", default=VERSION, help="the version it says it is")
    asyncio.run(Server(parser.parse_args()).run())


main()
