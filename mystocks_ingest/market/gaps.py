"""Gaps: sessions that should have a row and have none, and which of them a suspension explains.

A symbol that did not trade has no bar, and a symbol whose bar was lost has none either. The exchange tells them
apart: each bar carries the reference price ``pre_close``. When the bar after the missing sessions starts from the
close of the bar before them (or from that close over the change of the adjustment factor), nothing traded between.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mystocks_ingest.market.calendar import Calendar
from mystocks_ingest.market.frames import Symbol, Window
from mystocks_ingest.market.instruments import Instruments

Mask = npt.NDArray[np.bool_]
Days = npt.NDArray[np.datetime64]
REFERENCE_TOLERANCE = 0.006  # CNY: the exchange rounds the reference price to a tick


@dataclass(frozen=True, slots=True)
class Gap:
    """Sessions in a row that one symbol of a dataset misses."""

    dataset: str
    symbol: Symbol
    sessions: tuple[date, ...]

    def __str__(self) -> str:
        first, last = self.sessions[0], self.sessions[-1]
        span = f"{first}" if first == last else f"{first}..{last}"
        return f"{self.dataset} {self.symbol} {span} ({len(self.sessions)} sessions)"


@dataclass(frozen=True, eq=False)
class Coverage:
    """Which (symbol, session) pairs of a dataset exist: a flag per pair, symbols down, sessions across.

    5,400 symbols over ten years are 13 MB.
    """

    dataset: str
    symbols: tuple[Symbol, ...]
    sessions: Days
    flags: Mask

    @classmethod
    def none(cls, dataset: str, symbols: Iterable[Symbol], sessions: Sequence[date] | Days) -> Coverage:
        """Nothing covered yet."""
        names = tuple(symbols)
        days = np.asarray(sessions, dtype="datetime64[D]")
        return cls(dataset, names, days, np.zeros((len(names), len(days)), dtype=np.bool_))

    @classmethod
    def expected(
        cls, dataset: str, symbols: Iterable[Symbol], window: Window, calendar: Calendar, instruments: Instruments
    ) -> Coverage:
        """Every session of the window on which each symbol was listed; an unknown symbol is expected on all."""
        empty = cls.none(dataset, symbols, calendar.sessions(window))
        born, died = instruments.lives(pa.array([str(s) for s in empty.symbols], pa.string()))
        before = empty.sessions[None, :] < born[:, None]  # NaT compares false: unknown means listed
        after = empty.sessions[None, :] >= died[:, None]  # the delisting day itself has no trading
        return cls(dataset, empty.symbols, empty.sessions, ~(before | after))

    def with_rows(self, rows: pa.Table | pa.RecordBatch) -> Coverage:
        """Also covered: the pairs in ``rows`` (symbol, trade_date). Rows of other symbols or days do not count."""
        return Coverage(self.dataset, self.symbols, self.sessions, self.flags | self._marked(rows))

    def without(self, rows: pa.Table | pa.RecordBatch) -> Coverage:
        """Not covered any more: the pairs in ``rows``, as of suspensions from what is expected."""
        return Coverage(self.dataset, self.symbols, self.sessions, self.flags & ~self._marked(rows))

    def _marked(self, rows: pa.Table | pa.RecordBatch) -> Mask:
        flags = np.zeros_like(self.flags)
        if not rows.num_rows or not flags.size:
            return flags
        names = pa.array([str(s) for s in self.symbols], pa.string())
        places = pc.fill_null(pc.index_in(rows["symbol"], value_set=names), -1).to_numpy()
        days = rows["trade_date"].cast(pa.int32()).to_numpy().astype("datetime64[D]")
        column = np.minimum(np.searchsorted(self.sessions, days), len(self.sessions) - 1)
        inside = (places >= 0) & (self.sessions[column] == days)
        flags[places[inside], column[inside]] = True
        return flags

    def count(self) -> int:
        """How many pairs exist."""
        return int(self.flags.sum())


def find_gaps(expected: Coverage, stored: Coverage) -> list[Gap]:
    """What is expected and not stored, per symbol, neighbouring sessions of one symbol together.

    Both must be over the same symbols and sessions.
    """
    missing = expected.flags & ~stored.flags
    gaps = []
    for place in np.flatnonzero(missing.any(axis=1)):
        columns = np.flatnonzero(missing[place])
        runs = np.split(columns, np.flatnonzero(np.diff(columns) > 1) + 1)
        gaps += [Gap(expected.dataset, expected.symbols[place], tuple(expected.sessions[run].tolist())) for run in runs]
    return gaps


def explained_by_continuity(
    rows: pa.Table, gaps: Sequence[Gap], factors: pa.Table | None = None
) -> tuple[list[Gap], list[Gap]]:
    """The gaps that stored daily bars explain as suspensions, and the holes that remain.

    ``rows`` are stored bars (symbol, trade_date, close, pre_close) around the gaps, ``factors`` ADJ_FACTOR rows,
    which explain a reference price lowered by a distribution during the suspension. A gap before the
    first or after the last stored bar has no witness and stays a hole.
    """
    bars = rows.sort_by([("symbol", "ascending"), ("trade_date", "ascending")]).combine_chunks()
    spans = _spans(bars["symbol"])
    days = bars["trade_date"].cast(pa.int32()).to_numpy().astype("datetime64[D]")
    closes = bars["close"].cast(pa.float64()).to_numpy()
    references = pc.fill_null(bars["pre_close"].cast(pa.float64()), np.nan).to_numpy()
    jumps = _Factors(factors)
    explained, holes = [], []
    for gap in gaps:
        start, end = spans.get(gap.symbol, (0, 0))
        after = start + int(np.searchsorted(days[start:end], np.datetime64(gap.sessions[-1]), side="right"))
        before = start + int(np.searchsorted(days[start:end], np.datetime64(gap.sessions[0]))) - 1
        witnessed = start <= before and after < end
        if witnessed and _continues(
            closes[before], references[after], jumps.change(gap.symbol, days[before], days[after])
        ):
            explained.append(gap)
        else:
            holes.append(gap)
    return explained, holes


def _continues(close: float, reference: float, change: float) -> bool:
    """Whether ``reference`` is ``close``, or ``close`` over the factor's ``change`` within rounding."""
    if abs(reference - close) < REFERENCE_TOLERANCE:
        return True
    # vendors' factors are rounded to three or four decimals
    return change != 1.0 and abs(reference - close / change) < REFERENCE_TOLERANCE + 0.001 * close


