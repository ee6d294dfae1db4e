"""The day's schedule: each job runs when it is due, never beside itself, and what was missed is made up for once.

A job is one task that waits for its next firing. A firing that comes while the job still runs is skipped, but for the
end of a session: what is shown then is asked for late rather than never, and once more a minute after the close. One that
comes while somebody runs the job by hand follows that run: the day's data may have been published in between. Those that
came while the service was down are made up for by one run at the start, if the job says so. The clock may be stepped:
waits are cut into slices and the time is read again after each.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Protocol

from mystocks_ingest.errors import ConfigError, IngestError
from mystocks_ingest.logs import get
from mystocks_ingest.market.calendar import Calendar
from mystocks_ingest.market.sessions import ZONE
from mystocks_ingest.market.timetable import Every, Firing, in_session, newest
from mystocks_ingest.schema.jobs import JobEntry

log = get("schedule")

_SLICE = timedelta(seconds=20)  # after which the clock is read again
_SHORTEST = 0.005  # seconds of the loop: a simulated day must not spin
_LATE = timedelta(minutes=5)  # a firing older than this was missed, not merely late


class Clock(Protocol):
    """The time, and how to wait in it; a simulated day runs faster."""

    def now(self) -> datetime:
        """Aware, UTC."""
        ...

    def seconds(self, length: timedelta) -> float:
        """How long ``length`` takes on the loop's clock."""
        ...


@dataclass(frozen=True, slots=True)
class Memory:
    """What is remembered of a job across restarts."""

    due: datetime | None = None  # the last firing that was dealt with
    started: datetime | None = None
    ended: datetime | None = None
    status: str = ""  # complete, partial, failed, skipped; running while it does
    reason: str = ""
    paused: bool | None = None  # by command; None: as the file says


class Memories(Protocol):
    """Where it is kept."""

    async def jobs(self) -> Mapping[str, Memory]: ...
    async def remember(self, name: str, memory: Memory) -> None: ...


@dataclass(frozen=True, slots=True)
class Ended:
    """How one run of a job ended; ``partial`` is tried again."""

    status: str
    reason: str = ""


Work = Callable[[JobEntry, datetime], Awaitable[Ended]]


