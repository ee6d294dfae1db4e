"""A wire between a client and a server that a test can cut, block and hold at a chosen byte."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

from .private import free_port

_LINGER_RESETS = struct.pack("ii", 1, 0)


class Proxy:
    """Forwards ``host:port`` on a loopback port of its own. ``with Proxy(host, port) as wire: connect to wire.port``.

    Runs in a thread of its own, so that a test's stalled event loop does not stall the wire.
    """

    def __init__(self, host: str, port: int, *, instead: Mapping[bytes, bytes] | None = None) -> None:
        """``instead``: what passes, in either direction, is replaced so; old and new are equally long."""
        self._instead = instead or {}
        self._target = (host, port)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self._flowing = asyncio.Event()
        self._left: int | None = None
        self._late_seconds = 0.0
        self._at_limit = self._sever
        self.host = "127.0.0.1"
        self.port = free_port()  # nobody else's while it refuses connections
        self.connections = 0  # accepted so far

    def __enter__(self) -> Self:
        self._thread.start()
        self._do(self._listen)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.refuse()
        self._do(self._cancel)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def sever(self) -> None:
        """Reset every connection, as a firewall that forgot them does; new ones are taken."""
        self._do(self._sever)

    def refuse(self) -> None:
        """Reset every connection and take no new one: connection refused."""
        self._do(self._refuse)

    def accept(self) -> None:
        """Take connections again, on the same port."""
        self._do(self._listen)

    def hang(self) -> None:
        """Keep all connections, take new ones, pass nothing on."""
        self._do(self._stop_flow)

    def flow(self) -> None:
        """Pass on again what was held back."""
        self._do(self._start_flow)

    def slow(self, seconds: float) -> None:
        """Each answer comes so much later from now on; 0: as it is."""
        self._late_seconds = seconds

    def sever_after(self, sent_bytes: int) -> None:
        """Once the client has sent so many more bytes, reset every connection: it ends amid a batch."""
        self._left, self._at_limit = sent_bytes, self._sever

    def hang_after(self, sent_bytes: int) -> None:
        """Once the client has sent so many more bytes, pass nothing on any more."""
        self._left, self._at_limit = sent_bytes, self._stop_flow

    @property
    def reached(self) -> bool:
        """Whether the limit of ``sever_after`` or ``hang_after`` has come."""
        return self._left is None

    def _do(self, action: Callable[[], object]) -> None:
        async def run() -> None:
            result = action()
            if asyncio.iscoroutine(result):
                await result

        asyncio.run_coroutine_threadsafe(run(), self._loop).result(timeout=60)

    async def _listen(self) -> None:
        self._flowing.set()
        self._server = await asyncio.start_server(self._serve, self.host, self.port)

    def _refuse(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        self._sever()

    def _sever(self) -> None:
        self._flowing.set()
        for writer in tuple(self._writers):
            raw = writer.get_extra_info("socket")
            if raw is not None and raw.fileno() >= 0:  # it may have been closed by the loop's side just now
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RESETS)
            writer.transport.abort()

    def _stop_flow(self) -> None:
        self._flowing.clear()

    def _start_flow(self) -> None:
        self._flowing.set()

    async def _cancel(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            return
        pair = {writer, far_writer}
        self._writers |= pair
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, far_writer, counted=True))
                group.create_task(self._pump(far_reader, writer, counted=False))
        except* OSError:
            pass  # one side ended; the other is ended below
        finally:
            self._writers -= pair
            for end in pair:
                end.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, counted: bool) -> None:
        while read := await reader.read(1 << 16):
            await self._flowing.wait()
            if counted and self._left is not None:
                self._left -= len(read)
                if self._left <= 0:
                    self._left = None
                    self._at_limit()
                    await self._flowing.wait()
            if not counted and self._late_seconds:
                await asyncio.sleep(self._late_seconds)
            for old, new in self._instead.items():
                read = read.replace(old, new)
            writer.write(read)
            await writer.drain()
        raise ConnectionResetError
