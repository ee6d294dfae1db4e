"""Rows that a client delivers: JSON in, one frame out, or a refusal that names each wrong cell. Pure.

A body is taken whole or refused whole: a column that the dataset does not have, one that it needs and that is missing, a
cell of another type, and nothing of the body goes on. What then passes is judged by the checks like any vendor's row.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa

from mystocks_ingest.market import symbols
from mystocks_ingest.market.datasets import DATASETS, SHANGHAI, Category, Dataset, Field
from mystocks_ingest.market.frames import Frame
from mystocks_ingest.schema.tables import Tables
from mystocks_ingest.web.refusals import Refusal

_TAKEN = frozenset({Category.MARKET, Category.DERIVED, Category.TRANSACTION})
_OURS = frozenset({"source", "fetched_at"})
SYMBOLS = frozenset({"symbol", "index_symbol"})
_SHOWN = 20  # wrong cells named in one answer
LONGEST_TEXT = 4096
LONGEST_SYMBOL = 32  # in any notation
LARGEST = 1e300
YEARS = range(1990, 2101)  # from before the first session of either exchange
_ZONE = ZoneInfo(SHANGHAI)
_FILLED = r"\S"  # a needed text is more than blanks
_DAY = r"^\d{4}-\d{2}-\d{2}$"
_SIDES = {"b": "B", "buy": "B", "买": "B", "买入": "B", "s": "S", "sell": "S", "卖": "S", "卖出": "S"}
_SIDES_OR_NONE = {**_SIDES, "n": "N", "neutral": "N", "flat": "N"}
_WORDS: Mapping[tuple[str, str], Mapping[str, str]] = {
    ("order", "side"): _SIDES,
    ("fill", "side"): _SIDES,
    ("signal", "side"): _SIDES_OR_NONE,
    ("tick", "side"): _SIDES_OR_NONE,
    ("limit_state", "state"): {"up": "up", "down": "down"},
}
"""By dataset and column: the spellings taken, in lower case, and what each is stored as."""
_MOMENT = r"^\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}:\d{2}(\.\d{1,6})?(Z|[+-]\d{2}:\d{2})?$"


def deliverable() -> tuple[Dataset, ...]:
    """The datasets that clients may deliver: what happens, is derived and is traded; not what the service leans on."""
    return tuple(d for d in DATASETS.values() if d.category in _TAKEN)


def columns(wanted: Dataset) -> tuple[Field, ...]:
    """What a delivered row may hold; ``source`` and ``fetched_at`` are the service's to fill."""
    return tuple(f for f in wanted.fields if f.name not in _OURS)


def needed(wanted: Dataset) -> tuple[str, ...]:
    """The columns that no row may leave out; ``provisional`` left out is false."""
    return tuple(f.name for f in columns(wanted) if f.required and f.name != "provisional")


@dataclass(frozen=True, slots=True)
class Cell:
    """What a cell of a column may be. ``words``: the spellings taken, and how each is stored; none: any text."""

    field: Field
    needed: bool
    longest: int = LONGEST_TEXT
    words: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Form:
    """What is delivered of a dataset."""

    wanted: Dataset
    cells: Mapping[str, Cell]


def form(wanted: Dataset, tables: Tables) -> Form:
    """The form of ``wanted``.

    A text is as long as the narrowest of its tables has it: what one table refuses would stand in the others.
    """
    longest: dict[str, int] = {}
    for table in (t for t in tables.all if t.dataset == wanted):
        for column in table.columns:
            if column.length is not None:
                longest[column.name] = min(longest.get(column.name, LONGEST_TEXT), column.length)
    required = set(needed(wanted))
    cells = {
        f.name: Cell(f, f.name in required, longest.get(f.name, LONGEST_TEXT), _WORDS.get((wanted.name, f.name)))
        for f in columns(wanted)
    }
    return Form(wanted, cells)


def body_schema(asked: Form, most_rows: int) -> dict[str, Any]:
    """The JSON schema of a body."""
    row = {
        "type": "object",
        "properties": {name: _cell_schema(cell) for name, cell in asked.cells.items()},
        "required": list(needed(asked.wanted)),
        "additionalProperties": False,
    }
    rows = {"type": "array", "items": row, "minItems": 1, "maxItems": most_rows}
    return {"type": "object", "properties": {"rows": rows}, "required": ["rows"], "additionalProperties": False}


