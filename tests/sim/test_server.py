import asyncio
import json
import os
import signal
import socket
import sys
import textwrap
from datetime import date

import psutil
import pytest

from mystocks_ingest.sim.server import SimConfig, running


def is_open(endpoint):
    host, _, port = endpoint.removeprefix("http://").partition(":")
    with socket.socket() as sock:
        sock.settimeout(2)
        return sock.connect_ex((host, int(port))) == 0


async def test_the_servers_end_with_the_block():
    async with running(SimConfig(stocks=5, sessions=30)) as sim:
        pid = sim.pid
        assert is_open(sim.environment["TUSHARE_ENDPOINT"])
        assert is_open(sim.environment["BAOSTOCK_ENDPOINT"])
        assert is_open(sim.environment["AKSHARE_ENDPOINT"])
    assert not psutil.pid_exists(pid)


async def test_the_servers_end_when_their_parent_is_killed():
    program = textwrap.dedent("""
        import asyncio
        from mystocks_ingest.sim.server import SimConfig, running
        async def main():
            async with running(SimConfig(stocks=5, sessions=30)) as sim:
                print(sim.pid, flush=True)
                await asyncio.sleep(60)
        asyncio.run(main())
    """)
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE)
    servers = psutil.Process(int(await parent.stdout.readline()))
    os.kill(parent.pid, signal.SIGKILL)
    await parent.communicate()
    servers.wait(timeout=30)
    assert not servers.is_running()


async def test_the_command_announces_itself_in_one_line_and_ends_on_ctrl_c():
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "mystocks_ingest.sim", "--stocks", "5", "--sessions", "30", "--end", "2020-12-31",
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    environment = json.loads(await process.stdout.readline())
    assert set(environment) == {
        "TUSHARE_ENDPOINT",
        "BAOSTOCK_ENDPOINT",
        "AKSHARE_ENDPOINT",
        "TUSHARE_TOKEN",
        "SIM_CONTROL",
    }
    assert is_open(environment["AKSHARE_ENDPOINT"])
    process.send_signal(signal.SIGINT)
    rest, _ = await process.communicate()
    assert (process.returncode, rest) == (0, b"")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--sessions", "9000"], "reach further back"),
        (["--end", "2031-01-01"], "can end between"),
        (["--recorded", "no/such/folder"], "no directory of recordings"),
    ],
)
async def test_a_market_that_cannot_be_is_refused_in_one_sentence(arguments, sentence):
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "mystocks_ingest.sim", *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    assert process.returncode == 2
    assert out == b""
    assert sentence in err.decode()
    assert "Traceback" not in err.decode()


async def test_the_servers_do_without_pandas():
    async with running(SimConfig(stocks=5, sessions=30)) as sim:
        mapped = {m.path for m in psutil.Process(sim.pid).memory_maps()}
        assert not any("pandas" in path for path in mapped)


async def test_the_parent_knows_the_truth_without_asking():
    config = SimConfig(seed=5, stocks=10, sessions=40, end=date(2021, 3, 31))
    async with running(config) as sim:
        assert sim.market.last_day == date(2021, 3, 31)
        assert sim.market.bars_1d().num_rows > 200
        assert sum(sum(c.values()) for c in (await sim.calls()).values()) == 0
