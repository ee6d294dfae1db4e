"""``kill -9`` of each database server amid a backfill: the program waits, nothing is lost, nothing is doubled.

What is killed is the server's processes, not its machine: what it had handed to the operating system survives, as in
a crash of the server or an out-of-memory kill. Redis runs with ``appendonly yes`` and ``appendfsync always``, as a
required route to it demands; TDengine's stand-in writes its rows to a file before it answers, which TDengine does with
the WAL settings that our databases are made with.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from random import Random

import pyarrow as pa
import pytest
import yaml
from campaigns import ROOT, Program, count_rows
from pyarrow import parquet
from servers.fixtures import served
from servers.mariadb import MariaDB
from servers.postgresql import PostgreSQL
from servers.private import KEEPER, PrivateServer
from servers.redis import PASSWORD, Redis, RedisCluster
from servers.tdengine import TaosServer

from mystocks_ingest.sim.market import Market
from mystocks_ingest.sim.server import SimConfig, running

SEED = 20241121
END = date(2024, 6, 28)
END_SECONDS = 90.0
LONG = [pytest.mark.long, pytest.mark.timeout(900)]
pytestmark = pytest.mark.timeout(600)
STORES = ("postgresql", "mysql", "redis", "redis cluster", "tdengine")


@pytest.fixture(scope="module", autouse=True)
def _keeper(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The parent of the servers outlives each test, and so is started by none of them."""
    folder = tmp_path_factory.mktemp("keeper")
    KEEPER.start(["true"], folder, folder / "log", {"PATH": os.environ["PATH"]}, None)


@dataclass(frozen=True)
class Victim:
    """A server that holds ``dataset``, and how the program is told of it."""

    store: str
    server: PrivateServer
    dataset: str
    environment: Mapping[str, str]
    mended: Callable[[], None] = lambda: None  # what its restart needs besides


def config_with_bars_in(store: str, folder: Path) -> Path:
    """The shipped tables, with the daily bars in MySQL or Redis, where they are the required table."""
    document = yaml.safe_load((ROOT / "config" / "tables.yaml").read_text())
    (at,) = [n for n, table in enumerate(document["tables"]) if table.get("dataset") == "bar_1d"]
    bars = document["tables"][at]
    home: dict[str, object] = {"database_type": "MySQL"}
    if store == "redis":
        home = {"database_type": "Redis", "redis": {"pattern": "bar_1d:{symbol}", "kind": "map"}}
    kept = ("database_name", "table_name", "dataset", "key", "columns")
    document["tables"][at] = {name: bars[name] for name in kept} | home
    folder.mkdir(parents=True)
    (folder / "tables.yaml").write_text(yaml.safe_dump(document, allow_unicode=True, sort_keys=False))
    return folder


@contextmanager
def victim(store: str, folder: Path, pytestconfig: pytest.Config) -> Iterator[Victim]:
    made: Mapping[str, Callable[[], PrivateServer | RedisCluster]] = {
        "postgresql": PostgreSQL, "mysql": MariaDB, "redis": Redis, "redis cluster": RedisCluster, "tdengine": TaosServer
    }  # fmt: skip
    with served(pytestconfig, made[store]) as server:
        store = store.split(maxsplit=1)[0]
        environment = {"MYSTOCKS_STORES": store, "MYSTOCKS_LOG_LEVEL": "info"}
        dataset = "bar_1d"
        match server:
            case RedisCluster():
                environment |= {
                    "REDIS_CLUSTER": ",".join(f"{s.host}:{s.port}" for s in server.servers), "REDIS_PASSWORD": PASSWORD,
                    "MYSTOCKS_CONFIG_DIR": str(config_with_bars_in(store, folder / "config")),
                }  # fmt: skip
                yield Victim(store, server.servers[1], dataset, environment, server.settled)
                return
            case PostgreSQL():
                environment |= {
                    "POSTGRESQL_PORT": str(server.port), "POSTGRESQL_USER": server.user,
                    "POSTGRESQL_PASSWORD": server.password, "POSTGRESQL_DATABASE": server.database,
                    "POSTGRESQL_TIMESCALE": "require" if server.timescale else "off",
                }  # fmt: skip
            case MariaDB():
                environment |= {
                    "MYSQL_PORT": str(server.port), "MYSQL_USER": server.user, "MYSQL_PASSWORD": server.password,
                    "MYSTOCKS_CONFIG_DIR": str(config_with_bars_in(store, folder / "config")),
                }  # fmt: skip
            case Redis():
                environment |= {
                    "REDIS_PORT": str(server.port), "REDIS_PASSWORD": PASSWORD,
                    "MYSTOCKS_CONFIG_DIR": str(config_with_bars_in(store, folder / "config")),
                }  # fmt: skip
            case TaosServer():
                environment |= {"TDENGINE_PORT": str(server.port)}
                dataset = "bar_60m"
        yield Victim(store, server, dataset, environment)


