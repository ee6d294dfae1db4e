"""Vendor layouts: which vendor column becomes which canonical one, in which unit, read how.

A layout is data; ``normalize`` is the one function that applies it, column by column with Arrow kernels. The
live sources and the ``files`` source share the layouts, so an archive and a live answer give the same rows.
Nothing is dropped here: an unreadable cell becomes null, and the check refuses the row with its raw values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mystocks_ingest.errors import Malformed
from mystocks_ingest.market.cells import Read, read_cells
from mystocks_ingest.market.datasets import SUSPENSION, Dataset
from mystocks_ingest.market.frames import Frame, Symbol, Window

__all__ = ["Column", "Layout", "Read", "days_of", "empty", "normalize", "read", "recognise", "where", "within"]

_OURS = frozenset({"source", "fetched_at", "provisional"})  # columns that normalize itself fills


@dataclass(frozen=True, slots=True)
class Column:
    """One canonical column: the vendor's names for it (first one present wins) and the factor to our unit."""

    names: tuple[str, ...]
    read: Read
    scale: float = 1.0


Derive = Callable[[Mapping[str, pa.Array], pa.RecordBatch], Mapping[str, pa.Array]]


@dataclass(frozen=True)
class Layout:
    """A vendor's table shape. ``signature`` are the columns by which a file of this layout is recognised."""

    name: str
    dataset: Dataset
    columns: Mapping[str, Column]
    signature: frozenset[str]
    asset_type: str = "stock"  # how a bare code is read: 000001 is a stock and an index
    derive: Derive | None = None  # canonical columns computed from the others and the raw table
    suspended: Callable[[pa.RecordBatch], pa.Array] | None = None  # mask of rows that mark a suspended session
    constants: Mapping[str, str | bool | datetime] = field(default_factory=dict)


def recognise(layouts: Sequence[Layout], columns: Sequence[str]) -> Layout | None:
    """The layout whose signature fits ``columns``; of several, the most specific."""
    present = {_plain(c) for c in columns}
    fitting = [layout for layout in layouts if layout.signature <= present]
    return max(fitting, key=lambda layout: len(layout.signature), default=None)


def normalize(
    layout: Layout,
    raw: pa.RecordBatch,
    *,
    source: str,
    fetched_at: datetime,
    symbol: Symbol | None = None,
    day: date | None = None,
) -> list[Frame]:
    """Canonical frames of a vendor table: the dataset's own, and a suspension frame where rows mark one.

    Rows are ascending by key; exact duplicates are dropped. ``symbol`` fills the column where the vendor's
    table has none; ``day`` completes times of day. Raises Malformed when a required vendor column is missing.
    """
    place = {_plain(name): i for i, name in reversed(list(enumerate(raw.schema.names)))}
    out: dict[str, pa.Array] = {}
    for name, column in layout.columns.items():
        found = next((place[n] for n in column.names if n in place), None)
        if found is not None:
            out[name] = read(raw.column(found), column, asset_type=layout.asset_type, day=day)
    if symbol is not None and "symbol" not in out:
        out["symbol"] = pa.repeat(pa.scalar(str(symbol), pa.string()), raw.num_rows)
    for name, value in layout.constants.items():
        out[name] = pa.repeat(pa.scalar(value), raw.num_rows)
    if layout.derive is not None:
        try:
            out.update(layout.derive(out, raw))
        except (KeyError, pa.ArrowException) as exc:
            raise Malformed(f"{source}: {layout.name} answer cannot be read: {exc}") from exc
    missing = [n for n in layout.dataset.required if n not in out and n not in _OURS]
    if missing:
        raise Malformed(f"{source}: {layout.name} answer lacks {', '.join(missing)}; it has {raw.schema.names}")
    everything = _frame(layout.dataset, out, raw, source, fetched_at)
    mask = pc.fill_null(layout.suspended(raw), False) if layout.suspended is not None else None
    if mask is None or not pc.any(mask).as_py():
        return [_ascending(everything)]
    days_off = _frame(SUSPENSION, out, raw, source, fetched_at)
    return [_ascending(where(everything, pc.invert(mask))), _ascending(where(days_off, mask))]


def empty(dataset: Dataset, *, source: str, fetched_at: datetime) -> Frame:
    """The frame of an answer that has no rows."""
    rows = pa.RecordBatch.from_arrays([pa.nulls(0, f.type) for f in dataset.fields], names=dataset.schema.names)
    return Frame(dataset, source, fetched_at, rows)


def days_of(frame: Frame) -> pa.Array | None:
    """The Shanghai day of each row; None for a dataset without time."""
    if frame.dataset.time is None:
        return None
    column = frame.rows.column(frame.dataset.time)
    if pa.types.is_date32(column.type):
        return column
    return pc.local_timestamp(column).cast(pa.date32(), safe=False)


