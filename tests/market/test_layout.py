from datetime import UTC, date, datetime, time

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from mystocks_ingest.errors import Malformed
from mystocks_ingest.market.cells import to_day, to_number, to_symbol, to_text, to_time
from mystocks_ingest.market.datasets import DATASETS
from mystocks_ingest.market.frames import Symbol
from mystocks_ingest.market.layout import Column, Layout, Read, normalize, read, recognise

NOW = datetime(2026, 3, 6, 8, tzinfo=UTC)
PRICES = {n: Column((n,), Read.PRICE) for n in ("open", "high", "low", "close")}
BARS = Layout(
    "lots",
    DATASETS["bar_1d"],
    {
        "symbol": Column(("ts_code",), Read.SYMBOL),
        "trade_date": Column(("trade_date", "date"), Read.DAY),
        **PRICES,
        "volume": Column(("vol",), Read.COUNT, 100),
        "amount": Column(("amount",), Read.AMOUNT, 1000),
    },
    frozenset({"ts_code", "vol"}),
)
SHARES = Layout(
    "shares",
    DATASETS["bar_1d"],
    {
        "symbol": Column(("code",), Read.SYMBOL),
        "trade_date": Column(("date",), Read.DAY),
        **PRICES,
        "volume": Column(("volume",), Read.COUNT),
    },
    frozenset({"code", "tradestatus"}),
    suspended=lambda raw: pc.equal(raw.column("tradestatus"), "0"),
)
TICKS = Layout(
    "ticks",
    DATASETS["tick"],
    {
        "ts": Column(("成交时间",), Read.TIME),
        "price": Column(("成交价格",), Read.PRICE),
        "volume": Column(("成交量",), Read.COUNT, 100),
    },
    frozenset({"成交时间"}),
    derive=lambda _, raw: {"seq": pa.array(range(raw.num_rows), pa.int32())},
)


def bars(*rows, names=("ts_code", "trade_date", "open", "high", "low", "close", "vol", "amount")):
    columns = list(zip(*rows, strict=True)) if rows else [[] for _ in names]
    return pa.RecordBatch.from_arrays([pa.array(c) for c in columns], names=list(names))


def bar(day, close, code="600000.SH", vol=10.0):
    return (code, day, close, close, close, close, vol, 1.5)


def one(frames):
    (frame,) = frames
    return frame


def norm(layout, raw, **more):
    return normalize(layout, raw, source="tushare", fetched_at=NOW, **more)


def test_units_are_converted_and_the_schema_is_exactly_the_datasets():
    raw = bars(("600000.SH", "20240102", 9.1, 9.2, 9.0, 9.15, 864193.99, 786543.211))
    frame = one(norm(BARS, raw))
    row = frame.rows.to_pylist()[0]
    assert row["volume"] == 86_419_399
    assert row["amount"] == 786_543_211.0
    assert row["trade_date"] == date(2024, 1, 2)
    assert (row["source"], row["fetched_at"], row["provisional"]) == ("tushare", NOW, False)
    assert frame.rows.schema.names == DATASETS["bar_1d"].schema.names
    assert frame.rows.schema.types == DATASETS["bar_1d"].schema.types


def test_newest_first_comes_out_ascending_with_the_raw_rows_beside_their_own():
    raw = bars(bar("20240104", 3.0), bar("20240103", 2.0), bar("20240103", 1.0, code="000001.SZ"))
    frame = one(norm(BARS, raw))
    assert frame.rows.column("close").to_pylist() == [1.0, 2.0, 3.0]
    assert frame.raw.column("close").to_pylist() == [1.0, 2.0, 3.0]
    assert frame.raw.column("ts_code").to_pylist() == ["000001.SZ", "600000.SH", "600000.SH"]


def test_exact_duplicates_are_dropped_and_contradicting_ones_are_left_for_the_check():
    raw = bars(bar("20240103", 2.0), bar("20240102", 1.0), bar("20240103", 2.0), bar("20240102", 1.1))
    frame = one(norm(BARS, raw))
    assert sorted(frame.rows.column("close").to_pylist()) == [1.0, 1.1, 2.0]
    assert len(frame.raw) == 3


def test_a_row_without_a_readable_key_is_kept_last_for_the_check_to_refuse():
    raw = bars(bar("2024-13-45", 2.0), bar("20240102", 1.0))
    frame = one(norm(BARS, raw))
    assert frame.rows.column("trade_date").to_pylist() == [date(2024, 1, 2), None]
    assert frame.raw.column("trade_date").to_pylist() == ["20240102", "2024-13-45"]


