"""DuckDB's words for tables: the statements as text, and what a store shows once they ran."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import duckdb
import pytest

from mystocks_ingest.errors import ConfigError, Rejected
from mystocks_ingest.schema.changes import (
    AddColumn,
    ChangeColumn,
    ChangeKey,
    CreateTable,
    DropColumn,
    DropIndex,
    DropTable,
    SetComment,
)
from mystocks_ingest.schema.diff import diff
from mystocks_ingest.schema.structure import ColumnShape, IndexShape, TableShape
from mystocks_ingest.schema.tables import Column, Database, Default, Expression, Index, Moment, Table, load
from mystocks_ingest.schema.types import WORDS
from mystocks_ingest.schema.writing import written
from mystocks_ingest.sinks.embedded import FILE, EmbeddedDatabase, EmbeddedTarget
from mystocks_ingest.sinks.embedded.dialect import DATABASE, EmbeddedDialect

DIALECT = EmbeddedDialect()
TABLE = Table(
    "bars",
    Database.EMBEDDED,
    "quant",
    (
        Column("id", "BIGINT", nullable=False, numbered=True),
        Column("symbol", "VARCHAR", 20, nullable=False, comment="it's"),
        Column("close", "NUMERIC", precision=18, scale=4, default=0),
        Column("at", "TIMESTAMPTZ", default=Moment.NOW, touched=True),
    ),
    ("symbol",),
    comment="日线",
    indexes=(Index("ix", ("close",)),),
)
SHAPE = DIALECT.shape(TABLE)


def test_a_table_s_statements() -> None:
    assert DIALECT.ddl(CreateTable(SHAPE)) == [
        """CREATE SEQUENCE IF NOT EXISTS "bars_id_seq";
CREATE TABLE "bars" (
  "id" BIGINT DEFAULT nextval('"bars_id_seq"') NOT NULL,
  "symbol" VARCHAR NOT NULL,
  "close" DECIMAL(18,4) DEFAULT 0,
  "at" TIMESTAMP WITH TIME ZONE DEFAULT current_timestamp
);
INSERT OR REPLACE INTO structure.table_key VALUES ('bars', ['symbol']);
COMMENT ON TABLE "bars" IS '日线';
COMMENT ON COLUMN "bars"."symbol" IS 'it''s'"""
    ]


@pytest.mark.parametrize(
    ("change", "statements"),
    [
        (
            AddColumn(SHAPE, ColumnShape("n", "BIGINT", nullable=False, default="0", comment="x")),
            [
                'ALTER TABLE "bars" ADD COLUMN "n" BIGINT DEFAULT 0 NOT NULL',
                """COMMENT ON COLUMN "bars"."n" IS 'x'""",
            ],
        ),
        (
            AddColumn(SHAPE, ColumnShape("n", "BIGINT", nullable=False)),
            ['ALTER TABLE "bars" ADD COLUMN "n" BIGINT', 'ALTER TABLE "bars" ALTER COLUMN "n" SET NOT NULL'],
        ),
        (DropColumn(SHAPE, ColumnShape("n", "BIGINT")), ['ALTER TABLE "bars" DROP COLUMN "n"']),
        (
            ChangeColumn(SHAPE, ColumnShape("n", "INTEGER", default="1"), ColumnShape("n", "BIGINT", default="1")),
            [
                'ALTER TABLE "bars" ALTER COLUMN "n" DROP DEFAULT',
                'ALTER TABLE "bars" ALTER COLUMN "n" SET DATA TYPE BIGINT',
                'ALTER TABLE "bars" ALTER COLUMN "n" SET DEFAULT 1',
            ],
        ),
        (
            ChangeColumn(SHAPE, ColumnShape("n", "INTEGER", comment="x"), ColumnShape("n", "INTEGER", nullable=False)),
            ['ALTER TABLE "bars" ALTER COLUMN "n" SET NOT NULL', 'COMMENT ON COLUMN "bars"."n" IS NULL'],
        ),
        (SetComment(SHAPE, "x"), ["""COMMENT ON TABLE "bars" IS '日线'"""]),
        (DropIndex(SHAPE, IndexShape("ix", ("close",))), ['DROP INDEX "ix"']),
        (
            DropTable(SHAPE),
            [
                'DROP TABLE "bars"',
                'DROP SEQUENCE IF EXISTS "bars_id_seq"',
                "DELETE FROM structure.table_key WHERE table_name = 'bars'",
            ],
        ),
    ],
)
def test_a_change_is_one_text(change: AddColumn, statements: list[str]) -> None:
    assert DIALECT.ddl(change) == [";\n".join(statements)]


DEFAULTS: list[tuple[str, Default, str | None]] = [
    ("VARCHAR", "it's", "'it''s'"),
    ("VARCHAR", "", "''"),
    ("VARCHAR", 0, "'0'"),
    ("VARCHAR", True, "'true'"),
    ("BIGINT", 0, "0"),
    ("BIGINT", "12", "12"),
    ("BIGINT", -5, "-5"),
    ("DOUBLE", 0, "0.0"),
    ("DOUBLE", 1e-7, "1e-07"),
    ("DOUBLE", "1.50", "1.5"),
    ("NUMERIC", 1.5, "1.5"),
    ("NUMERIC", "0.10", "0.1"),
    ("BOOLEAN", True, "true"),
    ("BOOLEAN", 0, "false"),
    ("BOOLEAN", "1", "true"),
    ("DATE", "2024-01-01", "'2024-01-01'"),
    ("TIMESTAMP", Moment.NOW, "current_timestamp"),
    ("TIMESTAMPTZ", Moment.NOW, "current_timestamp"),
    ("BIGINT", Moment.NOW, None),
    ("VARCHAR", Expression("gen_random_uuid()"), "gen_random_uuid()"),
    ("VARCHAR", Expression("to_base64(random_bytes(3))"), None),
]


@pytest.mark.parametrize(("word", "default", "shown"), DEFAULTS)
async def test_a_default_is_shown_as_it_was_wanted(
    tmp_path: Path, word: str, default: Default, shown: str | None
) -> None:
    table = replace(TABLE, columns=(Column("symbol", "VARCHAR", nullable=False), Column("c", word, default=default)))
    shape = DIALECT.shape(table)
    assert shape.columns[1].default == shown
    await same_after_apply(tmp_path, table)


async def same_after_apply(folder: Path, table: Table) -> None:
    """The store shows the table's shape, and the way back from there gives the same shape again."""
    shape = DIALECT.shape(table)
    async with EmbeddedDatabase(folder) as database:
        target = EmbeddedTarget(database)
        for statement in DIALECT.ddl(CreateTable(shape)):
            await target.execute(DATABASE, statement)
        (found,) = await target.inspect([DATABASE])
    assert diff(shape, found) == []
    assert found == shape
    assert DIALECT.shape(DIALECT.table(found)) == shape


