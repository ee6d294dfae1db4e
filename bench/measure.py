"""What a benchmark says, and how the table of them is written."""

from __future__ import annotations

import asyncio
import importlib
import json
import statistics
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from mystocks_ingest import logs

LAST = Path(__file__).parent / "last.json"


@dataclass(frozen=True, slots=True)
class Measurement:
    """One line. ``ratio`` is ours to the peer's; without a peer the target is for ``ours`` itself.

    ``at_most``: smaller is better (seconds, megabytes).
    """

    name: str
    ours: float
    unit: str
    target: float | None = None
    peer: float | None = None
    at_most: bool = False

    @property
    def ratio(self) -> float | None:
        return None if self.peer is None else self.ours / self.peer

    @property
    def met(self) -> bool | None:
        value = self.ours if self.ratio is None else self.ratio
        if self.target is None:
            return None
        return value <= self.target if self.at_most else value >= self.target


def measured(module: str) -> list[Measurement]:
    """All lines of one benchmark."""
    logs.configure()
    found: Iterator[Measurement] = importlib.import_module(f"bench.{module}").run()
    return list(found)


def median_seconds(work: Callable[[], object], *, times: int = 3) -> float:
    """The median wall time of ``work``; the first call is not counted, for it pays the imports."""
    seconds = []
    for _ in range(times + 1):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[1:])


def show(found: Sequence[Measurement]) -> None:
    """Print the table."""
    width = max(len(m.name) for m in found)
    print(f"\n{'':{width}}  {'ours':>14}  {'peer':>14}  {'unit':8} {'ratio':>7} {'target':>9}")
    for m in found:
        peer = "" if m.peer is None else f"{m.peer:,.3g}" if m.peer < 100 else f"{m.peer:,.0f}"
        ours = f"{m.ours:,.3g}" if m.ours < 100 else f"{m.ours:,.0f}"
        ratio = "" if m.ratio is None else f"{m.ratio:.2f}"
        target = "" if m.target is None else f"{'<=' if m.at_most else '>='} {m.target:,g}"
        verdict = {True: "met", False: "MISSED", None: ""}[m.met]
        print(f"{m.name:{width}}  {ours:>14}  {peer:>14}  {m.unit:8} {ratio:>7} {target:>9}  {verdict}")


def keep(found: Sequence[Measurement]) -> None:
    """Write ``last.json``, keeping the lines of benchmarks that did not run this time."""
    known = {line["name"]: line for line in json.loads(LAST.read_text())} if LAST.exists() else {}
    for m in found:
        line = asdict(m)
        del line["at_most"]
        known[m.name] = {**line, "ratio": m.ratio, "met": m.met}
    LAST.write_text(json.dumps(list(known.values()), indent=1, ensure_ascii=False) + "\n")


async def timed(work: Callable[[], Awaitable[object]]) -> float:
    """The seconds that ``work`` takes."""
    began = time.perf_counter()
    await work()
    return time.perf_counter() - began


async def loop_stalls(work: Callable[[], Awaitable[float]]) -> tuple[float, float]:
    """What ``work`` gives, and the longest time for which the loop did not turn meanwhile."""
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        while True:
            began = time.perf_counter()
            await asyncio.sleep(0.002)
            longest = max(longest, time.perf_counter() - began - 0.002)

    watching = asyncio.create_task(watch())
    try:
        return await work(), longest
    finally:
        watching.cancel()
