"""Sitting out a database's outage, and telling those who watch which one is waited for and since when."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import pyarrow as pa

from mystocks_ingest.errors import Unavailable
from mystocks_ingest.flow.report import Silence, Watch
from mystocks_ingest.logs import get
from mystocks_ingest.ports import Query, Sink
from mystocks_ingest.schema.tables import Table

T = TypeVar("T")
log = get("patience")

_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 5.0


@dataclass
class Patience:
    """An absent store is asked again until ``seconds`` have passed since its outage began; ``inf``: as long as it takes.

    ``own`` are the stores with a time of their own. An outage is counted by table, for one table may be locked while
    the others are served; it is told by store.
    """

    seconds: float
    watch: Watch = field(default_factory=Silence)
    own: Mapping[str, float] = field(default_factory=dict)
    _since: dict[tuple[str, str], float] = field(default_factory=dict)

    def waits_for(self, store: str, table: str) -> bool:
        """Whether the last call for the table met an absent store."""
        return (store, table) in self._since

    async def through(self, store: str, table: str, call: Callable[[], Awaitable[T]]) -> T:
        """What ``call`` gives; it is called again while the store is away, so it must bear that.

        Raises Unavailable once the outage has lasted too long; from then on each call is one attempt, until one
        succeeds. All other errors pass.
        """
        clock = asyncio.get_running_loop().time
        most = self.own.get(store, self.seconds)
        pause = _FIRST_PAUSE
        while True:
            began = clock()
            try:
                given = await call()
            except Unavailable as exc:
                since = self._since.setdefault((store, table), began)
                waited = clock() - since
                if waited >= most:
                    if waited < 1:
                        raise
                    raise Unavailable(f"{exc} (waited for {waited:.0f} s)", after=exc.after) from exc
                self.watch.waiting(store, clock() - self._outage(store), str(exc))
                wait = exc.after if exc.after is not None else pause * random.uniform(0.5, 1.0)  # noqa: S311 - jitter
                log.warning("sink.unavailable", table=table, reason=str(exc), retry_in=round(wait, 2))
                await asyncio.sleep(min(wait, most - waited))
                pause = min(pause * 2, _LONGEST_PAUSE)
            else:
                if self._since and (store, table) in self._since:
                    lasted = clock() - self._outage(store)
                    del self._since[store, table]
                    if not any(away == store for away, _ in self._since):
                        self.watch.returned(store, lasted)
                        log.warning("sink.returned", store=store, seconds=round(lasted, 1))
                return given

    def _outage(self, store: str) -> float:
        """When the store was first missed."""
        return min(since for (away, _), since in self._since.items() if away == store)


class PatientReads:
    """A ports.Sink whose reads sit out an outage; writes go to the sink as they are, for a writer has its own patience."""

    name = "patient"

    def __init__(self, sink: Sink, patience: Patience) -> None:
        self._sink = sink
        self._patience = patience

    async def write(self, table: Table, rows: pa.RecordBatch) -> None:
        await self._sink.write(table, rows)

    async def read(self, table: Table, query: Query) -> pa.Table:
        store = table.database_type.store
        return await self._patience.through(store, table.name, lambda: self._sink.read(table, query))

    async def ping(self) -> None:
        await self._sink.ping()