def _cell_schema(cell: Cell) -> dict[str, Any]:
    kind: dict[str, Any]
    field = cell.field
    if field.name in SYMBOLS:
        kind = {"type": "string", "maxLength": LONGEST_SYMBOL, "examples": ["600519.SH"]}
    elif cell.words is not None:
        choices: list[str | None] = list(dict.fromkeys(cell.words.values()))
        kind = {"type": "string", "enum": choices if field.required else [*choices, None]}
    elif pa.types.is_string(field.type):
        kind = {"type": "string", "maxLength": cell.longest}
        if cell.needed:
            kind["pattern"] = _FILLED
    elif pa.types.is_date32(field.type):
        kind = {"type": "string", "pattern": _DAY, "examples": ["2024-01-31"]}
    elif pa.types.is_timestamp(field.type):
        kind = {"type": "string", "pattern": _MOMENT, "examples": ["2024-01-31T09:31:00+08:00"]}
    elif pa.types.is_integer(field.type):
        low, high = _bounds(field)
        kind = {"type": "integer", "minimum": low, "maximum": high}
    elif pa.types.is_boolean(field.type):
        kind = {"type": "boolean"}
    else:
        kind = {"type": "number"}
    if field.unit:
        kind["description"] = field.unit
    if not field.required:
        kind["type"] = [kind["type"], "null"]
    return kind


def frame(asked: Form, body: bytes, *, source: str, at: datetime, most_rows: int) -> Frame:
    """The rows of ``body``; ``raw`` holds them as read, with their number. Raises Refusal."""
    return framed(asked, _rows(body, most_rows), source=source, at=at)


def framed(asked: Form, rows: Sequence[Mapping[str, object]], *, source: str, at: datetime) -> Frame:
    """The frame of ``rows``, whose cells are what JSON has. Raises Refusal."""
    wrong: list[dict[str, object]] = []
    arrays: dict[str, pa.Array] = {}
    wanted, known = asked.wanted, asked.cells
    strange = sorted({str(name) for row in rows for name in row} - set(known))
    if strange:
        raise Refusal(422, f"{wanted.name} has no column {_quoted(strange[0])}; a row may hold {', '.join(known)}")
    for name, cell in known.items():
        values = _read(cell, [row.get(name) for row in rows], wrong)
        if not wrong:
            arrays[name] = pa.array(values, cell.field.type)
    if wrong:
        first = "row {row}, column {column}: {reason}".format(**wrong[0])
        raise Refusal(422, f"nothing was stored, for not every cell can be read: {first}", rows=wrong)
    return completed(wanted, arrays, len(rows), source=source, at=at)


def completed(wanted: Dataset, arrays: dict[str, pa.Array], count: int, *, source: str, at: datetime) -> Frame:
    """The frame of what was delivered: the columns of ``columns``, read, and those that the service fills."""
    names = [f.name for f in columns(wanted)]
    arrays["source"] = pa.repeat(pa.scalar(source, pa.string()), count)
    if "fetched_at" in wanted.schema.names:
        arrays["fetched_at"] = pa.repeat(pa.scalar(at, wanted.schema.field("fetched_at").type), count)
    if "provisional" in names:
        arrays["provisional"] = arrays["provisional"].fill_null(False)
    schema = pa.schema([pa.field(f.name, f.type) for f in wanted.fields])
    batch = pa.RecordBatch.from_arrays([arrays[name] for name in schema.names], schema=schema)
    raw = batch.select(names).add_column(0, "#", pa.array(range(count), pa.int32()))
    return Frame(wanted, source, at, batch, raw)


def numbers(part: Frame) -> list[int]:
    """Which rows of the body these are, counted from 0."""
    found: list[int] = [] if part.raw is None else part.raw.column("#").to_pylist()
    return found


def rows_of(body: bytes, most: int) -> Sequence[Mapping[str, object]]:
    """The rows of a JSON text that is a list of them, or a body. Raises Refusal."""
    text = body.strip()
    return _rows(b'{"rows": %b}' % text if text.startswith(b"[") else text, most)


def _rows(body: bytes, most: int) -> Sequence[Mapping[str, object]]:
    try:
        document = json.loads(body, parse_constant=_no_constant, object_pairs_hook=_once)
    except (ValueError, RecursionError) as exc:
        raise Refusal(400, f"the body is no JSON text ({_plain(exc)})") from exc
    rows = document.get("rows") if isinstance(document, dict) and set(document) == {"rows"} else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise Refusal(422, 'the body must be {"rows": [{...}, ...]}, each row an object with a value for each column')
    if not rows:
        raise Refusal(422, "the body holds no row")
    if len(rows) > most:
        raise Refusal(422, f"the body holds {len(rows):,} rows; at most {most:,} are taken at once")
    return rows


def _no_constant(word: str) -> object:
    raise ValueError(f"{word} is no number")


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice in one object")
    return found


def _plain(exc: Exception) -> str:
    return "it nests too deep" if isinstance(exc, RecursionError) else ascii(str(exc))[1:-1][:120]


def _quoted(text: str) -> str:
    return ascii(text[:60])


