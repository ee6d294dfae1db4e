"""A source's quality is what its latest runs show, from 0 to 100."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from mystocks_ingest.errors import Outcome
from mystocks_ingest.flow.report import Missing, Report
from mystocks_ingest.market.frames import Symbol
from mystocks_ingest.monitor.quality import RUNS, Figures, quality
from mystocks_ingest.monitor.runs import figures

NOON = datetime(2026, 11, 20, 4, 0, tzinfo=UTC)
FINE = Figures("tushare", "r", NOON, good=10, failed=0, limited=0, rows=1000, refused=0, missing=0)


def score(*latest: Figures) -> float:
    found = quality(latest)
    assert found is not None
    return found.score


def test_nothing_wrong_is_a_hundred_and_nothing_right_is_zero() -> None:
    assert score(FINE) == 100.0
    assert score(replace(FINE, good=0, failed=3, rows=0)) == 0.0


@pytest.mark.parametrize(
    ("changed", "wanted"),
    [
        ({"failed": 10}, 50.0),
        ({"refused": 1000}, 50.0),
        ({"missing": 1000}, 50.0),
        ({"failed": 10, "refused": 1000, "missing": 1000}, 12.5),
        ({"limited": 500}, 100.0),  # a quota says nothing of the data
        ({"rows": 0}, 100.0),  # an answer without rows is an answer
    ],
)
def test_each_share_counts_by_itself(changed: dict[str, int], wanted: float) -> None:
    assert score(replace(FINE, **changed)) == wanted


def test_older_runs_fade_and_at_last_are_forgotten() -> None:
    bad = replace(FINE, good=0, failed=10, rows=0)
    one_ago, two_ago = score(FINE, bad), score(FINE, FINE, bad)
    assert score(bad, FINE) < 50 < one_ago < two_ago < 100
    assert one_ago == round(100 / 1.8, 1)
    assert score(*[FINE] * RUNS, bad) == 100.0


def test_a_run_that_only_met_its_quota_tells_nothing() -> None:
    idle = replace(FINE, good=0, limited=4, rows=0)
    assert quality([idle]) is None
    assert quality([]) is None
    bad = replace(FINE, good=0, failed=10, rows=0)
    assert score(idle, bad) == 0.0


def test_a_runs_figures_are_each_sources_own() -> None:
    report = Report(
        rows=Counter({("bar_1d", "tushare"): 90, ("adj_factor", "tushare"): 10, ("bar_1d", "baostock"): 5}),
        refused=Counter({("bar_1d", "tushare", "ohlc"): 3, ("bar_1d", "tushare", "unit"): 1}),
        outcomes=Counter(
            {
                ("tushare", Outcome.OK): 7,
                ("tushare", Outcome.EMPTY): 2,
                ("tushare", Outcome.LIMITED): 5,
                ("tushare", Outcome.DENIED): 1,
                ("baostock", Outcome.UNREACHABLE): 3,
            }
        ),
        missing=[
            Missing("bar_1d", Symbol("600000.SH"), (), 4, "", {"tushare": 4, "baostock": 1}),
            Missing("bar_1d", Symbol("000001.SZ"), (), 2, "", {"tushare": 2}),
        ],
    )
    at = NOON + timedelta(hours=1)
    assert figures("r1", report, at=at) == [
        Figures("baostock", "r1", at, good=0, failed=3, limited=0, rows=5, refused=0, missing=1),
        Figures("tushare", "r1", at, good=9, failed=1, limited=5, rows=100, refused=4, missing=6),
    ]
