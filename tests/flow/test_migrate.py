"""The schema manager and the start-up, on the embedded store and with the real monitor log."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mystocks_ingest.errors import ConfigError, UnsafeChange
from mystocks_ingest.flow.migrate import SchemaManager, Startup, Step, ensured, made, planned
from mystocks_ingest.flow.migrate.steps import operation
from mystocks_ingest.monitor.embedded_log import EmbeddedLog
from mystocks_ingest.monitor.log import MonitorLog
from mystocks_ingest.monitor.spool import Spool
from mystocks_ingest.ports import Doing, Status
from mystocks_ingest.schema.changes import DropTable
from mystocks_ingest.schema.tables import Column, Database, Index, Moment, Table, Tables
from mystocks_ingest.sinks.embedded import EmbeddedDatabase, EmbeddedTarget

NOW = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)
PRICES = Table(
    "prices",
    Database.EMBEDDED,
    "quant",
    (
        Column("symbol", "VARCHAR", 20, nullable=False),
        Column("day", "DATE", nullable=False),
        Column("close", "DOUBLE", comment="收盘价"),
        Column("note", "VARCHAR", 20, default="x"),
        Column("at", "TIMESTAMPTZ", default=Moment.NOW),
    ),
    ("symbol", "day"),
    comment="日线",
    indexes=(Index("ix_day", ("day",)),),
)
NAMES = Table(
    "names",
    Database.EMBEDDED,
    "quant",
    (Column("symbol", "VARCHAR", 20, nullable=False), Column("name", "VARCHAR")),
    ("symbol",),
)


@dataclass
class Bench:
    """An open store with its log."""

    database: EmbeddedDatabase
    target: EmbeddedTarget
    log: MonitorLog

    def manager(self, *tables: Table) -> SchemaManager:
        return SchemaManager({"embedded": self.target}, Tables(tables), log_of=self.log, now=lambda: NOW)

    async def run(self, statement: str) -> list[tuple[object, ...]]:
        return await self.database.run(lambda c: c.execute(statement).fetchall())


Opened = Callable[[], "asynccontextmanager[Bench]"]


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Bench]:
    async with (
        EmbeddedDatabase(folder) as database,
        MonitorLog(Spool(folder / "monitor.sqlite"), EmbeddedLog(database), now=lambda: NOW) as log,
    ):
        yield Bench(database, EmbeddedTarget(database), log)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with opened(tmp_path) as found:
        yield found


async def test_after_apply_the_plan_is_empty_and_the_log_has_each_table_once(bench: Bench) -> None:
    manager = bench.manager(PRICES, NAMES)
    assert [s.change.verb for s in await manager.plan()] == ["create", "create"]
    results = await manager.apply()
    assert all(results)
    assert [len(r.made) for r in results] == [1, 1]
    assert await manager.plan() == []
    assert all(await manager.apply())
    story = await manager.history()
    assert sorted((r.operation.table, r.operation.kind, r.status) for r in story) == [
        ("names", Doing.CREATE, Status.SUCCESS),
        ("prices", Doing.CREATE, Status.SUCCESS),
    ]
    assert all("CREATE TABLE" in r.operation.ddl for r in story)


async def test_a_hand_made_alter_is_found_in_words_and_recorded(bench: Bench) -> None:
    manager = bench.manager(PRICES, NAMES)
    await manager.apply()
    await bench.run("ALTER TABLE prices ADD COLUMN hand INTEGER")
    await bench.run("ALTER TABLE prices DROP COLUMN note")
    await bench.run("ALTER TABLE prices ALTER COLUMN close SET DEFAULT 1.0")
    (prices, names) = await manager.validate()
    assert [str(i) for i in prices.issues] == [
        "different: column close: default is 1.0, the file says none",
        "missing: column note VARCHAR default 'x'",
        "extra: column hand INTEGER",
    ]
    assert names.passed
    assert await bench.log.settled(5)
    kept = await bench.run("SELECT table_name, validation_status, issues_found FROM db_monitor.table_validation_log")
    assert min(kept) == ("names", "pass", None)
    assert "extra: column hand INTEGER" in str(sorted(kept)[1][2])


async def test_what_may_lose_data_is_made_only_by_name(bench: Bench) -> None:
    manager = bench.manager(PRICES)
    await manager.apply()
    await bench.run("INSERT INTO prices(symbol, day, close) VALUES ('a', '2024-01-01', 1.5)")
    narrow = replace(PRICES, columns=(*PRICES.columns[:2], replace(PRICES.columns[2], type="INT"), *PRICES.columns[4:]))
    manager = bench.manager(narrow)
    (result,) = await manager.apply()
    assert not result
    assert [(s.change.verb, bool(s.hazard)) for s in result.left] == [("change", True), ("drop", True)]
    assert str(result) == "left: column close: type DOUBLE -> INTEGER: not every DOUBLE fits into INTEGER"
    assert await bench.run("SELECT close, note FROM prices") == [(1.5, "x")]
    (result,) = await manager.apply(allow_unsafe=["prices.note"])
    assert [s.change.words for s in result.made] == ["column note VARCHAR default 'x'"]
    assert [s.change.verb for s in result.left] == ["change"]
    losses = await manager.losses(result.left)
    assert [(x.rows, x.step.change.verb) for x in losses] == [(1, "change")]
    assert (await manager.apply(allow_unsafe=["Embedded.quant.PRICES"]))[0]
    assert await bench.run("SELECT close FROM prices") == [(2,)]
    assert await manager.plan() == []
    with pytest.raises(ConfigError, match=r"no unsafe change is named prices\.gone"):
        await manager.apply(allow_unsafe=["prices.gone"])


async def test_a_table_that_fails_leaves_a_plan_that_continues_and_the_others_are_made(bench: Bench) -> None:
    await bench.manager(PRICES).apply()
    await bench.run("INSERT INTO prices(symbol, day, note) VALUES ('a', '2024-01-01', NULL)")
    strict = tuple(replace(c, nullable=False) if c.name == "note" else c for c in PRICES.columns)
    more = replace(PRICES, columns=(*strict, Column("extra", "INT"), Column("late", "INT")))
    manager = bench.manager(more, NAMES)
    (prices, names) = await manager.apply(allow_unsafe=["prices.note"])
    assert names
    assert not prices
    assert prices.error is not None
    assert "note" in str(prices.error)
    failed = await bench.log.operations(status=Status.FAILED)
    assert [(r.operation.table, r.operation.kind) for r in failed] == [("prices", Doing.ALTER)]
    await bench.run("UPDATE prices SET note = 'y'")
    assert all(await manager.apply(allow_unsafe=["prices.note"]))
    assert await manager.plan() == []


async def test_what_another_process_left_unfinished_is_closed_in_the_log(bench: Bench) -> None:
    manager = bench.manager(PRICES, NAMES)
    await manager.apply()
    wide = replace(PRICES, columns=(*PRICES.columns, Column("a", "INT"), Column("b", "INT")))
    steps = await planned(bench.target, [wide])
    for step in steps:  # as a process that is killed before it tells how its operations ended
        await bench.log.began(operation(step, bench.target.dialect.ddl(step.change), at=NOW))
    await made(bench.target, steps[:1])
    bench.log._under_way.clear()
    assert all(await bench.manager(wide, NAMES).apply())
    assert await bench.log.operations(status=Status.PROCESSING) == []
    told = {(r.operation.details["part"], r.status, r.error.partition(":")[0]) for r in await bench.log.operations()}
    assert ("a", Status.SUCCESS, "interrupted, and found made afterwards") in told
    assert ("b", Status.FAILED, "interrupted before it was made whole") in told
    assert ("b", Status.SUCCESS, "") in told


@pytest.mark.parametrize("gone", [True, False])
async def test_a_drop_that_was_interrupted_is_told_by_what_is_there(bench: Bench, *, gone: bool) -> None:
    manager = bench.manager(PRICES)
    await manager.apply()
    step = Step(DropTable(bench.target.dialect.shape(PRICES)), "", PRICES)
    await bench.log.began(operation(step, ("DROP TABLE prices",), at=NOW))
    bench.log._under_way.clear()
    if gone:
        await made(bench.target, [step])
    assert (await start(bench, PRICES)).blocked == {}
    (told,) = [r for r in await bench.log.operations() if r.operation.kind is Doing.DROP]
    assert told.status is (Status.SUCCESS if gone else Status.FAILED)


async def test_what_concerns_a_table_of_another_file_is_left_to_whoever_has_it(bench: Bench) -> None:
    (step,) = await planned(bench.target, [PRICES])
    await bench.log.began(operation(step, (), at=NOW))
    bench.log._under_way.clear()
    await bench.manager(NAMES).apply()
    (left,) = await bench.log.operations(status=Status.PROCESSING)
    assert left.operation.table == "prices"


async def test_dropping_says_how_many_rows_went_and_an_absent_table_is_said_so(bench: Bench) -> None:
    manager = bench.manager(PRICES)
    await manager.apply()
    await bench.run("INSERT INTO prices(symbol, day) SELECT i::VARCHAR, '2024-01-01' FROM range(7) r(i)")
    assert await manager.count(PRICES) == 7
    assert await manager.drop_table(PRICES) == 7
    assert await manager.count(PRICES) is None
    with pytest.raises(ConfigError, match=r"there is no table Embedded\.quant\.prices"):
        await manager.drop_table(PRICES)
    assert [r.operation.kind for r in await manager.history()][:1] == [Doing.DROP]


async def test_a_table_is_created_only_where_there_is_none(bench: Bench) -> None:
    manager = bench.manager(PRICES)
    assert await manager.create_table(PRICES)
    assert await manager.create_table(PRICES)
    wide = replace(PRICES, columns=(*PRICES.columns, Column("more", "INT")))
    result = await manager.create_table(wide)
    assert not result
    assert "use alter_table" in str(result)
    assert await manager.alter_table(wide)
    assert (await manager.validate_table_structure(wide)).passed


async def test_a_file_gives_a_result_for_each_table(bench: Bench, tmp_path: Path) -> None:
    file = tmp_path / "tables.yaml"
    file.write_text(
        """
