"""Why a row is absent, pure. "No data" and "failed" are different answers, so absence needs evidence.

A session without a bar is settled when one of these holds, and is a gap otherwise:
- a source reports the suspension;
- the next bar's pre_close equals the previous bar's close: nothing traded between them;
- two families of vendors gave complete answers and neither has the row.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mystocks_ingest.flow.ledger import Ledger, Mask

_HALF_TICK = 0.00051  # prices of one tick grid (0.01; funds 0.001) are equal within half the finest tick


@dataclass(frozen=True, slots=True)
class Bars:
    """Stored bars as ledger cells, one entry a bar: row, column, close and pre_close (NaN where unknown)."""

    rows: npt.NDArray[np.intp]
    columns: npt.NDArray[np.intp]
    close: npt.NDArray[np.float64]
    pre_close: npt.NDArray[np.float64]


def bridged(ledger: Ledger, bars: Bars) -> Mask:
    """Cells between two bars of a symbol whose prices join without a step: the symbol did not trade there."""
    mask = np.zeros(ledger.done.shape, bool)
    order = np.lexsort((bars.columns, bars.rows))
    rows, columns = bars.rows[order], bars.columns[order]
    close, pre_close = bars.close[order], bars.pre_close[order]
    joined = (
        (rows[1:] == rows[:-1]) & (columns[1:] - columns[:-1] > 1) & (np.abs(pre_close[1:] - close[:-1]) < _HALF_TICK)
    )
    for i in np.flatnonzero(joined).tolist():
        mask[rows[i], columns[i] + 1 : columns[i + 1]] = True
    return mask


def unlisted(ledger: Ledger, bars: Bars, no_list_date: npt.NDArray[np.bool_]) -> Mask:
    """Cells before the first bar of symbols whose listing date nobody told us."""
    first = np.full(len(ledger.symbols), len(ledger.sessions))
    np.minimum.at(first, bars.rows, bars.columns)
    known = no_list_date & (first < len(ledger.sessions))
    mask: Mask = known[:, None] & (np.arange(len(ledger.sessions))[None, :] < first[:, None])
    return mask


def agreed(ledger: Ledger) -> Mask:
    """Cells for which two families gave a complete answer in this run."""
    votes = np.zeros(ledger.done.shape, np.int8)
    for answered in ledger.answered.values():
        votes += answered
    return votes >= 2