def within(frame: Frame, window: Window) -> Frame:
    """The rows of ``window`` and those whose time is unreadable; a vendor may send more than it was asked for."""
    days = days_of(frame)
    if days is None or not len(frame):
        return frame
    inside = pc.and_(pc.greater_equal(days, window.start), pc.less(days, window.end))
    keep = pc.or_kleene(inside, pc.is_null(days))
    return frame if pc.all(keep).as_py() else where(frame, keep)


def read(array: pa.Array, column: Column, *, asset_type: str = "stock", day: date | None = None) -> pa.Array:
    """One vendor column in canonical type and unit; unreadable cells become null."""
    return read_cells(array, column.read, scale=column.scale, asset_type=asset_type, day=day)


def _plain(name: str) -> str:
    """A column name without the byte order mark and blanks that spreadsheets leave around it."""
    return name.strip().lstrip("\ufeff").strip()


def _frame(
    dataset: Dataset, columns: Mapping[str, pa.Array], raw: pa.RecordBatch, source: str, fetched_at: datetime
) -> Frame:
    n = raw.num_rows
    ours = {"source": source, "fetched_at": fetched_at, "provisional": False}
    arrays = []
    for f in dataset.fields:
        if f.name in columns:
            array = columns[f.name]
            arrays.append(array if array.type == f.type else array.cast(f.type))
        elif f.name in ours:
            arrays.append(pa.repeat(pa.scalar(ours[f.name], f.type), n))
        else:
            arrays.append(pa.nulls(n, f.type))
    # every field nullable: a null in a required column is for the check to refuse
    rows = pa.RecordBatch.from_arrays(arrays, schema=pa.schema([pa.field(f.name, f.type) for f in dataset.fields]))
    return Frame(dataset, source, fetched_at, rows, raw)


def where(frame: Frame, mask: pa.Array) -> Frame:
    """The rows for which ``mask`` holds (null: it does not)."""
    mask = pc.fill_null(mask, False)
    return frame.take(pa.array(np.flatnonzero(mask.to_numpy(zero_copy_only=False))))


def _ascending(frame: Frame) -> Frame:
    """Rows by key, exact duplicates dropped (rows of one key that differ are left for the check).

    Most answers come sorted and unique: that is proven first, on integers, and then nothing is moved.
    """
    if len(frame) < 2:
        return frame
    codes = _codes([frame.rows.column(k) for k in frame.dataset.key])
    if not (codes[1:] >= codes[:-1]).all():
        order = np.argsort(codes, kind="stable")
        frame, codes = frame.take(pa.array(order)), codes[order]
    twins = np.flatnonzero(codes[1:] == codes[:-1])
    if not len(twins):
        return frame
    first, second = frame.rows.take(pa.array(twins)), frame.rows.take(pa.array(twins + 1))
    same = np.ones(len(twins), dtype=bool)
    for a, b in zip(first.columns, second.columns, strict=True):
        equal = pc.or_(pc.fill_null(pc.equal(a, b), False), pc.and_(pc.is_null(a), pc.is_null(b)))
        same &= equal.to_numpy(zero_copy_only=False)
    keep = np.ones(len(frame), dtype=bool)
    keep[twins[same] + 1] = False
    return frame if keep.all() else frame.take(pa.array(np.flatnonzero(keep)))


def _codes(columns: Sequence[pa.Array]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """One integer per row that orders and equals as the columns together do; nulls come last."""
    codes = np.zeros(len(columns[0]), dtype=np.int64)
    for column in columns:
        ranks, count = _ranks(column)
        if (int(codes.max()) + 1) * count >= 2**63:  # too wide for one integer: count what really occurs
            codes = np.unique(codes, return_inverse=True)[1].astype(np.int64)
        codes = codes * count + ranks
    return codes


def _ranks(column: pa.Array) -> tuple[np.ndarray[tuple[int], np.dtype[np.int64]], int]:
    """Each cell's place in the order of the column's values, and how many places there are."""
    if pa.types.is_string(column.type):
        encoded = column.dictionary_encode()
        values = encoded.dictionary
        order = pc.sort_indices(values).to_numpy()
        place = np.empty(len(values) + 1, dtype=np.int64)
        place[order] = np.arange(len(values))
        place[len(values)] = len(values)
        ranks = place[pc.fill_null(encoded.indices, len(values)).to_numpy()]
        return ranks, len(values) + 1
    whole = column.cast(pa.int32()) if pa.types.is_date32(column.type) else column
    numbers = whole.cast(pa.int64())
    span = pc.min_max(numbers).as_py()
    low, high = span["min"] or 0, span["max"] or 0
    return pc.fill_null(numbers, high + 1).to_numpy() - low, high - low + 2
