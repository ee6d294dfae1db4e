"""The structure of tables on a real MySQL or MariaDB: what is applied is what is found, and what others did is seen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
from contract import ALL, HUNG_SECONDS, ordinary, same
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from mysql_tables import DATABASE, TYPES, kinds, tables
from servers.mariadb import MariaDB
from test_mysql import MySQLSubject
from test_mysql_special import kill_connections

from mystocks_ingest.errors import ConfigError, IngestError, Unavailable, UnsafeChange
from mystocks_ingest.flow.migrate import Step, ensured, made, planned
from mystocks_ingest.schema.changes import AddColumn, AddIndex, ChangeColumn, DropColumn, DropIndex
from mystocks_ingest.schema.diff import diff, hazard
from mystocks_ingest.schema.structure import TableShape
from mystocks_ingest.schema.tables import Column, Database, Index, Moment, Table
from mystocks_ingest.sinks.mysql import Access, MySQLDatabase, MySQLSink, MySQLTarget, grants
from mystocks_ingest.sinks.mysql.ddl import KEY_BYTES
from mystocks_ingest.sinks.mysql.dialect import MySQLDialect
from mystocks_ingest.sinks.mysql.types import LONGEST_VARCHAR

PLAIN = "plain-secret"  # of accounts that live for one test run


@pytest.fixture
def subject(mariadb_server: MariaDB) -> MySQLSubject:
    return MySQLSubject(mariadb_server)


@pytest.fixture
def server(mariadb_server: MariaDB) -> MariaDB:
    """With no database of this module's in it."""
    mariadb_server.sql(f"DROP DATABASE IF EXISTS {DATABASE}; DROP DATABASE IF EXISTS elsewhere")
    return mariadb_server


@asynccontextmanager
async def target_of(access: Access, **more: float) -> AsyncIterator[MySQLTarget]:
    async with MySQLDatabase(access) as database:
        yield MySQLTarget(database, **more)  # type: ignore[arg-type]


@pytest.fixture
async def target(server: MariaDB, subject: MySQLSubject) -> AsyncIterator[MySQLTarget]:
    async with target_of(subject.access()) as target:
        yield target


async def found(target: MySQLTarget, name: str, database: str = DATABASE) -> TableShape | None:
    return next((shape for shape in await target.inspect([database]) if shape.name == name), None)


async def applied(target: MySQLTarget, tables: Iterable[Table]) -> None:
    """Every step, the unsafe ones too."""
    wanted = list(tables)
    async with target.lock():
        await made(target, await planned(target, wanted))


def by_name(shape: TableShape | None) -> TableShape:
    """Its indexes in the order of their names, as a catalogue lists them."""
    assert shape is not None
    return replace(shape, indexes=tuple(sorted(shape.indexes, key=lambda i: i.name)))


def said(steps: Iterable[Step]) -> str:
    return "; ".join(f"{s.change.table}: {s.change.words}" for s in steps)


# round trips -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", kinds(), ids=lambda t: t.name)
async def test_what_is_applied_is_what_is_found(target: MySQLTarget, table: Table) -> None:
    await ensured(target, [table])
    assert by_name(await found(target, table.name)) == by_name(target.dialect.shape(table))
    assert said(await planned(target, [table])) == ""


@pytest.mark.parametrize("table", kinds(), ids=lambda t: t.name)
async def test_what_is_exported_makes_the_same_table_elsewhere(target: MySQLTarget, table: Table) -> None:
    await ensured(target, [table])
    shape = await found(target, table.name)
    assert shape is not None
    exported = replace(target.dialect.table(shape), database_name="elsewhere")
    await ensured(target, [exported])
    assert await found(target, table.name, "elsewhere") == replace(shape, database="elsewhere")
    assert said(await planned(target, [exported])) == ""


async def test_a_table_grows_from_nothing_one_column_after_the_other(target: MySQLTarget) -> None:
    """Every type and default by ALTER TABLE, as by CREATE TABLE."""
    whole = next(t for t in kinds() if t.name == "every_default")
    await ensured(target, [replace(whole, columns=whole.columns[:1])])
    await ensured(target, [whole])
    assert said(await planned(target, [whole])) == ""


async def test_one_database_may_stand_for_those_of_the_file(server: MariaDB, subject: MySQLSubject) -> None:
    async with target_of(subject.access(database="elsewhere")) as target:
        table = kinds()[0]
        await ensured(target, [table])
        assert await found(target, table.name, "elsewhere") == target.dialect.shape(table)
        assert DATABASE not in await target.databases()


# drift -----------------------------------------------------------------------------------------------------------

