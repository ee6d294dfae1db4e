"""The whole market's history, 5,400 stocks by 2,430 sessions, from the simulated market's fast path to the store.

Everything but the vendors' packages and their wire is the real thing: plan, check, group commit, ledger,
checkpoints. The simulated market stands in a child process, as a vendor's package would.
"""

from __future__ import annotations

import asyncio
import resource
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from time import perf_counter

import psutil

from bench.far import FarSource
from bench.measure import Measurement
from mystocks_ingest import logs, service
from mystocks_ingest.arrow import give_memory_back, keep_pandas_out
from mystocks_ingest.errors import Outcome
from mystocks_ingest.flow.plan import PlanLine
from mystocks_ingest.flow.report import Job, Report
from mystocks_ingest.market.frames import Window
from mystocks_ingest.settings import Settings
from mystocks_ingest.sim.market import MarketConfig

STOCKS, SESSIONS = 5_400, 2_430
MILLION = 1_000_000
_CONFIG = Path(__file__).parents[1] / "config"


class Watch:
    """Notes time and memory at every million rows."""

    def __init__(self) -> None:
        self.rows = 0
        self.began = self.last = perf_counter()
        self.marks: list[tuple[float, float]] = []  # rows/s and MB of each million
        self._process = psutil.Process()

    def planned(self, line: PlanLine) -> None:
        print(f"  {line}", flush=True)

    def fetched(self, dataset: str, source: str, *, rows: int, calls: int) -> None:  # noqa: ARG002 - a protocol's
        if dataset != "bar_1d":
            return
        before = self.rows // MILLION
        self.rows += rows
        if self.rows // MILLION > before:
            now = perf_counter()
            memory = self._process.memory_info().rss / 1e6
            self.marks.append((MILLION / (now - self.last), memory))
            print(f"  {self.rows:>12,} rows  {self.marks[-1][0]:>9,.0f} rows/s  {memory:5.0f} MB", flush=True)
            self.last = now

    def refused(self, dataset: str, source: str, rule: str, rows: int) -> None:
        print(f"  refused: {dataset} {source} {rule} {rows}", flush=True)

    def failed(self, dataset: str, source: str, outcome: Outcome, reason: str) -> None:
        print(f"  failed: {dataset} {source} {outcome} {reason}", flush=True)

    def waiting(self, store: str, seconds: float, reason: str) -> None: ...
    def returned(self, store: str, seconds: float) -> None: ...
    def done(self, report: Report) -> None: ...


async def _backfill(folder: Path, watch: Watch) -> Report:
    settings = Settings(MYSTOCKS_STATE_DIR=folder, MYSTOCKS_CONFIG_DIR=_CONFIG)
    async with FarSource(MarketConfig(stocks=STOCKS, sessions=SESSIONS)) as far:
        noon = datetime.combine(far.last_day, time(12), UTC)
        window = Window(far.first_day, far.last_day + timedelta(days=1))
        async with service.opened(settings, now=lambda: noon) as opened:
            opened._chosen = lambda _: {far.name: far}  # type: ignore[method-assign]  # noqa: SLF001 - in a vendor's place
            watch.began = watch.last = perf_counter()
            return await opened.backfill(Job(("bar_1d",), window), watch)


def run() -> Iterator[Measurement]:
    logs.configure(level="error")
    keep_pandas_out()  # as the command line does
    give_memory_back()
    watch = Watch()
    with tempfile.TemporaryDirectory() as folder:
        report = asyncio.run(_backfill(Path(folder), watch))
        size = sum(f.stat().st_size for f in Path(folder).iterdir()) / 1e6
    print(f"  {report.status}, {report.seconds:.0f} s, {size:,.0f} MB on disk", flush=True)
    rates, memory = [r for r, _ in watch.marks[1:]], [m for _, m in watch.marks]
    third = len(rates) // 3
    slowdown = (sum(rates[:third]) / third) / (sum(rates[-third:]) / third)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    yield Measurement("backfill of 13M bars", watch.rows / report.seconds, "rows/s")
    yield Measurement("  first third to last third, rows/s", slowdown, "times", 1.5, at_most=True)
    yield Measurement("  peak memory", peak, "MB", 400, at_most=True)
    yield Measurement("  growth since the first million", memory[-1] - memory[0], "MB", 60, at_most=True)
