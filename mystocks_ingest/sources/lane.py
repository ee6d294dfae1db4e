"""Lanes: vendors' packages run in child processes that can be killed.

A vendor call blocks, spins, prints and keeps global state; a thread cannot be cancelled, a process can. A lane
is one spawned process (never forked), started by the first call, stopped when idle, killed when a call passes
its deadline or is cancelled, and started again by the next call. ``lane_child.py`` is the other side.

A lane function is any importable function, named ``"module:function"``, that takes JSON-able keyword arguments
and returns a pandas DataFrame, an Arrow table, a JSON-able value, or a pair (table, value).
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mystocks_ingest import errors, logs
from mystocks_ingest.sources.lane_child import pack
from mystocks_ingest.sources.lane_process import Child, Garbage, LaneAnswer, decode, spawn

__all__ = ["Lane", "LaneAnswer", "Lanes", "Setup"]

log = logs.get("lane")

START_SECONDS = 60.0  # interpreter, pyarrow and the vendor's import on a loaded machine
IDLE_SECONDS = 120.0
_REAP_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Setup:
    """A function run once in each new child before any call: endpoints, guards, logins."""

    function: str
    arguments: Mapping[str, object]


class Lane:
    """One child process. Calls queue up; each has its own deadline, counted from its turn."""

    def __init__(
        self,
        name: str,
        *,
        setup: Setup | None = None,
        secrets: Sequence[str] = (),
        idle_seconds: float = IDLE_SECONDS,
        start_seconds: float = START_SECONDS,
    ) -> None:
        self.name = name
        self._setup = setup
        self._idle_seconds = idle_seconds
        self._start_seconds = start_seconds
        self._turn = asyncio.Lock()
        self._child: Child | None = None
        self._ended: set[Child] = set()
        self._idle: asyncio.TimerHandle | None = None
        self._ids = itertools.count(1)
        logs.hide(secrets)

    @property
    def pid(self) -> int | None:
        """The child's process id while it runs."""
        return self._child.pid if self._child is not None and self._child.alive else None

    @property
    def busy(self) -> bool:
        """Whether a call is under way or waiting."""
        return self._turn.locked()

    async def call(self, function: str, arguments: Mapping[str, object], *, deadline: float) -> LaneAnswer:
        """The function's answer. Raises Unreachable (late, died), or what the function raised, as our errors."""
        async with self._turn:
            self._stay()
            child = await self._running()
            try:
                return await self._ask(child, function, arguments, deadline)
            finally:
                self._rest()

    async def aclose(self) -> None:
        """End the child and wait until it is gone; a call under way fails."""
        self._stay()
        if self._child is not None:
            self._end(self._child)
        for child in tuple(self._ended):
            await self._reaped(child)

    async def _running(self) -> Child:
        if self._child is not None and self._child.alive:
            return self._child
        if self._child is not None:
            self._end(self._child)
        for child in tuple(self._ended):
            await self._reaped(child)
        child = self._child = await spawn(self.name)
        log.info("lane.started", lane=self.name, pid=child.pid)
        first = self._setup or Setup("builtins:dict", {})  # at the least, the interpreter is up
        try:
            await self._ask(child, first.function, first.arguments, self._start_seconds)
        except errors.IngestError:
            self._end(child)  # a half-prepared child must not serve calls
            raise
        return child

    async def _ask(self, child: Child, function: str, arguments: Mapping[str, object], deadline: float) -> LaneAnswer:
        number = next(self._ids)
        started = time.perf_counter()
        frame = pack({"id": number, "function": function, "arguments": dict(arguments)})
        try:
            async with asyncio.timeout(deadline):
                header, body = await child.ask(frame)
            if header.get("id") != number:
                raise Garbage(f"it answered call {header.get('id')!r} instead of {number}")  # noqa: TRY301
            answer = decode(header, body)
        except TimeoutError:
            await self._kill(child, "late")
            said = f"no answer within {deadline:g} s, its process was ended"
            raise errors.Unreachable(f"{self.name}: {said} ({function})") from None
        except Garbage as exc:
            await self._kill(child, "broken")
            said = logs.redact(f"{exc}{child.last_words()}")
            raise errors.Unreachable(f"{self.name}: {said} ({function})") from None
        except asyncio.CancelledError:
            await self._kill(child, "cancelled")
            raise
        finally:
            self._report(child)
        log.debug("lane.answered", lane=self.name, seconds=round(time.perf_counter() - started, 3))
        if isinstance(answer, errors.IngestError):
            raise answer
        return answer

    async def _kill(self, child: Child, why: str) -> None:
        log.info("lane.killed", lane=self.name, pid=child.pid, why=why)
        self._end(child)
        await self._reaped(child)

    def _end(self, child: Child) -> None:
        self._ended.add(child)
        if self._child is child:
            self._child = None
        child.kill()

    async def _reaped(self, child: Child) -> None:
        await asyncio.wait({child.gone}, timeout=_REAP_SECONDS)
        child.close()
        self._ended.discard(child)

    def _report(self, child: Child) -> None:
        if lines := child.take_lines():
            log.debug("lane.printed", lane=self.name, text=logs.redact("\n".join(lines)))

    def _stay(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None

    def _rest(self) -> None:
        self._stay()
        if self._child is not None:
            self._idle = asyncio.get_running_loop().call_later(self._idle_seconds, self._stop_idle)

    def _stop_idle(self) -> None:
        if self._child is not None and not self._turn.locked():
            log.info("lane.stopped", lane=self.name, pid=self._child.pid, why="idle")
            self._end(self._child)


class Lanes:
    """Several like lanes behind one ``call``: the most recently used free one answers, so spare ones fall idle."""

    def __init__(self, lanes: Sequence[Lane]) -> None:
        self.lanes = tuple(lanes)
        self._free = list(reversed(self.lanes))
        self._room = asyncio.Semaphore(len(self.lanes))

    async def call(self, function: str, arguments: Mapping[str, object], *, deadline: float) -> LaneAnswer:
        """As Lane.call."""
        async with self._room:
            lane = self._free.pop()
            try:
                return await lane.call(function, arguments, deadline=deadline)
            finally:
                self._free.append(lane)

    async def aclose(self) -> None:
        """End every child."""
        for lane in self.lanes:
            await lane.aclose()
