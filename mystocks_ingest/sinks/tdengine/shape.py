"""How a table of ``tables.yaml`` is laid out in TDengine: types, key, sub tables. Pure.

TDengine knows no NOT NULL and no DEFAULT; a DATE is stored as the TIMESTAMP of its midnight UTC, a time without a
zone as if it were UTC. One precision holds for every TIMESTAMP of a database. The statements that make and change
tables are dialect.py's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import pyarrow as pa

from mystocks_ingest.errors import ConfigError
from mystocks_ingest.schema.tables import Column, Table
from mystocks_ingest.schema.types import WORDS, Family
from mystocks_ingest.sinks.tdengine.names import listed, quoted

Precision = Literal["ms", "us", "ns"]
PRECISIONS: tuple[Precision, ...] = ("ms", "us", "ns")
TEXT_LENGTH = 4_096  # of words that name none: TEXT, JSON, BLOB
_INTEGERS = {
    "TINYINT": ("TINYINT", pa.int8()),
    "SMALLINT": ("SMALLINT", pa.int16()),
    "BIGINT": ("BIGINT", pa.int64()),
    "TINYINT UNSIGNED": ("TINYINT UNSIGNED", pa.uint8()),
    "SMALLINT UNSIGNED": ("SMALLINT UNSIGNED", pa.uint16()),
    "MEDIUMINT UNSIGNED": ("INT UNSIGNED", pa.uint32()),
    "INT UNSIGNED": ("INT UNSIGNED", pa.uint32()),
    "INTEGER UNSIGNED": ("INT UNSIGNED", pa.uint32()),
    "BIGINT UNSIGNED": ("BIGINT UNSIGNED", pa.uint64()),
    "SMALLSERIAL": ("SMALLINT", pa.int16()),
    "BIGSERIAL": ("BIGINT", pa.int64()),
}
_KEY_TYPES = frozenset({"INT", "INT UNSIGNED", "BIGINT", "BIGINT UNSIGNED", "VARCHAR"})
_LENGTHS = {"UUID": 36}


@dataclass(frozen=True, slots=True)
class Stored:
    """A column as the database has it. ``length``: bytes of VARCHAR and VARBINARY, characters of NCHAR.

    ``arrow`` is the type in which its values cross to and from the child process.
    """

    name: str
    word: str
    arrow: pa.DataType
    length: int | None = None

    @property
    def sql(self) -> str:
        if pa.types.is_decimal(self.arrow):
            return f"DECIMAL({self.arrow.precision}, {self.arrow.scale})"
        return self.word if self.length is None else f"{self.word}({self.length})"


def stored(column: Column, precision: Precision) -> Stored:
    """TDengine's type for a column, by the word in the file."""
    name, word = column.name, column.type
    chosen = max((len(value.encode()) for value in column.values), default=0)  # of an ENUM
    length = column.length or chosen or _LENGTHS.get(word, TEXT_LENGTH)
    match WORDS[word]:
        case Family.TEXT if word in ("NCHAR", "NVARCHAR"):
            return Stored(name, "NCHAR", pa.string(), length)
        case Family.TEXT | Family.JSON:
            return Stored(name, "VARCHAR", pa.string(), length)
        case Family.BYTES:
            return Stored(name, "VARBINARY", pa.binary(), length)
        case Family.INTEGER:
            return Stored(name, *_INTEGERS.get(word, ("INT", pa.int32())))
        case Family.REAL:
            short = word in ("FLOAT", "REAL", "FLOAT4")
            return Stored(name, "FLOAT", pa.float32()) if short else Stored(name, "DOUBLE", pa.float64())
        case Family.DECIMAL:
            digits, scale = column.precision or 18, column.scale
            return Stored(
                name, "DECIMAL", pa.decimal128(digits, (0 if column.precision else 6) if scale is None else scale)
            )
        case Family.BOOLEAN:
            return Stored(name, "BOOL", pa.bool_())
        case Family.DAY | Family.MOMENT:
            return Stored(name, "TIMESTAMP", pa.timestamp(precision))


