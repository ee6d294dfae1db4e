"""The live path: 5,400 symbols, one changed quote each per three seconds, all four databases in use.

The service runs as it does for a user; only the vendor is a stand-in, in a process of its own, that answers with the
whole market every three seconds. From the receipt of an answer to "visible in Redis" and "durable in TDengine" (whose
stand-in counts rows and keeps none), over every row. Processor time is the service's process alone; the vendor's lane
and TDengine's child are others. What other work on the machine does to a loop is measured beside, in an idle one.
``BENCH_LIVE_SECONDS`` (60) is how long; ten minutes are the whole claim.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import time
from collections.abc import Iterator
from multiprocessing.synchronize import Event
from typing import Any, Self

import numpy as np

from bench.live_stage import staged
from bench.measure import Measurement

SECONDS = float(os.environ.get("BENCH_LIVE_SECONDS", "60"))
ANSWER = int(os.environ.get("BENCH_LIVE_ANSWER", "5400"))  # rows
WARM = 10.0


def run() -> Iterator[Measurement]:
    with (
        staged() as stage,
        IdleLoop() as beside,
        stage.service(rate=1_800.0, answer=ANSWER, seconds=SECONDS + WARM, warm=WARM) as service,
    ):
        service.said("begun")
        found = service.said("loaded")
        rows = stage.taos.order()["rows"].get("quote", 0)
        assert rows == found["offered"], f"TDengine has {rows} rows of {found['offered']}"
    cpu = 100 * found["cpu"] / found["wall"]
    megabytes = {name: found[name]["rss"] / 1e6 for name in ("before", "after")}
    for store, place, target in (("redis", "visible in Redis", 50.0), ("tdengine", "durable in TDengine", 1500.0)):
        ages = weighed(found, store)
        yield Measurement(f"live, 1,800 rows/s: {place}, p50", 1000 * ages[0], "ms", at_most=True)
        yield Measurement(f"live, 1,800 rows/s: {place}, p99", 1000 * ages[1], "ms", target, at_most=True)
    yield Measurement("live, 1,800 rows/s: processor time of one core", cpu, "%", 15, at_most=True)
    yield Measurement(
        "live, 1,800 rows/s: memory at the end (ratio: to the start)",
        megabytes["after"],
        "MB",
        1.1,
        megabytes["before"],
        at_most=True,
    )
    yield Measurement("live, 1,800 rows/s: the loop's lag, p99", 1000 * found["lags"]["p99"], "ms", 20, at_most=True)
    yield Measurement("live, 1,800 rows/s: an idle loop's lag beside it, p99", 1000 * beside(), "ms")


def weighed(found: dict[str, Any], store: str) -> tuple[float, float]:
    """Median and 99th percentile over rows, in seconds."""
    seconds, rows = np.array(found["seconds"][store]).T
    order = np.argsort(seconds)
    share = np.cumsum(rows[order]) / rows.sum()
    return tuple(float(seconds[order][np.searchsorted(share, q)]) for q in (0.5, 0.99))  # type: ignore[return-value]


class IdleLoop:
    """An idle loop in a process of its own meanwhile; calling gives the 99th percentile of its lag."""

    def __enter__(self) -> Self:
        context = multiprocessing.get_context("spawn")
        self._stop, self._here = context.Event(), context.Queue()
        self._child = context.Process(target=_idle, args=(self._stop, self._here), daemon=True)
        self._child.start()
        return self

    def __call__(self) -> float:
        self._stop.set()
        return float(self._here.get(timeout=30))

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._child.join(10)


def _idle(stop: Event, there: Any) -> None:
    async def look() -> list[float]:
        lags = []
        while not stop.is_set():
            began = time.perf_counter()
            await asyncio.sleep(0.005)
            lags.append(time.perf_counter() - began - 0.005)
        return lags

    there.put(float(np.quantile(asyncio.run(look()), 0.99)))
