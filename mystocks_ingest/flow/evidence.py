"""Gathers the evidence that settles absent rows: suspensions on record, suspensions asked for, stored bars."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mystocks_ingest.errors import IngestError, Unavailable
from mystocks_ingest.flow import absence, plan
from mystocks_ingest.flow.ledger import Ledger, keys_of
from mystocks_ingest.flow.plan import Traits
from mystocks_ingest.flow.reference import Reference
from mystocks_ingest.flow.run import Run
from mystocks_ingest.market.datasets import BAR_1D, SUSPENSION, Dataset
from mystocks_ingest.market.frames import Frame
from mystocks_ingest.ports import Query, Sink, Source

_SYMBOLS_AT_A_TIME = 200  # bars read back at once: bounds memory


def settle_suspended(ledger: Ledger, frame: Frame) -> int:
    """Settle the whole-session suspensions of a frame; an hour's halt still leaves a bar."""
    whole = frame.rows.filter(pc.is_null(frame.rows.column("timing")))
    ledger.settle(ledger.cells(*keys_of(SUSPENSION, whole)))
    return int(whole.num_rows)


async def settle_recorded(ledger: Ledger, run: Run, sink: Sink) -> None:
    """Settle cells whose suspension an earlier answer already reported."""
    if not ledger.todo.any():
        return
    stored = await sink.read(run.ingest.tables.routes(SUSPENSION)[0], Query(columns=("symbol", "trade_date", "timing")))
    recorded = np.zeros(ledger.done.shape, bool)
    for batch in stored.to_batches():
        whole = batch.filter(pc.is_null(batch.column("timing")))
        cells = ledger.cells(*keys_of(SUSPENSION, whole))
        recorded[cells.rows, cells.columns] = True
    ledger.settle_mask(ledger.todo & recorded)


async def ask_for_suspensions(ledger: Ledger, traits: Traits, sources: list[Source], run: Run) -> None:
    """Ask sources that keep a record of suspensions about the cells that were answered without a row."""
    absent = ledger.todo & ledger.asked_at_all
    willing = [s for s in run.usable(sources, SUSPENSION) if s.name not in ledger.suspensions_asked]
    if not absent.any() or not willing:
        return
    record = Ledger.blank(SUSPENSION.name, ledger.symbols, ledger.sessions)
    record.expected &= absent
    for task in plan.assign(SUSPENSION, record, traits, willing, now=run.clock()):
        source = run.sources[task.source]
        if not run.usable([source], SUSPENSION):
            continue
        ledger.suspensions_asked.add(source.name)
        rows = 0
        try:
            async for frame in source.fetch(task.request):
                rows += settle_suspended(ledger, (await run.take(frame, source)).accepted)
        except Unavailable:
            raise
        except IngestError as exc:
            run.failed(source, SUSPENSION, exc, task.request)
        else:
            run.succeeded(source, SUSPENSION, rows=rows, calls=task.calls)


async def settle_explained(wanted: Dataset, ledger: Ledger, run: Run, sink: Sink, reference: Reference) -> None:
    """Settle what two agreeing families, or the stored bars themselves, show to be no gap."""
    ledger.settle_mask(ledger.todo & absence.agreed(ledger))
    answered = ledger.answered_at_all
    open_rows = np.flatnonzero((ledger.todo & answered).any(axis=1))
    if wanted != BAR_1D or not len(open_rows):
        return
    undated = reference.no_list_date(ledger.symbols)
    table = run.ingest.tables.routes(wanted)[0]
    columns = ("symbol", "trade_date", "close", "pre_close")
    for start in range(0, len(open_rows), _SYMBOLS_AT_A_TIME):
        symbols = tuple(ledger.symbols[r] for r in open_rows[start : start + _SYMBOLS_AT_A_TIME].tolist())
        bars = _bars(ledger, await sink.read(table, Query(symbols=symbols, columns=columns)))
        evidence = absence.bridged(ledger, bars) | absence.unlisted(ledger, bars, undated)
        ledger.settle_mask(ledger.todo & answered & evidence)


def _bars(ledger: Ledger, stored: pa.Table) -> absence.Bars:
    rows: list[npt.NDArray[np.intp]] = [np.empty(0, np.intp)]
    columns: list[npt.NDArray[np.intp]] = [np.empty(0, np.intp)]
    close, pre_close = [np.empty(0)], [np.empty(0)]
    for batch in stored.to_batches():
        known = ledger.cells(*keys_of(BAR_1D, batch))
        rows.append(known.rows)
        columns.append(known.columns)
        close.append(batch.column("close").to_numpy(zero_copy_only=False)[known.positions])
        pre_close.append(batch.column("pre_close").to_numpy(zero_copy_only=False)[known.positions])
    return absence.Bars(np.concatenate(rows), np.concatenate(columns), np.concatenate(close), np.concatenate(pre_close))
