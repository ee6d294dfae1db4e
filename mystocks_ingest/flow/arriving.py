"""A sink whose database may come later than the service: until it answers, its rows go to the spool in front of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from types import TracebackType
from typing import Self

import pyarrow as pa

from mystocks_ingest.errors import IngestError, NoRight, Unavailable
from mystocks_ingest.flow.stores import streamed
from mystocks_ingest.logs import get
from mystocks_ingest.ports import Query, Sink
from mystocks_ingest.schema.tables import Table

log = get("sink")

_FIRST_LOOK_SECONDS = 3.0  # how long the start waits for a database that does not say no either
_CLOSE_SECONDS = 10.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0


async def together(sinks: Iterable[Arriving], stack: AsyncExitStack) -> None:
    """Enter all at once, for ``stack`` to leave: the start takes as long as its slowest database. Raises as one does."""
    try:
        async with asyncio.TaskGroup() as group:
            for sink in sinks:
                stack.push_async_exit(sink)
                group.create_task(sink.__aenter__(), name=f"open:{sink.name}")
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None


class Arriving:
    """``async with Arriving(name, opening) as sink``. ``opening`` is entered again and again until it succeeds once.

    Entering raises what is wrong with the settings (ConfigError), and nothing for a database that is away or lacks a
    right: neither is mended by ending whoever collects.
    """

    def __init__(self, name: str, opening: Callable[[], AbstractAsyncContextManager[Sink]]) -> None:
        self.name = name
        self._opening = opening
        self._sink: Sink | None = None
        self._why = "it has not answered yet"
        self._looked = asyncio.Event()
        self._leave = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._keep(), name=f"sink:{self.name}")
        looked = asyncio.create_task(self._looked.wait(), name=f"look:{self.name}")
        try:
            await asyncio.wait({self._task, looked}, timeout=_FIRST_LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            await self._end()
            raise
        finally:
            looked.cancel()
        if self._task.done():
            await self._task
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end()

    async def _end(self) -> None:
        task = self._task
        if task is None:
            return
        self._leave.set()
        await asyncio.wait({task}, timeout=_CLOSE_SECONDS if self._sink is not None else 0)
        if not task.done():
            task.cancel()
            await asyncio.wait({task})

    @property
    def away(self) -> str:
        """Why it could not be opened yet; empty once it was."""
        return "" if self._sink is not None else self._why

    @property
    def pool(self) -> tuple[int, int]:
        """Connections in use, and how many there may be; none while it is not open."""
        found: tuple[int, int] = getattr(self._sink, "pool", (0, 0))
        return found

    async def write(self, table: Table, rows: pa.RecordBatch) -> None:
        await self._present().write(table, rows)

    async def read(self, table: Table, query: Query) -> pa.Table:
        return await self._present().read(table, query)

    def stream(self, table: Table, query: Query) -> AsyncGenerator[pa.RecordBatch, None]:
        return streamed(self._present(), table, query)

    async def ping(self) -> None:
        await self._present().ping()

    def _present(self) -> Sink:
        if self._sink is not None:
            return self._sink
        if self._task is not None and self._task.done() and not self._task.cancelled():
            self._task.result()  # a defect while opening ends whoever meets it
        raise Unavailable(f"{self.name} could not be opened yet: {self._why}")

    async def _keep(self) -> None:
        pause = _FIRST_PAUSE
        while not self._leave.is_set():
            try:
                async with self._opening() as sink:
                    self._sink = sink
                    if self._looked.is_set():
                        log.warning("sink.arrived", store=self.name)
                    self._looked.set()
                    await self._leave.wait()
            except IngestError as exc:
                if not self._looked.is_set() and not isinstance(exc, Unavailable | NoRight):
                    raise
                if str(exc) != self._why:
                    log.warning("sink.awaited", store=self.name, reason=str(exc))
                self._why = str(exc)
            self._looked.set()
            try:
                async with asyncio.timeout(pause):
                    await self._leave.wait()
            except TimeoutError:
                pause = min(pause * 2, _LONGEST_PAUSE)