DRIFT = {
    "a column dropped": ("DROP COLUMN price", "column price"),
    "a column added": ("ADD COLUMN mine INT", "column mine int"),
    "a type narrowed": ("MODIFY name VARCHAR(10)", "type varchar(10) -> varchar(255)"),
    "a type changed": ("MODIFY price DOUBLE", "type double -> decimal(10,4)"),
    "a text longer": ("MODIFY note LONGTEXT", "type longtext -> text"),
    "a number without its sign": ("MODIFY id INT UNSIGNED NOT NULL", "type int unsigned -> int"),
    "nulls let in": ("MODIFY symbol VARCHAR(20) NULL", "may no longer be null"),
    "nulls kept out": ("MODIFY price DECIMAL(10,4) NOT NULL", "may be null"),
    "a default set": ("ALTER COLUMN price SET DEFAULT 1.5", "default 1.5000 -> none"),
    "a default taken away": ("ALTER COLUMN status DROP DEFAULT", "default none -> 'L'"),
    "a default changed": ("ALTER COLUMN status SET DEFAULT 'D'", "default 'D' -> 'L'"),
    "a comment changed": ("MODIFY trade_date DATE COMMENT 'x'", "comment 'x' -> ''"),
    "no more touched": ("MODIFY at DATETIME(3) DEFAULT CURRENT_TIMESTAMP(3)", "set on update"),
    "a clock with fewer digits": (
        "MODIFY at DATETIME DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP",
        "type datetime -> datetime(3)",
    ),
    "a moment with a zone": (
        "MODIFY at TIMESTAMP(3) NULL DEFAULT CURRENT_TIMESTAMP(3) ON UPDATE CURRENT_TIMESTAMP(3)",
        "type timestamp(3) -> datetime(3)",
    ),
    "JSON made text": ("MODIFY detail LONGTEXT", "type longtext -> json"),
    "an ENUM's value gone": ("MODIFY kind ENUM('a')", "type enum('a') -> enum('a','b')"),
    "an ENUM's value more": ("MODIFY kind ENUM('a','b','c')", "type enum('a','b','c') -> enum('a','b')"),
    "a text of another collation": (
        "MODIFY name VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci",
        "type varchar(255) collate utf8mb4_general_ci -> varchar(255)",
    ),
    "another character set": ("CONVERT TO CHARACTER SET latin1", "collation: latin1_swedish_ci"),
    "another engine": ("ENGINE = MyISAM", "engine: MyISAM -> InnoDB"),
    "the table's comment": ("COMMENT = 'x'", "comment 'x' -> '表'"),
    "an index dropped": ("DROP INDEX idx_symbol", "add idx_symbol (symbol, trade_date)"),
    "an index added": ("ADD INDEX mine (price)", "drop mine (price)"),
    "an index no longer unique": ("DROP INDEX uniq, ADD INDEX uniq (name(20))", "add unique uniq (name(20))"),
    "another prefix": ("DROP INDEX uniq, ADD UNIQUE INDEX uniq (name(30))", "drop unique uniq (name(30))"),
    "an index that descends": ("DROP INDEX d, ADD INDEX d (id, trade_date)", "add d (id, trade_date DESC)"),
    "a full-text index": ("ADD FULLTEXT INDEX words (note)", "drop words (note FULLTEXT)"),
    "the key dropped": ("DROP PRIMARY KEY", "key (none) -> (id)"),
    "another key": ("DROP PRIMARY KEY, ADD PRIMARY KEY (id, symbol)", "key (id, symbol) -> (id)"),
    "computed by the server": ("DROP COLUMN price, ADD COLUMN price DECIMAL(10,4) AS (id * 2) STORED", "as (id*2)"),
}


def drifting() -> Table:
    from mystocks_ingest.schema.tables import Moment  # noqa: PLC0415

    columns = (
        Column("id", "INT", nullable=False),
        Column("symbol", "VARCHAR", 20, nullable=False),
        Column("trade_date", "DATE"),
        Column("price", "DECIMAL", precision=10, scale=4),
        Column("name", "VARCHAR", 255),
        Column("status", "VARCHAR", 4, default="L"),
        Column("note", "TEXT"),
        Column("detail", "JSON"),
        Column("kind", "ENUM", values=("a", "b")),
        Column("at", "TIMESTAMP", default=Moment.NOW, touched=True),
    )
    indexes = (
        Index("idx_symbol", ("symbol", "trade_date")),
        Index("uniq", ("name(20)",), unique=True),
        Index("d", ("id", "trade_date DESC")),
    )
    return Table("drifting", Database.MYSQL, DATABASE, columns, ("id",), comment="表", indexes=indexes)


