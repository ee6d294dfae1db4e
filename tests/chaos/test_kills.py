"""``kill -9`` at random moments, of the program and of its lanes: no row lost, none doubled, none wrong."""

from __future__ import annotations

import asyncio
import sys
from datetime import date
from pathlib import Path
from random import Random

import pyarrow as pa
import pytest
from campaigns import Campaign, Program, Tally, count

from mystocks_ingest.sim.market import Market
from mystocks_ingest.sim.server import SimConfig, running

SEED = 20240208
END = date(2024, 6, 28)
DATASETS = ("bar_1d", "bar_60m")


@pytest.mark.parametrize(
    ("victim", "kills"),
    [
        pytest.param("parent", 4, marks=pytest.mark.timeout(900)),
        pytest.param("lanes", 4, marks=pytest.mark.timeout(900)),
        pytest.param("parent", 50, marks=[pytest.mark.long, pytest.mark.timeout(1800)]),
        pytest.param("lanes", 50, marks=[pytest.mark.long, pytest.mark.timeout(1800)]),
    ],
)
async def test_after_kills_at_random_moments_the_stored_rows_equal_the_truth(
    victim: str, kills: int, tmp_path: Path
) -> None:
    stocks, sessions = (6, 20) if kills < 10 else (40, 120)
    async with running(SimConfig(seed=SEED, stocks=stocks, sessions=sessions, end=END)) as sim:
        market = sim.market
        window = ("--from", str(market.first_day), "--to", str(market.last_day))
        arguments = ("--dataset", ",".join(DATASETS), *window)
        truth = {"bar_1d": market.bars_1d(), "bar_60m": minutes(market)}
        undisturbed = await asyncio.to_thread(
            Program(tmp_path / "undisturbed", sim.environment).run, "backfill", *arguments
        )
        assert undisturbed.code == 0, undisturbed.errors
        dice = Random()  # new moments every time: what fails once is a defect, however rarely
        done = 0
        total = Tally()
        moments: list[float] = []
        campaigns = 0
        while done < kills:
            campaigns += 1
            program = Program(tmp_path / f"campaign-{campaigns}", sim.environment)
            campaign = Campaign(program, arguments, dice, undisturbed.seconds)
            attack = campaign.kill_parent if victim == "parent" else campaign.kill_lanes
            ended = await asyncio.to_thread(attack, at_most=min(kills - done, 8))
            assert ended.code == 0, ended.errors
            for name, rows in truth.items():
                total += count(program.state, name, rows)
            done += campaign.kills
            moments += campaign.moments
            assert campaigns < kills * 3, "too few kills hit a running program"
    report(victim, done, campaigns, moments, total)
    assert total.faultless, total


def minutes(market: Market) -> pa.Table:
    """The truth of bar_60m for every stock."""
    stocks = market.instruments(("stock",)).column("symbol").to_pylist()
    return pa.concat_tables([market.minute_table(symbol, "60m") for symbol in stocks])


def report(victim: str, kills: int, campaigns: int, moments: list[float], total: Tally) -> None:
    when = f", {min(moments):.2f} to {max(moments):.2f} s after the start" if moments else ""
    print(  # noqa: T201 - shown by `make chaos`
        f"\nkill -9 of the {victim}: {kills} times in {campaigns} backfills{when}; rows: {total.truth:,} true, "
        f"{total.stored:,} stored, {total.lost} lost, {total.doubled} doubled, {total.foreign} foreign, "
        f"{total.wrong} wrong",
        file=sys.stderr,
    )