def test_a_suspended_session_becomes_a_suspension_and_no_bar_even_when_a_mark_is_missing():
    names = ("code", "date", "open", "high", "low", "close", "volume", "tradestatus")
    raw = bars(
        ("sh.600000", "2024-01-03", "1", "1", "1", "1", "0", "0"),
        ("sh.600000", "2024-01-02", "1", "1", "1", "1", "7", "1"),
        ("sh.600000", "2024-01-04", "1", "1", "1", "1", "8", None),
        names=names,
    )
    frames = norm(SHARES, raw)
    assert [f.dataset.name for f in frames] == ["bar_1d", "suspension"]
    assert frames[0].rows.column("trade_date").to_pylist() == [date(2024, 1, 2), date(2024, 1, 4)]
    assert frames[1].rows.column("trade_date").to_pylist() == [date(2024, 1, 3)]
    assert frames[1].raw.column("tradestatus").to_pylist() == ["0"]
    assert frames[1].rows.schema.types == DATASETS["suspension"].schema.types


def test_an_answer_with_zero_rows_is_a_frame_with_zero_rows():
    raw = pa.RecordBatch.from_arrays([pa.nulls(0)] * 8, names=bars().schema.names)
    frame = one(norm(BARS, raw))
    assert len(frame) == 0
    assert frame.rows.schema.types == DATASETS["bar_1d"].schema.types


def test_a_missing_required_column_is_malformed_and_named():
    raw = bars(bar("20240102", 1.0)).drop_columns(["close"])
    with pytest.raises(Malformed, match="lacks close"):
        norm(BARS, raw)


def test_an_answer_that_does_not_say_whose_rows_it_holds_is_malformed_unless_the_caller_knows():
    raw = pa.record_batch({"成交时间": ["09:30:03"], "成交价格": [9.1], "成交量": [3]})
    with pytest.raises(Malformed, match="symbol"):
        norm(TICKS, raw, day=date(2024, 1, 2))
    frame = one(norm(TICKS, raw, symbol=Symbol("000001.SZ"), day=date(2024, 1, 2)))
    assert frame.rows.column("symbol").to_pylist() == ["000001.SZ"]
    assert str(frame.rows.column("ts")[0].as_py()) == "2024-01-02 09:30:03+08:00"


def test_blanks_and_the_byte_order_mark_around_column_names_do_not_hide_them():
    raw = bars(bar("20240102", 1.0))
    raw = raw.rename_columns(["\ufeffts_code", " trade_date ", *raw.schema.names[2:]])
    assert recognise([BARS], raw.schema.names) is BARS
    assert one(norm(BARS, raw)).rows.column("symbol").to_pylist() == ["600000.SH"]


def test_the_most_specific_layout_is_recognised_and_a_stranger_is_not():
    wider = Layout("wider", DATASETS["bar_1d"], {}, BARS.signature | {"amount"})
    assert recognise([BARS, wider], ["amount", "vol", "ts_code"]) is wider
    assert recognise([BARS, wider], ["vol", "ts_code"]) is BARS
    assert recognise([BARS, wider], ["a", "b"]) is None


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()])
def test_every_kind_of_arrow_text_is_read_alike(kind):
    texts = [["600000.SH"], ["20240102"], ["1"], ["1"], ["1"], ["1"], ["2"], ["3"]]
    raw = pa.RecordBatch.from_arrays([pa.array(t).cast(kind) for t in texts], names=bars().schema.names)
    row = one(norm(BARS, raw)).rows.to_pylist()[0]
    assert (row["symbol"], row["trade_date"], row["volume"]) == ("600000.SH", date(2024, 1, 2), 200)


def test_dictionary_columns_are_read_alike():
    raw = bars(bar("20240102", 1.0), bar("20240103", 1.0))
    raw = pa.RecordBatch.from_arrays([c.dictionary_encode() for c in raw.columns], names=raw.schema.names)
    assert one(norm(BARS, raw)).rows.column("trade_date").to_pylist() == [date(2024, 1, 2), date(2024, 1, 3)]


def test_columns_of_nothing_but_nulls_are_null():
    raw = bars(("600000.SH", "20240102", 1.0, 1.0, 1.0, 1.0, None, None))
    row = one(norm(BARS, raw)).rows.to_pylist()[0]
    assert row["volume"] is None
    assert row["amount"] is None


DAY = date(2024, 1, 2)


