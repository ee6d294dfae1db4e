import archives
import made
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays

from mystocks_ingest.market.frames import Symbol
from mystocks_ingest.market.gaps import Coverage, Gap, contradicted_by_next, explained_by_continuity, find_gaps

CAL = made.calendar("2024-01-01", 60)
DAYS = CAL.open_days.tolist()


def rows(pairs):
    return pa.table(
        {
            "symbol": pa.array([s for s, _ in pairs], pa.string()),
            "trade_date": pa.array([d for _, d in pairs], pa.date32()),
        }
    )


FLAGS = arrays(np.bool_, (3, 20))


@given(FLAGS, FLAGS)
def test_gaps_and_what_is_stored_make_up_what_is_expected(expected, stored):
    names, days = tuple(Symbol(s) for s in ("000001.SZ", "600000.SH", "600001.SH")), CAL.open_days[:20]
    gaps = find_gaps(*(Coverage("bar_1d", names, days, flags) for flags in (expected, stored)))
    missing = {(gap.symbol, day) for gap in gaps for day in gap.sessions}
    assert missing == {(names[i], DAYS[j]) for i, j in np.argwhere(expected & ~stored)}
    assert len({(gap.symbol, gap.sessions[0]) for gap in gaps}) == len(gaps)
    for gap in gaps:  # sessions of one gap are neighbours, and the next ones are none of it
        first, last = DAYS.index(gap.sessions[0]), DAYS.index(gap.sessions[-1])
        assert DAYS[first : last + 1] == list(gap.sessions)
        beside = DAYS[max(first - 1, 0) : first] + DAYS[last + 1 : last + 2]
        assert not {(gap.symbol, day) for day in beside} & missing


def bars(closes, references, numbers, symbol="600000.SH"):
    table = rows([(symbol, DAYS[n]) for n in numbers])
    return table.append_column("close", pa.array(closes)).append_column("pre_close", pa.array(references, pa.float64()))


def gaps_of(table, days):
    """The runs of ``days`` on which the one symbol of ``table`` has no row."""
    missing = np.flatnonzero(~np.isin(np.array(days, "datetime64[D]"), table["trade_date"].to_numpy()))
    runs = np.split(missing, np.flatnonzero(np.diff(missing) > 1) + 1)
    symbol = Symbol(table["symbol"][0].as_py())
    return [Gap("bar_1d", symbol, tuple(days[n] for n in run)) for run in runs if len(run)]


def split(table, factors=None, last=8):
    explained, holes = explained_by_continuity(table, gaps_of(table, DAYS[:last]), factors)
    return [[g.sessions for g in part] for part in (explained, holes)]


def test_a_reference_price_equal_to_the_close_before_explains_a_suspension():
    table = bars([10.0, 10.5, 10.4, 10.6], [10.0, 10.0, 10.5, 10.4], [0, 1, 5, 7])
    explained, holes = split(table)
    assert explained == [tuple(DAYS[2:5]), (DAYS[6],)]
    assert holes == []


def test_another_reference_price_is_a_hole():
    table = bars([10.0, 10.5, 10.4], [10.0, 10.0, 10.7], [0, 1, 3])
    assert split(table, last=4) == [[], [(DAYS[2],)]]


def test_a_missing_reference_price_is_a_hole():
    table = bars([10.0, 10.5], [10.0, None], [0, 2])
    assert split(table, last=3) == [[], [(DAYS[1],)]]


def test_gaps_at_the_ends_have_no_witness():
    table = bars([10.0, 10.1], [10.0, 10.0], [2, 3])
    assert split(table, last=6) == [[], [tuple(DAYS[:2]), tuple(DAYS[4:6])]]


def test_a_distribution_during_the_suspension_is_explained_by_the_factor():
    table = bars([10.0, 5.2], [10.0, 5.0], [0, 3])
    factors = pa.table(
        {
            "symbol": ["600000.SH"] * 2,
            "trade_date": pa.array([DAYS[0], DAYS[2]], pa.date32()),
            "factor": [1.5, 3.0],
        }
    )
    assert split(table, factors, last=4) == [[tuple(DAYS[1:3])], []]
    assert split(table, last=4) == [[], [tuple(DAYS[1:3])]]


@pytest.mark.parametrize(("name", "suspended"), [("sz.000001", 161), ("sh.600000", 118), ("sz.000002", 213)])
def test_every_real_suspension_is_explained_and_lost_rows_are_holes(shared_data, name, suspended):
    frames = [archives.load(shared_data, *archive) for archive in archives.RAW[:6]]
    days = sorted(set().union(*[set(f.rows["trade_date"].to_pylist()) for f in frames]))
    bars = pa.table(
        archives.load(shared_data, f"daily_baostock_unadjusted_original/{name}.feather", archives.BAOSTOCK).rows
    )
    days = [d for d in days if d <= bars["trade_date"][-1].as_py()]
    gaps = gaps_of(bars, days)
    assert sum(len(g.sessions) for g in gaps) == suspended
    assert explained_by_continuity(bars, gaps)[1] == []

    lost = np.zeros(len(bars), dtype=bool)
    lost[np.random.default_rng(1).choice(np.arange(1, len(bars) - 1), 100, replace=False)] = True
    kept = bars.filter(pa.array(~lost))
    found = {d for g in explained_by_continuity(kept, gaps_of(kept, days))[1] for d in g.sessions}
    missed = set(bars.filter(pa.array(lost))["trade_date"].to_pylist()) - found
    assert len(missed) <= 6  # a stock closes unchanged on one day in thirty: such a loss looks like a suspension


def unproven(closes, numbers, references=None):
    """Rows of a vendor that gives no reference price."""
    return bars(closes, references or [None] * len(closes), numbers).combine_chunks().to_batches()[0]


def test_a_close_that_the_next_stored_bar_does_not_go_on_from_is_contradicted():
    stored = bars([10.0, 10.3], [9.9, 10.2], [0, 2])
    assert not contradicted_by_next(unproven([10.2], [1]), stored)
    found = contradicted_by_next(unproven([10.92], [1]), stored)
    assert list(found) == [0]
    assert "10.92" in found[0]
    assert str(DAYS[2]) in found[0]


def test_a_close_before_an_ex_right_day_is_proven_by_the_factor():
    stored = bars([10.0, 9.4], [9.9, 9.3], [0, 2])
    factors = rows([("600000.SH", DAYS[0]), ("600000.SH", DAYS[2])]).append_column(
        "factor", pa.array([1.0, 10.2 / 9.3])
    )
    assert not contradicted_by_next(unproven([10.2], [1]), stored, factors)
    assert contradicted_by_next(unproven([10.2], [1]), stored)
    assert contradicted_by_next(unproven([10.9], [1]), stored, factors)


def test_only_the_bar_directly_before_a_stored_one_is_judged_and_only_without_proof_of_its_own():
    stored = bars([10.3], [10.2], [4])
    assert list(contradicted_by_next(unproven([8.0, 8.0, 8.0], [1, 2, 3]), stored)) == [2]
    assert not contradicted_by_next(unproven([8.0], [5]), stored)
    assert not contradicted_by_next(unproven([8.0], [3], [8.0]), stored)
    assert not contradicted_by_next(unproven([8.0], [3]), bars([10.3], [None], [4]))
