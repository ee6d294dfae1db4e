"""The structure of a PostgreSQL server's tables: read, and changed one statement at a time."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

import asyncpg
from asyncpg import exceptions as pg

from mystocks_ingest.errors import ConfigError, Unavailable, UnsafeChange
from mystocks_ingest.logs import get
from mystocks_ingest.schema.structure import TableShape
from mystocks_ingest.sinks.timescale import structure
from mystocks_ingest.sinks.timescale.catalogue import inspected
from mystocks_ingest.sinks.timescale.database import Connection, TimescaleDatabase, transaction
from mystocks_ingest.sinks.timescale.ddl import EXTENSION, LOCK
from mystocks_ingest.sinks.timescale.dialect import PostgreSQLDialect
from mystocks_ingest.sinks.timescale.faults import TRANSLATED, translated
from mystocks_ingest.sinks.timescale.spelling import quoted

log = get("postgresql")

T = TypeVar("T")

_EVERYWHERE = ("postgres", "template1")
"""Databases that every server has; any user may enter them unless somebody has forbidden it."""

_HOLDER = """
    SELECT a.usename, a.pid, coalesce(host(a.client_addr), 'the server itself'), a.backend_start
    FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
    WHERE l.locktype = 'advisory' AND l.granted AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND (l.classid::bigint << 32) + l.objid::bigint = $1 AND l.pid <> pg_backend_pid()
