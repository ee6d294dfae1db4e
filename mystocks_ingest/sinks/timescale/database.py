"""One PostgreSQL server: a pool per database, transactions that end however they fail."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from types import TracebackType
from typing import Self, TypeAlias, TypeVar

import asyncpg
from asyncpg import exceptions as pg
from asyncpg.pool import PoolConnectionProxy

from mystocks_ingest.logs import get, hide, redact
from mystocks_ingest.sinks.timescale.access import Access
from mystocks_ingest.sinks.timescale.faults import AGAIN, LOST, TRANSLATED, translated
from mystocks_ingest.sinks.timescale.remains import APPLICATION, Remains

log = get("postgresql")

T = TypeVar("T")
Connection: TypeAlias = PoolConnectionProxy  # what a pool hands out

OLDEST = 13  # the oldest server version whose partitioning and infinities behave as this sink needs
_GRACE_SECONDS = 1.0  # for a connection to be cleaned after a failure; then it is cut
_CLASHES = 5  # how often a transaction that others got in the way of is tried again


class TimescaleDatabase:
    """The open server. ``async with TimescaleDatabase(where) as db: await db.run("quant_research", work)``."""

    def __init__(self, where: Access) -> None:
        self.where = where
        hide([where.password])
        self._pools: dict[str, asyncpg.Pool] = {}
        self._remains: dict[str, Remains] = {}
        self._tls = where.encryption

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

    @property
    def pool(self) -> tuple[int, int]:
        """Connections in use, and how many there may be; each database of the server has a pool of its own."""
        pools = self._pools.values()
        return sum(p.get_size() - p.get_idle_size() for p in pools), self.where.pool_size * max(len(pools), 1)

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
            except LOST as exc:
                lost += 1  # a connection that idled through a restart; a second one would be an outage
                if lost > self.where.pool_size:
                    raise translated(exc, self.where, database) from exc
            except AGAIN as exc:
                clashes += 1
                if clashes > _CLASHES:
                    raise translated(exc, self.where, database) from exc
                await asyncio.sleep(random.uniform(0.01, 0.1) * clashes)  # noqa: S311 - jitter
            except TRANSLATED as exc:
                raise translated(exc, self.where, database) from exc

    async def _once(self, database: str, work: Callable[[Connection], Awaitable[T]]) -> T:
        pool = await self._pool(database)
        patience = self.where.connect_seconds + self.where.statement_seconds
        connection = await pool.acquire(timeout=patience)
        remains, pid = self._remains[database], connection.get_server_pid()
        own = connection._con  # noqa: SLF001 - it tells what became of it once it is given back
        done = False
        try:
            if remains:
                await remains.ended(connection)
            found = await work(connection)
            done = True
        except LOST:
            _cut(connection)
            raise
        finally:
            returned = False
            try:
                with contextlib.suppress(TimeoutError, OSError, *LOST):  # cut then, and the pool has its place back
                    await pool.release(connection, timeout=_GRACE_SECONDS)  # waits for a statement that was given up
                returned = True
            finally:
                if not done and (own.is_closed() or not returned):
                    remains.add(pid)
        return found

    async def connected(self, database: str) -> asyncpg.Connection:
        """A connection of the caller's own, beside the pool; raises the driver's own errors."""
        return await asyncpg.connect(**self._arguments(database))

    async def _pool(self, database: str) -> asyncpg.Pool:
        if database not in self._pools:
            remains = self._remains.setdefault(database, Remains("postgresql"))

            async def begun(connection: asyncpg.Connection) -> None:
                remains.forget([connection.get_server_pid()])
                await _numbered(connection)

            pool = asyncpg.create_pool(
                **self._arguments(database), min_size=0, max_size=self.where.pool_size, init=begun, reset=_kept
            )
            await pool  # opens nothing yet
            self._pools.setdefault(database, pool)
        return self._pools[database]

    def _arguments(self, database: str) -> Mapping[str, object]:
        where = self.where
        options = {
            "application_name": APPLICATION,
            "synchronous_commit": "on",  # whatever the server's habit: what is acknowledged is on its disk
            "statement_timeout": str(int(where.statement_seconds * 1000)),
            "idle_in_transaction_session_timeout": str(int(where.statement_seconds * 1000)),
            "timezone": "UTC",
            "datestyle": "ISO",
            "extra_float_digits": "1",
            "bytea_output": "hex",
        }
        if where.timescale:  # else an upsert into a compressed chunk stops at 100,000 unpacked rows
            options["timescaledb.max_tuples_decompressed_per_dml_transaction"] = "0"
        return {
            "host": where.host,
            "port": where.port,
            "user": where.user,
            "password": where.password,
            "database": database,
            "ssl": self._tls,
            "timeout": where.connect_seconds,
            "command_timeout": where.statement_seconds + _GRACE_SECONDS / 2,  # the server's own timeout says more
            "server_settings": options,
        }


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
