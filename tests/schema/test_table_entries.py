"""One table's entries in all their spellings: types, keys, indexes, tags, storage, and what its database cannot do."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from mystocks_ingest.errors import ConfigError
from mystocks_ingest.schema.document.reading import read
from mystocks_ingest.schema.tables import Index, Storage, Table, load

ID: dict[str, Any] = {"name": "id", "type": "INT", "primary_key": True}
DAY: dict[str, Any] = {"name": "day", "type": "DATE", "primary_key": True}


def entry(*columns: dict[str, Any], kind: str = "PostgreSQL", **more: Any) -> dict[str, Any]:
    return {"database_type": kind, "database_name": "q", "table_name": "t", "columns": list(columns), **more}


def hypertable(**more: Any) -> dict[str, Any]:
    return entry(ID, DAY, is_timescale_hypertable=True, time_column="day", **more)


def table(folder: Path, one: dict[str, Any]) -> Table:
    path = folder / "tables.yaml"
    path.write_text(yaml.safe_dump({"tables": [one]}), encoding="utf-8")
    (found,) = load(path).all
    return found


def complaint(folder: Path, one: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as caught:
        table(folder, one)
    return str(caught.value)


@pytest.mark.parametrize(
    ("kind", "said", "word", "length", "precision", "scale"),
    [
        ("TDengine", "BINARY(64)", "BINARY", 64, None, None),
        ("MySQL", "varchar(20)", "VARCHAR", 20, None, None),
        ("PostgreSQL", "character varying(20)", "VARCHAR", 20, None, None),
        ("PostgreSQL", "DECIMAL(10,4)", "DECIMAL", None, 10, 4),
        ("PostgreSQL", "numeric( 10 , 4 )", "NUMERIC", None, 10, 4),
        ("PostgreSQL", "double  precision", "DOUBLE PRECISION", None, None, None),
        ("PostgreSQL", "timestamp with time zone", "TIMESTAMPTZ", None, None, None),
        ("PostgreSQL", "timestamp(3) without time zone", "TIMESTAMP", 3, None, None),
        ("PostgreSQL", "int8", "BIGINT", None, None, None),
        ("MySQL", "int(11) unsigned", "INT UNSIGNED", None, None, None),
        ("MySQL", "tinyint(1)", "BOOLEAN", None, None, None),
        ("MySQL", "DATETIME(6)", "DATETIME", 6, None, None),
        ("MySQL", "float(53)", "DOUBLE", None, None, None),
    ],
)
def test_a_type_may_carry_its_size(
    tmp_path: Path, kind: str, said: str, word: str, length: int | None, precision: int | None, scale: int | None
) -> None:
    first = {"name": "ts", "type": "TIMESTAMP"} if kind == "TDengine" else ID
    column = table(tmp_path, entry(first, {"name": "c", "type": said}, kind=kind)).columns[1]
    assert (column.type, column.length, column.precision, column.scale) == (word, length, precision, scale)


@pytest.mark.parametrize(
    ("kind", "said", "word"),
    [
        ("PostgreSQL", "SERIAL", "INTEGER"),
        ("PostgreSQL", "bigserial", "BIGINT"),
        ("MySQL", "SERIAL", "BIGINT UNSIGNED"),
    ],
)
def test_serial_is_a_number_that_the_database_counts_up(tmp_path: Path, kind: str, said: str, word: str) -> None:
    column = table(tmp_path, entry({**ID, "type": said}, kind=kind)).columns[0]
    assert (column.type, column.numbered, column.nullable) == (word, True, False)
    counted = table(tmp_path, entry({**ID, "auto_increment": True}, kind=kind)).columns[0]
    assert (counted.type, counted.numbered) == ("INT", True)
    by_default = table(tmp_path, entry({**ID, "default": "nextval('t_id_seq'::regclass)"})).columns[0]
    assert (by_default.numbered, by_default.default) == (True, None)


def test_an_enum_has_its_values_in_the_type_or_beside_it(tmp_path: Path) -> None:
    inside = {"name": "c", "type": "enum('it''s', 'b,c')"}
    beside = {"name": "c", "type": "ENUM", "values": ["it's", "b,c"]}
    for column in (inside, beside):
        found = table(tmp_path, entry(ID, column, kind="MySQL")).columns[1]
        assert (found.type, found.values) == ("ENUM", ("it's", "b,c"))


@pytest.mark.parametrize(
    ("said", "means"),
    [
        ("day", Index("idx_t_day", ("day",))),
        ("day DESC", Index("idx_t_day_desc", ("day DESC",))),
        (["id", "day desc"], Index("idx_t_id_day_desc", ("id", "day DESC"))),
        ({"columns": "id, day DESC", "name": "i"}, Index("i", ("id", "day DESC"))),
        ({"name": "i", "columns": ["day"], "unique": True}, Index("i", ("day",), unique=True)),
        ({"name": "i", "columns": ["day"], "type": "unique"}, Index("i", ("day",), unique=True)),
        ({"name": "i", "columns": ["day"], "type": "BTREE"}, Index("i", ("day",))),
    ],
)
def test_an_index_is_written_in_any_of_four_forms(tmp_path: Path, said: Any, means: Index) -> None:
    assert table(tmp_path, entry(ID, {"name": "day", "type": "DATE"}, indexes=[said])).indexes == (means,)


def test_a_unique_column_is_a_unique_index_said_once(tmp_path: Path) -> None:
    code = {"name": "code", "type": "VARCHAR", "length": 9, "unique": True}
    assert table(tmp_path, entry(ID, code)).indexes == (Index("uk_t_code", ("code",), unique=True),)
    named = {"name": "mine", "columns": ["code"], "unique": True}
    assert table(tmp_path, entry(ID, code, indexes=[named])).indexes == (Index("mine", ("code",), unique=True),)


def test_the_key_is_said_by_key_by_columns_or_by_a_primary_index(tmp_path: Path) -> None:
    a, b = {"name": "a", "type": "INT"}, {"name": "b", "type": "INT"}
    assert table(tmp_path, entry(a, b, key=["a", "b"])).key == ("a", "b")
    assert table(tmp_path, entry(a, b, primary_key=["a", "b"])).key == ("a", "b")
    assert table(tmp_path, entry({**a, "primary_key": True}, b)).key == ("a",)
    primary = {"name": "t_pkey", "columns": ["a"], "primary_key": True}
    assert table(tmp_path, entry({**a, "primary_key": True}, b, indexes=[primary])).key == ("a",)
    assert table(tmp_path, entry(a, b, indexes=[{**primary, "primary_key": False, "type": "PRIMARY KEY"}])).key == (
        "a",
    )
    assert "make them agree" in complaint(tmp_path, entry(a, b, key=["b"], indexes=[primary]))


def test_a_unique_index_of_columns_that_are_never_null_serves_as_the_key(tmp_path: Path) -> None:
    a, b = {"name": "a", "type": "INT", "nullable": False}, {"name": "b", "type": "INT"}
    unique = {"name": "uk", "columns": ["a"], "unique": True}
    served = table(tmp_path, entry(a, b, indexes=[unique]))
    assert (served.key, served.indexes) == (("a",), ())
    nullable = table(tmp_path, entry(a, b, indexes=[{**unique, "columns": ["b"]}]))
    assert (nullable.key, len(nullable.indexes)) == ((), 1)
    refused = table(tmp_path, entry(a, b, key=[], indexes=[unique]))
    assert (refused.key, len(refused.indexes)) == ((), 1)


def test_tags_stand_beside_the_columns_or_among_them(tmp_path: Path) -> None:
    ts, symbol = {"name": "ts", "type": "TIMESTAMP"}, {"name": "symbol", "type": "BINARY(16)"}
    among = table(tmp_path, entry(ts, {**symbol, "is_tag": True}, kind="tdengine", is_super_table=True))
    assert table(tmp_path, entry(ts, kind="tdengine", is_super_table=True, tags=[symbol])) == among
    assert table(tmp_path, entry(ts, kind="tdengine", tags=[symbol])) == among
    assert table(tmp_path, entry(ts, kind="tdengine", tdengine_config={"tags": [symbol]})) == among


@pytest.mark.parametrize(
    ("said", "means"),
    [
        ({"compression": True}, Storage(compress=True)),
        ({"compression": False}, Storage(compress=False)),
        ({"compression": {"enabled": False, "after_days": 3}}, Storage(compress=False)),
        (
            {"compression": {"enabled": True, "after_days": 30, "segment_by": ["id"], "order_by": "day DESC"}},
            Storage(compress=True, compress_after=timedelta(30), segment_by=("id",), order_by=("day DESC",)),
        ),
        ({"chunk_interval": "1 month", "retention_days": 90}, Storage(chunk=timedelta(30), retention=timedelta(90))),
        (
            {"timescaledb": {"chunk_time_interval": "12 hours", "compress_after": "7d", "retention_period": "5 years"}},
            Storage(timedelta(hours=12), compress_after=timedelta(7), retention=timedelta(1825)),
        ),
        (
            {
                "timescaledb": {
                    "enabled": True,
                    "partition_column": "day",
                    "compression": {"after": "INTERVAL '2 weeks'"},
                }
            },
            Storage(compress_after=timedelta(14)),
        ),
    ],
)
def test_storage_is_said_flat_or_in_blocks(tmp_path: Path, said: dict[str, Any], means: Storage) -> None:
    found = table(tmp_path, hypertable(**said))
    assert (found.storage, found.is_timescale_hypertable) == (means, True)


def test_a_timescaledb_block_makes_the_table_a_hypertable(tmp_path: Path) -> None:
    block = {"enabled": True, "partition_column": "day"}
    assert table(tmp_path, entry(ID, DAY, timescaledb=block)) == table(tmp_path, hypertable())
    assert not table(tmp_path, entry(ID, DAY, timescaledb={**block, "enabled": False})).is_timescale_hypertable


def test_the_name_of_a_database_may_come_from_the_environment(tmp_path: Path) -> None:
    path = tmp_path / "tables.yaml"
    path.write_text(yaml.safe_dump({"tables": [entry(ID) | {"database_name": "${WHERE:q}_x"}]}), encoding="utf-8")
    assert read(path, {"WHERE": "here"})[0][0].database_name == "here_x"
    assert read(path, {})[0][0].database_name == "q_x"
    path.write_text(path.read_text(encoding="utf-8").replace(":q}", "}"), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"tables.yaml:\d+:\d+: `database_name`.* is not set"):
        read(path, {})


TS = {"name": "ts", "type": "TIMESTAMP", "nullable": False}
SYMBOL = {"name": "symbol", "type": "VARCHAR", "length": 9, "is_tag": True}
CODE = {"name": "code", "type": "VARCHAR", "length": 9}


@pytest.mark.parametrize(
    ("one", "says"),
    [
        (entry(ID, {**DAY, "primary_key": False}, is_timescale_hypertable=True, time_column="day"), "add day to it"),
        (hypertable(indexes=[{"columns": ["id"], "unique": True}]), "the unique index uk_t_id of a hypertable must"),
        (entry(ID, CODE, is_timescale_hypertable=True, time_column="code", key=["id", "code"]), "must be a DATE"),
        (hypertable(compression={"codec": "zstd"}), "TimescaleDB chooses its own `codec`"),
        (entry(ID, compression=True), "add `is_timescale_hypertable: true`"),
        (entry(ID, chunk_interval=7), "only a hypertable of PostgreSQL is cut into chunks"),
        (entry(ID, {"name": "ctid", "type": "INT"}), "PostgreSQL keeps the name 'ctid' for itself"),
        (entry(ID, {"name": "n", "type": "BIGINT", "unsigned": True}), r"use NUMERIC(20, 0)"),
        (entry(ID, {"name": "j", "type": "JSON", "index": True}), "use JSONB"),
        (entry(TS, {"name": "price", "type": "FLOAT", "nullable": False}, kind="TDengine"), "cannot refuse NULL"),
        (entry(TS, {"name": "tbname", "type": "INT"}, kind="TDengine"), "keeps the name 'tbname' for itself"),
        (
            entry(TS, SYMBOL, {**ID, "auto_increment": True}, kind="TDengine", is_super_table=True),
            "counts no column up",
        ),
        (entry(TS, SYMBOL, kind="TDengine", is_super_table=True, key=["symbol"]), "the key must hold ts"),
        (entry({"name": "price", "type": "FLOAT"}, TS, kind="TDengine"), "must be its TIMESTAMP"),
        (entry(TS, SYMBOL, kind="TDengine"), "add `is_super_table: true`"),
        (entry(CODE, ID, kind="MySQL", indexes=[{"name": "PRIMARY", "columns": ["code"]}]), "keeps the index name"),
        (entry(ID, {"name": "c", "type": "TEXT", "unique": True}, kind="MySQL"), "cannot index TEXT"),
        (entry(ID, {**CODE, "length": 1000, "index": True}, kind="MySQL"), "4,000 bytes"),
        (entry(ID, {**CODE, "length": 20000}, kind="MariaDB"), "use TEXT"),
        (
            entry(CODE, {"name": "n", "type": "INT", "auto_increment": True}, key=["code"], kind="MySQL"),
            "primary_key: true",
        ),
        (entry(ID, kind="MySQL", engine="MyISAM"), "InnoDB"),
        (entry(ID, kind="MySQL") | {"database_name": "sys"}, "sys is MySQL's own database"),
        (entry({**CODE, "name": "价格"}, ID), "a name has letters, digits and _"),
        (entry({**ID, "name": True}), "put quotes round it"),
        (entry(ID, timescaledb={"chunk_interval": "7 days", "chunk_time_interval": "8 days"}), "say the same"),
        (entry(CODE, key=["code"], tags=[SYMBOL]), "only a TDengine table can be a super table"),
    ],
)
def test_what_a_database_cannot_do_is_said_with_the_remedy(tmp_path: Path, one: dict[str, Any], says: str) -> None:
    assert says in complaint(tmp_path, one)


def test_a_misspelt_entry_is_one_complaint_and_the_rest_of_the_table_is_looked_at(tmp_path: Path) -> None:
    one = entry(ID, {"nmae": "n", "type": "DUBLE"}, {"name": "p", "typ": "INT", "default": "x"})
    one["tabel_name"] = one.pop("table_name")
    said = complaint(tmp_path, one)
    assert said.startswith("5 complaints\n")
    for words in (
        *("`nmae`, is `name` meant?", "`typ`, is `type` meant?", "`tabel_name`, is `table_name` meant?"),
        *("unknown type 'DUBLE', is DOUBLE meant? (column n)", "default 'x' is no whole number, which INT needs"),
    ):
        assert words in said


def test_a_reserved_word_is_a_name_like_any_other(tmp_path: Path) -> None:
    columns = ({"name": word, "type": "INT"} for word in ("select", "order", "user", "desc", "tags"))
    assert len(table(tmp_path, entry(ID, *columns) | {"table_name": "group"}).columns) == 6


def test_two_indexes_of_one_database_share_no_name_in_postgresql(tmp_path: Path) -> None:
    index = {"name": "idx_day", "columns": ["day"]}
    twins = [entry(ID, DAY, indexes=[index]), entry(ID, DAY, indexes=[index]) | {"table_name": "u"}]
    path = tmp_path / "tables.yaml"
    path.write_text(yaml.safe_dump({"tables": twins}), encoding="utf-8")
    with pytest.raises(ConfigError, match="'idx_day' shares its name with the index of t"):
        load(path)


def test_what_is_right_and_yet_worth_saying_is_a_remark_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "tables.yaml"
    ticks = entry(TS, SYMBOL, kind="TDengine", is_super_table=True, indexes=["symbol"])
    path.write_text(yaml.safe_dump({"tables": [ticks, entry(ID, retention_days=9)]}), encoding="utf-8")
    said = [str(remark) for remark in load(path).document.remarks]
    assert len(said) == 3
    assert all(remark.startswith(f"{path}:") for remark in said)
    assert "has no key: it is made, but nothing is written to it; add `key: [symbol, ts]`" in said[0]
    assert "TDengine has no such indexes" in said[1]
    assert "deletes no rows by itself" in said[2]
