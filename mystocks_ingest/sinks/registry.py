"""Sinks by store name. A database's driver is imported when its store is in use, never before."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime

from mystocks_ingest.errors import ConfigError
from mystocks_ingest.ports import Sink
from mystocks_ingest.schema.tables import Table
from mystocks_ingest.settings import Settings


@asynccontextmanager
async def opened_sink(
    store: str, settings: Settings, tables: Sequence[Table], *, now: Callable[[], datetime]
) -> AsyncIterator[Sink]:
    """The store's sink, its tables there as described. Raises ConfigError, UnsafeChange, Unavailable."""
    match store:
        case "postgresql":
            from mystocks_ingest.sinks import timescale  # noqa: PLC0415

            async with timescale.TimescaleDatabase(timescale.Access.of(settings)) as server:
                yield await timescale.TimescaleSink.opened(server, tables)
        case "mysql":
            from mystocks_ingest.sinks import mysql  # noqa: PLC0415

            async with mysql.MySQLDatabase(mysql.Access.of(settings)) as server:
                yield await mysql.MySQLSink.opened(server, tables)
        case "redis":
            from mystocks_ingest.sinks import redis  # noqa: PLC0415

            async with redis.RedisDatabase.of(settings) as server:
                yield await redis.RedisSink.opened(server, tables)
        case "tdengine":
            from mystocks_ingest.sinks import tdengine  # noqa: PLC0415

            async with tdengine.TDengineDatabase(tdengine.Options.of(settings)) as server:
                yield await tdengine.TDengineSink.opened(server, tables, now=now)
        case _:
            raise ConfigError(f"unknown store {store!r}; known: postgresql, mysql, redis, tdengine")
