from datetime import date

import made
import pyarrow as pa
import pytest

from mystocks_ingest.market.frames import Window
from mystocks_ingest.market.symbols import parse, parse_column

KNOWN = made.instruments(
    SH600000=(date(1999, 11, 10), None),
    SH600001=(date(1998, 1, 22), date(2009, 12, 29)),
    SZ001234=(date(2030, 1, 1), None),
    SZ000001=(None, None),
)


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        (Window(date(2024, 1, 1), date(2025, 1, 1)), ["000001.SZ", "600000.SH"]),
        (Window(date(2009, 12, 29), date(2010, 1, 1)), ["000001.SZ", "600000.SH", "600001.SH"]),
        (Window(date(2009, 12, 30), date(2010, 1, 1)), ["000001.SZ", "600000.SH"]),
        (Window(date(1999, 1, 1), date(1999, 11, 10)), ["000001.SZ", "600001.SH"]),
    ],
)
def test_the_universe_of_a_window_includes_those_delisted_later(window, expected):
    assert KNOWN.listed(window) == expected
    assert KNOWN.listed(window, asset_types=frozenset({"index"})) == []


def test_unknown_symbols_have_unknown_lives():
    born, died = KNOWN.lives(pa.array(["600001.SH", "999999.SH", "000001.SZ"]))
    assert [str(d) for d in born] == ["1998-01-22", "NaT", "NaT"]
    assert [str(d) for d in died] == ["2009-12-29", "NaT", "NaT"]
    assert KNOWN.get("999999.SH") is None
    assert "600001.SH" in KNOWN
    assert len(KNOWN) == 4


def test_asset_types_come_from_the_table_first():
    table = pa.table(
        {
            "symbol": ["000001.SZ", "600000.SH"],
            "name": ["a", "b"],
            "asset_type": ["index", "stock"],
            "status": ["L", "L"],
            "list_date": pa.nulls(2, pa.date32()),
            "delist_date": pa.nulls(2, pa.date32()),
        }
    )
    known = type(KNOWN)(table)
    assert known.asset_type(parse("000001.SZ")) == "index"
    assert known.asset_type(parse("000300.SH")) == "index"
    assert parse_column(pa.array(["000001"]), asset_type="index", known=known.codes("index")).to_pylist() == [
        "000001.SZ"
    ]


def test_an_empty_table_knows_nothing():
    empty = type(KNOWN)(made.DATASETS["instrument"].schema.empty_table())
    born, _ = empty.lives(pa.array(["600000.SH"]))
    assert [str(d) for d in born] == ["NaT"]
    assert empty.listed(Window(date(2024, 1, 1), date(2025, 1, 1))) == []
