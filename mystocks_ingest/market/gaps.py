"""Gaps: sessions that should have a row and have none, and which of them a suspension explains.

A symbol that did not trade has no bar, and a symbol whose bar was lost has none either. The exchange tells them
apart: each bar carries the reference price ``pre_close``. When the bar after the missing sessions starts from the
close of the bar before them (or from that close over the change of the adjustment factor), nothing traded between.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mystocks_ingest.market.frames import Symbol

Days = npt.NDArray[np.datetime64]
Mask = npt.NDArray[np.bool_]
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
    """Which (symbol, session) pairs of a dataset there are: a flag per pair, symbols down, sessions across."""

    dataset: str
    symbols: tuple[Symbol, ...]
    sessions: Days
    flags: Mask


def find_gaps(expected: Coverage, stored: Coverage) -> list[Gap]:
    """What is expected and not stored, per symbol, neighbouring sessions of one symbol together.

    Both must be over the same symbols and sessions.
    """
    missing = expected.flags & ~stored.flags
    days: list[date] = expected.sessions.astype("datetime64[D]").tolist()
    gaps = []
    for row in np.flatnonzero(missing.any(axis=1)).tolist():
        columns = np.flatnonzero(missing[row])
        runs = np.split(columns, np.flatnonzero(np.diff(columns) > 1) + 1)
        gaps += [Gap(expected.dataset, expected.symbols[row], tuple(days[c] for c in run.tolist())) for run in runs]
    return gaps


def explained_by_continuity(
    rows: pa.Table, gaps: Sequence[Gap], factors: pa.Table | None = None
) -> tuple[list[Gap], list[Gap]]:
    """The gaps that stored daily bars explain as suspensions, and the holes that remain.

    ``rows`` are stored bars (symbol, trade_date, close, pre_close) around the gaps, ``factors`` ADJ_FACTOR rows,
    which explain a reference price lowered by a distribution during the suspension. A gap before the
    first or after the last stored bar has no witness and stays a hole.
    """
    bars = _History(rows)
    closes = bars.numbers("close")
    jumps = _Factors(factors)
    explained: list[Gap] = []
    holes: list[Gap] = []
    for gap in gaps:
        before = bars.last_before(gap.symbol, np.datetime64(gap.sessions[0]))
        after = bars.first_after(gap.symbol, np.datetime64(gap.sessions[-1]))
        if before is None or after is None:
            holes.append(gap)
            continue
        change = jumps.change(gap.symbol, bars.days[before], bars.days[after])
        known = _continues(closes[before], bars.references[after], change)
        (explained if known else holes).append(gap)
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
    bars = _History(stored)
    jumps = _Factors(factors)
    names = rows.column("symbol").to_pylist()
    mine = rows.column("trade_date").cast(pa.int32()).to_numpy().astype("datetime64[D]")
    closes = rows.column("close").to_numpy(zero_copy_only=False)
    found: dict[int, str] = {}
    for row in unproven.tolist():
        after = bars.first_after(names[row], mine[row])
        own = row + 1 if row + 1 < len(names) and names[row + 1] == names[row] else None
        if after is None or np.isnan(bars.references[after]) or (own is not None and mine[own] < bars.days[after]):
            continue
        reference, change = bars.references[after], jumps.change(names[row], mine[row], bars.days[after])
        if not _continues(float(closes[row]), float(reference), change):
            expected = f"{reference * change:.4g}" if change != 1.0 else f"{reference:.12g}"
            found[row] = (
                f"close {closes[row]:.12g} is not the {expected} from which the bar of {bars.days[after]} goes on "
                f"(pre_close {reference:.12g}, factor change {change:.6g})"
            )
    return found


class _History:
    """Stored daily bars by symbol and day: ``days`` and ``references`` (``pre_close``, NaN for none) in that order."""

    def __init__(self, rows: pa.Table) -> None:
        self._rows = rows.sort_by([("symbol", "ascending"), ("trade_date", "ascending")]).combine_chunks()
        self._spans = _spans(self._rows["symbol"])
        self.days: Days = self._rows["trade_date"].cast(pa.int32()).to_numpy().astype("datetime64[D]")
        self.references = self.numbers("pre_close")

    def numbers(self, name: str) -> npt.NDArray[np.float64]:
        """A column as float64, NaN for null."""
        values: npt.NDArray[np.float64] = pc.fill_null(self._rows[name].cast(pa.float64()), np.nan).to_numpy()
        return values

    def last_before(self, symbol: str, day: np.datetime64) -> int | None:
        """The place of the symbol's newest bar before ``day``."""
        start, end = self._spans.get(symbol, (0, 0))
        at = start + int(np.searchsorted(self.days[start:end], day)) - 1
        return at if at >= start else None

    def first_after(self, symbol: str, day: np.datetime64) -> int | None:
        """The place of the symbol's oldest bar after ``day``."""
        start, end = self._spans.get(symbol, (0, 0))
        at = start + int(np.searchsorted(self.days[start:end], day, side="right"))
        return at if at < end else None


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
