"""The closing words say what was stored, what was refused, what is missing and why, and what to type next."""

from __future__ import annotations

import json
from datetime import date

import pytest

from mystocks_ingest.cli.demo import _add
from mystocks_ingest.cli.summary import SHOWN, show
from mystocks_ingest.errors import Outcome
from mystocks_ingest.flow.report import Missing, Report
from mystocks_ingest.market.frames import Symbol, Window


def gap(symbol: str) -> Missing:
    return Missing("bar_1d", Symbol(symbol), (Window(date(2024, 1, 2), date(2024, 1, 5)),), 3, "tushare: banned")


@pytest.fixture
def report() -> Report:
    """A run in which one source stored rows and another failed."""
    report = Report(seconds=12.3)
    report.rows["bar_1d", "tushare"] = 12_345
    report.calls["bar_1d", "tushare"] = 60
    report.refused["bar_1d", "tushare", "ohlc"] = 2
    report.outcomes["tushare", Outcome.OK] = 60
    report.outcomes["baostock", Outcome.BANNED] = 1
    report.failures["baostock"] = "10001011 until tomorrow"
    return report


def test_a_complete_run_ends_with_0_and_its_rows_by_dataset_and_source(
    report: Report, capsys: pytest.CaptureFixture[str]
) -> None:
    assert show(report, json=False) == 0
    out = capsys.readouterr().out
    assert ["bar_1d", "tushare", "12,345", "60", "2"] in [line.split() for line in out.splitlines()]
    assert "refused: 2 rows of bar_1d from tushare by rule ohlc" in out
    assert "failed: baostock: 1 banned; last: 10001011 until tomorrow" in out
    assert "dead-letters list" in out


def test_a_partial_run_ends_with_3_and_says_what_is_missing_and_why(
    report: Report, capsys: pytest.CaptureFixture[str]
) -> None:
    report.missing = [gap(f"60{n:04}.SH") for n in range(SHOWN + 5)]
    report.absent = ["tick: not offered by baostock"]
    assert show(report, json=False) == 3
    out = capsys.readouterr().out
    assert "partial in 12 s" in out
    assert "missing: bar_1d 600000.SH: 3 sessions (2024-01-02..2024-01-04); tushare: banned" in out
    assert out.count("missing: bar_1d") == SHOWN
    assert "missing: 15 more sessions of 5 symbols" in out
    assert "not fetched: tick: not offered by baostock" in out
    assert "the same command again" in out


def test_a_run_with_nothing_to_do_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert show(Report(), json=False) == 0
    assert "nothing to fetch" in capsys.readouterr().out


def test_a_machine_gets_everything_in_one_line(report: Report, capsys: pytest.CaptureFixture[str]) -> None:
    report.missing = [gap("600000.SH")]
    assert show(report, json=True) == 3
    (line,) = capsys.readouterr().out.splitlines()
    told = json.loads(line)
    assert told["event"] == "done"
    assert told["rows"] == [{"dataset": "bar_1d", "source": "tushare", "rows": 12_345, "calls": 60}]
    assert told["outcomes"][1] == {"source": "baostock", "outcome": "banned", "requests": 1}
    assert told["missing"][0]["windows"] == [{"from": "2024-01-02", "to": "2024-01-04"}]


def test_the_demos_parts_add_up_and_only_the_last_decides_what_is_missing(report: Report) -> None:
    total = Report()
    report.missing = [gap("600000.SH")]
    _add(total, report)
    _add(total, Report(seconds=1.0))
    assert total.rows == {("bar_1d", "tushare"): 12_345}
    assert (total.seconds, total.status) == (13.3, "complete")
