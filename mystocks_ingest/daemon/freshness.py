"""Whether a dataset holds what it should by now: its job's times, the calendar, and when vendors publish. Pure.

A session should be stored once the first run of the job has passed that began after a vendor had published it. While
that run is under way, within its deadline, nothing is late. Sessions beyond the calendar are not known, so nothing is
said of them but that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from mystocks_ingest.errors import ConfigError
from mystocks_ingest.flow.schedule import Memory
from mystocks_ingest.market import sessions
from mystocks_ingest.market.calendar import Calendar
from mystocks_ingest.market.frames import Window
from mystocks_ingest.market.timetable import When

_BACK = timedelta(days=400)  # what was stored longer ago says nothing of what should be there now
_ABOUT_TO = timedelta(minutes=1)  # a run that is due begins within seconds


@dataclass(frozen=True, slots=True)
class Plan:
    """A job, as far as one dataset is concerned.

    ``published``: the earliest hour (Shanghai) at which a source has a session's final rows; None: the dataset has no
    sessions, each run fetches it as a whole.
    """

    job: str
    when: When
    deadline: timedelta
    published: time | None


@dataclass(frozen=True, slots=True)
class Held:
    """What the checkpoints say. ``newest``: the last session stored of any symbol; ``most``: of most symbols.

    ``behind``: how many of the ``symbols`` do not reach as far as most do.
    """

    newest: date
    most: date
    symbols: int
    behind: int


@dataclass(frozen=True, slots=True)
class Freshness:
    """``late_seconds``: how long the newest rows are awaited, ``checkpoint_late_seconds``: those of most symbols.

    ``awaited``: the session that is late; ``doubt``: why nothing can be said.
    """

    late_seconds: float = 0.0
    checkpoint_late_seconds: float = 0.0
    awaited: date | None = None
    due: datetime | None = None
    doubt: str = ""


def held(reached: Mapping[date, int]) -> Held | None:
    """Of how many symbols' checkpoints reach each day. Those that ended long before the others (delisted) do not count."""
    if not reached:
        return None
    newest = max(reached)
    counts = {day: count for day, count in reached.items() if day > newest - _BACK}
    symbols, seen, most = sum(counts.values()), 0, newest
    for day in sorted(counts, reverse=True):
        seen += counts[day]
        if 2 * seen >= symbols:
            most = day
            break
    return Held(newest, most, symbols, sum(n for day, n in counts.items() if day < most))


def freshness(
    plan: Plan,
    stored: Held | None,
    memory: Memory,
    calendar: Calendar,
    *,
    now: datetime,
    started_at: datetime,
    running: bool,
    short_since: datetime | None = None,
) -> Freshness:
    """``started_at``: the service's start. ``short_since``: the first firing since which the job was not complete."""
    running = running and memory.started is not None and now - memory.started < plan.deadline
    if plan.published is None:
        return _of_runs(plan, memory, calendar, now=now, started_at=started_at, running=running, short=short_since)
    if stored is None:
        first = memory.due or _after(plan.when, started_at, calendar)
        late = _overdue(first, memory, now=now, started_at=started_at, running=running)
        return Freshness(late, late, None, first, _beyond(calendar, now))
    newest, due = _next(plan, plan.published, stored.newest, calendar, now)
    session, session_due = _next(plan, plan.published, stored.most, calendar, now)
    return Freshness(
        _overdue(due, memory, now=now, started_at=started_at, running=running),
        _overdue(session_due, memory, now=now, started_at=started_at, running=running),
        newest or session,
        due or session_due,
        _beyond(calendar, now),
    )


def _next(
    plan: Plan, published: time, stored: date, calendar: Calendar, now: datetime
) -> tuple[date | None, datetime | None]:
    """The first session after ``stored`` that should be there by now, and since when."""
    today = sessions.today(now)
    for day in calendar.sessions(Window(stored + timedelta(days=1), today + timedelta(days=1)))[:1]:
        at = datetime.combine(day, max(published, sessions.CLOSE), sessions.ZONE).astimezone(UTC)
        due = _after(plan.when, at - timedelta(microseconds=1), calendar)
        if due is not None and due <= now:
            return day, due
    return None, None


def _overdue(due: datetime | None, memory: Memory, *, now: datetime, started_at: datetime, running: bool) -> float:
    """Seconds since ``due``; 0 where it has not come, or the run that began for it is under way or about to begin."""
    if due is None or now <= due:
        return 0.0
    ended_without = memory.ended is not None and memory.ended > due and memory.status != "running"
    if running and not (memory.ended is not None and memory.ended > due):
        return 0.0
    if not ended_without and now - max(due, started_at) < _ABOUT_TO:
        return 0.0
    return (now - due).total_seconds()


def _of_runs(
    plan: Plan,
    memory: Memory,
    calendar: Calendar,
    *,
    now: datetime,
    started_at: datetime,
    running: bool,
    short: datetime | None,
) -> Freshness:
    """A dataset that each run fetches as a whole is late since the first run that did not bring it."""
    due = short
    if due is None:
        due = _after(plan.when, memory.due or started_at, calendar)
    late = _overdue(due, memory, now=now, started_at=started_at, running=running)
    return Freshness(late, late, None, due if late else None, _beyond(calendar, now))


def _after(when: When, moment: datetime, calendar: Calendar) -> datetime | None:
    try:
        return when.after(moment, calendar).at
    except ConfigError:  # never, as far as the calendar goes
        return None


def _beyond(calendar: Calendar, now: datetime) -> str:
    if sessions.today(now) <= calendar.last:
        return ""
    return f"the calendar ends on {calendar.last}: what should be there since then is not known"
