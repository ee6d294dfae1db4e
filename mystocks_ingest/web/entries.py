"""Entries of a stream that others add to: fields in, one frame out, or a refusal. Pure.

An entry is one row, a field for each column as text, or several rows: a field ``rows`` with JSON (a list of objects,
as in an HTTP body) or a field ``arrow`` with an Arrow IPC stream. A field ``source`` says who delivers. What is read is
held to the same rules as an HTTP body (``delivery``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mystocks_ingest.market import symbols
from mystocks_ingest.market.datasets import SHANGHAI, Field
from mystocks_ingest.market.frames import Frame
from mystocks_ingest.web import delivery
from mystocks_ingest.web.delivery import Cell, Form
from mystocks_ingest.web.limits import Limits
from mystocks_ingest.web.refusals import Refusal

_SENDER = re.compile(rb"^[a-z][a-z0-9_-]{0,14}$")
_INTEGER = re.compile(r"^[+-]?\d{1,18}$")
_NUMBER = re.compile(r"^[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?$")
_TRUTH = {"true": True, "1": True, "false": False, "0": False}
_USUAL_SENDER = "stream"
_SOURCE, _ROWS, _ARROW = b"source", b"rows", b"arrow"


@dataclass(frozen=True, slots=True)
class Delivered:
    """What one entry holds: ``rows`` with cells as JSON has them, or a whole ``table``. ``source`` is push:NAME."""

    source: str
    rows: Sequence[Mapping[str, object]] = ()
    table: pa.Table | None = None


def read(asked: Form, fields: Mapping[bytes, bytes], limits: Limits) -> Delivered:
    """What the fields of an entry say. Raises Refusal."""
    size = sum(len(k) + len(v) for k, v in fields.items())
    if size > limits.body_bytes:
        raise Refusal(413, f"the entry has {size:,} bytes; at most {limits.body_bytes:,} are taken at once")
    sender = fields.get(_SOURCE) or _USUAL_SENDER.encode()
    if not _SENDER.match(sender):
        raise Refusal(422, "the field `source` is a name of at most 15 of a-z 0-9 _ -, such as gateway")
    source = f"push:{sender.decode()}"
    for whole in (_ROWS, _ARROW):
        if whole in fields:
            others = sorted(set(fields) - {whole, _SOURCE})
            if others:
                name = ascii(others[0].decode(errors="replace"))[1:41]
                raise Refusal(422, f"beside the field `{whole.decode()}` only `source` may stand, not {name}")
            if whole == _ROWS:
                return Delivered(source, _rows(fields[_ROWS], limits.delivered_rows))
            return Delivered(source, table=_table(fields[_ARROW], limits.delivered_rows))
    return Delivered(source, [_row(asked, fields)])


def _rows(text: bytes, most: int) -> Sequence[Mapping[str, object]]:
    try:
        return delivery.rows_of(text, most)
    except Refusal as exc:
        raise Refusal(exc.status, str(exc).replace("the body", "the field `rows`")) from exc


def _row(asked: Form, fields: Mapping[bytes, bytes]) -> dict[str, object]:
    known = asked.cells
    row: dict[str, object] = {}
    for name, cell in fields.items():
        if name == _SOURCE:
            continue
        try:
            column, text = name.decode(), cell.decode()
        except UnicodeDecodeError:
            raise Refusal(422, f"the field {ascii(name[:40])[1:]} is no UTF-8 text") from None
        row[column] = _cell(known[column].field, text) if column in known else text
    return row


def _cell(field: Field, text: str) -> object:
    """As JSON would have it; an empty text is no value. What is of another type stays text, and is refused later."""
    if not text:
        return None
    if pa.types.is_boolean(field.type):
        return _TRUTH.get(text.lower(), text)
    if pa.types.is_integer(field.type) and _INTEGER.match(text):
        return int(text)
    if (pa.types.is_floating(field.type) or pa.types.is_integer(field.type)) and _NUMBER.match(text):
        return float(text)
    return text


def _table(body: bytes, most: int) -> pa.Table:
    try:
        with pa.ipc.open_stream(body) as reader:
            table = reader.read_all()
        table.validate(full=True)
    except (pa.ArrowException, OSError, ValueError) as exc:
        said = ascii(str(exc).splitlines()[0] if str(exc) else type(exc).__name__)[1:-1][:120]
        raise Refusal(422, f"the field `arrow` is no Arrow IPC stream ({said})") from exc
    if not table.num_rows:
        raise Refusal(422, "the field `arrow` holds no row")
    if table.num_rows > most:
        raise Refusal(422, f"the field `arrow` holds {table.num_rows:,} rows; at most {most:,} are taken at once")
    return table


def table_frame(asked: Form, table: pa.Table, *, source: str, at: datetime) -> Frame:
    """The frame of an Arrow table; NaN is no value. Raises Refusal."""
    wanted, known = asked.wanted, asked.cells
    strange = sorted(set(table.column_names) - set(known))
    if strange:
        raise Refusal(422, f"{wanted.name} has no column {strange[0][:60]!a}; a row may hold {', '.join(known)}")
    if len(set(table.column_names)) < table.num_columns:
        raise Refusal(422, "a column stands twice in the field `arrow`")
    count = table.num_rows
    arrays: dict[str, pa.Array] = {}
    for name, cell in known.items():
        if name in table.column_names:
            arrays[name] = _read(cell, table.column(name).combine_chunks())
        else:
            arrays[name] = pa.nulls(count, cell.field.type)
        if cell.needed and arrays[name].null_count:
            row = int(np.flatnonzero(arrays[name].is_null().to_numpy(zero_copy_only=False))[0])
            raise Refusal(422, f"row {row}, column {name}: it is missing")
    return delivery.completed(wanted, arrays, count, source=source, at=at)


def _read(cell: Cell, column: pa.Array) -> pa.Array:
    """The column in the type of the dataset's. Raises Refusal, naming the first row that cannot be meant."""
    field = cell.field
    try:
        if pa.types.is_timestamp(field.type) and pa.types.is_timestamp(column.type) and column.type.tz is None:
            column = pc.assume_timezone(column, SHANGHAI)
        if pa.types.is_timestamp(field.type) and pa.types.is_timestamp(column.type):
            cast = column.cast(field.type, safe=False)  # finer than milliseconds: cut, as everywhere
        else:
            cast = column.cast(field.type)
    except pa.ArrowException as exc:
        said = str(exc).splitlines()[0][:120]
        raise Refusal(422, f"column {field.name}: {column.type} cannot be read as {field.type} ({said})") from exc
    if pa.types.is_floating(field.type):
        cast = pc.if_else(pc.is_nan(cast), pa.scalar(None, field.type), cast)
        _bound(field, pc.greater(pc.abs(cast), delivery.LARGEST), "it is not a finite number")
    elif cell.words is not None:
        spelt = pc.index_in(pc.utf8_lower(pc.utf8_trim_whitespace(cast)), pa.array(list(cell.words), field.type))
        _bound(field, pc.and_(pc.is_null(spelt), pc.is_valid(cast)), f"it is not {delivery.meant(cell)}")
        cast = pa.array(list(cell.words.values()), field.type).take(spelt)
    elif pa.types.is_string(field.type):
        longest = delivery.LONGEST_SYMBOL if field.name in delivery.SYMBOLS else cell.longest
        wrong = pc.or_(pc.greater(pc.utf8_length(cast), longest), pc.match_substring(cast, "\0"))
        if cell.needed:
            wrong = pc.or_(wrong, pc.equal(pc.utf8_trim_whitespace(cast), ""))
        _bound(field, wrong, f"it is not {delivery.meant(cell)}")
    elif pa.types.is_date32(field.type) or pa.types.is_timestamp(field.type):
        year = pc.year(cast)
        wrong = pc.or_(pc.less(year, delivery.YEARS.start), pc.greater_equal(year, delivery.YEARS.stop))
        _bound(field, wrong, f"its year is not one of {delivery.YEARS.start} to {delivery.YEARS.stop - 1}")
    if field.name not in delivery.SYMBOLS:
        return cast
    parsed = symbols.parse_column(cast)
    _bound(field, pc.and_(pc.is_null(parsed), pc.is_valid(cast)), "it is no symbol; write 600519.SH")
    return parsed


def _bound(field: Field, wrong: pa.Array, reason: str) -> None:
    bad = np.flatnonzero(pc.fill_null(wrong, False).to_numpy(zero_copy_only=False))
    if len(bad):
        raise Refusal(422, f"row {int(bad[0])}, column {field.name}: {reason}")