async def test_every_type_of_the_file_is_shown_as_it_was_wanted_and_survives_export(tmp_path: Path) -> None:
    columns = [Column("symbol", "VARCHAR", 20, nullable=False, comment="代码")]
    for number, word in enumerate(WORDS):
        columns.append(Column(f"c{number}", word, precision=12 if word in ("NUMERIC", "DECIMAL") else None))
    await same_after_apply(tmp_path, replace(TABLE, columns=tuple(columns)))


async def test_the_shipped_tables_survive_export_by_way_of_a_file(tmp_path: Path) -> None:
    shipped = load(Path(__file__).parents[2] / "config" / "tables.yaml").placed(())
    async with EmbeddedDatabase(tmp_path) as database:
        target = EmbeddedTarget(database)
        for table in shipped.all:
            for statement in DIALECT.ddl(CreateTable(DIALECT.shape(table))):
                await target.execute(DATABASE, statement)
        found = {s.name: s for s in await target.inspect([DATABASE])}
    file = tmp_path / "tables.yaml"
    file.write_text(written(DIALECT.table(s) for s in found.values()), encoding="utf-8")
    assert {t.name: DIALECT.shape(t) for t in load(file).all} == found


async def test_a_default_written_by_hand_is_compared_by_its_meaning(tmp_path: Path) -> None:
    table = replace(
        TABLE,
        columns=(
            Column("symbol", "VARCHAR", nullable=False),
            Column("a", "DOUBLE", default=1.5),
            Column("b", "BOOLEAN", default=True),
            Column("c", "TIMESTAMPTZ", default=Moment.NOW),
            Column("d", "BIGINT", default=3),
        ),
        comment="",
    )
    async with EmbeddedDatabase(tmp_path) as database:
        target = EmbeddedTarget(database)
        await target.execute(
            DATABASE,
            "CREATE TABLE bars (symbol VARCHAR NOT NULL, a DOUBLE DEFAULT '1.50', b BOOLEAN DEFAULT 't', "
            "c TIMESTAMPTZ DEFAULT now(), d BIGINT DEFAULT 3)",
        )
        (found,) = await target.inspect([DATABASE])
    (change,) = diff(DIALECT.shape(table), found)
    assert change == ChangeKey(DIALECT.shape(table), (), ("symbol",))


