"""Rows on their way into TDengine: proven, brought to its types, grouped by sub table. Pure, by Arrow's kernels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mystocks_ingest.errors import Rejected
from mystocks_ingest.sinks.tdengine.names import sub_table
from mystocks_ingest.sinks.tdengine.shape import Precision, Shape, Stored

BATCH_ROWS = 50_000
TABLE_ROWS = 32_767  # of one table in one bind; one more is refused (0x0236)
PER_SECOND = {"ms": 10**3, "us": 10**6, "ns": 10**9}
_LATEST_SECOND = {"ms": 31_556_995_200, "us": 31_556_995_200, "ns": 9_214_646_400}  # 2970-01-01, 2262-01-01
_MARGIN = timedelta(minutes=1)  # rows sent now must still be within KEEP when they arrive


@dataclass(frozen=True, slots=True)
class Slice:
    """What one call of the child binds: of each sub table its name, its tags and rows ``cuts[i]:cuts[i + 1]``."""

    rows: pa.RecordBatch
    cuts: list[int]
    names: list[str | None]
    tags: list[list[object]]


@dataclass(frozen=True, slots=True)
class Bounds:
    """The times a database takes, as epoch numbers of its precision, both ends included."""

    first: int
    last: int
    keep_days: int

    @classmethod
    def of(cls, precision: Precision, keep_days: int, now: datetime) -> Bounds:
        unit = PER_SECOND[precision]
        first = (now + _MARGIN - timedelta(days=keep_days) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(seconds=1)
        return cls(first * unit, _LATEST_SECOND[precision] * unit, keep_days)


def prepared(made: Shape, rows: pa.RecordBatch, bounds: Bounds) -> pa.RecordBatch:
    """The columns of ``rows`` in the types of the wire, tags last. Raises Rejected: what is in the rows, and where.

    NaN becomes NULL, which TDengine would store as NaN and spoil every aggregate.
    """
    table = made.table
    for column in table.columns:
        needed = not column.nullable or column.name in table.key
        if needed and column.name in rows.schema.names and rows.column(column.name).null_count:
            raise Rejected(f"{table.name}: {column.name} is null, and it may not be")
    missing = [k for k in table.key if k not in rows.schema.names]
    if missing:
        raise Rejected(f"{table.name}: the rows lack {', '.join(missing)} of its key")
    kept = [c for c in (*made.columns, *made.tags) if c.name in rows.schema.names]
    columns = [_converted(table.name, rows.column(c.name), c) for c in kept]
    span = pc.min_max(columns[0].cast(pa.int64()))
    if rows.num_rows and (span["min"].as_py() < bounds.first or span["max"].as_py() > bounds.last):
        outside = span["min"].as_py() if span["min"].as_py() < bounds.first else span["max"].as_py()
        raise Rejected(
            f"{table.name}: {made.time} {_day(outside, made.precision)} is outside what database "
            f"{table.database_name} keeps: {_day(bounds.first, made.precision)} (KEEP {bounds.keep_days} days) to "
            f"{_day(bounds.last, made.precision)}"
        )
    return pa.RecordBatch.from_arrays(columns, names=[c.name for c in kept])


def slices(made: Shape, rows: pa.RecordBatch, *, step: int = BATCH_ROWS) -> Iterator[Slice]:
    """``rows`` (as ``prepared`` made them) grouped by sub table, in parts of at most ``step`` rows.

    No part has more than ``TABLE_ROWS`` of one table, however many times it would be named.
    """
    codes, order = _grouped(rows, made.key_tags)
    if order is not None:
        rows, codes = rows.take(pa.array(order)), codes[order]
    tags = [t.name for t in made.tags if t.name in rows.schema.names]
    values = rows.select([n for n in rows.schema.names if n not in tags])
    start = 0
    while start < rows.num_rows:
        part = codes[start : start + step]
        changes = (np.flatnonzero(part[1:] != part[:-1]) + 1).tolist()
        cuts = _short_enough([0, *changes, len(part)])
        lasts = pa.array([start + cut - 1 for cut in cuts[1:]], pa.int64())  # the later row's attributes stand
        held = [_tag_values(rows.column(n).take(lasts)) for n in tags]
        key = [held[tags.index(n)] for n in made.key_tags]
        names: list[str | None] = [None] * (len(cuts) - 1)
        if tags:
            names = [sub_table(made.table.name, *parts) for parts in zip(*key, strict=True)]
        yield Slice(values.slice(start, cuts[-1]), cuts, names, [list(t) for t in zip(*held, strict=True)])
        start += cuts[-1]


def _short_enough(cuts: list[int]) -> list[int]:
    """The cuts up to the first table that has too many rows, of which as many as one bind takes."""
    found = [0]
    for cut in cuts[1:]:
        if cut - found[-1] > TABLE_ROWS:
            return [*found, found[-1] + TABLE_ROWS]
        found.append(cut)
    return found


def _grouped(rows: pa.RecordBatch, tags: tuple[str, ...]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.intp] | None]:
    """A number per row for its sub table, and the order that brings equal ones together (None: they are)."""
    codes = np.zeros(rows.num_rows, np.int64)
    for name in tags:
        column = rows.column(name)
        encoded = column.dictionary_encode()
        codes = codes * max(len(encoded.dictionary), 1) + encoded.indices.to_numpy(zero_copy_only=False)
    changes = int(np.count_nonzero(codes[1:] != codes[:-1]))
    if changes < len(np.unique(codes)):
        return codes, None
    return codes, np.argsort(codes, kind="stable")


def _converted(table: str, column: pa.Array, into: Stored) -> pa.Array:
    if pa.types.is_floating(column.type) and pc.any(pc.is_nan(column)).as_py():
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
    if pa.types.is_timestamp(column.type) and column.type.tz is not None:
        column = column.cast(pa.timestamp(column.type.unit))  # the same number: Arrow keeps UTC inside
    if column.type != into.arrow:
        try:
            column = column.cast(into.arrow, safe=not pa.types.is_float32(into.arrow))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as exc:
            raise Rejected(f"{table}: {into.name} does not fit {into.sql}: {str(exc).splitlines()[0]}") from exc
    if into.length is not None and len(column):
        measured = pc.utf8_length(column) if into.word == "NCHAR" else pc.binary_length(column)
        longest = pc.max(measured).as_py() or 0
        if longest > into.length:
            unit = "characters" if into.word == "NCHAR" else "bytes (a Chinese character has 3)"
            raise Rejected(f"{table}: {into.name} has {longest} {unit}, and {into.sql} holds {into.length}")
    return column


def _tag_values(column: pa.Array) -> list[object]:
    """Tags as they cross in JSON."""
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    elif pa.types.is_decimal(column.type):
        column = column.cast(pa.string())
    return column.to_pylist()  # type: ignore[no-any-return]


def _day(epoch: int, precision: Precision) -> str:
    """An epoch number as a date, whatever its size."""
    day = np.datetime64(epoch // PER_SECOND[precision], "s").astype("datetime64[D]")
    return str(day)
