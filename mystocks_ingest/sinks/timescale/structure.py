"""What a server must be before tables can stand in it: new enough, with TimescaleDB where hypertables are wanted."""

from __future__ import annotations

import asyncpg
from asyncpg import exceptions as pg

from mystocks_ingest.errors import ConfigError
from mystocks_ingest.sinks.timescale.access import Access
from mystocks_ingest.sinks.timescale.database import OLDEST, Connection

FOR_EVER_SECONDS = 7 * 86_400.0  # what a change of structure may take: a large table is rewritten by some

_OLDEST_TIMESCALE = (2, 13)  # the first with by_range()
_REMEDY = (
    "install TimescaleDB beside the server (its package, `shared_preload_libraries = 'timescaledb'`, a restart, then "
    "CREATE EXTENSION timescaledb), or set POSTGRESQL_TIMESCALE=off to use PostgreSQL's own partitions"
)
_FOUND = "SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'"


def new_enough(connection: asyncpg.Connection, where: Access) -> None:
    """Raises ConfigError when the server is too old."""
    version = int(connection.get_server_version().major)
    if version < OLDEST:
        raise ConfigError(f"{where} has version {version}; version {OLDEST} or newer is needed: upgrade the server")


async def extension(connection: Connection, where: Access, name: str) -> None:
    """Create TimescaleDB in database ``name``. Raises ConfigError when it is not there, too old, or forbidden."""
    found = await connection.fetchval(_FOUND)
    if found is None:
        if not await connection.fetchval("SELECT 1 FROM pg_available_extensions WHERE name = 'timescaledb'"):
            raise ConfigError(f"{where} has no TimescaleDB, which the hypertables need: {_REMEDY}")
        try:
            await connection.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
        except pg.InsufficientPrivilegeError as exc:
            raise ConfigError(
                f"{where}: TimescaleDB is installed but not created in database {name}, and this user may not: run "
                "CREATE EXTENSION timescaledb there as a superuser"
            ) from exc
        except pg.PostgresError as exc:
            raise ConfigError(f"{where}: TimescaleDB cannot be used ({exc}): {_REMEDY}") from exc
        found = await connection.fetchval(_FOUND)
    if complaint := too_old(found):
        raise ConfigError(f"{where}, database {name}: {complaint}")


def too_old(version: str) -> str:
    """Why a TimescaleDB of that version cannot be used, and the remedy; empty where it can."""
    if tuple(int(n) for n in version.split("-", maxsplit=1)[0].split(".")[:2]) >= _OLDEST_TIMESCALE:
        return ""
    oldest = ".".join(map(str, _OLDEST_TIMESCALE))
    return (
        f"TimescaleDB {version} is too old, {oldest} is needed: install it and run ALTER EXTENSION timescaledb UPDATE"
    )


def limited(exc: pg.FeatureNotSupportedError) -> bool:
    """Whether TimescaleDB's free edition says that it lacks something (``timescaledb.license``)."""
    return "license" in str(exc)
