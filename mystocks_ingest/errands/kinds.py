"""The errands there are: what each is about, how it is done on opened stores, and how the service is asked for it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Any, Generic, TypeVar, get_args

import pyarrow as pa

from mystocks_ingest import service
from mystocks_ingest.control import Line
from mystocks_ingest.errands.travel import hears, received, sent
from mystocks_ingest.errors import ConfigError
from mystocks_ingest.flow.plan import PlanLine
from mystocks_ingest.flow.replay import Choice, Replayed
from mystocks_ingest.flow.report import Job, Missing, Report, Watch
from mystocks_ingest.market.adjust import How
from mystocks_ingest.market.adjust import adjust as adjusted
from mystocks_ingest.market.datasets import ADJ_FACTOR, dataset
from mystocks_ingest.market.frames import Symbol, Window
from mystocks_ingest.monitor import questions
from mystocks_ingest.monitor.journal import Buried
from mystocks_ingest.monitor.log import MonitorLog, Waiting
from mystocks_ingest.ports import Query
from mystocks_ingest.schema.tables import Database
from mystocks_ingest.service import Clock, Service
from mystocks_ingest.settings import Settings

T = TypeVar("T")

LETTER_COUNTS = dict[tuple[str, str, str], int]
"""Dead letters by dataset, source and rule."""
_SETTLED_SECONDS = 3.0  # for entries of the log's spool to arrive before the log is read
_BLOCK_ROWS = 50_000
_MANY_SYMBOLS = 50
_DATED_STEP, _TIMED_STEP = timedelta(days=366), timedelta(days=7)
_TIMED_SINCE = date(1999, 1, 1)  # no vendor's intraday history reaches back further
_EVER = Window(date(1990, 1, 1), date(2100, 1, 1))
_AHEAD = timedelta(days=800)  # a calendar reaches into the future


class Errand(Generic[T]):
    """Work on an opened service; the fields of a subclass are what it is about."""

    @classmethod
    def gives(cls) -> Any:
        """The type of the result: what the class is an errand of."""
        return get_args(vars(cls)["__orig_bases__"][0])[0]

    async def of(self, opened: Service, watch: Watch) -> T:
        """Do it. Raises what the work raises."""
        raise NotImplementedError

    async def alone(self, settings: Settings, now: Clock, watch: Watch) -> T:
        """Do it on stores opened for it. Raises StoreBusy where another process has the embedded one."""
        async with service.opened(settings, now=now) as opened:
            return await self.of(opened, watch)

    def through(self, dial: Callable[[], Line], watch: Watch) -> T:
        """Have the service do it. Raises ConfigError or IngestError with its sentence."""
        with dial() as line:
            found = line.ask(
                {"do": "errand", "errand": type(self).__name__, "given": sent(type(self), self)}, hears(watch)
            )
            result: T = received(self.gives(), found["result"])
            return result


@dataclass(frozen=True)
class Plan(Errand[list[PlanLine]]):
    """What a backfill would ask of whom, and what that costs."""

    job: Job

    async def of(self, opened: Service, watch: Watch) -> list[PlanLine]:
        return await opened.plan(self.job)


@dataclass(frozen=True)
class Fetch(Errand[Report]):
    """A backfill."""

    job: Job

    async def of(self, opened: Service, watch: Watch) -> Report:
        return await opened.backfill(self.job, watch)


@dataclass(frozen=True)
class Gaps(Errand[list[Missing]]):
    """What should be stored and is not."""

    job: Job

    async def of(self, opened: Service, watch: Watch) -> list[Missing]:
        return await opened.gaps(self.job)


@dataclass(frozen=True)
class Letters(Errand[tuple[list[Buried], LETTER_COUNTS]]):
    """Dead letters, oldest first, and how many there are of each dataset, source and rule."""

    dataset: str | None = None
    rule: str | None = None
    source: str | None = None
    symbol: Symbol | None = None
    replayed: bool | None = False
    limit: int = 50

    async def of(self, opened: Service, watch: Watch) -> tuple[list[Buried], LETTER_COUNTS]:
        found = await opened.journal.letters(
            dataset=self.dataset, rule=self.rule, source=self.source, symbol=self.symbol, replayed=self.replayed,
            limit=self.limit,
        )  # fmt: skip
        return found, await opened.journal.letter_counts(replayed=self.replayed)


@dataclass(frozen=True)
class OneLetter(Errand[Buried]):
    """The dead letter of this number."""

    number: int

    async def of(self, opened: Service, watch: Watch) -> Buried:
        return await opened.journal.letter(self.number)


@dataclass(frozen=True)
class Replay(Errand[Replayed]):
    """Another try for dead letters."""

    choice: Choice

    async def of(self, opened: Service, watch: Watch) -> Replayed:
        return await opened.replay(self.choice)


@dataclass(frozen=True)
class Asked(Errand[tuple[list[dict[str, Any]], Waiting]]):
    """A question of ``monitor.questions`` by its name there, put to the monitor log; and what waits to be written to it."""

    question: str
    since: datetime | None = None
    limit: int = 50

    async def of(self, opened: Service, watch: Watch) -> tuple[list[dict[str, Any]], Waiting]:
        return await self._put(opened.log)

    async def alone(self, settings: Settings, now: Clock, watch: Watch) -> tuple[list[dict[str, Any]], Waiting]:
        async with service.monitored(settings, now=now) as log:
            return await self._put(log)

    def through(self, dial: Callable[[], Line], watch: Watch) -> tuple[list[dict[str, Any]], Waiting]:
        rows, waiting = super().through(dial, watch)
        moments = questions.NAMED[self.question].moments
        for row in rows:
            row.update({n: datetime.fromisoformat(row[n]) for n in moments if isinstance(row[n], str)})
        return rows, waiting

    async def _put(self, log: MonitorLog) -> tuple[list[dict[str, Any]], Waiting]:
        question = questions.NAMED.get(self.question)
        if question is None:
            raise ConfigError(f"the service knows no question {self.question!r}; is it an older version? Restart it")
        await log.settled(_SETTLED_SECONDS)
        return await log.ask(question, since=self.since, limit=self.limit), await log.waiting()


@dataclass(frozen=True)
class Read(Errand[pa.Table]):
    """Stored rows of ``dataset`` in key order, the first ``limit``; prices adjusted where they are wanted.

    The service hands them on as they come: who wants them has the memory for them, or says a limit.
    """

    dataset: str
    symbols: tuple[Symbol, ...]
    window: Window
    adjust: How = "none"
    limit: int | None = None

    async def of(self, opened: Service, watch: Watch) -> pa.Table:
        return await opened.read(dataset(self.dataset), self.symbols, self.window, self.adjust, self.limit)

    def through(self, dial: Callable[[], Line], watch: Watch) -> pa.Table:
        rows = self._raw(dial, watch)
        if self.adjust == "none" or not rows.num_rows:
            return rows
        whose = tuple(Symbol(s) for s in rows["symbol"].unique().to_pylist())
        factors = Read(ADJ_FACTOR.name, whose, _EVER)._raw(dial, watch)  # noqa: SLF001 - another of its kind
        return adjusted(rows, factors, self.adjust)

    def _raw(self, dial: Callable[[], Line], watch: Watch) -> pa.Table:
        given = sent(Read, replace(self, adjust="none"))
        with dial() as line:
            line.ask({"do": "errand", "errand": "Read", "given": given}, hears(watch))
            parts = [pa.ipc.open_stream(block).read_all() for block in iter(line.block, b"")]
        filled = [part for part in parts if part.num_rows]
        rows = pa.concat_tables(filled or parts[:1])
        if len(filled) > 1:
            rows = rows.sort_by([(name, "ascending") for name in dataset(self.dataset).key])
        return rows.slice(0, self.limit)

    async def blocks(self, opened: Service) -> AsyncGenerator[bytes, None]:
        """Arrow streams of a bounded number of rows: the service never holds the whole of a long history."""
        wanted = dataset(self.dataset)
        empty = True
        query = Query(self.symbols, self.window, limit=self.limit)
        async with aclosing(opened.stream(wanted, query, self._windows(opened))) as pieces:
            async for piece in pieces:
                for first in range(0, piece.num_rows, _BLOCK_ROWS):
                    yield _block(piece.slice(first, _BLOCK_ROWS))
                    empty = False
        if empty:
            yield _block(wanted.schema.empty_table())

    def _windows(self, opened: Service) -> Iterator[Window]:
        wanted = dataset(self.dataset)
        own = all(table.database_type is Database.EMBEDDED for table in opened.tables.routes(wanted))  # no time limit
        if wanted.time is None or self.limit is not None or own or 0 < len(self.symbols) <= _MANY_SYMBOLS:
            yield self.window
            return
        dated = pa.types.is_date(wanted.schema.field(wanted.time).type)
        start = self.window.start if dated else max(self.window.start, _TIMED_SINCE)
        end = min(self.window.end, opened.now().date() + _AHEAD)
        step = _DATED_STEP if dated else _TIMED_STEP
        if start >= end:
            yield self.window
        while start < end:
            yield Window(start, min(start + step, end))
            start += step


def _block(rows: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows)
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]


KINDS: Mapping[str, type[Errand[Any]]] = {
    kind.__name__: kind for kind in (Plan, Fetch, Gaps, Letters, OneLetter, Replay, Asked, Read)
}
