"""The program as a user meets it, with the vendors' own packages asking the simulated market."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from mystocks_ingest.sim.market import Market, MarketConfig
from mystocks_ingest.sim.server import Sim, SimConfig, running

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.timeout(400)  # demos and backfills in processes of their own, on a machine that may be busy


@dataclass(frozen=True)
class Demonstrated:
    """Two runs of the demo, and the store they filled."""

    first: subprocess.CompletedProcess[str]
    second: subprocess.CompletedProcess[str]
    folder: Path


@pytest.fixture(scope="module")
def demonstrated(tmp_path_factory: pytest.TempPathFactory) -> Demonstrated:
    folder = tmp_path_factory.mktemp("demo")
    env = os.environ | {"MYSTOCKS_STATE_DIR": str(folder / "var"), "MYSTOCKS_CONFIG_DIR": str(ROOT / "config")}
    env |= {"HTTP_PROXY": "http://127.0.0.1:9", "TUSHARE_TOKEN": "the-users-own-token-0123456789"}

    def demo(*argv: str) -> subprocess.CompletedProcess[str]:
        words = [sys.executable, "-m", "mystocks_ingest", "demo", *argv]
        return subprocess.run(words, env=env, cwd=folder, capture_output=True, text=True, timeout=190, check=False)

    return Demonstrated(demo("--json"), demo(), folder / "var" / "demo")


def test_the_demo_stores_bars_through_each_of_the_three_vendors(demonstrated: Demonstrated) -> None:
    assert demonstrated.first.returncode == 0, demonstrated.first
    report = json.loads(demonstrated.first.stdout.splitlines()[-1])
    assert (report["event"], report["status"]) == ("done", "complete")
    rows = {(r["dataset"], r["source"]): r["rows"] for r in report["rows"]}
    for source in ("tushare", "baostock", "akshare"):
        assert rows["bar_1d", source] > 500
    assert {d for d, _ in rows} >= {"instrument", "calendar", "bar_1d", "adj_factor"}


def test_the_service_lives_through_a_simulated_day_for_all_to_see(tmp_path: Path, program) -> None:
    shown = program("demo", "--live", "--speed", "2000", env={"MYSTOCKS_STATE_DIR": str(tmp_path)}, seconds=300)
    assert shown.code == 0, shown
    assert shown.out.startswith("the service runs, and 2026-06-30 goes by 2000 times as fast")
    assert "18:05" in shown.out
    assert "daily complete" in shown.out
    rows = json.loads(program("read", "bar_1d", "--json", env={"MYSTOCKS_STATE_DIR": str(tmp_path / "demo-live")}).out)
    of_the_day = [row for row in rows if row["trade_date"] == "2026-06-30"]
    assert f"the last quote is the published close of {len(of_the_day)} stocks of {len(of_the_day)}" in shown.out
    assert len(of_the_day) > 30


def test_the_demo_shows_refused_rows_and_fetches_them_again(demonstrated: Demonstrated, command) -> None:
    report = json.loads(demonstrated.first.stdout.splitlines()[-1])
    assert {(r["source"], r["rows"]) for r in report["refused"]} == {("tushare", 1), ("baostock", 1)}
    listed = json.loads(
        command("dead-letters", "list", "--json", env={"MYSTOCKS_STATE_DIR": str(demonstrated.folder)}).out
    )
    assert {e["source"] for e in listed["letters"]} == {"tushare", "baostock"}
    settled = json.loads(
        command("dead-letters", "replay", "--all", "--json", env={"MYSTOCKS_STATE_DIR": str(demonstrated.folder)}).out
    )
    assert (settled["superseded"], settled["refused"]) == ({"bar_1d": 2}, [])


def test_what_the_demo_stored_is_the_simulated_truth(demonstrated: Demonstrated, command, tmp_path: Path) -> None:
    file = tmp_path / "bars.arrow"
    env = {"MYSTOCKS_STATE_DIR": str(demonstrated.folder)}
    assert command("read", "bar_1d", "--format", "arrow", "--output", str(file), env=env).code == 0
    stored = pa.ipc.open_stream(file).read_all()
    truth = Market(MarketConfig(stocks=60, sessions=250)).bars_1d(asset_types=("stock", "index", "etf"))
    names = ["symbol", "trade_date", "open", "high", "low", "close", "pre_close"]
    mine = pc.is_in(truth["symbol"], value_set=stored["symbol"].unique())
    expected = truth.filter(mine).select(names).sort_by([("symbol", "ascending"), ("trade_date", "ascending")])
    assert stored.num_rows > 13_000
    assert stored.select(names).to_pylist() == expected.to_pylist()


def test_a_second_demo_fetches_nothing_and_says_so(demonstrated: Demonstrated) -> None:
    assert demonstrated.second.returncode == 0, demonstrated.second
    assert "nothing to fetch" in demonstrated.second.stdout
    assert "What to type next" in demonstrated.second.stdout


def test_the_demo_keeps_the_users_own_token_to_itself(demonstrated: Demonstrated) -> None:
    for run in (demonstrated.first, demonstrated.second):
        assert "the-users-own-token" not in run.stdout + run.stderr


@pytest.fixture
async def sim(state: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Sim]:
    """A market that ends in the past of this machine's clock, and the settings that point at it."""
    async with running(SimConfig(stocks=30, sessions=60, end=date(2025, 12, 31))) as sim:
        for name, value in sim.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("TUSHARE_POINTS", "15000")
        yield sim


