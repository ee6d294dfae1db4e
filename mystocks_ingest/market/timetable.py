"""When something is due by the exchange's day: ``after close + 30 min``, ``before open``, cron, ``every 3 s in session``.

Times are Shanghai's. The exchange opens at 09:15 with the opening auction and closes at 15:00; it is in session
09:15-11:30 and 13:00-15:00 of a trading day, both ends included. Beyond the calendar's horizon every weekday counts as a trading day, and
the firing says that this was assumed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Literal

from cronsim import CronSim, CronSimError

from mystocks_ingest.errors import ConfigError
from mystocks_ingest.market.calendar import Calendar
from mystocks_ingest.market.sessions import CLOSE, ZONE

OPEN = time(9, 15)
IN_SESSION = ((OPEN, time(11, 30)), (time(13), CLOSE))
SETTLED = timedelta(minutes=1)  # after the close: by then vendors show what the closing auction gave
BEFORE_OPEN = timedelta(minutes=30)  # of a plain ``before open``
_SECONDS = {"s": 1, "sec": 1, "min": 60, "m": 60, "h": 3600}
_DURATION = r"(?P<amount>\d+)\s*(?P<unit>s|sec|min|m|h)"
_AROUND = re.compile(rf"^(?P<side>before|after)\s+(?P<event>open|close)(\s*[+-]?\s*{_DURATION})?$")
_EVERY = re.compile(rf"^every\s+{_DURATION}(?P<inside>\s+in\s+session)?$")
_CRON = re.compile(r"^cron\s+(?P<fields>\S+(\s+\S+){4})(?P<sessions>\s+on\s+sessions)?$")
FORMS = "`after close + 30 min`, `before open`, `every 3 s in session`, `every 1 h`, `cron 30 18 * * 1-5 [on sessions]`"
_FAR = 400  # days looked ahead for a session
_FAR_CRON = 3700  # and for a cron day: eight years lie between two leap days around 2100


@dataclass(frozen=True, slots=True)
class Firing:
    """``at`` (aware, UTC) is when it is due. ``assumed``: the calendar does not know that day."""

    at: datetime
    assumed: bool = False


@dataclass(frozen=True, slots=True)
class Around:
    """Once a trading day, ``offset`` from an event of it."""

    event: Literal["open", "close"]
    offset: timedelta

    def after(self, moment: datetime, calendar: Calendar) -> Firing:
        """The first firing later than ``moment`` (aware)."""
        start = moment.astimezone(ZONE).date() - timedelta(days=1) - abs(self.offset)
        for day, assumed in _sessions(start, calendar):
            clock = OPEN if self.event == "open" else CLOSE
            at = datetime.combine(day, clock, ZONE) + self.offset
            if at > moment:
                return Firing(at.astimezone(UTC), assumed)
        raise ConfigError(f"no trading day within {_FAR} days of {start}: refresh the calendar")


@dataclass(frozen=True, slots=True)
class Every:
    """Again and again, counted from midnight; ``in_session``: only while the exchange is."""

    interval: timedelta
    in_session: bool = False

    def after(self, moment: datetime, calendar: Calendar) -> Firing:
        """The first firing later than ``moment`` (aware). The session's ends are among the firings."""
        local = moment.astimezone(ZONE)
        midnight = datetime.combine(local.date(), time(), ZONE)
        count = (local - midnight) // self.interval + 1
        at = midnight + count * self.interval
        if not self.in_session:
            tomorrow = midnight + timedelta(days=1)
            return Firing(min(at, tomorrow).astimezone(UTC))
        for day, assumed in _sessions(local.date(), calendar):
            for opens, closes in IN_SESSION:
                first, last = datetime.combine(day, opens, ZONE), datetime.combine(day, closes, ZONE)
                if local < first:
                    return Firing(first.astimezone(UTC), assumed)
                if local < last:
                    return Firing(min(at, last).astimezone(UTC), assumed)
        raise ConfigError(f"no trading day within {_FAR} days of {local.date()}: refresh the calendar")

    def owed(self, began: datetime, now: datetime, calendar: Calendar) -> datetime | None:
        """The last look (aware, UTC) that a run from ``began`` until ``now`` went over; it is due still.

        That is the look at a session's end, or the one that follows the close.
        """
        ends = [e for day in _days(began, now) for e in _ends(day, calendar)]
        ends += [e + SETTLED for e in ends if e.time() == CLOSE]
        missed = [e for e in ends if began < e <= now]
        return max(missed).astimezone(UTC) if self.in_session and missed else None

    def settled(self, moment: datetime, calendar: Calendar) -> Firing | None:
        """One more look a minute after the close, where ``moment`` (aware) lies between: its prices come late."""
        day = moment.astimezone(ZONE).date()
        ends = _ends(day, calendar)
        if not self.in_session or not ends or not ends[-1] <= moment < ends[-1] + SETTLED:
            return None
        return Firing((ends[-1] + SETTLED).astimezone(UTC), not calendar.first <= day <= calendar.last)


