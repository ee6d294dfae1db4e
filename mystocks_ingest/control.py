"""How a command talks to the service that runs: lines of JSON each way over a unix socket in the state directory.

A command sends one line. The service tells that it is alive and how the work goes, a line each (``told``); its last line
is the answer. Where nothing is told for a minute the service hangs, and the command says so instead of waiting for ever.
Behind it blocks of bytes may follow, each with its length before it, an empty one after the last; a length that none has
says that an error's line follows instead. Whoever hangs up, or takes nothing for a minute, ends the work that was asked
for: what is not taken holds a connection of a database.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import struct
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NoReturn, Self

from mystocks_ingest.errors import ConfigError, IngestError, leaves
from mystocks_ingest.logs import get, redact

log = get("control")

FILE = "service.sock"
_REQUEST_SECONDS = 5.0
_ALIVE_EVERY, _ALIVE_SECONDS = 10.0, 60.0  # how often it is told, and after how long the service counts as hung
_BLOCK_SECONDS = 600.0  # a block is what a database takes one look for
_LONGEST_LINE = 16 * 1024 * 1024  # bytes: a command may name every symbol of the market
_MOST_UNREAD = 1024 * 1024  # bytes of what is told; beyond, whoever asked does not listen and is told less

_TAKEN_SECONDS = 60.0  # within these a command takes what it asked for

_BLOCK = struct.Struct("!Q")
_FAILED = 2**64 - 1

Tell = Callable[[Mapping[str, object]], None]


@dataclass(frozen=True, slots=True)
class Answer:
    """The last line, and the blocks of bytes behind it."""

    line: Mapping[str, object]
    blocks: AsyncGenerator[bytes, None] | None = None


Answering = Callable[[Mapping[str, object], Tell], Awaitable[Answer]]


async def serve(folder: Path, answering: Answering) -> None:
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
        server = await asyncio.start_unix_server(
            partial(_accepted, group, answering), sock=listening, limit=_LONGEST_LINE
        )
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            server.close()
            (folder / FILE).unlink(missing_ok=True)


def ask(folder: Path, request: Mapping[str, object], *, seconds: float | None = 10.0) -> dict[str, object] | None:
    """What the service in ``folder`` answers; None where none runs. ``seconds`` None: wait as long as it is alive.

    Raises ConfigError with the service's own sentence, or when it does not answer.
    """
    line = connected(folder, seconds=seconds)
    if line is None:
        return None
    with line:
        return line.ask(request)


def connected(folder: Path, *, seconds: float | None = None) -> Line | None:
    """A line to the service in ``folder``; None where none runs. Raises ConfigError where it cannot be reached."""
    opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    opened.settimeout(_ALIVE_SECONDS if seconds is None else seconds)
    try:
        with _address(folder) as address:
            opened.connect(address)
    except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
        opened.close()
        return None
    except OSError as exc:
        opened.close()
        raise _silent(folder, exc) from exc
    return Line(folder, opened)


def answers(folder: Path) -> bool:
    """Whether a service listens in ``folder``, be it that it hangs."""
    try:
        line = connected(folder, seconds=_REQUEST_SECONDS)
    except ConfigError:
        return True
    if line is None:
        return False
    with line:
        return True


class Line:
    """The commands' end of the socket. A context manager: leaving it hangs up."""

    def __init__(self, folder: Path, opened: socket.socket) -> None:
        self._folder = folder
        self._socket = opened
        self._incoming = opened.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._incoming.close()
        self._socket.close()

    def ask(self, request: Mapping[str, object], hear: Tell = lambda _: None) -> dict[str, object]:
        """The answer; what is told before it goes to ``hear``. Raises ConfigError or IngestError with the service's sentence."""
        try:
            self._socket.sendall(json.dumps(request, default=str).encode() + b"\n")
        except OSError as exc:
            raise _silent(self._folder, exc) from exc
        while True:
            found: dict[str, object] = json.loads(self._read(self._incoming.readline) or self._ended())
            if "error" in found:
                raise _raised(found)
            if "told" not in found:
                self._socket.settimeout(_BLOCK_SECONDS)
                return found
            if found["told"] != "alive":
                hear(found)

    def block(self) -> bytes:
        """The next block of bytes behind the answer; empty after the last.

        Raises ConfigError when it is cut short, and as ``ask`` does where the work failed meanwhile.
        """
        head = self._read(lambda: self._incoming.read(_BLOCK.size))
        size = _BLOCK.unpack(head)[0] if len(head) == _BLOCK.size else self._ended()
        if size == _FAILED:
            raise _raised(json.loads(self._read(self._incoming.readline) or self._ended()))
        found = self._read(lambda: self._incoming.read(size))
        return found if len(found) == size else self._ended()

    def _read(self, work: Callable[[], bytes]) -> bytes:
        try:
            return work()
        except OSError as exc:
            raise _silent(self._folder, exc) from exc

    def _ended(self) -> NoReturn:
        raise ConfigError(f"the service in {self._folder} ended before it answered")


