"""The monitor log: what is done to tables, what runs did, how sources fare; for people, dashboards and the schema manager.

It lives in MySQL or MariaDB (``db_monitor``) where the mysql store is in use, else in the embedded store. What the
backfill's correctness rests on is elsewhere: checkpoints and dead letters with their rows are in the embedded journal
(``monitor/journal.py``) and only there; here are their sums. The log may be dropped without harm to any row.

An entry goes into a bounded queue, from there (a sidecar task) into a durable local spool, which is the acknowledgement,
and from the spool (another task) in order into the database. While the database is away entries wait in the spool and
nothing else waits: not the caller, nor the shutdown beyond a second. Each entry has an id, and the database notes in the
same transaction which ids it holds, so that a repetition writes nothing.

What is lost, and counted (``Waiting.lost``): an entry for which the queue had no place within ``room_seconds``, one that
came while the spool held ``spool.CAPACITY`` others or could not be written (a full disk). An entry that the database
refuses for what is in it is set aside in the spool, counted too, and holds nobody up.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from mystocks_ingest.errors import IngestError, Rejected, Unavailable
from mystocks_ingest.logs import get, redact
from mystocks_ingest.monitor import entries, tables
from mystocks_ingest.monitor.entries import Entry
from mystocks_ingest.monitor.log_values import Initialised, Missed
from mystocks_ingest.monitor.questions import RECORDED, Question
from mystocks_ingest.monitor.spool import Spool, SpoolFull
from mystocks_ingest.monitor.tables import History
from mystocks_ingest.ports import Operation, Recorded, Status, Validation

T = TypeVar("T")
log = get("monitor")

EVER = datetime(1970, 1, 2, tzinfo=UTC)


class Store(Protocol):
    """The database of the log."""

    @property
    def name(self) -> str: ...

    async def prepare(self) -> list[str]:
        """Make what is missing; the names of the tables that were."""
        ...

    async def write(self, entries: Sequence[Entry]) -> None:
        """All or none; each once, however often it comes. Raises Rejected for what is in them, else Unavailable."""
        ...

    async def ask(self, question: Question, values: Mapping[str, object]) -> list[dict[str, Any]]: ...
    async def counts(self) -> dict[str, int]: ...
    async def drop(self) -> None: ...

    async def prune(self, history: History, *, before: datetime, whole: bool, limit: int) -> int:
        """As MonitorLog.prune."""
        ...


@dataclass(frozen=True, slots=True)
class Limits:
    """``batch``: entries of one transaction. ``idle_seconds``: how often other processes' entries are looked for."""

    queue: int = 1_000
    batch: int = 500
    room_seconds: float = 2.0
    shortest_rest: float = 1.0
    longest_rest: float = 30.0
    idle_seconds: float = 5.0
    drain_seconds: float = 5.0
    away_drain_seconds: float = 1.0


@dataclass(frozen=True, slots=True)
class Waiting:
    """What is not in the database: entries that wait, were set aside, were lost; and why they wait."""

    entries: int
    refused: int
    lost: int
    reason: str = ""


_NOTHING = Waiting(0, 0, 0)


@dataclass(eq=False, slots=True)
class _Given:
    entries: Sequence[Entry]
    kept: asyncio.Future[bool]


