"""The server lives in the caller's loop and ends with its task."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.types import Receive, Scope, Send

from mystocks_ingest.errors import ConfigError
from mystocks_ingest.web.connections import Bounds
from mystocks_ingest.web.server import serve

let_go = asyncio.Event()
entered: list[str] = []  # paths of the requests that the application was given


async def endless() -> AsyncIterator[bytes]:
    while True:
        yield b"x" * 65_536
        await asyncio.sleep(0)


async def slow(scope: Scope, receive: Receive, send: Send) -> None:
    entered.append(scope["path"])
    await asyncio.sleep(0.5 if scope["path"] == "/slow" else 0)
    if scope["path"] == "/never":
        await asyncio.sleep(3600)
    if scope["path"] == "/endless":
        await StreamingResponse(endless())(scope, receive, send)  # returns when the client is gone
        let_go.set()
        return
    await PlainTextResponse("done")(scope, receive, send)


async def ask(port: int, path: str) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n".encode())
    try:
        return await reader.read()
    finally:
        writer.close()


async def answering(path: str, requests: int = 1) -> None:
    """Returns when so many requests for ``path`` are being answered."""
    async with asyncio.timeout(30):
        while entered.count(path) < requests:  # noqa: ASYNC110 - they arrive when they do
            await asyncio.sleep(0.005)


async def begun(group: asyncio.TaskGroup, **options: Any) -> tuple[asyncio.Task[None], int]:
    bound: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    entered.clear()
    task = group.create_task(serve(slow, "127.0.0.1", 0, bound=bound.set_result, **options))
    return task, await bound


async def test_the_request_under_way_is_answered_and_then_the_port_is_free() -> None:
    handlers = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    async with asyncio.TaskGroup() as group:
        task, port = await begun(group)
        assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == handlers
        assert (await ask(port, "/")).endswith(b"done")
        under_way = group.create_task(ask(port, "/slow"))
        await answering("/slow")
        task.cancel()
        assert (await under_way).endswith(b"done")
    assert task.cancelled()
    with pytest.raises(OSError, match=r"refused|111"):
        await ask(port, "/")


async def test_a_request_that_does_not_end_holds_nobody_up_for_long() -> None:
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        task, port = await begun(group, stop_seconds=1)
        stuck = group.create_task(ask(port, "/never"))
        await answering("/never")
        task.cancel()
        assert not (await stuck).endswith(b"done")


async def test_a_port_that_is_taken_is_one_sentence() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ConfigError, match="MYSTOCKS_HTTP_PORT"):
            await serve(slow, "127.0.0.1", taken.getsockname()[1])


async def opened(port: int, said: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(said)  # not waited for: it may be crowded out already
    return reader, writer


async def closed(lines: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]) -> None:
    for _, writer in lines:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def test_connections_that_say_nothing_shut_nobody_out() -> None:
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        task, port = await begun(group, bounds=Bounds(most=10))
        silent = [await opened(port, b"GET / HTTP/1.1\r\nHost: here\r\n") for _ in range(30)]
        assert (await ask(port, "/")).endswith(b"done")
        for reader, _ in silent[:20]:  # those that waited for longest went
            with suppress(ConnectionError):
                assert await reader.read() == b""
        await closed(silent)
        task.cancel()


async def test_a_connection_whose_request_is_being_answered_is_not_crowded_out() -> None:
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        task, port = await begun(group, bounds=Bounds(most=3))
        under_way = [group.create_task(ask(port, "/slow")) for _ in range(2)]
        await answering("/slow", requests=2)
        silent = [await opened(port) for _ in range(20)]
        assert [(await answer).endswith(b"done") for answer in under_way] == [True, True]
        await closed(silent)
        task.cancel()


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\nHost: he", b"GET / HTTP/1.1\r\nHost: here\r\n\r\nGET / HT"])
async def test_a_head_that_does_not_come_ends_its_connection(said: bytes) -> None:
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        whole = said.count(b"\r\n\r\n")  # the first head has to come in time
        task, port = await begun(group, bounds=Bounds(head_seconds=2.0 if whole else 0.2))
        reader, writer = await opened(port, said)
        assert (await reader.read()).endswith(b"done" if whole else b"")
        await closed([(reader, writer)])
        task.cancel()


async def test_a_client_that_takes_nothing_of_its_answer_is_let_go() -> None:
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        task, port = await begun(group, bounds=Bounds(stuck_seconds=0.2))
        reader, writer = await opened(port, b"GET /endless HTTP/1.1\r\nHost: here\r\n\r\n")
        await let_go.wait()
        await closed([(reader, writer)])
        task.cancel()
