"""How an answer reaches the wire when faults act on the connection: late, halved, reset, or never."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from mystocks_ingest.sim.faults import Fault

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def send(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, payload: bytes, faults: Sequence[Fault]
) -> bool:
    """Send ``payload`` as the transport faults want it. True while the connection can be used further."""
    kinds = {f.kind: f for f in faults}
    if delay := kinds.get("delay"):
        await asyncio.sleep(delay.number("seconds", 5.0))
    if "silence" in kinds:
        while await reader.read(4096):  # until the caller gives up
            pass
        return False
    if "fin" in kinds or "drop_pages" in kinds:
        return False
    if "rst" in kinds:
        reset(writer)
        return False
    if "fin_mid" in kinds or "rst_mid" in kinds:
        writer.write(payload[: len(payload) // 2])
        await writer.drain()
        if "rst_mid" in kinds:
            await asyncio.sleep(0.05)  # let the first half arrive
            reset(writer)
        return False
    writer.write(payload)
    await writer.drain()
    return True


def reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST instead of FIN."""
    sock = writer.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@dataclass
class Listener:
    """A listening socket that can be closed and opened again on the same port (the `refused` fault)."""

    handler: Handler
    port: int = 0
    _server: asyncio.Server | None = None

    def __post_init__(self) -> None:
        self._connections: set[asyncio.StreamWriter] = set()

    async def open(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, backlog=512)
            self.port = self._server.sockets[0].getsockname()[1]

    async def refuse(self) -> None:
        """Close the port, and every connection that is open on it."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in list(self._connections):
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            await self.handler(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # the caller went away in the middle: clients under test are killed all the time
        finally:
            self._connections.discard(writer)
            writer.close()
