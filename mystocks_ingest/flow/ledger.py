"""The ledger of one dataset: which session of which symbol is expected, done, or still to be fetched.

One boolean matrix per question, symbols by sessions: 5,400 symbols over ten years are 13 MB a matrix, and
every rule about what to fetch next is a line of numpy. A cell is done when its row is durable or when the row
is known not to exist; only done cells enter a checkpoint, so a checkpoint never passes a hole.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt

from mystocks_ingest.market.frames import Symbol, Window
from mystocks_ingest.ports import Checkpoint

Mask = npt.NDArray[np.bool_]
Days = npt.NDArray[np.datetime64]


@dataclass
class Ledger:
    """State of one dataset over ``symbols`` (rows) and ``sessions`` (columns, ascending)."""

    dataset: str
    symbols: tuple[Symbol, ...]
    sessions: Days
    expected: Mask
    done: Mask
    suspended: Mask
    asked: dict[str, Mask] = field(default_factory=dict)  # by source, in this run: asked, whatever came of it
    answered: dict[str, Mask] = field(default_factory=dict)  # by family, in this run: a complete answer
    _dirty: set[int] = field(default_factory=set)
    _row_of: dict[str, int] = field(default_factory=dict)

    @classmethod
    def blank(cls, dataset: str, symbols: Sequence[Symbol], sessions: Days) -> Ledger:
        """A ledger in which every cell is expected and nothing is done."""
        shape = (len(symbols), len(sessions))
        ledger = cls(
            dataset, tuple(symbols), sessions, np.ones(shape, bool), np.zeros(shape, bool), np.zeros(shape, bool)
        )
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

    def cells(self, symbols: Sequence[str], days: Days) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        """Row and column numbers of (symbol, day) pairs; pairs outside the ledger are left out."""
        uniques, inverse = np.unique(np.asarray(symbols, dtype=object).astype(str), return_inverse=True)
        row_of_unique = np.array([self._row_of.get(u, -1) for u in uniques.tolist()], dtype=np.intp)
        rows = row_of_unique[inverse] if len(uniques) else np.empty(0, np.intp)
        columns = np.searchsorted(self.sessions, days)
        columns_safe = np.minimum(columns, max(len(self.sessions) - 1, 0))
        known = (rows >= 0) & (columns < len(self.sessions))
        if len(self.sessions):
            known &= self.sessions[columns_safe] == days
        return rows[known], columns[known]

    def settle(self, rows: npt.NDArray[np.intp], columns: npt.NDArray[np.intp]) -> None:
        """These cells are done."""
        self.done[rows, columns] = True
        self._dirty.update(np.unique(rows).tolist())

    def settle_mask(self, mask: Mask) -> None:
        """Every cell of ``mask`` is done."""
        self.settle(*np.nonzero(mask))

    def asked_of(self, source: str) -> Mask:
        """Cells that ``source`` was asked for in this run, whatever came of it."""
        return self.asked.setdefault(source, np.zeros(self.done.shape, bool))

    def answered_by(self, family: str) -> Mask:
        """Cells for which ``family`` gave a complete answer in this run, with or without a row."""
        return self.answered.setdefault(family, np.zeros(self.done.shape, bool))

    @property
    def todo(self) -> Mask:
        """Expected and not done."""
        return self.expected & ~self.done

    def checkpoints(self, source: str) -> list[Checkpoint]:
        """Windows of done cells for every symbol that changed since the last call.

        A window ends the day after its last done session, so the next session is never claimed.
        """
        rows = sorted(self._dirty)
        self._dirty.clear()
        return [
            Checkpoint(self.dataset, self.symbols[row], window, source)
            for row in rows
            for window in self.windows(self.done[row])
        ]

    def windows(self, mask: npt.NDArray[np.bool_]) -> Iterator[Window]:
        """The runs of true columns as half-open windows of days."""
        edges = np.flatnonzero(np.diff(np.concatenate(([False], mask, [False]))))
        days: list[date] = self.sessions.astype("datetime64[D]").astype(object).tolist()
        for first, end in zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True):
            yield Window(days[first], days[end - 1] + timedelta(days=1))
