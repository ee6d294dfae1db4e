"""The comparison of structures: for any two of them, and on a real store."""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mystocks_ingest.flow.migrate import Step
from mystocks_ingest.flow.migrate.startup import stops
from mystocks_ingest.schema.changes import (
    AddColumn,
    Change,
    ChangeColumn,
    ChangeKey,
    CreateTable,
    DropColumn,
    DropTable,
    SetComment,
)
from mystocks_ingest.schema.diff import Fit, applied, diff, hazard
from mystocks_ingest.schema.drift import Kind, issue
from mystocks_ingest.schema.structure import ColumnShape, IndexShape, TableShape
from mystocks_ingest.sinks.embedded import EmbeddedDatabase, EmbeddedTarget
from mystocks_ingest.sinks.embedded.dialect import DATABASE, EmbeddedDialect

DIALECT = EmbeddedDialect()
NAMES = ("symbol", "day", "close", "volume", "note", "备注", 'quo"ted', "select")
DEFAULTS = {
    "VARCHAR": (None, "'x'", "'it''s'", "''", "'中文'", "'12'"),
    "BIGINT": (None, "0", "-5", "12345678901234"),
    "INTEGER": (None, "0", "7"),
    "DOUBLE": (None, "0.0", "1.5", "-1e-07"),
    "DECIMAL(10,2)": (None, "0.5", "12"),
    "DECIMAL(18,4)": (None, "0"),
    "BOOLEAN": (None, "true", "false"),
    "DATE": (None, "'2024-01-01'", "current_timestamp"),
    "TIMESTAMP": (None, "current_timestamp", "'2024-01-01 00:00:00'"),
    "TIMESTAMP WITH TIME ZONE": (None, "current_timestamp"),
    "BLOB": (None,),
}
NUMBERED = ("BIGINT", "INTEGER")


@st.composite
def columns(draw: st.DrawFn, name: str, *, plain: bool = False) -> ColumnShape:
    kind = draw(st.sampled_from(sorted(DEFAULTS)))
    numbered = kind in NUMBERED and not plain and draw(st.integers(0, 5)) == 0
    return ColumnShape(
        name,
        kind,
        nullable=draw(st.booleans()),
        default=None if numbered else draw(st.sampled_from(DEFAULTS[kind])),
        comment=draw(st.sampled_from(("", "收盘价", "it's"))),
        numbered=numbered,
    )


@st.composite
def shapes(draw: st.DrawFn, *, indexed: bool = True) -> TableShape:
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=6, unique=True))
    key = tuple(draw(st.lists(st.sampled_from(names), max_size=3, unique=True)))
    parts = draw(st.lists(st.sampled_from(names), min_size=1, max_size=2, unique=True))
    some = [IndexShape("ix_a", (names[0],)), IndexShape("ix_b", tuple(parts), unique=True)]
    options = draw(st.dictionaries(st.sampled_from(("chunk", "engine", "retention")), st.sampled_from("abc")))
    return TableShape(
        DATABASE,
        "t",
        tuple(draw(columns(name)) for name in names),
        key,
        tuple(draw(st.lists(st.sampled_from(some), unique=True))) if indexed else (),
        draw(st.sampled_from(("", "日线", "it's"))),
        tuple(options.items()) if indexed else (),
    )


def loose(shape: TableShape | None) -> object:
    """The shape where order and an index's own name do not matter."""
    if shape is None:
        return None
    columns = frozenset(shape.columns)
    indexes = frozenset((i.columns, i.unique) for i in shape.indexes)
    return shape.database, shape.name, columns, frozenset(shape.key), indexes, shape.comment, shape.settings


def after(changes: list[Change], shape: TableShape | None) -> TableShape | None:
    for change in changes:
        shape = applied(change, shape)
    return shape


@given(shapes(), shapes())
def test_the_changes_between_two_structures_lead_from_one_to_the_other(a: TableShape, b: TableShape) -> None:
    assert loose(after(diff(b, a), a)) == loose(b)


@given(shapes())
def test_nothing_separates_a_structure_from_itself(a: TableShape) -> None:
    assert diff(a, a) == []
    assert diff(replace(a, columns=a.columns[::-1], key=a.key[::-1]), a) == []


@given(shapes())
def test_a_table_that_is_missing_is_one_change(a: TableShape) -> None:
    assert diff(a, None) == [CreateTable(a)]
    assert applied(CreateTable(a), None) == a
    assert applied(DropTable(a), a) is None


def loses(change: Change) -> bool:
    """Whether a value or a row that is there may be gone, or be refused, after the change."""
    match change:
        case DropTable() | DropColumn():
            return True
        case ChangeKey(before=before):
            return before != ()
        case ChangeColumn(before=before, after=then):
            narrower = DIALECT.fit(before.type, then.type) is Fit.LOSSY
            return narrower or (before.nullable and not then.nullable)
        case AddColumn(column=column):
            return not column.nullable and column.default is None and not column.numbered
        case _:
            return False