"""


class TimescaleTarget:
    """ports.SchemaTarget of PostgreSQL.

    What the dialect knows of the server (its TimescaleDB's edition, compressed chunks) it learns from ``inspect``.
    """

    name = "postgresql"

    def __init__(self, database: TimescaleDatabase, *, lock_seconds: float = 30.0) -> None:
        self._database = database
        self._lock_seconds = lock_seconds
        self._limited: frozenset[str] = frozenset()
        self._packed: frozenset[tuple[str, str]] = frozenset()
        self._whole: frozenset[tuple[str, str]] = frozenset()

    @property
    def dialect(self) -> PostgreSQLDialect:
        where = self._database.where
        return PostgreSQLDialect(where.timescale, where.database, self._limited, self._packed, self._whole)

    async def databases(self) -> frozenset[str]:
        """All that exist. Raises ConfigError when the server is too old."""

        async def names(connection: asyncpg.Connection) -> frozenset[str]:
            structure.new_enough(connection, self._database.where)
            return frozenset(r[0] for r in await connection.fetch("SELECT datname FROM pg_database WHERE datallowconn"))

        return await self._somewhere(names)

    async def inspect(self, databases: Iterable[str]) -> Sequence[TableShape]:
        names = list(dict.fromkeys(databases))
        found = await asyncio.gather(
            *(self._database.run(name, lambda c, name=name: inspected(c, name)) for name in names)  # type: ignore[misc]
        )
        for name, one in zip(names, found, strict=True):
            if one.complaint and self._database.where.timescale:
                raise ConfigError(f"{self._database.where}, database {name}: {one.complaint}")
            self._limited = self._limited - {name} | ({name} if one.limited else set())
            self._packed = frozenset(p for p in self._packed if p[0] != name) | {(name, t) for t in one.packed}
            whole = {(name, t.name) for t in one.tables if "hypertable" not in t.settings}
            self._whole = frozenset(p for p in self._whole if p[0] != name) | whole
        return [table for one in found for table in one.tables]

    async def execute(self, database: str, statement: str) -> None:
        """One text in one transaction; without a database, where no transaction may be (CREATE DATABASE).

        Takes as long as it takes; only for locks it waits no longer than a statement may. Raises UnsafeChange where
        PostgreSQL cannot do it as things are.
        """
        if not database:
            await self._create(statement)
        elif statement == EXTENSION:
            await self._database.run(database, lambda c: structure.extension(c, self._database.where, database))
        else:
            await self._database.run(database, lambda c: self._execute(c, database, statement))

    async def _execute(self, connection: Connection, database: str, statement: str) -> None:
        patience = f"SET LOCAL lock_timeout = {int(self._database.where.statement_seconds * 1000)}"
        try:
            async with transaction(connection, "SET LOCAL statement_timeout = 0", patience):
                await connection.execute(statement, timeout=structure.FOR_EVER_SECONDS)
        except pg.FeatureNotSupportedError as exc:
            if not structure.limited(exc):
                raise UnsafeChange(f"{self._database.where}, database {database}: {_said(exc)}") from exc
            log.warning("compression.unavailable", database=database, reason=_said(exc))
        except (pg.DependentObjectsStillExistError, pg.CannotCoerceError, pg.InvalidTableDefinitionError) as exc:
            raise UnsafeChange(f"{self._database.where}, database {database}: {_said(exc)}") from exc

    async def _create(self, statement: str) -> None:
        where = self._database.where

        async def create(connection: asyncpg.Connection) -> None:
            try:
                await connection.execute(statement)
            except pg.DuplicateDatabaseError:
                pass  # another process was faster
            except pg.InsufficientPrivilegeError as exc:
                name = statement.split()[2].strip('"')
                raise ConfigError(
                    f"{where} has no database {name}: create it (CREATE DATABASE {quoted(name)} OWNER "
                    f"{quoted(where.user)}), let this user do so (ALTER ROLE {quoted(where.user)} CREATEDB), or name "
                    "another one in POSTGRESQL_DATABASE"
                ) from exc

        await self._somewhere(create)

    async def count(self, table: TableShape) -> int:
        statement = f"SELECT count(*) FROM {quoted(table.name)}"  # noqa: S608 - quoted
        return int(await self._database.run(table.database, lambda c: c.fetchval(statement)))

    @asynccontextmanager
    async def lock(self) -> AsyncIterator[None]:
        """An advisory lock of a session of its own: it ends with the session, however that ends."""
        connection = await self._session()
        try:
            await self._locked(connection)
            yield
        finally:
            with contextlib.suppress(*TRANSLATED, asyncio.CancelledError):
                await connection.close(timeout=1)

    async def _session(self) -> asyncpg.Connection:
        async def connect(database: str) -> asyncpg.Connection:
            try:
                return await self._database.connected(database)
            except TRANSLATED as exc:
                raise translated(exc, self._database.where, database) from exc

        return await self._first(connect)

    async def _locked(self, connection: asyncpg.Connection) -> None:
        where = self._database.where
        patience = time.monotonic() + self._lock_seconds
        try:
            if connection.get_server_version().major >= 14:
                await connection.execute("SET idle_session_timeout = 0")
            while not await connection.fetchval("SELECT pg_try_advisory_lock($1)", LOCK):
                if time.monotonic() > patience:
                    holder = await connection.fetchrow(_HOLDER, LOCK)
                    who = "somebody" if holder is None else f"user {holder[0]} from {holder[2]} (process {holder[1]})"
                    raise Unavailable(
                        f"{where}: {who} is changing the structure, and has not ended within "
                        f"{self._lock_seconds:g} s: try again"
                    )
                await asyncio.sleep(0.2)
        except TRANSLATED as exc:
            raise translated(exc, where, "") from exc

    async def _somewhere(self, work: Callable[[asyncpg.Connection], Awaitable[T]]) -> T:
        """``work`` on a connection of its own to a database that is always there; no pool keeps it open."""
        connection = await self._session()
        try:
            return await work(connection)
        except TRANSLATED as exc:
            raise translated(exc, self._database.where, "postgres") from exc
        finally:
            with contextlib.suppress(*TRANSLATED):
                await connection.close(timeout=1)

    async def _first(self, attempt: Callable[[str], Awaitable[T]]) -> T:
        """``attempt`` with the first of the usual databases that may be entered; else the error of the last."""
        own = self._database.where.database
        usual = [*_EVERYWHERE, own] if own else [*_EVERYWHERE]
        last = usual.pop()
        for name in usual:
            try:
                return await attempt(name)
            except ConfigError as exc:
                if not isinstance(exc.__cause__, pg.InvalidCatalogNameError | pg.InsufficientPrivilegeError):
                    raise
        return await attempt(last)


def _said(exc: BaseException) -> str:
    hint = getattr(exc, "hint", None)
    return str(exc).splitlines()[0] + (f" ({hint})" if hint else "")
