"""Every fault of every vendor ends in a typed outcome, soon, and stores no wrong row (`make faults` prints the table)."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pyarrow as pa
import pytest
from campaigns import Program
from matrix import CASES, SITES, Case, Result, meet, table

from mystocks_ingest.sim.server import Sim, SimConfig, running

CONFIG = SimConfig(seed=11, stocks=16, sessions=30, end=date(2024, 6, 28))
FEW = (
    *(Case("tushare", f) for f in ("http_500", "fin_mid", "truncated", "lots_as_shares", "provisional")),
    *(Case("baostock", f) for f in ("silence", "page_error", "forward_adjusted")),
    Case("akshare", "wrong_close"),
)
SITE_SECONDS = 90.0  # until nothing more is asked of a site that fails
ASKED_TO_WAIT = {"rate_minute": 150.0, "rate_minute_new": 150.0}  # the vendor says how long


@dataclass(frozen=True)
class Stage:
    """A simulated market, a state directory that knows its calendar and instruments, and the truth of the bars."""

    sim: Sim
    prepared: Path
    arguments: tuple[str, ...]
    truth: pa.Table


@pytest.fixture(scope="module")
def states(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("faults")


async def stage_of(sim: Sim, folder: Path) -> Stage:
    prepared = folder / "prepared"
    market = sim.market
    window = ("--from", str(market.first_day), "--to", str(market.last_day))
    ended = await asyncio.to_thread(
        Program(prepared, sim.environment).run, "backfill", "--dataset", "instrument,calendar", *window, "--json"
    )
    assert ended.code == 0, ended.errors
    stocks = market.instruments(("stock",))
    names = [s for s in stocks.column("symbol").to_pylist() if not s.endswith("BJ")][:6]  # every vendor has these
    arguments = ("--dataset", "bar_1d", "--symbols", ",".join(names), *window)
    return Stage(sim, prepared, arguments, market.bars_1d(symbols=tuple(names)))


async def results(cases: tuple[Case, ...], folder: Path) -> AsyncIterator[Result]:
    async with running(CONFIG) as sim:
        stage = await stage_of(sim, folder)
        for case in cases:
            yield await meet(case, sim, stage.prepared, folder / str(case), stage.arguments, stage.truth)


def assert_harmless(result: Result) -> None:
    assert result.code in (0, 3), f"{result.case}: exit {result.code}\n{result.errors}"
    assert result.outcomes, f"{result.case}: no typed outcome"
    assert result.wrong == 0, f"{result.case}: {result.tally}"
    assert (result.code == 0) == (result.tally.lost == 0), f"{result.case}: {result.tally} with exit {result.code}"
    most = SITE_SECONDS * SITES[result.case.vendor] + ASKED_TO_WAIT.get(result.case.fault, 0.0)
    assert result.seconds < most, f"{result.case}: {result.seconds:.0f} s"


@pytest.mark.timeout(900)
async def test_a_handful_of_faults_at_each_vendor_is_harmless(states: Path) -> None:
    async for result in results(FEW, states / "few"):
        assert_harmless(result)


async def met(vendor: str, folder: Path, found: list[Result]) -> None:
    """Every fault of one vendor, each told as it is met: it takes long."""
    cases = tuple(case for case in CASES if case.vendor == vendor)
    async for result in results(cases, folder / vendor):
        found.append(result)
        print(f"{len(found)} of {len(CASES)}:", *result.cells(), file=sys.stderr)  # noqa: T201 - see above


@pytest.mark.long
@pytest.mark.timeout(3 * 3600)
async def test_every_fault_at_every_vendor_is_harmless(states: Path) -> None:
    found: list[Result] = []
    async with asyncio.TaskGroup() as group:
        for vendor in SITES:
            group.create_task(met(vendor, states / "all", found), name=f"faults of {vendor}")
    found.sort(key=lambda result: CASES.index(result.case))
    print(*("", *table(found)), sep="\n", file=sys.stderr)  # noqa: T201 - shown by `make faults`
    assert len(found) == len(CASES)
    for result in found:
        assert_harmless(result)
