from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time

import numpy as np
import pytest

from mystocks_ingest.errors import ConfigError
from mystocks_ingest.flow import plan
from mystocks_ingest.flow.ledger import Ledger
from mystocks_ingest.flow.plan import Traits
from mystocks_ingest.market.datasets import BAR_1D, INSTRUMENT, QUOTE, dataset
from mystocks_ingest.market.frames import Frame, Request, Symbol, Window
from mystocks_ingest.ports import Offer, Rate

NIGHT = datetime(2024, 1, 31, 15, 0, tzinfo=UTC)  # 23:00 in Shanghai
SESSIONS = np.array([d for d in np.arange("2024-01-02", "2024-02-01", dtype="datetime64[D]") if np.is_busday(d)])


@dataclass
class Vendor:
    """A source as the planner sees it: offers and rates, no calls."""

    name: str
    offers: Mapping[str, Offer]
    family: str = "x"
    rates: Sequence[Rate] = (Rate(60, 60.0),)
    concurrency: int = 1
    asked: list[Request] = field(default_factory=list)

    def fetch(self, request: Request) -> AsyncIterator[Frame]:
        raise AssertionError(request)

    def calls(self, request: Request) -> int:
        return max(1, len(request.symbols))

    async def probe(self) -> None: ...
    async def aclose(self) -> None: ...


def market(count: int, exchange: str = "SZ", asset_type: str = "stock") -> tuple[Ledger, Traits]:
    symbols = [Symbol(f"{i:06d}.{exchange}") for i in range(1, count + 1)]
    ledger = Ledger.blank("bar_1d", symbols, SESSIONS)
    return ledger, Traits(np.array([exchange] * count), np.array([asset_type] * count))


def test_many_symbols_are_asked_by_session_and_few_by_symbol() -> None:
    both = Vendor("v", {"bar_1d": Offer(whole_market=frozenset({"stock"}))})
    many = plan.assign(BAR_1D, *market(100), [both], now=NIGHT)
    few = plan.assign(BAR_1D, *market(3), [both], now=NIGHT)
    assert [len(t.request.symbols) for t in many] == [0] * len(SESSIONS)
    assert [t.request.symbols for t in few] == [(Symbol(f"00000{i}.SZ"),) for i in (1, 2, 3)]
    assert few[0].request.window == Window(date(2024, 1, 2), date(2024, 2, 1))


def test_every_cell_to_do_is_asked_for_exactly_once() -> None:
    ledger, traits = market(40)
    ledger.done[::3, 4:9] = True
    one = Vendor("one", {"bar_1d": Offer(exchanges=frozenset({"SZ"}), since=date(2024, 1, 15))})
    two = Vendor("two", {"bar_1d": Offer()}, rates=(Rate(1, 60.0),))
    covered = np.zeros(ledger.done.shape, int)
    for task in plan.assign(BAR_1D, ledger, traits, [one, two], now=NIGHT):
        source = {"one": one, "two": two}[task.source]
        covered[plan.block_of(BAR_1D, source, ledger, traits, task.request)] += 1
    assert (covered[ledger.todo] == 1).all()


def test_beijing_goes_to_the_source_that_has_it() -> None:
    cheap = Vendor("cheap", {"bar_1d": Offer(exchanges=frozenset({"SH", "SZ"}))})
    dear = Vendor("dear", {"bar_1d": Offer()}, rates=(Rate(1, 60.0),))
    tasks = plan.assign(BAR_1D, *market(2, "BJ"), [cheap, dear], now=NIGHT)
    assert {t.source for t in tasks} == {"dear"}


def test_the_quicker_source_is_asked_first() -> None:
    slow = Vendor("slow", {"bar_1d": Offer()}, rates=(Rate(1, 60.0),))
    quick = Vendor("quick", {"bar_1d": Offer()})
    assert {t.source for t in plan.assign(BAR_1D, *market(9), [slow, quick], now=NIGHT)} == {"quick"}


def test_a_source_that_was_asked_is_not_asked_again() -> None:
    ledger, traits = market(2)
    vendor = Vendor("v", {"bar_1d": Offer()})
    ledger.asked_of("v")[:] = True
    assert plan.assign(BAR_1D, ledger, traits, [vendor], now=NIGHT) == []


@pytest.mark.parametrize(
    ("clock", "intraday", "last"),
    [
        (datetime(2024, 1, 31, 7, 4, tzinfo=UTC), False, date(2024, 1, 30)),  # 15:04, not published
        (datetime(2024, 1, 31, 9, 1, tzinfo=UTC), False, date(2024, 1, 31)),  # 17:01, published at 17:00
        (datetime(2024, 1, 31, 2, 0, tzinfo=UTC), True, date(2024, 1, 31)),  # 10:00, a provisional bar
        (datetime(2024, 1, 31, 1, 0, tzinfo=UTC), True, date(2024, 1, 30)),  # 09:00, before the open
    ],
)
def test_todays_session_is_asked_for_only_when_the_source_can_have_it(
    clock: datetime, last: date, *, intraday: bool
) -> None:
    vendor = Vendor("v", {"bar_1d": Offer(published=time(17, 0), intraday=intraday)})
    (task,) = plan.assign(BAR_1D, *market(1), [vendor], now=clock)
    assert task.request.window.last == last


def test_symbols_are_grouped_where_one_call_takes_several() -> None:
    vendor = Vendor("v", {"bar_1d": Offer(symbols_per_call=4)})
    tasks = plan.assign(BAR_1D, *market(10), [vendor], now=NIGHT)
    assert [len(t.request.symbols) for t in tasks] == [4, 4, 2]


def test_an_unfinished_week_or_month_has_no_column() -> None:
    weeks = plan.columns_of(dataset("bar_1w"), SESSIONS)
    assert [str(d) for d in weeks] == ["2024-01-05", "2024-01-12", "2024-01-19", "2024-01-26"]
    assert len(plan.columns_of(dataset("bar_1mo"), SESSIONS)) == 0


def test_a_week_is_asked_for_from_its_monday() -> None:
    weekly = dataset("bar_1w")
    ledger = Ledger.blank("bar_1w", [Symbol("000001.SZ")], plan.columns_of(weekly, SESSIONS))
    traits = Traits(np.array(["SZ"]), np.array(["stock"]))
    (task,) = plan.assign(weekly, ledger, traits, [Vendor("v", {"bar_1w": Offer()})], now=NIGHT)
    assert task.request.window == Window(date(2024, 1, 1), date(2024, 1, 27))


def test_live_datasets_cannot_be_backfilled() -> None:
    with pytest.raises(ConfigError, match=r"quote cannot be backfilled; these can: .*bar_1d"):
        plan.cadence(QUOTE)
    assert plan.cadence(INSTRUMENT) is plan.Cadence.SNAPSHOT


@pytest.mark.parametrize(("calls", "minutes"), [(1, 0.0), (60, 0.0), (61, 1.0), (100, 1.0), (101, 60.0), (250, 120.0)])
def test_calls_within_a_window_are_free_and_the_rest_wait_for_the_narrowest(calls: int, minutes: float) -> None:
    vendor = Vendor("v", {}, rates=(Rate(60, 60.0), Rate(100, 3600.0)))
    assert plan.minutes(vendor, calls) == minutes


def test_a_plan_line_counts_calls_and_symbols() -> None:
    vendor = Vendor("v", {"bar_1d": Offer()})
    tasks = plan.assign(BAR_1D, *market(50), [vendor], now=NIGHT)
    (line,) = plan.lines(BAR_1D, tasks, [vendor])
    assert (line.calls, line.symbols, line.requests) == (50, 50, 50)
