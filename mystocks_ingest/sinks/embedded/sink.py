"""Tables in the embedded store: made from the YAML, upserted by key, read in key order.

Tables have no primary key: an index makes every insert four times slower, and uniqueness follows from one writer
that replaces by key. An upsert deletes the rows of the batch's keys and inserts the batch, in one transaction. Against
MERGE that is as fast where rows arrive in the table's order, and 40 to 100 times faster where they do not (one session
into 13 million rows stored by symbol: 0.05 s against 5 s), since an update in place rewrites every block it touches. The
batch's least and greatest keys bound the delete, so that whole blocks are skipped by their statistics. Tables of which
the newest row stands (orders, parameters) are small and merged.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from functools import partial
from typing import Self

import pyarrow as pa
import pyarrow.compute as pc

from mystocks_ingest.errors import ConfigError, Rejected
from mystocks_ingest.flow.migrate import Ensure, ensured
from mystocks_ingest.ports import Query
from mystocks_ingest.schema.newest import guards, stale
from mystocks_ingest.schema.tables import Table, writable
from mystocks_ingest.sinks.embedded.database import Connection, EmbeddedDatabase
from mystocks_ingest.sinks.embedded.dialect import quoted
from mystocks_ingest.sinks.embedded.target import EmbeddedTarget

_BATCH_ROWS = 50_000  # of a long answer, turned into Arrow at once
_STEP = 245_760  # two row groups: enough to bypass the log, little enough for the store's memory


class EmbeddedSink:
    """Every table in the embedded database. Open with ``await EmbeddedSink.opened(db, tables)``."""

    name = "embedded"

    def __init__(self, database: EmbeddedDatabase) -> None:
        self._database = database

    @classmethod
    async def opened(cls, database: EmbeddedDatabase, tables: Iterable[Table], *, ensure: Ensure = ensured) -> Self:
        """A sink whose tables exist as described. Raises UnsafeChange when a stored one differs otherwise."""
        await ensure(EmbeddedTarget(database), tuple(tables))
        return cls(database)

    async def write(self, table: Table, rows: pa.RecordBatch) -> None:
        """Upsert by key; the rows hold each key once. Durable on return.

        Up to ``_STEP`` rows go in one transaction; of more, those before a failing step are stored.
        """
        writable(table)
        for first in range(0, rows.num_rows, _STEP):
            part = rows.slice(first, _STEP)
            await self._database.run(partial(_upsert, table=table, rows=part), incoming=part)

    async def read(self, table: Table, query: Query) -> pa.Table:
        """Rows in key order, with the names and types of the table's Arrow schema."""
        statement, values, schema = _select(table, query)
        found = await self._database.run(lambda c: c.sql(statement, params=values).to_arrow_table())
        return found.cast(schema)

    async def stream(self, table: Table, query: Query) -> AsyncGenerator[pa.RecordBatch, None]:
        """``read`` in batches; what else the store is asked for goes on between two of them."""
        statement, values, schema = _select(table, query)
        async with aclosing(self._database.stream(statement, values, rows=_BATCH_ROWS)) as parts:
            async for part in parts:
                yield part.cast(schema)

    @property
    def pool(self) -> tuple[int, int]:
        """Connections in use, and how many there may be."""
        return self._database.pool

    async def ping(self) -> None:
        await self._database.run(lambda c: c.execute("SELECT 1").fetchone())


def _upsert(connection: Connection, table: Table, rows: pa.RecordBatch) -> None:
    names = [c.name for c in table.columns if c.name in rows.schema.names]
    columns = ", ".join(quoted(n) for n in names)
    name = quoted(table.name)
    same = " AND ".join(f"t.{quoted(k)} = s.{quoted(k)}" for k in table.key)
    within, bounds = _range(table, rows)  # names in these statements come from the validated YAML; values are bound
    by = guards(table, names)
    if by or len(names) < len(table.columns):  # the user's own columns of a row that is replaced keep their values
        newer = f"AND NOT {stale(by, lambda n: f't.{quoted(n)}', lambda n: f's.{quoted(n)}')} " if by else ""
        changed = ", ".join(f"{quoted(n)} = s.{quoted(n)}" for n in names)
        given = ", ".join(f"s.{quoted(n)}" for n in names)
        connection.execute(
            f"MERGE INTO {name} AS t USING incoming AS s ON {same} AND {within} "  # noqa: S608 - as said above
            f"WHEN MATCHED {newer}THEN UPDATE SET {changed} WHEN NOT MATCHED THEN INSERT ({columns}) VALUES ({given})",
            bounds,
        )
        return
    connection.execute(f"DELETE FROM {name} AS t USING incoming AS s WHERE {same} AND {within}", bounds)  # noqa: S608
    connection.execute(f"INSERT INTO {name} ({columns}) SELECT {columns} FROM incoming")  # noqa: S608 - likewise


def _range(table: Table, rows: pa.RecordBatch) -> tuple[str, list[object]]:
    """The condition that bounds the table's rows by the batch's least and greatest key values, and its values."""
    bounds: list[object] = []
    terms = []
    for key in table.key:
        span = pc.min_max(rows.column(key))
        if not span["min"].is_valid:
            raise Rejected(f"{table.name}: {key} is null, and a key cannot be")
        bounds += [span["min"].as_py(), span["max"].as_py()]
        terms.append(f"t.{quoted(key)} BETWEEN ? AND ?")
    return " AND ".join(terms), bounds


def _select(table: Table, query: Query) -> tuple[str, list[object], pa.Schema]:
    """The statement, its values, and what it gives. Raises ConfigError for a column that the table does not have."""
    known = [c.name for c in table.columns]
    unknown = [n for n in query.columns if n not in known]
    if unknown:
        raise ConfigError(f"table {table.name} has no column {', '.join(unknown)}; it has {', '.join(known)}")
    names = query.columns or tuple(known)
    terms: list[str] = []
    values: list[object] = []
    if query.symbols:
        terms.append("symbol IN (SELECT unnest(?))")
        values.append(list(query.symbols))
    if query.window is not None and table.time_column is not None:
        moment = pa.types.is_timestamp(table.schema.field(table.time_column).type)
        bound = "CAST(? AS DATE)::TIMESTAMP WITH TIME ZONE" if moment else "?"
        time = quoted(table.time_column)
        terms.append(f"{time} >= {bound} AND {time} < {bound}")
        values += [query.window.start, query.window.end]
    where = f"WHERE {' AND '.join(terms)}" if terms else ""
    order = f"ORDER BY {', '.join(quoted(k) for k in table.key)}" if table.key else ""
    columns = ", ".join(quoted(n) for n in names)
    limit = f"LIMIT {query.limit:d}" if query.limit is not None else ""
    statement = f"SELECT {columns} FROM {quoted(table.name)} {where} {order} {limit}"  # noqa: S608 - names quoted, values bound
    return statement, values, pa.schema([pa.field(n, table.schema.field(n).type) for n in names])
