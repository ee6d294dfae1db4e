"""The service on four databases and three vendors, each behind a wire of its own, in a time that runs faster."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import patch

import pyarrow as pa
import yaml
from outage_rows import Balance, Feeder, asked, balance, ledger
from servers.mariadb import MariaDB
from servers.postgresql import PostgreSQL
from servers.private import PrivateServer
from servers.proxy import Proxy
from servers.redis import PASSWORD, Redis
from servers.tdengine import TaosServer

from mystocks_ingest import sinks
from mystocks_ingest.ports import Query
from mystocks_ingest.schema import tables
from mystocks_ingest.settings import load
from mystocks_ingest.sim.clock import ZONE
from mystocks_ingest.sim.server import Sim

ROOT = Path(__file__).parents[2]
HASTENED = Path(__file__).with_name("hastened.py")
STORES = ("tdengine", "postgresql", "redis", "mysql")
VENDORS = ("tushare", "akshare", "baostock")
TOKEN = "token-of-the-outage-matrix-0123456789"  # noqa: S105
TABLES = ("tick", "quote", "quote_latest", "account", "account_latest", "fill")
UNASKED = ("calendar", "loop")  # parts that tell of this machine and its year, and not of an outage
READY_SECONDS = 120.0
CALL_SECONDS = "4"
SYMBOLS = 6


def servers() -> dict[str, PrivateServer]:
    """The four, not started."""
    return {"tdengine": TaosServer(), "postgresql": PostgreSQL(), "redis": Redis(), "mysql": MariaDB()}


@dataclass(frozen=True)
class Look:
    """Health at one moment: the status of /health/ready, and the parts that are not well, with their states."""

    code: int
    state: str = ""
    bad: Mapping[str, str] = field(default_factory=dict)
    reasons: Mapping[str, str] = field(default_factory=dict)
    waiting_rows: int = 0
    live: bool = False  # quotes are looked after

    def __str__(self) -> str:
        what = ", ".join(f"{name} {state}" for name, state in self.bad.items())
        return f"{self.code} {self.state or 'no answer'}" + (f" ({what})" if what else "")

    @property
    def worse(self) -> tuple[int, int, int]:
        """Greater for what is worse."""
        return self.code, sum(state == "down" for state in self.bad.values()), len(self.bad)


@dataclass
class Stage:
    """One service and everything around it. ``speed``: seconds of the exchange in one of ours."""

    folder: Path
    sim: Sim
    servers: Mapping[str, PrivateServer]
    speed: float
    wires: dict[str, Proxy] = field(default_factory=dict)
    prefix: tuple[str, ...] = ()  # in front of the service's command line
    host: str = "127.0.0.1"  # by which the service knows everybody
    unguarded: bool = False  # names of hosts may be asked for
    process: asyncio.subprocess.Process | None = None
    address: str = ""
    feeder: Feeder = field(init=False)
    feeding: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        market = self.sim.market
        symbol = market.bars_1d()["symbol"][0].as_py()
        self.feeder = Feeder(lambda: self.address, TOKEN, market.last_day, symbol)

    @property
    def symbols(self) -> list[str]:
        """Of those that every vendor has (one knows no Beijing exchange) as many as a slow one gives in time."""
        return sorted({s for s in self.sim.market.bars_1d()["symbol"].to_pylist() if not s.endswith(".BJ")})[:SYMBOLS]

    @property
    def state(self) -> Path:
        return self.folder / "state"

    def write_tables(self) -> None:
        """The shipped ones, with the fills in MySQL, so that what clients deliver is owed by every database."""
        document = yaml.safe_load((ROOT / "config" / "tables.yaml").read_text())
        for table in document["tables"]:
            if table.get("dataset") == "fill":
                table["database_type"] = "MySQL"
                table["indexes"] = []
        (self.folder / "config").mkdir(parents=True, exist_ok=True)
        text = yaml.safe_dump(document, allow_unicode=True, sort_keys=False)
        (self.folder / "config" / "tables.yaml").write_text(text, encoding="utf-8")
        (self.folder / "config" / "symbols.txt").write_text("\n".join(self.symbols) + "\n")

    def jobs(self, *lines: str) -> None:
        """What jobs.yaml holds from now on; never half of it."""
        path = self.folder / "config" / "jobs.yaml"
        path.with_suffix(".new").write_text("jobs:\n" + "".join(f"  - {line}\n" for line in lines), encoding="utf-8")
        path.with_suffix(".new").rename(path)

    async def set_clock(self, clock: str) -> None:
        """That time of the simulated market's last day, for the vendors and the service alike."""
        moment = datetime.fromisoformat(f"{self.sim.market.last_day}T{clock}").replace(tzinfo=ZONE)
        at = await self.sim.clock(moment, self.speed)
        self.write_clock(at, time.monotonic())

    def write_clock(self, moment: datetime, monotonic: float) -> None:
        path = self.folder / "time.json"
        told = {"moment": moment.isoformat(), "monotonic": monotonic, "speed": self.speed}
        path.with_suffix(".new").write_text(json.dumps(told))
        path.with_suffix(".new").rename(path)

    def step_clock(self, length: timedelta) -> None:
        """The service's clock is set, the exchange's is not."""
        told = json.loads((self.folder / "time.json").read_text())
        self.write_clock(datetime.fromisoformat(told["moment"]) + length, told["monotonic"])

    @property
    def stores(self) -> dict[str, str]:
        """The environment that says where the databases are."""
        port = {name: str(wire.port) for name, wire in self.wires.items()}
        postgresql, mysql = self.servers["postgresql"], self.servers["mysql"]
        assert isinstance(postgresql, PostgreSQL)
        assert isinstance(mysql, MariaDB)
        return {
            "MYSTOCKS_STORES": ",".join(STORES),
            "TDENGINE_HOST": self.host, "TDENGINE_PORT": port["tdengine"], "TDENGINE_POOL_SIZE": "1",
            "POSTGRESQL_HOST": self.host, "POSTGRESQL_PORT": port["postgresql"],
            "POSTGRESQL_USER": postgresql.user, "POSTGRESQL_PASSWORD": postgresql.password,
            "POSTGRESQL_DATABASE": postgresql.database,
            "POSTGRESQL_TIMESCALE": "require" if postgresql.timescale else "off",
            "REDIS_HOST": self.host, "REDIS_PORT": port["redis"], "REDIS_PASSWORD": PASSWORD,
            "MYSQL_HOST": self.host, "MYSQL_PORT": port["mysql"], "MYSQL_USER": mysql.user,
            "MYSQL_PASSWORD": mysql.password,
        }  # fmt: skip

    @property
    def environment(self) -> dict[str, str]:
        port = {name: wire.port for name, wire in self.wires.items()}
        own = {"PYTHONPATH": str(ROOT)} if self.unguarded else {}
        return {
            **os.environ,
            **own,
            **self.sim.environment,
            **self.stores,
            "TUSHARE_ENDPOINT": f"http://{self.host}:{port['tushare']}",
            "AKSHARE_ENDPOINT": f"http://{self.host}:{port['akshare']}",
            "BAOSTOCK_ENDPOINT": f"{self.host}:{port['baostock']}",
            "TUSHARE_POINTS": "15000",
            "MYSTOCKS_PACING": "none",
            "MYSTOCKS_CALL_DEADLINE": CALL_SECONDS,
            "MYSTOCKS_STATE_DIR": str(self.state),
            "MYSTOCKS_CONFIG_DIR": str(self.folder / "config"),
            "MYSTOCKS_LOG_LEVEL": "info",
            "MYSTOCKS_HTTP_PORT": "0",
            "MYSTOCKS_HTTP_TOKENS": hashlib.sha256(TOKEN.encode()).hexdigest(),
            "OUTAGE_LEDGER": str(self.folder / "ledger"),
        }

    async def start(self) -> None:
        """The service, ready."""
        (self.folder / "ledger").touch()
        with (self.folder / "log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *self.prefix, sys.executable, str(HASTENED), str(self.folder / "time.json"), "run", "--json",
                cwd=self.folder, env=self.environment, stdout=asyncio.subprocess.PIPE, stderr=log,
            )  # fmt: skip
        assert self.process.stdout is not None
        line = await asyncio.wait_for(self.process.stdout.readline(), READY_SECONDS)
        assert line, self.log[-3000:]
        self.address = json.loads(line)["http"]

    async def kill(self) -> None:
        """At once; what it wrote is on disk or was not acknowledged."""
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.returncode is None

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(encoding="utf-8", errors="replace")

    async def look(self) -> Look:
        """What monitoring sees."""
        code, text = await asyncio.to_thread(asked, f"{self.address}/health/ready")
        try:
            body = json.loads(text)
            parts = {f"{p['name']}": p for p in body["parts"]}
        except (ValueError, KeyError):
            return Look(code or 999)
        bad = {n: p["state"] for n, p in parts.items() if p["state"] != "fresh" and n not in UNASKED}
        reasons = {n: parts[n]["reason"] for n in bad}
        waiting = int(parts["spool"]["figures"]["waiting_rows"])
        return Look(code, "fresh" if not bad else body["state"], bad, reasons, waiting, "quote" in parts)

    async def settled(self, seconds: float, *, spoilt: bool = False) -> Look:
        """Wait until all is well and nothing waits; the last look either way. ``spoilt``: but for what the spool says."""
        ends = time.monotonic() + seconds
        while True:
            if self.feeding is not None and self.feeding.done():
                await self.feeding  # a client met what it may not meet
            seen = await self.look()
            well = not seen.bad or (spoilt and set(seen.bad) == {"spool"})
            if well and seen.live and seen.code == 200 and not seen.waiting_rows and not self.feeder.under_way:
                return seen
            if time.monotonic() > ends or not self.running:
                return seen
            await asyncio.sleep(0.1)

    async def balance(self) -> Balance:
        """Everything that is owed, against what the databases hold; read by sinks of our own, past the wires."""
        history, newest = ledger(self.folder / "ledger")
        found = Balance()
        for store in STORES:
            for name, rows in (await self._stored(store, TABLES)).items():
                dataset, latest = name.removesuffix("_latest"), name.endswith("_latest")
                due = self.feeder.owed.get(dataset, newest if latest else history)
                found += balance(f"{store} {name}", due, rows, dataset, latest=latest)
        return found

    async def bars(self) -> pa.Table:
        """The daily bars that are stored."""
        return (await self._stored("postgresql", ("bar_1d",)))["bar_1d"]

    async def _stored(self, store: str, names: Collection[str]) -> dict[str, pa.Table]:
        with self._direct():
            settings = load()
        desired = tables.load(self.folder / "config" / "tables.yaml").placed(STORES)
        here = [t for t in desired.all if t.database_type.store == store and t.name in names]
        async with sinks.opened_sink(store, settings, here, now=lambda: datetime.now(UTC)) as sink:
            return {t.name: await sink.read(t, Query()) for t in here}

    @contextmanager
    def _direct(self) -> Iterator[None]:
        """This process' environment knows the servers themselves."""
        own = {k: v for k, v in self.stores.items() if not k.endswith(("_HOST", "_PORT"))}
        own |= {f"{name.upper()}_PORT": str(server.port) for name, server in self.servers.items()}
        own |= {f"{name.upper()}_HOST": "127.0.0.1" for name in self.servers}
        with patch.dict(os.environ, own):
            yield


@asynccontextmanager
async def staged(
    folder: Path, sim: Sim, held: Mapping[str, PrivateServer], *, speed: float, clock: str = "09:31:00"
) -> AsyncIterator[Stage]:
    """A stage around running servers; the service is the caller's to start. Everything it made ends on leaving."""
    async with AsyncExitStack() as stack:
        stage = Stage(folder, sim, held, speed)
        for name, server in held.items():
            stage.wires[name] = stack.enter_context(Proxy(server.host, server.port))
        for vendor in VENDORS:
            port = int(sim.environment[f"{vendor.upper()}_ENDPOINT"].rpartition(":")[2])
            stage.wires[vendor] = stack.enter_context(Proxy("127.0.0.1", port))
        stage.write_tables()
        await stage.set_clock(clock)
        stage.feeding = asyncio.create_task(stage.feeder.run(), name="feeder")
        try:
            yield stage
        finally:
            stage.feeding.cancel()
            await asyncio.gather(stage.feeding, return_exceptions=True)
            await stage.kill()
