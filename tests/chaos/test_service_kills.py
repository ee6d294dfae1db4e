"""SIGTERM and ``kill -9`` of the service under load: nothing acknowledged is lost, nothing is doubled."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from servers.redis import Redis
from servers.tdengine import TaosServer
from service_kills import (
    Deliveries,
    Stage,
    drained,
    killed,
    newest,
    oldest_shown,
    orders_counted,
    quotes_counted,
    read,
    taken,
)

from mystocks_ingest.daemon.running import STOP_SECONDS


@pytest.fixture
def stage(tmp_path: Path, redis_server: Redis) -> Iterator[Stage]:
    redis_server.cli("FLUSHALL")  # it serves other tests, too
    with TaosServer() as taos:
        made = Stage(tmp_path, redis_server, taos)
        made.prepare()
        yield made


@pytest.mark.parametrize(
    "kills",
    [
        pytest.param(3, marks=pytest.mark.timeout(900)),
        pytest.param(100, marks=[pytest.mark.long, pytest.mark.timeout(3600)]),
    ],
)
async def test_kill_9_at_random_moments_under_load_loses_nothing_acknowledged_and_doubles_nothing(
    kills: int, stage: Stage
) -> None:
    """TDengine is away in every third life, so that what is acknowledged lies in the spool."""
    dice = Random()  # new moments every time: what fails once is a defect, however rarely
    deliveries = Deliveries()
    began = time.monotonic()
    for number in range(kills):
        away = number % 3 == 1
        if away:
            stage.taos.kill()
        early = number % 10 == 9
        after = dice.uniform(0.0, 2.0 if early else 1.5)
        await asyncio.to_thread(killed, stage, deliveries, after=after, from_start=early)
        if away:
            stage.taos.start()
    assert await asyncio.to_thread(drained, stage, deliveries) == 0
    assert not deliveries.refused
    rows = await asyncio.to_thread(read, stage, "quote", ("symbol", "ts", "volume"))
    quotes = quotes_counted(stage, rows)
    orders = orders_counted(
        deliveries, await asyncio.to_thread(read, stage, "order", ("account", "order_id", "volume"))
    )
    shown = await asyncio.to_thread(read, stage, "quote", ("symbol", "ts"), store="redis")
    print(  # noqa: T201 - shown by `make kills`
        f"\nkill -9 of the service under load: {kills} times in {time.monotonic() - began:.0f} s, TDengine away in "
        f"{len(range(1, kills, 3))} lives\n  live quotes: {quotes}\n  deliveries:  {orders}",
        file=sys.stderr,
    )
    assert quotes.acknowledged > 60 * kills * 2 / 3
    assert quotes.faultless, quotes
    assert orders.acknowledged > 0
    assert orders.faultless, orders
    assert oldest_shown(shown) >= newest(stage), "Redis shows something older than what was acknowledged"


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "away", [False, pytest.param(True, marks=pytest.mark.long)], ids=["all there", "TDengine away"]
)
async def test_sigterm_under_load_stores_or_spools_every_row_it_was_offered(away: bool, stage: Stage) -> None:  # noqa: FBT001
    deliveries = Deliveries()

    def stopped() -> int:
        with stage.process(*stage.under_load()) as running:
            taken(stage, 5)
            if away:
                stage.taos.kill()
                taken(stage, 5)
            return running.stop(STOP_SECONDS + 60)

    assert await asyncio.to_thread(stopped) == 0
    if away:
        stage.taos.start()
        assert await asyncio.to_thread(drained, stage, deliveries) == 0
    rows = await asyncio.to_thread(read, stage, "quote", ("symbol", "ts", "volume"))
    count = quotes_counted(stage, rows, of="offered")
    assert count.offered == count.stored, count
    assert count.faultless, count
