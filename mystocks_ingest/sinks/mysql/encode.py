r"""Rows as text the server reads: one Arrow kernel per column, never a row at a time.

Two forms: lines for LOAD DATA (tab, newline, backslash escaped; NULL as ``\N``) and tuples for INSERT (strings quoted,
backslash and quote escaped; NULL as the word). No value reaches the server in any other way.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mystocks_ingest.errors import Rejected
from mystocks_ingest.schema.tables import Column, Table

SHANGHAI_MILLISECONDS = 8 * 3600 * 1000
_PER_MILLISECOND = {"us": 1_000, "ns": 1_000_000}
_LINE_ESCAPES = (("\\", "\\\\"), ("\t", "\\t"), ("\n", "\\n"))
_QUOTE_ESCAPES = (("\\", "\\\\"), ("'", "\\'"))


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows fit to be sent: in key order, with the columns both they and the table have."""

    table: Table
    columns: tuple[Column, ...]
    rows: pa.RecordBatch

    @property
    def names(self) -> list[str]:
        return [c.name for c in self.columns]


def prepared(table: Table, rows: pa.RecordBatch) -> Batch:
    """``rows`` in key order. Raises Rejected for what the server would take and change, and for nulls in a key.

    Key order keeps the server's index pages hot, and lets two writers of the same rows wait instead of deadlock.
    """
    columns = tuple(c for c in table.columns if c.name in rows.schema.names)
    for name in table.key:
        if name not in rows.schema.names or rows.column(name).null_count:
            raise Rejected(f"{table.name}: {name} is null, and a key cannot be")
    for column in columns:
        _refuse(column, rows.column(column.name))
    rows = rows.select([c.name for c in columns])
    if rows.num_rows > 1:
        order = pc.sort_indices(rows, sort_keys=[(k, "ascending") for k in table.key])
        places = order.to_numpy()
        if not bool((places[1:] > places[:-1]).all()):
            rows = rows.take(order)
    return Batch(table, columns, rows)


def _refuse(column: Column, values: pa.Array) -> None:
    if pa.types.is_floating(values.type):
        finite = pc.all(pc.is_finite(values)).as_py()
        if finite is False:
            wrong = values.filter(pc.invert(pc.is_finite(values)))[0]
            raise Rejected(f"Out of range value for column '{column.name}': MySQL has no {wrong}")
    elif column.length is not None and pa.types.is_string(values.type) and not column.type.endswith("TEXT"):
        longest = pc.max(pc.utf8_length(values)).as_py()
        if longest is not None and longest > column.length:  # the server cuts spaces off in silence
            raise Rejected(f"Data too long for column '{column.name}': {longest} characters, and {column.length} fit")


def clock(values: pa.Array) -> pa.Array:
    """Moments as the wall clock the column holds, without a zone: UTC, or UTC+08:00 for every other zone."""
    kind = values.type
    if kind.tz is None:
        return values
    naive = values.cast(pa.timestamp(kind.unit))
    if kind.tz.upper() in ("UTC", "ETC/UTC", "Z", "+00:00"):
        return naive
    return pc.add(naive, pa.scalar(shift(kind.unit), pa.duration(kind.unit)))


def shift(unit: str) -> int:
    """Eight hours in ``unit``."""
    return SHANGHAI_MILLISECONDS // 1000 if unit == "s" else SHANGHAI_MILLISECONDS * _PER_MILLISECOND.get(unit, 1)


def _plain(values: pa.Array) -> pa.Array:
    """Numbers and times as text that needs no escaping."""
    kind = values.type
    if pa.types.is_boolean(kind):
        return values.cast(pa.uint8()).cast(pa.string())
    if pa.types.is_timestamp(kind):
        return clock(values).cast(pa.string())
    return values.cast(pa.string())


def _escaped(values: pa.Array, escapes: tuple[tuple[str, str], ...]) -> pa.Array:
    for raw, safe in escapes:
        if pc.any(pc.match_substring(values, raw)).as_py():
            values = pc.replace_substring(values, raw, safe)
    return values


def _hex(values: pa.Array) -> pa.Array:
    return pa.array([None if v is None else v.hex() for v in values.to_pylist()], pa.string())  # bytes are rare here


def _cell_for_line(values: pa.Array) -> pa.Array:
    if pa.types.is_binary(values.type):
        return _hex(values)
    return _escaped(values, _LINE_ESCAPES) if pa.types.is_string(values.type) else _plain(values)


def _cell_for_tuple(values: pa.Array) -> pa.Array:
    if pa.types.is_binary(values.type):
        return pc.binary_join_element_wise("x'", _hex(values), "'", "")
    if pa.types.is_string(values.type):
        return pc.binary_join_element_wise("'", _escaped(values, _QUOTE_ESCAPES), "'", "")
    if pa.types.is_date(values.type) or pa.types.is_timestamp(values.type):
        return pc.binary_join_element_wise("'", _plain(values), "'", "")
    return _plain(values)


def _joined(cells: list[pa.Array], separator: str, null: str, end: str) -> pa.Array:
    rows = pc.binary_join_element_wise(*cells, separator, null_handling="replace", null_replacement=null)
    return pc.binary_join_element_wise(rows, "", end)


def lines(rows: pa.RecordBatch) -> memoryview:
    """The rows as LOAD DATA reads them."""
    return _bytes(_joined([_cell_for_line(c) for c in rows.columns], "\t", "\\N", "\n"))[0]


def tuples(rows: pa.RecordBatch, limit: int) -> Iterator[bytes]:
    """The rows as ``(...),(...)`` in pieces of at most ``limit`` bytes. Raises Rejected when one row is longer."""
    text = _joined([_cell_for_tuple(c) for c in rows.columns], ",", "NULL", "),(")
    data, offsets = _bytes(text)
    first = 0
    while first < len(text):
        last = int(np.searchsorted(offsets, offsets[first] + limit - 2, side="right")) - 1
        if last <= first:
            size = int(offsets[first + 1] - offsets[first])
            raise Rejected(f"a row of {size:,} bytes is larger than the server's max_allowed_packet allows")
        yield b"(" + bytes(data[offsets[first] : offsets[last] - 2])
        first = last


def _bytes(text: pa.Array) -> tuple[memoryview, np.ndarray[tuple[int], np.dtype[np.int32]]]:
    """The text of all rows end to end, without a copy, and where each begins in it."""
    buffers = text.buffers()
    offsets = np.frombuffer(buffers[1], np.int32)[text.offset : text.offset + len(text) + 1]
    return memoryview(buffers[2])[int(offsets[0]) : int(offsets[-1])], offsets - offsets[0]
