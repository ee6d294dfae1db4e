"""A vendor's table before it is written to the wire, and the faults that act on its content."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from mystocks_ingest.sim.faults import CONTENT, Fault

Cell = str | float | int | None


@dataclass(frozen=True)
class Answer:
    """Columns in the vendor's order of fields and rows. The names below tell the faults what is what."""

    fields: tuple[str, ...]
    columns: tuple[Sequence[Cell], ...]
    time: str = ""
    prices: tuple[str, ...] = ()  # open, high, low, close
    volume: str = ""
    amount: str = ""
    newest_first: bool = False
    has_more: bool = False
    adjusted: tuple[Sequence[Cell], ...] = field(default=())  # forward-adjusted prices, in the order of ``prices``
    note: int = 0  # rows of the whole list, of which this is a page
    dash: Cell = None  # how this vendor shows that there is no number

    @property
    def size(self) -> int:
        return len(self.columns[0]) if self.columns else 0

    def column(self, name: str) -> Sequence[Cell]:
        return self.columns[self.fields.index(name)]

    def take(self, rows: Sequence[int] | slice) -> Answer:
        """The rows numbered by ``rows``, in that order."""

        def pick(column: Sequence[Cell]) -> Sequence[Cell]:
            return column[rows] if isinstance(rows, slice) else [column[r] for r in rows]

        return replace(
            self, columns=tuple(pick(c) for c in self.columns), adjusted=tuple(pick(c) for c in self.adjusted)
        )

    def put(self, name: str, cells: Sequence[Cell]) -> Answer:
        """With the column ``name`` replaced."""
        at = self.fields.index(name)
        return replace(self, columns=(*self.columns[:at], cells, *self.columns[at + 1 :]))

    def select(self, fields: Sequence[str]) -> Answer:
        """Only ``fields``, in that order; unknown names are left out."""
        known = [f for f in fields if f in self.fields]
        return replace(self, fields=tuple(known), columns=tuple(self.column(f) for f in known))


def distort(answer: Answer, faults: Sequence[Fault]) -> Answer:
    """``answer`` after the content faults among ``faults``."""
    for fault in faults:
        if fault.kind in CONTENT:
            answer = _distort(answer, fault)
    return answer


def _distort(answer: Answer, fault: Fault) -> Answer:
    rows = range(answer.size)
    middle = answer.size // 2
    numbers = [f for f in (*answer.prices, answer.volume, answer.amount) if f in answer.fields]
    match fault.kind:
        case "empty":
            return answer.take(slice(0, 0))
        case "truncated":
            wanted = int(fault.number("rows", 100))
            return replace(answer.take(slice(0, wanted)), has_more=answer.size > wanted)
        case "reversed":
            return answer.take(slice(None, None, -1))
        case "column_added":
            return replace(
                answer, fields=(*answer.fields, "new_column"), columns=(*answer.columns, ["1"] * answer.size)
            )
        case "column_removed":
            gone = fault.text("column") or answer.fields[-1]
            return answer.select([f for f in answer.fields if f != gone])
        case "column_renamed":
            old = fault.text("column") or answer.fields[-1]
            return replace(answer, fields=tuple(f + "_new" if f == old else f for f in answer.fields))
        case "volume_x100" if answer.volume in answer.fields:
            return _scaled(answer, answer.volume, 100)
        case "lots_as_shares" if answer.volume in answer.fields:
            return _scaled(answer, answer.volume, 0.01)
        case "amount_x1000" if answer.amount in answer.fields:
            return _scaled(answer, answer.amount, 1000)
        case "forward_adjusted" if answer.adjusted:
            for name, cells in zip(answer.prices, answer.adjusted, strict=True):
                answer = answer.put(name, cells) if name in answer.fields else answer
            return answer
    if not answer.size:
        return answer
    match fault.kind:
        case "drop_row":
            return answer.take([r for r in rows if r != middle])
        case "drop_last":
            return answer.take([r for r in rows if r != (0 if answer.newest_first else answer.size - 1)])
        case "duplicate_row":
            return answer.take([*range(middle + 1), *range(middle, answer.size)])
        case "dash":
            for name in numbers:
                answer = _cell(answer, name, middle, answer.dash)
        case "bad_ohlc" if len(answer.prices) >= 4 and set(answer.prices) <= set(answer.fields):
            high, low = (answer.column(answer.prices[n])[middle] for n in (1, 2))
            answer = _cell(answer, answer.prices[1], middle, _times(low, 0.99))
            answer = _cell(answer, answer.prices[2], middle, _times(high, 1.01))
        case "negative_price" if len(answer.prices) >= 4:
            answer = _cell(answer, answer.prices[3], middle, _times(answer.column(answer.prices[3])[middle], -1))
        case "wrong_close" if len(answer.prices) >= 4:
            close = _times(answer.column(answer.prices[3])[middle], 1.07)
            answer = _cell(answer, answer.prices[3], middle, close)
            high = answer.column(answer.prices[1])[middle]
            answer = _cell(answer, answer.prices[1], middle, max(high, close, key=_number))
        case "holiday_row" if answer.time in answer.fields:
            text = str(answer.column(answer.time)[middle])
            answer = _cell(
                answer, answer.time, middle, ("2024-01-07" if "-" in text else "20240107") + text[_day(text) :]
            )
        case "provisional" if len(answer.prices) >= 4 and answer.time in answer.fields:
            answer = _provisional(answer, fault.text("day"))
    return answer


