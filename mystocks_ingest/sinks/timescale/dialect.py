"""What PostgreSQL's catalogue shows of a table of the file, what fits into what, and the way back: pure.

Left out of a shape, since PostgreSQL has no such thing: lengths of moments, the values of an ENUM, how long rows of a
natively partitioned table are kept. ON UPDATE CURRENT_TIMESTAMP is a trigger. The index on the time column of a table
that is cut by it is the table's own business: always there, never compared.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import assert_never

import pyarrow as pa

from mystocks_ingest.errors import UnsafeChange
from mystocks_ingest.schema.changes import (
    AddColumn,
    AddIndex,
    Change,
    ChangeColumn,
    ChangeKey,
    CreateDatabase,
    CreateTable,
    DropColumn,
    DropIndex,
    DropTable,
    SetComment,
    SetOption,
)
from mystocks_ingest.schema.diff import Fit
from mystocks_ingest.schema.structure import ColumnShape, IndexShape, TableShape
from mystocks_ingest.schema.tables import Column, Database, Index, Storage, Table
from mystocks_ingest.sinks.timescale import ddl
from mystocks_ingest.sinks.timescale.defaults import meant, spelled
from mystocks_ingest.sinks.timescale.spelling import length_of, parted, quoted, span, sql_type

_OF_HYPERTABLES = frozenset({"chunk", "segment_by", "order_by", "compress_after", "retention"})
_LONGEST_NAME = 63  # bytes; PostgreSQL cuts the rest off without a word


@dataclass(frozen=True)
class PostgreSQLDialect:
    """schema.diff.Dialect of one server.

    ``database`` stands in place of the tables' own; ``timescale``: hypertables, else native partitions. ``limited`` are
    databases whose TimescaleDB is the edition without compression and policies; ``packed`` names (database, table) of
    hypertables that have compressed chunks, whose columns keep their types until those are unpacked; ``whole`` those of
    tables that are no hypertables.
    """

    timescale: bool = True
    database: str | None = None
    limited: frozenset[str] = frozenset()
    packed: frozenset[tuple[str, str]] = frozenset()
    whole: frozenset[tuple[str, str]] = frozenset()

    def shape(self, table: Table) -> TableShape:
        database = self.database or table.database_name
        options = self._options(table, database)
        cut = options.get("hypertable") or options.get("partition")
        indexes = [
            IndexShape(_index_name(table, i), tuple(_way(c) for c in i.columns), unique=i.unique)
            for i in table.indexes
            if i.unique or cut is None or {c.split()[0] for c in i.columns} != {cut}
        ]
        return TableShape(
            database,
            table.name,
            tuple(_column(c, key=c.name in table.key) for c in table.columns),
            table.key,
            tuple(sorted(indexes, key=lambda i: i.name)),
            comment=table.comment,
            options=tuple(options.items()),
        )

    def _options(self, table: Table, database: str) -> dict[str, str]:
        time, storage = table.time_column, table.storage
        if not table.is_timescale_hypertable or time is None:
            return {}
        if not self.timescale:
            return {"partition": time}
        usual = chunks(table)
        options = {"hypertable": time, "chunk": span(storage.chunk or usual.interval)}
        if database in self.limited:
            return options
        if storage.compress is not False:
            kinds = table.schema
            texts = tuple(k for k in table.key if k != time and pa.types.is_string(kinds.field(k).type))
            segments = storage.segment_by or texts
            rest = (time, *(k for k in table.key if k not in (*segments, time)))
            order = tuple(_way(c) for c in storage.order_by) or rest
            options |= {"segment_by": ", ".join(segments)} if segments else {}
            options |= {"order_by": ", ".join(order)}
            options |= {"compress_after": span(storage.compress_after or usual.compress_after)}
        return options | ({"retention": span(storage.retention)} if storage.retention else {})

    def fit(self, before: str, after: str) -> Fit:
        if before == after:
            return Fit.SAME
        (old, size), (new, room) = parted(before), parted(after)
        if _text_room(old, size) and _text_room(new, room):
            wider = _text_room(new, room) >= _text_room(old, size)
        elif new == "numeric" and (digits := _digits(old, size)) is not None:
            scale = room[1] if len(room) > 1 else 0
            wider = not room or (scale >= digits[1] and room[0] - scale >= digits[0])
        else:
            wider = new in _WIDER.get(old, ()) or (old == new and "time" in old and (not room or room >= size > ()))
        return Fit.WIDER if wider else Fit.LOSSY

    def hazard(self, change: Change) -> str:
        table = change.table
        cut = ddl.divided(table) if table is not None else None
        match change:
            case SetOption(option=option) if option in _OF_HYPERTABLES and self._elsewhere(change.table):
                return "that goes with a hypertable, and it is one only in the file, or only in the database"
            case SetOption(option="retention", before=before, after=after) if after is not None:
                if before is None or length_of(after) < length_of(before):
                    return f"rows older than {after} would be deleted"
            case SetOption(option="hypertable", before=None, after=after) if after is not None:
                return (
                    _unkeyed(change.table)
                    or "all its rows are moved into chunks, and nobody reads or writes it meanwhile"
                )
            case SetOption(option="hypertable" | "partition"):
                return ddl.recut(change)
            case SetOption(option="order_by", after=None) if self._packed(change.table):
                return "its compressed chunks would be unpacked, which takes time and room"
            case CreateTable():
                return _unkeyed(change.table)
            case ChangeKey(after=key) if cut is not None and key and cut not in key:
                return _unkeyed(change.table)
            case AddIndex(index=index) if cut is not None:
                return _unique(index, cut)
            case AddColumn(column=column) if cut is not None:
                return _unaddable(change.table, column)
            case ChangeColumn(before=old, after=new) if old.type != new.type and new.name == cut:
                return "the table is cut by this column: make a new table and copy the rows over"
            case ChangeColumn(before=old, after=new) if old.type != new.type and self._packed(change.table):
                return "its compressed chunks would be unpacked, which takes time and room"
            case ChangeColumn(before=old, after=new) if new.numbered and not old.numbered and cut is not None:
                return "PostgreSQL cannot number the rows of a table that is cut by time: make a new table"
            case _:
                pass
        return ""

    def _elsewhere(self, table: TableShape) -> bool:
        """Whether the table is a hypertable where it is not to be one, or the other way round."""
        return "hypertable" not in table.settings or (table.database, table.name) in self.whole

    def _packed(self, table: TableShape) -> bool:
        return (table.database, table.name) in self.packed

    def ddl(self, change: Change) -> list[str]:
        match change:
            case CreateDatabase(database=name):
                return [f"CREATE DATABASE {quoted(name)} ENCODING 'UTF8' TEMPLATE template0"]
            case CreateTable(table=table):
                if why := _unkeyed(table):
                    raise UnsafeChange(f"{table}: {why}")
                return ddl.create(table)
            case DropTable(table=table):
                return [f"DROP TABLE {quoted(table.name)}"]
            case AddColumn(table=table, column=column):
                if ddl.divided(table) and (why := _unaddable(table, column)):
                    raise UnsafeChange(f"{table}: {why}")
                return ddl.add_column(change)
            case DropColumn(table=table, column=column):
                return ddl.drop_column(table, column)
            case ChangeColumn(table=table, before=before, after=after):
                safely = self.fit(before.type, after.type) is not Fit.LOSSY
                return ddl.change_column(change, safely=safely, packed=self._packed(table) or ddl.compressing(table))
            case ChangeKey(table=table, before=old, after=new):
                return ddl.change_key(table, old, new)
            case AddIndex(table=table, index=index):
                return [ddl.index(table, index)]
            case DropIndex(table=table, index=index):
                return ddl.drop_index(table, index)
            case SetComment(table=table):
                return [ddl.comment(table)]
            case SetOption():
                return ddl.option(change)
            case _:
                assert_never(change)

    def table(self, shape: TableShape) -> Table:
        options = shape.settings
        cut = ddl.divided(shape)
        spans = {name: length_of(options[name]) for name in ("chunk", "compress_after", "retention") if name in options}
        storage = Storage(
            chunk=spans.get("chunk"),
            compress=None if "order_by" in options or "hypertable" not in options else False,
            compress_after=spans.get("compress_after"),
            segment_by=_list(options.get("segment_by", "")),
            order_by=_list(options.get("order_by", "")),
            retention=spans.get("retention"),
        )
        return Table(
            shape.name,
            Database.POSTGRESQL,
            shape.database,
            tuple(_written(c) for c in shape.columns),
            shape.key,
            time_column=cut,
            is_timescale_hypertable=cut is not None,
            comment=shape.comment,
            indexes=tuple(Index(i.name, i.columns, i.unique) for i in shape.indexes),
            storage=storage,
        )


# shapes ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Chunks:
    """How a hypertable is cut and compressed where the file does not say.

    Compression begins beyond the window in which vendors correct their data, since every later write into a
    compressed chunk has to unpack what it touches.
    """

    interval: timedelta
    compress_after: timedelta


def chunks(table: Table) -> Chunks:
    """About a million rows a chunk for daily data of the whole market, and for minutes and ticks."""
    interval, age = (7, 30) if ddl.timed(table) else (180, 400)
    return Chunks(timedelta(interval), timedelta(age))


def _column(column: Column, *, key: bool) -> ColumnShape:
    kind = sql_type(column)
    return ColumnShape(
        column.name,
        kind,
        nullable=column.nullable and not key and not column.numbered,
        default=None if column.numbered else spelled(column.default, kind),
        comment=column.comment,
        numbered=column.numbered,
        touched=column.touched,
    )


def _way(column: str) -> str:
    """``trade_date desc`` as the catalogue has it; ascending is said by saying nothing."""
    name, _, way = column.strip().partition(" ")
    way = " ".join(w for w in way.upper().split() if w != "ASC")
    return f"{name} {way}" if way else name


def _index_name(table: Table, index: Index) -> str:
    """Names of indexes are unique in a whole database here, in a table elsewhere: the table's name goes before."""
    name = index.name if table.name in index.name else f"{table.name}_{index.name}"
    if len(name.encode()) <= _LONGEST_NAME:
        return name
    mark = hashlib.sha1(name.encode(), usedforsecurity=False).hexdigest()[:8]
    return f"{name.encode()[: _LONGEST_NAME - 9].decode(errors='ignore')}_{mark}"


