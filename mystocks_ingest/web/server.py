"""The server: uvicorn in the caller's loop, without signal handlers of its own."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator

import uvicorn
from starlette.types import ASGIApp

from mystocks_ingest.errors import ConfigError
from mystocks_ingest.logs import get
from mystocks_ingest.web.connections import BoundedConfig, Bounds

log = get("http")

_IDLE_SECONDS = 15


class _Guest(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.opened = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.opened.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # signals are the service's


async def serve(
    app: ASGIApp,
    host: str,
    port: int,
    *,
    bound: Callable[[int], None] | None = None,
    stop_seconds: int = 5,
    bounds: Bounds | None = None,
) -> None:
    """Answer requests until cancelled; those under way then have ``stop_seconds`` to end.

    Port 0 takes one that is free. ``bound`` is told the port once connections are taken. Raises ConfigError where the
    address cannot be listened on.
    """
    listening = _listening(host, port)
    port = listening.getsockname()[1]
    config = BoundedConfig(
        app,
        bounds or Bounds(),
        lifespan="off",
        ws="none",
        log_config=None,
        log_level="critical",  # what goes wrong in a request is logged by the gate
        access_log=False,
        server_header=False,
        proxy_headers=False,  # an address that a client states is not believed
        timeout_keep_alive=_IDLE_SECONDS,
        timeout_graceful_shutdown=stop_seconds,
    )
    server = _Guest(config)
    async with asyncio.TaskGroup() as group:
        serving = group.create_task(server.serve(sockets=[listening]), name="http")
        try:
            await server.opened.wait()
            log.info("http.opened", host=host, port=port)
            if bound is not None:
                bound(port)
            await asyncio.shield(serving)
        finally:
            server.should_exit = True
            await serving
            listening.close()
            log.info("http.closed", port=port)


def _listening(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
    except OSError as exc:
        raise ConfigError(f"MYSTOCKS_HTTP_HOST {host} is no address of this machine ({exc.strerror})") from exc
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(128)
    except OSError as exc:
        listening.close()
        raise ConfigError(
            f"{host}:{port} cannot be listened on ({exc.strerror}): choose MYSTOCKS_HTTP_HOST and MYSTOCKS_HTTP_PORT"
        ) from exc
    listening.setblocking(False)
    return listening
