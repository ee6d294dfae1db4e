from datetime import UTC, date, datetime, timedelta

import made
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mystocks_ingest.errors import ConfigError
from mystocks_ingest.market.calendar import Calendar
from mystocks_ingest.market.datasets import CALENDAR
from mystocks_ingest.market.frames import Window

CAL = made.calendar("2024-01-01", 262)  # every weekday of 2024
AT = datetime(2024, 1, 1, tzinfo=UTC)


@given(st.dates(date(2024, 1, 1), CAL.last), st.integers(0, 60))
def test_sessions_and_count_agree_with_is_open(start, length):
    window = Window(start, start + timedelta(days=length))
    days = [window.start + timedelta(days=i) for i in range(length)]
    expected = [d for d in days if d <= CAL.last and CAL.is_open(d)]
    assert CAL.sessions(window) == expected
    assert CAL.count(window) == len(expected)
    assert CAL.covers(window) == (not days or days[-1] <= CAL.last)


@given(st.dates(date(2024, 1, 3), CAL.last - timedelta(days=4)))
def test_next_and_previous_session_are_inverse(day):
    following = CAL.next_session(day)
    assert following > day
    assert CAL.is_open(following)
    assert CAL.previous_session(following) <= day
    assert CAL.next_session(CAL.previous_session(following)) == following


def test_what_is_not_known_raises_instead_of_guessing():
    beyond = CAL.last + timedelta(days=1)
    with pytest.raises(ConfigError, match="outside the known trading calendar"):
        CAL.is_open(beyond)
    with pytest.raises(ConfigError, match="no session beyond"):
        CAL.next_session(CAL.last)
    with pytest.raises(ConfigError, match="no session beyond"):
        CAL.previous_session(CAL.first)


def test_the_alarm_sounds_below_thirty_days():
    assert CAL.alarm(CAL.last - timedelta(days=30)) is None
    assert "29 days" in CAL.alarm(CAL.last - timedelta(days=29))
    assert CAL.days_left(CAL.last + timedelta(days=2)) == -2


def test_closed_is_said_of_known_days_only():
    days = np.array(["2023-12-31", "2024-01-06", "2024-01-08", "2030-01-05", "NaT"], "datetime64[D]")
    assert CAL.closed(days).tolist() == [False, True, False, False, False]
    assert CAL.known(days).tolist() == [False, True, True, False, False]


def test_two_calendars_are_joined_and_their_disagreements_listed():
    a = Calendar([date(2024, 1, 2), date(2024, 1, 3)], date(2024, 1, 1), date(2024, 1, 5))
    b = Calendar([date(2024, 1, 3), date(2024, 1, 4), date(2024, 1, 8)], date(2024, 1, 3), date(2024, 1, 8))
    merged, differ = Calendar.agree(a, b)
    assert differ == [date(2024, 1, 4)]
    assert merged == Calendar([date(2024, 1, d) for d in (2, 3, 8)], date(2024, 1, 1), date(2024, 1, 8))
    assert Calendar.agree(b, a)[1] == differ
    late = Calendar([date(2024, 2, 1)], date(2024, 2, 1), date(2024, 2, 1))
    with pytest.raises(ConfigError, match="unknown"):
        Calendar.agree(a, late)


def test_the_table_form_gives_the_calendar_back():
    batch = CAL.to_batch(source="made", fetched_at=AT)
    assert batch.schema == CALENDAR.schema
    assert Calendar.from_table(batch) == CAL
    with pytest.raises(ConfigError, match="no trading calendar of BJ"):
        Calendar.from_table(batch, "BJ")


def test_two_real_calendars_agree_where_both_know(shared_data):
    from pyarrow import csv  # noqa: PLC0415 - only where the data is

    def read(name):
        table = csv.read_csv(shared_data / "trade_cal_tushare" / name)
        column = next(n for n in table.schema.names if n.endswith("cal_date"))
        days = np.array([str(d).replace("-", "") for d in table[column].to_pylist()])
        days = np.array([f"{d[:4]}-{d[4:6]}-{d[6:8]}" for d in days], "datetime64[D]")
        flags = np.array([str(v) == "1" for v in table["is_open"].to_pylist()])
        return Calendar(days[flags], days.min().item(), days.max().item())

    a, b = read("trade_cal_2024_2026_bom.csv"), read("trade_cal_desc_to_20251231.csv")
    merged, differ = Calendar.agree(a, b)
    assert differ == []
    assert merged.last == date(2026, 12, 31)
    assert merged.count(Window(date(2024, 1, 1), date(2025, 1, 1))) == 242


def test_a_calendar_of_no_table_rows_says_what_to_do():
    with pytest.raises(ConfigError, match="backfill --dataset calendar"):
        Calendar.from_table(pa.Table.from_batches([], CALENDAR.schema))
