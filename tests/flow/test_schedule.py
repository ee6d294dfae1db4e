"""Jobs run when the exchange's day says so, once each, whatever the clock, a restart or a failure does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from pathlib import Path

import pytest

from mystocks_ingest.errors import ConfigError, Unreachable
from mystocks_ingest.flow.schedule import Ended, Memory, Schedule
from mystocks_ingest.market.calendar import Calendar
from mystocks_ingest.market.sessions import ZONE
from mystocks_ingest.market.timetable import SETTLED, in_session
from mystocks_ingest.schema import jobs
from mystocks_ingest.schema.jobs import JobEntry

HOLIDAY = (date(2024, 10, 1), date(2024, 10, 7))
DAYS = [d for d in (date(2024, 9, 23) + timedelta(n) for n in range(19)) if d.weekday() < 5]
CAL = Calendar([d for d in DAYS if not HOLIDAY[0] <= d <= HOLIDAY[1]], date(2024, 9, 23), date(2024, 10, 11))
TEXT = """
jobs:
  - {name: daily, when: after close + 30 min, datasets: bar_1d, retries: 2, retry_after: 10 min, deadline: 1 h}
  - {name: quotes, when: every 30 min in session, datasets: quote}
"""


class Held:
    """A clock that shows what the test says; who waits looks at it again at once."""

    def __init__(self, moment: str, *, deadline_seconds: float = 600.0) -> None:
        self.deadline_seconds = deadline_seconds
        self.set(moment)

    def set(self, moment: str) -> None:
        self.at = of(moment)

    def now(self) -> datetime:
        return self.at

    def seconds(self, length: timedelta) -> float:
        return 0.005 if length < timedelta(hours=1) else self.deadline_seconds  # waiting's slices; deadlines


def of(moment: str) -> datetime:
    return datetime.fromisoformat(moment).replace(tzinfo=ZONE)


async def met(claim: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not claim():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


@dataclass
class Book:
    """A memory that outlives a schedule."""

    kept: dict[str, Memory] = field(default_factory=dict)

    async def jobs(self) -> Mapping[str, Memory]:
        return self.kept

    async def remember(self, name: str, memory: Memory) -> None:
        self.kept[name] = memory


@dataclass
class Desk:
    """Work that takes its time by the clock that the test holds."""

    clock: Held
    book: Book
    done: list[tuple[str, datetime, datetime]] = field(default_factory=list)  # job, due, when it ran
    failures: int = 0
    takes: timedelta = timedelta()
    slow: str = "daily"  # whose runs take that long
    ends: dict[str, datetime] = field(default_factory=dict)  # of the runs under way

    async def work(self, entry: JobEntry, due: datetime) -> Ended:
        assert entry.name not in self.ends, "one of each job"
        self.done.append((entry.name, due.astimezone(ZONE), self.clock.now().astimezone(ZONE)))
        end = self.clock.now() + (self.takes if entry.name == self.slow else timedelta())
        self.ends[entry.name] = end
        try:
            while self.clock.now() < end:  # noqa: ASYNC110
                await asyncio.sleep(0.002)
        finally:
            del self.ends[entry.name]
        if entry.name == "daily" and self.failures:
            self.failures -= 1
            raise Unreachable("the vendor is away")
        return Ended("complete")

    def days(self, name: str = "daily") -> list[str]:
        return [f"{due:%m-%d %H:%M}" for job, due, _ in self.done if job == name]


def entries(tmp_path: Path, text: str = TEXT) -> tuple[JobEntry, ...]:
    path = tmp_path / "jobs.yaml"
    path.write_text(text, encoding="utf-8")
    return jobs.read(path)


@asynccontextmanager
async def running(desk: Desk, given: tuple[JobEntry, ...]) -> AsyncIterator[Schedule]:
    schedule = Schedule(given, lambda: CAL, desk.work, desk.clock, desk.book)
    task = asyncio.create_task(schedule.run())
    try:
        yield schedule
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def ahead(desk: Desk, schedule: Schedule) -> list[datetime]:
    """When something is to happen next, job by job; nothing while one has still to act on what the clock shows."""
    moments = []
    for entry in schedule.entries:
        firing = schedule.next.get(entry.name)
        at = desk.ends.get(entry.name, firing.at if firing else None)
        if at is None or at <= desk.clock.now():
            return []
        moments.append(at)
    return moments


async def until(desk: Desk, schedule: Schedule, moment: str) -> None:
    """Let the clock go on to ``moment``, from one event to the next, and each job act on each."""
    while True:
        await met(lambda: ahead(desk, schedule))
        if desk.clock.now() == of(moment):
            return
        desk.clock.at = min(*ahead(desk, schedule), of(moment))


async def test_jobs_fire_at_the_exchanges_times_and_never_on_a_holiday(tmp_path: Path) -> None:
    desk = Desk(Held("2024-09-27 08:00"), Book())
    async with running(desk, entries(tmp_path)) as schedule:
        await until(desk, schedule, "2024-10-10 08:00")
    assert desk.days() == ["09-27 15:30", "09-30 15:30", "10-08 15:30", "10-09 15:30"]
    quotes = [due for job, due, _ in desk.done if job == "quotes"]
    assert {f"{due:%m-%d}" for due in quotes} == {"09-27", "09-30", "10-08", "10-09"}
    late = (timedelta(), timedelta(seconds=1), SETTLED + timedelta(seconds=1))  # the ends, and a minute after the close
    assert all(any(in_session(due - by, CAL) for by in late) for due in quotes)


async def test_a_look_at_the_market_that_runs_over_the_sessions_end_is_followed_by_one_more_and_one_settles_the_close(
    tmp_path: Path,
) -> None:
    often = TEXT.replace("every 30 min in session", "every 7 min in session")
    desk = Desk(Held("2024-09-30 11:12"), Book(), takes=timedelta(minutes=5), slow="quotes")
    async with running(desk, entries(tmp_path, often)) as schedule:
        await until(desk, schedule, "2024-09-30 12:30")
    assert desk.days("quotes") == ["09-30 11:19", "09-30 11:26", "09-30 11:30"]
    assert f"{desk.done[-1][2]:%H:%M}" == "11:31", "when the one before it has ended"
    desk = Desk(Held("2024-09-30 14:40"), Book(), takes=timedelta(minutes=5), slow="quotes")
    async with running(desk, entries(tmp_path, often)) as schedule:
        await until(desk, schedule, "2024-09-30 15:20")
    assert desk.days("quotes") == ["09-30 14:42", "09-30 14:49", "09-30 14:56", "09-30 15:01"]
    assert f"{desk.done[-1][2]:%H:%M}" == "15:01", "by then the closing auction's prices are shown"
    quick = Desk(Held("2024-09-30 14:56"), Book())
    async with running(quick, entries(tmp_path, often)) as schedule:
        await until(quick, schedule, "2024-09-30 15:10")
    assert quick.days("quotes") == ["09-30 15:00", "09-30 15:01"]


async def test_a_missed_firing_is_made_up_for_once_after_a_restart(tmp_path: Path) -> None:
    given, book = entries(tmp_path), Book()
    book.kept["daily"] = Memory(due=datetime(2024, 9, 25, 15, 30, tzinfo=ZONE))
    desk = Desk(Held("2024-09-30 08:00"), book)
    async with running(desk, given) as schedule:
        await until(desk, schedule, "2024-09-30 10:00")
    assert desk.days() == ["09-26 15:30"]
    assert book.kept["daily"].status == "complete"
    lazy = tuple(replace(e, catch_up=False) for e in given)
    book.kept["daily"] = Memory(due=datetime(2024, 9, 25, 15, 30, tzinfo=ZONE))
    other = Desk(Held("2024-09-30 08:00"), book)
    async with running(other, lazy) as schedule:
        await until(other, schedule, "2024-09-30 10:00")
    assert other.days() == []
    assert book.kept["daily"].status == "skipped"


@dataclass
class Bench:
    """Work that lasts until the test lets it end."""

    clock: Held
    book: Book
    free: asyncio.Event = field(default_factory=asyncio.Event)
    begun: list[str] = field(default_factory=list)
    at_once: int = 0

    async def work(self, entry: JobEntry, due: datetime) -> Ended:
        self.at_once += 1
        assert self.at_once == 1
        self.begun.append(f"{due.astimezone(ZONE):%m-%d %H:%M}")
        await self.free.wait()
        self.at_once -= 1
        return Ended("complete")

    @asynccontextmanager
    async def running(self, given: tuple[JobEntry, ...]) -> AsyncIterator[Schedule]:
        schedule = Schedule(tuple(e for e in given if not e.live), lambda: CAL, self.work, self.clock, self.book)
        task = asyncio.create_task(schedule.run())
        try:
            yield schedule
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def test_three_days_that_were_missed_are_made_up_for_by_one_run_however_often_it_is_restarted(
    tmp_path: Path,
) -> None:
    given = entries(tmp_path)
    for catch_up in (True, False):
        book, runs = Book({"daily": Memory(due=of("2024-09-24 15:30"))}), []
        for start in ("2024-09-28 08:00", "2024-09-28 12:00", "2024-09-29 08:00"):
            bench = Bench(Held(start), book)
            bench.free.set()
            async with bench.running(tuple(replace(e, catch_up=catch_up) for e in given)) as schedule:
                await met(lambda: "daily" in schedule.next and schedule.next["daily"].at == of("2024-09-30 15:30"))
            runs += bench.begun
            assert book.kept["daily"].due == of("2024-09-27 15:30"), start
        assert runs == (["09-25 15:30"] if catch_up else []), "the oldest: the run looks back from there"


async def test_what_falls_due_while_missed_days_are_made_up_for_is_not_lost(tmp_path: Path) -> None:
    bench = Bench(Held("2024-09-27 15:10"), Book({"daily": Memory(due=of("2024-09-25 15:30"))}))
    async with bench.running(entries(tmp_path)):
        await met(lambda: bench.begun == ["09-26 15:30"])
        bench.clock.set("2024-09-27 16:00")
        bench.free.set()
        await met(lambda: bench.begun == ["09-26 15:30", "09-27 15:30"])
        await met(lambda: bench.book.kept["daily"].due == of("2024-09-27 15:30"))


async def test_a_job_that_never_falls_due_ends_nobody_and_goes_on_when_the_calendar_knows_more(tmp_path: Path) -> None:
    closed = Calendar([], date(2024, 1, 1), date(2030, 12, 31))
    known, bench = [closed], Bench(Held("2024-09-27 15:00"), Book())
    bench.free.set()
    async with bench.running(entries(tmp_path)) as schedule:
        await met(lambda: "daily" in schedule.next)
        schedule.calendar = lambda: known[0]
        schedule.replace_entries(schedule.entries)
        await met(lambda: "daily" not in schedule.next and bench.begun == [])
        known[0] = CAL
        schedule.replace_entries(schedule.entries)
        await met(lambda: "daily" in schedule.next)
        bench.clock.set("2024-09-27 15:30")
        await met(lambda: bench.begun == ["09-27 15:30"])


async def test_what_falls_due_while_the_job_is_run_by_hand_follows_that_run(tmp_path: Path) -> None:
    bench = Bench(Held("2024-09-27 15:00"), Book())
    async with bench.running(entries(tmp_path)) as schedule:
        await met(lambda: "daily" in schedule.next)
        byhand = asyncio.create_task(schedule.now("daily"))
        await met(lambda: bench.begun == ["09-27 15:00"])
        with pytest.raises(ConfigError, match="running already"):
            await schedule.now("daily")
        bench.clock.set("2024-09-27 15:30")
        await asyncio.sleep(0.1)
        assert bench.begun == ["09-27 15:00"], "never beside itself"
        bench.free.set()
        assert (await byhand).status == "complete"
        await met(lambda: bench.begun == ["09-27 15:00", "09-27 15:30"])


async def test_what_fails_is_tried_again_and_the_last_word_is_remembered(tmp_path: Path) -> None:
    desk = Desk(Held("2024-09-30 15:29"), Book(), failures=2)
    async with running(desk, entries(tmp_path)) as schedule:
        await until(desk, schedule, "2024-09-30 16:30")
    assert len(desk.days()) == 3
    assert desk.book.kept["daily"].status == "complete"
    worse = Desk(Held("2024-09-30 15:29"), Book(), failures=9)
    async with running(worse, entries(tmp_path)) as schedule:
        await until(worse, schedule, "2024-09-30 16:30")
    assert len(worse.days()) == 3
    assert (worse.book.kept["daily"].status, worse.book.kept["daily"].reason) == ("failed", "the vendor is away")


async def test_a_job_that_hangs_ends_at_its_deadline_and_others_go_on(tmp_path: Path) -> None:
    given = entries(tmp_path, TEXT.replace("after close + 30 min", "after open + 30 min"))
    desk = Desk(Held("2024-09-30 09:40", deadline_seconds=0.3), Book(), takes=timedelta(days=9))
    async with running(desk, given) as schedule:
        await until(desk, schedule, "2024-09-30 10:10")
        await met(lambda: "deadline" in desk.book.kept["daily"].reason)
        await until(desk, schedule, "2024-09-30 10:40")
    assert desk.days() == ["09-30 09:45"]
    assert desk.days("quotes") == ["09-30 10:00", "09-30 10:30"]


@pytest.mark.parametrize("hours", [-1, 1])
async def test_a_stepped_clock_stops_no_job(tmp_path: Path, hours: int) -> None:
    desk = Desk(Held("2024-09-30 09:40"), Book())
    async with running(desk, entries(tmp_path)) as schedule:
        await until(desk, schedule, "2024-09-30 10:40")
        before = len(desk.done)
        desk.clock.at += timedelta(hours=hours)
        following = of("2024-09-30 13:00" if hours > 0 else "2024-09-30 10:00")
        await met(lambda: schedule.next["quotes"].at == following)
        await until(desk, schedule, "2024-09-30 13:50" if hours > 0 else "2024-09-30 10:50")
        assert len(desk.done) > before, "the next half hour is met"
        await until(desk, schedule, "2024-09-30 15:45")
    assert desk.days() == ["09-30 15:30"]


async def test_a_live_job_that_the_clock_left_behind_asks_nobody_at_night_and_once_on_the_same_day(
    tmp_path: Path,
) -> None:
    for later, looks in (("2024-10-01 10:00", 0), ("2024-09-30 21:00", 1), ("2024-10-08 09:20", 1)):
        desk = Desk(Held("2024-09-30 14:01"), Book())
        async with running(desk, entries(tmp_path)) as schedule:
            await until(desk, schedule, "2024-09-30 14:02")
            desk.clock.set(later)
            await until(desk, schedule, later)
        assert len(desk.days("quotes")) == looks, later


async def test_paused_jobs_wait_for_resume_and_any_job_can_be_run_at_once(tmp_path: Path) -> None:
    desk = Desk(Held("2024-09-27 08:00"), Book())
    async with running(desk, entries(tmp_path)) as schedule:
        await met(lambda: schedule.next)
        await schedule.pause("daily", paused=True)
        await until(desk, schedule, "2024-09-28 08:00")
        assert desk.days() == []
        assert (await schedule.now("daily")).status == "complete"
        await schedule.pause("daily", paused=False)
        await until(desk, schedule, "2024-10-01 08:00")
        assert desk.days()[1:] == ["09-30 15:30"]
        with pytest.raises(ConfigError, match="there are daily, quotes"):
            await schedule.now("nightly")
    assert desk.book.kept["daily"].paused is False


async def test_other_jobs_are_taken_over_while_one_runs_to_its_end(tmp_path: Path) -> None:
    desk = Desk(Held("2024-09-30 15:29"), Book(), takes=timedelta(minutes=30))
    async with running(desk, entries(tmp_path)) as schedule:
        await until(desk, schedule, "2024-09-30 15:40")
        assert schedule.running("daily")
        later = TEXT.replace("+ 30 min", "+ 3 h").replace("name: quotes", "name: snapshots")
        schedule.replace_entries(entries(tmp_path, later))
        await met(lambda: "quotes" not in schedule.next and "snapshots" in schedule.next)
        await until(desk, schedule, "2024-09-30 18:20")
        assert desk.days() == ["09-30 15:30", "09-30 18:00"]
        assert desk.book.kept["daily"].status == "running"
