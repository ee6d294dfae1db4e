"""The structure of the embedded store's tables: read in four queries, changed one text at a time."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager

import duckdb

from mystocks_ingest.errors import Rejected, Unavailable
from mystocks_ingest.schema.structure import ColumnShape, IndexShape, TableShape
from mystocks_ingest.sinks.embedded.database import Connection, EmbeddedDatabase
from mystocks_ingest.sinks.embedded.dialect import (
    DATABASE,
    KEYS,
    EmbeddedDialect,
    literal,
    normal_default,
    quoted,
    sequence,
)

_WAIT = 30.0  # seconds for another change of structure in this process; other processes cannot open the file
_PREPARED = (
    f"CREATE SCHEMA IF NOT EXISTS {KEYS.partition('.')[0]};"
    f"CREATE TABLE IF NOT EXISTS {KEYS} (table_name VARCHAR PRIMARY KEY, columns VARCHAR[] NOT NULL)"
)


class EmbeddedTarget:
    """ports.SchemaTarget of the embedded store."""

    name = "embedded"
    dialect = EmbeddedDialect()

    def __init__(self, database: EmbeddedDatabase) -> None:
        self._database = database

    async def databases(self) -> frozenset[str]:
        return frozenset({DATABASE})

    async def inspect(self, databases: Iterable[str]) -> Sequence[TableShape]:
        return await self._database.run(_inspected) if DATABASE in set(databases) else ()

    async def execute(self, database: str, statement: str) -> None:  # noqa: ARG002 - there is but one
        """Run the text in one transaction. Raises Rejected where rows or other entries stand in the way."""

        def work(connection: Connection) -> None:
            if KEYS in statement:
                connection.execute(_PREPARED)
            connection.execute(statement)

        try:
            await self._database.run(work)
        except (duckdb.ProgrammingError, duckdb.InternalError) as exc:
            raise Rejected(str(exc).splitlines()[0]) from exc

    async def count(self, table: TableShape) -> int:
        def work(connection: Connection) -> int:
            found = connection.execute(f"SELECT count(*) FROM {quoted(table.name)}").fetchone()  # noqa: S608 - quoted
            return int(found[0]) if found is not None else 0

        return await self._database.run(work)

    @asynccontextmanager
    async def lock(self) -> AsyncIterator[None]:
        """DuckDB's own lock keeps other processes out; this one keeps a second task of ours waiting."""
        held = self._database.structure
        try:
            async with asyncio.timeout(_WAIT):
                await held.acquire()
        except TimeoutError:
            raise Unavailable(
                f"the structure of {self._database.path} is being changed by this process: try again"
            ) from None
        try:
            yield
        finally:
            held.release()


def _inspected(connection: Connection) -> list[TableShape]:
    tables = connection.execute(
        "SELECT table_name, comment FROM duckdb_tables() WHERE schema_name = ? AND NOT internal ORDER BY table_oid",
        [DATABASE],
    ).fetchall()
    if not tables:
        return []
    columns: dict[str, list[ColumnShape]] = defaultdict(list)
    for table, name, kind, nullable, default, comment in connection.execute(
        "SELECT table_name, column_name, data_type, is_nullable, column_default, comment FROM duckdb_columns() "
        "WHERE schema_name = ? AND NOT internal ORDER BY table_oid, column_index",
        [DATABASE],
    ).fetchall():
        columns[table].append(_column(table, name, kind, default, comment or "", nullable=nullable))
    indexes: dict[str, list[IndexShape]] = defaultdict(list)
    for table, name, unique, on in connection.execute(
        "SELECT table_name, index_name, is_unique, expressions FROM duckdb_indexes() WHERE schema_name = ?", [DATABASE]
    ).fetchall():
        indexes[table].append(IndexShape(name, tuple(_names(on)), unique=unique))
    keys = _keys(connection)
    return [
        TableShape(
            DATABASE, name, tuple(columns[name]), keys.get(name, ()), tuple(indexes[name]), comment=comment or ""
        )
        for name, comment in tables
    ]


def _keys(connection: Connection) -> dict[str, tuple[str, ...]]:
    schema, _, table = KEYS.partition(".")
    there = connection.execute(
        "SELECT 1 FROM duckdb_tables() WHERE schema_name = ? AND table_name = ?", [schema, table]
    ).fetchone()
    if there is None:
        return {}
    found = connection.execute(f"SELECT table_name, columns FROM {KEYS}").fetchall()  # noqa: S608 - a constant
    return {name: tuple(on) for name, on in found}


def _column(table: str, name: str, kind: str, default: str | None, comment: str, *, nullable: bool) -> ColumnShape:
    counter = sequence(table, name)
    numbered = default in {f"nextval({literal(quoted(counter))})", f"nextval({literal(counter)})"}
    return ColumnShape(
        name,
        kind,
        nullable=nullable,
        default=None if numbered else normal_default(default, kind),
        comment=comment,
        numbered=numbered,
    )


def _names(expressions: str) -> list[str]:
    """``[symbol, '"day"']`` as the catalogue writes it."""
    return [part.strip(" '\"") for part in expressions.strip("[]").split(",")]
