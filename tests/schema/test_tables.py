"""The tables file: what is read from it, and what is said about what is wrong in it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest

from mystocks_ingest.errors import ConfigError
from mystocks_ingest.market.datasets import ADJ_FACTOR, BAR_1D, DATASETS, QUOTE
from mystocks_ingest.schema.tables import Column, Database, Route, Table, Tables, load

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "config" / "tables.yaml"

USERS_OWN = """
tables:
  # TDengine 超级表 - Tick数据
  - database_type: "TDengine"
    database_name: "market_data"
    table_name: "ticks"
    is_super_table: true
    columns:
      - name: "ts"
        type: "TIMESTAMP"
        nullable: false
      - name: "price"
        type: "FLOAT"
      - name: "symbol"
        type: "VARCHAR"
        length: 20
        is_tag: true
  - database_type: "PostgreSQL"
    database_name: "quant_research"
    table_name: "daily_bars"
    is_timescale_hypertable: true
    time_column: "trade_date"
    columns:
      - name: "symbol_id"
        type: "INTEGER"
        nullable: false
      - name: "trade_date"
        type: "DATE"
        nullable: false
      - name: "adj_factor"
        type: "NUMERIC"
        precision: 10
        scale: 6
        comment: "复权因子"
  - database_type: "MySQL"
    database_name: "quant_research"
    table_name: "symbols"
    columns:
      - name: "symbol_id"
        type: "INT"
        primary_key: true
        nullable: false
        comment: "股票ID"
      - name: "is_active"
        type: "BOOLEAN"
        default: true
      - name: "updated_at"
        type: "TIMESTAMP"
        default: "CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP"
"""

FACTORS = """tables:
  - database_type: PostgreSQL
    database_name: quant_research
    table_name: factors
    dataset: adj_factor
    key: [symbol, trade_date, source]
    columns:
      - {name: symbol, type: VARCHAR, length: 20}
      - {name: trade_date, type: DATE}
      - {name: factor, type: DOUBLE}
      - {name: source, type: VARCHAR, length: 20}
      - {name: fetched_at, type: TIMESTAMPTZ}
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "tables.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def complaint(folder: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(written(folder, text))
    return str(caught.value)


def test_the_shipped_file_holds_every_dataset_with_a_key_and_a_comment_on_every_column() -> None:
    tables = load(SHIPPED)
    assert set(tables.datasets) == set(DATASETS)
    for table in tables.all:
        assert table.key, table
        assert table.dataset is not None
        required = {f.name: f.required for f in table.dataset.fields}
        assert {c.name: not c.nullable for c in table.columns} == required, table
        assert all(c.comment for c in table.columns), table
    assert len({t.name for t in tables.all}) == len(tables.all)


def test_with_no_store_named_each_dataset_has_exactly_one_embedded_table() -> None:
    tables = load(SHIPPED).placed(())
    assert all(len(tables.routes(d)) == 1 for d in DATASETS.values())
    assert {t.database_type for t in tables.all} == {Database.EMBEDDED}


def test_a_named_store_keeps_its_tables_and_the_rest_is_embedded() -> None:
    tables = load(SHIPPED).placed({"redis"})
    assert {t.database_type for t in tables.routes(QUOTE)} == {Database.REDIS, Database.EMBEDDED}
    assert tables.holder(QUOTE).database_type is Database.EMBEDDED  # the required one; Redis holds only the latest
    assert [t.database_type for t in tables.routes(BAR_1D)] == [Database.EMBEDDED]
    assert load(SHIPPED).placed({"tdengine", "postgresql", "redis", "mysql"}).all == load(SHIPPED).all


def test_the_users_own_format_is_read_in_full(tmp_path: Path) -> None:
    ticks, daily, symbols = load(written(tmp_path, USERS_OWN)).all
    assert (ticks.database_type, ticks.database_name, ticks.is_super_table) == (Database.TDENGINE, "market_data", True)
    assert ticks.columns[0] == Column("ts", "TIMESTAMP", nullable=False)
    assert ticks.columns[2] == Column("symbol", "VARCHAR", 20, is_tag=True)
    assert (daily.is_timescale_hypertable, daily.time_column) == (True, "trade_date")
    assert daily.columns[2] == Column("adj_factor", "NUMERIC", precision=10, scale=6, comment="复权因子")
    assert symbols.key == ("symbol_id",)
    assert symbols.columns[1].default is True
    assert symbols.schema.field("updated_at").type == pa.timestamp("ms")