@pytest.mark.parametrize(("statement", "words"), DRIFT.values(), ids=list(DRIFT))
async def test_what_was_altered_by_hand_is_found_and_made_undone(
    target: MySQLTarget, server: MariaDB, statement: str, words: str
) -> None:
    table = drifting()
    if "ENGINE" in statement:  # MyISAM has no descending indexes
        table = replace(table, indexes=table.indexes[:2])
    await ensured(target, [table])
    server.sql(f"ALTER TABLE {DATABASE}.drifting {statement}")
    steps = await planned(target, [table])
    assert words in said(steps)
    for step in steps:
        if isinstance(step.change, DropColumn):
            assert step.hazard
        if isinstance(step.change, DropIndex):  # one of the file's names is made anew
            assert bool(step.hazard) is (step.change.index.name not in {i.name for i in table.indexes})
    await applied(target, [table])
    assert said(await planned(target, [table])) == ""


async def test_what_users_and_the_server_add_beside_a_table_is_no_drift(target: MySQLTarget, server: MariaDB) -> None:
    """Foreign keys from and to it with the indexes these make, triggers, checks, views, other tables, partitions."""
    table = drifting()
    split = replace(table, name="split", indexes=())
    await ensured(target, [table, split])
    server.sql(
        f"USE {DATABASE}; CREATE TABLE parent (id INT PRIMARY KEY, name VARCHAR(255)) ENGINE = InnoDB;"
        "INSERT INTO parent VALUES (1, 'x');"
        "ALTER TABLE drifting ADD CONSTRAINT fk_mine FOREIGN KEY (id) REFERENCES parent (id) ON DELETE CASCADE;"
        f"CREATE TABLE child (id INT PRIMARY KEY, parent INT, CONSTRAINT c FOREIGN KEY (parent) REFERENCES drifting (id));"
        "CREATE TRIGGER t BEFORE INSERT ON drifting FOR EACH ROW SET NEW.status = 'T';"
        "ALTER TABLE drifting ADD CONSTRAINT positive CHECK (price > 0);"
        "CREATE VIEW seen AS SELECT * FROM drifting;"
        "ALTER TABLE split PARTITION BY HASH (id) PARTITIONS 4;" + ("" if server.mysql else "CREATE SEQUENCE numbers;")
    )
    assert said(await planned(target, [table, split])) == ""
    assert {s.name for s in await target.inspect([DATABASE])} == {"drifting", "split", "parent", "child"}
    child = await found(target, "child")
    assert child is not None
    assert child.indexes == ()


async def test_a_view_in_a_tables_place_is_one_sentence(target: MySQLTarget, server: MariaDB) -> None:
    server.sql(f"CREATE DATABASE {DATABASE}; CREATE VIEW {DATABASE}.drifting AS SELECT 1 AS id")
    with pytest.raises(ConfigError, match="perhaps as a view"):
        await ensured(target, [drifting()])


async def test_an_index_of_the_same_name_with_other_columns_is_replaced(target: MySQLTarget, server: MariaDB) -> None:
    table = drifting()
    await ensured(target, [table])
    server.sql(f"ALTER TABLE {DATABASE}.drifting DROP INDEX idx_symbol, ADD INDEX idx_symbol (price)")
    await ensured(target, [table])
    assert said(await planned(target, [table])) == ""


# changes ---------------------------------------------------------------------------------------------------------

WIDER = {
    "varchar": ("VARCHAR(20)", "'平安'", Column("c", "VARCHAR", 60)),
    "varchar to text": ("VARCHAR(20)", "'平安'", Column("c", "TEXT")),
    "int": ("INT", "-2147483648", Column("c", "BIGINT")),
    "int unsigned": ("INT UNSIGNED", "4294967295", Column("c", "BIGINT")),
    "tinyint to decimal": ("TINYINT", "-128", Column("c", "DECIMAL", precision=5, scale=2)),
    "int to double": ("INT", "2147483647", Column("c", "DOUBLE")),
    "decimal": ("DECIMAL(10,4)", "123456.7890", Column("c", "DECIMAL", precision=20, scale=6)),
    "float": ("FLOAT", "0.5", Column("c", "DOUBLE")),
    "text": ("TEXT", "'长'", Column("c", "LONGTEXT")),
    "date": ("DATE", "'2024-01-02'", Column("c", "DATETIME")),
    "fraction": ("DATETIME(3)", "'2024-01-02 03:04:05.678'", Column("c", "DATETIME", 6)),
    "enum": ("ENUM('b','a')", "'a'", Column("c", "ENUM", values=("a", "b", "c"))),
    "enum to text": ("ENUM('b','a')", "'a'", Column("c", "VARCHAR", 5)),
    "char": ("CHAR(6)", "'SH'", Column("c", "VARCHAR", 6)),
    "blob": ("VARBINARY(8)", "x'00ff'", Column("c", "BLOB")),
    "json to text": ("JSON", "'[1, 2]'", Column("c", "LONGTEXT")),
    "another collation": ("VARCHAR(20) COLLATE utf8mb4_general_ci", "'平安'", Column("c", "VARCHAR", 20)),
    "another character set": ("VARCHAR(20) CHARACTER SET latin1", "'é'", Column("c", "VARCHAR", 20)),
    "the key's column": ("VARCHAR(20) NOT NULL PRIMARY KEY", "'平安'", Column("c", "VARCHAR", 60, nullable=False)),
}


