"""Row packets as Arrow columns: all rows of a column at once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mystocks_ingest.sinks.mysql.encode import shift

_NULL = 251
_Places = npt.NDArray[np.int64]


def batch(packets: bytes, schema: pa.Schema) -> pa.RecordBatch:
    """The rows in ``packets`` (whole packets, each with its header) with the fields of ``schema``."""
    data = np.frombuffer(packets, np.uint8)
    at = _beginnings(packets)
    columns = []
    for field in schema:
        starts, sizes, null = _cells(data, at)
        columns.append(_typed(_texts(data, starts, sizes, null), field.type))
        at = starts + sizes
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _beginnings(packets: bytes) -> _Places:
    """Where each row's first cell begins."""
    found = []
    at, end = 0, len(packets)
    while at < end:
        found.append(at + 4)
        at += 4 + packets[at] + (packets[at + 1] << 8) + (packets[at + 2] << 16)
    return np.array(found, np.int64)


def _cells(data: npt.NDArray[np.uint8], at: _Places) -> tuple[_Places, _Places, npt.NDArray[np.bool_]]:
    """Start and size of the length-prefixed cell at each place, and which of them are NULL."""
    head = data[at].astype(np.int64)
    null = head == _NULL
    sizes = np.where(null, 0, head)
    starts = at + 1
    for mark, width in ((252, 2), (253, 3), (254, 8)):
        rows = np.flatnonzero(head == mark)
        if len(rows):
            sizes[rows] = sum(data[at[rows] + 1 + i].astype(np.int64) << (8 * i) for i in range(width))
            starts[rows] += width
    return starts, sizes, null


def _texts(data: npt.NDArray[np.uint8], starts: _Places, sizes: _Places, null: npt.NDArray[np.bool_]) -> pa.Array:
    offsets = np.zeros(len(sizes) + 1, np.int32)
    np.cumsum(sizes, out=offsets[1:])
    places = np.arange(offsets[-1], dtype=np.int64) + np.repeat(starts - offsets[:-1], sizes)
    valid = pa.array(~null).buffers()[1] if null.any() else None
    return pa.Array.from_buffers(
        pa.binary(), len(sizes), [valid, pa.py_buffer(offsets), pa.py_buffer(data[places])], int(null.sum())
    )


def _typed(texts: pa.Array, kind: pa.DataType) -> pa.Array:
    if pa.types.is_binary(kind):
        return texts
    values = texts.cast(pa.string())
    if pa.types.is_string(kind):
        return values
    if pa.types.is_boolean(kind):
        return values.cast(pa.int8()).cast(kind)
    if pa.types.is_timestamp(kind) and kind.tz is not None:
        naive = values.cast(pa.timestamp(kind.unit))
        if kind.tz.upper() not in ("UTC", "ETC/UTC", "Z", "+00:00"):
            naive = pc.subtract(naive, pa.scalar(shift(kind.unit), pa.duration(kind.unit)))
        return naive.cast(pa.int64()).cast(kind)
    return values.cast(kind)
