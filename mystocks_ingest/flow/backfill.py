"""The backfill: rounds of requests over a ledger until nothing is to do or nobody is left to ask.

A round asks each cell's best source; what it does not settle goes to another one in the next round. A source that
is banned, denied or down leaves at once and its remaining requests with it, so failover costs no waiting.
Checkpoints follow durability: a cell is settled only after its row was written.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mystocks_ingest.errors import Drifted, IngestError, Malformed, Unavailable, Unsupported
from mystocks_ingest.flow import evidence, lost, plan
from mystocks_ingest.flow.ingest import Taken
from mystocks_ingest.flow.ledger import Ledger, Mask, keys_of
from mystocks_ingest.flow.plan import Cadence, PlanLine, Task, Traits
from mystocks_ingest.flow.reference import Reference
from mystocks_ingest.flow.report import Job, Missing, Report
from mystocks_ingest.flow.run import Run
from mystocks_ingest.logs import get
from mystocks_ingest.market.datasets import SUSPENSION, Dataset, dataset
from mystocks_ingest.market.frames import Frame, Symbol
from mystocks_ingest.ports import Checkpoint, Journal, Sink, Source

log = get("backfill")

_FLUSH_SECONDS = 2.0


@dataclass
class Backfill:
    """One backfill of one job. ``sink`` waits for a database that is away, ``hasty`` does not."""

    job: Job
    run: Run
    reference: Reference
    journal: Journal
    sink: Sink
    hasty: Sink

    async def fetch(self) -> Report:
        """Fetch what is missing. Raises ConfigError for an impossible job.

        Vendors' failures end in the report, and so does a store that stays away for too long.
        """
        started = time.monotonic()
        wanted = [dataset(name) for name in self.job.datasets]
        histories = [d for d in wanted if plan.cadence(d) is not Cadence.SNAPSHOT]
        histories.sort(key=lambda d: plan.cadence(d) is not Cadence.EVENT)  # factors explain breaks in the bars
        try:
            await self.reference.prepare(self.job, wanted=wanted, run=self.run)
            for each in histories:
                await self._history(each)
        except (
            Unavailable,
            Drifted,
        ) as exc:  # a store stayed away for longer than it is waited for, or is not as it must be
            self.run.report.stopped = str(exc)
            log.warning("backfill.stopped", reason=str(exc))
        self.run.report.seconds = time.monotonic() - started
        self.run.watch.done(self.run.report)
        return self.run.report

    async def estimate(self) -> list[PlanLine]:
        """What ``fetch`` would ask for first, and its cost. Only reference data is fetched for it."""
        wanted = [dataset(name) for name in self.job.datasets]
        histories = [d for d in wanted if plan.cadence(d) is not Cadence.SNAPSHOT]
        lines = await self.reference.estimate([d for d in wanted if d not in histories], self.run)
        if histories:
            await self.reference.prepare(self.job, wanted=(), run=self.run)
        for each in histories:
            ledger, traits = await self._open(each)
            tasks = plan.assign(each, ledger, traits, self.run.usable(each), now=self.run.clock())
            lines += plan.lines(each, tasks, list(self.run.sources.values()))
        return lines

    async def missing(self) -> list[Missing]:
        """What should be stored by now and is not, by what is on record; no source is asked."""
        await self.reference.recall()
        for each in (dataset(name) for name in self.job.datasets):
            if plan.cadence(each) is not Cadence.SNAPSHOT:
                ledger, traits = await self._open(each)
                if plan.cadence(each) is Cadence.SESSION:
                    await evidence.settle_stored(each, ledger, self.run, self.sink)
                self._report_gaps(each, ledger, traits)
        return self.run.report.missing

    async def _open(self, wanted: Dataset) -> tuple[Ledger, Traits]:
        """The dataset's ledger: expected by listing dates, done by checkpoints and recorded suspensions."""
        symbols = await self.reference.universe(self.job, wanted)
        points: Sequence[Checkpoint] = await self.journal.checkpoints(wanted)
        span = [self.job.window, *(p.window for p in points)]
        sessions = self.reference.sessions(min(w.start for w in span), max(w.end for w in span))
        columns = plan.columns_of(wanted, sessions)
        ledger = Ledger.blank(wanted.name, symbols, columns)
        ledger.recall(points)
        if not self.job.force:
            await self._distrust(wanted, ledger)
        inside = ledger.columns(self.job.window)
        if self.job.force:
            ledger.done[:, inside] = False
        ledger.expected[:, : inside.start] = False
        ledger.expected[:, inside.stop :] = False
        traits = self.reference.traits(symbols)
        ledger.expected &= self.reference.listed(symbols, columns) & plan.subjects(wanted, traits)[:, None]
        if plan.cadence(wanted) is Cadence.SESSION:
            await evidence.settle_recorded(ledger, self.run, self.sink)
        return ledger, traits

    async def _distrust(self, wanted: Dataset, ledger: Ledger) -> None:
        """Fetch again what checkpoints speak of and is stored no more."""
        try:
            since = await lost.forgotten(wanted, ledger, self.run.ingest.tables, self.hasty)
        except Unavailable:
            return  # who cannot be asked is believed: rows may be fetched into the spool meanwhile
        if since is None:
            return
        table = self.run.ingest.tables.holder(wanted)
        log.warning("rows.lost", dataset=wanted.name, table=str(table), since=since.isoformat())
        self.run.report.warnings.append(
            f"{wanted.name}: rows that were stored from {since} on are in {table} no more (was it dropped, or restored "
            "from an older copy?): they are missing, and are fetched again"
        )
        nothing = [ledger.symbols[row] for row in np.flatnonzero(~ledger.done.any(axis=1)).tolist()]
        if nothing:
            await self.journal.forget(wanted, nothing)
        await self._flush(ledger)

    async def _history(self, wanted: Dataset) -> None:
        if not any(wanted.name in s.offers for s in self.run.sources.values()):
            names = ", ".join(self.run.sources)
            self.run.report.absent.append(f"{wanted.name}: not offered by {names}")
            return
        ledger, traits = await self._open(wanted)
        try:
            while ledger.todo.any():
                usable = self.run.usable(wanted)
                tasks = plan.assign(wanted, ledger, traits, usable, now=self.run.clock())
                if not tasks:
                    break
                for line in plan.lines(wanted, tasks, usable):
                    self.run.watch.planned(line)
                await self._round(wanted, ledger, traits, tasks)
                if plan.cadence(wanted) is Cadence.SESSION:
                    await evidence.ask_for_suspensions(ledger, traits, self.run)
            if plan.cadence(wanted) is Cadence.SESSION:
                await evidence.settle_explained(wanted, ledger, self.run, self.sink, self.reference)
        finally:
            await self._flush(ledger)
        self._report_gaps(wanted, ledger, traits)

    async def _round(self, wanted: Dataset, ledger: Ledger, traits: Traits, tasks: list[Task]) -> None:
        queues: dict[str, list[Task]] = {}
        for task in reversed(tasks):
            queues.setdefault(task.source, []).append(task)
        try:
            async with asyncio.TaskGroup() as flushing:
                flusher = flushing.create_task(self._flush_now_and_then(ledger), name=f"flush {wanted}")
                try:
                    async with asyncio.TaskGroup() as group:
                        for name, queue in queues.items():
                            source = self.run.sources[name]
                            for i in range(min(self.job.workers, source.concurrency, len(queue))):
                                work = self._work(wanted, ledger, traits, source, queue)
                                group.create_task(work, name=f"{name} {wanted} {i}")
                finally:
                    flusher.cancel()
        except BaseExceptionGroup as errors:
            raise _first(errors) from errors

    async def _work(self, wanted: Dataset, ledger: Ledger, traits: Traits, source: Source, queue: list[Task]) -> None:
        while queue and self.run.why_left(source, wanted) is None:
            await self._one(wanted, ledger, traits, source, queue.pop())

    async def _one(self, wanted: Dataset, ledger: Ledger, traits: Traits, source: Source, task: Task) -> None:
        """One request: its rows stored and settled, its outcome counted. Only a sink's failure is raised."""
        block = plan.block_of(wanted, source, ledger, traits, task.request)
        refused: list[Frame] = []
        found = 0
        try:
            async for answer in source.fetch(task.request):
                frame = answer if self.whole_market else _only(answer, ledger)
                taken = await self.run.take(frame, source)
                if frame.dataset == SUSPENSION and wanted != SUSPENSION:
                    found += evidence.settle_suspended(ledger, taken.accepted)
                else:
                    found += len(frame)
                    self._settle(wanted, ledger, taken)
                    refused += taken.turned_down
            if not found and not task.request.symbols and plan.cadence(wanted) is Cadence.SESSION:
                raise Malformed(f"{source.name} has no row at all for {task.request}, a session when stocks traded")
        except Unavailable:
            raise
        except Unsupported as exc:  # it gave what it has: no failure, and no evidence about the rest
            self.run.remember(wanted, task.request.symbols, source.name, str(exc))
            self.run.succeeded(source, wanted, rows=found, calls=task.calls)
            return
        except IngestError as exc:
            self.run.failed(source, wanted, exc, task.request)
            return
        finally:
            ledger.was_asked(source.name, block)
        self.run.succeeded(source, wanted, rows=found, calls=task.calls)
        rows, columns = block[0].ravel(), block[1].ravel()
        unproven = _unproven(wanted, ledger, refused)[block] if refused else np.zeros((len(rows), len(columns)), bool)
        if found:  # an empty answer alone proves nothing
            ledger.has_answered(source.family, block, unproven)
        if plan.cadence(wanted) in (Cadence.EVENT, Cadence.PERIOD):
            served = plan.served(source.offers[wanted.name], ledger.sessions, self.run.clock(), only_final=True)
            clean = ~unproven.any(axis=1)  # a refused event is still to be had
            ledger.settle_block(np.ix_(rows[clean], columns[served[columns]]))

    def _settle(self, wanted: Dataset, ledger: Ledger, taken: Taken) -> None:
        rows = taken.accepted.rows
        for symbol, reason in taken.reasons.items():
            self.run.remember(wanted, (Symbol(symbol),), taken.accepted.source, f"refused: {reason}")
        if plan.cadence(wanted) is not Cadence.SESSION or not rows.num_rows:
            return
        if "provisional" in rows.schema.names:
            unfinished = rows.column("provisional")
            self.run.report.provisional += pc.sum(unfinished).as_py() or 0
            rows = rows.filter(pc.invert(unfinished))
        ledger.settle(ledger.cells(*keys_of(wanted, rows)))

    @property
    def whole_market(self) -> bool:
        """Whether rows of every symbol are wanted, those that no list names yet among them."""
        return self.job.symbols is None and self.job.universe == "all"

    async def _flush_now_and_then(self, ledger: Ledger) -> None:
        while True:
            await asyncio.sleep(_FLUSH_SECONDS)
            await self._flush(ledger)

    async def _flush(self, ledger: Ledger) -> None:
        points = ledger.checkpoints(self.job.source)
        if points:
            await self.journal.checkpoint(points)
            log.info("backfill.checkpointed", dataset=ledger.dataset, windows=len(points))

    def _report_gaps(self, wanted: Dataset, ledger: Ledger, traits: Traits) -> None:
        """What is still to do and is due, with what each source said of it."""
        due = np.zeros(ledger.done.shape, bool)
        for source in self.run.sources.values():
            due |= plan.eligible(source, wanted, ledger, traits, self.run.clock(), only_final=True)
        due |= (ledger.sessions < np.datetime64(plan.market_day(self.run.clock())))[None, :]
        left = ledger.todo & due
        for row in np.flatnonzero(left.any(axis=1)).tolist():
            symbol, cells = ledger.symbols[row], left[row]
            said = self.run.said(wanted, symbol)
            for source in self.run.sources.values():
                if wanted.name in source.offers:
                    answer = self.run.why_left(source, wanted) or _answer(source, ledger, row, cells)
                    said.setdefault(source.name, answer)
            why = "; ".join(f"{name}: {answer}" for name, answer in said.items())
            windows = tuple(window for _, window in ledger.windows(cells[None, :]))
            asked = {name: int((mask[row] & cells).sum()) for name, mask in ledger.asked.items()}
            missing = Missing(
                wanted.name, symbol, windows, int(cells.sum()), why, {k: n for k, n in asked.items() if n}
            )
            self.run.report.missing.append(missing)


