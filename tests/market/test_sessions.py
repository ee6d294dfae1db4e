from datetime import UTC, date, datetime, time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mystocks_ingest.errors import ConfigError
from mystocks_ingest.market import sessions
from mystocks_ingest.market.sessions import Phase, is_final, label_of, labels, phase


def shanghai(clock: str) -> datetime:
    return datetime.combine(date(2024, 1, 2), time.fromisoformat(clock), sessions.ZONE).astimezone(UTC)


@pytest.mark.parametrize(
    ("clock", "expected"),
    [
        ("09:14:59", Phase.PRE_OPEN),
        ("09:15", Phase.OPENING_AUCTION),
        ("09:25", Phase.PAUSE),
        ("09:30", Phase.MORNING),
        ("11:30", Phase.LUNCH),
        ("13:00", Phase.AFTERNOON),
        ("14:57", Phase.CLOSING_AUCTION),
        ("15:00", Phase.CLOSED),
    ],
)
def test_phases_of_the_day(clock, expected):
    assert phase(shanghai(clock)) is expected
    assert phase(shanghai(clock), is_session=False) is Phase.CLOSED


@pytest.mark.parametrize(("interval", "count"), [("1m", 240), ("5m", 48), ("15m", 16), ("30m", 8), ("60m", 4)])
def test_bars_are_labelled_by_their_end(interval, count):
    marks = labels(interval)
    assert len(marks) == count
    assert marks[-1] == time(15)
    assert time(11, 30) in marks
    assert time(13) not in marks
    assert len(labels(interval, auction=True)) == count + 1


def test_sixty_minute_bars_skip_lunch():
    assert labels("60m") == (time(10, 30), time(11, 30), time(14), time(15))


@given(st.times(time(9, 25), time(15)), st.sampled_from(["1m", "5m", "15m", "30m", "60m"]))
def test_every_trade_belongs_to_one_bar(moment, interval):
    label = label_of(moment, interval)
    assert label in labels(interval)
    if time(9, 30) < moment <= time(11, 30) or moment > time(13):
        assert moment <= label
        minutes = (label.hour - moment.hour) * 60 + label.minute - moment.minute
        assert minutes <= sessions.minutes(interval)


def test_trades_at_the_edges():
    assert label_of(time(9, 25), "5m") == time(9, 35)
    assert label_of(time(9, 35), "5m") == time(9, 35)
    assert label_of(time(9, 35, 1), "5m") == time(9, 40)
    assert label_of(time(11, 30, 3), "5m") == time(11, 30)
    assert label_of(time(13, 0, 1), "5m") == time(13, 5)
    assert label_of(time(15, 0, 2), "5m") == time(15)


def test_the_close_gate_is_in_shanghai_time():
    day = date(2024, 1, 2)
    assert not is_final(day, now=shanghai("15:04:59"), published=time(15, 5))
    assert is_final(day, now=shanghai("15:05"), published=time(15, 5))
    assert not is_final(day, now=shanghai("14:59"), published=time(9))
    assert is_final(date(2024, 1, 1), now=shanghai("00:00"), published=time(17, 30))
    assert not is_final(date(2024, 1, 3), now=shanghai("23:59"), published=time(15, 5))
    assert is_final(day, now=datetime(2024, 1, 2, 9, 30, tzinfo=UTC), published=time(17, 30))


def test_daily_is_no_minute_interval():
    with pytest.raises(ConfigError, match="no minute interval"):
        sessions.minutes("1d")
