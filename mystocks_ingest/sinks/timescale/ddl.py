"""The statements of each change of structure, as text: pure.

A text of several statements runs as one transaction, so that a change is made whole or not at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date

import pyarrow as pa

from mystocks_ingest.errors import UnsafeChange
from mystocks_ingest.schema.changes import AddColumn, ChangeColumn, SetOption
from mystocks_ingest.schema.structure import ColumnShape, IndexShape, TableShape
from mystocks_ingest.schema.tables import Expression, Moment, Table
from mystocks_ingest.sinks.timescale.defaults import NOW, meant
from mystocks_ingest.sinks.timescale.spelling import literal, quoted

LOCK = 0x6D7973746F636B73
"""The advisory lock under which structure is changed, so that two processes do not make one table twice."""

EXTENSION = "CREATE EXTENSION IF NOT EXISTS timescaledb"
TOUCHED = "mystocks_touched"
"""The function behind MySQL's ON UPDATE CURRENT_TIMESTAMP: a trigger's argument names the column it sets."""

_TOUCH = f"""CREATE OR REPLACE FUNCTION {TOUCHED}() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NEW := jsonb_populate_record(NEW, jsonb_build_object(TG_ARGV[0], now()));
  RETURN NEW;
END $$"""


def script(statements: Sequence[str]) -> list[str]:
    """One text for one transaction; none for none."""
    return [";\n".join(statements)] if statements else []


def divided(table: TableShape) -> str | None:
    """The column by which the table is cut, into chunks or into partitions; None when it is whole."""
    return table.settings.get("hypertable") or table.settings.get("partition")


def compressing(table: TableShape) -> bool:
    return "order_by" in table.settings


# tables ------------------------------------------------------------------------------------------------------------


def create(table: TableShape) -> list[str]:
    """The table with all that belongs to it. Compression comes after it, since not every edition has it."""
    name, options = quoted(table.name), table.settings
    parts = [_definition(c) for c in table.columns]
    if table.key:
        parts.append(f"PRIMARY KEY ({_names(table.key)})")
    time, partition = options.get("hypertable"), options.get("partition")
    by = f" PARTITION BY RANGE ({quoted(partition)})" if partition else ""
    made = [f"CREATE TABLE {name} (\n  " + ",\n  ".join(parts) + f"\n){by}"]
    if partition:  # what lies outside the years one expects must not be refused
        made.append(f"CREATE TABLE {quoted(table.name + '_other')} PARTITION OF {name} DEFAULT")
        if table.key[:1] != (partition,):
            made.append(f"CREATE INDEX ON {name} ({quoted(partition)})")
    if time:
        made.append(hypertable(table))
    made += [index(table, i) for i in table.indexes]
    if table.comment:
        made.append(comment(table))
    made += [_column_comment(table, c) for c in table.columns if c.comment]
    for column in table.columns:
        made += _touch(table, column) if column.touched else []
    if "retention" in options:  # the free edition has no policies
        policy = f"add_retention_policy({literal(name)}, INTERVAL '{options['retention']}')"
        made.append(f"SELECT {policy} WHERE current_setting('timescaledb.license', true) = 'timescale'")
    first = [EXTENSION] if time else []
    after = [compression(table)] if compressing(table) else []
    after += [compression_policy(table)] if "compress_after" in options else []
    return [*first, *script(made), *after]


def hypertable(table: TableShape, *, migrate: bool = False) -> str:
    """Cut the table into chunks; ``migrate``: it holds rows."""
    options = table.settings
    time = options["hypertable"]
    cut = f"by_range({literal(time)}, INTERVAL '{options['chunk']}')"
    own = "false" if table.key[:1] == (time,) else "true"
    moved = ", migrate_data => true" if migrate else ""
    return f"SELECT create_hypertable({literal(quoted(table.name))}, {cut}, create_default_indexes => {own}{moved})"


def compression(table: TableShape) -> str:
    options = table.settings
    segments = literal(_listed(options.get("segment_by", "")))
    order = literal(_listed(options["order_by"]))
    return (
        f"ALTER TABLE {quoted(table.name)} SET (timescaledb.compress, timescaledb.compress_segmentby = {segments}, "
        f"timescaledb.compress_orderby = {order})"
    )


def compression_policy(table: TableShape) -> str:
    age = table.settings["compress_after"]
    return f"SELECT add_compression_policy({literal(quoted(table.name))}, INTERVAL '{age}', if_not_exists => true)"


def unpacked(table: TableShape) -> str:
    """Decompress what is compressed; the policy compresses it again in time."""
    chunks = f"show_chunks({literal(quoted(table.name))})"
    return f"SELECT count(decompress_chunk(c, if_compressed => true)) FROM {chunks} c"  # noqa: S608 - quoted


def option(change: SetOption) -> list[str]:
    """One of what ``create`` sets. Raises UnsafeChange for what can only be had in a table made anew."""
    table, name, value = change.table, literal(quoted(change.table.name)), change.after
    match change.option:
        case "hypertable" if change.before is None and divided(table) == value:
            return [EXTENSION, hypertable(table, migrate=True)]
        case "hypertable" | "partition":
            raise UnsafeChange(f"{table}: {recut(change)}")
        case "chunk":
            return [f"SELECT set_chunk_time_interval({name}, INTERVAL '{value}')"] if value else []
        case "segment_by" | "order_by":
            if compressing(table):
                return [compression(table)]
            if change.option == "segment_by":  # goes with order_by
                return []
            off = f"ALTER TABLE {quoted(table.name)} SET (timescaledb.compress = false)"
            return script([f"SELECT remove_compression_policy({name}, if_exists => true)", unpacked(table), off])
        case "compress_after":
            gone = [f"SELECT remove_compression_policy({name}, if_exists => true)"]
            return script([*(gone if change.before else []), *([compression_policy(table)] if value else [])])
        case "retention":
            gone = [f"SELECT remove_retention_policy({name}, if_exists => true)"] if change.before else []
            new = [f"SELECT add_retention_policy({name}, INTERVAL '{value}')"] if value else []
            return script([*gone, *new])
        case other:
            raise UnsafeChange(f"{table}: PostgreSQL has no option {other}")


def recut(change: SetOption) -> str:
    """Why a table that is cut, or is to be cut otherwise, stays as it is."""
    words = {"hypertable": "hypertable", "partition": "partitioned table"}[change.option]
    there = f"a {words} cut by {change.before}" if change.before else f"no {words}"
    return (
        f"it is {there}, and PostgreSQL cannot change that in place: rename the table, let `schema apply` make the new "
        "one, and copy the rows over (or mind POSTGRESQL_TIMESCALE, by which tables were made hypertables or partitions)"
    )


# columns -----------------------------------------------------------------------------------------------------------


def add_column(change: AddColumn) -> list[str]:
    table, column = change.table, change.column
    default = column.default if compressing(table) and column.nullable else None
    later = default is not None and not constant(default)
    made = [f"ALTER TABLE {quoted(table.name)} ADD COLUMN {_definition(column, default=not later)}"]
    if default is not None and later:  # TimescaleDB takes constants only; rows that are there have no moment anyway
        made.append(f"{_alter(table, column)} SET DEFAULT {_default(default)}")
    made += [_column_comment(table, column)] if column.comment else []
    return script([*made, *(_touch(table, column) if column.touched else [])])


def drop_column(table: TableShape, column: ColumnShape) -> list[str]:
    freed = [compression(table)] if compressing(table) else []  # it may be one of those that sort or segment
    freed += [_untouch(table, column)] if column.touched else []
    return script([*freed, f"ALTER TABLE {quoted(table.name)} DROP COLUMN {quoted(column.name)}"])


def change_column(change: ChangeColumn, *, safely: bool, packed: bool) -> list[str]:
    """``safely``: the old values are values of the new type. ``packed``: some chunk is compressed."""
    return script(list(_altered(change, safely=safely, packed=packed)))


def _altered(change: ChangeColumn, *, safely: bool, packed: bool) -> Iterator[str]:
    table, before, after = change.table, change.before, change.after
    alter = _alter(table, after)
    retyped = before.type != after.type
    if packed and retyped:
        yield unpacked(table)
    if before.touched and (retyped or not after.touched):
        yield _untouch(table, after)
    if before.numbered and not after.numbered:  # counted up by IDENTITY, or by SERIAL's default
        yield f"{alter} DROP IDENTITY IF EXISTS"
        yield f"{alter} DROP DEFAULT"
    elif before.default is not None and (retyped or after.default is None):
        yield f"{alter} DROP DEFAULT"
    if retyped:
        yield f"{alter} TYPE {after.type}" + ("" if safely else f" USING {quoted(after.name)}::{after.type}")
    if after.default is not None and (retyped or before.default != after.default):
        yield f"{alter} SET DEFAULT {_default(after.default)}"
    if before.nullable != after.nullable:
        yield f"{alter} {'DROP' if after.nullable else 'SET'} NOT NULL"
    if after.numbered and not before.numbered:
        yield f"{alter} ADD GENERATED BY DEFAULT AS IDENTITY"
        name, column = quoted(table.name), quoted(after.name)
        counter = f"pg_get_serial_sequence({literal(name)}, {literal(after.name)})"
        yield f"SELECT setval({counter}, coalesce(max({column}), 0) + 1, false) FROM {name}"  # noqa: S608 - quoted
    if after.touched and (retyped or not before.touched):
        yield from _touch(table, after)
    if before.comment != after.comment:
        yield _column_comment(table, after)


def constant(default: str) -> bool:
    return meant(default) is not Moment.NOW and not isinstance(meant(default), Expression)


def _default(default: str) -> str:
    """An expression needs brackets, where it is more than a constant or a call."""
    return default if constant(default) or default == NOW else f"({default})"


def _definition(column: ColumnShape, *, default: bool = True) -> str:
    parts = [quoted(column.name), column.type]
    if column.numbered:
        parts.append("GENERATED BY DEFAULT AS IDENTITY")
    elif default and column.default is not None:
        parts.append(f"DEFAULT {_default(column.default)}")
    return " ".join(parts if column.nullable else [*parts, "NOT NULL"])


def _alter(table: TableShape, column: ColumnShape) -> str:
    return f"ALTER TABLE {quoted(table.name)} ALTER COLUMN {quoted(column.name)}"


def _trigger(column: ColumnShape) -> str:
    return f"touched_{column.name}"


def _untouch(table: TableShape, column: ColumnShape) -> str:
    return f"DROP TRIGGER IF EXISTS {quoted(_trigger(column))} ON {quoted(table.name)}"


def _touch(table: TableShape, column: ColumnShape) -> list[str]:
    """As in MySQL: set when the row has changed, and not when the statement has set it."""
    name = quoted(column.name)
    return [
        _TOUCH,
        (
            f"CREATE TRIGGER {quoted(_trigger(column))} BEFORE UPDATE ON {quoted(table.name)} FOR EACH ROW "
            f"WHEN (OLD.* *<> NEW.* AND OLD.{name} IS NOT DISTINCT FROM NEW.{name}) "
            f"EXECUTE FUNCTION {TOUCHED}({literal(column.name)})"
        ),
    ]


# keys, indexes, comments -------------------------------------------------------------------------------------------


def change_key(table: TableShape, before: Sequence[str], after: Sequence[str]) -> list[str]:
    """The old key is found by what it is, since whoever made it chose its name."""
    name = quoted(table.name)
    drop = f"""DO $$
