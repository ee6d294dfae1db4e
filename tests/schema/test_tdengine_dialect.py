"""What TDengine is told and shows: golden statements, shapes, what it cannot do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mystocks_ingest.errors import ConfigError, UnsafeChange
from mystocks_ingest.schema.changes import (
    AddColumn,
    AddIndex,
    Change,
    ChangeColumn,
    ChangeKey,
    CreateDatabase,
    CreateTable,
    DropColumn,
    DropTable,
    SetComment,
    SetOption,
)
from mystocks_ingest.schema.diff import Fit, applied, diff, hazard
from mystocks_ingest.schema.structure import ColumnShape, IndexShape
from mystocks_ingest.schema.tables import Column, Database, Index, Moment, Storage, Table, load
from mystocks_ingest.schema.types import SIZED, WORDS
from mystocks_ingest.sinks.tdengine.dialect import Place, TDengineDialect, minutes, span
from mystocks_ingest.sinks.tdengine.grants import grants
from mystocks_ingest.sinks.tdengine.spelling import Described

TICK = Table(
    "tick",
    Database.TDENGINE,
    "market_data",
    (
        Column("ts", "TIMESTAMP", nullable=False, comment="成交时间"),
        Column("price", "DOUBLE", default=0.0),
        Column("seq", "INT", nullable=False),
        Column("note", "NCHAR", 4),
        Column("symbol", "VARCHAR", 16, nullable=False, is_tag=True),
        Column("exchange", "VARCHAR", 8, is_tag=True),
    ),
    ("symbol", "ts", "seq"),
    time_column="ts",
    is_super_table=True,
    comment="逐笔",
)
ALONE = Table(
    "alone",
    Database.TDENGINE,
    "d",
    (Column("ts", "TIMESTAMP", nullable=False), Column("value", "NUMERIC", precision=10, scale=4)),
    ("ts",),
)
DIALECT = TDengineDialect()
TICKS, LONE = DIALECT.shape(TICK), DIALECT.shape(ALONE)


def kept(days: int | None, table: Table = TICK, name: str = "tick") -> Table:
    retention = timedelta(days=days) if days is not None else None
    return replace(table, name=name, storage=replace(table.storage, retention=retention))


def test_a_shape_is_what_describe_shows_and_no_more() -> None:
    assert [(c.name, c.type, c.is_tag) for c in TICKS.columns] == [
        ("ts", "TIMESTAMP", False),
        ("seq", "INT", False),
        ("price", "DOUBLE", False),
        ("note", "NCHAR(4)", False),
        ("symbol", "VARCHAR(16)", True),
        ("exchange", "VARCHAR(8)", True),
    ]
    assert (TICKS.key, TICKS.comment, TICKS.settings) == (("ts", "seq"), "逐笔", {"super table": "yes"})
    assert all(c == ColumnShape(c.name, c.type, is_tag=c.is_tag) for c in TICKS.columns)


NAMED = "`market_data`.`tick`"
PRICE = ColumnShape("price", "DOUBLE")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            CreateDatabase("market_data"),
            (
                "CREATE DATABASE IF NOT EXISTS `market_data` PRECISION 'ms' VGROUPS 1 BUFFER 64 KEEP 36500 DURATION 90 "
                "WAL_LEVEL 2 WAL_FSYNC_PERIOD 0"
            ),
        ),
        (
            CreateTable(TICKS),
            (
                f"CREATE STABLE IF NOT EXISTS {NAMED} (`ts` TIMESTAMP, `seq` INT PRIMARY KEY, `price` DOUBLE, "
                "`note` NCHAR(4)) TAGS (`symbol` VARCHAR(16), `exchange` VARCHAR(8)) COMMENT '逐笔'"
            ),
        ),
        (CreateTable(LONE), "CREATE TABLE IF NOT EXISTS `d`.`alone` (`ts` TIMESTAMP, `value` DECIMAL(10, 4))"),
        (DropTable(TICKS), f"DROP STABLE IF EXISTS {NAMED}"),
        (DropTable(LONE), "DROP TABLE IF EXISTS `d`.`alone`"),
        (AddColumn(TICKS, ColumnShape("side", "VARCHAR(4)")), f"ALTER STABLE {NAMED} ADD COLUMN `side` VARCHAR(4)"),
        (AddColumn(LONE, ColumnShape("side", "BOOL")), "ALTER TABLE `d`.`alone` ADD COLUMN `side` BOOL"),
        (
            AddColumn(TICKS, ColumnShape("name", "NCHAR(8)", is_tag=True)),
            f"ALTER STABLE {NAMED} ADD TAG `name` NCHAR(8)",
        ),
        (DropColumn(TICKS, PRICE), f"ALTER STABLE {NAMED} DROP COLUMN `price`"),
        (DropColumn(TICKS, TICKS.columns[-1]), f"ALTER STABLE {NAMED} DROP TAG `exchange`"),
        (
            ChangeColumn(TICKS, ColumnShape("note", "NCHAR(2)"), ColumnShape("note", "NCHAR(4)")),
            f"ALTER STABLE {NAMED} MODIFY COLUMN `note` NCHAR(4)",
        ),
        (
            ChangeColumn(
                TICKS,
                ColumnShape("exchange", "VARCHAR(4)", is_tag=True),
                ColumnShape("exchange", "VARCHAR(8)", is_tag=True),
            ),
            f"ALTER STABLE {NAMED} MODIFY TAG `exchange` VARCHAR(8)",
        ),
        (
            ChangeColumn(TICKS, PRICE, ColumnShape("price", "DOUBLE COMPRESS 'zstd' LEVEL 'high'")),
            f"ALTER STABLE {NAMED} MODIFY COLUMN `price` COMPRESS 'zstd' LEVEL 'high'",
        ),
        (
            ChangeColumn(TICKS, ColumnShape("price", "DOUBLE COMPRESS 'zstd' LEVEL 'high'"), PRICE),
            f"ALTER STABLE {NAMED} MODIFY COLUMN `price` COMPRESS 'lz4' LEVEL 'medium'",
        ),
        (SetComment(replace(TICKS, comment="it's"), "old"), f"ALTER STABLE {NAMED} COMMENT 'it\\'s'"),
        (SetOption(TICKS, "keep", "365d", "730d"), "ALTER DATABASE `market_data` KEEP 730d"),
        (SetOption(TICKS, "keep", "365d", None), "ALTER DATABASE `market_data` KEEP 36500d"),
    ],
    ids=lambda value: value.words[:40] if not isinstance(value, str) else "",
)
def test_a_change_is_one_statement(change: Change, said: str) -> None:
    assert DIALECT.ddl(change) == [said]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (ChangeKey(TICKS, ("ts",), ("ts", "seq")), "a key is made with its table and never changed"),
        (
            ChangeColumn(TICKS, ColumnShape("price", "INT"), ColumnShape("price", "BIGINT")),
            "TDengine only lengthens texts: give the column another name",
        ),
        (
            ChangeColumn(TICKS, ColumnShape("note", "NCHAR(8)"), ColumnShape("note", "NCHAR(4)")),
            "TDengine only lengthens texts",
        ),
        (
            ChangeColumn(TICKS, ColumnShape("note", "VARCHAR(8)"), ColumnShape("note", "NCHAR(16)")),
            "TDengine only lengthens texts",
        ),
        (
            ChangeColumn(TICKS, PRICE, replace(PRICE, is_tag=True)),
            "a tag cannot become a column, nor a column a tag: make a table of another name",
        ),
        (
            ChangeColumn(TICKS, ColumnShape("seq", "VARCHAR(4)"), ColumnShape("seq", "VARCHAR(8)")),
            "a column of the key cannot be changed",
        ),
        (DropColumn(TICKS, ColumnShape("seq", "INT")), "a column of the key cannot be dropped"),
        (AddColumn(TICKS, ColumnShape("seq", "INT")), "a key is made with its table"),
        (SetOption(TICKS, "precision", None, "us"), "give the tables another database_name"),
        (SetOption(TICKS, "super table", None, "yes"), "make a table of another name and copy the rows"),
        (AddIndex(TICKS, IndexShape("i", ("price",))), "TDengine keeps no index"),
    ],
    ids=lambda value: value.words[:40] if not isinstance(value, str) else "",
)
def test_what_tdengine_cannot_do_is_a_hazard_with_its_remedy_and_no_statement(change: Change, why: str) -> None:
    assert why in DIALECT.hazard(change)
    assert hazard(change, DIALECT)
    with pytest.raises(UnsafeChange, match=why):
        DIALECT.ddl(change)


@pytest.mark.parametrize(
    ("before", "after", "fit"),
    [
        ("VARCHAR(8)", "VARCHAR(8)", Fit.SAME),
        ("VARCHAR(8)", "VARCHAR(9)", Fit.WIDER),
        ("VARCHAR(8)", "VARCHAR(7)", Fit.LOSSY),
        ("VARCHAR(8)", "NCHAR(8)", Fit.LOSSY),
        ("INT", "BIGINT", Fit.WIDER),
        ("BIGINT", "INT", Fit.LOSSY),
        ("BIGINT", "DOUBLE", Fit.LOSSY),
        ("INT UNSIGNED", "BIGINT", Fit.WIDER),
        ("DECIMAL(10, 4)", "DECIMAL(12, 4)", Fit.WIDER),
        ("DECIMAL(10, 4)", "DECIMAL(10, 6)", Fit.LOSSY),
        ("DOUBLE", "DOUBLE COMPRESS 'zstd' LEVEL 'high'", Fit.SAME),
    ],
)
def test_a_type_fits_where_all_its_values_do(before: str, after: str, fit: Fit) -> None:
    assert DIALECT.fit(before, after) is fit


# what a database is for all of its tables ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("retentions", "keep"),
    [
        ((365,), "365d"),
        ((365, 730), "730d"),  # the longest: no table's rows go early
        ((365, None), None),  # one of them keeps for ever
        ((None,), None),
    ],
)
def test_keep_is_the_longest_retention_and_none_while_a_table_keeps_for_ever(
    retentions: Sequence[int | None], keep: str | None
) -> None:
    tables = [kept(days, name=f"t{i}") for i, days in enumerate(retentions)]
    dialect = TDengineDialect(tables)
    assert {dialect.shape(t).settings.get("keep") for t in tables} == {keep}
    (made,) = dialect.ddl(CreateDatabase("market_data"))
    assert f" KEEP {keep or '36500'} " in made


@pytest.mark.parametrize(("days", "duration"), [(365, "90"), (270, "90"), (269, "2152h"), (30, "10d")])
def test_a_data_file_spans_at_most_a_third_of_what_is_kept(days: int, duration: str) -> None:
    (made,) = TDengineDialect([kept(days)]).ddl(CreateDatabase("market_data"))
    assert f" KEEP {days}d DURATION {duration} " in made


def test_the_settings_options_are_tdengines_own_words() -> None:
    dialect = TDengineDialect([TICK], database_options="vgroups 2 KEEP 100d,200d,3650d cachemodel 'both'")
    assert dialect.ddl(CreateDatabase("market_data")) == [
        "CREATE DATABASE IF NOT EXISTS `market_data` PRECISION 'ms' VGROUPS 2 KEEP 100d,200d,3650d CACHEMODEL 'both'"
    ]


def test_shortening_keep_is_unsafe_and_lengthening_is_not() -> None:
    assert "older than 30d would be deleted" in DIALECT.hazard(SetOption(TICKS, "keep", "365d", "30d"))
    assert "older than 30d would be deleted" in DIALECT.hazard(SetOption(TICKS, "keep", None, "30d"))
    assert DIALECT.hazard(SetOption(TICKS, "keep", "30d", "365d")) == ""


def found(place: Place, dialect: TDengineDialect = DIALECT) -> dict[str, str]:
    lines = [
        Described("ts", "TIMESTAMP", 8, ""),
        Described("v", "INT", 4, ""),
        Described("t", "INT", 4, "TAG"),
    ]
    return dict(dialect.found("market_data", "tick", place, lines, "").settings)


def test_what_serves_the_file_is_no_difference() -> None:
    silent = TDengineDialect([TICK])
    assert found(Place("ms", minutes("3650d")), silent) == {"super table": "yes"}  # the file says nothing of KEEP
    assert found(Place("us", minutes("36500d")), silent) == {"super table": "yes"}  # finer than needed
    told = TDengineDialect([kept(365)])
    assert found(Place("ms", minutes("3650d,3650d,3650d")), told) == {"super table": "yes", "keep": "3650d"}
    assert found(Place("ns", minutes("36h"))) == {"super table": "yes", "precision": "ns", "keep": "36h"}  # for export


def test_a_database_counts_as_fine_as_its_finest_table_and_each_asks_for_its_own() -> None:
    fine = replace(TICK, columns=(replace(TICK.columns[0], canonical=pa.timestamp("us", "UTC")), *TICK.columns[1:]))
    other = kept(None, name="other")
    dialect = TDengineDialect([fine, other])
    assert "PRECISION 'us'" in dialect.ddl(CreateDatabase("market_data"))[0]
    assert dialect.shape(fine).settings["precision"] == "us"
    assert "precision" not in dialect.shape(other).settings
    for precision, shown in (("ms", "ms"), ("us", "us"), ("ns", "us")):
        assert found(Place(precision, minutes("36500d")), dialect)["precision"] == shown  # type: ignore[arg-type]
    assert "precision" not in found(Place("ns", minutes("36500d")), TDengineDialect([other, TICK]))


def test_a_table_is_not_made_where_its_times_would_be_cut() -> None:
    fine = replace(TICK, columns=(replace(TICK.columns[0], canonical=pa.timestamp("us", "UTC")), *TICK.columns[1:]))
    dialect = TDengineDialect([fine], places={"market_data": Place("ms", 1)})
    change = CreateTable(dialect.shape(fine))
    assert "counts time in ms, and the table needs us: give it another database_name" in dialect.hazard(change)
    with pytest.raises(UnsafeChange, match="counts time in ms"):
        dialect.ddl(change)
    for place in ({}, {"market_data": Place("us", 1)}, {"market_data": Place("ns", 1)}):
        assert TDengineDialect([fine], places=place).hazard(change) == ""  # type: ignore[arg-type]


@given(st.integers(1, 10**8))
def test_a_span_is_read_as_it_is_written(length: int) -> None:
    assert minutes(span(length)) == length


def test_a_span_that_is_none_is_told() -> None:
    with pytest.raises(ConfigError, match="is no time span"):
        minutes("36500x")


# what the file may hold ---------------------------------------------------------------------------------------------


def every_word() -> Table:
    """A table with a column of every word the file knows, that may stand in TDengine."""
    columns = tuple(
        Column(
            f"c{i}",
            word,
            32 if word in SIZED else None,
            values=("买", "卖") if word == "ENUM" else (),
            default=Moment.NOW if word == "TIMESTAMP" else None,
            comment=word,
            numbered=word == "INT",
            touched=word == "TIMESTAMP",
        )
        for i, word in enumerate(WORDS)
    )
    return replace(
        TICK,
        name="every_word",
        columns=(*TICK.columns, *columns),
        indexes=(Index("by_price", ("price",)),),
        storage=Storage(retention=timedelta(days=400), codec="zstd", level="high"),
    )


def test_the_way_there_and_back_gives_the_same_shape() -> None:
    for table in (TICK, ALONE, every_word(), kept(365), replace(TICK, key=())):
        shape = DIALECT.shape(table)
        assert DIALECT.shape(DIALECT.table(shape)) == shape


def test_the_way_back_keeps_what_the_file_needs() -> None:
    back = DIALECT.table(DIALECT.shape(kept(365, replace(TICK, storage=Storage(codec="zstd", level="high")))))
    assert back.key == ("symbol", "exchange", "ts", "seq")
    assert (back.is_super_table, back.time_column, back.comment) == (True, "ts", "逐笔")
    assert back.storage == Storage(retention=timedelta(days=365), codec="zstd", level="high")
    assert [c.name for c in back.columns if not c.nullable] == ["ts", "seq", "symbol", "exchange"]


def test_compression_stands_in_a_columns_type_where_it_is_not_the_types_own() -> None:
    shape = DIALECT.shape(replace(TICK, storage=Storage(codec="zstd")))
    assert [c.type for c in shape.columns][:4] == [
        "TIMESTAMP",
        "INT",
        "DOUBLE COMPRESS 'zstd' LEVEL 'medium'",
        "NCHAR(4)",
    ]
    level = DIALECT.shape(replace(TICK, storage=Storage(level="h")))
    assert [c.type for c in level.columns][2:4] == [
        "DOUBLE COMPRESS 'lz4' LEVEL 'high'", "NCHAR(4) COMPRESS 'zstd' LEVEL 'high'",
    ]  # fmt: skip


def test_a_table_without_a_key_has_the_one_that_tdengine_gives_it() -> None:
    assert DIALECT.shape(replace(TICK, key=())).key == ("ts",)


def test_a_comment_is_cut_where_tdengine_would_refuse_it() -> None:
    comment = DIALECT.shape(replace(TICK, comment="逐" * 400)).comment
    assert comment == "逐" * 341


def test_every_shipped_table_has_a_shape_and_one_statement() -> None:
    tables = load(Path(__file__).parents[2] / "config" / "tables.yaml").all
    ours = [t for t in tables if t.database_type is Database.TDENGINE]
    assert ours
    dialect = TDengineDialect(ours)
    for table in ours:
        shape = dialect.shape(table)
        assert len(dialect.ddl(CreateTable(shape))) == 1
        assert diff(shape, shape) == []


_TYPES = st.sampled_from(["INT", "BIGINT", "DOUBLE", "VARCHAR(8)", "VARCHAR(16)", "NCHAR(8)", "DECIMAL(10, 4)", "BOOL"])


@st.composite
def shapes(draw: st.DrawFn) -> Table:
    values = draw(st.dictionaries(st.sampled_from(["a", "b", "c", "d"]), _TYPES, min_size=1))
    tags = draw(
        st.dictionaries(st.sampled_from(["s", "t"]), st.sampled_from(["VARCHAR(8)", "VARCHAR(16)"]), min_size=1)
    )
    columns = (ColumnShape("ts", "TIMESTAMP"), *(ColumnShape(n, t) for n, t in values.items()))
    held = (*columns, *(ColumnShape(n, t, is_tag=True) for n, t in tags.items()))
    shape = replace(TICKS, columns=held, key=("ts",), comment=draw(st.sampled_from(["", "x"])))
    return DIALECT.table(shape)


@given(shapes(), shapes())
def test_a_difference_is_made_by_statements_or_named_as_unsafe(one: Table, other: Table) -> None:
    actual, desired = DIALECT.shape(one), DIALECT.shape(other)
    there = actual
    for change in diff(desired, actual):
        try:
            statements = DIALECT.ddl(change)
        except UnsafeChange:
            assert DIALECT.hazard(change)
            return
        assert len(statements) == 1
        there = applied(change, there) or there
    assert diff(desired, there) == []


def test_the_grants_are_no_more_than_each_user_needs() -> None:
    assert grants([TICK, ALONE], writer="w", reader="r", migrator="m") == [
        "CREATE USER w PASS '<password>' SYSINFO 1",
        "CREATE USER r PASS '<password>' SYSINFO 1",
        "CREATE USER m PASS '<password>' SYSINFO 1",
        "ALTER USER m CREATEDB 1",
        "GRANT READ ON `market_data`.* TO m",
        "GRANT WRITE ON `market_data`.* TO m",
        "GRANT READ ON `market_data`.* TO w",
        "GRANT WRITE ON `market_data`.* TO w",
        "GRANT READ ON `market_data`.* TO r",
        "GRANT READ ON `d`.* TO m",
        "GRANT WRITE ON `d`.* TO m",
        "GRANT READ ON `d`.* TO w",
        "GRANT WRITE ON `d`.* TO w",
        "GRANT READ ON `d`.* TO r",
    ]
