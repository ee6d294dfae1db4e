"""While the service has the stores open, commands and programs work as they do without it: it does their errands."""

from __future__ import annotations

import asyncio
import json
import signal
import sys

import pytest
from daemon_place import CLOCKED, ROOT, Place, until

from mystocks_ingest.arrow import keep_pandas_out

keep_pandas_out()

pytestmark = pytest.mark.timeout(400)  # each starts many processes, on a machine that may be busy
EVENING = "16:30:00"
BACKFILL = ("backfill", "--dataset", "instrument,calendar,bar_1d,adj_factor", "--source", "tushare")
QUESTIONS = (
    ("read", "bar_1d", "--json"),
    ("gaps", "--json"),
    ("dead-letters", "list", "--json"),
    ("monitor", "runs", "--json"),
    ("backfill", "--dry-run", "--json", "--dataset", "bar_5m", "--source", "baostock"),
)
PROGRAM = """
import mystocks_ingest, pyarrow as pa, sys
rows = mystocks_ingest.read("bar_1d", sys.argv[1], adjust="back")
print(rows.num_rows, rows["close"].to_pylist()[-1])
"""


async def answers(place: Place) -> dict[tuple[str, ...], tuple[int, str]]:
    found = {}
    for words in QUESTIONS:
        code, out, err = await place.command(*words, clock=EVENING)
        assert code in (0, 3), err
        found[words] = code, out
    return found


async def program(place: Place, symbol: str) -> str:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROGRAM, symbol, cwd=ROOT, env=place.environment,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode()


async def test_commands_and_programs_are_served_by_the_service_as_without_it(place: Place) -> None:
    place.jobs("- {name: weekly, when: cron 0 6 * * 6, datasets: bar_1w}")
    symbol = place.sim.market.bars_1d()["symbol"].to_pylist()[0]
    first = place.sim.market.bars_1d()["trade_date"].to_pylist()[0]
    async with place.service(EVENING) as service:
        code, out, err = await place.command(*BACKFILL, "--from", str(first), "--json", clock=EVENING)
        assert code == 0, err
        told = [json.loads(line) for line in out.splitlines() if line.startswith('{"event"')]
        assert {line["event"] for line in told} >= {"planned", "fetched"}
        served = await answers(place)
        shown = await program(place, symbol)
        code, _, err = await place.command("dead-letters", "show", "4711")
        assert code == 2
        assert err.startswith("error: ")
        assert len(err.splitlines()) == 1
        assert await service.stop() == 0
    assert await answers(place) == served
    assert await program(place, symbol) == shown
    (_, text), *_ = served.values()
    truth = {(r["symbol"], str(r["trade_date"])): r["close"] for r in place.sim.market.bars_1d().to_pylist()}
    stored = {(r["symbol"], r["trade_date"]): r["close"] for r in json.loads(text)}
    assert stored == {key: close for key, close in truth.items() if key[1] < str(place.sim.market.last_day)}


async def test_whoever_hangs_up_ends_the_errand_and_the_service_goes_on(place: Place) -> None:
    place.jobs("- {name: weekly, when: cron 0 6 * * 6, datasets: bar_1w}")
    await place.sim.fault("tushare", "delay", times=None, match="daily", seconds=2)
    async with place.service(EVENING) as service:
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(CLOCKED), place.at(EVENING), *BACKFILL, "--json",
            cwd=ROOT, env=place.environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        assert process.stdout is not None
        await asyncio.wait_for(process.stdout.readline(), 90)
        process.send_signal(signal.SIGINT)
        await asyncio.wait_for(process.communicate(), 90)
        assert process.returncode == 130

        async def over() -> bool:
            _, out, _ = await place.command("monitor", "runs", "--json")
            return [run["status"] for run in json.loads(out)] == ["interrupted"]

        await until(over, seconds=90)
        assert await service.stop() == 0
