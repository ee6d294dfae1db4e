from datetime import date

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mystocks_ingest.errors import ConfigError, Unsupported
from mystocks_ingest.market import symbols
from mystocks_ingest.market.symbols import Board, Renames, parse, parse_column


def codes(*prefixes):
    return st.sampled_from(prefixes).flatmap(
        lambda p: st.integers(0, 10 ** (6 - len(p)) - 1).map(lambda n: f"{p}{n:0{6 - len(p)}d}")
    )


stocks = st.one_of(
    codes("600", "601", "603", "605", "688", "689", "900").map(lambda c: f"{c}.SH"),
    codes("000", "001", "002", "003", "200", "300", "301").filter(lambda c: c != "000000").map(lambda c: f"{c}.SZ"),
    codes("43", "830", "831", "870", "873", "920").map(lambda c: f"{c}.BJ"),
)
indices = st.one_of(
    codes("000").filter(lambda c: c != "000000").map(lambda c: f"{c}.SH"),
    codes("399").map(lambda c: f"{c}.SZ"),
    codes("899").map(lambda c: f"{c}.BJ"),
    codes("930", "931").map(lambda c: f"{c}.CSI"),
)
etfs = st.one_of(codes("510", "512", "588").map(lambda c: f"{c}.SH"), codes("159").map(lambda c: f"{c}.SZ"))
futures = st.tuples(
    st.sampled_from([("IF", "CFFEX"), ("T", "CFFEX"), ("RB", "SHFE"), ("SC", "INE"), ("M", "DCE"), ("SR", "CZCE")]),
    st.integers(2401, 2912),
).map(lambda x: f"{x[0][0]}{x[1]}.{x[0][1]}")
securities = st.one_of(stocks, indices, etfs)


@given(st.one_of(securities, futures))
def test_tushare_spelling_reads_back(symbol):
    assert parse(symbols.to_tushare(symbol)) == symbol
    assert parse(symbol) == symbol


@given(securities.filter(lambda s: s.endswith((".SH", ".SZ"))))
def test_baostock_spelling_reads_back(symbol):
    assert parse(symbols.to_baostock(symbol)) == symbol


@given(securities)
def test_sina_and_eastmoney_spellings_read_back(symbol):
    assert parse(symbols.to_sina(symbol)) == symbol
    assert parse(symbols.to_eastmoney(symbol)) == symbol


@given(st.one_of(stocks, indices))
def test_security_id_reads_back(symbol):
    if symbol.startswith("899"):
        return  # eastmoney's 0. says Shenzhen or Beijing; an index code decides by the digits below
    assert parse(symbols.to_secid(symbol)) == symbol


@given(securities)
def test_bare_code_reads_back_when_the_asset_type_is_known(symbol):
    assert parse(symbols.to_bare(symbol), asset_type=symbols.asset_type_of(symbol)) == symbol


@given(futures)
def test_bare_contract_reads_back_as_a_future(symbol):
    assert parse(symbols.to_bare(symbol).lower(), asset_type="future") == symbol
    assert symbols.asset_type_of(symbol) == "future"


@given(
    securities,
    st.sampled_from([str.lower, str.upper]),
    st.sampled_from(["", " ", "\t", "\u3000", "\ufeff"]),
    st.sampled_from([symbols.to_tushare, symbols.to_sina]),
)
def test_case_and_blanks_do_not_matter(symbol, case, blank, spell):
    assert parse(blank + case(spell(symbol)) + blank) == symbol


@given(st.lists(st.one_of(securities, st.none(), st.just("?"), st.just("")), max_size=50))
def test_a_column_reads_cell_by_cell_as_parse_does(cells):
    expected = [None if not c or c == "?" else c for c in cells]
    assert parse_column(pa.array(cells, pa.string())).to_pylist() == expected


