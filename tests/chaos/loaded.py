"""The service under load, as a process: ``python loaded.py LOAD`` (JSON, see Load), settings from the environment.

Everything is the real service; the vendor is ``quote_feed``, in a process of its own as vendors' packages are. It says
``{"event": "ready"}``, and after the load ``{"event": "loaded"}`` with what was measured, a line each; SIGTERM ends it.
With ``told`` every answer that was acknowledged is noted in that file at once, see ``Told``.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from array import array
from collections import deque
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from types import MappingProxyType

import numpy as np
import psutil
import pyarrow as pa
from quote_feed import names

from mystocks_ingest.cli import process
from mystocks_ingest.daemon import running
from mystocks_ingest.daemon.desk import ServiceDesk
from mystocks_ingest.daemon.parts import Daemon, Wall
from mystocks_ingest.flow.ingest import Ingest, Taken
from mystocks_ingest.market.datasets import CALENDAR, INSTRUMENT, QUOTE, Dataset
from mystocks_ingest.market.frames import Frame, Request, Window
from mystocks_ingest.ports import Offer, Query, Sink
from mystocks_ingest.schema.tables import Table

FEED = Path(__file__).with_name("quote_feed.py")


@dataclass(frozen=True)
class Load:
    """``rate`` in rows a second, ``answer`` in rows; ``seconds`` 0: until it is ended. ``at``: the market's time when it starts."""

    at: str
    symbols: int = 5_400
    answer: int = 5_400
    rate: float = 1_800.0
    seconds: float = 60.0
    warm: float = 0.0  # seconds of load before anything is measured
    told: str = ""
    settle: float = 120.0  # how long the end is waited for after the load
    push: bool = False  # answers are delivered, as over HTTP, each whether or not the one before is stored; else polled


@dataclass
class Seen:
    """What was measured. Seconds are from the receipt of an answer, one entry a row's batch and answer: (seconds, rows)."""

    offered: int = 0
    stored: int = 0
    seconds: dict[str, list[tuple[float, int]]] = field(default_factory=dict)
    lags: array[float] = field(default_factory=partial(array, "d"))  # small, for it grows as long as the load lasts


class Timed:
    """A sink that notes how old rows were when they were durable there."""

    def __init__(self, name: str, sink: Sink, feed: Feed) -> None:
        self.name, self._sink, self._feed = name, sink, feed

    async def write(self, table: Table, rows: pa.RecordBatch) -> None:
        await self._sink.write(table, rows)
        if table.dataset is not None and table.dataset == QUOTE:
            self._feed.stored(self.name, rows)

    async def read(self, table: Table, query: Query) -> pa.Table:
        return await self._sink.read(table, query)

    async def ping(self) -> None:
        await self._sink.ping()


class Told:
    """An Ingest that notes what was offered to it and what it acknowledged: time stamp, rows, volume."""

    def __init__(self, ingest: Ingest, path: str) -> None:
        self._ingest = ingest
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    async def take(self, frame: Frame, offer: Offer | None, *, now: datetime) -> Taken:
        self._note("offered", frame)
        taken = await self._ingest.take(frame, offer, now=now)
        self._note("taken", taken.accepted)
        return taken

    def _note(self, what: str, frame: Frame) -> None:
        if frame.dataset == QUOTE and len(frame):
            at, volume = frame.rows.column("ts")[0].value, frame.rows.column("volume")[0]
            os.write(self._file, f"{what} {at} {len(frame)} {volume}\n".encode())