def _read(kind: Cell, cells: Sequence[object], wrong: list[dict[str, object]]) -> list[object]:
    """The cells in the column's type; what is wrong is added to ``wrong``."""
    field = kind.field
    values = _values(kind, cells)
    if None in values:
        for number, (cell, value) in enumerate(zip(cells, values, strict=True)):
            if value is not None or (cell is None and not kind.needed) or len(wrong) >= _SHOWN:
                continue
            reason = "it is missing" if cell is None else f"{_shown(cell)} is not {meant(kind)}"
            wrong.append({"row": number, "column": field.name, "reason": reason})
    if field.name in SYMBOLS:
        return _symbols(field, values, wrong)
    return values


def _values(cell: Cell, cells: Sequence[object]) -> list[object]:
    """The cells in the column's type, None where they are of another; whole columns at once where they are plain."""
    read, field = _reader(cell), cell.field
    kinds = set(map(type, cells)) - {type(None)}
    if kinds == {str}:
        known = {cell: read(cell) for cell in set(cells)}
        return [known[cell] for cell in cells]
    if kinds == {float} and pa.types.is_floating(field.type):
        numbers = [cell for cell in cells if isinstance(cell, float)]
        if min(numbers) >= -LARGEST and max(numbers) <= LARGEST:
            return list(cells)
    return [read(cell) for cell in cells]


def _symbols(field: Field, values: Sequence[object], wrong: list[dict[str, object]]) -> list[object]:
    known: list[object] = symbols.parse_column(pa.array(values, pa.string())).to_pylist()
    for number, (value, symbol) in enumerate(zip(values, known, strict=True)):
        if value is not None and symbol is None and len(wrong) < _SHOWN:
            reason = f"{_shown(value)} is no symbol; write 600519.SH"
            wrong.append({"row": number, "column": field.name, "reason": reason})
    return known


def _reader(cell: Cell) -> Callable[[object], object]:
    """A cell in the column's type, None where it is of another."""
    field = cell.field
    if pa.types.is_string(field.type):
        return partial(_text, cell)
    if pa.types.is_date32(field.type):
        return _day
    if pa.types.is_timestamp(field.type):
        return _moment
    if pa.types.is_boolean(field.type):
        return lambda cell: cell if isinstance(cell, bool) else None
    if pa.types.is_integer(field.type):
        low, high = _bounds(field)
        return lambda cell: _integer(cell, low, high)
    return _number


def _text(kind: Cell, cell: object) -> str | None:
    if not isinstance(cell, str) or "\0" in cell:
        return None
    if kind.words is not None:
        return kind.words.get(cell.strip().lower())
    if (len(cell) > kind.longest and kind.field.name not in SYMBOLS) or (kind.needed and not cell.strip()):
        return None
    try:
        cell.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return None
    return cell


def _day(cell: object) -> date | None:
    try:
        day = date.fromisoformat(cell) if isinstance(cell, str) and len(cell) == 10 else None
    except ValueError:
        return None
    return day if day is not None and day.year in YEARS else None


def _moment(cell: object) -> datetime | None:
    """One without a zone is Shanghai's."""
    try:
        at = datetime.fromisoformat(cell) if isinstance(cell, str) and 19 <= len(cell) <= 40 else None
        if at is None or at.year not in YEARS:
            return None
        return at.replace(tzinfo=_ZONE) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _integer(cell: object, low: int, high: int) -> int | None:
    if isinstance(cell, bool) or not isinstance(cell, int | float):
        return None
    if not low <= cell <= high or cell != int(cell):
        return None
    return int(cell)


def _number(cell: object) -> float | None:
    if isinstance(cell, bool) or not isinstance(cell, int | float):
        return None
    return float(cell) if -LARGEST <= cell <= LARGEST else None


def _bounds(field: Field) -> tuple[int, int]:
    most = 2**31 - 1 if pa.types.is_int32(field.type) else 2**53  # beyond it a double does not hold every integer
    return -most, most


def _shown(cell: object) -> str:
    if isinstance(cell, str | int | float):
        return ascii(cell)[:60]
    return "a list" if isinstance(cell, list) else "an object"


def meant(cell: Cell) -> str:
    """What a cell should be, in words."""
    field = cell.field
    if cell.words is not None:
        return f"one of {', '.join(dict.fromkeys(cell.words.values()))}"
    if pa.types.is_string(field.type):
        return f"a text of {'1 to' if cell.needed else 'at most'} {cell.longest} characters"
    if pa.types.is_date32(field.type):
        return "a day such as 2024-01-31"
    if pa.types.is_timestamp(field.type):
        return "a time such as 2024-01-31T09:31:00+08:00"
    if pa.types.is_boolean(field.type):
        return "true or false"
    return "an integer in its range" if pa.types.is_integer(field.type) else "a finite number"