BEGIN
  EXECUTE (
    SELECT format('ALTER TABLE %s DROP CONSTRAINT %I', conrelid::regclass, conname)
    FROM pg_constraint WHERE conrelid = {literal(name)}::regclass AND contype = 'p'
  );
END $$"""  # noqa: S608 - quoted
    add = f"ALTER TABLE {name} ADD PRIMARY KEY ({_names(after)})"
    return script([*([drop] if before else []), *([add] if after else [])])


def index(table: TableShape, wanted: IndexShape) -> str:
    unique = "UNIQUE " if wanted.unique else ""
    return f"CREATE {unique}INDEX {quoted(wanted.name)} ON {quoted(table.name)} ({_listed(', '.join(wanted.columns))})"


def drop_index(table: TableShape, found: IndexShape) -> list[str]:
    """A unique one may belong to a constraint, which then goes in its place."""
    gone = f"ALTER TABLE {quoted(table.name)} DROP CONSTRAINT IF EXISTS {quoted(found.name)}"
    return script([*([gone] if found.unique else []), f"DROP INDEX IF EXISTS {quoted(found.name)}"])


def comment(table: TableShape) -> str:
    return f"COMMENT ON TABLE {quoted(table.name)} IS {literal(table.comment) if table.comment else 'NULL'}"


def _column_comment(table: TableShape, column: ColumnShape) -> str:
    said = literal(column.comment) if column.comment else "NULL"
    return f"COMMENT ON COLUMN {quoted(table.name)}.{quoted(column.name)} IS {said}"


def _names(columns: Sequence[str]) -> str:
    return ", ".join(quoted(c) for c in columns)


def _listed(columns: str) -> str:
    """``day DESC, symbol`` with its names quoted."""
    parts = [part.strip().partition(" ") for part in columns.split(",") if part.strip()]
    return ", ".join(f"{quoted(name)}{space}{way}" for name, space, way in parts)


# native partitions, which the sink makes as rows need them --------------------------------------------------------

FIRST_YEAR, LAST_YEAR = 1970, 2099
"""Native partitions are made for these years; the default partition takes what lies outside."""


def timed(table: Table) -> bool:
    """Whether the table is cut by moments, not by days."""
    return table.time_column is not None and pa.types.is_timestamp(table.schema.field(table.time_column).type)


def period(table: Table, day: date) -> date:
    """The first day of the native partition that holds ``day``: of its year, or of its month for moments."""
    return day.replace(day=1) if timed(table) else day.replace(month=1, day=1)


def partition(table: Table, start: date) -> str:
    """The statement that makes the native partition beginning at ``start``."""
    if timed(table):
        end = start.replace(year=start.year + start.month // 12, month=start.month % 12 + 1)
        name = f"{table.name}_{start:%Y%m}"
    else:
        end = start.replace(year=start.year + 1)
        name = f"{table.name}_{start:%Y}"
    zone = "+00" if table.time_column and getattr(table.schema.field(table.time_column).type, "tz", None) else ""
    clock = f" 00:00:00{zone}" if timed(table) else ""
    return (
        f"CREATE TABLE IF NOT EXISTS {quoted(name)} PARTITION OF {quoted(table.name)} "
        f"FOR VALUES FROM ('{start}{clock}') TO ('{end}{clock}')"
    )
