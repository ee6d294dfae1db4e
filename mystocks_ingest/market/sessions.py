"""The trading day in Shanghai: its phases, the labels of its bars, and when a session's rows are final.

Bars are labelled by their end: the first five-minute bar is 09:35, the last 15:00. The opening auction trades at
09:25 and counts into the first bar, except that one-minute data of tushare and Eastmoney shows it as a bar 09:30.
"""

from __future__ import annotations

from datetime import date, datetime, time
from enum import StrEnum
from functools import cache
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from mystocks_ingest.errors import ConfigError
from mystocks_ingest.market.datasets import MINUTE_INTERVALS, SHANGHAI

ZONE = ZoneInfo(SHANGHAI)
CLOSE = time(15)
OPENING_MINUTE = 9 * 60 + 30
MORNING = (OPENING_MINUTE, 11 * 60 + 30)  # minutes of the day
AFTERNOON = (13 * 60, 15 * 60)
AFTER_HOURS = (15 * 60 + 5, 15 * 60 + 30)  # fixed-price trading of STAR (2019) and ChiNext (2020)


class Phase(StrEnum):
    """What the exchange is doing."""

    PRE_OPEN = "pre_open"
    OPENING_AUCTION = "opening_auction"  # 09:15-09:25
    PAUSE = "pause"  # 09:25-09:30: orders are taken, nothing matches
    MORNING = "morning"  # 09:30-11:30
    LUNCH = "lunch"
    AFTERNOON = "afternoon"  # 13:00-14:57
    CLOSING_AUCTION = "closing_auction"  # 14:57-15:00: Shenzhen since 2006-07, Shanghai since 2018-08-20
    CLOSED = "closed"


_PHASES = (
    (time(0), Phase.PRE_OPEN),
    (time(9, 15), Phase.OPENING_AUCTION),
    (time(9, 25), Phase.PAUSE),
    (time(9, 30), Phase.MORNING),
    (time(11, 30), Phase.LUNCH),
    (time(13), Phase.AFTERNOON),
    (time(14, 57), Phase.CLOSING_AUCTION),
    (CLOSE, Phase.CLOSED),
)


def today(now: datetime) -> date:
    """The date in Shanghai at ``now`` (aware)."""
    return now.astimezone(ZONE).date()


def phase(now: datetime, *, is_session: bool = True) -> Phase:
    """The phase at ``now`` (aware); a day without a session is closed throughout."""
    if not is_session:
        return Phase.CLOSED
    clock = now.astimezone(ZONE).time()
    return next(found for start, found in reversed(_PHASES) if clock >= start)


def is_final(session: date, *, now: datetime, published: time) -> bool:
    """Whether the close gate of ``session`` has passed: Shanghai time ``published`` of that day.

    ``published`` is the source's own hour; before 15:00 nothing of a session is final whatever it says.
    """
    local = now.astimezone(ZONE)
    return (local.date(), local.time()) >= (session, max(published, CLOSE))


def minutes(interval: str) -> int:
    """5 of ``5m``. Raises ConfigError for an interval without minute bars."""
    if interval not in MINUTE_INTERVALS:
        raise ConfigError(f"{interval!r} is no minute interval; known: {', '.join(MINUTE_INTERVALS)}")
    return int(interval.removesuffix("m"))


def labels(interval: str, *, auction: bool = False) -> tuple[time, ...]:
    """The end labels of a full session's bars: 240 of 1m (241 with the auction's 09:30), 48 of 5m, 4 of 60m."""
    marks = np.flatnonzero(label_mask(interval))
    inside = (marks > OPENING_MINUTE - (1 if auction else 0)) & (marks <= AFTERNOON[1])
    return tuple(time(int(m) // 60, int(m) % 60) for m in marks[inside])


@cache
def label_mask(interval: str) -> npt.NDArray[np.bool_]:
    """Of the day's 1440 minutes, those that may label a bar: the ends, 09:30, and after-hours minutes for 1m."""
    step = minutes(interval)
    mask = np.zeros(24 * 60, dtype=np.bool_)
    for start, end in (MORNING, AFTERNOON):
        mask[start + step : end + 1 : step] = True
    mask[OPENING_MINUTE] = True
    if interval == "1m":
        mask[AFTER_HOURS[0] : AFTER_HOURS[1] + 1] = True
    mask.setflags(write=False)
    return mask


def label_of(moment: time, interval: str) -> time:
    """The end label of the bar that a trade at ``moment`` belongs to; lunch and night count into the nearest bar.

    A bar covers (label - interval, label]: a trade at 09:35:00 sharp is the next vendor's dispute, and ours is 09:35.
    """
    seconds = moment.hour * 3600 + moment.minute * 60 + moment.second + (1 if moment.microsecond else 0)
    ends = np.array([t.hour * 60 + t.minute for t in labels(interval)])
    found = int(ends[min(int(np.searchsorted(ends * 60, seconds)), len(ends) - 1)])
    if moment > time(11, 30) and moment < time(13):
        found = MORNING[1]
    return time(found // 60, found % 60)