class Feed:
    """ports.Source: answers come when the market says so; each is asked for when it has come."""

    name, family = "feed", "feed"
    offers: Mapping[str, Offer] = MappingProxyType({QUOTE.name: Offer(intraday=True)})

    def __init__(self, load: Load, clock: Wall, shift: float) -> None:
        self.load, self.seen, self.clock = load, Seen(), clock
        self.measuring = load.warm <= 0
        words = [load.symbols, load.answer, load.rate, shift]
        self._words = [sys.executable, str(FEED), *map(str, words)]
        self._waiting: deque[tuple[datetime, pa.RecordBatch]] = deque()
        self._received: dict[int, float] = {}
        self.stop = threading.Event()

    async def fetch(self, request: Request) -> AsyncIterator[Frame]:
        at, rows = self._waiting.popleft()
        yield Frame(QUOTE, self.name, at, rows)

    def calls(self, request: Request) -> int:
        return 1

    async def aclose(self) -> None: ...

    def stored(self, store: str, rows: pa.RecordBatch) -> None:
        now = time.perf_counter()
        moments, counts = np.unique(rows.column("fetched_at").cast(pa.int64()).to_numpy(), return_counts=True)
        if self.measuring and self.load.seconds <= 900:  # a soak's figures would be a leak of their own
            ages = [
                (now - self._received[m], int(n))
                for m, n in zip(moments.tolist(), counts.tolist(), strict=True)
                if m in self._received
            ]
            self.seen.seconds.setdefault(store, []).extend(ages)

    async def run(self, daemon: Daemon) -> None:
        """Poll at every answer until the load's time is over; returns when nothing is under way."""
        loop = asyncio.get_running_loop()
        arrived: asyncio.Queue[None] = asyncio.Queue()
        child = await asyncio.to_thread(subprocess.Popen, self._words, stdout=subprocess.PIPE)
        reading = threading.Thread(target=self._read, args=(child, loop, arrived), daemon=True)
        reading.start()
        began = loop.time()
        polls: set[asyncio.Task[None]] = set()
        try:
            while not self.load.seconds or loop.time() - began < self.load.seconds:
                try:
                    async with asyncio.timeout(1):
                        await arrived.get()
                except TimeoutError:
                    continue
                poll = asyncio.create_task(self._poll(daemon))
                polls.add(poll)
                poll.add_done_callback(polls.discard)
        except asyncio.CancelledError:
            for poll in polls:
                poll.cancel()  # as the schedule's are
            raise
        finally:
            self.stop.set()
            child.kill()
            await asyncio.to_thread(child.wait)
            await asyncio.to_thread(reading.join)
        for _ in range(arrived.qsize()):
            polls.add(asyncio.create_task(self._poll(daemon)))
        if polls:
            await asyncio.wait(polls, timeout=self.load.settle)

    async def _poll(self, daemon: Daemon) -> None:
        if self.load.push:
            at, rows = self._waiting.popleft()
            taken = await ServiceDesk(daemon).take(Frame(QUOTE, self.name, at, rows))
            self.seen.stored += len(taken.accepted)
            return
        said = await daemon.collector.poll(QUOTE, order=(self.name,))
        self.seen.stored = daemon.collector.figures[QUOTE.name].news
        if said:
            sys.stderr.write(f"not taken: {said}\n")

    def _read(
        self, child: subprocess.Popen[bytes], loop: asyncio.AbstractEventLoop, arrived: asyncio.Queue[None]
    ) -> None:
        assert child.stdout is not None
        index = QUOTE.schema.get_field_index("fetched_at")
        last = 0
        with pa.ipc.open_stream(child.stdout) as stream:
            while not self.stop.is_set():
                try:
                    rows = stream.read_next_batch()
                except (StopIteration, OSError, pa.ArrowInvalid):
                    return
                received, now = time.perf_counter(), self.clock.now()
                last = max(last + 1, int(now.timestamp() * 1000))
                self._received[last] = received
                stamp = pa.repeat(pa.scalar(last), len(rows)).cast(QUOTE.fields[index].type)
                self._waiting.append((now, rows.set_column(index, rows.schema.field(index), stamp)))
                self.seen.offered += len(rows)
                loop.call_soon_threadsafe(arrived.put_nowait, None)


async def listed(daemon: Daemon, load: Load) -> None:
    """Store calendar and instruments, as a service that has run before has them."""
    known, now = daemon.knowledge.calendar, daemon.clock.now()
    opened = set(known.sessions(Window(known.first, known.last + timedelta(days=1))))
    days = [known.first + timedelta(days=n) for n in range((known.last - known.first).days + 1)]
    for exchange in ("SH", "SZ"):
        columns = {"exchange": [exchange] * len(days), "trade_date": days, "is_open": [d in opened for d in days]}
        await store(daemon, CALENDAR, columns, now)
    symbols = names(load.symbols)
    count = len(symbols)
    columns = {
        "symbol": symbols, "name": symbols, "exchange": [s[-2:] for s in symbols],
        "asset_type": ["stock"] * count, "status": ["L"] * count,
    }  # fmt: skip
    await store(daemon, INSTRUMENT, columns, now)
    await daemon.knowledge.refresh()