# what cannot be, and why -------------------------------------------------------------------------------------------


def _unkeyed(table: TableShape) -> str:
    cut = ddl.divided(table)
    if cut is None:
        return ""
    if table.key and cut not in table.key:
        return f"its rows are cut by {cut}, which must then be part of the key: add {cut} to `key`"
    return next((why for i in table.indexes if (why := _unique(i, cut))), "")


def _unique(index: IndexShape, cut: str) -> str:
    if not index.unique or cut in {c.split()[0] for c in index.columns}:
        return ""
    return f"index {index.name} can only be unique together with {cut}, by which the rows are cut: add {cut} to it"


def _unaddable(table: TableShape, column: ColumnShape) -> str:
    if column.numbered:
        return f"PostgreSQL cannot number the rows of a table that is cut by time: leave column {column.name} out"
    moving = column.default is not None and not ddl.constant(column.default)
    if ddl.compressing(table) and moving and not column.nullable:
        return f"rows that are there would have no value for {column.name}: let it be null, or give it a constant"
    return ""


# types -------------------------------------------------------------------------------------------------------------

_WIDER: Mapping[str, tuple[str, ...]] = {
    "smallint": ("integer", "bigint", "double precision", "real"),
    "integer": ("bigint", "double precision"),
    "real": ("double precision",),
    "date": ("timestamp without time zone",),
    "json": ("text",),
    "jsonb": ("json", "text"),
    "uuid": ("text", "character varying"),
}
_DIGITS: Mapping[str, tuple[int, int]] = {"smallint": (5, 0), "integer": (10, 0), "bigint": (19, 0)}
_BOUNDLESS = 1 << 30


