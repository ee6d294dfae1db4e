"""The process of a lane as the parent's event loop sees it: spawn, frames in and out, kill.

asyncio's own SubprocessProtocol is used rather than streams, because its transport has a public ``close``:
a killed child leaves no half-open pipe behind, whoever else holds the other end.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa

from mystocks_ingest import errors, logs
from mystocks_ingest.sources.lane_child import BODY_LIMIT, HEADER_LIMIT, MAGIC, PREFIX

_KEPT_LINES = 40
_KEPT_CHARS = 400
_SECRET_NAMES = ("TOKEN", "PASSWORD", "PASSWD", "SECRET", "API_KEY", "APIKEY")


@dataclass(frozen=True, slots=True)
class LaneAnswer:
    """What a lane function returned. ``table`` is one batch; ``value`` is JSON; ``seconds`` were spent inside."""

    table: pa.RecordBatch | None
    value: object
    seconds: float

    @property
    def rows(self) -> pa.RecordBatch:
        """The table. Raises Malformed when the function returned none."""
        if self.table is None:
            raise errors.Malformed(f"a table was expected, the answer is {self.value!r:.200}")
        return self.table


class Garbage(Exception):
    """The child is of no more use: it died, or what it sent is no answer."""


class Child(asyncio.SubprocessProtocol):
    """The process as asyncio shows it: bytes of answers on fd 1, the vendor's prints on fd 2."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.gone: asyncio.Future[None] = loop.create_future()
        self._answer: asyncio.Future[tuple[dict[str, object], memoryview]] | None = None
        self._bytes = bytearray()
        self._need = PREFIX.size
        self._lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self._line = ""
        self._transport: asyncio.SubprocessTransport | None = None

    @property
    def alive(self) -> bool:
        """Whether the process runs; asks the system, for the loop may not have heard of its end yet."""
        if self._transport is None or self._transport.get_returncode() is not None or self.gone.done():
            return False
        try:
            return os.waitid(os.P_PID, self._transport.get_pid(), os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
        except ChildProcessError:
            return False

    @property
    def pid(self) -> int | None:
        return self._transport.get_pid() if self._transport is not None else None

    async def ask(self, frame: bytes) -> tuple[dict[str, object], memoryview]:
        self._answer = asyncio.get_running_loop().create_future()
        pipe = self._transport.get_pipe_transport(0) if self._transport is not None else None
        if pipe is None or not self.alive or not isinstance(pipe, asyncio.WriteTransport):
            raise Garbage("its process has ended")
        pipe.write(frame)
        try:
            return await self._answer
        finally:
            self._answer = None

    def kill(self) -> None:
        """SIGKILL to the process and whatever it started. Safe to repeat; ``close`` once ``gone``, or waited for."""
        if self._transport is None:
            return
        if (pid := self.pid) is not None and self._transport.get_returncode() is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)

    def close(self) -> None:
        """Close the pipes. Before the end was heard of, this would take the exit code from the loop's watcher."""
        if self._transport is not None:
            self._transport.close()

    def last_words(self) -> str:
        words = " | ".join((*self._lines, self._line)).strip(" |")[-_KEPT_CHARS:]
        return f"; it last printed: {words}" if words else ""

    def take_lines(self) -> list[str]:
        lines = [*self._lines]
        self._lines.clear()
        return lines

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.SubprocessTransport)  # noqa: S101  # asyncio's promise
        self._transport = transport

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if fd == 2:
            *whole, self._line = (self._line + data.decode(errors="replace")).split("\n")
            self._lines.extend(line[:_KEPT_CHARS] for line in whole if line.strip())
            self._line = self._line[-_KEPT_CHARS:]
            return
        self._bytes += data
        if len(self._bytes) >= self._need:
            self._parse()

    def _parse(self) -> None:
        magic, header, body = PREFIX.unpack_from(self._bytes)
        if magic != MAGIC or header > HEADER_LIMIT or body > BODY_LIMIT:
            self._fail(f"it sent {bytes(self._bytes[:40])!r} where an answer was due")
            return
        self._need = PREFIX.size + header + body
        if len(self._bytes) < self._need:
            return
        frame, self._bytes, self._need = self._bytes, self._bytes[self._need :], PREFIX.size
        try:
            parsed = json.loads(frame[PREFIX.size : PREFIX.size + header])
        except ValueError:
            self._fail("its answer has no readable header")
            return
        view = memoryview(frame)[PREFIX.size + header : PREFIX.size + header + body]
        if self._answer is None or self._answer.done() or not isinstance(parsed, dict):
            self._fail("it answered what was not asked")
        else:
            self._answer.set_result((parsed, view))

    def process_exited(self) -> None:
        code = self._transport.get_returncode() if self._transport is not None else None
        how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
        self._fail(f"its process ended during the call ({how})")
        if self._transport is not None:
            self._transport.close()  # a grandchild that holds a pipe must not keep us waiting

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio's signature
        if not self.gone.done():
            self.gone.set_result(None)

    def _fail(self, reason: str) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(Garbage(reason))


async def spawn(name: str) -> Child:
    env = {k: v for k, v in os.environ.items() if not any(s in k.upper() for s in _SECRET_NAMES)}
    env["PYTHONPATH"] = os.pathsep.join(p for p in sys.path if p)  # what we can import, the child can
    try:
        _, child = await asyncio.get_running_loop().subprocess_exec(
            Child,
            sys.executable,
            "-P",  # nothing of the working directory shadows a vendor's package
            "-W",
            "ignore",
            "-m",
            "mystocks_ingest.sources.lane_child",
            str(os.getpid()),
            env=env,
            start_new_session=True,  # Ctrl-C is the parent's business
        )
    except OSError as exc:
        raise errors.Unreachable(f"{name}: its process could not be started: {exc.strerror}") from exc
    return child


def decode(header: Mapping[str, object], body: memoryview) -> LaneAnswer | errors.IngestError:
    match header.get("error"):
        case None:
            pass
        case {"class": str(kind), "message": str(message), **fields}:
            return _error(kind, logs.redact(message), fields.get("after"), fields.get("until"))
        case other:
            raise Garbage(f"its error is unreadable: {other!r:.100}")
    seconds = header.get("seconds")
    table: pa.RecordBatch | None = None
    if len(body):
        try:
            table = pa.ipc.open_stream(pa.py_buffer(body)).read_next_batch()
        except (pa.ArrowInvalid, OSError, StopIteration) as exc:
            raise Garbage("its table is unreadable") from exc
    return LaneAnswer(table, header.get("value"), seconds if isinstance(seconds, float) else 0.0)


def _error(kind: str, message: str, after: object, until: object) -> errors.IngestError:
    match kind:
        case "Limited" | "Banned" if isinstance(until, str):
            limit = errors.Banned if kind == "Banned" else errors.Limited
            return limit(message, until=datetime.fromisoformat(until))
        case "Unreachable" | "Malformed":
            found = errors.Unreachable if kind == "Unreachable" else errors.Malformed
            return found(message, after=after if isinstance(after, float | int) else None)
        case "Denied":
            return errors.Denied(message)
        case "Unsupported":
            return errors.Unsupported(message)
        case "ConfigError":
            return errors.ConfigError(message)
        case _:
            return errors.Malformed(message)
