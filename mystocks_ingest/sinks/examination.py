"""One store as ``doctor`` looks at it: it opens as for a backfill, tells its version, and whether it may lose rows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from mystocks_ingest.errors import ConfigError, IngestError, Unavailable
from mystocks_ingest.flow.migrate import Ensure, ensured
from mystocks_ingest.ports import Sink
from mystocks_ingest.schema.tables import Route, Table
from mystocks_ingest.settings import Settings
from mystocks_ingest.sinks.registry import opened_sink


@dataclass(frozen=True, slots=True)
class Told:
    """What a server says of itself; ``doubts``: why rows that it acknowledged may be gone after a crash, and the remedy."""

    version: str
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Examined:
    """A store that is well."""

    server: Told
    latency_seconds: float
    tables: int


async def examined(
    store: str,
    settings: Settings,
    tables: Sequence[Table],
    *,
    now: Callable[[], datetime],
    ensure: Ensure = ensured,
    seconds: float,
) -> Examined:
    """Open the store with its tables, as a backfill does, and ask it a little. Done or given up within ``seconds``.

    Raises what ``opened_sink`` raises.
    """
    try:
        async with asyncio.timeout(seconds), opened_sink(store, settings, tables, now=now, ensure=ensure) as sink:
            told = await _told(store, settings, tables)
            return Examined(told, await _latency(sink), len(tables))
    except TimeoutError:
        raise Unavailable(f"{store} was not ready within {seconds:g} s: look at its load and its log") from None


async def _latency(sink: Sink) -> float:
    """The faster of two, for the first one may have to connect."""
    spent = []
    for _ in range(2):
        began = time.perf_counter()
        await sink.ping()
        spent.append(time.perf_counter() - began)
    return min(spent)


async def _told(store: str, settings: Settings, tables: Sequence[Table]) -> Told:
    ask: dict[str, Callable[[], Awaitable[Told]]] = {
        "postgresql": lambda: _postgresql(settings, tables),
        "mysql": lambda: _mysql(settings),
        "redis": lambda: _redis(settings, tables),
        "tdengine": lambda: _tdengine(settings),
    }
    if store not in ask:
        raise ConfigError(f"unknown store {store!r}; known: {', '.join(ask)}")
    return await ask[store]()


async def _postgresql(settings: Settings, tables: Sequence[Table]) -> Told:
    from mystocks_ingest.sinks import timescale  # noqa: PLC0415 - the driver only where the store is in use

    async with timescale.TimescaleDatabase(timescale.Access.of(settings)) as server:
        database = server.name_of(tables[0].database_name if tables else "postgres")
        version, fsync, extension = await server.run(
            database,
            lambda c: c.fetchrow(
                "SELECT current_setting('server_version'), current_setting('fsync'), "
                "(SELECT extversion FROM pg_extension WHERE extname = 'timescaledb')"
            ),
        )
    said = f"PostgreSQL {version.split()[0]}" + (f", TimescaleDB {extension}" if extension else "")
    doubt = "fsync is off: a power cut may cost stored rows or the whole database; set fsync = on"
    return Told(said, (doubt,) if fsync == "off" else ())


async def _mysql(settings: Settings) -> Told:
    from mystocks_ingest.sinks import mysql  # noqa: PLC0415 - likewise

    async with mysql.MySQLDatabase(mysql.Access.of(settings)) as server:
        ((version, flushed),) = await server.run(
            lambda wire: wire.run("SELECT VERSION(), @@innodb_flush_log_at_trx_commit")
        )
    kind = "MariaDB" if "mariadb" in str(version).lower() else "MySQL"
    doubt = f"innodb_flush_log_at_trx_commit is {flushed}: a power cut costs the last second's rows; set it to 1"
    return Told(f"{kind} {str(version).split('-')[0]}", (doubt,) if str(flushed) != "1" else ())


async def _redis(settings: Settings, tables: Sequence[Table]) -> Told:
    from mystocks_ingest.sinks import redis  # noqa: PLC0415 - likewise

    async with redis.RedisDatabase.of(settings) as server:
        answers = [_fields(answer) for answer in await server.each("INFO", "everything")]
        try:
            synced = [
                bytes(answer[b"appendfsync"]).decode() for answer in await server.each("CONFIG", "GET", "appendfsync")
            ]
        except (IngestError, KeyError):  # not everyone may ask for it: then it is not known
            synced = []
    version = ", ".join(sorted({f.get("redis_version", "?") for f in answers}))
    said = f"Redis {version}" + (f" on {len(answers)} servers" if len(answers) > 1 else "")
    needed = [t.name for t in tables if t.route is Route.REQUIRED]
    kept = all(f.get("aof_enabled") == "1" for f in answers) and set(synced) <= {"always"}
    doubt = (
        f"{', '.join(needed)} must be stored here, and a crash of Redis may cost acknowledged rows: set appendonly yes "
        "and appendfsync always there, or make the route best_effort in tables.yaml"
    )
    return Told(said, (doubt,) if needed and not kept else ())


def _fields(answer: object) -> dict[str, str]:
    """The lines ``name:value`` of INFO."""
    text = bytes(answer).decode(errors="replace") if isinstance(answer, bytes | bytearray | memoryview) else str(answer)
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line and not line.startswith("#"))


async def _tdengine(settings: Settings) -> Told:
    from mystocks_ingest.sinks import tdengine  # noqa: PLC0415 - likewise

    async with tdengine.TDengineDatabase(tdengine.Options.of(settings)) as server:
        ((version,),) = await server.query("SELECT server_version()")
    return Told(f"TDengine {version}")
