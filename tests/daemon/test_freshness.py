"""When a dataset counts as late: the job's times, the calendar, the vendor's hour, and what runs at the moment."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime, time, timedelta

import pytest

from mystocks_ingest.daemon.freshness import Freshness, Held, Plan, freshness, held
from mystocks_ingest.flow.schedule import Memory
from mystocks_ingest.market.calendar import Calendar
from mystocks_ingest.market.sessions import ZONE
from mystocks_ingest.market.timetable import parse

# June 2024: the 10th (Monday) is the Dragon Boat Festival
OPEN = [date(2024, 6, d) for d in (3, 4, 5, 6, 7, 11, 12, 13, 14)]
CALENDAR = Calendar(OPEN, date(2024, 6, 1), date(2024, 6, 16))
DAILY = Plan("daily", parse("after close + 30 min"), timedelta(hours=6), time(15, 5))
STARTED = datetime(2024, 6, 1, tzinfo=ZONE)


def at(day: int, clock: str) -> datetime:
    return datetime.combine(date(2024, 6, day), time.fromisoformat(clock), ZONE)


def up_to(day: int, most: int | None = None) -> Held:
    return Held(date(2024, 6, day), date(2024, 6, most or day), 100, 0)


def look(
    now: datetime,
    stored: Held | None,
    memory: Memory | None = None,
    *,
    plan: Plan = DAILY,
    calendar: Calendar = CALENDAR,
    running: bool = False,
    started_at: datetime = STARTED,
    short: datetime | None = None,
) -> Freshness:
    return freshness(
        plan, stored, memory or Memory(), calendar, now=now, started_at=started_at, running=running, short_since=short
    )


@pytest.mark.parametrize(
    ("now", "stored", "hours"),
    [
        pytest.param(at(5, "15:29"), 4, 0, id="today's run has not come"),
        pytest.param(at(5, "16:30"), 4, 1, id="today's run has passed without it"),
        pytest.param(at(5, "16:30"), 5, 0, id="stored"),
        pytest.param(at(9, "12:00"), 7, 0, id="a weekend awaits nothing"),
        pytest.param(at(10, "23:00"), 7, 0, id="nor does a holiday"),
        pytest.param(at(11, "15:29"), 7, 0, id="nor the morning after"),
        pytest.param(at(11, "17:30"), 7, 2, id="the session after the holiday does"),
        pytest.param(at(9, "15:30"), 6, 48, id="Friday's session is awaited through the weekend"),
        pytest.param(at(7, "15:30"), 4, 48, id="the first of several missing sessions counts"),
    ],
)
def test_a_session_is_late_from_the_run_that_should_have_brought_it(now, stored, hours) -> None:
    found = look(now, up_to(stored))
    assert found.late_seconds == found.checkpoint_late_seconds == hours * 3600


def test_what_vendors_publish_after_the_run_is_awaited_from_the_next_run_on() -> None:
    late = replace(DAILY, published=time(17, 30))
    assert look(at(5, "20:00"), up_to(4), plan=late).late_seconds == 0
    assert look(at(6, "15:29"), up_to(4), plan=late).late_seconds == 0
    assert look(at(6, "16:30"), up_to(4), plan=late).late_seconds == 3600


def test_nothing_is_late_while_the_run_that_should_bring_it_is_within_its_deadline() -> None:
    runs = Memory(due=at(4, "15:30"), started=at(5, "15:30"), ended=at(4, "15:50"), status="running")
    assert look(at(5, "20:00"), up_to(4), runs, running=True).late_seconds == 0
    assert look(at(5, "21:31"), up_to(4), runs, running=True).late_seconds == 6 * 3600 + 60
    failed_before = replace(runs, started=at(6, "15:30"), ended=at(5, "16:00"))
    assert look(at(6, "15:40"), up_to(4), failed_before, running=True).late_seconds > 24 * 3600


def test_a_run_that_ended_without_it_makes_it_late_at_once_and_one_that_is_about_to_begin_does_not() -> None:
    ended = Memory(due=at(5, "15:30"), started=at(5, "15:30"), ended=at(5, "15:31"), status="partial")
    assert look(at(5, "15:31:10"), up_to(4), ended).late_seconds == 70
    assert look(at(5, "15:30:30"), up_to(4)).late_seconds == 0


def test_what_was_missed_while_the_service_was_down_is_not_late_while_it_is_being_caught_up() -> None:
    back = at(7, "10:00")
    old = Memory(due=at(3, "15:30"), started=at(3, "15:30"), ended=at(3, "15:40"), status="complete")
    assert look(back + timedelta(seconds=20), up_to(3), old, started_at=back).late_seconds == 0
    runs = replace(old, started=back, status="running")
    assert look(back + timedelta(hours=1), up_to(3), runs, started_at=back, running=True).late_seconds == 0
    assert look(back + timedelta(hours=1), up_to(3), old, started_at=back).late_seconds > 2 * 24 * 3600


def test_at_the_first_start_nothing_is_late_until_the_first_run_has_passed() -> None:
    assert look(at(5, "20:00"), None, started_at=at(5, "18:00")).late_seconds == 0
    assert look(at(6, "16:30"), None, started_at=at(5, "18:00")).late_seconds == 3600
    dealt = Memory(due=at(6, "15:30"), started=at(6, "15:30"), ended=at(6, "15:31"), status="failed")
    assert look(at(7, "15:30"), None, dealt, started_at=at(7, "15:00")).late_seconds == 24 * 3600


def test_of_days_beyond_the_calendar_nothing_is_said_but_that() -> None:
    found = look(at(18, "20:00"), up_to(14))
    assert (found.late_seconds, "ends on 2024-06-16" in found.doubt) == (0, True)
    assert look(at(18, "20:00"), up_to(13)).late_seconds > 0
    assert look(at(14, "20:00"), up_to(14)).doubt == ""


def test_most_symbols_may_lag_behind_the_newest_rows() -> None:
    found = look(at(6, "16:30"), up_to(6, most=4))
    assert (found.late_seconds, found.checkpoint_late_seconds) == (0, 25 * 3600)


def test_a_list_is_late_since_the_first_run_that_did_not_bring_it() -> None:
    lists = Plan("reference", parse("before open - 45 min"), timedelta(hours=6), None)
    good = Memory(due=at(5, "08:30"), started=at(5, "08:30"), ended=at(5, "08:31"), status="complete")
    assert look(at(6, "08:29"), None, good, plan=lists).late_seconds == 0
    assert look(at(6, "09:30"), None, good, plan=lists).late_seconds == 3600
    bad = replace(good, due=at(6, "08:30"), started=at(6, "08:30"), ended=at(6, "08:31"), status="failed")
    assert look(at(6, "10:30"), None, bad, plan=lists, short=at(5, "08:30")).late_seconds == 26 * 3600


def test_symbols_that_ended_long_ago_do_not_count_and_half_of_the_others_decide() -> None:
    found = held({date(2020, 1, 2): 900, date(2024, 6, 3): 30, date(2024, 6, 4): 20, date(2024, 6, 5): 60})
    assert found == Held(date(2024, 6, 5), date(2024, 6, 5), 110, 50)
    found = held({date(2024, 6, 3): 70, date(2024, 6, 5): 40})
    assert found == Held(date(2024, 6, 5), date(2024, 6, 3), 110, 0)
    assert held({}) is None
