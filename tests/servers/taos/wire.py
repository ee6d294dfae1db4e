"""taosAdapter's binary messages: bound rows in, blocks of a result out. Little endian throughout."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pyarrow as pa

from .engine import Bound, Prepared
from .kinds import BOOL, DECIMALS, FIXED, NCHAR, Column, TaosError
from .selecting import Answer
from .storage import Values

_CELL = struct.Struct("<IiI")


def bound_rows(prepared: Prepared, data: bytes) -> list[Bound]:
    """The tables of a stmt2 bind; ``data`` begins behind the message's head."""
    _, tables, tags, columns, at_names, at_tags, at_columns = struct.unpack_from("<7I", data)
    names: list[str | None] = [None] * tables
    if at_names:
        at = at_names + 2 * tables
        for i, size in enumerate(struct.unpack_from(f"<{tables}H", data, at_names)):
            names[i] = data[at : at + size - 1].decode()
            at += size
    tag_values: list[list[Any]] = [[] for _ in range(tables)]
    tag_columns = [f.column for f in prepared.fields if f.role == 2]
    if at_tags:
        at = at_tags + 4 * tables
        for i in range(tables):
            for j in range(tags):
                at, kind, values, _ = _cells(data, at)
                tag_values[i].append(_tag(tag_columns[j], kind, values))
    found = []
    at = at_columns + 4 * tables
    for i in range(tables):
        kinds, held, rows = [], [], 0
        for _ in range(columns):
            at, kind, values, rows = _cells(data, at)
            kinds.append(kind)
            held.append(values)
        found.append(Bound(names[i], tag_values[i], held, kinds, rows))
    return found


def bound_count(data: bytes) -> int:
    """How many rows a stmt2 bind brings, all tables together; nothing else of them is looked at."""
    _, tables, _, _, _, _, at_columns = struct.unpack_from("<7I", data)
    sizes = struct.unpack_from(f"<{tables}I", data, at_columns)
    at, rows = at_columns + 4 * tables, 0
    for size in sizes:
        rows += _CELL.unpack_from(data, at)[2]
        at += size
    return rows


def _cells(data: bytes, at: int) -> tuple[int, int, Values, int]:
    """One column of one table: where the next begins, type, values, rows."""
    total, kind, rows = _CELL.unpack_from(data, at)
    nulls = np.frombuffer(data, np.bool_, rows, at + 12)
    start = at + 12 + rows
    if data[start]:
        lengths = np.frombuffer(data, np.dtype("<i4"), rows, start + 1)
        body = start + 1 + 4 * rows + 4
        return at + total, kind, Values(nulls, lengths=lengths, raw=data[body : at + total]), rows
    body = start + 1 + 4
    dtype = FIXED.get(kind)
    if dtype is None:
        raise TaosError(0x0200, f"stmt2 bind of unknown type {kind}")
    size = at + total - body
    fixed = np.frombuffer(data, dtype, rows, body) if size else np.zeros(rows, dtype)
    return at + total, kind, Values(nulls, fixed), rows


def _tag(column: Column, kind: int, values: Values) -> Any:
    if kind != column.kind:
        raise TaosError(0x0200, f"stmt2 bind type mismatch: tag {column.name}")
    if values.nulls[0]:
        return None
    value = values.as_array(column)[0]
    if isinstance(value, str):
        length = len(value) if kind == NCHAR else len(value.encode())
        if length > column.length:
            raise TaosError(0x0200, f"stmt2 tag too long: {column.name}")
        return value
    return bool(value) if kind == BOOL else value.item() if hasattr(value, "item") else value


def block(answer: Answer, first: int, rows: int) -> bytes:
    """Rows ``first`` to ``first + rows`` as TDengine's raw block."""
    schema, lengths, body = [], [], []
    for column, values in zip(answer.kinds, answer.columns, strict=True):
        part = values.slice(first, rows)
        if column.kind in DECIMALS:
            schema.append(struct.pack("<B4B", column.kind, column.scale, column.precision, 0, column.bytes))
        else:
            schema.append(struct.pack("<BI", column.kind, column.bytes))
        packed, length = _fixed(column, part) if column.kind in FIXED or column.kind in DECIMALS else _var(column, part)
        body.append(packed)
        lengths.append(length)
    tail = b"".join(schema) + struct.pack(f"<{len(lengths)}i", *lengths) + b"".join(body) + b"\0"
    head = struct.pack("<iiiiIQ", 1, 28 + len(tail), rows, len(schema), 0x80000000, 0)
    return head + tail


def _fixed(column: Column, part: pa.Array) -> tuple[bytes, int]:
    nulls = np.packbits(part.is_null().to_numpy(zero_copy_only=False)).tobytes()
    if column.kind in DECIMALS:
        width = column.bytes
        unscaled = [0 if v is None else int(v.scaleb(column.scale)) for v in part.to_pylist()]
        values = b"".join(v.to_bytes(width, "little", signed=True) for v in unscaled)
    else:
        filled = part.fill_null(False if column.kind == BOOL else 0) if part.null_count else part
        values = filled.to_numpy(zero_copy_only=False).astype(FIXED[column.kind]).tobytes()
    return nulls + values, len(values)


def _var(column: Column, part: pa.Array) -> tuple[bytes, int]:
    packed: dict[Any, bytes] = {None: b""}
    cells = part.to_pylist()
    for value in set(cells) - {None}:
        raw = value if isinstance(value, bytes) else value.encode("utf-32-le" if column.kind == NCHAR else "utf-8")
        packed[value] = struct.pack("<H", len(raw)) + raw
    pieces = [packed[c] for c in cells]
    sizes = np.array([len(p) for p in pieces], np.int64)
    offsets = np.cumsum(sizes) - sizes
    offsets[sizes == 0] = -1
    data = b"".join(pieces)
    return offsets.astype("<i4").tobytes() + data, len(data)