@dataclass(frozen=True, slots=True)
class Cron:
    """Five fields, Shanghai time; ``on_sessions``: only on trading days."""

    fields: str
    on_sessions: bool = False

    def after(self, moment: datetime, calendar: Calendar) -> Firing:
        """The first firing later than ``moment`` (aware)."""
        local = moment.astimezone(ZONE).replace(tzinfo=None)  # cron's own zone has no summer time
        for found in CronSim(self.fields, local):
            day = found.date()
            if (found - local).days > _FAR_CRON:
                break
            known = calendar.first <= day <= calendar.last
            if self.on_sessions and not (calendar.is_open(day) if known else day.weekday() < 5):
                continue
            assumed = self.on_sessions and not known
            return Firing(found.replace(tzinfo=ZONE).astimezone(UTC), assumed)
        raise ConfigError(f"`cron {self.fields}` never comes within {_FAR_CRON} days")


When = Around | Every | Cron


def parse(text: str) -> When:
    """``text`` as jobs.yaml has it. Raises ConfigError naming the forms there are."""
    words = " ".join(text.split())
    if match := _AROUND.match(words.lower()):
        side, event = match["side"], match["event"]
        length = _length(match["amount"], match["unit"]) if match["amount"] else None
        if side == "before" and length is None and event == "open":
            length = BEFORE_OPEN
        length = length or timedelta()
        if length >= timedelta(days=1):
            raise ConfigError(f"{text!r} is a day or more away from the {event}: name the time with cron")
        return Around("open" if event == "open" else "close", -length if side == "before" else length)
    if match := _EVERY.match(words.lower()):
        length = _length(match["amount"], match["unit"])
        if not timedelta() < length <= timedelta(days=1):
            raise ConfigError(f"{text!r}: the interval must be longer than nothing and a day at most")
        return Every(length, in_session=match["inside"] is not None)
    if match := _CRON.match(words):
        try:
            CronSim(match["fields"], datetime(2026, 1, 1))  # noqa: DTZ001 - cron's fields know no zone
        except CronSimError as exc:
            raise ConfigError(f"{text!r} is no cron line ({exc}): minute hour day month weekday") from exc
        if match["sessions"] and not _on_weekdays(match["fields"]):
            raise ConfigError(f"{text!r} never comes: it names weekends, and no session is on one")
        return Cron(match["fields"], on_sessions=match["sessions"] is not None)
    raise ConfigError(f"cannot read {text!r} as a time; write {FORMS}")


def newest(when: When, since: datetime, now: datetime, calendar: Calendar) -> datetime:
    """The last firing at ``now`` (aware) or before it, given one at ``since``: in few steps, however many there were."""
    for back in (timedelta(minutes=1), timedelta(hours=1), timedelta(days=1), timedelta(days=30)):
        found, ahead = since, when.after(max(since, now - back), calendar).at
        while ahead <= now:
            found, ahead = ahead, when.after(ahead, calendar).at
        if found != since:
            return found
    return since


def in_session(moment: datetime, calendar: Calendar) -> bool:
    """Whether quotes move at ``moment`` (aware): opening auction, morning, afternoon, closing auction."""
    local = moment.astimezone(ZONE)
    known = calendar.first <= local.date() <= calendar.last
    if not (calendar.is_open(local.date()) if known else local.weekday() < 5):
        return False
    return any(opens <= local.time() < closes for opens, closes in IN_SESSION)


def _on_weekdays(fields: str) -> bool:
    """Whether the days of a cron line are ever from Monday to Friday."""
    days = " ".join(fields.split()[2:])
    for found in CronSim(f"0 0 {days}", datetime(2026, 1, 1)):  # noqa: DTZ001 - cron's fields know no zone
        if found.weekday() < 5 or found.year > 2036:
            return found.weekday() < 5
    return False


def _length(amount: str, unit: str) -> timedelta:
    return timedelta(seconds=int(amount) * _SECONDS[unit])


def _ends(day: date, calendar: Calendar) -> list[datetime]:
    """When the exchange stops trading on ``day``: at lunch and at the close; never where it is no trading day."""
    known = calendar.first <= day <= calendar.last
    if not (calendar.is_open(day) if known else day.weekday() < 5):
        return []
    return [datetime.combine(day, closes, ZONE) for _, closes in IN_SESSION]


def _days(first: datetime, last: datetime) -> Iterator[date]:
    """Shanghai's days from ``first`` to ``last``, the newest first; a week of them at most."""
    day, start = last.astimezone(ZONE).date(), first.astimezone(ZONE).date()
    for back in range(min((day - start).days, 7) + 1):
        yield day - timedelta(days=back)


def _sessions(start: date, calendar: Calendar) -> Iterator[tuple[date, bool]]:
    """Trading days from ``start`` on, and whether each is only assumed."""
    for ahead in range(_FAR):
        day = start + timedelta(days=ahead)
        known = calendar.first <= day <= calendar.last
        if calendar.is_open(day) if known else day.weekday() < 5:
            yield day, not known
