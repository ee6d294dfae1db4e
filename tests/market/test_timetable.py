from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mystocks_ingest.errors import ConfigError
from mystocks_ingest.market.calendar import Calendar
from mystocks_ingest.market.sessions import ZONE
from mystocks_ingest.market.timetable import FORMS, Every, in_session, parse

# 2024: National Day from Tuesday 1 to Monday 7 October; the calendar is known until Friday 11
DAYS = [d for d in (date(2024, 9, 23) + timedelta(n) for n in range(19)) if d.weekday() < 5]
CAL = Calendar(
    [d for d in DAYS if not date(2024, 10, 1) <= d <= date(2024, 10, 7)], date(2024, 9, 23), date(2024, 10, 11)
)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZONE)


def firings(when: str, start: str, count: int) -> list[str]:
    found, moment = [], at(start)
    for _ in range(count):
        firing = parse(when).after(moment, CAL)
        assert firing.at > moment
        moment = firing.at
        found.append(f"{moment.astimezone(ZONE):%m-%d %H:%M:%S}" + ("?" if firing.assumed else ""))
    return found


def test_after_close_passes_over_the_holiday():
    assert firings("after close + 30 min", "2024-09-30 15:29:59", 3) == [
        "09-30 15:30:00", "10-08 15:30:00", "10-09 15:30:00",
    ]  # fmt: skip
    assert firings("after close", "2024-09-30 15:00", 1) == ["10-08 15:00:00"]


def test_before_open_may_be_the_evening_before_the_session():
    assert firings("before open", "2024-09-27 09:00", 2) == ["09-30 08:45:00", "10-08 08:45:00"]
    assert firings("before open - 12 h", "2024-10-07 20:00", 1) == ["10-07 21:15:00"]


def test_every_three_seconds_in_session_keeps_to_the_exchanges_hours():
    assert firings("every 3 s in session", "2024-09-30 11:29:55", 3) == [
        "09-30 11:29:57", "09-30 11:30:00", "09-30 13:00:00",
    ]  # fmt: skip
    assert firings("every 7 s in session", "2024-09-30 14:59:58", 2) == ["09-30 15:00:00", "10-08 09:15:00"]
    assert firings("every 3 s in session", "2024-10-01 10:00", 1) == ["10-08 09:15:00"]


def test_the_close_is_looked_at_once_more_a_minute_later_and_a_session_end_that_a_run_went_over_is_owed():
    every = parse("every 3 s in session")
    assert isinstance(every, Every)
    asked = (
        "09-30 14:59:59",
        "09-30 15:00",
        "09-30 15:00:59",
        "09-30 15:01",
        "09-30 11:30",
        "10-01 15:00",
        "10-14 15:00",
    )
    found = [every.settled(at(f"2024-{moment}"), CAL) for moment in asked]
    assert [f and f"{f.at.astimezone(ZONE):%m-%d %H:%M:%S}" for f in found] == [
        None, "09-30 15:01:00", "09-30 15:01:00", None, None, None, "10-14 15:01:00",
    ]  # fmt: skip
    assert found[-1] is not None
    assert found[-1].assumed
    assert parse("every 7 min").settled(at("2024-09-30 15:00"), CAL) is None
    for began, now, end in (
        ("09-30 11:29:58", "09-30 11:30:04", "09-30 11:30"),
        ("09-30 14:59:58", "09-30 15:00:00", "09-30 15:00"),
        ("09-30 11:00:00", "09-30 15:20:00", "09-30 15:01"),
        ("09-30 15:00:01", "09-30 15:01:10", "09-30 15:01"),
        ("09-30 11:00:00", "10-06 15:20:00", "09-30 15:01"),
        ("09-30 15:00:00", "09-30 15:00:08", None),
        ("09-30 11:29:50", "09-30 11:29:59", None),
        ("10-01 11:29:50", "10-01 11:30:59", None),
    ):
        assert every.owed(at(f"2024-{began}"), at(f"2024-{now}"), CAL) == (end and at(f"2024-{end}"))


def test_cron_is_shanghai_time_and_can_be_held_to_sessions():
    assert firings("cron 30 18 * * 1-5", "2024-09-30 18:30", 2) == ["10-01 18:30:00", "10-02 18:30:00"]
    assert firings("cron 30 18 * * 1-5 on sessions", "2024-09-30 18:30", 1) == ["10-08 18:30:00"]
    assert parse("cron 0 18 * * *").after(at("2024-09-30 00:00"), CAL).at == datetime(2024, 9, 30, 10, tzinfo=UTC)


def test_a_leap_day_is_waited_for_and_a_line_of_weekends_never_meets_a_session():
    assert firings("cron 0 6 29 2 *", "2024-10-01 00:00", 1) == ["02-29 06:00:00"]
    assert parse("cron 0 6 29 2 *").after(at("2024-10-01 00:00"), CAL).at.year == 2028
    with pytest.raises(ConfigError, match="no session is on one"):
        parse("cron 0 6 * * 6 on sessions")
    parse("cron 0 6 1 5 * on sessions")


def test_beyond_the_known_calendar_weekdays_are_assumed_and_said():
    assert firings("after close + 30 min", "2024-10-11 12:00", 2) == ["10-11 15:30:00", "10-14 15:30:00?"]
    assert firings("every 1 h in session", "2024-10-11 15:00", 1) == ["10-14 09:15:00?"]
    assert firings("cron 0 9 * * * on sessions", "2024-10-11 09:00", 1) == ["10-14 09:00:00?"]


@given(
    st.sampled_from(["after close + 30 min", "before open", "every 3 s in session", "every 7 min", "cron 5 4 * * 0"]),
    st.datetimes(datetime(2024, 9, 24), datetime(2024, 10, 20), timezones=st.just(ZONE)),
)
def test_a_firing_is_later_and_none_lies_between(when, moment):
    first = parse(when).after(moment, CAL)
    assert first.at > moment
    between = moment + (first.at - moment) / 2
    if between < first.at:
        assert parse(when).after(between, CAL).at == first.at


@pytest.mark.parametrize(
    "text",
    ["", "after lunch", "every 0 s", "every 25 h", "every s", "cron 99 * * * *", "cron 1 2 3", "after close + 30 h"],
)
def test_what_cannot_be_read_is_one_sentence(text):
    with pytest.raises(ConfigError) as caught:
        parse(text)
    assert "\n" not in str(caught.value)


def test_every_form_in_the_message_can_be_read():
    for form in FORMS.replace("[on sessions]", "on sessions").split("`")[1::2]:
        parse(form)


def test_in_session_follows_the_phases():
    moments = [
        "09-30 09:14:59",
        "09-30 09:15",
        "09-30 11:30",
        "09-30 13:00",
        "09-30 14:59:59",
        "09-30 15:00",
        "10-01 10:00",
    ]
    assert [in_session(at(f"2024-{m}"), CAL) for m in moments] == [False, True, False, True, True, False, False]