def backfill(*argv: str) -> list[str]:
    return [sys.executable, "-m", "mystocks_ingest", "backfill", *argv]


async def told(words: list[str]) -> tuple[int, str, str]:
    child = await asyncio.create_subprocess_exec(*words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = await child.communicate()
    return int(child.returncode or 0), out.decode(), err.decode()


async def test_a_dry_run_tells_the_cost_and_fetches_no_history(sim: Sim) -> None:
    words = backfill("--dry-run", "--from", "2025-12-01", "--to", "2025-12-31")
    code, out, err = await told([*words, "--json"])
    assert code == 0, err
    plan = json.loads(out)
    lines = {(line["dataset"], line["source"]): line for line in plan["plan"]}
    assert lines["bar_1d", "tushare"]["calls"] == 23  # a call a session for the whole market
    assert plan["window"] == {"from": "2025-12-01", "to": "2025-12-31"}
    assert "daily" not in (await sim.calls())["tushare"]
    code, out, err = await told(words)
    assert "start it with the same command without --dry-run" in out
    assert "bar_1d" in out


async def test_an_interrupted_backfill_resumes_to_the_truth(sim: Sim, tmp_path: Path) -> None:
    stocks = [s for s in sim.market.instruments(("stock",))["symbol"].to_pylist() if not s.endswith("BJ")]
    words = backfill("--dataset", "bar_1d", "--symbols", ",".join(stocks), "--from", "2025-10-01", "--to", "2025-12-31")
    words += ["--source", "baostock", "--json"]
    calls = "query_history_k_data_plus"
    await sim.fault("baostock", "delay", times=None, match=calls, seconds=0.4)  # most are to come when the first have
    child = await asyncio.create_subprocess_exec(*words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdout is not None
    fetched = 0
    while fetched < 5:
        event = json.loads(await child.stdout.readline())
        fetched += event["event"] == "fetched" and event["dataset"] == "bar_1d"
    child.send_signal(signal.SIGTERM)
    _, err = await child.communicate()
    assert child.returncode == 130
    last = err.decode().splitlines()[-1]
    assert "mystocks-ingest backfill --dataset" in last
    assert "Traceback" not in err.decode()

    await sim.clear("baostock")
    before = (await sim.calls())["baostock"][calls]
    code, _, err_text = await told(words)
    assert code == 0, err_text
    again = (await sim.calls())["baostock"][calls] - before
    assert again < len(stocks) - 3, "what was stored before the interrupt was fetched again"
    file = tmp_path / "bars.arrow"
    code, _, err_text = await told(
        [sys.executable, "-m", "mystocks_ingest", "read", "bar_1d", "--format", "arrow", "--output", str(file)]
    )
    assert code == 0, err_text
    stored = pa.ipc.open_stream(file).read_all()
    truth = sim.market.bars_1d(symbols=tuple(stocks))
    days = pc.and_(
        pc.greater_equal(truth["trade_date"], pa.scalar(date(2025, 10, 1))),
        pc.less_equal(truth["trade_date"], pa.scalar(date(2025, 12, 31))),
    )
    key = [("symbol", "ascending"), ("trade_date", "ascending")]
    names = ["symbol", "trade_date", "close", "volume"]
    assert stored.select(names).sort_by(key).to_pylist() == truth.filter(days).select(names).sort_by(key).to_pylist()


async def test_an_unknown_symbol_is_one_sentence(sim: Sim) -> None:
    code, _, err = await told(backfill("--symbols", "600998.SH", "--from", "2025-12-01", "--to", "2025-12-31"))
    assert code == 2
    assert err.splitlines()[-1].startswith("error: unknown symbol 600998.SH")


async def test_with_every_vendor_down_what_is_missing_is_told_and_the_code_is_3(sim: Sim) -> None:
    words = backfill("--dataset", "bar_1d", "--symbols", "600000.SH", "--from", "2025-12-01", "--to", "2025-12-31")
    await told([*words[:-4], "--from", "2025-12-29", "--to", "2025-12-31"])  # the lists and three bars
    for vendor in ("tushare", "baostock", "akshare"):
        await sim.fault(vendor, "refused", times=None)
    code, out, err = await told([*words, "--json"])  # and it does not try for ever
    assert code == 3, err
    report = json.loads(out.splitlines()[-1])
    (gap,) = report["missing"]
    assert (gap["symbol"], gap["sessions"]) == ("600000.SH", 20)
    assert "tushare" in gap["why"]


async def test_sources_test_makes_one_call_and_says_how_it_ended(sim: Sim) -> None:
    words = [sys.executable, "-m", "mystocks_ingest", "sources"]
    code, out, err = await told([*words, "test", "tushare", "--json"])
    assert code == 0, err
    assert json.loads(out)["outcome"] == "ok"
    await sim.fault("tushare", "bad_token", times=None)
    code, out, _ = await told([*words, "test", "tushare"])
    assert code == 3
    assert out.startswith("tushare: denied after")
    code, out, err = await told([*words, "--json"])
    assert code == 0, err
    (entry,) = [e for e in json.loads(out) if e["source"] == "tushare"]
    assert entry["last_success"] is not None
    assert entry["last_error"]
    assert sum(b["calls"] for b in entry["budget"]) > 0
