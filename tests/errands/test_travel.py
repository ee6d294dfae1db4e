"""What travels between a command and the service arrives as it was sent."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, date, datetime

import pytest

from mystocks_ingest.errands.kinds import KINDS, LETTER_COUNTS, Asked, Fetch, Letters, OneLetter, Read, Replay
from mystocks_ingest.errands.travel import Teller, hears, received, sent
from mystocks_ingest.errors import Outcome
from mystocks_ingest.flow.plan import PlanLine
from mystocks_ingest.flow.replay import Choice, Replayed
from mystocks_ingest.flow.report import Job, Missing, Report
from mystocks_ingest.market.frames import Symbol, Window
from mystocks_ingest.monitor.journal import Buried
from mystocks_ingest.monitor.log import Waiting
from mystocks_ingest.ports import DeadLetter

NOON = datetime(2026, 11, 20, 4, 0, 0, 123456, tzinfo=UTC)
WINDOW = Window(date(2024, 1, 2), date(2024, 2, 1))
SYMBOL = Symbol("600000.SH")
REPORT = Report(
    rows=Counter({("bar_1d", "tushare"): 7, ("bar_1d", "akshare"): 1}),
    calls=Counter({("bar_1d", "tushare"): 2}),
    refused=Counter({("bar_1d", "tushare", "ohlc_order"): 1}),
    outcomes=Counter({("tushare", Outcome.OK): 2, ("akshare", Outcome.BANNED): 1}),
    latest={("tushare", Outcome.OK): NOON},
    failures={"akshare": "封禁"},
    missing=[Missing("bar_1d", SYMBOL, (WINDOW,), 3, "nobody answered", {"tushare": 3})],
    absent=["tick: no source"],
    warnings=["the calendar ends soon"],
    stopped="the disk is full",
    provisional=2,
    seconds=1.5,
)
LETTER = DeadLetter("bar_1d", "tushare", None, "2024-01-02", "ohlc_order", "原因", '{"a": 1}', "{}", NOON, "run")


def text(value: object) -> str:
    """With the types of everything inside; UTC has two names."""
    return repr(value).replace("TzInfo(0)", "datetime.timezone.utc")


def travelled(kind: object, value: object) -> object:
    return received(kind, json.loads(json.dumps(sent(kind, value))))


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Report, REPORT),
        (Report, Report()),
        (
            Replayed,
            Replayed(Counter(bar_1d=1), Counter(), Counter({("bar_1d", "unit"): 2}), {("bar_1d", "unit"): "why"}),
        ),
        (tuple[list[Buried], LETTER_COUNTS], ([Buried(3, LETTER, 2, NOON)], {("bar_1d", "tushare", "ohlc_order"): 1})),
        (list[PlanLine], [PlanLine("bar_1d", "tushare", 3, 4, 0.25, 0, 5)]),
        (tuple[list[dict[str, object]], Waiting], ([{"count": 1, "why": None}], Waiting(1, 2, 3, "away"))),
    ],
)
def test_results_arrive_as_they_were_sent(kind: object, value: object) -> None:
    arrived = travelled(kind, value)
    assert arrived == value
    assert text(arrived) == text(value)


@pytest.mark.parametrize(
    "errand",
    [
        Fetch(Job(("bar_1d",), WINDOW, (SYMBOL,), "hs300", "tushare,akshare", 3, force=True)),
        Fetch(Job(("bar_1d",), WINDOW, None)),
        Letters("bar_1d", "unit", None, SYMBOL, None, 7),
        OneLetter(4),
        Replay(Choice(ids=(1, 2))),
        Asked("runs", NOON, 9),
        Asked("runs"),
        Read("bar_1d", (SYMBOL,), WINDOW, "back"),
    ],
)
def test_errands_arrive_as_they_were_sent(errand: object) -> None:
    kind = KINDS[type(errand).__name__]
    assert text(travelled(kind, errand)) == text(errand)


class Heard:
    """A watch that keeps what it is told."""

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []

    def __getattr__(self, name: str) -> object:
        return lambda *given, **named: self.calls.append((name, *given, *named.values()))


def test_progress_is_heard_as_it_was_told() -> None:
    line = PlanLine("bar_1d", "tushare", 3, 4, 0.25, 0, 5)
    told, heard = Heard(), Heard()
    hear = hears(heard)
    for watch in (told, Teller(lambda event: hear(json.loads(json.dumps(event))))):
        watch.planned(line)
        watch.fetched("bar_1d", "tushare", rows=3, calls=1)
        watch.refused("bar_1d", "tushare", "unit", 1)
        watch.failed("bar_1d", "tushare", Outcome.LIMITED, "每分钟")
        watch.waiting("redis", 1.5, "refused")
        watch.returned("redis", 2.5)
    assert heard.calls == told.calls
