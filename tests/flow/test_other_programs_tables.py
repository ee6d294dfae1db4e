"""A database where another program has a table of the same name: nothing in it is touched unasked."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mystocks_ingest.flow.migrate import SchemaManager, Startup
from mystocks_ingest.schema.tables import Column, Database, Index, Table, Tables
from mystocks_ingest.sinks.embedded import EmbeddedDatabase, EmbeddedTarget

NOW = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)
OURS = Table(
    "order",
    Database.EMBEDDED,
    "quant",
    (
        Column("account", "VARCHAR", 20, nullable=False),
        Column("order_id", "VARCHAR", 40, nullable=False),
        Column("symbol", "VARCHAR", 20),
        Column("price", "DOUBLE"),
    ),
    ("account", "order_id"),
    comment="委托",
    indexes=(Index("ix_symbol", ("symbol",)),),
)
THEIRS = """CREATE TABLE "order" (id INTEGER PRIMARY KEY, symbol VARCHAR, shop VARCHAR NOT NULL)"""
LOOK = (
    "SELECT column_name, data_type, is_nullable FROM information_schema.columns WHERE table_name = 'order' ORDER BY 1"
)
SAID = (
    "the table has no column account, which is of the key, so it may be another program's: "
    "rename it, or the table in tables.yaml"
)


async def seen(database: EmbeddedDatabase) -> list[tuple[object, ...]]:
    looked = await database.run(lambda c: c.execute(LOOK).fetchall())
    said = await database.run(
        lambda c: c.execute("SELECT table_name, comment FROM duckdb_tables() WHERE table_name = 'order'").fetchall()
    )
    return [*looked, *said]


@pytest.mark.parametrize("way", ["start", "apply"])
async def test_a_table_without_our_key_is_left_as_it_is_and_not_written_to(tmp_path: Path, way: str) -> None:
    async with EmbeddedDatabase(tmp_path) as database:
        await database.run(lambda c: c.execute(THEIRS))
        before, target = await seen(database), EmbeddedTarget(database)
        if way == "start":
            start = Startup(now=lambda: NOW)
            await start(target, [OURS])
            assert OURS in start.blocked
        else:
            (result,) = await SchemaManager({"embedded": target}, Tables((OURS,)), now=lambda: NOW).apply()
            assert not result
            assert not result.made
            assert SAID in [step.hazard for step in result.left]
        assert await seen(database) == before


async def test_a_table_of_an_older_version_that_has_the_key_gets_its_new_columns(tmp_path: Path) -> None:
    async with EmbeddedDatabase(tmp_path) as database:
        manager = SchemaManager(
            {"embedded": EmbeddedTarget(database)}, Tables((replace(OURS, columns=OURS.columns[:3]),)), now=lambda: NOW
        )
        assert all(await manager.apply())
        manager = SchemaManager({"embedded": EmbeddedTarget(database)}, Tables((OURS,)), now=lambda: NOW)
        assert all(await manager.apply())
        assert await manager.plan() == []