def _raised(answer: Mapping[str, object]) -> IngestError:
    return (IngestError if answer.get("settled") else ConfigError)(str(answer["error"]))


def _silent(folder: Path, exc: OSError) -> ConfigError:
    return ConfigError(f"the service in {folder} does not answer ({exc}): look at its log, or restart it")


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
    group: asyncio.TaskGroup, answering: Answering, incoming: asyncio.StreamReader, out: asyncio.StreamWriter
) -> None:
    group.create_task(_talk(answering, incoming, out), name="control")


async def _talk(answering: Answering, incoming: asyncio.StreamReader, out: asyncio.StreamWriter) -> None:
    try:
        async with asyncio.timeout(_REQUEST_SECONDS):
            request = json.loads(await incoming.readline())
        async with asyncio.TaskGroup() as group:
            hanging_up = group.create_task(_hung_up(incoming), name="control:hung-up")
            await _answer(answering, request, out)
            hanging_up.cancel()
    except* (OSError, ValueError, TimeoutError) as dropped:
        log.info("command.dropped", reason="; ".join(str(exc) for exc in leaves(dropped)))
    finally:
        out.close()
        with contextlib.suppress(OSError):  # the other side has gone
            await out.wait_closed()


async def _hung_up(incoming: asyncio.StreamReader) -> None:
    """Ends with an error, and so the work, when whoever asked has gone: nobody sends a second line."""
    await incoming.read()
    raise ConnectionResetError("whoever asked has hung up")


async def _answer(answering: Answering, request: object, out: asyncio.StreamWriter) -> None:
    def send(line: Mapping[str, object]) -> None:
        out.write(json.dumps(line, ensure_ascii=False, default=str).encode() + b"\n")

    def tell(line: Mapping[str, object]) -> None:
        if out.transport.get_write_buffer_size() < _MOST_UNREAD:
            send(line)

    async with asyncio.TaskGroup() as group:
        beating = group.create_task(_beat(tell), name="control:alive")
        answer = await _had(answering, request, tell)
        beating.cancel()
    send(answer.line)
    await _taken(out)
    if answer.blocks is not None:
        async with aclosing(_framed(answer.blocks)) as pieces:
            async for piece in pieces:
                out.write(piece)
                await _taken(out)


async def _taken(out: asyncio.StreamWriter) -> None:
    async with asyncio.timeout(_TAKEN_SECONDS):
        await out.drain()


async def _framed(blocks: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """The blocks as they go over the line; what fails amid them is told there, for the answer is gone already."""
    try:
        async with aclosing(blocks):
            async for block in blocks:
                yield _BLOCK.pack(len(block)) + block
    except Exception as exc:  # noqa: BLE001 - as in ``_had``
        yield _BLOCK.pack(_FAILED) + json.dumps(_trouble(exc), ensure_ascii=False).encode() + b"\n"
    else:
        yield _BLOCK.pack(0)


async def _beat(tell: Tell) -> None:
    while True:
        tell({"told": "alive"})
        await asyncio.sleep(_ALIVE_EVERY)


async def _had(answering: Answering, request: object, tell: Tell) -> Answer:
    """The answer, or why there is none. A command's trouble is no reason for the service to end."""
    if not isinstance(request, dict):
        return Answer({"error": "a command is a mapping"})
    try:
        return await answering(request, tell)
    except Exception as exc:  # noqa: BLE001 - likewise
        return Answer(_trouble(exc))


def _trouble(exc: Exception) -> dict[str, object]:
    """The line that tells of it; in the log with its traceback where it is a defect of ours."""
    found = sorted(leaves(exc), key=lambda leaf: not isinstance(leaf, ConfigError))
    unexpected = [leaf for leaf in found if not isinstance(leaf, IngestError)]
    if unexpected:
        log.error("command.failed", exc_info=exc)
        named = f"unexpected {type(unexpected[0]).__name__}: {redact(str(unexpected[0]))}"
        return {"error": f"{named}; its traceback is in the service's log", "settled": True}
    return {"error": str(found[0]), "settled": not isinstance(found[0], ConfigError)}