@dataclass(frozen=True)
class Shape:
    """A table's columns in TDengine's order: the time, the second part of a composite key, the others; then tags.

    ``key_tags`` name the sub table; other tags are attributes that a later row may change.
    """

    table: Table
    precision: Precision
    columns: tuple[Stored, ...]
    tags: tuple[Stored, ...]
    second: str | None

    @property
    def time(self) -> str:
        return self.columns[0].name

    @property
    def key_tags(self) -> tuple[str, ...]:
        return tuple(t.name for t in self.tags if t.name in self.table.key)

    @property
    def attributes(self) -> tuple[str, ...]:
        return tuple(t.name for t in self.tags if t.name not in self.table.key)

    @property
    def name(self) -> str:
        return quoted(self.table.database_name, self.table.name)


@lru_cache(maxsize=1024)
def shape(table: Table, precision: Precision) -> Shape:
    """Raises ConfigError for a table that TDengine cannot hold."""
    if not table.key:
        raise ConfigError(
            f"{table.where or table.name}: table {table.name} has no key, so nothing can be written to it without "
            "doubling rows: add `key: [...]` to it"
        )
    tags = [c for c in table.columns if c.is_tag]
    values = [c for c in table.columns if not c.is_tag]
    parts = [k for k in table.key if k not in {c.name for c in tags}]
    where = f"{table.where or table.name}: table {table.name}"
    if not values or stored(values[0], precision).word != "TIMESTAMP" or values[0].name not in parts:
        raise ConfigError(f"{where}: in TDengine the first column must be a TIMESTAMP and belong to the key")
    if tags and not any(t.name in table.key for t in tags):
        raise ConfigError(f"{where}: the key of a super table must hold a tag, for its rows live in a table per tag")
    if len(parts) > 2:
        raise ConfigError(
            f"{where}: beside tags TDengine's key is the time and at most one more column, not {', '.join(parts[1:])}: "
            "make one of them a tag"
        )
    if len(values) < 2:
        raise ConfigError(f"{where}: TDengine keeps no table without a column beside its time: add one")
    second = next((p for p in parts if p != values[0].name), None)
    laid = [values[0], *(c for c in values if c.name == second), *(c for c in values[1:] if c.name != second)]
    columns = tuple(stored(c, precision) for c in laid)
    if second is not None and columns[1].word not in _KEY_TYPES:
        raise ConfigError(f"{where}: column {second} of the key must be INT, BIGINT or VARCHAR in TDengine")
    held = tuple(stored(t, precision) for t in tags)
    if odd := [t.name for t in held if t.word in ("DECIMAL", "VARBINARY")]:
        raise ConfigError(f"{where}: tag {odd[0]} must be a text, a whole number, a DOUBLE, a BOOLEAN or a time")
    return Shape(table, precision, columns, held, second)


def finest(tables: Iterable[Table]) -> Precision:
    """The precision that holds every time of ``tables`` without loss."""
    units = {c.arrow.unit for t in tables for c in t.columns if pa.types.is_timestamp(c.arrow)}
    return next((p for p in reversed(PRECISIONS) if p in units), "ms")


def insert(made: Shape, names: Sequence[str]) -> str:
    """The statement that stmt2 prepares; ``names`` of the columns the rows have, tags among them."""
    columns = [c.name for c in made.columns if c.name in names]
    marks = ", ".join("?" * len(columns))
    if not made.tags:
        return f"INSERT INTO {made.name} ({listed(columns)}) VALUES ({marks})"  # noqa: S608 - names are quoted
    tags = [t.name for t in made.tags if t.name in names]
    given = f"({listed(tags)}) TAGS ({', '.join('?' * len(tags))})"
    return f"INSERT INTO ? USING {made.name} {given} ({listed(columns)}) VALUES ({marks})"  # noqa: S608 - likewise
