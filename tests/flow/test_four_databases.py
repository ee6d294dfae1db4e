"""The same backfill into one embedded store and into four databases gives the same rows."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from io import BytesIO
from pathlib import Path

import pyarrow as pa
import pytest
from market_day import Stage, staged
from pyarrow import csv
from servers.mariadb import MariaDB
from servers.postgresql import PostgreSQL
from servers.redis import PASSWORD, Redis
from servers.tdengine import TaosServer

from mystocks_ingest import service
from mystocks_ingest.flow.report import Job, Silence
from mystocks_ingest.flow.stores import read_everywhere
from mystocks_ingest.market.datasets import dataset
from mystocks_ingest.market.frames import Symbol, Window
from mystocks_ingest.ports import Query
from mystocks_ingest.settings import Settings
from mystocks_ingest.sim.server import SimConfig, running

ROOT = Path(__file__).parents[2]

DATASETS = ("instrument", "calendar", "bar_1d", "adj_factor")
MINUTES = "bar_5m"


@pytest.fixture
def taos() -> Iterator[TaosServer]:
    with TaosServer() as server:
        yield server


async def everything(stage: Stage) -> dict[str, pa.Table]:
    """Every dataset as stored, without the moment of fetching."""
    async with stage.service() as opened:
        found = {}
        for name in (*DATASETS, MINUTES, "suspension"):
            rows = await read_everywhere(dataset(name), Query(), tables=opened.tables, sink=opened.sink)
            found[name] = rows.drop_columns(["fetched_at"]).sort_by([(k, "ascending") for k in dataset(name).key])
        return found


async def fill(stage: Stage) -> None:
    daily = await stage.backfill(stage.job(*DATASETS, source="tushare"))
    assert daily.status == "complete", daily.missing
    days = Window(stage.window.end - timedelta(days=3), stage.window.end)
    five = await stage.backfill(stage.job(MINUTES, window=days, source="tushare"))
    assert five.status == "complete", five.missing


@pytest.fixture
def servers(
    postgresql_server: PostgreSQL, mariadb_server: MariaDB, redis_server: Redis, taos: TaosServer
) -> dict[str, object]:
    """Settings that place each table in the database made for it; the databases are this test's own."""
    own = f"four_{time.monotonic_ns()}"
    redis_server.cli("FLUSHALL")  # it serves other tests, too
    postgresql_server.psql(f"CREATE DATABASE {own} OWNER {postgresql_server.user}", database="postgres")
    if postgresql_server.timescale:
        postgresql_server.psql("CREATE EXTENSION timescaledb", database=own)
    return {
        "MYSTOCKS_STORES": "postgresql,mysql,redis,tdengine",
        "POSTGRESQL_PORT": postgresql_server.port,
        "POSTGRESQL_USER": postgresql_server.user,
        "POSTGRESQL_PASSWORD": postgresql_server.password,
        "POSTGRESQL_DATABASE": own,
        "POSTGRESQL_TIMESCALE": "require" if postgresql_server.timescale else "off",
        "MYSQL_PORT": mariadb_server.port,
        "MYSQL_USER": mariadb_server.user,
        "MYSQL_PASSWORD": mariadb_server.password,
        "MYSQL_DATABASE": own,
        "REDIS_PORT": redis_server.port,
        "REDIS_PASSWORD": PASSWORD,
        "TDENGINE_PORT": taos.port,
    }


def as_given(settings: Settings) -> dict[str, object]:
    return {str(i.alias or n): getattr(settings, n) for n, i in Settings.model_fields.items()}


async def test_four_databases_hold_what_the_embedded_store_holds(tmp_path: Path, servers: dict[str, object]) -> None:
    async with staged(tmp_path / "embedded", sessions=20) as stage:
        await fill(stage)
        wanted = await everything(stage)
        four = Settings(**as_given(stage.settings) | {"MYSTOCKS_STATE_DIR": tmp_path / "servers"} | servers)
        spread = replace(stage, settings=four)
        await fill(spread)
        got = await everything(spread)
        for name, rows in wanted.items():
            assert rows.num_rows > 0, name
            assert got[name].cast(rows.schema).equals(rows), name
        again = await spread.backfill(spread.job(*DATASETS, source="tushare"))
        assert (again.status, again.requests) == ("complete", 0)


NOW = datetime(2026, 11, 20, 14, tzinfo=UTC)
STOCKS = (Symbol("000001.SZ"), Symbol("000002.SZ"), Symbol("600519.SH"))
REAL = (
    Job((*DATASETS,), Window(date(2020, 1, 1), date(2022, 7, 1)), STOCKS, source="tushare"),
    Job(("bar_1d",), Window(date(2000, 1, 1), date(2023, 3, 17)), STOCKS[:1], source="baostock"),
    Job(("bar_1d",), Window(date(2025, 2, 5), date(2025, 2, 6)), source="tushare"),  # the whole market's day
    Job((MINUTES,), Window(date(2025, 11, 11), date(2025, 11, 18)), (Symbol("600000.SH"),), source="baostock"),
)


@dataclass(frozen=True)
class Content:
    """A table's rows, and a checksum over them: canonical columns in key order, but for the moment of fetching."""

    rows: int
    checksum: str


async def contents(settings: Settings) -> dict[str, Content]:
    """Run the real-data backfills and look at every table that one of them filled."""
    began = time.monotonic()
    async with service.opened(settings, now=lambda: NOW + timedelta(seconds=time.monotonic() - began)) as opened:
        for job in REAL:
            report = await opened.backfill(job, Silence())
            assert not report.stopped
        found = {}
        for table in opened.tables.all:
            if table.dataset is None or not table.key:
                continue
            rows = await opened.sink.read(table, Query())
            if rows.num_rows:
                names = [n for n in table.dataset.schema.names if n != "fetched_at"]
                canonical = rows.select(names).cast(pa.schema([table.dataset.schema.field(n) for n in names]))
                canonical = canonical.sort_by([(k, "ascending") for k in table.dataset.key])
                found[table.name] = Content(rows.num_rows, checksum(canonical))
        return found


def checksum(rows: pa.Table) -> str:
    """Of the values: NULL and every number to its last bit."""
    sink = BytesIO()
    csv.write_csv(rows, sink)
    return sha256(sink.getvalue()).hexdigest()[:16]


@pytest.mark.timeout(600)
async def test_real_data_in_four_databases_have_the_rows_and_checksums_of_the_embedded_store(
    tmp_path: Path, shared_data: Path, servers: dict[str, object]
) -> None:
    async with running(SimConfig(recorded=shared_data)) as sim:
        embedded = Settings(
            MYSTOCKS_STATE_DIR=tmp_path / "embedded", MYSTOCKS_CONFIG_DIR=ROOT / "config", TUSHARE_POINTS=5000,
            MYSTOCKS_PACING="none", **sim.environment,
        )  # fmt: skip
        wanted = await contents(embedded)
        four = Settings(**as_given(embedded) | {"MYSTOCKS_STATE_DIR": tmp_path / "servers"} | servers)
        got = await contents(four)
    for name, content in wanted.items():
        print(f"{name:12} {content.rows:>8,} rows  {content.checksum}  {got[name].checksum}")  # noqa: T201 - shown by -s
    assert got == wanted
    assert wanted["bar_1d"].rows > 12_000
    assert {"instrument", "calendar", "suspension", "bar_1d", "adj_factor", MINUTES} <= set(wanted)
