"""The embedded store takes rows by key and gives back what it was given."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mystocks_ingest.errors import ConfigError, Rejected, UnsafeChange
from mystocks_ingest.market.datasets import CALENDAR, DATASETS, INSTRUMENT, TICK, Dataset
from mystocks_ingest.market.frames import Symbol, Window
from mystocks_ingest.ports import Query
from mystocks_ingest.schema.tables import Column, Table, Tables
from mystocks_ingest.sinks.embedded import EmbeddedDatabase, EmbeddedSink

Bars = Callable[..., pa.RecordBatch]
SHANGHAI = ZoneInfo("Asia/Shanghai")
EVERYTHING = Query()


async def test_rows_written_twice_are_stored_once(tmp_path: Path, tables: Tables, bar_table: Table, bars: Bars) -> None:
    async with EmbeddedDatabase(tmp_path) as db:
        sink = await EmbeddedSink.opened(db, tables.all)
        for _ in range(2):
            await sink.write(bar_table, bars())
        assert (await sink.read(bar_table, EVERYTHING)).equals(pa.table(bars()))


async def test_of_two_writes_of_a_key_the_later_one_stands(
    tmp_path: Path, tables: Tables, bar_table: Table, bars: Bars
) -> None:
    async with EmbeddedDatabase(tmp_path) as db:
        sink = await EmbeddedSink.opened(db, tables.all)
        await sink.write(bar_table, bars(symbols=4, close=10.0))
        await sink.write(bar_table, bars(symbols=2, close=11.0))
        stored = await sink.read(bar_table, EVERYTHING)
    assert stored.column("close").to_pylist() == [11.0] * 4 + [10.0] * 4


async def test_an_upsert_touches_only_its_own_keys_within_its_range(
    tmp_path: Path, tables: Tables, bar_table: Table, bars: Bars
) -> None:
    async with EmbeddedDatabase(tmp_path) as db:
        sink = await EmbeddedSink.opened(db, tables.all)
        await sink.write(bar_table, bars(symbols=5, sessions=5, close=10.0))
        every_other = bars(symbols=5, sessions=5, close=12.0).take(pa.array(range(0, 25, 6)))  # the diagonal
        await sink.write(bar_table, every_other)
        closes = (await sink.read(bar_table, EVERYTHING)).column("close").to_pylist()
    assert closes == [12.0 if i % 6 == 0 else 10.0 for i in range(25)]


async def test_rows_outlive_the_process_that_wrote_them(
    tmp_path: Path, tables: Tables, bar_table: Table, bars: Bars
) -> None:
    async with EmbeddedDatabase(tmp_path) as db:
        await (await EmbeddedSink.opened(db, tables.all)).write(bar_table, bars())
    async with EmbeddedDatabase(tmp_path) as db:
        sink = await EmbeddedSink.opened(db, tables.all)
        assert (await sink.read(bar_table, EVERYTHING)).equals(pa.table(bars()))


def _values(kind: pa.DataType) -> st.SearchStrategy[object]:
    if pa.types.is_string(kind):
        return st.text(st.characters(exclude_categories=["Cs"]), max_size=40) | st.sampled_from(
            ["平安银行", "📈🧧", "*ST 中泰", "'; DROP TABLE bar_1d; --", 'a"b', "", " ", "\x00", "NULL"]
        )
    if pa.types.is_boolean(kind):
        return st.booleans()
    if pa.types.is_integer(kind):
        bits = kind.bit_width - 1
        return st.integers(-(2**bits), 2**bits - 1)
    if pa.types.is_floating(kind):
        return st.floats(allow_nan=False)
    if pa.types.is_date(kind):
        return st.dates(date(1990, 12, 19), date(2100, 1, 1))
    instants = st.datetimes(datetime(1990, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))
    return instants.map(lambda moment: moment.replace(microsecond=moment.microsecond // 1000 * 1000))


@st.composite
def _rows(draw: st.DrawFn, dataset: Dataset) -> pa.RecordBatch:
    row = st.fixed_dictionaries(
        {f.name: _values(f.type) if f.required else st.none() | _values(f.type) for f in dataset.fields}
    )
    rows = draw(st.lists(row, min_size=1, max_size=12, unique_by=lambda r: tuple(r[k] for k in dataset.key)))
    return pa.RecordBatch.from_pylist(rows, schema=dataset.schema)


def _sorted(rows: pa.Table, key: tuple[str, ...]) -> pa.Table:
    return rows.sort_by([(k, "ascending") for k in key]).combine_chunks()


def _older(dataset: Dataset, row: dict[str, Any], held: dict[str, Any]) -> bool:
    """As docs/tables.md has it: column after column, what is empty or equal says nothing."""
    for name in dataset.newest_by:
        now, then = row[name], held[name]
        if name == "status":
            now, then = (_STAGES.get(word, 1) for word in (now, then))
        if now is not None and then is not None and now != then:
            return bool(now < then)
    return False


_STAGES = {"new": 0, "filled": 2, "cancelled": 2, "rejected": 2}


@pytest.mark.parametrize("dataset", DATASETS.values(), ids=str)
def test_what_is_read_equals_what_was_written_for_every_dataset(
    tmp_path: Path, tables: Tables, dataset: Dataset
) -> None:
    table = tables.holder(dataset)

    async def check(db: EmbeddedDatabase, first: pa.RecordBatch, second: pa.RecordBatch) -> None:
        await db.run(lambda c: c.execute(f'DELETE FROM "{table.name}"'))
        sink = EmbeddedSink(db)
        await sink.write(table, first)
        await sink.write(table, second)
        read = (await sink.read(table, EVERYTHING)).select(dataset.schema.names)
        kept: dict[tuple[object, ...], dict[str, Any]] = {}
        for row in (*first.to_pylist(), *second.to_pylist()):
            key = tuple(row[k] for k in dataset.key)
            if key not in kept or not _older(dataset, row, kept[key]):
                kept[key] = row
        wanted = pa.Table.from_pylist(list(kept.values()), schema=dataset.schema)
        assert _sorted(read.cast(dataset.schema), dataset.key).equals(_sorted(wanted, dataset.key))

    with asyncio.Runner() as runner:
        db = runner.run(EmbeddedDatabase(tmp_path).__aenter__())
        runner.run(EmbeddedSink.opened(db, [table]))

        @settings(max_examples=25)
        @given(_rows(dataset), _rows(dataset))
        def every_pair_of_batches(first: pa.RecordBatch, second: pa.RecordBatch) -> None:
            runner.run(check(db, first, second))

        try:
            every_pair_of_batches()
        finally:
            runner.run(db.__aexit__(None, None, None))


async def test_not_a_number_and_infinity_come_back_as_such(
    tmp_path: Path, tables: Tables, bar_table: Table, bars: Bars
) -> None:
    rows = bars(symbols=1, sessions=3)
    index = rows.schema.get_field_index("amount")
    rows = rows.set_column(index, rows.schema.field(index), pa.array([math.nan, math.inf, -math.inf]))
    async with EmbeddedDatabase(tmp_path) as db:
        sink = await EmbeddedSink.opened(db, tables.all)
        await sink.write(bar_table, rows)
        nan, *infinite = (await sink.read(bar_table, Query(columns=("amount",)))).column(0).to_pylist()
    assert math.isnan(nan)
    assert infinite == [math.inf, -math.inf]


async def test_reading_narrows_by_symbol_window_and_columns_in_key_order(
    tmp_path: Path, tables: Tables, bar_table: Table, bars: Bars
) -> None:
    async with EmbeddedDatabase(tmp_path) as db:
        sink = await EmbeddedSink.opened(db, tables.all)
        await sink.write(bar_table, bars(symbols=9, sessions=9).take(pa.array(range(80, -1, -1))))
        query = Query(
            (Symbol("000007.SZ"), Symbol("000002.SZ"), Symbol("600000.SH")),
            Window(date(2024, 1, 3), date(2024, 1, 5)),
            ("symbol", "trade_date"),
        )
        read = await sink.read(bar_table, query)
    assert read.to_pylist() == [
        {"symbol": f"00000{i}.SZ", "trade_date": date(2024, 1, day)} for i in (2, 7) for day in (3, 4)
    ]


async def test_a_window_on_moments_is_cut_at_midnight_in_shanghai(tmp_path: Path, tables: Tables) -> None:
    table = tables.holder(TICK)
    midnight = datetime(2024, 1, 3, tzinfo=SHANGHAI)
    moments = [midnight - timedelta(milliseconds=1), midnight, midnight + timedelta(days=1)]
    rows = pa.RecordBatch.from_pylist(
        [
            {"symbol": "000001.SZ", "ts": t, "seq": 0, "price": 1.0, "volume": 1, "source": "x", "fetched_at": midnight}
            for t in moments
        ],
        schema=TICK.schema,
    )
    async with EmbeddedDatabase(tmp_path) as db:
        sink = await EmbeddedSink.opened(db, [table])
        for _ in range(2):
            await sink.write(table, rows)
        read = await sink.read(table, Query(window=Window(date(2024, 1, 3), date(2024, 1, 4))))
        assert read.column("ts").to_pylist() == [midnight]
        assert (await sink.read(table, EVERYTHING)).num_rows == 3


async def test_a_table_without_symbols_is_read_by_window(tmp_path: Path, tables: Tables) -> None:
    table = tables.holder(CALENDAR)
    rows = pa.RecordBatch.from_pylist(
        [
            {
                "exchange": "SH",
                "trade_date": date(2024, 1, d),
                "is_open": True,
                "source": "x",
                "fetched_at": datetime.now(UTC),
            }
            for d in (2, 3)
        ],
        schema=CALENDAR.schema,
    )
    async with EmbeddedDatabase(tmp_path) as db:
        sink = await EmbeddedSink.opened(db, [table])
        await sink.write(table, rows)
        read = await sink.read(table, Query(window=Window(date(2024, 1, 3), date(2024, 1, 9))))
    assert read.column("trade_date").to_pylist() == [date(2024, 1, 3)]


async def test_a_null_in_a_required_column_is_refused_and_nothing_of_the_batch_is_stored(
    tmp_path: Path, tables: Tables, bar_table: Table, bars: Bars
) -> None:
    rows = bars(symbols=1, sessions=2)
    async with EmbeddedDatabase(tmp_path) as db:
        sink = await EmbeddedSink.opened(db, tables.all)
        await sink.write(bar_table, bars(symbols=1, sessions=1, close=1.0))
        for name in ("close", "symbol"):
            index = rows.schema.get_field_index(name)
            kind = rows.schema.field(index).type
            holed = pa.RecordBatch.from_arrays(
                [pa.array([c[0].as_py(), None], kind) if i == index else c for i, c in enumerate(rows.columns)],
                schema=pa.schema([pa.field(f.name, f.type) for f in rows.schema]),
            )
            with pytest.raises(Rejected, match=name):
                await sink.write(bar_table, holed)
        assert (await sink.read(bar_table, EVERYTHING)).column("close").to_pylist() == [1.0]


async def test_a_table_without_a_key_is_not_written_to(tmp_path: Path, bar_table: Table, bars: Bars) -> None:
    keyless = replace(bar_table, key=())
    async with EmbeddedDatabase(tmp_path) as db:
        sink = await EmbeddedSink.opened(db, [keyless])
        with pytest.raises(ConfigError, match="has no key"):
            await sink.write(keyless, bars())
        assert (await sink.read(keyless, EVERYTHING)).num_rows == 0


async def test_a_column_added_to_the_file_is_added_to_the_stored_table(
    tmp_path: Path, bar_table: Table, bars: Bars
) -> None:
    async with EmbeddedDatabase(tmp_path) as db:
        await (await EmbeddedSink.opened(db, [bar_table])).write(bar_table, bars(symbols=2, sessions=1))
    note = Column("note", "VARCHAR", default="尚无'备注'")
    rank = Column("rank", "INT")
    wide = replace(bar_table, columns=(*bar_table.columns, note, rank))
    async with EmbeddedDatabase(tmp_path) as db:
        sink = await EmbeddedSink.opened(db, [wide])
        assert (await sink.read(wide, EVERYTHING)).column("note").to_pylist() == ["尚无'备注'"] * 2
        await db.run(lambda c: c.execute("UPDATE bar_1d SET rank = 7 WHERE symbol = '000001.SZ'"))
        await sink.write(wide, bars(symbols=3, sessions=1, close=11.0))
        read = await sink.read(wide, EVERYTHING)
    assert read.column("close").to_pylist() == [11.0] * 3
    assert read.column("rank").to_pylist() == [None, 7, None]  # the user's own value survives the new row
    assert read.column("note").to_pylist() == ["尚无'备注'"] * 3


async def test_a_column_gone_from_the_file_stays_in_the_store(tmp_path: Path, bar_table: Table, bars: Bars) -> None:
    narrow = replace(bar_table, columns=tuple(c for c in bar_table.columns if c.name != "turnover"))
    async with EmbeddedDatabase(tmp_path) as db:
        await EmbeddedSink.opened(db, [bar_table])
        sink = await EmbeddedSink.opened(db, [narrow])
        await sink.write(narrow, bars())
        assert "turnover" not in (await sink.read(narrow, EVERYTHING)).schema.names
        assert (await sink.read(bar_table, EVERYTHING)).equals(pa.table(bars()))


@pytest.mark.parametrize(
    ("column", "says"),
    [
        (Column("close", "VARCHAR", nullable=False), "column close: type DOUBLE -> VARCHAR, .*: not every DOUBLE fits"),
        (
            Column("extra", "INT", nullable=False),
            "column extra INTEGER not null: rows that are there would have no value for it",
        ),
    ],
)
async def test_any_other_difference_is_refused_and_nothing_is_changed(
    tmp_path: Path, bar_table: Table, bars: Bars, column: Column, says: str
) -> None:
    others = tuple(c for c in bar_table.columns if c.name != column.name)
    async with EmbeddedDatabase(tmp_path) as db:
        sink = await EmbeddedSink.opened(db, [bar_table])
        await sink.write(bar_table, bars())
        with pytest.raises(UnsafeChange, match=says):
            await EmbeddedSink.opened(db, [replace(bar_table, columns=(*others, column))])
        assert (await sink.read(bar_table, EVERYTHING)).equals(pa.table(bars()))


async def test_reading_an_unknown_column_names_those_there_are(tmp_path: Path, tables: Tables) -> None:
    table = tables.holder(INSTRUMENT)
    async with EmbeddedDatabase(tmp_path) as db:
        sink = await EmbeddedSink.opened(db, [table])
        with pytest.raises(ConfigError, match="has no column colour; it has symbol, name"):
            await sink.read(table, Query(columns=("colour",)))


async def test_many_callers_at_once_are_served_one_after_the_other(
    tmp_path: Path, tables: Tables, bar_table: Table, bars: Bars
) -> None:
    async with EmbeddedDatabase(tmp_path) as db:
        sink = await EmbeddedSink.opened(db, tables.all)
        await asyncio.gather(
            *(sink.write(bar_table, bars(first=date(2020, 1, 1) + timedelta(7 * i))) for i in range(20)), sink.ping()
        )
        assert (await sink.read(bar_table, EVERYTHING)).num_rows == 20 * 6


async def test_work_that_fails_half_way_leaves_no_trace(
    tmp_path: Path, tables: Tables, bar_table: Table, bars: Bars
) -> None:
    async with EmbeddedDatabase(tmp_path) as db:
        sink = await EmbeddedSink.opened(db, tables.all)
        await sink.write(bar_table, bars())

        def half(connection: object) -> None:
            connection.execute("DELETE FROM bar_1d")  # type: ignore[attr-defined]
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await db.run(half)
        assert (await sink.read(bar_table, EVERYTHING)).num_rows == 6
