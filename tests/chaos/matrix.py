"""The fault matrix: every fault of every vendor against a backfill that may ask nobody else.

A case is one process of the program with a copy of a prepared state directory (calendar and instruments), so that the
fault meets the dataset itself. Its row: the typed outcomes, the seconds until the program ended, the rows stored, and
how many of those differ from the truth.
"""

from __future__ import annotations

import asyncio
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, time
from pathlib import Path
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc
from campaigns import Program, Tally, count

from mystocks_ingest.sim.faults import KINDS
from mystocks_ingest.sim.server import Sim

SOURCES = {"tushare": "tushare", "baostock": "baostock", "akshare": "akshare"}
SITES = {"tushare": 1, "baostock": 1, "akshare": 4}  # that a source asks one after the other
DEADLINES = {"tushare": "3", "baostock": "3", "akshare": "1"}  # akshare's own are multiples of it
SHANGHAI = ZoneInfo("Asia/Shanghai")
MOST_SECONDS = 400.0


@dataclass(frozen=True)
class Case:
    vendor: str
    fault: str

    def __str__(self) -> str:
        return f"{self.vendor}-{self.fault}"


CASES = tuple(Case(vendor, fault) for vendor, faults in KINDS.items() for fault in faults)


@dataclass(frozen=True)
class Result:
    case: Case
    outcomes: Counter[str]
    refused: Counter[str]
    code: int
    seconds: float
    tally: Tally
    errors: str

    @property
    def wrong(self) -> int:
        """Rows in the store that are not the truth's."""
        return self.tally.wrong + self.tally.foreign + self.tally.doubled

    @property
    def outcome(self) -> str:
        return " ".join(f"{name}:{n}" for name, n in sorted(self.outcomes.items())) or "-"

    def cells(self) -> tuple[str, ...]:
        refused = " ".join(f"{name}:{n}" for name, n in sorted(self.refused.items())) or "-"
        rows = f"{self.tally.stored}/{self.tally.truth}"
        return (
            self.case.vendor,
            self.case.fault,
            self.outcome,
            str(self.code),
            f"{self.seconds:.1f}",
            rows,
            refused,
            str(self.wrong),
        )


HEAD = ("vendor", "fault", "outcomes", "exit", "seconds", "rows", "refused", "wrong")


def table(results: list[Result]) -> Iterator[str]:
    lines = [HEAD, *(r.cells() for r in results)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(HEAD))]
    for line in lines:
        yield "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()


async def meet(
    case: Case, sim: Sim, prepared: Path, state: Path, arguments: tuple[str, ...], truth: pa.Table
) -> Result:
    """Run one case: arm the fault until cleared, backfill from that vendor only, compare."""
    shutil.copytree(prepared, state)
    options: dict[str, str] = {}
    at = None
    if case.fault == "provisional":  # means something only while the session runs
        today = sim.market.last_day
        at, options = datetime.combine(today, time(10, 30), SHANGHAI), {"day": today.isoformat()}
    program = Program(state, {**sim.environment, "MYSTOCKS_CALL_DEADLINE": DEADLINES[case.vendor]}, at)
    await sim.fault(case.vendor, case.fault, times=None, **options)
    try:
        ended = await asyncio.to_thread(
            program.run, "backfill", *arguments, "--source", SOURCES[case.vendor], "--json", seconds=MOST_SECONDS
        )
    finally:
        await sim.clear()
    done = ended.report
    outcomes = Counter({str(o["outcome"]): int(o["requests"]) for o in done["outcomes"]})
    refused: Counter[str] = Counter()
    for entry in done["refused"]:
        refused[str(entry["rule"])] += int(entry["rows"])
    tally = count(state, "bar_1d", truth)
    if at is not None:  # the session still runs: nobody owes its bars yet
        due = truth.filter(pc.less(truth["trade_date"], pa.scalar(at.date())))
        tally = replace(tally, lost=count(state, "bar_1d", due).lost)
    return Result(case, outcomes, refused, ended.code, ended.seconds, tally, ended.errors)
