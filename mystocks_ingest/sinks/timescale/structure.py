"""What must stand before rows arrive: the database, the extension, the tables and their columns."""

from __future__ import annotations

from collections.abc import Sequence

from asyncpg import exceptions as pg

from mystocks_ingest.errors import ConfigError, UnsafeChange
from mystocks_ingest.logs import get
from mystocks_ingest.schema.tables import Table
from mystocks_ingest.sinks.timescale import ddl
from mystocks_ingest.sinks.timescale.database import OLDEST, Connection, TimescaleDatabase, transaction
from mystocks_ingest.sinks.timescale.ddl import quoted, sql_type

log = get("postgresql")

_OLDEST_TIMESCALE = (2, 13)  # the first with by_range()
_COLUMNS = """
    SELECT a.attname, format_type(a.atttypid, a.atttypmod)
    FROM pg_attribute a WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped
"""
_REMEDY = (
    "install TimescaleDB beside the server (its package, `shared_preload_libraries = 'timescaledb'`, a restart, then "
    "CREATE EXTENSION timescaledb), or set POSTGRESQL_TIMESCALE=off to use PostgreSQL's own partitions"
)


async def prepare(database: TimescaleDatabase, name: str, tables: Sequence[Table]) -> None:
    """The database is there (created where the right is), the server new enough, the extension present if needed."""
    where = database.where
    try:
        version = await database.run(name, _version)
    except ConfigError as missing:
        if not isinstance(missing.__cause__, pg.InvalidCatalogNameError):
            raise
        await _create(database, name, missing)
        version = await database.run(name, _version)
    if version < OLDEST:
        raise ConfigError(f"{where} has version {version}; version {OLDEST} or newer is needed: upgrade the server")
    if where.timescale and any(t.is_timescale_hypertable for t in tables):
        await database.run(name, lambda c: _extension(c, str(where), name))


async def _version(connection: Connection) -> int:
    return int(connection.get_server_version().major)


async def _create(database: TimescaleDatabase, name: str, missing: ConfigError) -> None:
    async def create(connection: Connection) -> None:
        try:
            await connection.execute(f"CREATE DATABASE {quoted(name)} ENCODING 'UTF8' TEMPLATE template0")
        except pg.DuplicateDatabaseError:
            pass  # another process was faster
        except pg.InsufficientPrivilegeError:
            raise missing from None

    await database.run("postgres", create)
    log.info("database.created", database=name)


async def _extension(connection: Connection, where: str, name: str) -> None:
    """Raises ConfigError when TimescaleDB is not there, too old, or may not be created by this user."""
    found = await connection.fetchval("SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'")
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
        found = await connection.fetchval("SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'")
    if tuple(int(n) for n in found.split("-")[0].split(".")[:2]) < _OLDEST_TIMESCALE:
        oldest = ".".join(map(str, _OLDEST_TIMESCALE))
        raise ConfigError(
            f"{where}, database {name}: TimescaleDB {found} is too old, {oldest} is needed: install it and run "
            "ALTER EXTENSION timescaledb UPDATE"
        )


async def ensure(database: TimescaleDatabase, name: str, tables: Sequence[Table]) -> None:
    """Create the tables that are missing, add the columns that were gained. Raises UnsafeChange for the rest."""

    async def make(connection: Connection) -> None:
        for table in tables:
            async with transaction(connection, f"SELECT pg_advisory_xact_lock({ddl.LOCK})"):
                await _ensure(connection, table, timescale=database.where.timescale)
            if database.where.timescale and table.is_timescale_hypertable:
                await _compress(connection, table)

    await database.run(name, make)


async def _ensure(connection: Connection, table: Table, *, timescale: bool) -> None:
    found: dict[str, str] = {r[0]: r[1] for r in await connection.fetch(_COLUMNS, quoted(table.name))}
    if not found:
        for statement in ddl.ddl(table, timescale=timescale):
            await connection.execute(statement)
        log.info("table.created", table=table.name)
        return
    for column in table.columns:
        if column.name in found:
            if found[column.name] != sql_type(column):
                raise UnsafeChange(
                    f"{table.where}: column {column.name} of table {table.name} is stored as {found[column.name]} and "
                    f"the file now wants {sql_type(column)}: give the column another name, or move the table's data"
                )
            continue
        if not column.nullable and column.default is None:
            raise UnsafeChange(
                f"{table.where}: table {table.name} holds rows and cannot gain column {column.name}, which may not be "
                "null: let it be null"
            )
        await connection.execute(ddl.widened(table, column))
        log.info("table.widened", table=table.name, column=column.name)
    for gone in found.keys() - {c.name for c in table.columns}:
        log.info("column.kept", table=table.name, column=gone)  # dropped from the file, never from the store


async def _compress(connection: Connection, table: Table) -> None:
    """Let old chunks be compressed; once is enough, and the free edition cannot."""
    done = await connection.fetchval(
        "SELECT compression_enabled FROM timescaledb_information.hypertables WHERE hypertable_name = $1", table.name
    )
    if done is not False:
        return
    try:
        async with transaction(connection):
            for statement in ddl.compression(table):
                await connection.execute(statement)
    except pg.FeatureNotSupportedError as exc:
        log.warning("compression.unavailable", table=table.name, reason=str(exc).splitlines()[0])
