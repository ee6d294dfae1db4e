"""The schema manager over four real servers at once: PostgreSQL, MariaDB, Redis and the TDengine stand-in."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from killed_applies import applying, campaign, described, settings_of, story, words
from servers.mariadb import MariaDB
from servers.postgresql import PostgreSQL
from servers.redis import PASSWORD, Redis
from servers.tdengine import TaosServer

from mystocks_ingest import service
from mystocks_ingest.errors import Drifted
from mystocks_ingest.market.datasets import CALENDAR, DAILY_BASIC
from mystocks_ingest.ports import Query, Status
from mystocks_ingest.schema.writing import written

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def taos() -> Iterator[TaosServer]:
    with TaosServer() as server:
        yield server


@pytest.fixture
def four(
    tmp_path: Path, postgresql_server: PostgreSQL, mariadb_server: MariaDB, redis_server: Redis, taos: TaosServer
) -> dict[str, str]:
    """Settings of four servers, whose databases are made when missing."""
    postgresql_server.psql(f"ALTER ROLE {postgresql_server.user} CREATEDB")
    return {
        "MYSTOCKS_STATE_DIR": str(tmp_path / "state"),
        "MYSTOCKS_CONFIG_DIR": str(ROOT / "config"),
        "MYSTOCKS_STORES": "postgresql,mysql,redis,tdengine",
        "MYSTOCKS_MONITOR_DATABASE": f"log_{uuid.uuid4().hex[:8]}",
        "POSTGRESQL_PORT": str(postgresql_server.port),
        "POSTGRESQL_USER": postgresql_server.user,
        "POSTGRESQL_PASSWORD": postgresql_server.password,
        "POSTGRESQL_TIMESCALE": "off",
        "MYSQL_PORT": str(mariadb_server.port),
        "MYSQL_USER": mariadb_server.user,
        "MYSQL_PASSWORD": mariadb_server.password,
        "REDIS_PORT": str(redis_server.port),
        "REDIS_PASSWORD": PASSWORD,
        "TDENGINE_PORT": str(taos.port),
    }


async def test_apply_then_plan_is_empty_then_export_makes_the_same_elsewhere(
    four: dict[str, str], tmp_path: Path
) -> None:
    here = f"a{uuid.uuid4().hex[:6]}"
    file = described(tmp_path / "here", here)
    settings = settings_of(four)
    async with service.managed(settings, now=lambda: NOW, file=file) as manager:
        assert await manager.plan()
        results = await manager.apply()
        assert [str(r) for r in results if not r] == []
        assert words(await manager.plan()) == []
        assert all(c.passed for c in await manager.validate())
        exported = written(await manager.export())
    assert f"{here}_quant_research" in exported
    copy = tmp_path / "copy.yaml"
    copy.write_text(exported, encoding="utf-8")
    async with service.managed(settings, now=lambda: NOW, file=copy) as manager:
        assert words(await manager.plan()) == []
    there = tmp_path / "there.yaml"
    there.write_text(exported.replace(here, f"b{here}"), encoding="utf-8")
    async with service.managed(settings, now=lambda: NOW, file=there) as manager:
        results = await manager.apply()
        assert [str(r) for r in results if not r] == []
        assert words(await manager.plan()) == []


async def test_an_alter_by_hand_is_found_on_every_server_and_mended_by_name(
    four: dict[str, str], tmp_path: Path
) -> None:
    here = f"c{uuid.uuid4().hex[:6]}"
    file = described(tmp_path / "here", here)
    async with service.managed(settings_of(four), now=lambda: NOW, file=file) as manager:
        assert all(await manager.apply())
        for name, statement in (
            ("daily_basic", "ALTER TABLE {table} ADD COLUMN hand integer"),
            ("instrument", "ALTER TABLE {table} ADD COLUMN hand integer, DROP COLUMN area"),
            ("bar_5m", "ALTER STABLE {table} ADD COLUMN hand INT"),
        ):
            table = manager.named(name)
            target = manager.target(table)
            shape = target.dialect.shape(table)
            full = shape.name if name == "daily_basic" else f"{shape.database}.{shape.name}"
            await target.execute(shape.database, statement.format(table=full))
        found = {c.table.name: [str(i) for i in c.issues] for c in await manager.validate() if not c.passed}
        assert sorted(found) == ["bar_5m", "daily_basic", "instrument"]
        for issues in found.values():
            assert any(i.startswith("extra: column hand int") for i in (x.lower() for x in issues)), issues
        assert any(i.startswith("missing: column area") for i in found["instrument"])
        results = await manager.apply(allow_unsafe=["daily_basic.hand", "instrument.hand", "bar_5m.hand"])
        assert [str(r) for r in results if not r] == []
        assert words(await manager.plan()) == []


# two at once, and killed in the middle --------------------------------------------------------------------------


@pytest.fixture
def two(four: dict[str, str]) -> dict[str, str]:
    """Without the stores whose every start takes a second."""
    return {**four, "MYSTOCKS_STORES": "postgresql,mysql"}


@pytest.mark.timeout(400)
def test_a_kill_amid_an_apply_is_made_good_by_the_next_one(two: dict[str, str], tmp_path: Path) -> None:
    assert campaign(two, tmp_path, [0.1, 0.4]) == 2


@pytest.mark.timeout(400)
def test_a_kill_amid_an_apply_to_the_embedded_store_is_made_good(two: dict[str, str], tmp_path: Path) -> None:
    assert campaign({**two, "MYSTOCKS_STORES": ""}, tmp_path, [0.3]) == 1


async def test_two_programs_that_apply_at_once_make_each_table_once(two: dict[str, str], tmp_path: Path) -> None:
    here = f"e{uuid.uuid4().hex[:6]}"
    file = described(tmp_path / "here", here)
    env = {**two, "MYSTOCKS_MONITOR_DATABASE": f"{here}_log"}
    envs = [{**env, "MYSTOCKS_STATE_DIR": str(tmp_path / f"state{i}")} for i in range(2)]
    children = await asyncio.gather(*(asyncio.to_thread(applying, own, file) for own in envs))
    for child in children:
        out, err = await asyncio.to_thread(child.communicate, timeout=100)
        assert child.returncode == 0, err
        assert out == "done []\n"
    _, told, left = await story(settings_of(envs[0]), file)
    assert left == []
    servers = [t for t in told if t[1] and t[0] != "Embedded"]  # each has an embedded store of its own
    assert {status for _, _, status in servers} == {Status.SUCCESS}
    assert len(servers) == len(set(servers))


# start-up on servers ----------------------------------------------------------------------------------------------


async def test_a_service_opens_on_servers_where_it_may_only_report(four: dict[str, str], tmp_path: Path) -> None:
    described(tmp_path / "config", f"f{uuid.uuid4().hex[:6]}")
    given = {**four, "MYSTOCKS_CONFIG_DIR": str(tmp_path / "config")}
    async with service.opened(settings_of({**given, "MYSTOCKS_SCHEMA": "report"}), now=lambda: NOW) as opened:
        away = {t for t in opened.tables.all if t not in opened.sink.blocked}
        assert {t.database_type.store for t in away} <= {"redis"}  # where nothing has to be made
        assert not any(reason.readable for reason in opened.sink.blocked.values())
    async with service.opened(settings_of(given), now=lambda: NOW) as opened:
        assert opened.sink.blocked == {}


async def test_unsafe_drift_on_servers_stops_those_tables_and_no_other(four: dict[str, str], tmp_path: Path) -> None:
    file = described(tmp_path / "config", f"g{uuid.uuid4().hex[:6]}")
    settings = settings_of({**four, "MYSTOCKS_CONFIG_DIR": str(tmp_path / "config")})
    async with service.managed(settings, now=lambda: NOW, file=file) as manager:
        await manager.apply()
        for name, statement in (
            ("daily_basic", "ALTER TABLE {table} ALTER COLUMN pe TYPE varchar(50)"),
            ("instrument", "ALTER TABLE {table} MODIFY name INT"),
        ):
            table = manager.named(name)
            shape = manager.target(table).dialect.shape(table)
            full = shape.name if name == "daily_basic" else f"{shape.database}.{shape.name}"
            await manager.target(table).execute(shape.database, statement.format(table=full))
    async with service.opened(settings, now=lambda: NOW) as opened:
        stopped = {t.name: str(reason) for t, reason in opened.sink.blocked.items()}
        assert sorted(stopped) == ["daily_basic", "instrument"]
        assert "column pe: type" in stopped["daily_basic"]
        assert "column name: type" in stopped["instrument"]
        with pytest.raises(Drifted, match="column pe: type"):
            await opened.sink.write(opened.tables.holder(DAILY_BASIC), pa.RecordBatch.from_pylist([]))
        assert (await opened.sink.read(opened.tables.holder(CALENDAR), Query())).num_rows == 0