class Backfill:
    """A running ``backfill --json``, followed line by line."""

    def __init__(self, program: Program, *arguments: str) -> None:
        self.program = program
        self.process = program.start("backfill", *arguments, "--json")
        self._out = (program.state / "stdout.txt").open()
        self._line = ""
        self.events: list[dict[str, object]] = []

    def until(self, condition: Callable[[dict[str, object]], bool], seconds: float = END_SECONDS) -> bool:
        """Whether such an event came before the end of the process."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            ended = self.process.poll() is not None
            while line := self._out.readline():
                self._line += line
                if self._line.endswith("\n"):
                    event = json.loads(self._line)
                    self._line = ""
                    self.events.append(event)
                    if condition(event):
                        return True
            if ended:
                return False
            time.sleep(0.01)
        raise AssertionError(f"nothing of the kind within {seconds:g} s; {self.program.said()}")

    def ended(self, seconds: float = END_SECONDS) -> int:
        try:
            self.until(lambda _: False, seconds)
            return self.process.wait(5)
        finally:
            self.close()

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._out.close()

    def longest_wait(self, store: str) -> float:
        waits = [float(str(e["seconds"])) for e in self.events if e["event"] == "returned" and e["store"] == store]
        return max(waits, default=0.0)


def fetched(dataset: str, times: int) -> Callable[[dict[str, object]], bool]:
    """True at the so-manieth answer for the dataset."""
    left = times

    def condition(event: dict[str, object]) -> bool:
        nonlocal left
        left -= event["event"] == "fetched" and event.get("dataset") == dataset
        return left <= 0

    return condition


def truth_of(market: Market, dataset: str) -> pa.Table:
    if dataset == "bar_1d":
        return market.bars_1d()
    stocks = market.instruments(("stock",)).column("symbol").to_pylist()
    return pa.concat_tables([market.minute_table(symbol, "60m") for symbol in stocks])


def stored(program: Program, dataset: str) -> pa.Table:
    file = program.state / f"{dataset}.parquet"
    ended = program.run("read", dataset, "--format", "parquet", "--output", str(file))
    assert ended.code == 0, ended.errors
    return parquet.read_table(file)


@pytest.mark.parametrize(
    ("store", "kills", "outage_seconds"),
    [
        # a cluster's node may hold none of the few rows that are still to come
        *((store, 1, 2.0) for store in STORES if store != "redis cluster"),
        *(pytest.param(store, 3, 30.0, marks=LONG) for store in STORES),
    ],
)
async def test_a_killed_server_is_waited_for_and_nothing_is_lost_or_doubled(
    store: str, kills: int, outage_seconds: float, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    stocks, sessions = (16, 40) if kills == 1 else (60, 150)
    dice = Random()  # new moments every time: what fails once is a defect, however rarely
    async with running(SimConfig(seed=SEED, stocks=stocks, sessions=sessions, end=END)) as sim:
        market = sim.market
        with victim(store, tmp_path, pytestconfig) as hit:
            program = Program(tmp_path / "state", {**sim.environment, **hit.environment})
            window = ("--from", str(market.first_day), "--to", str(market.last_day))
            arguments = ("--dataset", hit.dataset, *window, "--source", "tushare")
            done = await asyncio.to_thread(_killed, program, arguments, hit, kills, outage_seconds, dice)
            rows = await asyncio.to_thread(stored, program, hit.dataset)
            total = count_rows(rows, hit.dataset, truth_of(market, hit.dataset))
    print(  # noqa: T201 - shown by `make chaos`
        f"\nkill -9 of {store}: {done.kills} times, each time away for {outage_seconds:g} s, waited for up to "
        f"{done.waited:.1f} s; {hit.dataset}: {total.truth:,} true, {total.stored:,} stored, {total.lost} lost, "
        f"{total.doubled} doubled, {total.foreign} foreign, {total.wrong} wrong",
        file=sys.stderr,
    )
    assert total.faultless, total
    assert done.kills == kills, "the backfill was over before the server was killed"
    assert done.waited >= outage_seconds


@dataclass(frozen=True)
class Killed:
    kills: int
    waited: float


def _killed(
    program: Program, arguments: tuple[str, ...], hit: Victim, kills: int, outage_seconds: float, dice: Random
) -> Killed:
    """One backfill, during which the server is killed and started again; it must end well by itself."""
    backfill = Backfill(program, *arguments)
    done = 0
    try:
        for _ in range(kills):
            if not backfill.until(fetched(hit.dataset, dice.randint(1, 8 if kills > 1 else 3))):
                break
            time.sleep(dice.uniform(0.0, 0.05))
            hit.server.kill()
            assert backfill.until(lambda e: e["event"] == "waiting" and e["store"] == hit.store), program.said()
            done += 1
            time.sleep(outage_seconds)
            assert backfill.process.poll() is None, f"it did not wait: {program.said()}"
            hit.server.start()
            hit.mended()
        code = backfill.ended()
    finally:
        backfill.close()
    assert code == 0, program.said()
    return Killed(done, backfill.longest_wait(hit.store))


async def test_ctrl_c_ends_a_backfill_that_waits_and_the_same_command_resumes_it(
    tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    async with running(SimConfig(seed=SEED, stocks=12, sessions=40, end=END)) as sim:
        with victim("postgresql", tmp_path, pytestconfig) as hit:
            program = Program(tmp_path / "state", {**sim.environment, **hit.environment})
            window = ("--from", str(sim.market.first_day), "--to", str(sim.market.last_day))
            arguments = ("--dataset", "bar_1d", *window, "--source", "tushare")

            def interrupted() -> float:
                backfill = Backfill(program, *arguments)
                try:
                    assert backfill.until(fetched("bar_1d", 4))
                    hit.server.kill()
                    assert backfill.until(lambda e: e["event"] == "waiting")
                    backfill.process.send_signal(signal.SIGINT)
                    asked = time.monotonic()
                    assert backfill.ended(60) == 130
                    return time.monotonic() - asked
                except subprocess.TimeoutExpired:
                    pytest.fail("it did not end")
                finally:
                    backfill.close()

            seconds = await asyncio.to_thread(interrupted)
            assert seconds < 30
            assert "Resume with: " in program.said()
            hit.server.start()
            ended = await asyncio.to_thread(program.run, "backfill", *arguments)
            assert ended.code == 0, ended.errors
            assert count_rows(stored(program, "bar_1d"), "bar_1d", sim.market.bars_1d()).faultless


async def test_a_server_away_for_longer_than_the_patience_ends_the_run_partial_with_the_reason(
    tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    async with running(SimConfig(seed=SEED, stocks=12, sessions=40, end=END)) as sim:
        with victim("mysql", tmp_path, pytestconfig) as hit:
            environment = {**sim.environment, **hit.environment, "MYSTOCKS_SINK_PATIENCE": "2"}
            program = Program(tmp_path / "state", environment)
            window = ("--from", str(sim.market.first_day), "--to", str(sim.market.last_day))
            arguments = ("--dataset", "bar_1d", *window, "--source", "tushare")

            def abandoned() -> Backfill:
                backfill = Backfill(program, *arguments)
                try:
                    assert backfill.until(fetched("bar_1d", 4))
                    hit.server.kill()
                    assert backfill.ended() == 3
                finally:
                    backfill.close()
                return backfill

            report = (await asyncio.to_thread(abandoned)).events[-1]
            assert report["status"] == "partial"
            assert "MySQL at 127.0.0.1" in str(report["stopped"])
            assert re.search(r"waited for \d+ s", str(report["stopped"]))
            hit.server.start()
            ended = await asyncio.to_thread(program.run, "backfill", *arguments)
            assert ended.code == 0, ended.errors
            assert count_rows(stored(program, "bar_1d"), "bar_1d", sim.market.bars_1d()).faultless
