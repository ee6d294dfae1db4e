"""Reference data a backfill leans on: the trading calendar, the instrument list, the universe.

Both are snapshots: fetched when none of today is stored, replaced by key. The calendar has a second opinion
(exchange_calendars); where the two differ the vendor is followed and the difference is reported. The
instrument list is gathered from as many sources as it takes to cover every exchange and asset type.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mystocks_ingest.errors import ConfigError, Denied, IngestError, Unavailable, Unsupported
from mystocks_ingest.flow.ledger import Days, Mask
from mystocks_ingest.flow.plan import Cadence, PlanLine, Traits, cadence, market_day, minutes
from mystocks_ingest.flow.report import Job
from mystocks_ingest.flow.run import Run
from mystocks_ingest.logs import get
from mystocks_ingest.market import symbols as symbology
from mystocks_ingest.market.calendar import Calendar
from mystocks_ingest.market.checks import Context
from mystocks_ingest.market.datasets import CALENDAR, INSTRUMENT, Dataset, dataset
from mystocks_ingest.market.frames import Frame, Request, Symbol, Window
from mystocks_ingest.market.instruments import Instruments
from mystocks_ingest.ports import Checkpoint, Journal, Query, Sink, Source
from mystocks_ingest.schema.tables import Tables

log = get("reference")

EVERYTHING = Symbol("*")
_FIRST_SESSION = date(1990, 12, 19)
_ASSET_TYPES = {"all": "stock", "index": "index", "etf": "etf"}
_INDEX_OF = {"hs300": Symbol("000300.SH"), "zz500": Symbol("000905.SH"), "sz50": Symbol("000016.SH")}
UNIVERSES = (*_ASSET_TYPES, *_INDEX_OF)


@dataclass
class Reference:
    """Calendar and instruments of one run."""

    sink: Sink
    journal: Journal
    tables: Tables
    clock: Callable[[], datetime]
    second_opinion: Source | None = None
    calendar: Calendar | None = None
    instruments: Instruments | None = None
    _traits: dict[Symbol, tuple[str, str]] = field(default_factory=dict)

    def context(self) -> Context:
        """What the checks lean on."""
        return Context(calendar=self.calendar, instruments=self.instruments, now=self.clock())

    async def prepare(self, job: Job, *, wanted: Sequence[Dataset], run: Run) -> None:
        """Have a calendar and, if any source gives one, an instrument list; fetch wanted snapshots.

        Raises ConfigError when no calendar is to be had at all.
        """
        force = job.force and bool(wanted)
        await self._prepare_calendar(run, force=force and CALENDAR in wanted)
        await self._prepare_instruments(run, force=force and INSTRUMENT in wanted)
        if job.symbols is None and job.universe in _INDEX_OF:
            await self._snapshot(dataset("index_weight"), run, force=force)
        for snapshot in wanted:
            if cadence(snapshot) is Cadence.SNAPSHOT and snapshot not in (CALENDAR, INSTRUMENT):
                await self._snapshot(snapshot, run, force=force)
        for snapshot in (CALENDAR, INSTRUMENT):
            if snapshot in wanted and not await self._stored(snapshot):
                run.report.absent.append(f"{snapshot.name}: no source gave it")

    async def recall(self) -> None:
        """Use what is stored, without asking anybody."""
        calendar, instruments = await self._stored(CALENDAR), await self._stored(INSTRUMENT)
        self.calendar = Calendar.from_table(calendar) if calendar is not None else None
        self.instruments = Instruments(instruments) if instruments is not None else None

    # -- calendar ---------------------------------------------------------------------------------------------

    async def _prepare_calendar(self, run: Run, *, force: bool) -> None:
        if force or not await self._fresh(CALENDAR):
            before = await self._stored(CALENDAR)
            await self._snapshot(CALENDAR, run, force=True, first_wins=True)
            vendor = await self._stored(CALENDAR)
            if self.second_opinion is not None:
                await self._compare(self.second_opinion, vendor if vendor is not None else before, run)
        stored = await self._stored(CALENDAR)
        if stored is None:
            raise ConfigError("no trading calendar could be had from any source; see the failures above")
        self.calendar = Calendar.from_table(stored)
        alarm = self.calendar.alarm(self._today())
        if alarm is not None:
            run.report.warnings.append(alarm)

    async def _compare(self, source: Source, vendor: pa.Table | None, run: Run) -> None:
        """Lay the second opinion beside the vendor's calendar; it stands in where no vendor gave one."""
        frames, _ = await self._fetch(CALENDAR, source, run)
        if vendor is None:
            for frame in frames:
                await run.take(frame, source)
            return
        for frame in frames:
            ours, theirs = Calendar.from_table(vendor), Calendar.from_table(pa.Table.from_batches([frame.rows]))
            _, differing = Calendar.agree(ours, theirs)
            if differing:
                days = ", ".join(str(d) for d in differing[:5])
                run.report.warnings.append(
                    f"the vendor's calendar and {source.name} differ on {len(differing)} days ({days}): the vendor is followed"
                )
            outside = _outside(frame, vendor)
            if len(outside):
                await run.take(outside, source)

    # -- instruments ------------------------------------------------------------------------------------------

    async def _prepare_instruments(self, run: Run, *, force: bool) -> None:
        if force or not await self._fresh(INSTRUMENT):
            await self._snapshot(INSTRUMENT, run, force=True)
        stored = await self._stored(INSTRUMENT)
        self.instruments = Instruments(stored) if stored is not None else None

    async def _snapshot(self, wanted: Dataset, run: Run, *, force: bool, first_wins: bool = False) -> None:
        """Fetch a list as of today from the first source, and what it does not cover from the next."""
        if not force and await self._fresh(wanted):
            return
        covered: set[tuple[str, str]] = set()
        for source in run.usable(wanted):
            offer = source.offers[wanted.name]
            pairs = {(e, a) for e in offer.exchanges for a in offer.asset_types}
            if pairs <= covered:
                continue
            stored = 0
            frames, failure = await self._fetch(wanted, source, run)
            for frame in frames:
                fresh = _only_new(frame, covered)
                stored += len((await run.take(fresh, source)).accepted) if len(fresh) else 0
            if stored and failure is None:
                covered |= pairs
                if first_wins:
                    break
            elif isinstance(failure, (Denied, Unsupported)):  # a part it may not give; what it gave counts
                covered |= {pair for frame in frames for pair in _pairs(frame)}
        if covered:
            today = self._today()
            await self.journal.checkpoint(
                [Checkpoint(wanted.name, EVERYTHING, Window(today, today + timedelta(days=1)), "snapshot")]
            )

    async def _fetch(self, wanted: Dataset, source: Source, run: Run) -> tuple[list[Frame], IngestError | None]:
        """The frames that came, and what ended them early."""
        request = Request(wanted, Window(_FIRST_SESSION, date(self._today().year + 1, 1, 1)))
        frames: list[Frame] = []
        try:
            async for frame in source.fetch(request):
                frames.append(frame)  # noqa: PERF401 - those before a failure are kept
        except Unavailable:
            raise
        except IngestError as exc:
            run.failed(source, wanted, exc)
            return frames, exc
        run.succeeded(source, wanted, rows=sum(len(f) for f in frames), calls=source.calls(request))
        return frames, None

    async def estimate(self, wanted: Sequence[Dataset], run: Run) -> list[PlanLine]:
        """What the snapshots that are not of today cost at their first source."""
        lines = []
        request_window = Window(_FIRST_SESSION, self._today() + timedelta(days=1))
        for snapshot in wanted:
            source = next(iter(run.usable(snapshot)), None)
            if source is not None and not await self._fresh(snapshot):
                calls = source.calls(Request(snapshot, request_window))
                lines.append(PlanLine(snapshot.name, source.name, 1, calls, minutes(source, calls), 0, 0))
        return lines

    async def _fresh(self, wanted: Dataset) -> bool:
        today = self._today()
        return any(p.symbol == EVERYTHING and today in p.window for p in await self.journal.checkpoints(wanted))

    async def _stored(self, wanted: Dataset) -> pa.Table | None:
        stored = await self.sink.read(self.tables.holder(wanted), Query())
        return stored if stored.num_rows else None

    def _today(self) -> date:
        return market_day(self.clock())

    # -- what the ledger asks ---------------------------------------------------------------------------------

    def sessions(self, start: date, end: date) -> Days:
        """Open sessions from ``start`` to before ``end``, none later than today."""
        if self.calendar is None:
            raise ConfigError("no trading calendar is stored yet; fetch it with: backfill --dataset calendar")
        days = self.calendar.open_days
        end = min(end, self._today() + timedelta(days=1))
        return np.asarray(days[(days >= np.datetime64(start)) & (days < np.datetime64(end))])

    async def universe(self, job: Job, wanted: Dataset) -> list[Symbol]:
        """The symbols of the job, sorted. Raises ConfigError for a symbol nobody lists, or no list at all."""
        if job.symbols is not None:
            self._must_be_known(job.symbols)
            return sorted(job.symbols)
        if job.universe in _INDEX_OF:
            return await self._members(_INDEX_OF[job.universe], job.universe)
        if job.universe not in _ASSET_TYPES:
            known = ", ".join(UNIVERSES)
            raise ConfigError(f"unknown universe {job.universe!r}; known: {known}, or a file with one symbol a line")
        if self.instruments is None:
            raise ConfigError(
                f"no instrument list could be had, so universe {job.universe!r} is unknown for {wanted.name}; "
                "name the symbols with --symbols, or let a source that lists instruments take part"
            )
        return self.instruments.listed(job.window, asset_types=frozenset({_ASSET_TYPES[job.universe]}))

    async def _members(self, index: Symbol, name: str) -> list[Symbol]:
        weights = dataset("index_weight")
        stored = await self._stored(weights)
        mine = stored.filter(pc.equal(stored.column("index_symbol"), str(index))) if stored is not None else None
        if mine is None or not mine.num_rows:
            raise ConfigError(
                f"the members of {name} are not stored: let a source that has index_weight take part (--source auto), or "
                "run first: backfill --dataset index_weight"
            )
        return sorted({Symbol(s) for s in mine.column("symbol").to_pylist()})

    def _must_be_known(self, wanted: Iterable[Symbol]) -> None:
        """Raises ConfigError for a symbol that the list lacks, where the list has others of its kind."""
        if self.instruments is None:
            return
        kinds = {listing.asset_type for listing in self.instruments}
        for symbol in wanted:
            if symbol not in self.instruments and symbology.asset_type_of(symbol) in kinds:
                near = difflib.get_close_matches(symbol, [one.symbol for one in self.instruments], 1, 0.7)
                hint = f"; did you mean {near[0]}?" if near else ""
                raise ConfigError(f"unknown symbol {symbol}: no source lists it{hint}")

    def traits(self, symbols: Sequence[Symbol]) -> Traits:
        """Exchange and asset type of each symbol, by the instrument list or else by the code's shape."""
        kind = self.instruments.asset_type if self.instruments is not None else symbology.asset_type_of
        return Traits(
            np.array([symbology.exchange_of(s) for s in symbols], dtype=str),
            np.array([kind(s) for s in symbols], dtype=str),
        )

    def listed(self, symbols: Sequence[Symbol], sessions: Days) -> Mask:
        """Cells in which the symbol was listed; unknown dates count as always, the delisting day as after the end."""
        mask = np.ones((len(symbols), len(sessions)), bool)
        if self.instruments is None:
            return mask
        first, end = self.instruments.lives(pa.array(symbols, pa.string()))
        known_first, known_end = ~np.isnat(first), ~np.isnat(end)
        mask[known_first] &= sessions[None, :] >= first[known_first, None]
        mask[known_end] &= sessions[None, :] < end[known_end, None]
        return mask

    def no_list_date(self, symbols: Sequence[Symbol]) -> Mask:
        """Which symbols have no known listing date."""
        if self.instruments is None:
            return np.ones(len(symbols), bool)
        first, _ = self.instruments.lives(pa.array(symbols, pa.string()))
        return np.asarray(np.isnat(first))


def _pairs(frame: Frame) -> list[tuple[str, str]]:
    """Exchange and asset type of each row; none where the dataset has no such columns."""
    names = frame.rows.schema.names
    if "exchange" not in names or "asset_type" not in names:
        return []
    return list(
        zip(frame.rows.column("exchange").to_pylist(), frame.rows.column("asset_type").to_pylist(), strict=True)
    )


def _only_new(frame: Frame, covered: set[tuple[str, str]]) -> Frame:
    """Rows of exchanges and asset types that no earlier source covered."""
    pairs = _pairs(frame)
    if not covered or not pairs:
        return frame
    return frame.take(pa.array([i for i, pair in enumerate(pairs) if pair not in covered], pa.int64()))


def _outside(frame: Frame, stored: pa.Table) -> Frame:
    """Rows for days that the stored calendar does not reach."""
    days, known = frame.rows.column("trade_date"), stored.column("trade_date")
    low, high = pc.min(known), pc.max(known)
    outside = pc.or_(pc.less(days, low), pc.greater(days, high))
    return frame.take(pc.indices_nonzero(outside).cast(pa.int64()))