def one(column: Column) -> Table:
    key = ("c",) if not column.nullable else ("id",)
    columns = (column,) if key == ("c",) else (Column("id", "INT", nullable=False), column)
    return Table("one", Database.MYSQL, DATABASE, columns, key)


def by_hand(server: MariaDB, definition: str, value: str) -> None:
    """A table of one row, made as a user would."""
    collation = MySQLDialect(_kind(server)).server.collation
    key = "" if "PRIMARY" in definition else "id INT PRIMARY KEY, "
    server.sql(
        f"CREATE DATABASE {DATABASE}; CREATE TABLE {DATABASE}.one ({key}c {definition}) DEFAULT CHARACTER SET utf8mb4 "
        f"COLLATE {collation}; INSERT INTO {DATABASE}.one VALUES ({'1, ' if key else ''}{value})"
    )


def _kind(server: MariaDB):
    from mystocks_ingest.sinks.mysql.ddl import Server  # noqa: PLC0415

    return Server(Database.MYSQL if server.mysql else Database.MARIADB)


@pytest.mark.parametrize(("definition", "value", "column"), WIDER.values(), ids=list(WIDER))
async def test_a_widening_is_made_unasked_and_keeps_every_value(
    target: MySQLTarget, server: MariaDB, definition: str, value: str, column: Column
) -> None:
    by_hand(server, definition, value)
    await ensured(target, [one(column)])
    assert said(await planned(target, [one(column)])) == ""
    compared = "CAST(c AS CHAR)" if column.type == "LONGTEXT" and definition == "JSON" else "c"
    assert server.sql(f"SELECT COUNT(*) FROM {DATABASE}.one WHERE {compared} = {value}") == "1"
    assert await target.count(target.dialect.shape(one(column))) == 1


LOSSY = {
    "varchar": ("VARCHAR(60)", "'平安银行'", Column("c", "VARCHAR", 3)),
    "bigint": ("BIGINT", "2147483648", Column("c", "INT")),
    "sign": ("INT", "-1", Column("c", "INT UNSIGNED")),
    "decimal": ("DECIMAL(20,6)", "12345678", Column("c", "DECIMAL", precision=10, scale=4)),
    "text to number": ("VARCHAR(20)", "'x'", Column("c", "INT")),
    "text": ("LONGTEXT", "REPEAT('x', 70000)", Column("c", "TEXT")),
    "text to JSON": ("LONGTEXT", "'{'", Column("c", "JSON")),
    "enum": ("ENUM('a','b')", "'b'", Column("c", "ENUM", values=("a",))),
}  # each holds a value that does not fit


@pytest.mark.parametrize(("definition", "value", "column"), LOSSY.values(), ids=list(LOSSY))
async def test_a_narrowing_is_refused_and_where_asked_for_by_name_loses_nothing_in_silence(
    target: MySQLTarget, server: MariaDB, definition: str, value: str, column: Column
) -> None:
    by_hand(server, definition, value)
    with pytest.raises(UnsafeChange, match="column c"):
        await ensured(target, [one(column)])
    with pytest.raises(UnsafeChange, match="nothing is changed"):
        await applied(target, [one(column)])
    assert server.sql(f"SELECT COUNT(*) FROM {DATABASE}.one WHERE c = {value}") == "1"


@pytest.mark.parametrize("digits", [None, 0, 6])
async def test_a_moment_that_is_set_on_update_needs_no_default(target: MySQLTarget, digits: int | None) -> None:
    table = one(Column("c", "DATETIME", digits, nullable=False, touched=True))
    await ensured(target, [table])
    assert await planned(target, [table]) == []


