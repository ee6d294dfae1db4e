"""The child process of a connection, as the event loop sees it: spawn, one call at a time, kill.

Rows cross in shared memory (an anonymous file both sides have open), written and read in a thread, so that the loop
carries only a line of JSON each way.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa

from mystocks_ingest.errors import Unavailable

_CHILD = Path(__file__).with_name("child.py")
_SECRET_NAMES = ("TOKEN", "PASSWORD", "PASSWD", "SECRET", "API_KEY", "APIKEY")
_KEPT_CHARS = 400
REAP_SECONDS = 5.0

Answer = dict[str, Any]


class Lost(Exception):
    """The process is of no more use: it has ended, or answered what was not asked."""


class Shared:
    """Memory that two processes see: an anonymous file. Its lock keeps a thread from using it while it is closed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open = True
        if hasattr(os, "memfd_create"):
            self.descriptor = os.memfd_create("tdengine")
        else:
            with tempfile.TemporaryFile() as file:
                self.descriptor = os.dup(file.fileno())

    def put(self, rows: pa.RecordBatch) -> int:
        """Write ``rows`` as an Arrow stream; its bytes."""
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, rows.schema) as writer:
            writer.write_batch(rows)
        body = sink.getvalue()
        with self._used(), memoryview(body) as view:
            done = 0
            while done < body.size:
                done += os.pwrite(self.descriptor, view[done:], done)
        return int(body.size)

    def take(self, size: int) -> pa.RecordBatch:
        """The rows of an Arrow stream of ``size`` bytes."""
        body = bytearray()
        with self._used():
            while len(body) < size:
                read = os.pread(self.descriptor, size - len(body), len(body))
                if not read:
                    raise Lost("its rows are cut short")
                body += read
        try:
            return pa.ipc.open_stream(pa.py_buffer(body)).read_next_batch()
        except (pa.ArrowInvalid, OSError, StopIteration) as exc:
            raise Lost("its rows are unreadable") from exc

    def close(self) -> None:
        """Give it back; safe to repeat."""
        with self._lock:
            if self._open:
                self._open = False
                os.close(self.descriptor)

    @contextmanager
    def _used(self) -> Iterator[None]:
        with self._lock:
            if not self._open:
                raise Lost("its process was ended")
            yield


class Child(asyncio.SubprocessProtocol):
    """The running process: answers arrive on fd 1, what it prints on fd 2."""

    def __init__(self, incoming: Shared, outgoing: Shared) -> None:
        self.incoming, self.outgoing = incoming, outgoing
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.connected = False
        self._answer: asyncio.Future[Answer] | None = None
        self._bytes = bytearray()
        self._said: deque[str] = deque(maxlen=5)
        self._transport: asyncio.SubprocessTransport | None = None

    @property
    def pid(self) -> int | None:
        return self._transport.get_pid() if self._transport is not None else None

    @property
    def alive(self) -> bool:
        return self._transport is not None and self._transport.get_returncode() is None and not self.gone.done()

    def tell(self, call: Answer) -> None:
        pipe = self._transport.get_pipe_transport(0) if self._transport is not None else None
        if not isinstance(pipe, asyncio.WriteTransport) or not self.alive:
            raise Lost("its process has ended")
        pipe.write(json.dumps(call).encode() + b"\n")

    async def ask(self, call: Answer) -> Answer:
        """The answer to ``call``. Raises Lost; to give up waiting, kill the process."""
        self._answer = asyncio.get_running_loop().create_future()
        try:
            self.tell(call)
            return await self._answer
        finally:
            self._answer = None

    def kill(self) -> None:
        """SIGKILL; safe to repeat.

        Its pipes are closed once its end was heard of: to close them before would take the exit code from the loop's
        watcher, which then complains.
        """
        if self._transport is not None and self._transport.get_returncode() is None:
            with suppress(ProcessLookupError, PermissionError):
                self._transport.kill()

    async def ended(self) -> None:
        """Kill, and wait until it is gone and its memory is given back."""
        self.kill()
        await asyncio.wait({self.gone}, timeout=REAP_SECONDS)
        if self._transport is not None:
            self._transport.close()
        await asyncio.to_thread(self._release)

    def _release(self) -> None:
        self.incoming.close()
        self.outgoing.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.SubprocessTransport)  # noqa: S101  # asyncio's promise
        self._transport = transport

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if fd == 2:
            self._said.extend(t[:_KEPT_CHARS] for t in data.decode(errors="replace").splitlines() if t.strip())
            return
        self._bytes += data
        while (end := self._bytes.find(b"\n")) >= 0:
            line, self._bytes = self._bytes[:end], self._bytes[end + 1 :]
            if self._answer is None or self._answer.done():
                continue  # nobody waits any more
            try:
                self._answer.set_result(json.loads(line))
            except ValueError:
                self._answer.set_exception(Lost("its answer is unreadable"))

    def process_exited(self) -> None:
        if self._answer is not None and not self._answer.done():
            words = f"; it last printed: {' | '.join(self._said)}" if self._said else ""
            self._answer.set_exception(Lost(f"its process ended during the call{words}"))
        if self._transport is not None:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio's signature
        if not self.gone.done():
            self.gone.set_result(None)


async def spawn(dsn: str) -> Child:
    """A process that knows where the server is and has not connected yet. Raises Unavailable."""
    environment = {k: v for k, v in os.environ.items() if not any(s in k.upper() for s in _SECRET_NAMES)}
    environment["PYTHONPATH"] = os.pathsep.join(p for p in sys.path if p)  # what we can import, the child can
    incoming, outgoing = Shared(), Shared()
    inherited = (incoming.descriptor, outgoing.descriptor)
    words = [sys.executable, "-P", "-W", "ignore", str(_CHILD), str(os.getpid()), *map(str, inherited)]
    try:
        _, child = await asyncio.get_running_loop().subprocess_exec(
            lambda: Child(incoming, outgoing), *words, env=environment, pass_fds=inherited, start_new_session=True
        )
    except OSError as exc:
        incoming.close()
        outgoing.close()
        raise Unavailable(f"TDengine's process could not be started: {exc.strerror}") from exc
    except BaseException:
        incoming.close()
        outgoing.close()
        raise
    child.tell({"dsn": dsn})
    return child
