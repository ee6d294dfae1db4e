"""The ledger of one dataset: which session of which symbol is expected, done, or still to be fetched.

One boolean matrix per question, symbols by sessions: 5,400 symbols over ten years are 13 MB a matrix, and
every rule about what to fetch next is a line of numpy. A cell is done when its row is durable or when the row
is known not to exist; only done cells enter a checkpoint, so a checkpoint never passes a hole.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mystocks_ingest.market.datasets import Dataset
from mystocks_ingest.market.frames import Symbol, Window
from mystocks_ingest.market.gaps import Coverage, Gap, find_gaps
from mystocks_ingest.ports import Checkpoint

Mask = npt.NDArray[np.bool_]
_ROWS_AT_A_TIME = 256  # windows are found on copies: a few hundred rows of a matrix, never all of it
Block = tuple[npt.NDArray[np.intp], ...]  # np.ix_ of rows and columns
Days = npt.NDArray[np.datetime64]


def keys_of(wanted: Dataset, rows: pa.RecordBatch) -> tuple[pa.Array, pa.Array]:
    """Symbols and session days of rows, as ``Ledger.cells`` takes them."""
    time = rows.column(wanted.time or "trade_date")
    if pa.types.is_timestamp(time.type):
        time = pc.cast(pc.floor_temporal(pc.local_timestamp(time), unit="day"), pa.date32())
    return rows.column("symbol"), time


@dataclass(frozen=True, slots=True)
class Cells:
    """Cells of a ledger, and where in the asked-for sequence each stood."""

    rows: npt.NDArray[np.intp]
    columns: npt.NDArray[np.intp]
    positions: npt.NDArray[np.intp]


@dataclass
class Ledger:
    """State of one dataset over ``symbols`` (rows) and ``sessions`` (columns, ascending)."""

    dataset: str
    symbols: tuple[Symbol, ...]
    sessions: Days
    expected: Mask
    done: Mask
    asked: dict[str, Mask] = field(default_factory=dict)  # by source, in this run: asked, whatever came of it
    answered: dict[str, Mask] = field(default_factory=dict)  # by family, in this run: a complete answer
    suspensions_asked: set[str] = field(default_factory=set)  # sources whose record of suspensions was read
    _dirty: set[int] = field(default_factory=set)
    _row_of: dict[str, int] = field(default_factory=dict)

    @classmethod
    def blank(cls, dataset: str, symbols: Sequence[Symbol], sessions: Days) -> Ledger:
        """A ledger in which every cell is expected and nothing is done."""
        shape = (len(symbols), len(sessions))
        ledger = cls(dataset, tuple(symbols), sessions, np.ones(shape, bool), np.zeros(shape, bool))
        ledger._row_of = {s: i for i, s in enumerate(symbols)}
        return ledger

    def recall(self, points: Iterable[Checkpoint]) -> None:
        """Mark what earlier runs made durable."""
        for point in points:
            row = self._row_of.get(point.symbol)
            if row is not None:
                self.done[row, self.columns(point.window)] = True

    def columns(self, window: Window) -> slice:
        """The columns whose session lies inside ``window``."""
        first, end = np.searchsorted(self.sessions, [np.datetime64(window.start), np.datetime64(window.end)])
        return slice(int(first), int(end))

    def rows(self, symbols: Iterable[str]) -> npt.NDArray[np.intp]:
        """Row numbers of those symbols that stand in the ledger."""
        return np.array([self._row_of[s] for s in symbols if s in self._row_of], dtype=np.intp)

    def cells(self, symbols: pa.Array, days: pa.Array) -> Cells:
        """The cells of (symbol, day) pairs; pairs outside the ledger are left out."""
        coded = symbols.dictionary_encode()
        row_of_code = np.array([self._row_of.get(s, -1) for s in coded.dictionary.to_pylist()] or [-1], dtype=np.intp)
        rows = row_of_code[coded.indices.fill_null(0).to_numpy()] if len(coded) else np.empty(0, np.intp)
        wanted = days.to_numpy(zero_copy_only=False).astype("datetime64[D]")
        columns = np.searchsorted(self.sessions, wanted)
        known = (rows >= 0) & (columns < len(self.sessions))
        positions = np.flatnonzero(known)
        positions = positions[self.sessions[columns[positions]] == wanted[positions]]
        return Cells(rows[positions], columns[positions], positions)

    @property
    def agreed(self) -> Mask:
        """Cells for which two families gave a complete answer in this run."""
        votes = np.zeros(self.done.shape if len(self.answered) > 1 else (1, 1), np.int8)
        if len(self.answered) > 1:
            for answered in self.answered.values():
                votes += answered
        mask: Mask = votes >= 2
        return mask

    def gaps(self, rows: npt.NDArray[np.intp], mask: Mask) -> list[Gap]:
        """The runs of ``mask`` in these rows, as far as they are not done."""
        symbols = tuple(self.symbols[row] for row in rows.tolist())
        expected = Coverage(self.dataset, symbols, self.sessions, mask[rows])
        return find_gaps(expected, replace(expected, flags=self.done[rows]))

    def settle(self, cells: Cells) -> None:
        """These cells are done."""
        self.done[cells.rows, cells.columns] = True
        self._dirty.update(np.unique(cells.rows).tolist())

    def unsettle(self, first: int) -> None:
        """From this column on nothing is done, whatever earlier runs said."""
        self._dirty.update(np.flatnonzero(self.done[:, first:].any(axis=1)).tolist())
        self.done[:, first:] = False

    def settle_mask(self, mask: Mask) -> None:
        """Every cell of ``mask`` is done."""
        self.done |= mask
        self._dirty.update(np.flatnonzero(mask.any(axis=1)).tolist())

    def was_asked(self, source: str, block: Block) -> None:
        """``source`` was asked for these rows and columns. Only cells still to do are noted.

        Nobody asks about the others again, and a matrix whose pages are never written costs no memory.
        """
        self._note(self.asked_of(source), block, self.expected[block] & ~self.done[block])

    def has_answered(self, family: str, block: Block, unproven: Mask) -> None:
        """``family`` answered completely for these rows and columns, but for the cells of ``unproven``; as above."""
        cells = self.expected[block] & ~self.done[block]
        self._note(self.answered_by(family), block, cells & ~unproven)

    @staticmethod
    def _note(mask: Mask, block: Block, cells: Mask) -> None:
        rows, columns = np.nonzero(cells)
        if len(rows):
            mask[block[0].ravel()[rows], block[1].ravel()[columns]] = True

    def asked_of(self, source: str) -> Mask:
        """Cells still to do that ``source`` was asked for in this run, whatever came of it."""
        return self.asked.setdefault(source, np.zeros(self.done.shape, bool))

    def answered_by(self, family: str) -> Mask:
        """Cells still to do for which ``family`` gave a complete answer in this run."""
        return self.answered.setdefault(family, np.zeros(self.done.shape, bool))

    @property
    def asked_at_all(self) -> Mask:
        """Cells that some source was asked for in this run."""
        return _any(self.asked.values(), self.done.shape)

    @property
    def answered_at_all(self) -> Mask:
        """Cells for which some family gave a complete answer in this run."""
        return _any(self.answered.values(), self.done.shape)

    @property
    def todo(self) -> Mask:
        """Expected and not done."""
        cells: Mask = ~self.done
        cells &= self.expected
        return cells

    def settle_block(self, block: Block) -> None:
        """Every cell of these rows and columns is done."""
        self.done[block] = True
        self._dirty.update(block[0].ravel().tolist())

    def checkpoints(self, source: str) -> list[Checkpoint]:
        """Windows of done cells for every symbol that changed since the last call.

        A window ends the day after its last done session, so the next session is never claimed.
        """
        rows = sorted(self._dirty)
        self._dirty.clear()
        return [
            Checkpoint(self.dataset, self.symbols[part[i]], window, source)
            for part in (rows[at : at + _ROWS_AT_A_TIME] for at in range(0, len(rows), _ROWS_AT_A_TIME))
            for i, window in self.windows(self.done[part])
        ]

    def windows(self, mask: Mask) -> Iterator[tuple[int, Window]]:
        """Row number and window of each run of true cells, in the order of the rows."""
        edges = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8), axis=1)
        rows, first = np.nonzero(edges == 1)
        _, end = np.nonzero(edges == -1)
        days = self._days
        for row, start, stop in zip(rows.tolist(), first.tolist(), end.tolist(), strict=True):
            yield row, Window(days[start], days[stop - 1] + timedelta(days=1))

    @cached_property
    def _days(self) -> list[date]:
        return self.sessions.astype("datetime64[D]").tolist()  # type: ignore[no-any-return]


def _any(masks: Collection[Mask], shape: tuple[int, ...]) -> Mask:
    """The union; one mask alone is given as it is, for a matrix of the whole market is not copied lightly."""
    if len(masks) == 1:
        return next(iter(masks))
    out = np.zeros(shape, bool)
    for mask in masks:
        out |= mask
    return out
