"""The same backfill into one embedded store and into four databases gives the same rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from market_day import Stage, staged
from servers.mariadb import MariaDB
from servers.postgresql import PostgreSQL
from servers.redis import PASSWORD, Redis
from servers.tdengine import TaosServer

from mystocks_ingest.flow.stores import read_everywhere
from mystocks_ingest.market.datasets import dataset
from mystocks_ingest.market.frames import Window
from mystocks_ingest.ports import Query
from mystocks_ingest.settings import Settings

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


async def test_four_databases_hold_what_the_embedded_store_holds(
    tmp_path: Path, postgresql_server: PostgreSQL, mariadb_server: MariaDB, redis_server: Redis, taos: TaosServer
) -> None:
    async with staged(tmp_path / "embedded", sessions=20) as stage:
        await fill(stage)
        wanted = await everything(stage)
        servers = Settings(
            **{str(i.alias or n): getattr(stage.settings, n) for n, i in Settings.model_fields.items()}
            | {
                "MYSTOCKS_STATE_DIR": tmp_path / "servers",
                "MYSTOCKS_STORES": "postgresql,mysql,redis,tdengine",
                "POSTGRESQL_PORT": postgresql_server.port,
                "POSTGRESQL_USER": postgresql_server.user,
                "POSTGRESQL_PASSWORD": postgresql_server.password,
                "POSTGRESQL_DATABASE": postgresql_server.database,
                "POSTGRESQL_TIMESCALE": "off",
                "MYSQL_PORT": mariadb_server.port,
                "MYSQL_USER": mariadb_server.user,
                "MYSQL_PASSWORD": mariadb_server.password,
                "REDIS_PORT": redis_server.port,
                "REDIS_PASSWORD": PASSWORD,
                "TDENGINE_PORT": taos.port,
            }
        )
        spread = replace(stage, settings=servers)
        await fill(spread)
        got = await everything(spread)
        for name, rows in wanted.items():
            assert rows.num_rows > 0, name
            assert got[name].cast(rows.schema).equals(rows), name
        again = await spread.backfill(spread.job(*DATASETS, source="tushare"))
        assert (again.status, again.requests) == ("complete", 0)
