from collections import Counter
from datetime import UTC, date, datetime

import made
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mystocks_ingest.market.checks import check
from mystocks_ingest.market.checks.adjusted import Marks, judge
from mystocks_ingest.market.sessions import ZONE


def refused(columns, dataset="bar_1d", *, raw=None, fetched_at=made.NOW, **known):
    """Rules and reasons by the row's place in ``columns``."""
    frame = made.frame(columns, dataset, raw=raw, fetched_at=fetched_at)
    checked = check(frame, made.context(**known))
    assert len(checked.accepted) + len(checked.refused) == len(frame)
    raw_rows = checked.refused.frame.raw
    places = raw_rows.column("row").to_pylist() if raw is None else range(len(checked.refused))
    return dict(zip(places, zip(checked.refused.rules, checked.refused.reasons, strict=True), strict=True))


def spoilt(row, **cells):
    columns = made.bars()
    for name, value in cells.items():
        columns[name][row] = value(columns[name][row]) if callable(value) else value
    return columns


@given(st.integers(0, 10_000), st.integers(1, 300))
def test_a_clean_series_passes_whole(seed, count):
    columns = made.bars(count=count, seed=seed)
    assert (
        refused(columns, calendar=made.calendar(), instruments=made.instruments(SH600000=(date(1999, 11, 10), None)))
        == {}
    )