def contradicted_by_next(rows: pa.RecordBatch, stored: pa.Table, factors: pa.Table | None = None) -> dict[int, str]:
    """Daily bars without a reference price of their own whose close the next stored bar denies: row number -> why.

    ``rows`` are of a vendor that gives neither ``pre_close`` nor the day's percentage, so that nothing in them proves
    the close. ``stored`` (symbol, trade_date, pre_close) and ``factors`` are as for ``explained_by_continuity``. A row
    is judged only where no other row of ``rows`` lies between it and the stored one.
    """
    unproven = np.flatnonzero(rows.column("pre_close").is_null().to_numpy(zero_copy_only=False))
    if not len(unproven) or not stored.num_rows:
        return {}
    bars = stored.sort_by([("symbol", "ascending"), ("trade_date", "ascending")]).combine_chunks()
    spans = _spans(bars["symbol"])
    days = bars["trade_date"].cast(pa.int32()).to_numpy().astype("datetime64[D]")
    references = pc.fill_null(bars["pre_close"].cast(pa.float64()), np.nan).to_numpy()
    jumps = _Factors(factors)
    names = rows.column("symbol").to_pylist()
    mine = rows.column("trade_date").cast(pa.int32()).to_numpy().astype("datetime64[D]")
    closes = rows.column("close").to_numpy(zero_copy_only=False)
    found: dict[int, str] = {}
    for row in unproven.tolist():
        start, end = spans.get(names[row], (0, 0))
        after = start + int(np.searchsorted(days[start:end], mine[row], side="right"))
        own = row + 1 if row + 1 < len(names) and names[row + 1] == names[row] else None
        if after >= end or np.isnan(references[after]) or (own is not None and mine[own] < days[after]):
            continue
        change = jumps.change(names[row], mine[row], days[after])
        if not _continues(float(closes[row]), float(references[after]), change):
            expected = f"{references[after] * change:.4g}" if change != 1.0 else f"{references[after]:.12g}"
            found[row] = (
                f"close {closes[row]:.12g} is not the {expected} from which the bar of {days[after]} goes on "
                f"(pre_close {references[after]:.12g}, factor change {change:.6g})"
            )
    return found


class _Factors:
    """As-of lookups in ADJ_FACTOR rows, those of the source with the most: two vendors' must not mix in a series."""

    def __init__(self, table: pa.Table | None) -> None:
        self._spans: dict[str, tuple[int, int]] = {}
        if table is not None and table.num_rows:
            if "source" in table.schema.names:
                counts = pc.value_counts(table["source"]).to_pylist()
                table = table.filter(pc.equal(table["source"], max(counts, key=lambda c: c["counts"])["values"]))
            ordered = table.sort_by([("symbol", "ascending"), ("trade_date", "ascending")]).combine_chunks()
            self._spans = _spans(ordered["symbol"])
            self._days = ordered["trade_date"].cast(pa.int32()).to_numpy().astype("datetime64[D]")
            self._values = ordered["factor"].to_numpy()

    def change(self, symbol: str, earlier: np.datetime64, later: np.datetime64) -> float:
        """Factor at ``later`` over factor at ``earlier``; before the first row nothing was distributed yet."""
        start, end = self._spans.get(symbol, (0, 0))
        if start == end:
            return 1.0
        at = start + np.searchsorted(self._days[start:end], [earlier, later], side="right") - 1
        old, new = (float(self._values[i]) if i >= start else 1.0 for i in at)
        return new / old


def _spans(symbols: pa.ChunkedArray) -> dict[str, tuple[int, int]]:
    """From which to which row each symbol stands in a sorted column."""
    if not len(symbols):
        return {}
    runs = pc.run_end_encode(symbols.combine_chunks())
    ends = runs.run_ends.to_pylist()
    return dict(zip(runs.values.to_pylist(), zip([0, *ends[:-1]], ends, strict=True), strict=True))
