"""One PostgreSQL server: its settings, a pool per database, and its errors in our words."""

from __future__ import annotations

import asyncio
import contextlib
import random
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, TypeAlias, TypeVar

import asyncpg
from asyncpg import exceptions as pg
from asyncpg.pool import PoolConnectionProxy

from mystocks_ingest.errors import ConfigError, IngestError, Rejected, Unavailable
from mystocks_ingest.logs import get, hide, redact

log = get("postgresql")

T = TypeVar("T")
Connection: TypeAlias = PoolConnectionProxy  # what a pool hands out
TlsMode = Literal["disable", "prefer", "require", "verify-ca", "verify-full"]

OLDEST = 13  # the oldest server version whose partitioning and infinities behave as this sink needs
_GRACE_SECONDS = 1.0  # for a connection to be cleaned after a failure; then it is cut
_CLASHES = 5  # how often a transaction that others got in the way of is tried again


@dataclass(frozen=True, slots=True)
class PostgreSQL:
    """Where the server is and how to talk to it. ``database`` overrides the tables' own ``database_name``."""

    host: str = "127.0.0.1"
    port: int = 5432
    user: str = "postgres"
    password: str | None = field(default=None, repr=False)
    database: str | None = None
    timescale: bool = True
    pool: int = 4
    connect_seconds: float = 10.0
    statement_seconds: float = 60.0
    tls: TlsMode = "prefer"
    tls_ca: Path | None = None

    def __str__(self) -> str:
        return f"PostgreSQL at {self.host}:{self.port}"