@settings(
    max_examples=12,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(pair=st.tuples(tables("pair"), tables("pair")))
def test_of_two_random_tables_the_one_becomes_the_other_or_the_difference_is_called_unsafe(
    mariadb_server: MariaDB, pair: tuple[Table, Table]
) -> None:
    """With a row in it. An unsafe step that is made all the same either ends where it should or changes nothing."""
    before, after = pair
    subject = MySQLSubject(mariadb_server)

    async def work() -> None:
        async with target_of(subject.access()) as target:
            if DATABASE in await target.databases():
                await target.execute(DATABASE, f"DROP TABLE IF EXISTS {DATABASE}.pair")
            await ensured(target, [before])
            assert diff(target.dialect.shape(before), await found(target, "pair")) == []
            documents = [c.name for c in before.columns if c.type in ("JSON", "JSONB")]
            names = ", ".join(["id", *documents])
            values = ", ".join(["1", *["'0'"] * len(documents)])  # a document, for MySQL: 0 alone is none
            row = f"INSERT IGNORE INTO {DATABASE}.pair ({names}) VALUES ({values})"
            await target.execute(DATABASE, row)
            for unsafe in (False, True, False):
                steps = await planned(target, [after])
                for step in steps:
                    if bool(step.hazard) is unsafe and not _waits(step, steps):
                        await _tried(target, after, step)
            rest = await planned(target, [after])
            assert all(step.hazard or isinstance(step.change, AddIndex) for step in rest)
            assert await target.count(target.dialect.shape(after)) == 1

    asyncio.run(work())


def _waits(step: Step, steps: Iterable[Step]) -> bool:
    """Whether it is an index on a column whose own change must be asked for."""
    asked = {c.column.name for s in steps if s.hazard and isinstance(c := s.change, AddColumn)}
    asked |= {c.after.name for s in steps if s.hazard and isinstance(c := s.change, ChangeColumn)}
    return isinstance(step.change, AddIndex) and any(p.split()[0] in asked for p in step.change.index.columns)


async def _tried(target: MySQLTarget, table: Table, step: Step) -> None:
    """A safe step is made; where an unsafe one is refused, all is as it was."""
    try:
        await made(target, [step])
    except UnsafeChange:
        assert step.hazard
        assert step.change.words in said(await planned(target, [table]))
    else:
        assert step.change.words not in said(await planned(target, [table]))


# what cannot be --------------------------------------------------------------------------------------------------


def keyed(*lengths: int) -> Table:
    columns = tuple(Column(f"c{i}", "VARCHAR", n, nullable=False) for i, n in enumerate(lengths))
    return Table("limits", Database.MYSQL, DATABASE, columns, tuple(c.name for c in columns))


def beside(column: Column, *indexes: Index, key: tuple[str, ...] = ("id",)) -> Table:
    return Table(
        "limits", Database.MYSQL, DATABASE, (Column("id", "INT", nullable=False), column), key, indexes=indexes
    )


REFUSED = {
    "a key too long": (keyed(KEY_BYTES // 4, 1), "VARCHAR columns shorter"),
    "an index too long": (beside(Column("c", "VARCHAR", 769), Index("i", ("c",))), "index the beginning"),
    "too many columns in a key": (keyed(*[5] * 17), "16 fit"),
    "a key on TEXT": (beside(Column("c", "TEXT"), key=("c",)), "VARCHAR with a length"),
    "an index on TEXT": (beside(Column("c", "TEXT"), Index("i", ("c",))), r"c\(191\)"),
    "an index on JSON": (beside(Column("c", "JSON"), Index("i", ("c",))), "JSON cannot be indexed"),
    "a beginning of numbers": (beside(Column("c", "INT"), Index("i", ("c(191)",))), "write c"),
    "a beginning longer than the text": (beside(Column("c", "VARCHAR", 20), Index("i", ("c(20)",))), "write c"),
    "a default that is no JSON": (beside(Column("c", "JSON", default="none yet")), "no JSON"),
    "a time for a JSON": (beside(Column("c", "JSON", default=Moment.NOW)), "no JSON"),
    "a counter without a key": (beside(Column("c", "INT", numbered=True)), "add an index on it"),
    "a counter of texts": (beside(Column("c", "VARCHAR", 5, numbered=True), Index("i", ("c",))), "make it BIGINT"),
    "a VARCHAR too long": (beside(Column("c", "VARCHAR", LONGEST_VARCHAR + 1)), "LONGTEXT"),
    "a row too long": (
        Table("limits", Database.MYSQL, DATABASE, tuple(Column(f"c{i}", "VARCHAR", 4000) for i in range(5))),
        "make its long columns TEXT",
    ),
    "a comment too long": (beside(Column("c", "INT", comment="长" * 1025)), "shorten it"),
    "a table's comment too long": (replace(beside(Column("c", "INT")), comment="长" * 2049), "shorten it"),
    "an ENUM of nothing": (beside(Column("c", "ENUM")), "name them"),
    "a scale too fine": (beside(Column("c", "DECIMAL", precision=38, scale=31)), "lower its scale"),
}


@pytest.mark.parametrize(("table", "remedy"), REFUSED.values(), ids=list(REFUSED))
async def test_what_the_server_would_refuse_is_said_before_with_the_remedy(
    target: MySQLTarget, table: Table, remedy: str
) -> None:
    with pytest.raises(UnsafeChange, match=remedy):
        await ensured(target, [table])
    (step,) = [s for s in await planned(target, [table]) if s.change.table is not None]
    with pytest.raises(UnsafeChange, match=remedy):
        target.dialect.ddl(step.change)


WHOLE, BEGINNING = Index("i", ("c",)), Index("i", ("c(9)",))
TEXT, BYTES = (Column("c", "VARCHAR", 20), Column("c", "TEXT")), (Column("c", "VARBINARY", 16), Column("c", "BLOB"))
PAIRED = Index("i", ("id", "c"))
INDEXED = {
    "a TEXT under its index": (*TEXT, (WHOLE,), (WHOLE,), "indexed by its beginning only"),
    "a BLOB under its index": (*BYTES, (WHOLE,), (WHOLE,), "indexed by its beginning only"),
    "a TEXT under one of two columns": (*TEXT, (PAIRED,), (PAIRED,), "indexed by its beginning only"),
    "a TEXT under an index that is too long then": (
        Column("c", "VARCHAR", 20),
        Column("c", "VARCHAR", 800),
        (WHOLE,),
        (WHOLE,),
        "index the beginning of one",
    ),
    "a TEXT under somebody's index": (*TEXT, (WHOLE,), (), "have it dropped by name first"),
    "a BLOB under somebody's index of two columns": (*BYTES, (PAIRED,), (), "have it dropped by name first"),
    "a TEXT whose index changes with it": (*TEXT, (WHOLE,), (BEGINNING,), ""),
    "a BLOB whose index changes with it": (*BYTES, (WHOLE,), (BEGINNING,), ""),
}


@pytest.mark.parametrize("case", INDEXED)
async def test_a_type_that_an_index_forbids_is_unsafe_with_the_remedy_and_one_that_changes_with_it_is_made(
    target: MySQLTarget, case: str
) -> None:
    before, after, old, new, why = INDEXED[case]
    wanted = beside(after, *new)
    await ensured(target, [beside(before, *old)])
    steps = await planned(target, [wanted])
    (change,) = [s for s in steps if isinstance(s.change, ChangeColumn)]
    assert why in change.hazard
    assert bool(change.hazard) is bool(why)
    if old == new:  # the file itself asks for what cannot be
        with pytest.raises(UnsafeChange, match=why):
            await made(target, [change])
        return
    await made(target, steps)  # what is in the way goes first
    assert said(await planned(target, [wanted])) == ""


@pytest.mark.parametrize("table", [keyed(KEY_BYTES // 4), keyed(700, 68), beside(Column("c", "VARCHAR", 16_000))])
async def test_what_just_fits_is_made(target: MySQLTarget, table: Table) -> None:
    await ensured(target, [table])
    assert said(await planned(target, [table])) == ""


@pytest.mark.parametrize(
    ("column", "words"),
    [(Column("c", "DATE", default="soon"), "correct the default"), (Column("ID", "INT"), "another case")],
)
async def test_what_only_the_server_can_refuse_is_one_sentence(target: MySQLTarget, column: Column, words: str) -> None:
    await ensured(target, [beside(Column("c", "DATE"))])
    with pytest.raises(ConfigError, match=words):
        await ensured(target, [replace(beside(column), name="limits")])


async def test_a_column_in_a_users_foreign_key_is_left_and_the_key_named(target: MySQLTarget, server: MariaDB) -> None:
    table = beside(Column("c", "INT"))
    await ensured(target, [table])
    server.sql(
        f"CREATE TABLE {DATABASE}.child (parent INT, CONSTRAINT mine FOREIGN KEY (parent) REFERENCES {DATABASE}.limits (id))"
    )
    wider = replace(table, columns=(Column("id", "BIGINT", nullable=False), table.columns[1]))
    with pytest.raises(UnsafeChange, match="drop the foreign key first"):
        await ensured(target, [wider])


# interruptions and locks -----------------------------------------------------------------------------------------


class Cut(Exception):
    """The process ended here."""


class Interrupted(MySQLTarget):
    """Ends amid the statements: before the one numbered ``at``, or right after it was made."""

    at, after, count_ = 0, False, 0

    async def execute(self, database: str, statement: str) -> None:
        if self.count_ == self.at and not self.after:
            raise Cut
        await super().execute(database, statement)
        if self.count_ == self.at:
            raise Cut
        self.count_ += 1


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at", range(9))
async def test_whatever_statement_it_ends_at_a_new_plan_continues(
    server: MariaDB, subject: MySQLSubject, at: int, *, after: bool
) -> None:
    table = drifting()
    smaller = replace(
        table, columns=(*(replace(c, nullable=True) for c in table.columns[:3]), Column("name", "VARCHAR", 25)),
        indexes=(), comment="",
    )  # fmt: skip
    async with MySQLDatabase(subject.access()) as database:
        await ensured(MySQLTarget(database), [smaller])
        cut = Interrupted(database)
        cut.at, cut.after = at, after
        with pytest.raises(Cut):
            await applied(cut, [table, replace(table, name="second")])
        await applied(MySQLTarget(database), [table, replace(table, name="second")])
        assert said(await planned(MySQLTarget(database), [table, replace(table, name="second")])) == ""


async def test_two_sinks_that_open_at_once_make_each_table_once(server: MariaDB, subject: MySQLSubject) -> None:
    wanted = kinds()[:4]

    async def start() -> None:
        async with MySQLDatabase(subject.access()) as database:
            await MySQLSink.opened(database, wanted)

    await asyncio.gather(*(start() for _ in range(4)))
    async with target_of(subject.access()) as target:
        assert said(await planned(target, wanted)) == ""


async def test_a_second_holder_waits_and_then_says_who_holds_it(server: MariaDB, subject: MySQLSubject) -> None:
    async with (
        target_of(subject.access()) as one,
        target_of(subject.access(), lock_seconds=1.5) as two,
        target_of(subject.access(), lock_seconds=30) as third,
    ):
        async with one.lock():
            with pytest.raises(
                Unavailable, match=rf"being changed by connection \d+ of user '{server.user}'"
            ) as caught:
                async with two.lock():
                    pass
            assert server.password not in str(caught.value)
            waiting = asyncio.create_task(_held(third))
            await asyncio.sleep(0.1)
            assert not waiting.done()
        await asyncio.wait_for(waiting, 30)


async def _held(target: MySQLTarget) -> None:
    async with target.lock():
        pass


async def test_the_lock_of_a_killed_process_is_free(server: MariaDB, subject: MySQLSubject) -> None:
    async with target_of(subject.access()) as one, target_of(subject.access(), lock_seconds=30) as two:
        with pytest.raises(IngestError):  # noqa: PT012 - the block is the claim
            async with one.lock():
                kill_connections(server)
                await _held(two)
                await one.execute("", f"CREATE DATABASE {DATABASE}")
        await _held(two)
        assert DATABASE not in await two.databases()


async def test_a_pool_of_one_connection_is_enough(server: MariaDB, subject: MySQLSubject) -> None:
    async with target_of(subject.access(pool_size=1)) as target:
        await ensured(target, kinds()[:2])
        assert said(await planned(target, kinds()[:2])) == ""


async def test_a_table_that_another_session_holds_is_unavailable_in_time(
    server: MariaDB, subject: MySQLSubject
) -> None:
    table = beside(Column("c", "INT"))
    async with target_of(subject.access(), table_seconds=1) as target, MySQLDatabase(subject.access()) as other:
        await ensured(target, [table])
        async with other.lent() as wire:
            await wire.transact("BEGIN")
            await wire.run(f"SELECT * FROM {DATABASE}.limits")
            with pytest.raises(Unavailable, match="another session uses the table"):
                await ensured(target, [replace(table, comment="new")])
            await wire.rollback()
        await ensured(target, [replace(table, comment="new")])


async def test_a_hung_server_is_unavailable_in_time(server: MariaDB, subject: MySQLSubject) -> None:
    subject.seconds = HUNG_SECONDS
    async with target_of(subject.access()) as target:
        server.freeze()
        try:
            with pytest.raises(Unavailable):
                await target.inspect([DATABASE])
            with pytest.raises(Unavailable):
                await _held(target)
        finally:
            server.thaw()


async def test_the_catalogue_is_read_in_a_few_queries_however_many_tables_there_are(
    target: MySQLTarget, server: MariaDB, subject: MySQLSubject
) -> None:
    some = [
        replace(beside(Column("c", "JSON"), Index("i", ("id", "c(5)"))), name=f"t{i}", indexes=()) for i in range(40)
    ]
    await ensured(target, some)
    counter = "SHOW GLOBAL STATUS LIKE 'Com_select'"
    before = int(server.sql(counter).split()[1])
    assert await planned(target, some) == []
    assert int(server.sql(counter).split()[1]) - before <= 7


# rights ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def roles(server: MariaDB, subject: MySQLSubject) -> dict[str, Access]:
    """An access under each of the minimal users."""
    names = {"writer": "w'riter", "reader": "reader", "migrator": "migrator"}
    accounts = [f"{user.replace(chr(39), chr(39) * 2)}" for user in names.values()]
    server.sql(
        "".join(f"DROP USER IF EXISTS '{account}'@'127.0.0.1';" for account in accounts)
        + ";".join(grants([DATABASE], host="127.0.0.1", **names))
        + ";"
        + "".join(f"ALTER USER '{a}'@'127.0.0.1' IDENTIFIED BY '{PLAIN}' ACCOUNT UNLOCK;" for a in accounts)
    )
    return {role: subject.access(user=user, password=PLAIN) for role, user in names.items()}


def routed(subject: MySQLSubject) -> Table:
    return replace(subject.table("routed"), database_name=DATABASE)


async def test_the_migrator_makes_changes_and_drops_all_there_is(
    server: MariaDB, subject: MySQLSubject, roles: dict[str, Access]
) -> None:
    async with target_of(roles["migrator"]) as target:
        await ensured(target, [drifting(), *kinds()[:3]])
        server.sql(f"ALTER TABLE {DATABASE}.drifting DROP COLUMN price, ADD COLUMN mine INT, ADD INDEX mine (mine)")
        await applied(target, [drifting()])
        assert said(await planned(target, [drifting()])) == ""


@pytest.mark.parametrize("count", [30, 2_500])
async def test_under_the_writer_rows_are_written_and_read_and_nothing_else_can_be_done(
    server: MariaDB, subject: MySQLSubject, roles: dict[str, Access], count: int
) -> None:
    """Opening included; a large batch has its temporary table."""
    table = routed(subject)
    async with target_of(roles["migrator"]) as target:
        await ensured(target, [table, *kinds()])
    async with MySQLDatabase(roles["writer"]) as database:
        sink = await MySQLSink.opened(database, [table, *kinds()])
        for turn in range(2):
            rows = ordinary(table, count, version=turn)
            await sink.write(table, rows)
            await same(sink, table, rows)
        assert sink._bulk, "the temporary table was refused"
        with pytest.raises(ConfigError, match=r"GRANT (INSERT, )?ALTER.* ON `of\\_all\\_kinds`\.\* TO 'w"):
            await ensured(MySQLTarget(database), [replace(table, comment="other")])
        for statement in (
            f"DROP TABLE {DATABASE}.routed", f"DELETE FROM {DATABASE}.routed", f"TRUNCATE {DATABASE}.routed",
            f"ALTER TABLE {DATABASE}.routed DROP COLUMN price", f"CREATE INDEX i ON {DATABASE}.routed (price)",
            f"CREATE TABLE {DATABASE}.mine (a INT)", "CREATE DATABASE mine", "CREATE USER mine", f"DROP DATABASE {DATABASE}",
        ):  # fmt: skip
            with pytest.raises(ConfigError, match=r"right|may see"):
                await MySQLTarget(database).execute(DATABASE, statement)
        await same(sink, table, rows)


async def test_under_the_reader_rows_are_read_and_the_structure_seen(
    server: MariaDB, subject: MySQLSubject, roles: dict[str, Access]
) -> None:
    table = routed(subject)
    async with target_of(roles["migrator"]) as target:
        await ensured(target, [table, *kinds()])
    async with MySQLDatabase(roles["reader"]) as database:
        sink = await MySQLSink.opened(database, [table, *kinds()])
        assert (await sink.read(table, ALL)).num_rows == 0
        with pytest.raises(ConfigError, match=r"GRANT (INSERT|the rights)"):
            await sink.write(table, ordinary(table, 5))


async def test_the_rights_on_one_database_are_none_on_another_of_a_like_name(
    server: MariaDB, subject: MySQLSubject, roles: dict[str, Access]
) -> None:
    """``_`` in a GRANT stands for any character."""
    server.sql("CREATE DATABASE IF NOT EXISTS ofXallXkinds")
    try:
        async with target_of(roles["migrator"]) as target:
            with pytest.raises(ConfigError):
                await target.execute("", "CREATE TABLE ofXallXkinds.t (a INT)")
    finally:
        server.sql("DROP DATABASE ofXallXkinds")


async def test_a_database_that_may_not_be_made_is_asked_for_with_its_grant(
    server: MariaDB, subject: MySQLSubject, roles: dict[str, Access]
) -> None:
    async with target_of(roles["writer"]) as target:
        with pytest.raises(ConfigError, match=r"CREATE DATABASE `elsewhere`.*GRANT SELECT, .*ON `elsewhere`\.\* TO"):
            await ensured(target, [replace(drifting(), database_name="elsewhere")])


def test_the_types_above_are_all_words_of_the_file() -> None:
    from mystocks_ingest.schema.types import WORDS  # noqa: PLC0415

    missing = set(WORDS) - {c.type for c in TYPES.values()}
    assert missing <= {
        "FLOAT4",
        "FLOAT8",
        "NCHAR",
        "SMALLSERIAL",
        "SMALLINT UNSIGNED",
        "MEDIUMINT UNSIGNED",
        "INTEGER UNSIGNED",
    }


def test_hazards_of_all_databases_come_first() -> None:
    dialect = MySQLDialect()
    shape = dialect.shape(drifting())
    assert "values would be lost" in hazard(DropColumn(shape, shape.columns[1]), dialect)