@given(shapes(indexed=False), shapes(indexed=False))
def test_no_change_that_may_lose_a_value_is_without_a_warning(a: TableShape, b: TableShape) -> None:
    for change in [*diff(b, a), DropTable(a)]:
        if loses(change):
            assert hazard(change, DIALECT)
        elif not isinstance(change, ChangeColumn):
            assert not hazard(change, DIALECT), change


@given(shapes(), shapes())
def test_every_change_has_words_a_verb_and_an_issue(a: TableShape, b: TableShape) -> None:
    for change in diff(b, a):
        assert change.verb in {"create", "add", "drop", "change", "index", "comment", "policy"}
        assert change.words
        assert issue(change).words
        assert issue(change).kind in Kind


def test_an_issue_says_what_is_there_and_what_the_file_says() -> None:
    there = TableShape("db", "t", (ColumnShape("a", "varchar(20)", comment="x"), ColumnShape("old", "int")), ("a",))
    wanted = TableShape("db", "t", (ColumnShape("a", "varchar(40)", nullable=False), ColumnShape("b", "date")), ("b",))
    assert [str(issue(c)) for c in diff(wanted, there)] == [
        (
            "different: column a: type is varchar(20), the file says varchar(40); null is allowed, "
            "the file says refused; comment is 'x', the file says ''"
        ),
        "missing: column b date",
        "different: the key is (a), the file says (b)",
        "extra: column old int",
    ]


def test_a_comment_alone_is_a_comment() -> None:
    column = ColumnShape("a", "int")
    shape = TableShape("db", "t", (column,), comment="x")
    (first, second) = diff(replace(shape, columns=(replace(column, comment="y"),), comment="z"), shape)
    assert (first.verb, second.verb) == ("comment", "comment")
    assert isinstance(second, SetComment)


def test_on_the_embedded_store_every_difference_goes_away() -> None:
    async def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            async with EmbeddedDatabase(Path(folder)) as database:
                target = EmbeddedTarget(database)

                async def live() -> TableShape | None:
                    return next((s for s in await target.inspect([DATABASE]) if s.name == "t"), None)

                async def make(changes: list[Change]) -> None:
                    for change in changes:
                        for statement in target.dialect.ddl(change):
                            await target.execute(DATABASE, statement)

                async def journey(stations: list[TableShape]) -> None:
                    for wanted in stations:
                        await make(diff(wanted, await live()))
                        there = await live()
                        assert loose(there) == loose(wanted)
                        assert diff(wanted, there) == []
                    await make([DropTable(stations[-1])])
                    assert await live() is None

                loop = asyncio.get_running_loop()

                @settings(max_examples=60, deadline=None)
                @given(st.lists(shapes(indexed=False), min_size=1, max_size=3))
                def go(stations: list[TableShape]) -> None:
                    asyncio.run_coroutine_threadsafe(journey(stations), loop).result(60)

                await asyncio.to_thread(go)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("before", "after", "fit"),
    [
        ("INTEGER", "BIGINT", Fit.WIDER),
        ("BIGINT", "INTEGER", Fit.LOSSY),
        ("BIGINT", "DOUBLE", Fit.LOSSY),
        ("INTEGER", "DOUBLE", Fit.WIDER),
        ("DECIMAL(10,2)", "DECIMAL(12,2)", Fit.WIDER),
        ("DECIMAL(10,2)", "DECIMAL(10,4)", Fit.LOSSY),
        ("DECIMAL(10,2)", "BIGINT", Fit.LOSSY),
        ("INTEGER", "DECIMAL(12,2)", Fit.WIDER),
        ("INTEGER", "DECIMAL(11,2)", Fit.LOSSY),
        ("BIGINT", "BIGINT", Fit.SAME),
        ("DOUBLE", "VARCHAR", Fit.LOSSY),
        ("VARCHAR", "BIGINT", Fit.LOSSY),
        ("DATE", "TIMESTAMP", Fit.WIDER),
        ("TIMESTAMP WITH TIME ZONE", "TIMESTAMP", Fit.LOSSY),
    ],
)
def test_a_type_is_wider_where_it_holds_every_value_of_the_other(before: str, after: str, fit: Fit) -> None:
    assert DIALECT.fit(before, after) is fit


def test_a_unique_index_on_the_key_of_the_file_lets_a_table_with_numbers_of_its_own_be_written_to() -> None:
    columns = tuple(ColumnShape(n, "bigint", nullable=False) for n in ("id", "symbol", "day"))
    desired = TableShape("d", "t", columns[1:], ("symbol", "day"))
    actual = TableShape("d", "t", columns, ("id",), (IndexShape("own", ("day", "symbol"), unique=True),))
    (key,) = [c for c in diff(desired, actual) if isinstance(c, ChangeKey)]
    assert not stops(Step(key, "a hazard"))
    (bare,) = [c for c in diff(desired, replace(actual, indexes=())) if isinstance(c, ChangeKey)]
    assert stops(Step(bare, "a hazard"))