@dataclass
class Schedule:
    """``run`` works for ever. ``work`` does one job that was due at a moment; what it raises but IngestError passes."""

    entries: Sequence[JobEntry]
    calendar: Callable[[], Calendar]
    work: Work
    clock: Clock
    memories: Memories
    known: dict[str, Memory] = field(default_factory=dict)
    next: dict[str, Firing] = field(default_factory=dict)
    _turns: dict[str, asyncio.Lock] = field(default_factory=dict)
    _asked: dict[str, asyncio.Event] = field(default_factory=dict)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """Run jobs as they fall due, until cancelled."""
        self.known = dict(await self.memories.jobs())
        kept: set[str] = set()
        async with asyncio.TaskGroup() as group:
            while True:
                self._changed.clear()
                for entry in self.entries:
                    if entry.name not in kept:
                        kept.add(entry.name)
                        task = group.create_task(self._keep(entry.name), name=f"job:{entry.name}")
                        task.add_done_callback(partial(_forget, kept, entry.name))
                await self._changed.wait()

    def replace_entries(self, entries: Sequence[JobEntry]) -> None:
        """Other jobs from now on. What runs goes on to its end as it began."""
        self.entries = tuple(entries)
        for event in self._asked.values():
            event.set()
        self._changed.set()
        log.info("jobs.reloaded", jobs=[e.name for e in self.entries])

    def paused(self, entry: JobEntry) -> bool:
        """By command where there was one, else as the file says."""
        told = self.known.get(entry.name, Memory()).paused
        return entry.paused if told is None else told

    async def pause(self, name: str, *, paused: bool) -> None:
        """Raises ConfigError for an unknown job."""
        self._entry(name)
        await self._remember(name, paused=paused)
        self._asked.setdefault(name, asyncio.Event()).set()

    async def now(self, name: str) -> Ended:
        """Run a job at once, due or not. Raises ConfigError for an unknown one and for one that is running."""
        entry = self._entry(name)
        if self.running(name):
            raise ConfigError(f"job {name} is running already")
        return await self._once(entry, self.clock.now())

    def running(self, name: str) -> bool:
        return name in self._turns and self._turns[name].locked()

    def _entry(self, name: str) -> JobEntry:
        found = next((e for e in self.entries if e.name == name), None)
        if found is None:
            raise ConfigError(f"no job {name}; there are {', '.join(e.name for e in self.entries) or 'none'}")
        return found

    async def _keep(self, name: str) -> None:
        """One job's life: wait, run, again; until it is in the file no more."""
        since = self.known.get(name, Memory()).due or self.clock.now()
        while (entry := next((e for e in self.entries if e.name == name), None)) is not None:
            since = min(since, self.clock.now())  # the clock may have been set back
            try:
                firing = self._next(entry, since)
            except ConfigError as exc:  # nothing that a calendar or a file says ends the service
                await self._never(name, str(exc))
                continue
            self.next[name] = firing
            if await self._reached(name, firing.at):
                since = await self._due(entry, firing.at)
        self.next.pop(name, None)

    async def _never(self, name: str, reason: str) -> None:
        """Wait until the jobs or the calendar are others."""
        log.warning("job.never_due", job=name, reason=reason)
        self.next.pop(name, None)
        event = self._asked.setdefault(name, asyncio.Event())
        event.clear()
        await event.wait()

    def _next(self, entry: JobEntry, since: datetime) -> Firing:
        """The first firing after ``since``; of a live job also the look at what the close gave."""
        if isinstance(entry.when, Every) and (look := entry.when.settled(since, self.calendar())) is not None:
            return look
        return entry.when.after(since, self.calendar())

    def _gone(self, at: datetime, now: datetime) -> bool:
        """Whether there is nothing more to be seen of a live firing: another day has come, and trading has not begun."""
        days = (moment.astimezone(ZONE).date() for moment in (at, now))
        return len(set(days)) > 1 and not in_session(now, self.calendar())

    async def _due(self, entry: JobEntry, at: datetime) -> datetime:
        """Deal with a firing whose time has come; the moment after which the next one counts."""
        now = self.clock.now()
        if self.paused(entry):
            if not entry.live:
                await self._remember(entry.name, due=at)
            return max(at, now)
        if entry.live and (self.running(entry.name) or self._gone(at, now)):
            return max(at, now)
        if entry.live or now - at <= _LATE:
            await self._once(entry, at)
            if isinstance(entry.when, Every):
                end = entry.when.owed(now, self.clock.now(), self.calendar())
                if end is not None:
                    return end - timedelta(microseconds=1)
        elif entry.catch_up:
            log.info("job.caught_up", job=entry.name, due=at.isoformat())
            await self._once(entry, at, dealt_with=newest(entry.when, at, now, self.calendar()))
            if not isinstance(entry.when, Every):
                return now  # what fell due meanwhile, such as today's, is another day's work
        else:
            last = newest(entry.when, at, now, self.calendar())
            await self._remember(entry.name, due=last, status="skipped", reason="missed while the service was down")
        return max(at, self.clock.now())

    async def _reached(self, name: str, until: datetime) -> bool:
        """Wait for that time; false where something else is to be thought of first."""
        event = self._asked.setdefault(name, asyncio.Event())
        event.clear()
        before = self.clock.now()
        while (left := until - self.clock.now()) > timedelta():
            try:
                async with asyncio.timeout(max(self.clock.seconds(min(left, _SLICE)), _SHORTEST)):
                    await event.wait()
            except TimeoutError:
                if self.clock.now() < before:
                    return False  # set back
                before = self.clock.now()
            else:
                return False
        return True

    async def _once(self, entry: JobEntry, due: datetime, *, dealt_with: datetime | None = None) -> Ended:
        """One run with its retries, under its deadline, after the one under way.

        ``dealt_with``: the last firing that this run makes up for; None: the one that is due.
        """
        async with self._turns.setdefault(entry.name, asyncio.Lock()):
            return await self._run(entry, due, dealt_with or due)

    async def _run(self, entry: JobEntry, due: datetime, dealt_with: datetime) -> Ended:
        started = self.clock.now()
        if not entry.live:
            await self._remember(entry.name, started=started, status="running", reason="")
        try:
            async with asyncio.timeout(self.clock.seconds(entry.deadline)):
                ended = await self._tries(entry, due)
        except TimeoutError:
            ended = Ended("partial", f"its deadline of {entry.deadline} passed")
        end = self.clock.now()
        if not entry.live:
            await self._remember(entry.name, due=dealt_with, ended=end, status=ended.status, reason=ended.reason)
        times = {"due": due.isoformat(), "started": started.isoformat(), "ended": end.isoformat()}
        log.info("job.ended", job=entry.name, status=ended.status, reason=ended.reason, **times)
        return ended

    async def _tries(self, entry: JobEntry, due: datetime) -> Ended:
        ended = Ended("failed")
        for attempt in range(1 + (0 if entry.live else entry.retries)):
            if attempt:
                log.info("job.retried", job=entry.name, attempt=attempt, reason=ended.reason)
                await asyncio.sleep(self.clock.seconds(entry.retry_after))
            try:
                ended = await self.work(entry, due)
            except ConfigError as exc:
                return Ended("failed", str(exc))
            except IngestError as exc:
                ended = Ended("failed", str(exc))
            if ended.status == "complete":
                break
        return ended

    async def _remember(self, name: str, **changes: object) -> None:
        memory = replace(self.known.get(name, Memory()), **changes)  # type: ignore[arg-type]
        self.known[name] = memory
        await self.memories.remember(name, memory)


def _forget(kept: set[str], name: str, _: object) -> None:
    kept.discard(name)