def test_a_dataset_column_has_the_canonical_type_whatever_word_describes_it(tmp_path: Path) -> None:
    text = FACTORS.replace("type: DOUBLE", "type: NUMERIC, precision: 18, scale: 6")
    (table,) = load(written(tmp_path, text)).all
    assert (table.schema.names, table.schema.types) == (ADJ_FACTOR.schema.names, ADJ_FACTOR.schema.types)


def test_a_table_without_a_key_is_read_but_routing_to_it_says_what_to_add(tmp_path: Path) -> None:
    path = written(tmp_path, FACTORS.replace("    key: [symbol, trade_date, source]\n", ""))
    tables = load(path)
    with pytest.raises(
        ConfigError, match=r"tables.yaml:2:5: table factors has no key.*add `key: \[symbol, trade_date, "
    ):
        tables.routes(ADJ_FACTOR)


def test_a_dataset_without_a_table_says_what_to_add() -> None:
    with pytest.raises(ConfigError, match="no table holds dataset bar_1d: add one with `dataset: bar_1d`"):
        Tables(()).routes(BAR_1D)


@pytest.mark.parametrize(
    ("change", "where", "says"),
    [
        (("dataset: adj_factor", "dataset: adj_faktor"), "5:14", "unknown dataset 'adj_faktor'"),
        (("table_name: factors", "tabel_name: factors"), "4:5", "unknown entry `tabel_name`"),
        (("    table_name: factors\n", ""), "2:5", "`table_name` is missing"),
        (("PostgreSQL", "Oracle"), "2:20", "`database_type` is 'Oracle'; it must be 'TDengine', 'PostgreSQL'"),
        (("key: [symbol, trade_date, source]", "key: [symbol, day]"), "6:10", "`key` names 'day'"),
        (("key: [symbol, trade_date, source]", "key: [symbol, symbol]"), "6:10", "`key` names a column twice"),
        (
            ("key: [symbol, trade_date, source]", "key: symbol"),
            "6:10",
            "`key` of table factors: input should be a valid",
        ),
        (("name: factor, type: DOUBLE", "name: factor, type: DATE"), "10:30", "DATE cannot hold factor"),
        (("name: factor, type: DOUBLE", "name: factor, type: DUBLE"), "10:30", "unknown type 'DUBLE'"),
        (("name: factor, type: DOUBLE", "name: factor, type: VARCHAR(20)"), "10:30", "VARCHAR cannot hold factor"),
        (("type: DOUBLE", "type: DOUBLE, length: 3"), "10:46", "DOUBLE takes no `length`"),
        (("type: DOUBLE", "type: NUMERIC, precision: 5, scale: 9"), "10:60", "0 <= scale <= precision"),
        (("type: DOUBLE", "type: DOUBLE, lenght: 3"), "10:38", "unknown entry `lenght`"),
        (("      - {name: factor, type: DOUBLE}\n", ""), "8:7", "needs the columns factor"),
        (("{name: symbol, type", "{name: symbol, nullable: true, type"), "8:34", "belongs to the key"),
        (("{name: trade_date,", "{name: Symbol,"), "9:16", "column 'Symbol' stands twice"),
        (("columns:\n", "columns:\n      - {name: extra, type: INT, nullable: false}\n"), "8:9", "has no 'extra'"),
        (("    key:", "    route: maybe\n    key:"), "6:12", "`route` is 'maybe'"),
        (("    key:", "    is_super_table: true\n    key:"), "6:21", "only a TDengine table can be a super table"),
        (("    key:", "    is_timescale_hypertable: true\n    time_column: day\n    key:"), "7:18", "`time_column`"),
        (("    key:", "    dataset: adj_factor\n    key:"), "6:5", "`dataset` stands twice"),
        (("    key:", "     key:"), "6:9", "not YAML"),
        (("tables:", "tabels:"), "1:1", "a list `tables:`"),
    ],
)
def test_a_mistake_is_reported_with_its_line_and_column(
    tmp_path: Path, change: tuple[str, str], where: str, says: str
) -> None:
    text = FACTORS.replace(*change, 1)
    report = complaint(tmp_path, text)
    assert f"{tmp_path / 'tables.yaml'}:{where}: " in report
    assert says in report