@pytest.mark.parametrize(
    "cell",
    [
        "20240102",
        "2024-01-02",
        "2024/01/02",
        "2024/1/2",
        " 2024-1-2 ",
        "2024.01.02",
        "2024年1月2日",
        "2024-01-02 00:00:00",
        "2024-01-02T15:00:00.000",
        "2024-01-02 00:00:00+08:00",
        "20240102.0",
        20240102,
        20240102.0,
        DAY,
        datetime(2024, 1, 2, 15),
        datetime(2024, 1, 1, 17, tzinfo=UTC),
    ],
)
def test_every_notation_of_a_day_is_read(cell):
    assert to_day(pa.array([cell, None])).to_pylist() == [DAY, None]


@pytest.mark.parametrize(
    "cell", ["", "-", "2024-02-30", "20241301", "2024010", "停牌", "1,704,160,800", 17, "202401020"]
)
def test_what_is_no_day_is_null(cell):
    assert to_day(pa.array([cell])).to_pylist() == [None]


def test_a_float_day_beside_a_null_is_read_as_pandas_writes_it():
    assert to_day(pa.array([20240102.0, float("nan"), None])).to_pylist() == [DAY, None, None]


@pytest.mark.parametrize(
    "cell",
    [
        "2024-01-02 09:31:00",
        "2024-01-02 09:31",
        "2024/01/02 09:31",
        "2024/1/2 9:31",
        "2024-01-02T09:31:00",
        "2024-01-02 09:31:00+08:00",
        "20240102093100",
        "20240102093100000",
        20240102093100000,
        20240102093100,
        datetime(2024, 1, 2, 9, 31),
        datetime(2024, 1, 2, 1, 31, tzinfo=UTC),
    ],
)
def test_every_notation_of_a_moment_is_read_as_shanghai_time(cell):
    (moment, missing) = to_time(pa.array([cell, None])).to_pylist()
    assert moment.astimezone(UTC) == datetime(2024, 1, 2, 1, 31, tzinfo=UTC)
    assert missing is None


@pytest.mark.parametrize("cell", ["2024-01-02", "09:31:00", "2024-01-02 25:00:00", "2024-01-02 01:31:00Z", "", "0931"])
def test_what_is_no_full_moment_is_null(cell):
    assert to_time(pa.array([cell])).to_pylist() == [None]


@pytest.mark.parametrize("cell", ["09:25:00", "9:25:00", "092500", "92500", 92500, "09:25", time(9, 25)])
def test_a_time_of_day_is_completed_by_the_session(cell):
    (moment,) = to_time(pa.array([cell]), DAY).to_pylist()
    assert moment.astimezone(UTC) == datetime(2024, 1, 2, 1, 25, tzinfo=UTC)


def test_a_session_does_not_override_a_date_that_is_there():
    (moment,) = to_time(pa.array(["2023-05-04 09:25:00"]), DAY).to_pylist()
    assert moment.date() == date(2023, 5, 4)


def test_thousandths_of_a_second_survive():
    got = to_time(pa.array(["20240102093100120", "2024-01-02 09:31:00.5"])).to_pylist()
    assert [m.microsecond for m in got] == [120_000, 500_000]


def test_unreadable_numbers_become_null_and_the_others_stay():
    cells = ["1.5", "", " 2 ", "-", "--", "nan", "停牌", "-" * 100, "1e3", None, "inf", "5824.10万"]
    expected = [1.5, None, 2.0, None, None, None, None, None, 1000.0, None, None, None]
    assert to_number(pa.array(cells)).to_pylist() == expected


def test_a_count_too_large_to_be_one_is_null_and_not_an_error():
    assert read(pa.array([1e30, 3.0]), Column(("v",), Read.COUNT)).to_pylist() == [None, 3]


def test_flags_are_true_false_or_unknown():
    got = read(pa.array(["1", "0", "x", None, "Y"]), Column(("f",), Read.FLAG)).to_pylist()
    assert got == [True, False, None, None, True]
    assert read(pa.array([1, 0]), Column(("f",), Read.FLAG)).to_pylist() == [True, False]
    assert read(pa.array([1.0, None]), Column(("f",), Read.FLAG)).to_pylist() == [True, None]


def test_a_bare_code_read_as_a_number_gets_its_leading_zeros_back():
    assert to_symbol(pa.array([1, 600519])).to_pylist() == ["000001.SZ", "600519.SH"]


def test_blank_text_is_no_text():
    assert read(pa.array(["", " 银行 ", None]), Column(("t",), Read.TEXT)).to_pylist() == [None, "银行", None]
    assert to_text(pa.array([1.0, None])).to_pylist() == ["1", None]