tables:
  - database_type: MySQL
    database_name: quant
    table_name: prices
    columns:
      - {name: symbol, type: VARCHAR, length: 20, primary_key: true}
      - {name: close, type: DOUBLE, default: 0}
  - database_type: PostgreSQL
    database_name: quant
    table_name: names
    columns:
      - {name: symbol, type: VARCHAR, length: 20, primary_key: true}
""",
        encoding="utf-8",
    )
    manager = bench.manager()
    results = await manager.batch_create_tables(str(file))
    assert {name: bool(r) for name, r in results.items()} == {
        "Embedded.quant.prices": True,
        "Embedded.quant.names": True,
    }
    await bench.run("ALTER TABLE prices ALTER COLUMN close TYPE VARCHAR")
    results = await manager.batch_create_tables(file)
    assert [bool(r) for r in results.values()] == [False, True]


async def test_a_store_that_is_not_in_use_is_one_sentence(bench: Bench) -> None:
    foreign = replace(PRICES, database_type=Database.REDIS, where="tables.yaml:3:5")
    with pytest.raises(
        ConfigError, match=r"tables.yaml:3:5: the store redis is not in use: name it in MYSTOCKS_STORES"
    ):
        await bench.manager(foreign).plan()


async def test_two_applies_at_once_make_each_table_once(bench: Bench) -> None:
    managers = [bench.manager(PRICES, NAMES) for _ in range(4)]
    every = await asyncio.gather(*(m.apply() for m in managers))
    assert all(all(results) for results in every)
    story = await bench.log.operations(status=Status.SUCCESS)
    assert sorted(r.operation.table for r in story) == ["names", "prices"]


async def test_the_export_is_the_shape_of_what_is_there(bench: Bench) -> None:
    manager = bench.manager(PRICES, NAMES)
    await manager.apply()
    found = await manager.export()
    dialect = bench.target.dialect
    assert {dialect.shape(t) for t in found} == {dialect.shape(t) for t in (PRICES, NAMES)}


# start-up ---------------------------------------------------------------------------------------------------------


def wider(*columns: Column) -> Table:
    return replace(PRICES, columns=(*PRICES.columns, *columns), where="tables.yaml:7:5")


async def start(bench: Bench, *tables: Table, apply: bool = True) -> Startup:
    startup = Startup(apply=apply, log_of=bench.log, now=lambda: NOW)
    await startup(bench.target, tables)
    return startup


async def test_a_start_makes_what_is_missing_and_tells_the_log(bench: Bench) -> None:
    assert (await start(bench, PRICES, NAMES)).blocked == {}
    assert await planned(bench.target, [PRICES, NAMES]) == []
    assert len(await bench.log.operations(status=Status.SUCCESS)) == 2


async def test_unsafe_drift_blocks_its_table_and_no_other(bench: Bench) -> None:
    await start(bench, PRICES, NAMES)
    await bench.run("ALTER TABLE prices ALTER COLUMN close TYPE VARCHAR")
    wide = wider(Column("more", "INT"))
    startup = await start(bench, wide, replace(NAMES, comment="名称"))
    assert list(startup.blocked) == [wide]
    reason = startup.blocked[wide]
    assert str(reason) == (
        "tables.yaml:7:5: column close: type VARCHAR -> DOUBLE: not every VARCHAR fits into DOUBLE (`schema plan` shows "
        "the difference; `schema apply --allow-unsafe` makes it)"
    )
    assert reason.readable
    left = await planned(bench.target, [wide, replace(NAMES, comment="名称")])
    assert [s.change.words for s in left] == ["column close: type VARCHAR -> DOUBLE"]  # what was safe is made


async def test_a_start_that_only_reports_changes_nothing_and_blocks_what_lacks_a_column(bench: Bench) -> None:
    await start(bench, PRICES)
    wide = wider(Column("more", "INT"))
    commented = replace(NAMES, comment="名称")
    startup = await start(bench, wide, NAMES, apply=False)
    assert set(startup.blocked) == {wide, NAMES}
    assert not startup.blocked[NAMES].readable
    assert "column more INTEGER: not made yet (`schema apply` makes it)" in str(startup.blocked[wide])
    await start(bench, NAMES)
    assert (await start(bench, commented, apply=False)).blocked == {}
    assert [s.change.verb for s in await planned(bench.target, [commented])] == ["comment"]


async def test_a_column_of_somebody_s_own_is_no_harm_unless_each_row_would_have_to_fill_it(bench: Bench) -> None:
    await start(bench, PRICES)
    await bench.run("ALTER TABLE prices ADD COLUMN own INTEGER")
    assert (await start(bench, PRICES)).blocked == {}
    await bench.run("ALTER TABLE prices ALTER COLUMN own SET NOT NULL")
    assert list((await start(bench, PRICES)).blocked) == [PRICES]


async def test_a_change_that_fails_blocks_its_table_only(bench: Bench) -> None:
    await bench.run("CREATE TABLE prices AS SELECT * FROM (VALUES ('a', DATE '2024-01-01')) v(symbol, day), range(2)")
    startup = await start(bench, replace(PRICES, columns=PRICES.columns[:2]), NAMES)
    (reason,) = startup.blocked.values()
    assert "symbol" in str(reason) or "key" in str(reason)
    assert await planned(bench.target, [NAMES]) == []


async def test_a_sink_opened_alone_refuses_unsafe_drift(bench: Bench) -> None:
    await ensured(bench.target, [PRICES])
    await bench.run("ALTER TABLE prices ALTER COLUMN close TYPE VARCHAR")
    with pytest.raises(UnsafeChange, match="not every VARCHAR fits into DOUBLE"):
        await ensured(bench.target, [PRICES])