def test_all_mistakes_are_reported_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = FACTORS + FACTORS.removeprefix("tables:\n").replace("table_name: factors", "table_name: 2nd")
    text = text.replace("type: DOUBLE", "type: TEXT", 1).replace("database_name: quant_research", "database: x", 1)
    text += FACTORS.removeprefix("tables:\n").replace("type: DATE", "type: INT")
    report = complaint(tmp_path, text).splitlines()
    assert report[0] == "5 complaints"
    places = [tuple(int(n) for n in line.split("tables.yaml:")[1].split(":")[:2]) for line in report[1:]]
    assert places == sorted(places)
    for says in (
        "`database_name` is missing",
        "unknown entry `database`",
        "'2nd'",
        "INT cannot hold trade_date",
        "TEXT cannot",
    ):
        assert says in "\n".join(report)


def test_the_same_table_twice_is_reported_at_the_second(tmp_path: Path) -> None:
    assert ":15:17: " in complaint(tmp_path, FACTORS + FACTORS.removeprefix("tables:\n"))


def test_four_byte_floats_are_refused_where_the_database_has_them(tmp_path: Path) -> None:
    text = FACTORS.replace("type: DOUBLE", "type: FLOAT")
    assert load(written(tmp_path, text)).all  # PostgreSQL's FLOAT has eight bytes
    assert "FLOAT keeps about 7 digits here" in complaint(tmp_path, text.replace("PostgreSQL", "MySQL"))


def test_columns_shared_by_an_anchor_are_read_for_each_table(tmp_path: Path) -> None:
    text = FACTORS.replace("columns:", "columns: &c") + (
        "  - {database_type: MySQL, database_name: a, table_name: b, dataset: adj_factor, route: best_effort,\n"
        "     key: [symbol, trade_date, source], columns: *c}\n"
    )
    first, second = load(written(tmp_path, text)).routes(ADJ_FACTOR)
    assert first.columns == second.columns
    assert second.route is Route.BEST_EFFORT


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"tables: [\x00]", "not YAML"),
        ("tables: 表".encode("gbk"), "is not UTF-8"),
        (b"just words", "must be a mapping"),
        (b"- a\n- b\n", "must be a mapping"),
        (b"tables:\n  - 3\n", ":2:5: "),
        (b"tables: []\nextra: 1\n", ":2:1: unknown entry 'extra'"),
        (b"a: &a [*a]", "must be a mapping"),
    ],
)
def test_a_file_that_is_no_table_file_is_one_sentence(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "tables.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"\S") as caught:
        load(path)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_names_the_setting(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no table file at .*: set MYSTOCKS_CONFIG_DIR"):
        load(tmp_path / "tables.yaml")


def test_two_embedded_tables_may_not_share_a_name() -> None:
    columns = (Column("id", "INT", nullable=False),)
    twins = Tables(
        [
            Table("symbols", Database.POSTGRESQL, "a", columns, ("id",), where="t.yaml:1:1"),
            Table("symbols", Database.MYSQL, "b", columns, ("id",), where="t.yaml:9:1"),
        ]
    )
    with pytest.raises(ConfigError, match=r"t.yaml:9:1: .*share the name symbols"):
        twins.placed(())
    assert len(twins.placed({"mysql"}).all) == 2


def test_the_ports_are_imported_without_pydantic_and_yaml() -> None:
    code = "import sys, mystocks_ingest.ports; sys.exit(bool({'pydantic', 'yaml'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
