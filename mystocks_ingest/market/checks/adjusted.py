"""Noticing adjusted series among bars that should be raw.

A forward-adjusted series equals the raw one after the last distribution and is shifted before it, so single rows
prove little: what gives it away is a stretch of rows, from the start of the series on, that carry marks which raw
rows never do. Then the whole series of that symbol is refused, for its unshifted rows are of the same making.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mystocks_ingest.market.cells import is_text
from mystocks_ingest.market.checks.proof import Proof
from mystocks_ingest.market.checks.rows import Keyed
from mystocks_ingest.market.checks.verdict import Mask, Rows, Rule, Verdict, number

DENSE_ROWS, DENSE_SHARE = 5, 0.5  # so many marked rows, and that share of the shifted stretch
SPARSE_ROWS, SPARSE_SHARE, BLOCK = 6, 0.25, 30  # small shifts: marks in that share of the stretch's 30-row blocks
CROWDED_SHARE = 0.2  # or that share of the rows of a short stretch
_FLAGS = {"1": Rule.BACK_ADJUSTED, "2": Rule.FORWARD_ADJUSTED}


@dataclass(frozen=True, slots=True)
class Marks:
    """Rows that no raw series has, ascending. ``side``: +1 traded above the prices, -1 below, 0 off the tick."""

    rows: Rows
    side: npt.NDArray[np.int8]
    gross: Mask


def marks(proof: Proof, off_tick: Mask | None, negative: Mask) -> Marks:
    """All marks of a frame: the average price outside the range, prices between ticks, prices below zero."""
    odd = ~proof.exact
    kinds = [(proof.rows[odd], np.where(proof.above[odd], 1, -1).astype(np.int8), proof.gross[odd])]
    for mask, direction in ((off_tick, 0), (negative, 1)):
        marked = np.empty(0, np.int64) if mask is None else np.flatnonzero(mask)
        kinds.append((marked, np.full(len(marked), direction, np.int8), np.ones(len(marked), np.bool_)))
    rows = np.concatenate([k[0] for k in kinds])
    side, gross = np.concatenate([k[1] for k in kinds]), np.concatenate([k[2] for k in kinds])
    order = np.lexsort((-np.abs(side), rows))  # of two marks on a row the one that shows the direction stays
    rows, first = np.unique(rows[order], return_index=True)
    return Marks(rows, side[order][first], gross[order][first])


def series(keyed: Keyed, found: Marks, prices: tuple[npt.NDArray[np.float64], ...], verdict: Verdict) -> None:
    """Refuse every row of each symbol whose series is adjusted, by the vendor's own flag or by its marks."""
    flagged = _flagged(keyed)
    for group, flag in flagged.items():
        how = "forward" if flag == "2" else "back"
        reason = f"baostock's adjustflag {flag} says {how}-adjusted; raw bars have adjustflag 3"
        _refuse(keyed, group, _FLAGS[flag], reason, verdict)
    if len(found.rows) < DENSE_ROWS:
        return
    groups = keyed.group[found.rows]
    crowded, counts = np.unique(groups, return_counts=True)
    for group in crowded[counts >= DENSE_ROWS].tolist():
        if group in flagged:
            continue
        mine = slice(int(np.searchsorted(groups, group)), int(np.searchsorted(groups, group, side="right")))
        part = Marks(found.rows[mine], found.side[mine], found.gross[mine])
        start, end = _bounds(keyed, group)
        rule = judge(Marks(part.rows - start, part.side, part.gross), end - start)
        if rule is not None:
            _refuse(keyed, group, rule, _sentence(rule, keyed, part, end - start, prices), verdict)