async def store(daemon: Daemon, dataset: Dataset, columns: dict[str, list[object]], at: datetime) -> None:
    count = len(next(iter(columns.values())))
    columns = columns | {"source": ["feed"] * count, "fetched_at": [at] * count}
    arrays = [pa.array(columns.get(f.name, [None] * count), f.type) for f in dataset.fields]
    rows = pa.RecordBatch.from_arrays(arrays, names=[f.name for f in dataset.fields])
    await daemon.service.writers[daemon.service.tables.holder(dataset)].write(rows)


async def lags(seen: Seen) -> None:
    """How late the loop wakes who sleeps for 5 ms."""
    clock = time.perf_counter
    while True:
        began = clock()
        await asyncio.sleep(0.005)
        seen.lags.append(clock() - began - 0.005)


async def work(daemon: Daemon, load: Load, feed: Feed) -> None:
    """The load, and what was seen of it."""
    sinks = daemon.service.sink._sinks
    for name in ("redis", "tdengine"):
        if name in sinks:
            sinks[name] = Timed(name, sinks[name], feed)
    if load.told:
        daemon.collector.ingest = Told(daemon.collector.ingest, load.told)  # type: ignore[assignment]
    await listed(daemon, load)
    say(event="begun")
    running_load = asyncio.create_task(feed.run(daemon))
    if load.warm:
        await asyncio.sleep(load.warm)
        feed.measuring = True
    me, before = psutil.Process(), usage()
    watching = asyncio.create_task(lags(feed.seen))
    measured_from, offered = time.monotonic(), feed.seen.offered
    if load.seconds:
        await asyncio.sleep(load.seconds - load.warm)
    else:
        await running_load
    wall, after = time.monotonic() - measured_from, usage()
    at_end = {"stored": feed.seen.stored, "offered": feed.seen.offered}
    watching.cancel()
    ended = time.monotonic()
    await running_load
    while daemon.spool.bytes and time.monotonic() - ended < load.settle:  # noqa: ASYNC110 - it announces nothing
        await asyncio.sleep(0.1)
    say(
        event="loaded", wall=wall, settled=time.monotonic() - ended, rate=(at_end["offered"] - offered) / wall,
        before=before, after=after, cpu=after["cpu"] - before["cpu"], at_end=at_end, rss=me.memory_info().rss,
        offered=feed.seen.offered, stored=feed.seen.stored, spool=daemon.spool.bytes,
        seconds=feed.seen.seconds, lags=quantiles(feed.seen.lags),
        dropped=sum(level.dropped_rows for level in daemon.spool.levels.values()),
    )  # fmt: skip


def usage() -> dict[str, float]:
    """Of this process alone."""
    me = psutil.Process()
    times = me.cpu_times()
    return {
        "cpu": times.user + times.system, "rss": float(me.memory_info().rss), "threads": float(me.num_threads()),
        "files": float(me.num_fds()), "children": float(len(me.children(recursive=True))),
    }  # fmt: skip


def quantiles(values: array[float]) -> dict[str, float]:
    return {f"p{q}": float(np.quantile(values, q / 100)) for q in (50, 99, 100)} if values else {}


def say(**what: object) -> None:
    sys.stdout.write(json.dumps(what, default=str) + "\n")
    sys.stdout.flush()


def main() -> None:
    load = Load(**json.loads(sys.argv[1]))
    settings = process.settings()
    shift = (datetime.fromisoformat(load.at).astimezone(UTC) - datetime.now(UTC)).total_seconds()
    clock = Wall(lambda: datetime.now(UTC) + timedelta(seconds=shift))
    feed = Feed(load, clock, shift)

    def told(daemon: Daemon) -> None:
        say(event="ready", http=f"http://127.0.0.1:{daemon.http_port}", pid=os.getpid())
        assert daemon.group is not None
        daemon.live_sources["feed"] = feed
        daemon.asked.add(daemon.group.create_task(work(daemon, load, feed)))

    asyncio.run(running.run(settings, clock=clock, told=told))


if __name__ == "__main__":
    main()
