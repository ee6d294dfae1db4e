"""The structure of a server's tables: read in a few queries a database, changed one statement at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager

from pymysql import err

from mystocks_ingest.errors import Unavailable
from mystocks_ingest.schema.structure import TableShape
from mystocks_ingest.sinks.mysql.catalogue import databases, found, shapes
from mystocks_ingest.sinks.mysql.database import MySQLDatabase
from mystocks_ingest.sinks.mysql.ddl import literal, quoted
from mystocks_ingest.sinks.mysql.dialect import MySQLDialect
from mystocks_ingest.sinks.mysql.faults import structural
from mystocks_ingest.sinks.mysql.wire import Wire

LOCK = "mystocks_schema"
LOCK_SECONDS = 60.0
TABLE_SECONDS = 15
"""How long a change waits for others to let go of its table: all who come after it wait with it."""
CHANGE_SECONDS = 6 * 3600.0
"""A table of any size is rebuilt in less."""
_PATIENCE = 5.0  # beyond what the server was told to wait


class MySQLTarget:
    """ports.SchemaTarget of a MySQL or MariaDB server. ``database`` is open."""

    name = "mysql"

    def __init__(
        self, database: MySQLDatabase, *, lock_seconds: float = LOCK_SECONDS, table_seconds: int = TABLE_SECONDS
    ) -> None:
        self._database = database
        self._lock_seconds = lock_seconds
        self._table_seconds = table_seconds
        self._held: Wire | None = None
        self._turn = asyncio.Lock()

    @property
    def dialect(self) -> MySQLDialect:
        return MySQLDialect(self._database.server, self._database.access.database)

    async def databases(self) -> frozenset[str]:
        return await self._database.run(databases)

    async def inspect(self, databases: Iterable[str]) -> Sequence[TableShape]:
        server, out = self._database.server, []
        for name in dict.fromkeys(databases):
            rows = await self._database.run(lambda wire, name=name: found(wire, server, name))  # type: ignore[misc]
            out += shapes(server, rows)
        return out

    async def execute(self, database: str, statement: str) -> None:  # noqa: ARG002 - statements name their database
        """Raises ConfigError (a right that is missing), UnsafeChange (what stands in the way), Unavailable."""
        async with self._turn:
            if self._held is not None:
                await self._change(self._held, statement)
                return
            async with self._database.apart() as wire:
                await self._prepared(wire)
                await self._change(wire, statement)

    async def count(self, table: TableShape) -> int:
        async with self._database.apart() as wire:
            await self._prepared(wire)
            statement = f"SELECT COUNT(*) FROM {quoted(table.database, table.name)}"  # noqa: S608 - quoted
            ((rows,),) = await self._run(wire, statement, CHANGE_SECONDS)
        return int(str(rows))

    @asynccontextmanager
    async def lock(self) -> AsyncIterator[None]:
        """The server's own lock, on a connection beside the pool: it ends with the connection, however that ends."""
        async with self._database.apart() as wire:
            await self._prepared(wire)
            await self._taken(wire)
            self._held = wire
            try:
                yield
            finally:
                self._held = None
                if not wire.broken:
                    try:
                        async with asyncio.timeout(_PATIENCE):
                            await wire.run(f"DO RELEASE_LOCK({literal(LOCK)})")
                    except (err.Error, OSError, TimeoutError):
                        wire.abort()  # the server ends the lock with the connection

    async def _taken(self, wire: Wire) -> None:
        deadline = asyncio.get_running_loop().time() + self._lock_seconds
        while True:
            ((got,),) = await self._run(wire, f"SELECT GET_LOCK({literal(LOCK)}, 1)", 1 + _PATIENCE)
            if str(got) == "1":
                return
            if asyncio.get_running_loop().time() >= deadline:
                raise Unavailable(
                    f"{self._database.access}: the structure is being changed by {await self._holder(wire)}, for more "
                    f"than {self._lock_seconds:g} s: wait, or end that connection",
                    after=self._lock_seconds,
                )

    async def _holder(self, wire: Wire) -> str:
        """Whose connection has the lock, as far as this user may see."""
        ((owner,),) = await self._run(wire, f"SELECT IS_USED_LOCK({literal(LOCK)})", _PATIENCE)
        if owner is None:
            return "another connection, which has just let go"
        for row in await self._run(wire, "SHOW PROCESSLIST", _PATIENCE):
            if str(row[0]) == str(owner):
                return f"connection {owner} of user {str(row[1])!r} from {row[2]}"
        return f"connection {owner}"

    async def _prepared(self, wire: Wire) -> None:
        """A session that may take long over a change, and not over waiting for its turn."""
        unbounded = "max_statement_time = 0" if wire.mariadb else "max_execution_time = 0"
        await self._run(wire, f"SET SESSION lock_wait_timeout = {self._table_seconds}, {unbounded}", _PATIENCE)

    async def _change(self, wire: Wire, statement: str) -> None:
        await self._run(wire, statement, CHANGE_SECONDS)

    async def _run(self, wire: Wire, statement: str, seconds: float) -> Sequence[tuple[object, ...]]:
        access = self._database.access
        if wire.broken:
            raise Unavailable(f"{access}: the connection that holds the lock is gone: run the command again")
        try:
            async with asyncio.timeout(seconds):
                return await wire.run(statement)
        except TimeoutError as exc:
            wire.abort()
            raise Unavailable(f"{access} did not answer within {seconds:g} s") from exc
        except (err.Error, OSError) as exc:
            raise structural(exc, access, statement) from exc
