"""Ten times the usual load for half an hour: memory, open files, threads and child processes stay as they were.

``SOAK_SECONDS`` (1800) is how long, ``SOAK_RATE`` (18000) how many rows a second. The vendor's answers are 5,400 quotes
each; TDengine's stand-in counts rows and keeps none. What is compared is the first and the last fifth after five
minutes (or a sixth of the time) of warming up: the mean, of memory the lower quartile, for a batch that waits is no leak.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from servers.private import KEEPER

sys.path.insert(0, str(Path(__file__).parents[2]))
from bench.live_stage import Loaded, staged

SECONDS = float(os.environ.get("SOAK_SECONDS", "1800"))
RATE = float(os.environ.get("SOAK_RATE", "18000"))
WARM = min(300.0, SECONDS / 6)
GROWTH = 1.08  # of memory, from the first fifth to the last
IDLE_THREADS = 3  # the loop's pool begins its last ones only when all others are busy at once


@dataclass(frozen=True)
class Look:
    """The service's process at one moment; children's memory beside it."""

    seconds: float
    rss: float
    files: int
    threads: int
    children: int
    children_rss: float

    def __str__(self) -> str:
        return (
            f"{self.seconds:6.0f} s  {self.rss / 1e6:6.1f} MB  {self.files:4d} files  {self.threads:3d} threads  "
            f"{self.children} children with {self.children_rss / 1e6:6.1f} MB"
        )


def look(process: psutil.Process, began: float) -> Look:
    children = process.children(recursive=True)
    with process.oneshot():
        return Look(
            time.monotonic() - began,
            process.memory_info().rss,
            process.num_fds(),
            process.num_threads(),
            len(children),
            sum(c.memory_info().rss for c in children if c.is_running()),
        )


def watched(service: Loaded) -> list[Look]:
    process, began = psutil.Process(service.process.pid), time.monotonic()
    looks: list[Look] = []
    shown = -1e9
    while time.monotonic() - began < SECONDS:
        looks.append(look(process, began))
        if looks[-1].seconds - shown >= min(120.0, SECONDS / 6):
            shown = looks[-1].seconds
            tell(str(looks[-1]))
        time.sleep(min(5.0, SECONDS / 60))
    tell(str(looks[-1]))
    return looks


def tell(text: str) -> None:
    sys.stderr.write(text + "\n")


@pytest.fixture(autouse=True, scope="module")
def _keeper(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The parent of the servers outlives the test, and so is not started by it."""
    folder = tmp_path_factory.mktemp("keeper")
    KEEPER.start(["true"], folder, folder / "log", {"PATH": os.environ["PATH"]}, None)


@pytest.mark.long
@pytest.mark.timeout(SECONDS + 600)
def test_ten_times_the_load_grows_neither_memory_nor_files_nor_threads_nor_processes() -> None:
    with staged() as stage, stage.service(rate=RATE, answer=5_400, seconds=SECONDS + 5, push=True) as service:
        service.said("begun")
        tell(f"\n{RATE:,.0f} rows/s for {SECONDS:g} s")
        looks = watched(service)
        found = service.said("loaded")
        kept = stage.taos.order()["rows"].get("quote", 0)
        tell(f"{found['offered']:,} rows offered, {kept:,} stored, {found['spool']} bytes in the spool")
        tell(json.dumps({"cpu_percent": round(100 * found["cpu"] / found["wall"], 1), "lags": found["lags"]}))
    settled = [x for x in looks if x.seconds >= WARM]
    part = max(len(settled) // 5, 1)
    first, last = settled[:part], settled[-part:]

    def usual(some: list[Look], name: str) -> float:
        values = [getattr(x, name) for x in some]
        return statistics.quantiles(values, n=4)[0] if name == "rss" and len(values) > 1 else statistics.mean(values)

    for name in ("rss", "files", "threads", "children"):
        tell(f"{name}: {usual(first, name):,.1f} in the first fifth, {usual(last, name):,.1f} in the last")
    assert found["offered"] == kept
    assert usual(last, "rss") <= usual(first, "rss") * GROWTH
    for name, more in (("files", 1), ("threads", IDLE_THREADS), ("children", 1)):
        assert usual(last, name) <= usual(first, name) + more, name
