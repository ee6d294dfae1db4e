"""The monitor log in the embedded store: the tables of ``db_monitor`` as a schema of that name in the store's file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import duckdb
import pyarrow as pa

from mystocks_ingest.errors import Rejected
from mystocks_ingest.monitor.entries import Cell, Entry
from mystocks_ingest.monitor.journal import Database
from mystocks_ingest.monitor.questions import Question
from mystocks_ingest.monitor.tables import COLUMNS, CREATION, DATABASE, ENTRY, TABLES, History, Kind, LogTable

_TYPES: Mapping[Kind, str] = {
    "text": "VARCHAR",
    "long text": "VARCHAR",
    "json": "VARCHAR",
    "whole": "BIGINT",
    "real": "DOUBLE",
    "flag": "BOOLEAN",
    "moment": "TIMESTAMP WITH TIME ZONE",
}
_ARROW: Mapping[Kind, pa.DataType] = {
    "text": pa.string(),
    "long text": pa.string(),
    "json": pa.string(),
    "whole": pa.int64(),
    "real": pa.float64(),
    "flag": pa.bool_(),
    "moment": pa.timestamp("us", tz="UTC"),
}


class EmbeddedLog:
    """log.Store in the embedded store. Its one connection is the journal's, so no two writers ever meet."""

    name = "the embedded store"

    def __init__(self, database: Database) -> None:
        self._database = database

    async def prepare(self) -> list[str]:
        """Make what is missing; the names of the tables that were."""
        return await self._database.run(_prepared)

    async def write(self, entries: Sequence[Entry]) -> None:
        """All in one transaction, each once. Raises Rejected, Unavailable."""
        newest = {e.id: e for e in sorted(entries, key=lambda e: e.revision)}
        heads = pa.table(
            {
                "entry_id": pa.array(list(newest), pa.string()),
                "revision": pa.array([e.revision for e in newest.values()], pa.int64()),
            }
        )
        await self._database.run(lambda c: _written(c, newest), incoming=heads)

    async def ask(self, question: Question, values: Mapping[str, object]) -> list[dict[str, Any]]:
        """The answer's rows; moments in UTC."""
        text = question.text.format(log=DATABASE)
        asked = {name: value for name, value in values.items() if f"${name}" in text}
        found: pa.Table = await self._database.run(lambda c: c.sql(text, params=asked).to_arrow_table())
        rows: list[dict[str, Any]] = found.rename_columns(list(question.columns)).to_pylist()
        for row in rows:
            for name in question.moments:
                row[name] = None if row[name] is None else row[name].astimezone(UTC)
        return [{name: _number(value) for name, value in row.items()} for row in rows]

    async def counts(self) -> dict[str, int]:
        """Rows of each table that is there."""
        return await self._database.run(_counted)

    async def drop(self) -> None:
        await self._database.run(lambda c: c.execute(f"DROP SCHEMA IF EXISTS {DATABASE} CASCADE"))

    async def prune(self, history: History, *, before: datetime, whole: bool, limit: int) -> int:
        """As MonitorLog.prune; all in one transaction."""
        return await self._database.run(lambda c: _pruned(c, history, before, limit, whole=whole))


def _pruned(
    connection: duckdb.DuckDBPyConnection, history: History, before: datetime, limit: int, *, whole: bool
) -> int:
    table = history.table.name
    spare = f" AND NOT ({history.lasting})" if history.lasting and not whole else ""
    old = connection.execute(
        f"SELECT id FROM {DATABASE}.{table} WHERE {history.moment} < ?{spare} ORDER BY {history.moment} LIMIT ?",  # noqa: S608
        [before, limit],
    ).fetchall()
    if not old:
        return 0
    with _seen(connection, pa.table({"id": pa.array([number for (number,) in old], pa.int64())})):
        ids = "(SELECT id FROM log_rows)"
        if history.table is CREATION:
            connection.execute(f"DELETE FROM {DATABASE}.{COLUMNS.name} WHERE table_log_id IN {ids}")  # noqa: S608
        connection.execute(f"DELETE FROM {DATABASE}.{ENTRY} WHERE log_table = ? AND row_id IN {ids}", [table])  # noqa: S608
        connection.execute(f"DELETE FROM {DATABASE}.{table} WHERE id IN {ids}")  # noqa: S608
    return len(old)


def _number(value: object) -> object:
    """DuckDB sums whole numbers as decimals of 38 digits."""
    return int(value) if type(value).__name__ == "Decimal" else value  # type: ignore[call-overload]


