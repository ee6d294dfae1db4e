"""The two places a monitor log can be in."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from servers.mariadb import MariaDB

from mystocks_ingest.monitor.embedded_log import EmbeddedLog
from mystocks_ingest.monitor.log import Limits, MonitorLog, Store
from mystocks_ingest.monitor.questions import Question
from mystocks_ingest.monitor.server_log import ServerLog
from mystocks_ingest.monitor.spool import FILE, Spool
from mystocks_ingest.sinks.embedded import EmbeddedDatabase
from mystocks_ingest.sinks.mysql import Access, MySQLDatabase

QUICK = Limits(shortest_rest=0.1, longest_rest=0.3, idle_seconds=0.2)
_numbers = itertools.count()


def now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class Place:
    """A log's database, and the state directory with its spool.

    ``port``: of a wire to the server in its place. ``patience``: how many seconds a connection and a statement may take.
    """

    folder: Path
    server: MariaDB | None
    database: str
    port: int | None = None
    patience: tuple[float, float] = (10.0, 20.0)

    @asynccontextmanager
    async def store(self) -> AsyncIterator[Store]:
        if self.server is None:
            async with EmbeddedDatabase(self.folder) as database:
                yield EmbeddedLog(database)
            return
        access = Access(
            self.server.host, self.port or self.server.port, self.server.user, self.server.password, pool_size=2,
            connect_seconds=self.patience[0], statement_seconds=self.patience[1],
        )  # fmt: skip
        server = MySQLDatabase(access)
        try:
            yield ServerLog(server, self.database)
        finally:
            await server.__aexit__(None, None, None)

    @asynccontextmanager
    async def log(self, limits: Limits = QUICK, **spool: int) -> AsyncIterator[MonitorLog]:
        async with self.store() as store, MonitorLog(self.spool(**spool), store, now=now, limits=limits) as log:
            yield log

    def spool(self, **more: int) -> Spool:
        return Spool(self.folder / FILE, **more)

    def through(self, port: int, *, patience: tuple[float, float] = (3.0, 6.0)) -> Place:
        """By a wire that is going to be cut or to hang."""
        return replace(self, port=port, patience=patience)


async def rows(log: MonitorLog, table: str, *columns: str) -> list[tuple[object, ...]]:
    """Cells of every row in the order of their ids."""
    text = f"SELECT {', '.join(columns)} FROM {{log}}.{table} ORDER BY id"
    return [tuple(row.values()) for row in await log.ask(Question(columns, text))]


async def settled(log: MonitorLog) -> None:
    """Everything told so far is in the log's database."""
    assert await log.settled(60), await log.waiting()


def unused_database() -> str:
    """A name of its own for each test's log on the shared server."""
    return f"db_monitor_{next(_numbers)}"
