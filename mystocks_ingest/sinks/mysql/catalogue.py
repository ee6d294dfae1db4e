"""What the server has, and what is done about the difference: missing things are made, nothing is ever taken away."""

from __future__ import annotations

from collections.abc import Iterable

from pymysql import err

from mystocks_ingest.errors import ConfigError, UnsafeChange
from mystocks_ingest.logs import get
from mystocks_ingest.schema.tables import Database, Table
from mystocks_ingest.sinks.mysql.ddl import COLLATION, ddl, literal, quoted, same_type, sql_type, widening
from mystocks_ingest.sinks.mysql.faults import code_of
from mystocks_ingest.sinks.mysql.wire import Wire

log = get("mysql")

_THERE_ALREADY = 1060


async def ensure(wire: Wire, tables: Iterable[Table], database: str | None) -> None:
    """Create what is missing and add the columns that tables have gained.

    ``database``: in place of those the tables name. Raises UnsafeChange for every other difference.
    """
    server = Database.MARIADB if wire.mariadb else Database.MYSQL
    known: set[str] = set()
    for table in tables:
        home = database or table.database_name
        if home not in known:
            await _database(wire, home, server)
            known.add(home)
        columns = await _columns(wire, home, table.name)
        if columns:
            await _compare(wire, home, table, columns)
            continue
        for statement in ddl(table, server, database=home):
            await wire.run(statement)
        log.info("table.created", table=f"{home}.{table.name}")


async def _database(wire: Wire, name: str, server: Database) -> None:
    found = await wire.run(f"SELECT 1 FROM information_schema.schemata WHERE schema_name = {literal(name)}")  # noqa: S608 - escaped
    if found:
        return
    try:
        await wire.run(
            f"CREATE DATABASE IF NOT EXISTS {quoted(name)} CHARACTER SET utf8mb4 COLLATE {COLLATION[server]}"
        )
    except err.Error as exc:
        if code_of(exc) not in (1044, 1227):
            raise
        raise ConfigError(
            f"MySQL has no database {name} that this user may see, nor may it create one: as an administrator run "
            f"CREATE DATABASE {quoted(name)} CHARACTER SET utf8mb4; GRANT ALL ON {quoted(name)}.* TO the user of MYSQL_USER"
        ) from exc
    log.info("database.created", database=name)


async def _columns(wire: Wire, database: str, table: str) -> dict[str, str]:
    """Names and types as stored; none when there is no such table."""
    rows = await wire.run(
        "SELECT column_name, column_type FROM information_schema.columns "  # noqa: S608 - escaped
        f"WHERE table_schema = {literal(database)} AND table_name = {literal(table)} ORDER BY ordinal_position"
    )
    return {_word(name): _word(kind) for name, kind in rows}


async def _unique(wire: Wire, database: str, table: str) -> list[frozenset[str]]:
    """The columns of each unique index."""
    rows = await wire.run(
        "SELECT index_name, column_name FROM information_schema.statistics "  # noqa: S608 - escaped
        f"WHERE table_schema = {literal(database)} AND table_name = {literal(table)} AND non_unique = 0"
    )
    indexes: dict[str, set[str]] = {}
    for index, column in rows:
        indexes.setdefault(_word(index), set()).add(_word(column))
    return [frozenset(columns) for columns in indexes.values()]


def _word(value: object) -> str:
    """MySQL 8's catalogue gives some columns as bytes."""
    return value.decode() if isinstance(value, bytes) else str(value)


async def _compare(wire: Wire, database: str, table: Table, stored: dict[str, str]) -> None:
    for column in table.columns:
        if column.name not in stored:
            if not column.nullable and column.default is None:
                raise UnsafeChange(
                    f"{table.where}: table {table.name} holds rows and cannot gain column {column.name}, which may not "
                    "be null: let it be null, or give it a default"
                )
            try:
                await wire.run(widening(table, column, database=database))
            except err.Error as exc:
                if code_of(exc) != _THERE_ALREADY:  # another process was faster
                    raise
            log.info("table.widened", table=table.name, column=column.name)
        elif not same_type(column, stored[column.name]):
            raise UnsafeChange(
                f"{table.where}: column {column.name} of table {table.name} is stored as {stored[column.name]} and the "
                f"file now wants {sql_type(column)}: give the column another name, or change it in the database"
            )
    if table.key and frozenset(table.key) not in await _unique(wire, database, table.name):
        raise UnsafeChange(
            f"{table.where}: table {table.name} is stored without a unique index on its key, and rows would be doubled: "
            f"ALTER TABLE {quoted(database, table.name)} ADD UNIQUE KEY ({', '.join(quoted(k) for k in table.key)})"
        )
    for gone in stored.keys() - {c.name for c in table.columns}:
        log.info("column.kept", table=table.name, column=gone)
