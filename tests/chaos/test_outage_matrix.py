"""Outages of every database and vendor cost no row and double none, and health says what happened."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from datetime import date
from pathlib import Path

import pytest
from outage_faults import begin, end
from outage_rows import Balance
from outage_specials import SPECIALS, Impossible, set_aside, setting, special, spooled, tear
from outage_stage import Look, Stage, servers, staged
from outages import CASES, SPEED, Case, Result, aftermath, begin_day, meet, table, well
from servers.private import KEEPER

from mystocks_ingest.sim.server import SimConfig, running
from mystocks_ingest.spool import FILE

SEED = 20241122
END = date(2024, 6, 28)
AT_ONCE = 2


@pytest.fixture(scope="module", autouse=True)
def _keeper(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The parent of the servers outlives each test, and so is started by none of them."""
    folder = tmp_path_factory.mktemp("keeper")
    KEEPER.start(["true"], folder, folder / "log", {"PATH": os.environ["PATH"]}, None)


@asynccontextmanager
async def a_day(folder: Path) -> AsyncIterator[Stage]:
    """New servers and a new simulator, and the stage around them."""
    config = SimConfig(seed=SEED, stocks=16, sessions=60, end=END, live=True, speed=SPEED)
    with ExitStack() as stack:
        async with running(config) as sim:
            held = servers()
            async with asyncio.TaskGroup() as starting:
                for server in held.values():
                    starting.create_task(asyncio.to_thread(stack.enter_context, server))
            async with staged(folder, sim, held, speed=SPEED) as stage:
                yield stage


def skipped(case: Case, why: str) -> Result:
    return Result(case, Balance(), 0.0, Look(0), Look(0), Look(0), why)


def told(results: list[Result]) -> None:
    print("\n" + "\n".join(table(results)), file=sys.stderr, flush=True)  # noqa: T201 - shown by `make outages`


def failed(results: list[Result]) -> list[str]:
    return [
        f"{r.case}: {r.note} {r.balance.examples} {r.after} {dict(r.after.reasons)}" for r in results if not r.faultless
    ]


@pytest.mark.long
@pytest.mark.timeout(7200)
async def test_no_outage_of_a_database_or_a_vendor_costs_or_doubles_a_row(tmp_path: Path) -> None:
    only, every = os.environ.get("ONLY", ""), (*CASES, *SPECIALS)
    turns = asyncio.Semaphore(AT_ONCE)
    results: dict[Case, Result] = {}

    async def suffered(subject: str) -> None:
        cases = [c for c in every if c.subject == subject and only in str(c)]
        async with turns, a_day(tmp_path / subject) as stage:
            try:
                async with setting(stage, subject):
                    await begin_day(stage, subject)
                    for number, case in enumerate(cases):
                        met = special(stage, case) if case in SPECIALS else meet(stage, case, number)
                        results[case] = await met
                        told([results[case]])
            except Impossible as exc:
                results.update({case: skipped(case, str(exc)) for case in cases if case not in results})

    chosen = dict.fromkeys(c.subject for c in every if only in str(c))
    async with asyncio.TaskGroup() as group:
        for subject in chosen:
            group.create_task(suffered(subject))
    ordered = [results[case] for case in every if case in results]
    told(ordered)
    assert ordered
    assert not failed(ordered)


@pytest.mark.timeout(900)
async def test_three_databases_away_at_once_and_a_torn_spool_cost_no_row_that_is_not_reported(tmp_path: Path) -> None:
    """The matrix in short: one stopped, one hung, one answering errors, and the service killed amid that."""
    away = {"tdengine": "stopped", "postgresql": "hung", "mysql": "errors"}
    async with a_day(tmp_path) as stage:
        await begin_day(stage, "tdengine")
        await well(stage)
        for store, fault in away.items():
            await begin(stage, store, fault)
        seen = await spooled(stage, away)
        assert seen.code == 200, "nothing is lost yet, and nobody need be woken"
        await stage.kill()
        await asyncio.to_thread(tear, stage.state / FILE)
        await stage.start()
        for store, fault in away.items():
            await end(stage, store, fault)
        result = await aftermath(stage, Case("three", "at once", 1), seen, seen, spoilt=True)
        await stage.kill()
        aside = set_aside(stage.state / FILE)
    assert set(result.after.bad) == {"spool"}, result
    assert 0 < aside < result.balance.owed / 2
    assert result.balance.lost <= aside, result.balance.examples  # some came again after the kill
    assert result.balance.doubled == 0, result.balance.examples
