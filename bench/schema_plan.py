"""The schema manager's looks: 300 tables over four servers and, apart, in the embedded store. Nothing is a peer's.

A plan includes reading the file and opening every store, as the command does; a start-up check is what a service adds
to its start once its pools are warm.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from bench.measure import Measurement
from mystocks_ingest import service
from mystocks_ingest.flow.migrate import SchemaManager, Startup
from mystocks_ingest.schema.tables import Database, Table, load
from mystocks_ingest.schema.writing import written
from mystocks_ingest.settings import Settings

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from servers.mariadb import MariaDB
from servers.postgresql import PostgreSQL
from servers.redis import PASSWORD, Redis
from servers.tdengine import TaosServer

ROOT = Path(__file__).parents[1]
TABLES = 300


def many() -> list[Table]:
    """The shipped tables again and again under other names; key spaces of Redis cannot be shared, so those stay four."""
    shipped = load(ROOT / "config" / "tables.yaml").all
    out = list(shipped)
    for number in range(TABLES):
        out += [_copy(t, number) for t in shipped if t.database_type is not Database.REDIS]
    return out[:TABLES]


def _copy(table: Table, number: int) -> Table:
    indexes = tuple(replace(index, name=f"{index.name}_{number}") for index in table.indexes)
    columns = table.columns
    if table.database_type is Database.TDENGINE:  # which refuses no NULL, and takes the wish only for a dataset's sake
        columns = tuple(replace(c, nullable=c.nullable or c.name not in table.key) for c in columns)
    return replace(table, name=f"{table.name}_{number}", dataset=None, indexes=indexes, columns=columns)


def run() -> Iterator[Measurement]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "tables.yaml"
        file.write_text(written(many()), encoding="utf-8")
        yield from asyncio.run(_looks("embedded", _settings(folder), file))
        with PostgreSQL({"fsync": "off"}) as postgresql, MariaDB() as mariadb, Redis() as redis, TaosServer() as taos:
            postgresql.psql(f"ALTER ROLE {postgresql.user} CREATEDB")
            found = _settings(
                folder,
                MYSTOCKS_STORES="postgresql,mysql,redis,tdengine",
                POSTGRESQL_PORT=postgresql.port,
                POSTGRESQL_USER=postgresql.user,
                POSTGRESQL_PASSWORD=postgresql.password,
                POSTGRESQL_TIMESCALE="off",
                MYSQL_PORT=mariadb.port,
                MYSQL_USER=mariadb.user,
                MYSQL_PASSWORD=mariadb.password,
                REDIS_PORT=redis.port,
                REDIS_PASSWORD=PASSWORD,
                TDENGINE_PORT=taos.port,
            )
            yield from asyncio.run(_looks("four servers", found, file))


def _settings(folder: str, **given: object) -> Settings:
    return Settings(_env_file=None, MYSTOCKS_STATE_DIR=folder, **given)


def _now() -> datetime:
    return datetime.now(UTC)


async def _looks(where: str, settings: Settings, file: Path) -> list[Measurement]:
    began = time.perf_counter()
    async with service.managed(settings, now=_now, file=file, recorded=False) as manager:
        first = await manager.plan()
        planning = time.perf_counter() - began
        made = {t for t in manager.tables.all if t.database_type is not Database.REDIS}  # where nothing is made
        assert {s.table for s in first} == made, "not every table is missing"
        began = time.perf_counter()
        results = await manager.apply()
        applying = time.perf_counter() - began
        assert all(results), next(str(r) for r in results if not r)
    began = time.perf_counter()
    async with service.managed(settings, now=_now, file=file, recorded=False) as manager:
        assert await manager.plan() == [], "the plan is not empty after apply"
        again = time.perf_counter() - began
        checks = [await _check(manager) for _ in range(3)]
    return [
        Measurement(f"plan, {TABLES} tables missing, {where}", planning, "s", 3, at_most=True),
        Measurement(f"apply of {TABLES} tables, {where}", applying, "s"),
        Measurement(f"plan, {TABLES} tables as described, {where}", again, "s", 3, at_most=True),
        Measurement(f"start-up check of {TABLES} tables, warm, {where}", min(checks), "s", 1, at_most=True),
    ]


async def _check(manager: SchemaManager) -> float:
    homes: dict[str, Sequence[Table]] = {}
    for table in manager.tables.all:
        homes[table.database_type.store] = [*homes.get(table.database_type.store, ()), table]
    startup = Startup(now=_now)
    began = time.perf_counter()
    for these in homes.values():
        await startup(manager.target(these[0]), these)
    assert not startup.blocked
    return time.perf_counter() - began
