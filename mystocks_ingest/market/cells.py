"""How a vendor's cell is read: numbers, days, times, symbols and flags in every notation met.

Each reader takes an Arrow array of whatever type the vendor's package or a file gave and returns the canonical
type; a cell it cannot read becomes null. Days, times and symbols repeat, so only their distinct values are parsed.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from enum import StrEnum

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mystocks_ingest.market import symbols
from mystocks_ingest.market.datasets import AMOUNT_DECIMALS, PRICE_DECIMALS, SHANGHAI

_ZONED = pa.timestamp("ms", tz=SHANGHAI)
_EXACT = 2.0**53  # beyond it a double no longer holds every integer
_Integers = np.ndarray[tuple[int], np.dtype[np.int64]]


class Read(StrEnum):
    """How a vendor cell is read."""

    PRICE = "price"  # float64, four decimals
    COUNT = "count"  # int64 after scaling and rounding
    AMOUNT = "amount"  # float64, two decimals
    NUMBER = "number"  # float64 as it is
    DAY = "day"  # 20240102, 2024-01-02, 2024/1/2, a date, a time stamp
    TIME = "time"  # 2024-01-02 09:31[:00[.000]], 2024/1/2 9:31, 20240102093100000, 09:31:00; naive is Shanghai
    SYMBOL = "symbol"  # any vendor's spelling
    TEXT = "text"
    FLAG = "flag"  # 1/0, "1"/"0", true/false


def read_cells(
    array: pa.Array, how: Read, *, scale: float = 1.0, asset_type: str = "stock", day: date | None = None
) -> pa.Array:
    """``array`` read as ``how``; ``scale`` is the factor to our unit, ``day`` completes a time of day."""
    match how:
        case Read.PRICE:
            return decimals(_scaled(array, scale), PRICE_DECIMALS)
        case Read.AMOUNT:
            return decimals(_scaled(array, scale), AMOUNT_DECIMALS)
        case Read.NUMBER:
            return _scaled(array, scale)
        case Read.COUNT:
            whole = pc.round(_scaled(array, scale))
            return _unless(pc.greater(pc.abs(whole), _EXACT), whole).cast(pa.int64())
        case Read.DAY:
            return to_day(array)
        case Read.TIME:
            return to_time(array, day)
        case Read.SYMBOL:
            return to_symbol(array, asset_type)
        case Read.TEXT:
            text = to_text(array)
            return _unless(pc.equal(text, ""), text)
        case Read.FLAG:
            return _distinct(array, _flag, pa.bool_())


_NUMBER = r"^[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?$"


def decimals(numbers: pa.Array, places: int) -> pa.Array:
    """The doubles nearest to the numbers with so many decimals; Arrow's own ``round`` leaves 15.280000000000001."""
    power = 10.0**places
    return pc.divide(pc.round(pc.multiply(numbers, power)), power)


def to_number(array: pa.Array) -> pa.Array:
    """float64 of numbers or their text; '', '-', 'nan' and anything unreadable become null."""
    array = _decoded(array)
    if not is_text(array.type):
        numbers = array.cast(pa.float64(), safe=False)
    else:
        try:
            numbers = array.cast(pa.float64())
        except pa.ArrowInvalid:
            text = to_text(array)
            text = _unless(pc.is_in(text, value_set=pa.array(["", "-", "--"])), text)
            try:
                numbers = text.cast(pa.float64())
            except pa.ArrowInvalid:
                numbers = _unless(pc.invert(pc.match_substring_regex(text, _NUMBER)), text).cast(pa.float64())
    return _unless(pc.invert(pc.is_finite(numbers)), numbers)


def to_day(array: pa.Array) -> pa.Array:
    """date32 of any notation of a day; unreadable cells become null."""
    array = _decoded(array)
    if pa.types.is_date(array.type):
        return array.cast(pa.date32())
    if pa.types.is_timestamp(array.type):
        local = array if array.type.tz is None else pc.local_timestamp(array.cast(pa.timestamp("ms", tz=SHANGHAI)))
        return pc.floor_temporal(local, unit="day").cast(pa.date32())
    return _distinct(array, lambda texts: _moments(texts)[0], pa.date32())


def to_time(array: pa.Array, day: date | None = None) -> pa.Array:
    """timestamp[ms, Asia/Shanghai] of any notation of a moment; unreadable cells become null.

    A time of day (09:31:00, 093100) needs ``day``.
    """
    array = _decoded(array)
    if pa.types.is_timestamp(array.type):
        if array.type.tz is not None:
            return array.cast(_ZONED, safe=False)
        return pc.assume_timezone(array.cast(pa.timestamp("ms"), safe=False), SHANGHAI)
    if pa.types.is_time(array.type):
        array = array.cast(pa.string())
    return _distinct(array, lambda texts: _moments(texts, day)[1], _ZONED)


def to_symbol(array: pa.Array, asset_type: str = "stock") -> pa.Array:
    """Canonical symbols; a number is a bare code that lost its leading zeros."""
    return _distinct(array, lambda codes: symbols.parse_column(codes, asset_type=asset_type), pa.string())


