"""The other way in for strategies and gateways: entries that they add to Redis streams, one stream a dataset.

Read as a consumer group, held to the rules of the HTTP endpoint, and acknowledged only once the rows are durable, in a
database or in the spool. After a crash or an outage what is pending comes first, in its order; what was stored and not
acknowledged is known by its entry's id, and only acknowledged then. A refused entry becomes a dead letter, with its
reason, and holds nobody up.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Protocol, TypeVar

from mystocks_ingest.daemon import batches
from mystocks_ingest.errors import ConfigError, IngestError, Rejected
from mystocks_ingest.flow.ingest import Taken, letters
from mystocks_ingest.logs import get
from mystocks_ingest.market.checks import Refused
from mystocks_ingest.market.datasets import Dataset
from mystocks_ingest.market.frames import Frame
from mystocks_ingest.monitor.health import Kind, Part, State
from mystocks_ingest.monitor.metrics import Metrics
from mystocks_ingest.ports import DeadLetter
from mystocks_ingest.schema.tables import Tables
from mystocks_ingest.settings import Settings
from mystocks_ingest.sinks.redis import RedisDatabase
from mystocks_ingest.sinks.redis.streams import NEW, PENDING, Entry, Streams
from mystocks_ingest.web import delivery
from mystocks_ingest.web.delivery import Form
from mystocks_ingest.web.known import Known
from mystocks_ingest.web.limits import Limits

T = TypeVar("T")
log = get("stream")

_BLOCK_MS, _BLOCK_BESIDE_MS = 1_000, 100  # how long is waited for new entries; while another stream's are under way
_FIRST_COUNT, _MOST_COUNT = 16, 2_000
_READ_BYTES = 4 << 20  # what one read of a stream should bring
_TOGETHER_SECONDS = 1.0  # a stream that takes longer is left to itself, and the others are read on
_CLAIMED_AT_ONCE = 1_000
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0


class Desk(Protocol):
    """What the consumer needs of the service."""

    @property
    def metrics(self) -> Metrics: ...

    @property
    def tables(self) -> Tables: ...

    def now(self) -> datetime: ...

    async def take(self, frame: Frame) -> Taken:
        """Returns when what passes the checks is durable."""
        ...

    async def bury(self, letters: Sequence[DeadLetter]) -> None: ...


@dataclass
class _Stream:
    """One stream as it stands. ``after``: what is read next. ``held``: why its entries wait, empty while they do not."""

    name: str
    form: Form
    after: str = PENDING
    held: str = ""
    rows: int = 0
    refused: int = 0
    waiting: int = 0
    pending: int = 0
    trimmable: bool = False
    unsettled: frozenset[str] | None = None  # None: not looked at since the connection was made

    @property
    def wanted(self) -> Dataset:
        return self.form.wanted


@dataclass
class StreamConsumer:
    """``await run()`` for ever. ``part()`` is how it fares.

    ``look_seconds`` lie between two looks at what may be claimed, what waits, and what may be trimmed.
    """

    settings: Settings
    desk: Desk
    known: Known
    limits: Limits = field(default_factory=Limits)
    look_seconds: float = 10.0
    away: str = "it has not connected yet"
    _streams: dict[str, _Stream] = field(default_factory=dict)
    _unusable: dict[str, str] = field(default_factory=dict)
    _count: int = _FIRST_COUNT  # entries of each stream in one read

    def __post_init__(self) -> None:
        prefix = self.settings.stream_prefix
        if self.settings.redis_cluster and not re.search(r"\{[^}]+\}", prefix):
            raise ConfigError(
                f"MYSTOCKS_STREAM_PREFIX is {prefix}, whose streams a cluster spreads over its nodes: put braces round a "
                "part of it, {mystocks}:ingest"
            )
        for wanted in delivery.deliverable():
            name = f"{prefix}:{wanted.name}"
            self._streams[name] = _Stream(name, delivery.form(wanted, self.desk.tables))

    async def run(self) -> None:
        """Read, store, acknowledge; connect again after every outage. Ends with its task only."""
        consumer = await self.known.consumer()
        pause = _FIRST_PAUSE
        while True:
            try:
                async with RedisDatabase.of(self.settings) as database:
                    tag = self.settings.stream_prefix
                    await self._consume(Streams(database, self.settings.stream_group, consumer, tag=tag))
            except* IngestError as several:
                first = _first(several)
            if not self.away:
                pause = _FIRST_PAUSE
            if str(first) != self.away:
                log.warning("stream.away", reason=str(first))
            self.away = str(first)
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def part(self) -> Part:
        """How it fares, with figures of all streams together; Redis is asked nothing for it."""
        streams = self._streams.values()
        figures = {
            "rows": float(sum(s.rows for s in streams)),
            "refused_entries": float(sum(s.refused for s in streams)),
            "waiting_entries": float(sum(max(s.waiting, 0) for s in streams)),
            "pending_entries": float(sum(s.pending for s in streams)),
        }
        held = [f"{s.wanted.name}: {s.held}" for s in streams if s.held]
        why = self.away or "; ".join((*held, *self._unusable.values()))
        return Part("stream", Kind.SOURCE, State.DEGRADED if why else State.FRESH, why, figures=figures)

    async def _consume(self, redis: Streams) -> None:
        """On one connection, until it fails. Raises an exception group of IngestErrors."""
        await self._join(redis)
        if self.away:
            log.warning("stream.joined", streams=len(self._streams) - len(self._unusable))
        self.away = ""
        loop = asyncio.get_running_loop()
        look_again = 0.0
        under_way: dict[str, asyncio.Task[None]] = {}
        async with asyncio.TaskGroup() as group:
            while True:
                idle = [s for s in self._streams.values() if s.name not in under_way and s.name not in self._unusable]
                if loop.time() >= look_again:
                    await self._look(redis, idle)
                    look_again = loop.time() + self.look_seconds
                for stream in idle:
                    if stream.unsettled is None:
                        stream.unsettled = await self.known.unsettled(stream.name)
                found = await self._read(redis, idle, _BLOCK_BESIDE_MS if under_way else _BLOCK_MS)
                for stream, entries in found:
                    work = self._handle(redis, stream, entries)
                    under_way[stream.name] = group.create_task(work, name=f"stream:{stream.wanted.name}")
                if under_way:
                    await asyncio.wait(under_way.values(), timeout=_TOGETHER_SECONDS if found else 0)
                under_way = {name: task for name, task in under_way.items() if not task.done()}

    async def _join(self, redis: Streams) -> None:
        self._unusable.clear()
        for stream in self._streams.values():
            await self._join_one(redis, stream)

    async def _join_one(self, redis: Streams, stream: _Stream) -> None:
        stream.after, stream.unsettled = PENDING, None
        try:
            await redis.join(stream.name)
        except Rejected as exc:  # something else lies under that name: the other streams are read all the same
            if stream.name not in self._unusable:
                log.warning("stream.unusable", stream=stream.name, reason=str(exc))
            self._unusable[stream.name] = f"{stream.name} is no stream"
        else:
            if self._unusable.pop(stream.name, None):
                log.warning("stream.usable", stream=stream.name)

    async def _look(self, redis: Streams, idle: Sequence[_Stream]) -> None:
        """Take over what a dead consumer left, see what waits, take out what everybody has acknowledged."""
        for name in list(self._unusable):  # somebody may have taken away what lay there
            await self._join_one(redis, self._streams[name])
        idle_ms = round(self.settings.stream_claim_seconds * 1000)
        for stream in idle:
            claimed = await redis.claim(stream.name, idle_ms=idle_ms, count=_CLAIMED_AT_ONCE)
            if claimed:
                log.warning("entries.claimed", stream=stream.name, entries=claimed)
                stream.after = PENDING
            if stream.trimmable:
                await redis.trim(stream.name)
                stream.trimmable = False
            progress = await redis.progress(stream.name)
            stream.waiting, stream.pending = progress.waiting, progress.pending

    async def _read(self, redis: Streams, idle: Sequence[_Stream], block_ms: int) -> list[tuple[_Stream, list[Entry]]]:
        """The next entries of those streams. A stream's pending ones are read until there are none, then its new ones."""
        if not idle:
            await asyncio.sleep(block_ms / 1000)
            return []
        found = await redis.read({s.name: s.after for s in idle}, count=self._count, block_ms=block_ms)
        size = sum(e.size for entries in found.values() for e in entries)
        longest = max(map(len, found.values()), default=0)
        if size > _READ_BYTES or longest == self._count:  # entries may be one row, or megabytes
            wanted = self._count * _READ_BYTES // max(size, 1)
            self._count = max(1, min(wanted, 2 * self._count, _MOST_COUNT))
        for stream in idle:
            if stream.after == PENDING and not found.get(stream.name):
                stream.after = NEW
        return [(s, found[s.name]) for s in idle if found.get(s.name)]

    async def _handle(self, redis: Streams, stream: _Stream, entries: Sequence[Entry]) -> None:
        """Store one read's entries, then acknowledge them. Only a failure to acknowledge raises (an IngestError)."""
        done = stream.unsettled or frozenset()
        again = stream.after == PENDING
        fresh = [e for e in entries if e.fields is not None and not (again and e.id in done)]
        gone = [e.id for e in entries if e.fields is None]
        if gone:
            log.warning("entries.gone", stream=stream.name, entries=len(gone), why="trimmed before they were stored")
        if fresh:
            await self._store(stream, fresh)
            await self.known.stored(stream.name, [e.id for e in fresh])
        ids = [e.id for e in entries]
        await redis.acknowledge(stream.name, ids)
        await self.known.settled(stream.name, ids)
        stream.trimmable = True

    async def _store(self, stream: _Stream, entries: Sequence[Entry]) -> None:
        now = self.desk.now()
        read = await asyncio.to_thread(batches.read, stream.form, entries, self.limits, now)
        refused, stored = list(read.refused), 0
        for frame in read.frames:
            stored += await self._surely(stream, partial(self._taken, frame))
            self.desk.metrics.received(stream.wanted.name, "push", len(frame))
        if refused:
            aside = [batches.letter(stream.wanted, r, stream=stream.name, at=now) for r in refused]
            await self._surely(stream, partial(self.desk.bury, aside))
            reasons = [r.reason for r in refused[:3]]
            log.warning("entries.refused", stream=stream.name, entries=len(refused), reasons=reasons)
        stream.rows += stored
        stream.refused += len(refused)
        log.info("entries.stored", stream=stream.name, entries=len(entries), rows=stored)

    async def _taken(self, frame: Frame) -> int:
        """How many rows are stored; the others are dead letters."""
        try:
            return len((await self.desk.take(frame)).accepted)
        except IngestError:
            raise
        except Exception as exc:  # what somebody delivers may not end the service, again after each restart
            log.exception("rows.defective", dataset=frame.dataset.name, source=frame.source, rows=len(frame))
            reason = f"judging or storing it failed inside the service ({type(exc).__name__}): its log has the details"
            aside = Refused(frame, ["defect"] * len(frame), [reason] * len(frame))
            await self.desk.bury(letters(aside, at=self.desk.now(), run_id="stream"))
            return 0

    async def _surely(self, stream: _Stream, work: Callable[[], Awaitable[T]]) -> T:
        """``work``, repeated while it cannot be done: nothing is acknowledged meanwhile."""
        pause = _FIRST_PAUSE
        while True:
            try:
                result = await work()
            except IngestError as exc:
                if stream.held != str(exc):
                    log.warning("entries.held", stream=stream.name, reason=str(exc))
                stream.held = str(exc)
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            else:
                stream.held = ""
                return result


def _first(several: BaseExceptionGroup[IngestError]) -> IngestError:
    found = several.exceptions[0]
    return _first(found) if isinstance(found, BaseExceptionGroup) else found
