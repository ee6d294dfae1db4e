"""Sinks by store name. A database's driver is imported when its store is in use, never before."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING

from mystocks_ingest.errors import ConfigError, Unavailable
from mystocks_ingest.flow.migrate import Ensure, ensured
from mystocks_ingest.ports import SchemaTarget, Sink
from mystocks_ingest.schema.tables import Table
from mystocks_ingest.settings import Settings

if TYPE_CHECKING:
    from mystocks_ingest.sinks.mysql import MySQLDatabase


@asynccontextmanager
async def log_server(settings: Settings) -> AsyncIterator[MySQLDatabase]:
    """The MySQL server as the monitor log's: connections and waiting times of its own, and not asked before it must.

    So a server that hangs keeps the log waiting and nobody else.
    """
    from mystocks_ingest.sinks import mysql  # noqa: PLC0415

    access = mysql.Access.of(settings)
    server = mysql.MySQLDatabase(
        replace(
            access,
            database=None,
            pool_size=2,
            connect_seconds=min(3.0, access.connect_seconds),
            statement_seconds=min(10.0, access.statement_seconds),
        )
    )
    async with AsyncExitStack() as stack:
        stack.push_async_exit(server)  # opening it would ask the server whether it is there
        yield server


_ADDRESS = {
    "postgresql": ("PostgreSQL", "POSTGRESQL_HOST and POSTGRESQL_PORT"),
    "mysql": ("MySQL or MariaDB", "MYSQL_HOST and MYSQL_PORT"),
    "redis": ("Redis", "REDIS_HOST and REDIS_PORT, REDIS_SENTINELS or REDIS_CLUSTER"),
    "tdengine": ("taosAdapter", "TDENGINE_HOST and TDENGINE_PORT"),
}


@asynccontextmanager
async def opened_sink(
    store: str,
    settings: Settings,
    tables: Sequence[Table],
    *,
    now: Callable[[], datetime],
    ensure: Ensure = ensured,
) -> AsyncIterator[Sink]:
    """The store's sink, its tables there as ``ensure`` leaves them. Raises ConfigError, Unavailable (and what to do)."""
    is_open = False
    try:
        async with _opened(store, settings, tables, now=now, ensure=ensure) as sink:
            is_open = True
            yield sink
    except Unavailable as exc:
        if is_open or store not in _ADDRESS or "_PORT" in str(exc):
            raise
        kind, names = _ADDRESS[store]
        raise Unavailable(f"{exc}: is it running, and is that {kind}? See {names}", after=exc.after) from exc


@asynccontextmanager
async def _opened(
    store: str, settings: Settings, tables: Sequence[Table], *, now: Callable[[], datetime], ensure: Ensure
) -> AsyncIterator[Sink]:
    match store:
        case "postgresql":
            from mystocks_ingest.sinks import timescale  # noqa: PLC0415

            async with timescale.TimescaleDatabase(timescale.Access.of(settings)) as server:
                yield await timescale.TimescaleSink.opened(server, tables, ensure=ensure)
        case "mysql":
            from mystocks_ingest.sinks import mysql  # noqa: PLC0415

            async with mysql.MySQLDatabase(mysql.Access.of(settings)) as server:
                yield await mysql.MySQLSink.opened(server, tables, ensure=ensure)
        case "redis":
            from mystocks_ingest.sinks import redis  # noqa: PLC0415

            async with redis.RedisDatabase.of(settings) as server:
                yield await redis.RedisSink.opened(server, tables, ensure=ensure)
        case "tdengine":
            from mystocks_ingest.sinks import tdengine  # noqa: PLC0415

            async with tdengine.TDengineDatabase(tdengine.Options.of(settings)) as server:
                yield await tdengine.TDengineSink.opened(server, tables, now=now, ensure=ensure)
        case _:
            raise _unknown(store)


@asynccontextmanager
async def opened_target(store: str, settings: Settings, tables: Sequence[Table]) -> AsyncIterator[SchemaTarget]:
    """The structure of the store that holds ``tables``; nothing is made. Raises ConfigError, Unavailable."""
    match store:
        case "postgresql":
            from mystocks_ingest.sinks import timescale  # noqa: PLC0415

            async with timescale.TimescaleDatabase(timescale.Access.of(settings)) as server:
                yield timescale.TimescaleTarget(server)
        case "mysql":
            from mystocks_ingest.sinks import mysql  # noqa: PLC0415

            async with mysql.MySQLDatabase(mysql.Access.of(settings)) as server:
                yield mysql.MySQLTarget(server)
        case "redis":
            from mystocks_ingest.sinks import redis  # noqa: PLC0415

            async with redis.RedisDatabase.of(settings) as server:
                yield redis.RedisTarget(server, tables)
        case "tdengine":
            from mystocks_ingest.sinks import tdengine  # noqa: PLC0415

            async with tdengine.TDengineDatabase(tdengine.Options.of(settings)) as server:
                yield tdengine.TDengineTarget(server, tables)
        case _:
            raise _unknown(store)


def _unknown(store: str) -> ConfigError:
    return ConfigError(f"unknown store {store!r}; known: postgresql, mysql, redis, tdengine")


def grants(store: str, tables: Sequence[Table], settings: Settings) -> list[str]:
    """The statements that make the roles of a store, each with no more rights than it needs; nothing is connected to."""
    roles = {"writer": "mystocks_writer", "reader": "mystocks_reader", "migrator": "mystocks_migrator"}
    named = [t.database_name for t in tables]
    match store:
        case "postgresql":
            from mystocks_ingest.sinks import timescale  # noqa: PLC0415

            return timescale.grants(_databases(settings.postgresql_database, named), **roles)
        case "mysql":
            from mystocks_ingest.sinks import mysql  # noqa: PLC0415

            return mysql.grants([*_databases(settings.mysql_database, named), settings.monitor_database], **roles)
        case "redis":
            from mystocks_ingest.sinks import redis  # noqa: PLC0415

            return redis.grants(tables, **roles)
        case "tdengine":
            from mystocks_ingest.sinks import tdengine  # noqa: PLC0415

            return tdengine.grants(tables, **roles)
        case _:
            raise _unknown(store)


def _databases(only: str | None, named: Sequence[str]) -> list[str]:
    return [only] if only else list(dict.fromkeys(named))
