"""What was measured on TDengine 3.3.7 through taos-ws-py, told by the stand-in, or by the server of TDENGINE_HOST."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
import taosws

from servers.tdengine import TaosServer

T0 = 1_704_159_000_000  # 2024-01-02 01:30 UTC


@pytest.fixture(scope="module")
def dsn() -> Iterator[str]:
    options = "conn_retries=0&read_timeout=60"
    host = os.environ.get("TDENGINE_HOST")
    if host:
        who = f"{os.environ.get('TDENGINE_USER', 'root')}:{os.environ.get('TDENGINE_PASSWORD', 'taosdata')}"
        yield f"taosws://{who}@{host}:{os.environ.get('TDENGINE_PORT', '6041')}?{options}"
        return
    with TaosServer() as server:
        yield f"taosws://{server.user}:{server.password}@{server.host}:{server.port}?{options}"


@pytest.fixture
def database(dsn: str) -> Iterator[tuple[Any, str]]:
    """A connection, and a database of its own that it uses."""
    connection = taosws.connect(dsn)
    name = f"facts_{uuid4().hex[:8]}"
    connection.execute(f"create database {name} vgroups 1 buffer 16 keep 36500 precision 'ms'")
    connection.execute(f"use {name}")
    yield connection, name
    connection.execute(f"drop database {name}")


@pytest.fixture
def bars(database: tuple[Any, str]) -> Callable[..., int]:
    """Binds tables of (name, times, prices) into `bars` and executes; the affected rows."""
    connection, name = database
    connection.execute("create stable bars (ts timestamp, price double, note nchar(4)) tags (symbol varchar(16))")
    statement = connection.stmt2_statement()
    statement.prepare(f"insert into ? using {name}.bars (symbol) tags(?) (ts, price) values(?, ?)")

    def insert(*tables: tuple[str, list[int], list[float | None]]) -> int:
        statement.bind(
            [
                taosws.stmt2_bind_param_view(
                    table,
                    [taosws.varchar_to_tag(table.upper())],
                    [taosws.millis_timestamps_to_column(times), taosws.doubles_to_column(prices)],
                )
                for table, times, prices in tables
            ]
        )
        return int(statement.execute())

    return insert


def refused(call: Callable[[], object]) -> int:
    """The code with which the server refuses ``call``."""
    with pytest.raises((taosws.Error, taosws.InterfaceError)) as caught:
        call()
    return int(str(caught.value)[3:].partition("]")[0], 16)


def test_the_same_table_and_time_is_one_row_and_the_later_value_stands(database, bars) -> None:
    assert bars(("a", [T0, T0 + 1], [1.0, 2.0])) == 2
    assert bars(("a", [T0 + 1, T0 + 2], [3.0, 4.0])) == 2
    assert list(database[0].query("select price from bars order by ts")) == [(1.0,), (3.0,), (4.0,)]


def test_equal_times_in_one_batch_merge_and_count_once(bars) -> None:
    assert bars(("a", [T0, T0, T0 + 1], [1.0, 2.0, 3.0])) == 2


def test_columns_that_an_insert_does_not_name_keep_their_values(database, bars) -> None:
    bars(("a", [T0], [1.0]))
    database[0].execute(f"insert into a (ts, note) values ({T0}, '平安')")
    assert list(database[0].query("select price, note from bars")) == [(1.0, "平安")]


def test_nan_and_infinity_are_stored_as_such_through_stmt2(database, bars) -> None:
    bars(("a", [T0, T0 + 1, T0 + 2], [float("nan"), float("inf"), None]))
    (nan,), (inf,), (null,) = database[0].query("select price from bars order by ts")
    assert nan != nan and inf == float("inf") and null is None  # noqa: PLR0124, PT018


def test_a_time_outside_keep_leaves_its_table_out_and_stores_the_others(database, bars) -> None:
    old = int((datetime.now(UTC) - timedelta(days=36_600)).timestamp() * 1000)
    assert refused(lambda: bars(("a", [T0], [1.0]), ("b", [T0, old], [1.0, 2.0]), ("c", [T0], [1.0]))) == 0x060B
    assert sorted(database[0].query("select tbname from bars")) == [("a",), ("c",)]


def test_a_value_too_long_fails_the_whole_call(database) -> None:
    connection, _ = database
    connection.execute("create stable s (ts timestamp, v varchar(3)) tags (t int)")
    sql = f"insert into a using s tags(1) values ({T0}, 'abc') b using s tags(2) values ({T0}, 'abcd')"
    assert refused(lambda: connection.execute(sql)) == 0x2653
    assert list(connection.query("select v from s")) == []


def test_a_table_takes_32767_rows_in_one_bind_and_not_one_more(bars) -> None:
    times = [T0 + i for i in range(32_768)]
    assert bars(("a", times[:-1], [1.0] * 32_767)) == 32_767
    assert refused(lambda: bars(("a", times, [1.0] * 32_768))) == 0x0236


def test_sub_tables_that_stmt2_binds_need_a_connection_that_is_in_their_database(dsn, database) -> None:
    _, name = database
    database[0].execute("create stable s (ts timestamp, v int) tags (t int)")
    sql = f"insert into ? using {name}.s tags(?) values(?, ?)"
    address, _, options = dsn.partition("?")

    def insert(connection: Any) -> int:
        statement = connection.stmt2_statement()
        statement.prepare(sql)
        columns = [taosws.millis_timestamps_to_column([T0]), taosws.ints_to_column([1])]
        statement.bind([taosws.stmt2_bind_param_view("a", [taosws.int_to_tag(1)], columns)])
        return int(statement.execute())

    outside = taosws.connect(dsn)
    with pytest.raises((taosws.Error, taosws.InterfaceError), match="db is not specified"):
        insert(outside)
    assert insert(taosws.connect(f"{address}/{name}?{options}")) == 1


def test_stmt2_is_strict_about_types(database) -> None:
    connection, name = database
    connection.execute("create stable s (ts timestamp, v float) tags (t int)")
    statement = connection.stmt2_statement()
    statement.prepare(f"insert into ? using {name}.s tags(?) values(?, ?)")
    columns = [taosws.millis_timestamps_to_column([T0]), taosws.doubles_to_column([1.0])]

    def insert() -> None:
        statement.bind([taosws.stmt2_bind_param_view("a", [taosws.int_to_tag(1)], columns)])
        statement.execute()

    assert refused(insert) == 0x0200


def test_the_tags_of_an_existing_table_stay_until_they_are_set(database) -> None:
    connection, _ = database
    connection.execute("create stable s (ts timestamp, v int) tags (t varchar(8))")
    for tag in ("old", "new"):
        connection.execute(f"insert into a using s tags('{tag}') values ({T0}, 1)")
    assert list(connection.query("select tags tbname, t from s")) == [("a", "old")]
    connection.execute("alter table a set tag t = 'new'")
    assert list(connection.query("select tags tbname, t from s")) == [("a", "new")]


def test_a_composite_key_tells_rows_of_one_time_apart(database) -> None:
    connection, _ = database
    connection.execute("create stable k (ts timestamp, seq int primary key, v int) tags (t int)")
    connection.execute(f"insert into a using k tags(1) values ({T0}, 1, 1) ({T0}, 2, 2)")
    connection.execute(f"insert into a values ({T0}, 2, 3)")
    assert list(connection.query("select seq, v from k order by ts, seq")) == [(1, 1), (2, 3)]
    assert [row[3] for row in connection.query("describe k")] == ["", "COMPOSITE KEY", "", "TAG"]


def test_a_statement_has_its_measured_code(database) -> None:
    connection, name = database
    connection.execute("create stable s (ts timestamp, v varchar(4)) tags (t int)")
    for sql, code in {
        "select * from nothing": 0x2603,
        "select * from nowhere.s": 0x0388,
        f"create database {name}": 0x0381,
        "create stable s (ts timestamp, v int) tags (t int)": 0x0360,
        "create stable n (ts timestamp, v int not null) tags (t int)": 0x2600,
        "select colour from s": 0x2602,
        "insert into `a.b` using s tags(1) values (now, 'a')": 0x2617,
        "alter stable s modify column v varchar(2)": 0x264B,
        f"insert into a using s tags(1) values ({T0})": 0x0216,
    }.items():
        assert (sql, hex(refused(lambda sql=sql: connection.query(sql)))) == (sql, hex(code))


def test_a_prepared_statement_names_a_missing_table_at_once(database) -> None:
    statement = database[0].stmt2_statement()
    assert refused(lambda: statement.prepare("insert into ? using nothing tags(?) values(?, ?)")) == 0x022B


def test_only_the_first_of_two_statements_runs(database) -> None:
    connection, _ = database
    connection.execute("create stable s (ts timestamp, v int) tags (t int)")
    connection.execute(f"insert into a using s tags(1) values ({T0}, 1); drop table s")
    assert list(connection.query("select v from s")) == [(1,)]


def test_a_wrong_password_is_told(dsn: str) -> None:
    head, _, tail = dsn.partition("@")
    assert refused(lambda: taosws.connect(f"{head}wrong@{tail}")) == 0x0357


def test_chinese_and_emoji_come_back(database) -> None:
    connection, _ = database
    connection.execute("create stable s (ts timestamp, n nchar(4), v varchar(6)) tags (t nchar(4))")
    connection.execute(f"insert into a using s tags('涨停🚀') values ({T0}, '平安🚀行', '平安')")
    assert list(connection.query("select n, v, t from s")) == [("平安🚀行", "平安", "涨停🚀")]


def test_a_column_grows_and_never_changes_its_type(database) -> None:
    connection, _ = database
    connection.execute("create stable s (ts timestamp, v varchar(4)) tags (t int)")
    connection.execute("alter stable s modify column v varchar(8)")
    connection.execute("alter stable s add column w double")
    assert [row[:3] for row in connection.query("describe s")][1:3] == [("v", "VARCHAR", 8), ("w", "DOUBLE", 8)]
    assert refused(lambda: connection.execute("alter stable s modify column w int")) == 0x264B


def test_a_long_statement_is_refused(database) -> None:
    connection, _ = database
    assert refused(lambda: connection.execute("select '" + "x" * (1 << 20) + "'")) == 0x0219


# Not measured, but read in TDengine's manual and in the source of 3.3 (taoserror.h, mndStb.c): what plans lean on.


def test_what_the_catalogue_tells_and_what_only_describe_does(database) -> None:
    connection, name = database
    connection.execute(
        "create stable s (ts timestamp, k int primary key, d decimal(10, 4), b varbinary(9)) tags (t int)"
    )
    connection.execute("create table lone (ts timestamp, v varchar(3)) comment 'it''s'")
    connection.execute(f"insert into c using s tags(1) values ({T0}, 1, 1.5, null)")
    where = f"where db_name = '{name}'"
    tables = connection.query(f"select table_name, `type`, table_comment from information_schema.ins_tables {where}")
    assert sorted(tables) == [("c", "CHILD_TABLE", None), ("lone", "NORMAL_TABLE", "it's")]
    kinds = list(
        connection.query(f"select table_name, table_type, col_type from information_schema.ins_columns {where}")
    )
    assert [k for k in kinds if k[0] == "lone"] == [
        ("lone", "NORMAL_TABLE", "TIMESTAMP"), ("lone", "NORMAL_TABLE", "VARCHAR(3)"),
    ]  # fmt: skip
    assert {k[1] for k in kinds if k[0] == "c"} == {"CHILD_TABLE"}  # a line a column of every sub table
    assert {k[2] for k in kinds if k[0] == "s"} == {
        "TIMESTAMP",
        "INT",
        "DECIMAL",
        "VARBINARY",
    }  # neither tags nor sizes
    assert [tuple(row[:4]) for row in connection.query("describe s")] == [
        ("ts", "TIMESTAMP", 8, ""),
        ("k", "INT", 4, "COMPOSITE KEY"),
        ("d", "DECIMAL(10, 4)", 8, ""),
        ("b", "VARBINARY", 9, ""),
        ("t", "INT", 4, "TAG"),
    ]


def test_each_type_has_its_own_compression_until_it_is_given_another(database) -> None:
    connection, _ = database
    connection.execute(
        "create stable s (ts timestamp, i int, n tinyint, d double, v varchar(3) compress 'xz' level 'h', b bool) tags (t int)"
    )
    described = {row[0]: tuple(row[5:7]) for row in connection.query("describe s")}
    assert described == {
        "ts": ("lz4", "medium"), "i": ("lz4", "medium"), "n": ("zlib", "medium"), "d": ("lz4", "medium"),
        "v": ("xz", "high"), "b": ("zstd", "medium"), "t": ("disabled", "disabled"),
    }  # fmt: skip
    connection.execute("alter stable s modify column d compress 'tsz' level 'low'")
    assert next(tuple(row[5:7]) for row in connection.query("describe s") if row[0] == "d") == ("tsz", "low")


def test_a_change_that_the_structure_forbids_has_its_code(database) -> None:
    connection, name = database
    connection.execute("create stable s (ts timestamp, k varchar(4) primary key, v int) tags (t varchar(4))")
    connection.execute(f"insert into c using s tags('a') values ({T0}, 'x', 1)")
    connection.execute("create table lone (ts timestamp, v int)")
    for sql, code in {
        "alter stable s drop column ts": 0x264A,
        "alter stable s drop column k": 0x267A,
        "alter stable s modify column k varchar(8)": 0x267A,
        "alter stable s add column k2 int primary key": 0x267A,
        "alter stable s modify column v bigint": 0x264B,
        "alter stable s modify tag t varchar(3)": 0x264B,
        "alter table lone drop column v": 0x2651,
        "alter stable s drop tag t": 0x2651,
        "alter table c add column w int": 0x2649,
        "alter table lone add tag w int": 0x2649,
        "alter stable lone add column w int": 0x2649,
        "drop stable lone": 0x263A,
        "create stable n (v int, ts timestamp) tags (t int)": 0x2641,
        "create stable n (ts timestamp, a int, b int primary key) tags (t int)": 0x2678,
        "create stable n (ts timestamp, a double primary key) tags (t int)": 0x2679,
        "create stable n (ts timestamp, a int, a int) tags (t int)": 0x263C,
        "create stable n (ts timestamp) tags (t int)": 0x263F,
        "create stable n (ts timestamp, a varchar(65500)) tags (t varchar(16400))": 0x263D,
        "create stable n (ts timestamp, a int comment 'x') tags (t int)": 0x2600,
        "create stable n (ts timestamp, a int) tags (t int) colour 3": 0x2600,
        f"alter stable s comment '{'x' * 1025}'": 0x264E,
        f"create database {name}_b keep 20 duration 10": 0x2619,
        f"create database {name}_b buffer 2": 0x2619,
        f"create database {name}_b colour 2": 0x2600,
        f"alter database {name} precision 'us'": 0x2600,
        f"alter database {name} duration 5": 0x2600,
    }.items():
        assert (sql[:60], hex(refused(lambda sql=sql: connection.execute(sql)))) == (sql[:60], hex(code))


def test_tags_are_renamed_and_keep_is_changed(database) -> None:
    connection, name = database
    connection.execute("create stable s (ts timestamp, v int) tags (t varchar(4))")
    connection.execute(f"insert into c using s tags('a') values ({T0}, 1)")
    connection.execute("alter stable s rename tag t u")
    assert list(connection.query("select tags tbname, u from s")) == [("c", "a")]
    connection.execute(f"alter database {name} keep 100h,100d,3650d")
    (kept,) = connection.query(f"select `keep` from information_schema.ins_databases where name = '{name}'")
    assert kept[0].rpartition(",")[2] == "3650d"


def test_of_two_who_make_the_same_super_table_one_is_told(database) -> None:
    connection, _ = database
    connection.execute("create stable g1 (ts timestamp, v int) tags (t int) comment 'one'")
    assert (
        refused(lambda: connection.execute("create stable g1 (ts timestamp, v int) tags (t int) comment 'two'"))
        == 0x0360
    )
