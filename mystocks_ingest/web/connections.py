"""Connections that may neither dawdle nor crowd: who opens many and says nothing shuts nobody out.

uvicorn alone waits for ever for the rest of a request's head, and for a client that does not read its answer. Then a few
hundred connections that say nothing would keep monitoring from ``/health``, and take all the files a process may open.
"""

from __future__ import annotations

import asyncio
import resource
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from mystocks_ingest.logs import get

log = get("http")


def _files() -> int:
    """How many files this process may have open, connections among them."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1 << 20 if soft == resource.RLIM_INFINITY else soft


@dataclass(frozen=True, slots=True)
class Bounds:
    """How many connections are open at once, and how long they are waited for.

    A request's head comes within ``head_seconds`` of the connection or of the answer before; a client that takes nothing
    of its answer for ``stuck_seconds`` is let go.
    """

    most: int = field(default_factory=lambda: min(1_500, _files() // 2))
    head_seconds: float = 20.0
    stuck_seconds: float = 60.0


class BoundedConfig(uvicorn.Config):
    """uvicorn's own, and the bounds of its connections."""

    def __init__(self, app: Any, bounds: Bounds, **options: Any) -> None:
        super().__init__(app, http=Line, **options)
        self.bounds = bounds


class Line(H11Protocol):
    """One connection."""

    def __init__(self, config: uvicorn.Config, *more: Any, **options: Any) -> None:
        super().__init__(config, *more, **options)
        self._bounds = config.bounds if isinstance(config, BoundedConfig) else Bounds()
        self.idle_since = 0.0
        self._waiting: asyncio.TimerHandle | None = None
        self._stuck: asyncio.TimerHandle | None = None

    @property
    def idle(self) -> bool:
        """No request of it is being answered."""
        return self.cycle is None or self.cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self._bounds.most:
            self._make_room()
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in (self._waiting, self._stuck):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self.transport.is_closing():
            self._await_head()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stuck = self.loop.call_later(self._bounds.stuck_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stuck is not None:
            self._stuck.cancel()

    def _await_head(self) -> None:
        self.idle_since = self.loop.time()
        if self._waiting is not None:
            self._waiting.cancel()
        self._waiting = self.loop.call_later(self._bounds.head_seconds, self._give_up)

    def _give_up(self) -> None:
        if not self.idle:
            return  # its next wait begins with the end of the answer
        if self.transport.get_write_buffer_size():
            self._waiting = self.loop.call_later(self._bounds.stuck_seconds, self.transport.abort)
        else:
            self.transport.close()

    def _make_room(self) -> None:
        """Let go of the one that has been idle for longest; where none is, of this one."""
        idle = [line for line in self.connections if isinstance(line, Line) and line is not self and line.idle]
        leaving = min(idle, key=lambda line: line.idle_since, default=self)
        log.debug("connection.crowded_out", open=len(self.connections), idle=len(idle))
        leaving.transport.abort()
        self.connections.discard(leaving)
