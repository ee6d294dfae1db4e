"""How a command talks to the service that runs: one line of JSON each way over a unix socket in the state directory."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from mystocks_ingest.errors import ConfigError, IngestError
from mystocks_ingest.logs import get

log = get("control")

FILE = "service.sock"
Answer = Callable[[Mapping[str, object]], Awaitable[Mapping[str, object]]]
_REQUEST_SECONDS = 5.0


async def serve(folder: Path, answer: Answer) -> None:
    """Answer commands until cancelled. The caller holds the state directory, so an old socket is nobody's."""
    with _address(folder) as address:
        (folder / FILE).unlink(missing_ok=True)
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o177)  # nobody but this user
        try:
            listening.bind(address)
        finally:
            os.umask(before)
    async with asyncio.TaskGroup() as group:
        server = await asyncio.start_unix_server(partial(_accepted, group, answer), sock=listening)
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            server.close()
            (folder / FILE).unlink(missing_ok=True)


def ask(folder: Path, request: Mapping[str, object], *, seconds: float | None = 10.0) -> dict[str, object] | None:
    """What the service in ``folder`` answers; None where none runs. ``seconds`` None: wait as long as it takes.

    Raises ConfigError with the service's own sentence, or when it does not answer.
    """
    try:
        with _address(folder) as address, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
            line.settimeout(seconds)
            line.connect(address)
            line.sendall(json.dumps(request).encode() + b"\n")
            with line.makefile("rb") as incoming:
                reply = incoming.readline()
    except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
        return None
    except OSError as exc:
        raise ConfigError(f"the service in {folder} does not answer ({exc}): look at its log, or restart it") from exc
    if not reply:
        raise ConfigError(f"the service in {folder} ended before it answered")
    found: dict[str, object] = json.loads(reply)
    if "error" in found:
        raise ConfigError(str(found["error"]))
    return found


@contextmanager
def _address(folder: Path) -> Iterator[str]:
    """The socket's address, by way of the open folder where it can be: an address holds no more than 108 bytes."""
    path = folder / FILE
    if len(os.fsencode(path)) < 100:
        yield str(path)
        return
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{opened}/{FILE}"
    finally:
        os.close(opened)


def _accepted(
    group: asyncio.TaskGroup, answer: Answer, incoming: asyncio.StreamReader, out: asyncio.StreamWriter
) -> None:
    group.create_task(_talk(answer, incoming, out), name="control")


async def _talk(answer: Answer, incoming: asyncio.StreamReader, out: asyncio.StreamWriter) -> None:
    try:
        async with asyncio.timeout(_REQUEST_SECONDS):
            request = json.loads(await incoming.readline())
        reply = await _reply(answer, request)
        out.write(json.dumps(reply, ensure_ascii=False, default=str).encode() + b"\n")
        await out.drain()
    except (OSError, ValueError, TimeoutError) as exc:
        log.info("command.dropped", reason=str(exc))
    finally:
        out.close()
        with contextlib.suppress(OSError):  # the other side has gone
            await out.wait_closed()


async def _reply(answer: Answer, request: object) -> Mapping[str, object]:
    if not isinstance(request, dict):
        return {"error": "a command is a mapping"}
    try:
        return await answer(request)
    except IngestError as exc:
        return {"error": str(exc)}
