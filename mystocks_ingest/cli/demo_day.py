"""``demo --live``: the service through a simulated trading day, by default 150 times as fast as a real one."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from functools import partial
from typing import TYPE_CHECKING

import click

from mystocks_ingest.cli.printing import dumps

if TYPE_CHECKING:
    from mystocks_ingest.daemon.parts import Daemon
    from mystocks_ingest.settings import Settings
    from mystocks_ingest.sim.clock import Clock
    from mystocks_ingest.sim.server import Sim

STOCKS = 40
SESSIONS = 60
SPEED = 150
HOURS = ((time(9, 24), time(11, 35)), (time(12, 55), time(15, 10)), (time(17, 55), time(18, 5)))
"""What is lived through: at the lunch break and before the evening's job the clock is put forward."""
LINES_EVERY = timedelta(minutes=30)
JOBS = """\
jobs:
  - {name: reference, when: before open - 45 min, datasets: [calendar, instrument], sources: tushare, deadline: 200 h}
  - {name: quotes, when: every 15 s in session, datasets: quote, sources: [tushare, akshare-sina], deadline: 200 h}
  - {name: daily, when: after close + 3 h, datasets: [adj_factor, bar_1d], sessions: 5, sources: tushare, deadline: 200 h}
"""  # of the hastened clock's hours: at a great speed the usual ones are over before a slow machine has fetched a row
STORED = ("instrument", "quote", "bar_1m", "bar_1d", "adj_factor")
_PATIENCE_SECONDS = 180.0  # for the day's last job, on a slow machine


@dataclass(frozen=True, slots=True)
class Hastened:
    """flow.schedule.Clock over the simulated exchange's."""

    clock: Clock
    speed: float

    def now(self) -> datetime:
        return self.clock.true

    def seconds(self, length: timedelta) -> float:
        return length.total_seconds() / self.speed


@dataclass(frozen=True, slots=True)
class Day:
    """What the day left: rows by dataset; stocks whose last quote is the close that the vendor published, and others."""

    rows: dict[str, int]
    agree: int
    differ: int


async def lived(simulated: Settings, sim: Sim, *, speed: float, json: bool) -> Day:
    """Live through the day, telling it. The store of an earlier such day is begun anew."""
    from mystocks_ingest.cli import process

    folder = simulated.state_dir
    if folder.exists():
        await asyncio.to_thread(shutil.rmtree, folder)
    config = folder / "config"
    config.mkdir(parents=True)
    for file in ("tables.yaml", "pacing.yaml"):
        if (simulated.config_dir / file).exists():
            shutil.copy(simulated.config_dir / file, config)
    (config / "jobs.yaml").write_text(JOBS, encoding="utf-8")
    settings = simulated.model_copy(update={"config_dir": config, "http_port": 0, "log_level": "error"})
    process.prepare(settings)
    return await _lived(settings, sim, speed=speed, json=json)


async def _lived(settings: Settings, sim: Sim, *, speed: float, json: bool) -> Day:
    from mystocks_ingest.daemon import running
    from mystocks_ingest.market.sessions import ZONE
    from mystocks_ingest.sim.clock import Clock

    day = sim.market.last_day
    begin = datetime.combine(day, HOURS[0][0], ZONE)
    await sim.clock(begin, 0)
    clock = Clock(begin, 0)
    ready: asyncio.Future[Daemon] = asyncio.get_running_loop().create_future()
    async with asyncio.TaskGroup() as group:
        group.create_task(running.run(settings, clock=Hastened(clock, speed), told=ready.set_result), name="service")
        daemon = await ready
        async with asyncio.timeout(_PATIENCE_SECONDS):
            await _until(lambda: _ended(daemon, "reference"))  # on empty stores it runs at once
        address = f"http://{settings.http_host}:{daemon.http_port}/health"
        if not json:
            click.echo(f"the service runs, and {day} goes by {speed:g} times as fast; look meanwhile: {address}")
        for first, last in HOURS:
            at, until = (datetime.combine(day, moment, ZONE) for moment in (first, last))
            await sim.clock(at, speed)
            clock.set(at, speed)
            for mark in _marks(at, until):
                await _until(partial(_past, clock, mark))
                _tell(daemon, mark, json=json)
        found = await _found(daemon, day)
        _tell(daemon, clock.true.astimezone(ZONE), json=json)
        daemon.stop.set()
    return found


async def _until(true: Callable[[], bool]) -> None:
    """Nobody announces the time, nor the end of a job."""
    while not true():  # noqa: ASYNC110 - it happens by the clock
        await asyncio.sleep(0.2)


def _past(clock: Clock, mark: datetime) -> bool:
    return clock.true >= mark


def _ended(daemon: Daemon, job: str) -> bool:
    memory = daemon.schedule.known.get(job)
    return memory is not None and memory.ended is not None


def _marks(begin: datetime, end: datetime) -> Iterator[datetime]:
    """The moments at which a line is told."""
    mark = begin.replace(minute=0)
    while (mark := mark + LINES_EVERY) < end:
        if mark > begin:
            yield mark
    yield end


def _tell(daemon: Daemon, mark: datetime, *, json: bool) -> None:
    seen = daemon.collector.figures.get("quote")
    polls, news = (seen.polls, seen.news) if seen is not None else (0, 0)
    ended = {name: memory.status for name, memory in daemon.schedule.known.items() if memory.ended is not None}
    if json:
        click.echo(dumps({"event": "time", "at": mark, "polls": polls, "quotes": news, "jobs": ended}))
        return
    done = ", ".join(f"{name} {status}" for name, status in ended.items() if name != "quotes")
    click.echo(f"{mark:%H:%M}  {polls:>5,} polls  {news:>7,} changed quotes stored  {done}")


async def _found(daemon: Daemon, day: date) -> Day:
    """What is stored of the day, once its last job has ended."""
    from mystocks_ingest.market.datasets import BAR_1D, QUOTE, dataset
    from mystocks_ingest.market.frames import Window

    async with asyncio.timeout(_PATIENCE_SECONDS):
        await _until(lambda: _ended(daemon, "daily"))
    stored, window = daemon.service, Window(day, day + timedelta(days=1))
    rows = {name: (await stored.read(dataset(name), (), window, "none")).num_rows for name in STORED}
    quotes = await stored.read(QUOTE, (), window, "none")
    bars = await stored.read(BAR_1D, (), window, "none")
    last = dict(zip(quotes["symbol"].to_pylist(), quotes["last"].to_pylist(), strict=True))
    closes = dict(zip(bars["symbol"].to_pylist(), bars["close"].to_pylist(), strict=True))
    agree = sum(last.get(symbol) == close for symbol, close in closes.items())
    return Day(rows, agree, len(closes) - agree)
