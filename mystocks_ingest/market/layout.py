"""Vendor layouts: which vendor column becomes which canonical one, in which unit, read how.

A layout is data; ``normalize`` is the one function that applies it, column by column with Arrow kernels. The
live sources and the ``files`` source share the layouts, so an archive and a live answer give the same rows.
Nothing is dropped here: an unreadable cell becomes null, and the check refuses the row with its raw values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

import pyarrow as pa
import pyarrow.compute as pc

from mystocks_ingest.errors import Malformed
from mystocks_ingest.market import symbols
from mystocks_ingest.market.datasets import AMOUNT_DECIMALS, PRICE_DECIMALS, SHANGHAI, SUSPENSION, Dataset
from mystocks_ingest.market.frames import Frame, Symbol


class Read(StrEnum):
    """How a vendor cell is read."""

    PRICE = "price"  # float64, four decimals
    COUNT = "count"  # int64 after scaling and rounding
    AMOUNT = "amount"  # float64, two decimals
    NUMBER = "number"  # float64 as it is
    DAY = "day"  # 20240102, 2024-01-02, 2024/01/02, a date, a time stamp
    TIME = "time"  # 2024-01-02 09:31[:00], 2024/01/02 09:31, 20240102093100000; naive is Shanghai
    SYMBOL = "symbol"  # any vendor's spelling
    TEXT = "text"
    FLAG = "flag"  # 1/0, "1"/"0", true/false


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
    constants: Mapping[str, str | bool] = field(default_factory=dict)


def recognise(layouts: Sequence[Layout], columns: Sequence[str]) -> Layout | None:
    """The layout whose signature fits ``columns``; of several, the most specific."""
    present = {c.strip().lstrip("\ufeff") for c in columns}
    fitting = [layout for layout in layouts if layout.signature <= present]
    return max(fitting, key=lambda layout: len(layout.signature), default=None)


def normalize(
    layout: Layout,
    raw: pa.RecordBatch,
    *,
    source: str,
    fetched_at: datetime,
    symbol: Symbol | None = None,
) -> list[Frame]:
    """Canonical frames of a vendor table: the dataset's own, and a suspension frame where rows mark one.

    Rows are ascending by key; exact duplicates are dropped. ``symbol`` fills the column where the vendor's
    table has none. Raises Malformed when a required vendor column is missing.
    """
    out: dict[str, pa.Array] = {}
    for name, column in layout.columns.items():
        found = next((n for n in column.names if n in raw.schema.names), None)
        if found is not None:
            out[name] = read(raw.column(found), column, asset_type=layout.asset_type)
    if symbol is not None and "symbol" not in out:
        out["symbol"] = pa.repeat(pa.scalar(str(symbol), pa.string()), raw.num_rows)
    for name, value in layout.constants.items():
        out[name] = pa.repeat(pa.scalar(value), raw.num_rows)
    if layout.derive is not None:
        out.update(layout.derive(out, raw))
    missing = [n for n in layout.columns if n in layout.dataset.required and n not in out]
    if missing:
        raise Malformed(f"{source}: {layout.name} answer lacks {', '.join(missing)}; it has {raw.schema.names}")
    mask = layout.suspended(raw) if layout.suspended is not None else None
    frames = []
    if mask is not None and pc.any(mask).as_py():
        frames.append(_frame(SUSPENSION, out, raw, source, fetched_at, pc.filter(_row_numbers(raw), mask)))
        frames.insert(
            0, _frame(layout.dataset, out, raw, source, fetched_at, pc.filter(_row_numbers(raw), pc.invert(mask)))
        )
    else:
        frames.append(_frame(layout.dataset, out, raw, source, fetched_at, None))
    return frames


def _row_numbers(batch: pa.RecordBatch) -> pa.Array:
    return pa.array(range(batch.num_rows), pa.int64())


def _frame(
    dataset: Dataset,
    columns: Mapping[str, pa.Array],
    raw: pa.RecordBatch,
    source: str,
    fetched_at: datetime,
    keep: pa.Array | None,
) -> Frame:
    n = raw.num_rows
    filled = {
        "source": pa.repeat(pa.scalar(source), n),
        "fetched_at": pa.repeat(pa.scalar(fetched_at, pa.timestamp("ms", tz="UTC")), n),
        "provisional": pa.repeat(pa.scalar(False), n),
        **columns,
    }
    arrays = [filled[f.name].cast(f.type) if f.name in filled else pa.nulls(n, f.type) for f in dataset.fields]
    rows = pa.RecordBatch.from_arrays(arrays, schema=pa.schema([pa.field(f.name, f.type) for f in dataset.fields]))
    frame = Frame(dataset, source, fetched_at, rows, raw)
    if keep is not None:
        frame = frame.take(keep)
    return _ascending(frame)


def _ascending(frame: Frame) -> Frame:
    """Rows by key, exact duplicates dropped (rows of one key that differ are left for the check)."""
    order = pc.sort_indices(frame.rows, sort_keys=[(k, "ascending") for k in frame.dataset.key])
    frame = frame.take(order)
    if len(frame) < 2:
        return frame
    same = None
    for name in frame.rows.schema.names:
        column = frame.rows.column(name)
        equal = pc.fill_null(pc.equal(column.slice(1), column.slice(0, len(column) - 1)), False)
        both_null = pc.and_(pc.is_null(column.slice(1)), pc.is_null(column.slice(0, len(column) - 1)))
        equal = pc.or_(equal, both_null)
        same = equal if same is None else pc.and_(same, equal)
    if not pc.any(same).as_py():
        return frame
    keep = pa.concat_arrays([pa.array([True]), pc.invert(same)])
    return frame.take(pc.filter(_row_numbers(frame.rows), keep))


def read(array: pa.Array, column: Column, *, asset_type: str = "stock") -> pa.Array:
    """One vendor column in canonical type and unit; unreadable cells become null."""
    match column.read:
        case Read.PRICE:
            return pc.round(_scaled(array, column.scale), PRICE_DECIMALS)
        case Read.AMOUNT:
            return pc.round(_scaled(array, column.scale), AMOUNT_DECIMALS)
        case Read.NUMBER:
            return _scaled(array, column.scale)
        case Read.COUNT:
            return pc.cast(pc.round(_scaled(array, column.scale)), pa.int64())
        case Read.DAY:
            return to_day(array)
        case Read.TIME:
            return to_time(array)
        case Read.SYMBOL:
            return symbols.parse_column(array, asset_type=asset_type)
        case Read.TEXT:
            return _text(array)
        case Read.FLAG:
            return pc.is_in(pc.utf8_lower(_text(array)), value_set=pa.array(["1", "true", "y", "1.0"]))


_NUMBER = r"^[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?$"


def to_number(array: pa.Array) -> pa.Array:
    """float64 of numbers or their text; '', '-', 'nan' and anything unreadable become null."""
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if not _is_text(array):
        numbers = array.cast(pa.float64(), safe=False)
    else:
        try:
            numbers = array.cast(pa.float64())
        except pa.ArrowInvalid:
            text = pc.utf8_trim_whitespace(array.cast(pa.string()))
            numbers = pc.if_else(pc.match_substring_regex(text, _NUMBER), text, None).cast(pa.float64())
    return pc.if_else(pc.is_finite(numbers), numbers, None)


def to_day(array: pa.Array) -> pa.Array:
    """date32 of any notation of a day; unreadable cells become null."""
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_date(array.type):
        return array.cast(pa.date32())
    if pa.types.is_timestamp(array.type):
        local = array if array.type.tz is None else pc.local_timestamp(array)
        return pc.cast(pc.floor_temporal(local, unit="day"), pa.date32())
    digits = _digits(array, 8)
    return _strptime(digits, "%Y%m%d", 8).cast(pa.date32())


def to_time(array: pa.Array) -> pa.Array:
    """timestamp[ms, Asia/Shanghai] of any notation of a moment; unreadable cells become null."""
    zone = pa.timestamp("ms", tz=SHANGHAI)
    if pa.types.is_timestamp(array.type):
        if array.type.tz is not None:
            return array.cast(zone)
        return pc.assume_timezone(array.cast(pa.timestamp("ms")), SHANGHAI)
    naive = _strptime(pc.utf8_rpad(_digits(array, 14), 14, "0"), "%Y%m%d%H%M%S", 14)
    return pc.assume_timezone(naive.cast(pa.timestamp("ms")), SHANGHAI)


def _digits(array: pa.Array, width: int) -> pa.Array:
    text = _text(array)
    return pc.utf8_slice_codeunits(pc.replace_substring_regex(text, r"[^0-9]", ""), 0, width)


def _strptime(digits: pa.Array, form: str, width: int) -> pa.Array:
    whole = pc.if_else(pc.equal(pc.utf8_length(digits), width), digits, None)
    return pc.strptime(whole, format=form, unit="s", error_is_null=True)


def _scaled(array: pa.Array, scale: float) -> pa.Array:
    numbers = to_number(array)
    return numbers if scale == 1.0 else pc.multiply(numbers, scale)


def _is_text(array: pa.Array) -> bool:
    return pa.types.is_string(array.type) or pa.types.is_large_string(array.type) or pa.types.is_string_view(array.type)


def _text(array: pa.Array) -> pa.Array:
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_floating(array.type) and pc.all(pc.equal(array, pc.floor(array))).as_py():
        array = array.cast(pa.int64(), safe=False)  # 20240102.0, as pandas makes of ints beside a null
    return pc.utf8_trim_whitespace(array.cast(pa.string()))
