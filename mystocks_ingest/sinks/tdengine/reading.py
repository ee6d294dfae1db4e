"""Queries: SQL out, Arrow in the table's own types back. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, time
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc

from mystocks_ingest.errors import ConfigError
from mystocks_ingest.market.datasets.kinds import SHANGHAI
from mystocks_ingest.ports import Query
from mystocks_ingest.schema.tables import Table
from mystocks_ingest.sinks.tdengine.batches import PER_SECOND
from mystocks_ingest.sinks.tdengine.names import literal, quoted
from mystocks_ingest.sinks.tdengine.shape import Precision, Shape, Stored

_ZONE = ZoneInfo(SHANGHAI)
_EPOCH = date(1970, 1, 1)


def schema_of(table: Table, query: Query) -> pa.Schema:
    """The schema of the answer to ``query``. Raises ConfigError for a column that the table does not have."""
    known = [c.name for c in table.columns]
    unknown = [n for n in query.columns if n not in known]
    if unknown:
        raise ConfigError(f"table {table.name} has no column {', '.join(unknown)}; it has {', '.join(known)}")
    return pa.schema([pa.field(n, table.schema.field(n).type) for n in query.columns or known])


def statement(made: Shape, query: Query) -> tuple[str, list[Stored]]:
    """The SELECT, and its columns. Moments are asked for as numbers: the driver would make texts of them."""
    every = {c.name: c for c in (*made.columns, *made.tags)}
    columns = [every[n] for n in schema_of(made.table, query).names]
    asked = ", ".join(
        f"CAST({quoted(c.name)} AS BIGINT) AS c{i}" if c.word == "TIMESTAMP" else f"{quoted(c.name)} AS c{i}"
        for i, c in enumerate(columns)
    )
    terms = []
    if query.symbols:
        terms.append(f"{quoted('symbol')} IN ({', '.join(literal(s) for s in query.symbols)})")
    timed = made.table.time_column
    if query.window is not None and timed is not None:
        kind = made.table.schema.field(timed).type
        start, end = (_bound(day, kind, made.precision) for day in (query.window.start, query.window.end))
        terms.append(f"{quoted(timed)} >= {start} AND {quoted(timed)} < {end}")
    where = f" WHERE {' AND '.join(terms)}" if terms else ""
    order = ", ".join(quoted(k) for k in made.table.key)
    limit = f" LIMIT {query.limit:d}" if query.limit is not None else ""
    return f"SELECT {asked} FROM {made.name}{where} ORDER BY {order}{limit}", columns  # noqa: S608 - names quoted, texts escaped


def answered(rows: pa.RecordBatch, columns: Sequence[Stored], schema: pa.Schema) -> pa.RecordBatch:
    """The child's columns in the table's types."""
    arrays = [
        _restored(rows.column(i), stored, field.type)
        for i, (stored, field) in enumerate(zip(columns, schema, strict=True))
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _restored(column: pa.Array, stored: Stored, into: pa.DataType) -> pa.Array:
    if stored.word == "TIMESTAMP":
        column = column.view(stored.arrow)
        if pa.types.is_timestamp(into):
            return column.cast(pa.timestamp(into.unit)).view(into)
        return pc.floor_temporal(column, unit="day").cast(into)
    return column if column.type == into else column.cast(into)


def _bound(day: date, kind: pa.DataType, precision: Precision) -> int:
    """The first moment of a day as the database counts; of a time with a zone, the day is Shanghai's."""
    if pa.types.is_timestamp(kind) and kind.tz is not None:
        seconds = int(datetime.combine(day, time(), _ZONE).timestamp())
    else:
        seconds = (day - _EPOCH).days * 86_400
    return seconds * PER_SECOND[precision]