def judge(found: Marks, size: int) -> Rule | None:
    """Whether a series of ``size`` rows with these marks (row numbers within it) is adjusted, and which way."""
    rows, side, gross = found.rows, found.side, found.gross
    close_by = np.diff(rows) == 1
    beside = np.append(close_by, False) | np.append(False, close_by)
    kept = ~gross | beside  # a gross mark that stands alone is a bad row, not a shift
    if not kept.any():
        return None
    upward, downward = int((side[kept] > 0).sum()), int((side[kept] < 0).sum())
    if min(upward, downward) > 0.2 * (upward + downward):
        return None
    shifted, small = rows[kept], rows[kept & ~gross]
    if not (_dense(shifted, size) or _sparse(small, size)):
        return None
    return Rule.BACK_ADJUSTED if downward > upward else Rule.FORWARD_ADJUSTED


def _dense(rows: Rows, size: int) -> bool:
    """Half the rows up to the last mark, or from the first mark on (back-adjusted), are marked."""
    if len(rows) < DENSE_ROWS:
        return False
    stretch = min(int(rows[-1]) + 1, size - int(rows[0]))
    return len(rows) >= DENSE_SHARE * stretch


def _sparse(rows: Rows, size: int) -> bool:
    """A shift smaller than a day's range shows on some rows only, but all along the stretch."""
    if len(rows) < SPARSE_ROWS or size < 2 * BLOCK:
        return False
    for places, stretch in ((rows, int(rows[-1]) + 1), (size - 1 - rows, size - int(rows[0]))):
        blocks = -(-stretch // BLOCK)
        spread = blocks > 1 and len(np.unique(places // BLOCK)) >= SPARSE_SHARE * blocks
        if spread or len(rows) >= CROWDED_SHARE * stretch:
            return True
    return False


def _flagged(keyed: Keyed) -> dict[int, str]:
    """Groups with a row that baostock marks as adjusted, and the flag."""
    raw = keyed.frame.raw
    if raw is None or "adjustflag" not in raw.schema.names:
        return {}
    column = raw.column("adjustflag")
    if not is_text(column.type):
        column = column.cast(pa.int64(), safe=False).cast(pa.string())
    flags = pc.utf8_trim_whitespace(column)
    marked = pc.is_in(flags, value_set=pa.array(["1", "2"], flags.type)).to_numpy(zero_copy_only=False)
    if not marked.any():
        return {}
    rows = np.flatnonzero(marked)
    groups, first = np.unique(keyed.group[rows], return_index=True)
    values = flags.take(pa.array(rows[first])).to_pylist()
    return dict(zip(groups.tolist(), values, strict=True))


def _bounds(keyed: Keyed, group: int) -> tuple[int, int]:
    end = keyed.starts[group + 1] if group + 1 < len(keyed.starts) else len(keyed)
    return int(keyed.starts[group]), int(end)


def _refuse(keyed: Keyed, group: int, rule: Rule, reason: str, verdict: Verdict) -> None:
    verdict.refuse_rows(rule, np.arange(*_bounds(keyed, group)), lambda rows: [reason] * len(rows))


def _sentence(rule: Rule, keyed: Keyed, found: Marks, size: int, prices: tuple[npt.NDArray[np.float64], ...]) -> str:
    low, high, vwap = prices
    row = int(found.rows[np.argmax(np.abs(found.side))])
    if low[row] < 0:
        mark = f"its low is {number(low[row])}"
    elif found.side[np.searchsorted(found.rows, row)]:
        mark = f"amount/volume {vwap[row]:.6g} lies outside [{number(low[row])}, {number(high[row])}]"
    else:
        mark = f"prices such as {number(low[row])} and {number(high[row])} lie between ticks"
    way = "forward" if rule is Rule.FORWARD_ADJUSTED else "back"
    return (
        f"{keyed.name(int(keyed.group[row]))} is a {way}-adjusted series, raw prices are wanted: "
        f"{len(found.rows)} of {size} rows show it; on {_day(keyed, row)} {mark}"
    )


def _day(keyed: Keyed, row: int) -> str:
    return str(keyed.frame.rows.column(keyed.frame.dataset.time or "symbol")[row].as_py())
