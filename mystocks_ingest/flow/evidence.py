"""Why a row is absent. "No data" and "failed" are different answers, so absence needs evidence.

A session without a row is settled when one of these holds, and is a gap otherwise: a source reports the suspension;
two families of vendors gave complete answers and neither has the row; the next bar's reference price continues the
previous bar's close, so that nothing traded between. They are asked for in this order.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mystocks_ingest.errors import IngestError, Unavailable, Unsupported
from mystocks_ingest.flow import plan
from mystocks_ingest.flow.ledger import Ledger, Mask, keys_of
from mystocks_ingest.flow.plan import Traits
from mystocks_ingest.flow.reference import Reference
from mystocks_ingest.flow.run import Run
from mystocks_ingest.market.datasets import ADJ_FACTOR, BAR_1D, SUSPENSION, Dataset
from mystocks_ingest.market.frames import Frame, Window
from mystocks_ingest.market.gaps import explained_by_continuity
from mystocks_ingest.ports import Query, Sink

_SYMBOLS_AT_A_TIME = 50  # bars read back at once: bounds memory
_WITNESS = ("symbol", "trade_date", "close", "pre_close")


def settle_suspended(ledger: Ledger, frame: Frame) -> int:
    """Settle the whole-session suspensions of a frame; an hour's halt still leaves a bar."""
    whole = frame.rows.filter(pc.is_null(frame.rows.column("timing")))
    ledger.settle(ledger.cells(*keys_of(SUSPENSION, whole)))
    return int(whole.num_rows)


async def settle_recorded(ledger: Ledger, run: Run, sink: Sink) -> None:
    """Settle cells whose suspension an earlier answer already reported."""
    if not ledger.todo.any():
        return
    stored = await sink.read(run.ingest.tables.holder(SUSPENSION), Query(columns=("symbol", "trade_date", "timing")))
    recorded = np.zeros(ledger.done.shape, bool)
    for batch in stored.to_batches():
        whole = batch.filter(pc.is_null(batch.column("timing")))
        cells = ledger.cells(*keys_of(SUSPENSION, whole))
        recorded[cells.rows, cells.columns] = True
    ledger.settle_mask(ledger.todo & recorded)


async def settle_stored(wanted: Dataset, ledger: Ledger, run: Run, sink: Sink) -> None:
    """Settle cells whose one row of the session is stored and final, whether or not a checkpoint got as far."""
    if wanted.time != "trade_date":
        return  # of many rows a session some may be stored: only the checkpoint knows that all are
    table = run.ingest.tables.holder(wanted)
    open_rows = np.flatnonzero(ledger.todo.any(axis=1)).tolist()
    for start in range(0, len(open_rows), _SYMBOLS_AT_A_TIME):
        symbols = tuple(ledger.symbols[r] for r in open_rows[start : start + _SYMBOLS_AT_A_TIME])
        unfinished = ("provisional",) if "provisional" in wanted.schema.names else ()
        stored = await sink.read(table, Query(symbols=symbols, columns=("symbol", wanted.time, *unfinished)))
        for batch in stored.to_batches():
            final = batch.filter(pc.invert(batch.column("provisional"))) if unfinished else batch
            ledger.settle(ledger.cells(*keys_of(wanted, final)))


async def ask_for_suspensions(ledger: Ledger, traits: Traits, run: Run) -> None:
    """Ask sources that keep a record of suspensions about the cells that were answered without a row."""
    willing = [s for s in run.usable(SUSPENSION) if s.name not in ledger.suspensions_asked]
    if not willing:
        return
    absent = ledger.todo
    absent &= ledger.asked_at_all
    if not absent.any():
        return
    record = Ledger.blank(SUSPENSION.name, ledger.symbols, ledger.sessions)
    record.expected &= absent
    for task in plan.assign(SUSPENSION, record, traits, willing, now=run.clock()):
        source = run.sources[task.source]
        if run.why_left(source, SUSPENSION) is not None:
            continue
        ledger.suspensions_asked.add(source.name)
        rows = 0
        try:
            async for frame in source.fetch(task.request):
                rows += settle_suspended(ledger, (await run.take(frame, source)).accepted)
        except Unsupported:
            run.succeeded(source, SUSPENSION, rows=rows, calls=task.calls)
        except Unavailable:
            raise
        except IngestError as exc:
            run.failed(source, SUSPENSION, exc, task.request)
        else:
            run.succeeded(source, SUSPENSION, rows=rows, calls=task.calls)


async def settle_explained(wanted: Dataset, ledger: Ledger, run: Run, sink: Sink, reference: Reference) -> None:
    """Settle what two agreeing families, or the stored bars themselves, show to be no gap."""
    ledger.settle_mask(ledger.todo & ledger.agreed)
    answered = ledger.answered_at_all
    unexplained = ledger.todo
    unexplained &= answered
    open_rows = np.flatnonzero(unexplained.any(axis=1))
    if wanted != BAR_1D or not len(open_rows):
        return
    undated = reference.no_list_date(ledger.symbols)
    tables = run.ingest.tables
    for start in range(0, len(open_rows), _SYMBOLS_AT_A_TIME):
        rows = open_rows[start : start + _SYMBOLS_AT_A_TIME]
        query = Query(symbols=tuple(ledger.symbols[r] for r in rows.tolist()), columns=_WITNESS)
        bars = await sink.read(tables.holder(BAR_1D), query)
        factors = await sink.read(tables.holder(ADJ_FACTOR), replace(query, columns=()))
        gaps = ledger.gaps(rows, unexplained)
        explained, _ = explained_by_continuity(bars, gaps, factors)
        for gap in explained:
            ledger.settle(ledger.cells(pa.array([gap.symbol] * len(gap.sessions)), pa.array(gap.sessions, pa.date32())))
        _settle_unlisted(ledger, bars, rows[undated[rows]], answered)


def _settle_unlisted(ledger: Ledger, bars: pa.Table, rows: npt.NDArray[np.intp], answered: Mask) -> None:
    """Days before the first bar of a symbol whose listing date nobody told us need no bar."""
    firsts = bars.group_by("symbol").aggregate([("trade_date", "min")])
    first = dict(zip(firsts["symbol"].to_pylist(), firsts["trade_date_min"].to_pylist(), strict=True))
    for row in rows.tolist():
        day = first.get(ledger.symbols[row])
        if day is not None:
            before = ledger.columns(Window(date.min, day))
            ledger.settle_block(np.ix_([row], np.flatnonzero(answered[row, before])))