@pytest.mark.parametrize(
    ("text", "asset_type", "expected"),
    [
        ("000001", "stock", "000001.SZ"),
        ("000001", "index", "000001.SH"),
        ("399001", "index", "399001.SZ"),
        ("899050", "index", "899050.BJ"),
        ("1", "stock", "000001.SZ"),
        ("600000.0", "stock", "600000.SH"),
        ("1.0", "stock", "000001.SZ"),
        ("1.000001", "stock", "000001.SH"),
        ("0.000001", "index", "000001.SZ"),
        ("0.920819", "stock", "920819.BJ"),
        ("2.931151", "index", "931151.CSI"),
        ("csi931151", "index", "931151.CSI"),
        ("000300.XSHG", "stock", "000300.SH"),
        ("600000.SS", "stock", "600000.SH"),
        ("'600000", "stock", "600000.SH"),
        ('="000001"', "stock", "000001.SZ"),
        ("\uff16\uff10\uff10\uff10\uff10\uff10", "stock", "600000.SH"),
        ("900901", "stock", "900901.SH"),
        ("200002", "stock", "200002.SZ"),
        ("510300", "stock", "510300.SH"),
        ("159915", "etf", "159915.SZ"),
        ("113050", "bond", "113050.SH"),
        ("127045", "bond", "127045.SZ"),
        ("019547", "bond", "019547.SH"),
        ("IF2412.CFX", "stock", "IF2412.CFFEX"),
        ("rb2501.SHF", "stock", "RB2501.SHFE"),
        ("IF.CFX", "future", "IF.CFFEX"),
        ("IF0", "future", "IF0.CFFEX"),
        ("801010.SI", "index", "801010.SI"),
        ("430047", "stock", "430047.BJ"),
    ],
)
def test_spellings_met_in_the_wild(text, asset_type, expected):
    assert parse(text, asset_type=asset_type) == expected


@pytest.mark.parametrize("text", ["", "-", "nan", "600000.HK", "hello", "1234567", "12.5", "0", "000000", "IF2412.SH"])
def test_what_is_no_symbol_is_refused_with_the_remedy(text):
    with pytest.raises(ConfigError, match="write it like"):
        parse(text)


def test_integer_and_float_cells_are_padded():
    assert parse_column(pa.array([1, 600000, None, 2])).to_pylist() == ["000001.SZ", "600000.SH", None, "000002.SZ"]
    assert parse_column(pa.array([1.0, 300750.0, None, 1.5])).to_pylist() == ["000001.SZ", "300750.SZ", None, None]
    dictionary = pa.array(["sh.600000", "x", "sh.600000"]).dictionary_encode()
    assert parse_column(dictionary).to_pylist() == ["600000.SH", None, "600000.SH"]


def test_the_instrument_table_wins_over_prefix_rules():
    known = {"300999": symbols.Symbol("300999.BJ")}
    assert parse("300999", known=known) == "300999.BJ"
    assert parse_column(pa.array(["300999", "300998"]), known=known).to_pylist() == ["300999.BJ", "300998.SZ"]


def test_beijing_codes_change_only_where_the_map_knows():
    renames = Renames.of([("430047", "920047.BJ", date(2025, 10, 9)), ("830799.BJ", "920799", date(2025, 10, 9))])
    cells = pa.array(["430047", "430047.BJ", "bj830799", "832000", "920047.BJ"])
    assert parse_column(cells, known=renames.known).to_pylist() == [
        "920047.BJ",
        "920047.BJ",
        "920799.BJ",
        "832000.BJ",
        "920047.BJ",
    ]
    assert renames.current(parse("430047")) == "920047.BJ"
    assert renames.on(parse("920047"), date(2025, 10, 8)) == "430047.BJ"
    assert renames.on(parse("430047"), date(2025, 10, 9)) == "920047.BJ"
    assert renames.on(parse("832000"), date(2020, 1, 1)) == "832000.BJ"


def test_chained_and_circular_renames_end():
    day = date(2025, 10, 9)
    chain = Renames.of([("430001", "830001", day), ("830001", "920001", day)])
    assert chain.current(parse("430001")) == "920001.BJ"
    circle = Renames.of([("430001", "830001", day), ("830001", "430001", day)])
    assert circle.current(parse("430001")) in {"430001.BJ", "830001.BJ"}


def test_vendors_without_an_exchange_say_so():
    with pytest.raises(Unsupported, match="baostock has no BJ"):
        symbols.to_baostock(parse("920819.BJ"))
    with pytest.raises(Unsupported):
        symbols.to_secid(parse("IF2412.CFX"))
    with pytest.raises(Unsupported):
        symbols.to_sina(parse("801010.SI"))


def test_boards():
    boards = {s: symbols.board_of(parse(s)) for s in ("600000", "688001", "300750", "301001", "920819", "900901")}
    assert list(boards.values()) == [
        Board.MAIN,
        Board.STAR,
        Board.CHINEXT,
        Board.CHINEXT,
        Board.BEIJING,
        Board.B_SHARE,
    ]
    assert symbols.board_of(parse("000300.SH")) is Board.NONE
    assert symbols.board_of(parse("510300")) is Board.NONE
    assert symbols.asset_type_of(parse("000300.SH")) == "index"
    assert symbols.asset_type_of(parse("113050", asset_type="bond")) == "bond"