class TimescaleDatabase:
    """The open server. ``async with TimescaleDatabase(where) as db: await db.run("quant_research", work)``."""

    def __init__(self, where: PostgreSQL) -> None:
        self.where = where
        hide([where.password])
        self._pools: dict[str, asyncpg.Pool] = {}
        self._tls = _tls(where)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close every connection; a server that hangs is not waited for."""
        for pool in self._pools.values():
            try:
                await asyncio.wait_for(pool.close(), _GRACE_SECONDS)
            except Exception as exc:  # noqa: BLE001 - the pool has cut its connections; there is nothing left to save
                log.warning("pool.cut", reason=redact(str(exc) or type(exc).__name__))
        self._pools.clear()

    @property
    def opened_names(self) -> tuple[str, ...]:
        """The databases talked to so far."""
        return tuple(self._pools)

    def name_of(self, database: str) -> str:
        """The database in which a table with this ``database_name`` lives."""
        return self.where.database or database

    async def run(self, database: str, work: Callable[[Connection], Awaitable[T]]) -> T:
        """``work(connection)`` on a pooled connection, which must be safe to run again.

        It runs again on another connection when its own turned out to be dead, and when another transaction got in
        its way. Raises Rejected, Unavailable or ConfigError in place of the driver's own errors.
        """
        lost = clashes = 0
        while True:
            try:
                return await self._once(database, work)
            except _LOST as exc:
                lost += 1  # a connection that idled through a restart; a second one would be an outage
                if lost > self.where.pool:
                    raise self._translated(exc, database) from exc
            except (pg.SerializationError, pg.DeadlockDetectedError) as exc:
                clashes += 1
                if clashes > _CLASHES:
                    raise self._translated(exc, database) from exc
                await asyncio.sleep(random.uniform(0.01, 0.1) * clashes)  # noqa: S311 - jitter
            except _TRANSLATED as exc:
                raise self._translated(exc, database) from exc

    async def _once(self, database: str, work: Callable[[Connection], Awaitable[T]]) -> T:
        pool = await self._pool(database)
        patience = self.where.connect_seconds + self.where.statement_seconds
        connection = await pool.acquire(timeout=patience)
        try:
            return await work(connection)
        except _LOST:
            _cut(connection)
            raise
        finally:
            with contextlib.suppress(TimeoutError, OSError, *_LOST):  # it is cut then, and the pool has its place back
                await pool.release(connection, timeout=_GRACE_SECONDS)

    async def _pool(self, database: str) -> asyncpg.Pool:
        pool = self._pools.get(database)
        if pool is None:
            where = self.where
            options = {
                "application_name": "mystocks-ingest",
                "statement_timeout": str(int(where.statement_seconds * 1000)),
                "idle_in_transaction_session_timeout": str(int(where.statement_seconds * 1000)),
                "timezone": "UTC",
                "datestyle": "ISO",
                "extra_float_digits": "1",
                "bytea_output": "hex",
            }
            if where.timescale:  # else an upsert into a compressed chunk stops at 100,000 unpacked rows
                options["timescaledb.max_tuples_decompressed_per_dml_transaction"] = "0"
            pool = asyncpg.create_pool(
                host=where.host,
                port=where.port,
                user=where.user,
                password=where.password,
                database=database,
                ssl=self._tls,
                min_size=0,
                max_size=where.pool,
                timeout=where.connect_seconds,
                command_timeout=where.statement_seconds + _GRACE_SECONDS / 2,  # the server's own timeout says more
                server_settings=options,
                init=_numbered,
                reset=_kept,
            )
            await pool  # opens nothing yet
            self._pools.setdefault(database, pool)
        return self._pools[database]

    def _translated(self, exc: BaseException, database: str) -> IngestError:
        return translated(exc, self.where, database)


async def _numbered(connection: asyncpg.Connection) -> None:
    """Days and moments cross as numbers (see ``encoding.parameters``)."""
    for name in ("date", "timestamp", "timestamptz"):
        await connection.set_type_codec(
            name, schema="pg_catalog", encoder=lambda n: (n,), decoder=lambda t: t[0], format="tuple"
        )


async def _kept(_: object) -> None:
    """A returned connection needs no reset: nothing here outlives its transaction, and a reset is a round trip."""


@contextlib.asynccontextmanager
async def transaction(connection: Connection, *first: str) -> AsyncIterator[None]:
    """One transaction, begun together with the statements ``first``.

    However it fails, the connection is clean or cut afterwards, within a second: a hung server cannot hold it.
    """
    try:
        await connection.execute("; ".join(("BEGIN", *first)))
        yield
        await connection.execute("COMMIT")
    except BaseException:
        try:
            await connection.execute("ROLLBACK", timeout=_GRACE_SECONDS)
        except (Exception, asyncio.CancelledError):  # noqa: BLE001 - the first error is the one to tell
            _cut(connection)
        raise


async def copied(
    connection: Connection, table: str, source: AsyncIterator[memoryview], columns: Sequence[str], seconds: float
) -> None:
    """COPY ``source`` in binary form into ``table``.

    The driver alone would wait for ever for a full socket to drain, even of a connection that is gone: both end here.
    """
    loop = asyncio.get_running_loop()
    limit = asyncio.timeout(seconds)

    def gone(_: object) -> None:
        if not limit.expired():
            limit.reschedule(loop.time())

    try:
        async with limit:
            connection.add_termination_listener(gone)
            await connection.copy_to_table(table, source=source, columns=columns, format="binary")
    except TimeoutError:
        if connection.is_closed():
            raise pg.ConnectionDoesNotExistError("the connection broke amid the rows") from None
        raise
    finally:
        with contextlib.suppress(pg.InterfaceError):  # the connection has been given back already
            connection.remove_termination_listener(gone)


def _cut(connection: Connection) -> None:
    """End a connection at once; the pool opens another one when it needs it."""
    with contextlib.suppress(pg.InterfaceError):  # the driver has ended it itself
        connection.terminate()


def _tls(where: PostgreSQL) -> ssl.SSLContext | str | bool:
    if where.tls == "disable":
        return False
    if where.tls_ca is None:
        return where.tls
    try:
        context = ssl.create_default_context(cafile=str(where.tls_ca))
    except OSError as exc:
        raise ConfigError(f"POSTGRESQL_TLS_CA={where.tls_ca} cannot be read ({exc.strerror or exc})") from exc
    context.check_hostname = where.tls == "verify-full"
    return context


_LOST = (
    pg.ConnectionDoesNotExistError,
    pg.ConnectionFailureError,
    pg.AdminShutdownError,
    pg.CrashShutdownError,
    pg.InternalClientError,  # the server's farewell arrived between two statements
    ConnectionResetError,
    BrokenPipeError,
)
_TRANSLATED = (pg.PostgresError, pg.InterfaceError, OSError, TimeoutError, ssl.SSLError)


def translated(exc: BaseException, where: PostgreSQL, database: str) -> IngestError:
    """The driver's or the server's error in our words, without secrets. Our own mistakes come back as RuntimeError's."""
    said = redact(str(exc).splitlines()[0]) if str(exc) else type(exc).__name__
    match exc:
        case pg.InvalidPasswordError() | pg.InvalidAuthorizationSpecificationError():
            return ConfigError(
                f"{where} refuses user {where.user} ({said}): check POSTGRESQL_USER and POSTGRESQL_PASSWORD"
            )
        case pg.InvalidCatalogNameError():
            return ConfigError(
                f"{where} has no database {database}: create it (CREATE DATABASE {database}), or name another one in "
                "POSTGRESQL_DATABASE"
            )
        case pg.InsufficientPrivilegeError():
            return ConfigError(f"{where}: user {where.user} may not do this in {database} ({said}): grant the right")
        case pg.UndefinedTableError() | pg.UndefinedColumnError():
            return ConfigError(f"{where}, database {database}: {said}: create the tables (schema apply)")
        case pg.DataError() | pg.IntegrityConstraintViolationError() | pg.CardinalityViolationError():
            return Rejected(_reason(exc))
        case pg.ClientConfigurationError():
            return ConfigError(f"{where}: {said}: check POSTGRESQL_TLS and POSTGRESQL_TLS_CA")
        case pg.QueryCanceledError():
            return Unavailable(f"{where} took longer than {where.statement_seconds:g} s: {said}")
        case ssl.SSLError():
            return ConfigError(f"{where}: no TLS connection with POSTGRESQL_TLS={where.tls} ({said})")
        case TimeoutError():
            return Unavailable(f"{where} does not answer within its time limit")
        case ConnectionRefusedError():
            return Unavailable(f"{where} refuses connections: start it, or set POSTGRESQL_HOST and POSTGRESQL_PORT")
        case OSError():
            return Unavailable(f"{where} cannot be reached ({exc.strerror or said})")
        case pg.PostgresSyntaxError() | pg.DatatypeMismatchError() | pg.UndefinedFunctionError():
            return IngestError(f"{where} does not understand a statement of this program: {said}")
        case _:
            return Unavailable(f"{where} cannot serve: {said}")


def _reason(exc: BaseException) -> str:
    """The database's reason with the column it names; never a value, which may be long."""
    said = redact(str(exc).splitlines()[0])
    column = getattr(exc, "column_name", None)
    return f"{said} (column {column})" if column and column not in said else said