def _only(frame: Frame, ledger: Ledger) -> Frame:
    """The rows of the ledger's symbols: a whole market's answer holds more than was asked for."""
    inside = pc.is_in(frame.rows.column("symbol"), value_set=pa.array(ledger.symbols, pa.string()))
    return frame if pc.all(inside).as_py() else frame.take(pc.indices_nonzero(inside).cast(pa.int64()))


def _unproven(wanted: Dataset, ledger: Ledger, refused: list[Frame]) -> Mask:
    """The cells of refused rows: a row came, so nobody may conclude from this answer that there is none."""
    mask = np.zeros(ledger.done.shape, bool)
    for frame in refused:
        symbols, days = keys_of(wanted, frame.rows)
        if symbols.null_count or days.null_count:
            return np.ones_like(mask)  # a row of who knows what
        if plan.cadence(wanted) is Cadence.SESSION:
            cells = ledger.cells(symbols, days)
            mask[cells.rows, cells.columns] = True
        else:
            mask[ledger.rows(symbols.unique().to_pylist())] = True
    return mask


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first error of a group: workers that fail together fail for one reason, a sink that is away."""
    first = errors.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first


def _answer(source: Source, ledger: Ledger, row: int, cells: np.ndarray) -> str:
    if source.name not in ledger.asked:
        return "not asked"
    if (ledger.asked[source.name][row] & cells).any():
        return "no row, and nothing shows a suspension"
    return "does not serve it"