@pytest.mark.parametrize(
    ("cells", "rule", "words"),
    [
        ({"close": None}, "missing", "close is missing or unreadable"),
        ({"close": float("nan")}, "missing", "close"),
        ({"volume": None}, "missing", "volume"),
        ({"symbol": None}, "missing", "symbol"),
        ({"high": lambda p: round(p - 0.15, 2)}, "ohlc_order", "high must be the highest"),
        ({"low": 0.0}, "price_not_positive", "must be positive"),
        ({"open": -1.0, "low": -1.0}, "price_not_positive", "open -1"),
        ({"volume": -5}, "negative_volume", "volume -5"),
        ({"volume": lambda v: v * 100}, "unit", "1/100 of the prices"),
        ({"volume": lambda v: v // 100}, "unit", "100 times the prices"),
        ({"amount": lambda a: a / 1000}, "unit", "amount in thousands of yuan"),
        ({"amount": lambda a: a * 1000}, "unit", "1000 times"),
        ({"amount": lambda a: a / 10_000}, "unit", "ten thousands"),
        ({"amount": lambda a: a * 10}, "unit", "10 times"),
        ({"amount": lambda a: a * 1.3}, "vwap", "outside the prices"),
        ({"amount": 0.0}, "vwap", "amount/volume is 0"),
        ({"volume": 0}, "vwap", "without volume"),
        ({"close": lambda c: c + 0.004}, "off_tick", "not on the exchange's tick"),
        ({"trade_date": date(2026, 11, 23)}, "in_the_future", "2026-11-23 lies after today, 2026-11-21"),
        ({"trade_date": date(2020, 3, 1)}, "not_a_session", "2020-03-01 is no trading session"),
    ],
)
def test_one_bad_cell_refuses_its_row_alone_and_says_why(cells, rule, words):
    found = refused(spoilt(60, **cells))
    assert list(found) == [60]
    assert found[60][0] == rule
    assert words in found[60][1]


def test_the_calendar_knows_holidays():
    columns = made.bars(count=20)
    holiday = columns["trade_date"][7]
    days = [d for d in columns["trade_date"] if d != holiday]
    known = made.Calendar(days, days[0], days[-1])
    assert refused(columns, calendar=known) == {7: ("not_a_session", f"trade_date {holiday} is no trading session")}


def test_days_outside_the_calendar_are_unknown_not_refused():
    days = made.weekdays("2020-02-03", 5)
    assert refused(made.bars(), calendar=made.Calendar(days, date(2020, 2, 3), date(2020, 2, 7))) == {}


def test_rows_outside_an_instruments_life_are_refused():
    columns = made.bars(count=10)
    days = columns["trade_date"]
    found = refused(columns, instruments=made.instruments(SH600000=(days[2], days[7])))
    assert {row: rule for row, (rule, _) in found.items()} == {
        **dict.fromkeys((0, 1), "before_listing"),
        **dict.fromkeys((8, 9), "after_delisting"),
    }
    assert refused(columns, instruments=made.instruments(SH600001=(days[2], days[7]))) == {}


def test_beijing_rows_from_before_the_listing_are_real():
    columns = made.bars("873169.BJ", 10)
    assert refused(columns, instruments=made.instruments(BJ873169=(date(2022, 4, 15), None))) == {}


def test_rows_of_one_key_that_differ_are_all_refused_and_repetitions_are_kept_once():
    columns = made.bars(count=10)
    for name, cells in columns.items():
        columns[name] = [*cells, cells[3], cells[5], cells[5]]
    columns["volume"][10] += 1
    frame = made.frame(columns)
    checked = check(frame, made.context())
    assert checked.refused.rules == ["duplicate_key"] * 2
    assert sorted(checked.refused.frame.raw["row"].to_pylist()) == [3, 10]
    assert "2 rows of 600000.SH" in checked.refused.reasons[0]
    days = checked.accepted.rows["trade_date"].to_pylist()
    assert len(days) == 9
    assert days == sorted(set(days))


def test_unsorted_frames_come_back_in_key_order_with_their_raw_rows():
    columns = made.bars(count=30)
    shuffled = np.random.default_rng(5).permutation(30)
    frame = made.frame({name: [cells[i] for i in shuffled] for name, cells in columns.items()})
    accepted = check(frame, made.context()).accepted
    assert accepted.rows["trade_date"].to_pylist() == columns["trade_date"]
    assert [int(shuffled[i]) for i in accepted.raw["row"].to_pylist()] == list(range(30))


def test_a_suspended_placeholder_is_not_a_bar():
    columns = spoilt(60, volume=0, amount=0.0, open=20.0, high=20.0, low=20.0, close=20.0)
    found = refused(columns)
    assert found[60] == ("suspended", "no volume and one price, 20: a suspended session, not a bar")
    assert list(found) == [60]


def test_an_index_may_have_no_volume_and_no_tick():
    columns = made.bars("000300.SH")
    for name in ("open", "high", "low", "close", "pre_close"):
        columns[name] = [round(p * 200.1234, 4) for p in columns[name]]
    columns["volume"] = [0] * 120
    assert refused(columns) == {}


def test_funds_have_a_tick_of_a_thousandth():
    columns = made.bars("510300.SH")
    for name in ("open", "high", "low", "close", "pre_close"):
        columns[name] = [round(p + 0.001, 3) for p in columns[name]]
    assert refused(columns) == {}
    columns["symbol"] = ["600000.SH"] * 120
    assert {rule for rule, _ in refused(columns).values()} == {"forward_adjusted"}


def test_whole_lots_and_whole_yuan_pass_the_unit_proof_of_small_rows():
    columns = made.bars(count=3)
    columns |= {n: [4.51] * 3 for n in ("open", "high", "low", "close")}
    columns |= {"volume": [1000, 100, 98], "amount": [4510.0, 676.0, 441.0]}  # 150 shares shown as one lot
    assert refused(columns) == {}


def test_an_unfinished_bar_must_be_provisional():
    columns = made.bars(count=10)
    last = columns["trade_date"][-1]
    at = datetime(last.year, last.month, last.day, 2, 30, tzinfo=UTC)  # 10:30 in Shanghai
    found = refused(columns, fetched_at=at)
    assert found == {9: ("unfinished", "fetched at 10:30 Shanghai, before the close, and not marked provisional")}
    columns["provisional"] = [False] * 9 + [True]
    assert refused(columns, fetched_at=at) == {}
    assert refused(made.bars(count=10), fetched_at=at.replace(hour=7, minute=30)) == {}


# -- price limits


def limit_broken(row, factor, **known):
    """The bars with row ``row`` moved by ``factor`` as a whole, its neighbours untouched."""
    columns = made.bars()
    for name in ("open", "high", "low", "close"):
        columns[name][row] = round(columns[name][row] * factor, 2)
    columns["amount"][row] = round(columns["amount"][row] * factor, 2)
    return refused(columns, **({"calendar": made.calendar()} | known))


@pytest.mark.parametrize("factor", [1.25, 0.7])
def test_a_row_beyond_its_boards_limit_that_the_next_day_denies_is_refused(factor):
    found = limit_broken(60, factor)
    assert list(found) == [60]
    assert found[60][0] == "price_limit"
    assert "10% limit" in found[60][1]


def test_the_first_sessions_of_a_series_have_no_limit():
    assert limit_broken(10, 1.25) == {}


def test_a_resumption_has_no_limit():
    columns = made.bars()
    for name, cells in columns.items():
        columns[name] = cells[:60] + cells[65:]
    for name in ("open", "high", "low", "close", "amount"):
        columns[name][60] = round(columns[name][60] * 1.4, 2)
    assert refused(columns, calendar=made.calendar()) == {}


def test_a_move_that_the_next_reference_price_confirms_is_believed():
    columns = made.bars()
    for name in ("open", "high", "low", "close", "amount"):
        columns[name][60:] = [round(v * 0.5, 2) for v in columns[name][60:]]
    columns["pre_close"][61:] = columns["close"][60:-1]
    assert refused(columns, calendar=made.calendar()) == {}


@pytest.mark.parametrize(("symbol", "start", "passes"), [
    ("600000.SH", "2020-01-01", False),
    ("300750.SZ", "2020-01-01", False),
    ("300750.SZ", "2021-01-01", True),
    ("688001.SH", "2020-01-01", True),
    ("920819.BJ", "2022-01-03", True),
    ("920819.BJ", "2020-01-01", True),
])  # fmt: skip
def test_boards_have_their_own_limits_by_date(symbol, start, passes):
    columns = made.bars(symbol, start=start)
    for name in ("open", "high", "low", "close", "amount"):
        columns[name][60] = round(columns[name][60] * 1.18, 2)
    found = refused(columns, calendar=made.calendar())
    assert (found == {}) is passes


# -- adjusted series


def scaled(columns, factor, rows, decimals=2):
    for name in ("open", "high", "low", "close", "pre_close"):
        columns[name] = [round(p * factor, decimals) if i in rows else p for i, p in enumerate(columns[name])]
    return columns


def test_a_ratio_adjusted_series_is_refused_whole_though_its_last_rows_are_raw():
    found = refused(scaled(made.bars(), 0.9, range(80)))
    assert Counter(rule for rule, _ in found.values()) == {"forward_adjusted": 120}
    assert "600000.SH is a forward-adjusted series" in found[119][1]


def test_a_shift_of_cents_is_noticed_over_a_long_run():
    found = refused(scaled(made.bars(count=480), 0.985, range(400)))
    assert Counter(rule for rule, _ in found.values()) == {"forward_adjusted": 480}


def test_subtractive_adjustment_below_zero_is_named():
    columns = made.bars()
    for name in ("open", "high", "low", "close", "pre_close"):
        columns[name] = [round(p - 40.5, 2) for p in columns[name]]
    found = refused(columns)
    assert Counter(rule for rule, _ in found.values()) == {"forward_adjusted": 120}
    assert "its low is -" in found[0][1]


def test_unrounded_adjusted_prices_are_noticed_without_amounts():
    columns = scaled(made.bars(), 0.99173, range(100), decimals=4)
    columns["amount"] = [None] * 120
    found = refused(columns)
    assert Counter(rule for rule, _ in found.values()) == {"forward_adjusted": 120}
    assert "between ticks" in found[0][1]


def test_a_back_adjusted_series_is_named_as_one():
    found = refused(scaled(made.bars(), 1.3, range(40, 120)))
    assert Counter(rule for rule, _ in found.values()) == {"back_adjusted": 120}


@pytest.mark.parametrize("flag", ["2", 2, 2.0])
def test_baostocks_own_flag_is_believed(flag):
    columns = made.bars(count=3)
    found = refused(columns, raw={"adjustflag": [flag] * 3})
    assert {rule for rule, _ in found.values()} == {"forward_adjusted"}
    assert refused(columns, raw={"adjustflag": [type(flag)(3)] * 3}) == {}


def test_only_the_adjusted_symbol_of_a_frame_is_refused():
    raw, adjusted = made.bars("600000.SH"), scaled(made.bars("600036.SH", seed=2), 0.8, range(90))
    found = refused({name: raw[name] + adjusted[name] for name in raw})
    assert set(found) == set(range(120, 240))


@given(st.integers(0, 1000), st.sampled_from([0.3, 1.3, 7.0, 100.0]))
def test_scattered_bad_amounts_do_not_make_a_series_adjusted(seed, factor):
    columns = made.bars(count=300, seed=seed)
    bad = np.random.default_rng(seed).choice(300, size=30, replace=False)
    for row in bad:
        columns["amount"][row] = round(columns["amount"][row] * factor, 2)
    found = refused(columns)
    assert set(found) == set(bad.tolist())
    assert {rule for rule, _ in found.values()} == {"unit" if factor == 100.0 else "vwap"}


def test_a_series_in_lots_is_a_unit_error_not_an_adjusted_one():
    columns = made.bars()
    columns["volume"] = [v // 100 for v in columns["volume"]]
    found = refused(columns)
    assert Counter(rule for rule, _ in found.values()) == {"unit": 120}
    assert "volume in lots, not shares" in found[0][1]


def test_three_marks_are_too_few_to_condemn_a_series():
    marks = Marks(np.array([0, 1, 2]), np.array([1, 1, 1], np.int8), np.array([True] * 3))
    assert judge(marks, 3) is None


# -- minute bars


def minute_bars(times):
    count = len(times)
    columns = made.bars(count=count)
    del columns["trade_date"], columns["pre_close"]
    columns["bar_time"] = [datetime(2020, 1, 2, h, m, tzinfo=ZONE) for h, m in times]
    return columns


def test_bars_labelled_by_their_start_are_refused_at_the_label_that_gives_them_away():
    columns = minute_bars([(9, 30), (9, 35), (11, 30), (13, 0), (13, 5), (14, 57), (15, 0), (15, 5)])
    found = refused(columns, "bar_5m")
    assert {row: rule for row, (rule, _) in found.items()} == dict.fromkeys((3, 5, 7), "bar_label")
    assert "13:00" in found[3][1]


def test_a_minute_bar_may_lack_its_open():
    columns = minute_bars([(9, 31), (9, 32), (15, 0)])
    columns["open"][1] = None
    assert refused(columns, "bar_1m") == {}


def test_minute_bars_in_lots_are_unit_errors():
    columns = minute_bars([(9, 35), (9, 40), (9, 45)])
    columns["volume"] = [v // 100 for v in columns["volume"]]
    assert {rule for rule, _ in refused(columns, "bar_5m").values()} == {"unit"}


def test_an_empty_frame_is_accepted():
    checked = check(made.frame({"symbol": []}), made.context())
    assert (len(checked.accepted), len(checked.refused)) == (0, 0)


def stated_moves(columns):
    """The vendor's own percentages, as its table holds them."""
    moves = [round((c / p - 1) * 100, 4) for c, p in zip(columns["close"], columns["pre_close"], strict=True)]
    return {"row": list(range(len(moves))), "pct_chg": moves}


def test_a_close_that_its_own_percentage_denies_is_refused():
    columns = made.bars(count=20)
    raw = stated_moves(columns)
    assert refused(columns, raw=raw) == {}
    columns["close"][7] = columns["high"][7] = round(columns["high"][7] + 0.31, 2)
    ((rule, reason),) = refused(columns, raw=raw).values()
    assert rule == "inconsistent"
    assert "pct_chg says" in reason


def test_a_close_that_the_next_reference_price_confirms_is_believed_against_its_percentage():
    columns = made.bars(count=20)
    raw = stated_moves(columns)
    raw["pct_chg"][7] += 1.24
    assert refused(columns, raw=raw) == {}
