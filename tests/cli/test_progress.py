"""Progress says how far a backfill is: on a terminal, in a log, and to a machine."""

from __future__ import annotations

import json
import sys
from io import StringIO
from itertools import count

import pytest
from rich.console import Console

from mystocks_ingest.cli.progress import JsonLines, PlainLines, Screen, Tally, watching
from mystocks_ingest.errors import Outcome
from mystocks_ingest.flow.plan import PlanLine


class Hands:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def line(calls: int, dataset: str = "bar_1d", source: str = "tushare") -> PlanLine:
    return PlanLine(dataset, source, requests=calls, calls=calls, minutes=1.0, symbols=calls, sessions=0)


def told(watch: JsonLines | PlainLines | Screen, hands: Hands) -> None:
    watch.planned(line(100))
    hands.seconds = 4
    for _ in range(20):
        watch.fetched("bar_1d", "tushare", rows=250, calls=1)
    watch.refused("bar_1d", "tushare", "ohlc_order", 2)
    watch.failed("bar_1d", "tushare", Outcome.LIMITED, "200 calls a minute")


def test_the_tally_knows_pace_calls_left_and_time_left() -> None:
    hands = Hands()
    told(watch := Screen(hands), hands)
    assert list(watch.tally.lines()) == [("bar_1d", "5,000", "1,250", "80", "16 s", "2", "1")]


def test_a_new_round_replaces_what_was_left_of_a_sources_plan() -> None:
    tally = Tally(Hands()).of("bar_1d")
    tally.planned("tushare", 100)
    tally.made("tushare", 30)
    tally.planned("tushare", 10)
    tally.planned("baostock", 5)
    assert tally.calls_left() == 15


def test_a_log_gets_a_line_every_few_seconds_and_each_kind_of_failure_once() -> None:
    hands, log = Hands(), StringIO()
    watch = PlainLines(hands, log)
    told(watch, hands)
    watch.failed("bar_1d", "tushare", Outcome.LIMITED, "again")
    assert log.getvalue().splitlines() == [
        "bar_1d: 100 calls to tushare planned",
        "bar_1d: tushare limited: 200 calls a minute",
    ]
    for hands.seconds in count(5, 0.1):
        watch.fetched("bar_1d", "tushare", rows=1, calls=1)
        if hands.seconds > 16:
            break
    lines = log.getvalue().splitlines()[2:]
    assert len(lines) == 3
    assert lines[0] == "bar_1d: 5,001 rows (1,000/s), 79 calls left, about 19 s, 2 refused, 2 failed calls"


def test_the_screen_shows_the_last_trouble_without_reading_it_as_markup() -> None:
    hands = Hands()
    told(watch := Screen(hands), hands)
    watch.failed("bar_1d", "baostock", Outcome.BANNED, "code [red]10001011[/red]")
    shown = StringIO()
    Console(file=shown, width=120).print(watch)
    assert "5,000" in shown.getvalue()
    assert "bar_1d: baostock banned: code [red]10001011[/red]" in shown.getvalue()


def test_a_database_that_is_away_is_shown_with_the_time_since() -> None:
    hands = Hands()
    told(watch := Screen(hands), hands)
    hands.seconds = 10
    watch.waiting("postgresql", 2.0, "PostgreSQL at 127.0.0.1:5432 refuses connections")
    hands.seconds = 20
    shown = StringIO()
    Console(file=shown, width=120).print(watch)
    assert "waiting for postgresql, since 12 s" in shown.getvalue()
    watch.returned("postgresql", 14.0)
    shown = StringIO()
    Console(file=shown, width=120).print(watch)
    assert "waiting" not in shown.getvalue()


def test_a_log_gets_a_line_every_few_seconds_of_waiting_and_one_at_the_end() -> None:
    hands, log = Hands(), StringIO()
    watch = PlainLines(hands, log)
    for hands.seconds in count(0.0, 0.5):
        watch.waiting("postgresql", hands.seconds, "it refuses connections")
        if hands.seconds >= 12:
            break
    watch.returned("postgresql", 12.4)
    assert log.getvalue().splitlines() == [
        "waiting for postgresql, since 0 s: it refuses connections",
        "waiting for postgresql, since 5 s: it refuses connections",
        "waiting for postgresql, since 10 s: it refuses connections",
        "postgresql is back after 12 s",
    ]


def test_machines_get_one_json_object_per_event(capsys: pytest.CaptureFixture[str]) -> None:
    hands = Hands()
    told(JsonLines(hands), hands)
    events = [json.loads(text) for text in capsys.readouterr().out.splitlines()]
    assert [e["event"] for e in events] == ["planned", *["fetched"] * 20, "refused", "failed"]
    assert events[-1] == {
        "event": "failed",
        "dataset": "bar_1d",
        "source": "tushare",
        "outcome": "limited",
        "reason": "200 calls a minute",
    }


def test_the_form_follows_where_the_output_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    relogged: list[bool] = []
    with watching(json=True, relog=lambda: relogged.append(True)) as watch:
        assert isinstance(watch, JsonLines)
    with watching(json=False, relog=lambda: relogged.append(True)) as watch:
        assert isinstance(watch, PlainLines)
    assert relogged == []
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with watching(json=False, relog=lambda: relogged.append(True)) as watch:
        assert isinstance(watch, Screen)
    assert relogged == [True, True]