async def test_a_key_is_taken_only_where_no_two_rows_share_it(tmp_path: Path) -> None:
    async with EmbeddedDatabase(tmp_path) as database:
        target = EmbeddedTarget(database)
        await target.execute(DATABASE, "CREATE TABLE bars (symbol VARCHAR)")
        await target.execute(DATABASE, "INSERT INTO bars VALUES ('a'), ('b'), ('b')")
        shape = TableShape(DATABASE, "bars", (ColumnShape("symbol", "VARCHAR"),), ("symbol",))
        (statement,) = DIALECT.ddl(ChangeKey(shape, (), ("symbol",)))
        with pytest.raises(Rejected, match=r"rows of bars share the key \(symbol\)"):
            await target.execute(DATABASE, statement)
        assert (await target.inspect([DATABASE]))[0].key == ()
        await target.execute(DATABASE, "DELETE FROM bars WHERE symbol = 'b'")
        await target.execute(DATABASE, statement)
        assert (await target.inspect([DATABASE]))[0].key == ("symbol",)


async def test_tables_of_the_journal_and_the_log_are_not_ours_to_compare(tmp_path: Path) -> None:
    async with EmbeddedDatabase(tmp_path) as database:
        target = EmbeddedTarget(database)
        await target.execute(DATABASE, "CREATE SCHEMA journal; CREATE TABLE journal.run (id VARCHAR)")
        await target.execute(DATABASE, "CREATE TABLE mine (id VARCHAR); CREATE INDEX ix ON mine (id)")
        (found,) = await target.inspect([DATABASE])
        assert found.name == "mine"
        assert found.indexes == (IndexShape("ix", ("id",)),)
        assert await target.count(found) == 0
        assert await target.inspect(["elsewhere"]) == ()


async def test_what_stands_in_the_way_of_a_change_is_one_sentence(tmp_path: Path) -> None:
    async with EmbeddedDatabase(tmp_path) as database:
        target = EmbeddedTarget(database)
        await target.execute(DATABASE, "CREATE TABLE mine (id VARCHAR, n INTEGER); CREATE INDEX ix ON mine (n)")
        with pytest.raises((Rejected, ConfigError)) as caught:
            await target.execute(DATABASE, 'ALTER TABLE mine DROP COLUMN "n"')
        assert "\n" not in str(caught.value)


async def test_a_change_that_fails_half_way_leaves_nothing_of_it(tmp_path: Path) -> None:
    async with EmbeddedDatabase(tmp_path) as database:
        target = EmbeddedTarget(database)
        with pytest.raises(Rejected):
            await target.execute(DATABASE, "CREATE TABLE half (id VARCHAR); CREATE TABLE half (id VARCHAR)")
        assert await target.inspect([DATABASE]) == []


async def test_a_store_of_an_earlier_version_gets_its_keys_and_comments_and_keeps_its_rows(tmp_path: Path) -> None:
    with duckdb.connect(str(tmp_path / FILE)) as old:
        old.execute(
            'CREATE TABLE bars (id BIGINT, symbol VARCHAR NOT NULL, close DECIMAL(18,4) DEFAULT 0, "at" TIMESTAMPTZ)'
        )
        old.execute("INSERT INTO bars VALUES (1, 'a', 1.5, now())")
    plain = replace(TABLE, columns=(replace(TABLE.columns[0], numbered=False, nullable=True), *TABLE.columns[1:]))
    shape = DIALECT.shape(plain)
    async with EmbeddedDatabase(tmp_path) as database:
        target = EmbeddedTarget(database)
        for change in diff(shape, (await target.inspect([DATABASE]))[0]):
            for statement in DIALECT.ddl(change):
                await target.execute(DATABASE, statement)
        assert diff(shape, (await target.inspect([DATABASE]))[0]) == []
        assert await target.count(shape) == 1
