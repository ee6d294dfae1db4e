"""The server lives in the caller's loop and ends with its task."""

from __future__ import annotations

import asyncio
import signal
import socket

import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from mystocks_ingest.errors import ConfigError
from mystocks_ingest.web.server import serve


async def slow(scope: Scope, receive: Receive, send: Send) -> None:
    await asyncio.sleep(0.5 if scope["path"] == "/slow" else 0)
    if scope["path"] == "/never":
        await asyncio.sleep(3600)
    await PlainTextResponse("done")(scope, receive, send)


async def ask(port: int, path: str) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n".encode())
    try:
        return await reader.read()
    finally:
        writer.close()


async def begun(group: asyncio.TaskGroup, **options: int) -> tuple[asyncio.Task[None], int]:
    bound: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    task = group.create_task(serve(slow, "127.0.0.1", 0, bound=bound.set_result, **options))
    return task, await bound


async def test_the_request_under_way_is_answered_and_then_the_port_is_free() -> None:
    handlers = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    async with asyncio.TaskGroup() as group:
        task, port = await begun(group)
        assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == handlers
        assert (await ask(port, "/")).endswith(b"done")
        under_way = group.create_task(ask(port, "/slow"))
        await asyncio.sleep(0.1)
        task.cancel()
        assert (await under_way).endswith(b"done")
    assert task.cancelled()
    with pytest.raises(OSError, match=r"refused|111"):
        await ask(port, "/")


async def test_a_request_that_does_not_end_holds_nobody_up_for_long() -> None:
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        task, port = await begun(group, stop_seconds=1)
        stuck = group.create_task(ask(port, "/never"))
        await asyncio.sleep(0.1)
        task.cancel()
        assert not (await stuck).endswith(b"done")


async def test_a_port_that_is_taken_is_one_sentence() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ConfigError, match="MYSTOCKS_HTTP_PORT"):
            await serve(slow, "127.0.0.1", taken.getsockname()[1])
