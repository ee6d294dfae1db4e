"""PostgreSQL's words for a table: pure text, for the sink that creates tables and for the schema manager alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

import pyarrow as pa

from mystocks_ingest.schema.tables import Column, Table
from mystocks_ingest.schema.types import WORDS, Family

LOCK = 0x6D7973746F636B73
"""The advisory lock under which structure is changed, so that two processes do not make one table twice."""


@dataclass(frozen=True, slots=True)
class Chunks:
    """How a hypertable is cut and compressed, in days.

    Compression begins beyond the window in which vendors correct their data, since every later write into a
    compressed chunk has to unpack what it touches.
    """

    interval_days: int
    compress_after_days: int


def chunks(table: Table) -> Chunks:
    """About a million rows a chunk for daily data of the whole market, and for minutes and ticks."""
    return Chunks(7, 30) if _timed(table) else Chunks(180, 400)


def quoted(name: str) -> str:
    """An identifier in PostgreSQL's quotes."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A string constant; a backslash in it stands for itself."""
    return "'" + text.replace("'", "''") + "'"


def sql_type(column: Column) -> str:
    """The column's type as PostgreSQL itself spells it (``format_type``), so that found and wanted compare."""
    match WORDS[column.type]:
        case Family.TEXT:  # CHAR too: blanks that PostgreSQL pads it with would come back as part of the value
            return f"character varying({column.length})" if column.length and column.type != "TEXT" else "text"
        case Family.INTEGER:
            return _INTEGERS.get(column.type, "integer")
        case Family.REAL:
            return "double precision"
        case Family.DECIMAL:
            if column.precision is None:
                return "numeric"
            return f"numeric({column.precision},{column.scale or 0})"
        case Family.BOOLEAN:
            return "boolean"
        case Family.DAY:
            return "date"
        case Family.MOMENT:
            zoned = column.type == "TIMESTAMPTZ" or getattr(column.arrow, "tz", None) is not None
            return f"timestamp with{'' if zoned else 'out'} time zone"
        case Family.JSON:
            return column.type.lower()
        case Family.BYTES:
            return "bytea"


_INTEGERS: Mapping[str, str] = {"TINYINT": "smallint", "SMALLINT": "smallint", "BIGINT": "bigint"}


def _default(column: Column) -> str:
    match column.default:
        case None:
            return ""
        case bool() | int() | float():
            return f" DEFAULT {column.default}"
        case text if text.upper().startswith("CURRENT_TIMESTAMP"):  # MySQL's ON UPDATE part has no like here
            return " DEFAULT CURRENT_TIMESTAMP"
        case text:
            return f" DEFAULT {literal(text)}"


def _definition(column: Column) -> str:
    return f"{quoted(column.name)} {sql_type(column)}{_default(column)}{'' if column.nullable else ' NOT NULL'}"


def partitioned(table: Table, *, timescale: bool) -> bool:
    """Whether the table is cut by time with PostgreSQL's own means, in place of a hypertable."""
    return table.is_timescale_hypertable and not timescale


def ddl(table: Table, *, timescale: bool) -> list[str]:
    """The statements that make a table that does not exist. ``timescale``: hypertables, else native partitions."""
    parts = [_definition(c) for c in table.columns]
    if table.key:
        parts.append(f"PRIMARY KEY ({', '.join(quoted(k) for k in table.key)})")
    native = partitioned(table, timescale=timescale) and table.time_column is not None
    by = f" PARTITION BY RANGE ({quoted(table.time_column or '')})" if native else ""
    statements = [f"CREATE TABLE {quoted(table.name)} ({', '.join(parts)}){by}"]
    if native:  # what lies outside the years one expects must not be refused
        statements.append(f"CREATE TABLE {quoted(table.name + '_other')} PARTITION OF {quoted(table.name)} DEFAULT")
    elif table.is_timescale_hypertable and table.time_column is not None:
        cut = f"by_range({literal(table.time_column)}, INTERVAL '{chunks(table).interval_days} days')"
        own = "false" if table.key and table.key[0] == table.time_column else "true"
        statements.append(
            f"SELECT create_hypertable({literal(quoted(table.name))}, {cut}, create_default_indexes => {own})"
        )
    if native and table.key and table.key[0] != table.time_column:
        statements.append(f"CREATE INDEX ON {quoted(table.name)} ({quoted(table.time_column or '')})")
    return statements + comments(table)


def compression(table: Table) -> list[str]:
    """The statements that let a hypertable compress its old chunks; TimescaleDB's free edition lacks them."""
    if not table.is_timescale_hypertable or table.time_column is None:
        return []
    segments = [k for k in table.key if k != table.time_column and pa.types.is_string(table.schema.field(k).type)]
    rest = [table.time_column, *(k for k in table.key if k not in segments and k != table.time_column)]
    by = f", timescaledb.compress_segmentby = {literal(', '.join(quoted(s) for s in segments))}" if segments else ""
    order = literal(", ".join(quoted(name) for name in rest))
    age = chunks(table).compress_after_days
    name = quoted(table.name)
    return [
        f"ALTER TABLE {name} SET (timescaledb.compress{by}, timescaledb.compress_orderby = {order})",
        f"SELECT add_compression_policy({literal(name)}, INTERVAL '{age} days', if_not_exists => true)",
    ]


def comments(table: Table) -> list[str]:
    name = quoted(table.name)
    found = [f"COMMENT ON TABLE {name} IS {literal(table.comment)}"] if table.comment else []
    return found + [
        f"COMMENT ON COLUMN {name}.{quoted(c.name)} IS {literal(c.comment)}" for c in table.columns if c.comment
    ]


def widened(table: Table, column: Column) -> str:
    """The statement that adds a column the table has gained."""
    return f"ALTER TABLE {quoted(table.name)} ADD COLUMN {_definition(column)}"


FIRST_YEAR, LAST_YEAR = 1970, 2099
"""Native partitions are made for these years; the default partition takes what lies outside."""


def _timed(table: Table) -> bool:
    return table.time_column is not None and pa.types.is_timestamp(table.schema.field(table.time_column).type)


def period(table: Table, day: date) -> date:
    """The first day of the native partition that holds ``day``: of its year, or of its month for moments."""
    return day.replace(day=1) if _timed(table) else day.replace(month=1, day=1)


def partition(table: Table, start: date) -> str:
    """The statement that makes the native partition beginning at ``start``."""
    if _timed(table):
        end = start.replace(year=start.year + start.month // 12, month=start.month % 12 + 1)
        name = f"{table.name}_{start:%Y%m}"
    else:
        end = start.replace(year=start.year + 1)
        name = f"{table.name}_{start:%Y}"
    zone = "+00" if table.time_column and getattr(table.schema.field(table.time_column).type, "tz", None) else ""
    clock = f" 00:00:00{zone}" if _timed(table) else ""
    return (
        f"CREATE TABLE IF NOT EXISTS {quoted(name)} PARTITION OF {quoted(table.name)} "
        f"FOR VALUES FROM ('{start}{clock}') TO ('{end}{clock}')"
    )
