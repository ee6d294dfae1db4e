"""How long the monitor log keeps what it was told, and the sidecar that lets the older go.

The table file says it: ``monitoring.log_retention_days`` for all, ``monitoring.retention_days`` by the log's tables.
Rows go in small batches with a rest after each, so that an entry or a row that is being written waits for one batch at
the most. What was done to the structure (a table created, altered, dropped) grows with changes and not with time: it
stays, unless the file names its table. The rows of a source or dataset are renewed in place and never old.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from mystocks_ingest.errors import IngestError
from mystocks_ingest.logs import get, redact
from mystocks_ingest.monitor.tables import HISTORIES, History
from mystocks_ingest.schema.document.values import Monitoring

log = get("monitor")

DAYS = 90
"""Where the file says nothing."""


@dataclass(frozen=True, slots=True)
class Term:
    """Rows of a history go after ``days``; ``whole``: those that last otherwise as well."""

    history: History
    days: int
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Limits:
    """``batch``: rows that go in one transaction; ``rest_seconds`` after each. The first pass comes after a while."""

    batch: int = 500
    rest_seconds: float = 0.5
    first_seconds: float = 600.0
    every_seconds: float = 3600.0


class Prunable(Protocol):
    """The monitor log, as far as its age is concerned."""

    async def prune(self, history: History, *, before: datetime, whole: bool, limit: int) -> int:
        """Let go of at most ``limit`` rows told of moments before that; how many went. Raises IngestError."""
        ...


def terms(monitoring: Monitoring) -> tuple[tuple[Term, ...], tuple[str, ...]]:
    """How long each table keeps its rows, and one sentence for each entry that names none of them."""
    said = dict(monitoring.retention_days)
    usual = said.pop("", DAYS)
    known = {h.table.name: h for h in HISTORIES}
    remarks = tuple(
        f"monitoring: retention_days names {name!r}, which is no history of the monitor log; these are: {', '.join(known)}"
        for name in said
        if name not in known
    )
    return tuple(Term(h, said.get(name, usual), whole=name in said) for name, h in known.items()), remarks


class Retention:
    """``run`` lets old rows go until it is cancelled. Whatever ails the log's database, it is tried again later."""

    def __init__(
        self, kept: tuple[Term, ...], log: Prunable, *, now: Callable[[], datetime], limits: Limits | None = None
    ) -> None:
        self._terms = kept
        self._log = log
        self._now = now
        self._limits = limits or Limits()

    async def run(self) -> None:
        await asyncio.sleep(self._limits.first_seconds)
        while True:
            try:
                await self.once()
            except IngestError as exc:
                log.info("log.unpruned", reason=redact(str(exc)))
            await asyncio.sleep(self._limits.every_seconds)

    async def once(self) -> int:
        """One pass over all tables; how many rows went. Raises IngestError where the log cannot be asked."""
        went = 0
        for term in self._terms:
            before = self._now() - timedelta(days=term.days)
            rows = count = await self._batch(term, before)
            while count >= self._limits.batch:
                await asyncio.sleep(self._limits.rest_seconds)
                count = await self._batch(term, before)
                rows += count
            if rows:
                log.info("log.pruned", table=term.history.table.name, rows=rows, before=before)
            went += rows
        return went

    async def _batch(self, term: Term, before: datetime) -> int:
        return await self._log.prune(term.history, before=before, whole=term.whole, limit=self._limits.batch)