def _provisional(answer: Answer, day: str | None) -> Answer:
    """The newest session as it stood in the morning: nothing but the opening price, four tenths of the volume."""
    times = [str(c) for c in answer.column(answer.time)]
    newest = day or max(times)
    for row, text in enumerate(times):
        if not text.replace("-", "").startswith(newest.replace("-", "")):
            continue
        opening, close = (answer.column(answer.prices[n])[row] for n in (0, 3))
        if not _number(opening) or not _number(close):
            continue
        for name in answer.prices[1:]:
            answer = _cell(answer, name, row, opening)
        volume = _number(answer.column(answer.volume)[row])
        mean = _number(answer.column(answer.amount)[row]) / volume if volume else 0.0
        part = int(volume * 0.4)
        # amount / volume must be the opening price in the vendor's own units: known from the day's mean
        scale = _scale_of(mean / _number(close)) if mean else 0.0
        answer = _cell(answer, answer.volume, row, _like(answer.column(answer.volume)[row], part))
        amount = _like(answer.column(answer.amount)[row], part * _number(opening) * scale)
        answer = _cell(answer, answer.amount, row, amount)
    return answer


def _scale_of(ratio: float) -> float:
    """The power of ten nearest to ``ratio``: the vendor's amount unit over its price x volume unit."""
    scale = 1.0
    while ratio > scale * 3.2:
        scale *= 10
    while ratio < scale / 3.2:
        scale /= 10
    return scale


def _day(text: str) -> int:
    return 10 if "-" in text else 8


def _number(cell: Cell) -> float:
    try:
        return float(cell)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return 0.0


def _like(cell: Cell, value: float) -> Cell:
    """``value`` written as ``cell`` is: text with as many decimals, a whole number, a float."""
    if isinstance(cell, str):
        return f"{value:.{len(cell.partition('.')[2])}f}"
    return round(value) if isinstance(cell, int) else round(value, 4)


def _times(cell: Cell, factor: float) -> Cell:
    return _like(cell, _number(cell) * factor)


def _scaled(answer: Answer, name: str, factor: float) -> Answer:
    return answer.put(name, [_times(c, factor) if c not in (None, "", "-") else c for c in answer.column(name)])


def _cell(answer: Answer, name: str, row: int, cell: Cell) -> Answer:
    column = list(answer.column(name))
    column[row] = cell
    return answer.put(name, column)