class MonitorLog:
    """ports.Operations, and the way in for runs and sources. ``async with MonitorLog(spool, store, now=clock) as log``.

    ``store`` None: the log's database is another process's at the moment; entries wait in the spool.
    """

    def __init__(
        self, spool: Spool, store: Store | None, *, now: Callable[[], datetime], limits: Limits | None = None
    ) -> None:
        self._spool = spool
        self._store = store
        self._now = now
        self._limits = limits or Limits()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="monitor-spool")
        self._queue: asyncio.Queue[_Given | None] = asyncio.Queue(self._limits.queue)
        self._under_way: dict[str, Operation] = {}
        self._stirred = asyncio.Event()  # something came, or the end was announced
        self._settled = asyncio.Event()  # the spool was seen empty since the last entry came
        self._told = 0  # batches on their way into the spool or there
        self._closing = False
        self._ended = asyncio.Event()  # everything told is in the spool, and no more comes
        self._ready = False  # the store's tables are there
        self._away = ""
        self._lost = 0  # not yet counted in the spool
        self.missed = Missed()
        self.seen = _NOTHING  # what ``waiting`` found, seconds ago at most
        self._tasks: tuple[asyncio.Task[None], ...] = ()

    async def __aenter__(self) -> Self:
        self._settled.clear()  # until the spool of earlier runs was seen empty
        keeper = asyncio.create_task(self._keep(), name="monitor:spool")
        drain = asyncio.create_task(self._drain(), name="monitor:drain")
        self._tasks = (keeper, drain)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """What came is in the spool; what can be is in the database. Leaves the rest in the spool under a deadline."""
        keeper, drain = self._tasks
        self._closing = True
        try:
            await self._queue.put(None)
            await asyncio.wait({keeper})
            self._ended.set()
            self._stirred.set()
            seconds = self._limits.away_drain_seconds if self._away else self._limits.drain_seconds
            await asyncio.wait({drain}, timeout=seconds)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks)
            await self._in_thread(self._farewell)
            self._thread.shutdown(wait=False)
        for task in self._tasks:
            if error is None and not task.cancelled():
                task.result()  # a defect of ours is not kept quiet

    async def record(self, given: Sequence[Entry]) -> bool:
        """True once the entries are durable here; False when they had to be given up, which is counted. Never raises."""
        if not given:
            return True
        if self._closing:
            self._lose(len(given), "the log is closed")
            return False
        mine = _Given(given, asyncio.get_running_loop().create_future())
        try:
            async with asyncio.timeout(self._limits.room_seconds):
                await self._queue.put(mine)
        except TimeoutError:
            self._lose(len(given), "the queue is full")
            return False
        return await mine.kept

    async def began(self, operation: Operation) -> str:
        """Note ``operation`` as processing, before it is done; returns its id."""
        ident = uuid.uuid4().hex
        self._under_way[ident] = operation
        await self.record([entries.operated(ident, operation, Status.PROCESSING)])
        return ident

    async def ended(self, id: str, status: Status, error: str = "", *, of: Operation | None = None) -> None:  # noqa: A002 - the log's word
        """How an operation that ``began`` ended; a table's creation is told with its columns.

        ``of``: the operation itself, where another process noted its beginning.
        """
        operation = self._under_way.pop(id, of)
        if operation is None:
            raise KeyError(id)
        told = [entries.operated(id, operation, status, error)]
        if operation.made is not None and operation.table and status is not Status.PROCESSING:
            told.append(entries.created(id, operation, operation.made, status, error, at=self._now()))
        await self.record(told)

    async def validated(self, found: Sequence[Validation]) -> None:
        """What comparisons of tables with the file found."""
        await self.record([told for one in found for told in entries.validated(uuid.uuid4().hex, one)])

    async def operations(
        self, *, table: str = "", status: Status | None = None, since: datetime | None = None, limit: int = 100
    ) -> list[Recorded]:
        """The latest, newest first; the spooled ones included. Raises Unavailable when the log cannot be read."""
        try:
            spooled = await self._in_thread(partial(self._spool.waiting_in, tables.OPERATION.name))
        except OSError as exc:
            raise Unavailable(f"the monitor log cannot be read: {exc}") from exc
        # a spooled entry may be how one that the database holds ended, so it decides after both are read
        try:
            how = status.value if status is not None else ""
            stored = await self.ask(RECORDED, since=since, limit=limit + len(spooled), table=table, status=how)
        except IngestError as exc:
            raise Unavailable(f"the monitor log cannot be read: {exc}") from exc
        found = {row["entry_id"]: (row["revision"], entries.recorded(row["entry_id"], row)) for row in stored}
        for one in spooled:
            if one.id not in found or found[one.id][0] < one.revision:
                found[one.id] = (one.revision, entries.recorded(one.id, one.values))
        wanted = [
            r
            for _, r in found.values()
            if table in ("", r.operation.table)
            and status in (None, r.status)
            and r.operation.at >= (since or EVER).replace(microsecond=0)
        ]
        return sorted(wanted, key=lambda r: r.operation.at, reverse=True)[:limit]

    async def ask(
        self, question: Question, *, since: datetime | None = None, limit: int = 100, **values: object
    ) -> list[dict[str, Any]]:
        """The rows of an answer. Raises Unavailable when the log's database is away or another process's."""
        store = self._answering()
        await self._prepare(store)
        return await store.ask(question, {"since": since or EVER, "limit": limit, **values})

    async def prune(self, history: History, *, before: datetime, whole: bool, limit: int) -> int:
        """Let go of at most ``limit`` rows told of moments before that, with all that hangs on them; how many went.

        ``whole``: those that last as well. Raises Unavailable where the log's database is away or another process's.
        """
        store = self._answering()
        await self._prepare(store)
        return await store.prune(history, before=before, whole=whole, limit=limit)

    async def initialise(self, *, drop_existing: bool = False) -> Initialised:
        """Make the log's tables where they are missing; with ``drop_existing`` all of them anew, without their rows.

        Entries that wait in the spool are kept either way. Raises ConfigError, Unavailable.
        """
        store = self._answering()
        before = await store.counts()
        if drop_existing:
            await store.drop()
        made = await store.prepare()
        self._ready = True
        kept = {} if drop_existing else before
        return Initialised(store.name, tuple(made), kept, before if drop_existing else {})

    async def waiting(self) -> Waiting:
        """What is not in the database."""
        try:
            waiting, refused, lost = await self._in_thread(self._spool.counts)
        except OSError as exc:
            return Waiting(0, 0, self._lost, str(exc))
        return Waiting(waiting, refused, lost + self._lost, self._away)

    async def settled(self, seconds: float) -> bool:
        """Whether everything told so far is in the database, after at most ``seconds``."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._settled.wait()
        return self._settled.is_set()

    def _answering(self) -> Store:
        if self._store is None:
            raise Unavailable(
                "the monitor log lies in the embedded store, which another process holds: ask again when it has ended"
            )
        return self._store

    async def _prepare(self, store: Store) -> None:
        if not self._ready:
            made = await store.prepare()
            self._ready = True
            if made:
                log.info("log.created", place=store.name, tables=len(made))

    async def _keep(self) -> None:
        """From the queue into the spool, all that came meanwhile in one transaction."""
        going = True
        while going:
            given = [await self._queue.get()]
            while not self._queue.empty():
                given.append(self._queue.get_nowait())
            going = None not in given
            batch = [one for one in given if one is not None]
            kept = await self._kept([entry for one in batch for entry in one.entries])
            for one in batch:
                if not one.kept.done():  # whoever waited may be gone
                    one.kept.set_result(kept)
            self._stirred.set()

    async def _kept(self, told: Sequence[Entry]) -> bool:
        if not told:
            return True
        self._settled.clear()
        self._told += 1
        try:
            await self._in_thread(partial(self._spool.put, told))
        except SpoolFull:
            self._lose(len(told), "the spool is full")
            return False
        except Exception as exc:  # noqa: BLE001 - whoever told us must not wait for ever, nor fail for our sake
            self._lose(len(told), f"the spool cannot be written: {exc}")
            return False
        await self._count_lost()
        return True

    async def _count_lost(self) -> None:
        """Leave the count of what was lost in the spool, now that it can be written."""
        lost = self._lost
        if lost:
            with suppress(OSError):
                await self._in_thread(partial(self._spool.lose, lost))
                self._lost -= lost

    async def _drain(self) -> None:
        """From the spool into the database, in order, until the end; an outage is waited out."""
        rest = 0.0
        while True:
            last = self._ended.is_set()
            self._stirred.clear()
            if self._store is not None:
                rest = self._rest(rest, await self._drained(self._store))
            self.seen = await self.waiting()
            if last:
                return
            awaited = self._ended if rest else self._stirred  # new entries do not bring the database back
            with suppress(TimeoutError):
                async with asyncio.timeout(rest or self._limits.idle_seconds):
                    await awaited.wait()

    def _rest(self, before: float, why: str) -> float:
        """How long to leave the database alone after an attempt that ended so; nothing said: it went well."""
        place = self._store.name if self._store is not None else ""
        if why and not self._away:
            log.warning("log.away", place=place, reason=why)
        elif self._away and not why:
            log.warning("log.back", place=place)
        self._away = why
        limits = self._limits
        return min(max(2 * before, limits.shortest_rest), limits.longest_rest) if why else 0.0

    async def _drained(self, store: Store) -> str:
        """Why the spool could not be emptied; nothing when it was."""
        try:
            told = self._told
            while batch := await self._in_thread(partial(self._spool.oldest, self._limits.batch)):
                await self._prepare(store)
                await self._hand_over(store, batch)
                told = self._told
            if told == self._told and self._queue.empty():  # else something came after the spool was seen empty
                self._settled.set()
        except Exception as exc:  # noqa: BLE001 - whatever ails the log, nothing else may stop for it
            self._ready = False  # its tables may have been dropped
            return redact(str(exc)) or type(exc).__name__
        return ""

    async def _hand_over(self, store: Store, batch: Sequence[tuple[int, Entry]]) -> None:
        try:
            await store.write([entry for _, entry in batch])
        except Rejected:
            for place, entry in batch:
                await self._hand_over_one(store, place, entry)
            return
        await self._in_thread(partial(self._spool.taken, [place for place, _ in batch]))

    async def _hand_over_one(self, store: Store, place: int, entry: Entry) -> None:
        try:
            await store.write([entry])
        except Rejected as exc:
            reason = str(exc)
            log.warning("entry.refused", table=entry.table, reason=reason)
            await self._in_thread(partial(self._spool.refuse, place, reason))
            self.missed.more(reason, refused=1)
            return
        await self._in_thread(partial(self._spool.taken, [place]))

    def _farewell(self) -> None:
        """Leave the count of what was lost in the spool, where it can be, and close it."""
        with suppress(OSError):
            if self._lost:
                self._spool.lose(self._lost)
        self._spool.close()

    def _lose(self, number: int, reason: str) -> None:
        log.warning("entries.lost", entries=number, reason=reason)
        self._lost += number
        self.missed.more(redact(reason), lost=number)

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)
