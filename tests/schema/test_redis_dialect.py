"""Key spaces as shapes: what a sample shows, which of it is a difference, and the commands that mend it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from mystocks_ingest.errors import ConfigError, UnsafeChange
from mystocks_ingest.schema.changes import (
    AddIndex,
    Change,
    ChangeKey,
    CreateDatabase,
    CreateTable,
    DropColumn,
    DropIndex,
    DropTable,
    SetComment,
    SetOption,
)
from mystocks_ingest.schema.diff import diff, hazard
from mystocks_ingest.schema.keyspace import KeySpace, Kind
from mystocks_ingest.schema.structure import ColumnShape, IndexShape
from mystocks_ingest.schema.tables import Column, Database, Table, load
from mystocks_ingest.sinks.redis.dialect import RedisDialect, Sample, grants

QUOTE = Table(
    "quote_latest",
    Database.REDIS,
    "market_data",
    (
        Column("symbol", "VARCHAR", 20, nullable=False),
        Column("ts", "TIMESTAMPTZ", nullable=False),
        Column("last", "DOUBLE", default=0.0, comment="最新价"),
        Column("exact", "NUMERIC", precision=18, scale=4),
        Column("volume", "BIGINT"),
    ),
    ("symbol",),
    time_column="ts",
    key_space=KeySpace("quote:{symbol}", channel="quote"),
)
MAP = replace(QUOTE, name="position", key_space=KeySpace("position:{symbol}", Kind.MAP), key=("symbol", "volume"))
SET = Table(
    "limit_up",
    Database.REDIS,
    "market_data",
    (Column("symbol", "VARCHAR", 20, nullable=False), Column("ts", "TIMESTAMPTZ")),
    ("symbol",),
    time_column="ts",
    key_space=KeySpace("limit:up", Kind.SET),
)
DIALECT = RedisDialect()
SHAPE = DIALECT.shape(QUOTE)


def living(seconds: int | None, table: Table = QUOTE) -> Table:
    assert table.key_space is not None
    return replace(table, key_space=replace(table.key_space, expire_seconds=seconds))


def row(symbol: str = "600000.SH", life: int = -1, **fields: str) -> Sample:
    held = {"symbol": symbol, "ts": "1700000000000", "last": "15.28"} | fields
    return Sample(f"quote:{symbol}".encode(), "hash", life, {k.encode(): v.encode() for k, v in held.items()})


def differences(table: Table, *samples: Sample, dialect: RedisDialect = DIALECT) -> list[str]:
    return [change.words for change in diff(dialect.shape(table), dialect.found(table, samples))]


# what a sample shows ------------------------------------------------------------------------------------------------


def test_an_empty_key_space_is_there_as_the_file_describes_it() -> None:
    for table in (QUOTE, MAP, SET, living(100)):
        assert DIALECT.found(table, []) == DIALECT.shape(table)


def test_rows_as_the_sink_writes_them_are_no_difference() -> None:
    assert DIALECT.found(QUOTE, [row(), row("000001.SZ", volume="5")]) == SHAPE


def test_a_field_that_is_absent_is_a_null_and_no_difference() -> None:
    assert differences(QUOTE, row()) == []


def test_a_field_that_is_no_column_is_told_and_dropped_only_by_name() -> None:
    (change,) = diff(SHAPE, DIALECT.found(QUOTE, [row(), row("b", colour="red")]))
    assert change.words == "column colour TEXT"
    assert hazard(change, DIALECT) == "its values would be lost"
    assert DIALECT.ddl(change) == ["EACH 'quote:{symbol}' HDEL colour"]


def test_a_stray_key_among_rows_stands_alone_and_stops_no_route() -> None:
    taken = Sample(b"quote:x y", "string", -1, {})
    foreign = Sample(b"quote:b", "hash", -1, {b"colour": b"red"})
    liar = row("liar", last="many")
    blind = replace(row("blind"), fields={b"symbol": b"blind"})
    changes = diff(SHAPE, DIALECT.found(QUOTE, [row(), taken, foreign, liar, blind]))
    assert [c.words for c in changes] == [
        "drop quote:x y (a string, not a hash)",
        "drop quote:b (a hash without the row's key, not a hash)",
        "drop quote:liar (a last that is no double)",
        "drop quote:blind (no ts, which no row goes without)",
    ]
    assert {c.verb for c in changes} == {"index"}  # what ensured() leaves alone
    assert all(hazard(c, DIALECT) for c in changes)
    assert DIALECT.ddl(changes[0]) == ["UNLINK 'quote:x y'"]


@pytest.mark.parametrize(
    ("table", "sample", "kind"),
    [
        (QUOTE, Sample(b"quote:a", "hash", -1, {b"a": json.dumps({"symbol": "a"}).encode()}), "map"),
        (MAP, Sample(b"position:a", "hash", -1, {b"symbol": b"a", b"volume": b"1"}), "hash"),
        (SET, Sample(b"limit:up", "hash", -1, {b"symbol": b"a"}), "hash"),
    ],
)
def test_a_key_space_without_any_row_of_its_kind_is_another_kind(table: Table, sample: Sample, kind: str) -> None:
    (change,) = diff(DIALECT.shape(table), DIALECT.found(table, [sample]))
    assert isinstance(change, SetOption)
    assert (change.option, change.before) == ("kind", kind)
    assert "give the table another pattern, or let them be deleted" in hazard(change, DIALECT)
    assert DIALECT.ddl(change)[0].endswith(" UNLINK")


def test_one_key_of_another_type_is_a_stray_and_several_without_a_row_are_another_kind() -> None:
    taken = [Sample(f"quote:{i}".encode(), "string", -1, {}) for i in range(2)]
    assert differences(QUOTE, taken[0]) == ["drop quote:0 (a string, not a hash)"]
    assert differences(QUOTE, *taken) == ["kind: string -> hash"]


def test_a_maps_rows_are_looked_at_one_by_one() -> None:
    def held(**fields: object) -> Sample:
        whole = {"symbol": "a", "volume": 1, "ts": 5} | fields
        return Sample(b"position:a", "hash", -1, {b"1": json.dumps(whole).encode()})

    assert differences(MAP, held()) == []
    assert differences(MAP, held(colour="red")) == ["column colour TEXT"]
    assert differences(MAP, held(last="many")) == ["drop position:a (a last that is no double)"]
    assert differences(MAP, held(ts=None)) == ["drop position:a (no ts, which no row goes without)"]


@pytest.mark.parametrize(
    ("asked", "lives", "words", "mended"),
    [
        (100, [99_000, 1], [], None),
        (100, [99_000, -1], ["expire: none -> 100 s"], "EACH 'quote:{symbol}' EXPIRE 100 LT"),
        (100, [500_000], ["expire: 500 s -> 100 s"], "EACH 'quote:{symbol}' EXPIRE 100 LT"),
        (0, [-1, -1], [], None),
        (0, [-1, 90_001], ["expire: 91 s -> none"], "EACH 'quote:{symbol}' PERSIST"),
        (None, [-1], [], None),
    ],
)
def test_a_life_is_compared_with_the_one_asked_for(
    asked: int | None, lives: list[int], words: list[str], mended: str | None
) -> None:
    table = living(asked)
    changes = diff(DIALECT.shape(table), DIALECT.found(table, [row(str(i), life) for i, life in enumerate(lives)]))
    assert [c.words for c in changes] == words
    assert [hazard(c, DIALECT) for c in changes] == [""] * len(changes)
    assert [s for c in changes for s in DIALECT.ddl(c)] == ([mended] if mended else [])


def test_a_table_that_says_no_life_has_the_settings() -> None:
    assert differences(QUOTE, row(life=-1), dialect=RedisDialect(expire_seconds=60)) == ["expire: none -> 60 s"]
    assert differences(living(0), row(life=-1), dialect=RedisDialect(expire_seconds=60)) == []


# commands -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (CreateDatabase(""), []),
        (CreateTable(SHAPE), []),
        (SetComment(SHAPE, "x"), []),
        (DropTable(SHAPE), ["EACH 'quote:{symbol}' UNLINK"]),
        (DropTable(DIALECT.shape(SET)), ["EACH limit:up WITH ts UNLINK"]),
        (
            SetOption(DIALECT.shape(living(9, SET)), "expire", None, "9 s"),
            ["EACH limit:up WITH ts EXPIRE 9 LT"],
        ),
        (DropIndex(SHAPE, IndexShape("quote:x", ("a string",))), ["UNLINK quote:x"]),
    ],
)
def test_a_change_is_a_command_or_nothing(change: Change, said: list[str]) -> None:
    assert DIALECT.ddl(change) == said


@pytest.mark.parametrize(
    "change",
    [
        ChangeKey(SHAPE, ("symbol",), ("symbol", "ts")),
        AddIndex(SHAPE, IndexShape("i", ("last",))),
        DropColumn(DIALECT.shape(MAP), ColumnShape("colour", "TEXT")),
    ],
)
def test_what_redis_does_not_have_is_a_hazard_and_no_command(change: Change) -> None:
    assert DIALECT.hazard(change)
    with pytest.raises(UnsafeChange):
        DIALECT.ddl(change)


def test_the_way_there_and_back_gives_the_same_shape() -> None:
    streamed = replace(QUOTE, key_space=KeySpace("q:{symbol}", stream="s", stream_length=5, expire_seconds=7))
    shipped = load(Path(__file__).parents[2] / "config" / "tables.yaml").all
    for table in (QUOTE, MAP, SET, streamed, *(t for t in shipped if t.database_type is Database.REDIS)):
        shape = DIALECT.shape(table)
        assert DIALECT.shape(DIALECT.table(shape)) == shape


# rights -------------------------------------------------------------------------------------------------------------


def test_the_grants_name_the_key_spaces_and_nothing_else() -> None:
    writer, reader, migrator = grants([QUOTE, SET], writer="w", reader="r", migrator="m")
    assert writer.startswith(
        "ACL SETUSER w reset on '><password>' '~quote:*' '~limit:up' '~{limit:up}:ts' '&quote' +ping "
    )
    assert reader.startswith(
        "ACL SETUSER r reset on '><password>' '%R~quote:*' '%R~limit:up' '%R~{limit:up}:ts' '&quote' +ping "
    )
    assert "~mystocks:schema:lock" in migrator
    for line in (writer, reader, migrator):
        words = set(line.split())
        assert not words & {"+flushall", "+@all", "~*", "+config", "+keys", "allkeys", "allcommands"}
    assert not {"+fcall", "+hset", "+set", "+eval", "+function|load"} & set(reader.split())


def test_a_pattern_that_acl_cannot_name_is_told() -> None:
    with pytest.raises(ConfigError, match="has a space"):
        grants([replace(QUOTE, key_space=KeySpace("a quote:{symbol}"))])