def to_text(array: pa.Array) -> pa.Array:
    """The cells as trimmed text; 20240102.0, which pandas makes of an integer beside a null, as 20240102."""
    array = _decoded(array)
    if pa.types.is_floating(array.type):
        array = _unless(pc.is_nan(array), array)
        if pc.all(pc.equal(array, pc.floor(array))).as_py():
            array = array.cast(pa.int64(), safe=False)
    return pc.utf8_trim_whitespace(array.cast(pa.string()))


def is_text(kind: pa.DataType) -> bool:
    """Whether the type is one of Arrow's three kinds of text (pandas 3 gives large_string, polars string_view)."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


# Every notation met, once its single digits are padded to two: year, month, day, then perhaps a time of day.
_MOMENT = (
    r"^(?P<y>\d{4})[-/.年]?(?P<mo>\d{2})[-/.月]?(?P<d>\d{2})日?"
    r"(?:\.0+|[T ]*(?P<h>\d{2}):?(?P<mi>\d{2})(?::?(?P<s>\d{2})(?:\.?(?P<f>\d{1,9}))?)?)?(?:\+08:?00)?$"
)
_CLOCK = r"^(\d{5,6}|\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?)$"


def _moments(cells: pa.Array, day: date | None = None) -> tuple[pa.Array, pa.Array]:
    """The days, and the moments where a time of day is given, that the cells name."""
    texts = to_text(cells)
    if day is not None:
        clock = pc.binary_join_element_wise(day.isoformat(), pc.utf8_lpad(texts, 5, "0"), " ")
        texts = pc.if_else(pc.match_substring_regex(texts, _CLOCK), clock, texts)
    texts = pc.replace_substring_regex(texts, r"([-/年月T :])(\d)\b", r"\10\2")  # 2024/1/2 9:31
    texts = pc.replace_substring_regex(texts, r" (\d{5})$", r" 0\1")  # 92500 as a number
    parts = pc.extract_regex(texts, _MOMENT)
    year, month, dom = (_integers(parts, name) for name in ("y", "mo", "d"))
    readable = (month >= 1) & (month <= 12) & (dom >= 1)
    months = np.where(readable, (year - 1970) * 12 + month - 1, 0).astype("datetime64[M]")
    days = months.astype("datetime64[D]") + np.where(readable, dom - 1, 0)
    readable &= days.astype("datetime64[M]") == months  # not 31 April
    hour, minute, second = (_integers(parts, name) for name in ("h", "mi", "s"))
    timed = readable & (hour >= 0) & (hour < 24) & (minute >= 0) & (minute < 60) & (second < 60)
    millis = ((hour * 60 + minute) * 60 + np.maximum(second, 0)) * 1000 + np.maximum(_integers(parts, "f", digits=3), 0)
    moments = np.where(timed, days.astype("datetime64[ms]") + millis, np.datetime64(0, "ms"))
    naive = pa.array(moments, pa.timestamp("ms"), mask=~timed)
    return pa.array(days, pa.date32(), mask=~readable), pc.assume_timezone(naive, SHANGHAI)


def _integers(parts: pa.Array, name: str, *, digits: int | None = None) -> _Integers:
    """One group of the match as integers, -1 where it is absent; ``digits`` makes a fraction that long."""
    text = pc.struct_field(parts, name)
    text = _unless(pc.equal(text, ""), text)
    if digits is not None:
        text = pc.utf8_slice_codeunits(pc.utf8_rpad(text, digits, "0"), 0, digits)
    numbers: _Integers = pc.fill_null(text.cast(pa.int64()), -1).to_numpy(zero_copy_only=False)
    return numbers


def _flag(cells: pa.Array) -> pa.Array:
    text = pc.utf8_lower(to_text(cells))
    yes = pc.is_in(text, value_set=pa.array(["1", "true", "y", "1.0"]))
    no = pc.is_in(text, value_set=pa.array(["0", "false", "n", "0.0"]))
    return _unless(pc.invert(pc.or_(yes, no)), yes)


def _distinct(array: pa.Array, parse: Callable[[pa.Array], pa.Array], kind: pa.DataType) -> pa.Array:
    """``parse`` applied to each distinct value once."""
    if pa.types.is_null(array.type) or not len(array):
        return pa.nulls(len(array), kind)
    encoded = array if pa.types.is_dictionary(array.type) else array.dictionary_encode()
    return parse(encoded.dictionary).cast(kind).take(encoded.indices)


def _decoded(array: pa.Array) -> pa.Array:
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array


def _unless(mask: pa.Array, values: pa.Array) -> pa.Array:
    """``values`` with null where ``mask`` holds."""
    if not pc.any(mask).as_py():
        return values
    return pc.if_else(pc.fill_null(mask, False), pa.scalar(None, values.type), values)


def _scaled(array: pa.Array, scale: float) -> pa.Array:
    numbers = to_number(array)
    return numbers if scale == 1.0 else pc.multiply(numbers, scale)