def _text_room(name: str, size: tuple[int, ...]) -> int:
    """How many characters a text type holds; 0 for another type."""
    if name in ("text", "character varying") and not size:
        return _BOUNDLESS
    return size[0] if name in ("character varying", "character") and size else 0


def _digits(name: str, size: tuple[int, ...]) -> tuple[int, int] | None:
    """How many digits stand before and after the point; None for a type without a bound, or of no numbers."""
    if name == "numeric" and size:
        scale = size[1] if len(size) > 1 else 0
        return size[0] - scale, scale
    return _DIGITS.get(name)


_WORDS: Mapping[str, str] = {
    "smallint": "SMALLINT",
    "integer": "INT",
    "bigint": "BIGINT",
    "real": "FLOAT",
    "double precision": "DOUBLE",
    "numeric": "NUMERIC",
    "boolean": "BOOLEAN",
    "date": "DATE",
    "timestamp without time zone": "TIMESTAMP",
    "timestamp with time zone": "TIMESTAMPTZ",
    "json": "JSON",
    "jsonb": "JSONB",
    "bytea": "BYTEA",
    "uuid": "UUID",
    "text": "TEXT",
}


def _written(column: ColumnShape) -> Column:
    """A column in the file's words; what the file has no word for is text."""
    name, size = parted(column.type)
    sized = name in ("character varying", "character") and bool(size)
    word = "VARCHAR" if sized else _WORDS.get(name, "TEXT")
    numeric = word == "NUMERIC" and bool(size)
    return Column(
        column.name,
        word,
        length=size[0] if sized else None,
        precision=size[0] if numeric else None,
        scale=(size[1] if len(size) > 1 else 0) if numeric else None,
        nullable=column.nullable,
        default=meant(column.default),
        comment=column.comment,
        numbered=column.numbered,
        touched=column.touched,
    )


def _list(text: str) -> tuple[str, ...]:
    return tuple(re.split(r",\s*", text)) if text else ()
