"""Rows that were durable once and are gone: their table was dropped, emptied, or restored from an older dump.

Checkpoints are in the embedded store and the rows elsewhere, so a checkpoint may outlive what it speaks of. Before a
backfill trusts them it looks for the rows of the newest sessions they name, of a few symbols: a small read. Where there
is none at all, the session up to which rows are there is searched for, and what was claimed from then on is fetched again.
"""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from mystocks_ingest.flow.ledger import Ledger, Mask, keys_of
from mystocks_ingest.flow.plan import Cadence, cadence
from mystocks_ingest.market.datasets import ADJ_FACTOR, SUSPENSION, Dataset
from mystocks_ingest.market.frames import Symbol, Window
from mystocks_ingest.ports import Query, Sink
from mystocks_ingest.schema.tables import Table, Tables

_SYMBOLS = 50  # looked at; of minute bars that is a few thousand rows
_SESSIONS = 5
_LEAST = 10  # claimed cells without a row: fewer may be suspensions, or proven absent
Numbers = npt.NDArray[np.intp]


async def forgotten(wanted: Dataset, ledger: Ledger, tables: Tables, sink: Sink) -> date | None:
    """Undo in ``ledger`` what is claimed and gone; the first session of that, None: nothing is gone.

    Of other datasets than bars, the daily basics and the factors a symbol may well have no row: those are believed.
    """
    rows = np.flatnonzero(ledger.done.any(axis=1))
    if not len(rows):
        return None
    sample = rows[np.unique(np.linspace(0, len(rows) - 1, min(_SYMBOLS, len(rows))).astype(np.intp))]
    look = _Look(ledger, sample, tables.holder(wanted), sink)
    columns = np.flatnonzero(ledger.done[sample].any(axis=0))
    if wanted == ADJ_FACTOR:
        lost = None if await look.any(None) else int(columns[0])
    elif cadence(wanted) in (Cadence.SESSION, Cadence.PERIOD) and wanted.time is not None:
        if await look.any(columns[-_SESSIONS:]):
            return None
        lost = await _since(look, columns, await _suspended(ledger, tables, sink, look))
    else:
        return None
    if lost is None:
        return None
    ledger.unsettle(lost)
    found: date = ledger.sessions[lost].astype(object)
    return found


class _Look:
    """Whether rows of some symbols are stored."""

    def __init__(self, ledger: Ledger, sample: Numbers, table: Table, sink: Sink) -> None:
        self.claimed: Mask = ledger.done[sample]
        self.symbols = tuple(Symbol(ledger.symbols[row]) for row in sample.tolist())
        self.sample = sample
        self._ledger = ledger
        self._table = table
        self._sink = sink

    async def any(self, columns: Numbers | None) -> bool:
        """``columns``: of these sessions; None: of any."""
        window = None
        if columns is not None:
            first, last = (self._ledger.sessions[column].astype(object) for column in (columns[0], columns[-1]))
            window = Window(first, last + timedelta(days=1))
        found = await self._sink.read(self._table, Query(self.symbols, window, ("symbol",)))
        return bool(found.num_rows)


async def _suspended(ledger: Ledger, tables: Tables, sink: Sink, look: _Look) -> Mask:
    """The looked-at symbols' suspensions on record."""
    mask = np.zeros(ledger.done.shape, bool)
    names = ("symbol", "trade_date", "timing")
    stored = await sink.read(tables.holder(SUSPENSION), Query(look.symbols, columns=names))
    for batch in stored.to_batches():
        cells = ledger.cells(*keys_of(SUSPENSION, batch.filter(pc.is_null(batch.column("timing")))))
        mask[cells.rows, cells.columns] = True
    suspended: Mask = mask[look.sample]
    return suspended


async def _since(look: _Look, columns: Numbers, suspended: Mask) -> int | None:
    """The first column of those that are gone."""
    cells = (look.claimed & ~suspended).sum(axis=0)[columns]
    columns, cells = columns[cells > 0], cells[cells > 0]
    if cells.sum() < _LEAST:
        return None
    width = max(_SESSIONS, int(np.searchsorted(np.cumsum(cells[::-1]), _LEAST)) + 1)

    async def there(end: int) -> bool:
        return await look.any(columns[max(end - width, 0) : end])

    if await there(len(columns)):
        return None
    stored, gone = 0, len(columns)
    while gone - stored > 1:
        middle = (stored + gone) // 2
        if await there(middle):
            stored = middle
        else:
            gone = middle
    return int(columns[max(stored - width, 0)])