def _prepared(connection: duckdb.DuckDBPyConnection) -> list[str]:
    there = set(_names(connection))
    made = []
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {DATABASE}")
    for table in TABLES:
        connection.execute(f"CREATE SEQUENCE IF NOT EXISTS {DATABASE}.{table.name}_id")
        columns = ", ".join(f"{c.name} {_TYPES[c.kind]}" for c in table.columns)
        connection.execute(f"CREATE TABLE IF NOT EXISTS {DATABASE}.{table.name} (id BIGINT NOT NULL, {columns})")
        if table.name not in there:
            made.append(table.name)
    connection.execute(
        f"CREATE TABLE IF NOT EXISTS {DATABASE}.{ENTRY} "
        "(entry_id VARCHAR NOT NULL, log_table VARCHAR NOT NULL, row_id BIGINT NOT NULL, revision BIGINT NOT NULL)"
    )
    return made


def _names(connection: duckdb.DuckDBPyConnection) -> list[str]:
    rows = connection.execute("SELECT table_name FROM duckdb_tables() WHERE schema_name = ?", [DATABASE]).fetchall()
    return [name for (name,) in rows]


def _counted(connection: duckdb.DuckDBPyConnection) -> dict[str, int]:
    there = set(_names(connection))
    counts = {}
    for table in TABLES:
        if table.name in there:
            row = connection.execute(f"SELECT count(*) FROM {DATABASE}.{table.name}").fetchone()  # noqa: S608 - constant
            counts[table.name] = int(row[0]) if row else 0
    return counts


def _written(connection: duckdb.DuckDBPyConnection, newest: Mapping[str, Entry]) -> None:
    """``incoming`` holds the ids and revisions of ``newest``."""
    known = {
        ident: (row, revision)
        for ident, row, revision in connection.execute(
            f"SELECT entry_id, row_id, e.revision FROM {DATABASE}.{ENTRY} AS e SEMI JOIN incoming USING (entry_id)"  # noqa: S608
        ).fetchall()
    }
    heads: list[tuple[str, str, int, int]] = []
    for table in TABLES:
        mine = [
            e for e in newest.values() if e.table == table.name and (e.id not in known or known[e.id][1] < e.revision)
        ]
        if not mine:
            continue
        fresh = iter(_numbers(connection, table, sum(e.id not in known for e in mine)))
        ids = [known[e.id][0] if e.id in known else next(fresh) for e in mine]
        _replace(connection, table, ids, [e.values for e in mine])
        heads += [(e.id, table.name, i, e.revision) for e, i in zip(mine, ids, strict=True)]
        parts = [{**part, "table_log_id": i} for e, i in zip(mine, ids, strict=True) for part in e.parts]
        if parts:
            _replace(connection, COLUMNS, _numbers(connection, COLUMNS, len(parts)), parts)
    if heads:
        names = ("entry_id", "log_table", "row_id", "revision")
        rows = pa.table({n: list(column) for n, column in zip(names, zip(*heads, strict=True), strict=True)})
        with _seen(connection, rows):
            connection.execute(f"DELETE FROM {DATABASE}.{ENTRY} WHERE entry_id IN (SELECT entry_id FROM log_rows)")  # noqa: S608
            connection.execute(f"INSERT INTO {DATABASE}.{ENTRY} BY NAME SELECT * FROM log_rows")  # noqa: S608


def _numbers(connection: duckdb.DuckDBPyConnection, table: LogTable, count: int) -> list[int]:
    statement = f"SELECT nextval('{DATABASE}.{table.name}_id') FROM range(?)"  # noqa: S608 - constant
    return [number for (number,) in connection.execute(statement, [count]).fetchall()]


def _replace(
    connection: duckdb.DuckDBPyConnection, table: LogTable, ids: Sequence[int], rows: Sequence[Mapping[str, Cell]]
) -> None:
    arrays = [pa.array(ids, pa.int64())]
    for column in table.columns:
        values: list[object] = [row.get(column.name) for row in rows]
        if column.kind == "moment":
            values = [None if v is None else datetime.fromisoformat(str(v)) for v in values]
        try:
            arrays.append(pa.array(values, _ARROW[column.kind]))
        except (pa.ArrowException, ValueError, TypeError) as exc:
            raise Rejected(f"{table.name}.{column.name}: {exc}") from exc
    with _seen(connection, pa.table(arrays, names=["id", *(c.name for c in table.columns)])):
        connection.execute(f"DELETE FROM {DATABASE}.{table.name} WHERE id IN (SELECT id FROM log_rows)")  # noqa: S608
        connection.execute(f"INSERT INTO {DATABASE}.{table.name} BY NAME SELECT * FROM log_rows")  # noqa: S608


@contextmanager
def _seen(connection: duckdb.DuckDBPyConnection, rows: pa.Table) -> Iterator[None]:
    """Statements find ``rows`` as ``log_rows``."""
    connection.register("log_rows", rows)
    try:
        yield
    finally:
        connection.unregister("log_rows")
