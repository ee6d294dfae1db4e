"""TDengine's pure parts: names, DDL, what becomes of rows before they are sent."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mystocks_ingest import errors
from mystocks_ingest.errors import ConfigError, Rejected
from mystocks_ingest.market.frames import Symbol, Window
from mystocks_ingest.ports import Query
from mystocks_ingest.schema.tables import Column, Database, Table
from mystocks_ingest.sinks.tdengine.batches import TABLE_ROWS, Bounds, Slice, prepared, slices
from mystocks_ingest.sinks.tdengine.faults import translated
from mystocks_ingest.sinks.tdengine.names import sub_table
from mystocks_ingest.sinks.tdengine.reading import statement
from mystocks_ingest.sinks.tdengine.shape import finest, insert, shape

NOW = datetime(2026, 11, 20, tzinfo=UTC)
BOUNDS = Bounds.of("ms", 36_500, NOW)
TICK = Table(
    "tick",
    Database.TDENGINE,
    "market_data",
    (
        Column("ts", "TIMESTAMP", nullable=False),
        Column("price", "DOUBLE"),
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


def rows(symbols: list[str], *, first: datetime = datetime(2024, 1, 2), **columns: list[object]) -> pa.RecordBatch:
    n = len(symbols)
    start = int(first.replace(tzinfo=UTC).timestamp() * 1000)
    arrays = {
        "ts": pa.array(start + np.arange(n)).cast(pa.timestamp("ms")),
        "price": pa.array([1.0] * n),
        "seq": pa.array([0] * n, pa.int32()),
        "note": pa.array([None] * n, pa.string()),
        "symbol": pa.array(symbols),
        "exchange": pa.array([s[-2:] for s in symbols]),
    }
    arrays |= {name: pa.array(values, arrays[name].type) for name, values in columns.items()}
    return pa.RecordBatch.from_arrays([arrays[c.name] for c in TICK.columns], names=[c.name for c in TICK.columns])


def sliced(batch: pa.RecordBatch, step: int = 50_000) -> list[Slice]:
    made = shape(TICK, "ms")
    return list(slices(made, prepared(made, batch, BOUNDS), step=step))


def test_a_sub_table_is_called_after_the_super_table_and_the_symbol() -> None:
    assert sub_table("bar_1m", "600000.SH") == "bar_1m_600000_sh"
    assert sub_table("bar_1m", "IF2401.CFFEX") == "bar_1m_if2401_cffex"


@given(
    st.text() | st.sampled_from(["600000-A.SH", "rb2401.SHFE", "平安银行", "a.b.c", "`x`", "A_B.SH", "600000.SH.", ""])
)
def test_a_sub_tables_name_is_safe_for_any_symbol(symbol: str) -> None:
    assert re.fullmatch(r"[a-z][a-z0-9_]{0,191}", sub_table("bar_1m", symbol))


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["bar", "bar_1", "bar_1m", "BAR", "bar_"]),
            st.from_regex(r"[0-9A-Za-z]{1,3}[._-]?[A-Za-z]{1,2}", fullmatch=True) | st.text(max_size=5),
        ),
        unique=True,
        min_size=2,
        max_size=40,
    )
)
def test_different_symbols_and_tables_never_share_a_name(parts: list[tuple[str, str]]) -> None:
    assert len({sub_table(*p) for p in parts}) == len(parts)


def test_a_table_that_stands_alone_has_no_tags() -> None:
    columns = (Column("ts", "TIMESTAMP", nullable=False), Column("value", "NUMERIC", precision=10, scale=4))
    alone = Table("alone", Database.TDENGINE, "d", columns, ("ts",))
    assert insert(shape(alone, "ms"), ["ts", "value"]) == "INSERT INTO `d`.`alone` (`ts`, `value`) VALUES (?, ?)"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"key": ("symbol",)}, "the first column must be a TIMESTAMP and belong to the key"),
        ({"key": ("ts", "seq")}, "the key of a super table must hold a tag"),
        ({"key": ("symbol", "ts", "seq", "note")}, "make one of them a tag"),
        ({"key": ("symbol", "ts", "price")}, "price of the key must be INT, BIGINT or VARCHAR"),
        ({"key": ()}, "has no key"),
        ({"columns": (TICK.columns[0], TICK.columns[4]), "key": ("symbol", "ts")}, "no table without a column beside"),
    ],
)
def test_a_table_that_tdengine_cannot_hold_is_told(change: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        shape(replace(TICK, **change), "ms")  # type: ignore[arg-type]


def test_the_precision_is_the_finest_time_of_the_tables() -> None:
    fine = replace(TICK, columns=(*TICK.columns, Column("us", "TIMESTAMP", canonical=pa.timestamp("us", "UTC"))))
    assert finest([TICK]) == "ms"
    assert finest([TICK, fine]) == "us"


def test_rows_are_grouped_by_sub_table_in_any_order() -> None:
    (part,) = sliced(rows(["600000.SH", "000001.SZ", "600000.SH"], price=[1.0, 2.0, 3.0]))
    spans = {
        n: part.rows.column("price").to_pylist()[a:b]
        for n, a, b in zip(part.names, part.cuts, part.cuts[1:], strict=False)
    }
    assert spans == {"tick_600000_sh": [1.0, 3.0], "tick_000001_sz": [2.0]}
    assert sorted(map(tuple, part.tags)) == [("000001.SZ", "SZ"), ("600000.SH", "SH")]


def test_a_slice_ends_within_a_table_and_no_row_is_lost() -> None:
    symbols = [f"{i % 7:06d}.SZ" for i in range(1_000)]
    parts = sliced(rows(symbols), step=300)
    assert [p.rows.num_rows for p in parts] == [300, 300, 300, 100]
    assert sum(b - a for p in parts for a, b in zip(p.cuts, p.cuts[1:], strict=False)) == 1_000
    assert all(p.cuts[0] == 0 and p.cuts[-1] == p.rows.num_rows for p in parts)


def test_one_table_gets_at_most_32767_rows_in_a_bind_and_is_named_once() -> None:
    symbols = ["000001.SZ"] * 100 + ["600000.SH"] * 70_000 + ["600001.SH"] * 100
    parts = sliced(rows(symbols, seq=list(range(70_200))))
    assert sum(p.rows.num_rows for p in parts) == 70_200
    for part in parts:
        assert part.cuts[0] == 0
        assert part.cuts[-1] == part.rows.num_rows
        assert len(set(part.names)) == len(part.names) == len(part.cuts) - 1
        assert max(b - a for a, b in itertools.pairwise(part.cuts)) <= TABLE_ROWS
    assert [v for p in parts for v in p.rows["seq"].to_pylist()] == list(range(70_200)), "in their order, each once"


def test_the_last_rows_attributes_stand_for_the_sub_table() -> None:
    (part,) = sliced(rows(["600000.SH", "600000.SH"], exchange=["old", "new"]))
    assert part.tags == [["600000.SH", "new"]]


@pytest.mark.parametrize(
    ("batch", "said"),
    [
        (lambda: rows(["600000.SH"], symbol=[None]), "symbol is null"),
        (lambda: rows(["600000.SH"], seq=[None]), "seq is null"),
        (lambda: rows(["600000.SH"], note=["平安银行股"]), r"note has 5 characters, and NCHAR\(4\) holds 4"),
        (lambda: rows(["600000.SH"], exchange=["上证交所"]), r"exchange has 12 bytes .* VARCHAR\(8\) holds 8"),
        (lambda: rows(["600000.SH"], first=datetime(1926, 1, 1)), r"ts 1926-01-01 is outside .*KEEP 36500 days"),
        (lambda: rows(["600000.SH"], first=datetime(2970, 1, 2)), "ts 2970-01-02 is outside"),
        (lambda: rows(["600000.SH"]).drop_columns(["seq"]), "lack seq"),
    ],
)
def test_what_tdengine_would_refuse_is_refused_before_it_is_sent(
    batch: Callable[[], pa.RecordBatch], said: str
) -> None:
    with pytest.raises(Rejected, match=said):
        sliced(batch())


def test_keep_is_counted_from_now() -> None:
    late = Bounds.of("ms", 10, NOW)
    made = shape(TICK, "ms")
    prepared(made, rows(["600000.SH"], first=datetime(2026, 11, 11)), late)
    with pytest.raises(Rejected, match="2026-11-09"):
        prepared(made, rows(["600000.SH"], first=datetime(2026, 11, 9)), late)


def test_nan_becomes_null_and_infinity_stays() -> None:
    (part,) = sliced(rows(["600000.SH"] * 3, price=[float("nan"), float("inf"), None]))
    assert part.rows.column("price").to_pylist() == [None, float("inf"), None]


def test_a_finer_time_than_the_database_counts_is_refused_rather_than_rounded() -> None:
    fine = rows(["600000.SH"]).set_column(0, "ts", pa.array([1_700_000_000_000_001], pa.timestamp("us")))
    with pytest.raises(Rejected, match="ts does not fit"):
        sliced(fine)


def test_a_query_asks_for_symbols_a_window_and_numbers_in_place_of_times() -> None:
    table = replace(TICK, columns=(Column("ts", "TIMESTAMP", canonical=pa.timestamp("ms", "UTC")), *TICK.columns[1:]))
    query = Query((Symbol("600000.SH"), Symbol("a'b\\c")), Window(date(2024, 1, 2), date(2024, 1, 3)), ("ts", "price"))
    sql, _ = statement(shape(table, "ms"), query)
    assert sql == (
        "SELECT CAST(`ts` AS BIGINT) AS c0, `price` AS c1 FROM `market_data`.`tick` WHERE `symbol` IN "
        "('600000.SH', 'a\\'b\\\\c') AND `ts` >= 1704124800000 AND `ts` < 1704211200000 ORDER BY `symbol`, `ts`, `seq`"
    )  # midnight in Shanghai


@pytest.mark.parametrize(
    ("code", "kind", "said"),
    [
        (0x060B, "Rejected", "outside what the database keeps"),
        (0x2653, "Rejected", "too long"),
        (0x0357, "ConfigError", "check TDENGINE_USER and TDENGINE_PASSWORD"),
        (0x2603, "ConfigError", "start again"),
        (0x03BA, "ConfigError", "supportVnodes"),
        (0x2644, "ConfigError", "denies the right"),
        (0x2600, "ConfigError", "does not take a statement"),
        (0x000B, "Unavailable", "nas:6041"),
    ],
)
def test_a_code_of_tdengine_says_what_to_do(code: int, kind: str, said: str) -> None:
    error = translated(code, f"[0x{code:04X}] Internal error: `its own words`", "nas:6041")
    assert isinstance(error, getattr(errors, kind))
    assert said in str(error)
