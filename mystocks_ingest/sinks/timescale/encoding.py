"""Arrow to PostgreSQL and back, by column: COPY's binary form on the way in, its CSV form on the way out."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import date
from uuid import UUID

import pgpq
import pyarrow as pa
import pyarrow.compute as pc
from pgpq.encoders import StringEncoderBuilder
from pgpq.schema import Jsonb
from pyarrow import csv

from mystocks_ingest.errors import Rejected
from mystocks_ingest.schema.tables import Column, Table
from mystocks_ingest.schema.types import WORDS, Family
from mystocks_ingest.sinks.timescale.spelling import quoted, sql_type

_SLICE = 6_000  # rows encoded at a time: some 2 ms, in a thread that no other may interrupt; about 500 KB
_ENCODING = threading.Lock()
_PIECE = 1 << 17  # bytes handed to the socket at a time
_EPOCH_DAYS = 10_957  # from 1970-01-01 to 2000-01-01, where PostgreSQL counts from
_UNSCALED = 10  # decimals kept of a float in a NUMERIC column that says no scale


def wire_type(column: Column) -> pa.DataType:
    """The Arrow type in which the column's values travel: what the database's column holds, not what we hold."""
    family, kind, stored = WORDS[column.type], column.arrow, sql_type(column)
    if family is Family.DECIMAL and not pa.types.is_decimal(kind):
        return pa.decimal128(38, (column.scale or 0) if column.precision else _UNSCALED)
    if family is Family.INTEGER:
        return _WHOLE[stored]
    if stored == "uuid":
        return pa.binary()  # its sixteen bytes, which is how COPY has it
    if family is Family.MOMENT:
        return pa.timestamp("us")  # UTC where the column has a zone
    if pa.types.is_date(kind):
        return pa.date32()
    return kind


_WHOLE = {
    "smallint": pa.int16(),
    "integer": pa.int32(),
    "bigint": pa.int64(),
    "numeric(20,0)": pa.decimal128(20, 0),
}


def wired(rows: pa.RecordBatch, columns: Sequence[Column]) -> pa.RecordBatch:
    """``rows`` reduced to ``columns`` in their wire types. Raises Rejected when a value does not fit."""
    arrays = []
    for column in columns:
        array = rows.column(column.name)
        wanted = wire_type(column)
        try:
            if column.type == "UUID":
                array = _identities(array)
            if pa.types.is_timestamp(array.type) and array.type.tz is not None:
                array = array.cast(pa.timestamp(array.type.unit, "UTC")).cast(pa.timestamp(array.type.unit))
            arrays.append(array if array.type == wanted else pc.cast(array, wanted))
        except (pa.ArrowInvalid, ValueError) as exc:
            raise Rejected(f"{column.name}: {exc}") from exc
    return pa.RecordBatch.from_arrays(arrays, schema=_wire_schema(columns))


def _identities(texts: pa.Array) -> pa.Array:
    """UUIDs as bytes. Raises ValueError for what is none."""
    digits = pc.replace_substring(texts, "-", "")
    if pc.any(pc.not_equal(pc.utf8_length(digits), 32)).as_py():
        raise ValueError("a UUID has 32 hexadecimal digits")
    raw = pa.py_buffer(bytes.fromhex("".join(digits.drop_null().to_pylist())))
    given = pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(digits) - digits.null_count, [None, raw])
    places = pc.if_else(
        pc.is_valid(digits), pc.subtract(pc.cumulative_sum(pc.is_valid(digits).cast(pa.int64())), 1), None
    )
    return given.take(places).cast(pa.binary())


def _wire_schema(columns: Sequence[Column]) -> pa.Schema:
    return pa.schema([pa.field(c.name, wire_type(c)) for c in columns])


def parameters(rows: pa.RecordBatch, columns: Sequence[Column]) -> list[list[object]]:
    """One list per column, as this program's connections take arrays; for small batches only.

    Days and moments are numbers as PostgreSQL holds them, since the driver would make infinity of the first and
    the last day that Python knows.
    """
    found: list[list[object]] = []
    for column, array in zip(columns, rows.columns, strict=True):
        kind = wire_type(column)
        if column.type == "UUID":
            found.append([None if raw is None else UUID(bytes=raw) for raw in array.to_pylist()])
            continue
        numbers = array
        if pa.types.is_date(kind):
            numbers = pc.subtract(array.cast(pa.int32()), _EPOCH_DAYS)
        elif pa.types.is_decimal(kind):
            numbers = array.cast(pa.string())
        elif pa.types.is_timestamp(kind):
            numbers = pc.subtract(array.cast(pa.int64()), _EPOCH_DAYS * 86_400_000_000)
        found.append(numbers.to_pylist())
    return found


def day_number(day: date) -> int:
    """A day as such a number."""
    return day.toordinal() - date(2000, 1, 1).toordinal()


def array_type(column: Column) -> str:
    """The SQL array type of one column's values as a parameter; without the column's own length or precision."""
    kind = sql_type(column).partition("(")[0] + "[]"
    return f"text[]::{kind}" if pa.types.is_decimal(wire_type(column)) else kind  # the driver is slow with Decimal


def _encoder(columns: Sequence[Column]) -> pgpq.ArrowToPostgresBinaryEncoder:
    schema = _wire_schema(columns)
    encoders = {
        c.name: StringEncoderBuilder.new_with_output(schema.field(c.name), Jsonb())
        if sql_type(c) == "jsonb"
        else pgpq.ArrowToPostgresBinaryEncoder.infer_encoder(schema.field(c.name))
        for c in columns
    }
    return pgpq.ArrowToPostgresBinaryEncoder.new_with_encoders(schema, encoders)


async def copy_stream(rows: pa.RecordBatch, columns: Sequence[Column]) -> AsyncIterator[memoryview]:
    """COPY's binary form of wired ``rows``. The next slice is encoded in a thread while one is being sent.

    The encoder keeps the interpreter to itself, so slices are small, and no two threads are at it at once: the loop
    waits for one slice at most.
    """
    loop = asyncio.get_running_loop()
    encoder = _encoder(columns)
    starts = range(0, rows.num_rows, _SLICE)

    def encode(start: int) -> bytes:
        with _ENCODING:
            return encoded_from(start)

    def encoded_from(start: int) -> bytes:
        head = encoder.write_header() if start == 0 else b""
        body = encoder.write_batch(rows.slice(start, _SLICE))
        tail = encoder.finish() if start + _SLICE >= rows.num_rows else b""
        return b"".join((head, body, tail)) if head or tail else body

    ahead = loop.run_in_executor(None, encode, 0)
    for start in starts:
        encoded = memoryview(await ahead)
        if start + _SLICE < rows.num_rows:
            ahead = loop.run_in_executor(None, encode, start + _SLICE)
        for at in range(0, len(encoded), _PIECE):
            yield encoded[at : at + _PIECE]


# the way back ----------------------------------------------------------------------------------------------------


def selected(column: Column) -> str:
    """The expression that gives the column in a form Arrow reads without loss."""
    name, family, kind = quoted(column.name), WORDS[column.type], column.arrow
    if family is Family.DECIMAL and pa.types.is_floating(kind):
        return f"{name}::double precision"  # PostgreSQL gives the nearest float; Arrow's cast is off by a bit
    if family is Family.DECIMAL and pa.types.is_integer(kind):
        return f"{name}::bigint"
    if family is Family.INTEGER and pa.types.is_boolean(kind):
        return f"({name} <> 0)"
    if family is Family.MOMENT and pa.types.is_date(kind):
        return f"{name}::date"
    if sql_type(column) == "timestamp with time zone":
        return f"({name} AT TIME ZONE 'UTC')"
    if family is Family.BYTES:
        return f"encode({name}, 'hex')"
    return name


@dataclass(frozen=True, slots=True)
class Decoder:
    """CSV of ``selected`` columns to record batches in the table's own types."""

    columns: tuple[Column, ...]

    def decode(self, text: bytes) -> pa.RecordBatch:
        """Whole rows of CSV as one batch; runs in a thread."""
        schema = pa.schema([pa.field(c.name, c.arrow) for c in self.columns])
        if not text:
            return pa.RecordBatch.from_pylist([], schema=schema)
        names = [c.name for c in self.columns]
        read = csv.read_csv(
            io.BytesIO(text),
            read_options=csv.ReadOptions(column_names=names, use_threads=False, block_size=len(text) + 1),
            parse_options=csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
            convert_options=csv.ConvertOptions(
                column_types={c.name: _csv_type(c) for c in self.columns},
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
                true_values=["t"],
                false_values=["f"],
            ),
        )
        found = read.combine_chunks().to_batches()[0]
        return pa.RecordBatch.from_arrays(
            [_restored(array, c) for array, c in zip(found.columns, self.columns, strict=True)], schema=schema
        )


def _csv_type(column: Column) -> pa.DataType:
    kind = column.arrow
    if pa.types.is_timestamp(kind):
        return pa.timestamp("us")
    return pa.string() if pa.types.is_binary(kind) else kind


def _restored(array: pa.Array, column: Column) -> pa.Array:
    kind = column.arrow
    if pa.types.is_timestamp(kind):
        array = array.cast(pa.timestamp(kind.unit), safe=False)
        return array if kind.tz is None else array.cast(pa.int64()).cast(kind)
    if pa.types.is_binary(kind):
        return pa.array([None if v is None else bytes.fromhex(v) for v in array.to_pylist()], kind)
    return array


def key_columns(table: Table) -> list[Column]:
    by_name = {c.name: c for c in table.columns}
    return [by_name[k] for k in table.key]
