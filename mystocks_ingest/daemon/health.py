"""How the service fares, part by part. Only what loses data or keeps it from being collected is worth waking somebody."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime

from mystocks_ingest import __version__
from mystocks_ingest.daemon.parts import Daemon
from mystocks_ingest.flow.schedule import Memory
from mystocks_ingest.market import sessions
from mystocks_ingest.market.calendar import HORIZON_DAYS
from mystocks_ingest.market.timetable import Every, in_session
from mystocks_ingest.monitor.health import Health, Kind, Part, State
from mystocks_ingest.schema.jobs import JobEntry

_QUIET_SECONDS = 60.0  # a whole market that does not change for so long is not heard of any more
_DEAF_SECONDS = 300.0
_LAG_SECONDS = 1.0
_FULL, _TIGHT = 0.95, 0.8


async def health(daemon: Daemon) -> Health:
    """All parts at this moment; nobody is asked over a network for it."""
    now = daemon.clock.now()
    parts = [
        *_live(daemon, now),
        *_sinks(daemon),
        *_sources(daemon),
        *((daemon.stream.part(),) if daemon.stream is not None else ()),
        _spool(daemon),
        *_jobs(daemon, now),
        Part(
            "loop",
            Kind.LOOP,
            State.FRESH if daemon.lag_seconds < _LAG_SECONDS else State.DEGRADED,
            "" if daemon.lag_seconds < _LAG_SECONDS else f"it was held up for {daemon.lag_seconds:.1f} s",
            figures={"lag_seconds": daemon.lag_seconds},
        ),
        _disk(daemon),
        _calendar(daemon, now),
    ]
    return Health(tuple(_since(daemon, part, now) for part in parts), __version__, daemon.started_at, now)


def _since(daemon: Daemon, part: Part, now: datetime) -> Part:
    """With the moment at which this state was first seen."""
    key = f"{part.kind}:{part.name}"
    state, since = daemon.seen.get(key, ("", now))
    if state != part.state:
        since = now
    daemon.seen[key] = (part.state, since)
    return replace(part, since=since)


def _live(daemon: Daemon, now: datetime) -> Iterator[Part]:
    """Live datasets: something must change while the exchange trades continuously."""
    opened = in_session(now, daemon.knowledge.calendar) and sessions.phase(now) in (
        sessions.Phase.MORNING,
        sessions.Phase.AFTERNOON,
    )
    for entry in daemon.schedule.entries:
        if not entry.live or daemon.schedule.paused(entry):
            continue
        for name in entry.datasets:
            seen = daemon.collector.figures.get(name)
            last = seen.last_news if seen is not None and seen.last_news is not None else daemon.started_at
            age = (now - max(last, _opening(now))).total_seconds() if opened else 0.0
            late = max(age - _limit(entry), 0.0)
            state = State.DOWN if age > _DEAF_SECONDS else State.DEGRADED if late else State.FRESH
            why = "" if state is State.FRESH else f"nothing new for {age:.0f} s" + _last_reason(daemon, entry)
            figures = {"late_seconds": late, "age_seconds": max((now - last).total_seconds(), 0.0)}
            yield Part(name, Kind.DATASET, state, why, page=True, figures=figures)


def _opening(now: datetime) -> datetime:
    """The beginning of the half of the session that runs."""
    local = now.astimezone(sessions.ZONE)
    minute = sessions.AFTERNOON[0] if local.hour >= 13 else sessions.MORNING[0]
    return local.replace(hour=minute // 60, minute=minute % 60, second=0, microsecond=0)


def _limit(entry: JobEntry) -> float:
    return max(_QUIET_SECONDS, 3 * entry.when.interval.total_seconds()) if isinstance(entry.when, Every) else 0.0


def _last_reason(daemon: Daemon, entry: JobEntry) -> str:
    resting = [f"{name}: {daemon.collector.resting[name]}" for name in daemon.collector.resting]
    return f" ({'; '.join(resting)})" if resting and entry.live else ""


def _sinks(daemon: Daemon) -> Iterator[Part]:
    """A store that is away degrades: its rows wait in the spool. A table that is not as described takes no rows."""
    away = daemon.front.away
    for store in sorted({t.database_type.store for t in daemon.service.written}):
        blocked = [str(e) for t, e in daemon.service.sink.blocked.items() if t.database_type.store == store]
        why = away.get(store, "") or "; ".join(blocked[:2])
        state = State.DOWN if store in away else State.DEGRADED if blocked else State.FRESH
        yield Part(store, Kind.SINK, state, why)


def _sources(daemon: Daemon) -> Iterator[Part]:
    resting = daemon.collector.resting
    for name in daemon.live_sources:
        why = resting.get(name, "")
        banned = float(why.startswith("banned"))
        yield Part(
            name, Kind.SOURCE, State.DEGRADED if why else State.FRESH, why, figures={"banned": banned}
        )  # fmt: skip


def _spool(daemon: Daemon) -> Part:
    levels = daemon.spool.levels.values()
    waiting, most = daemon.spool.bytes, daemon.spool.most_bytes
    figures = {
        "waiting_bytes": float(waiting),
        "waiting_rows": float(sum(level.rows for level in levels)),
        "dropped_rows": float(sum(level.dropped_rows for level in levels)),
        "quarantined": float(sum(level.quarantined for level in levels)),
        "used_percent": 100 * waiting / most,
    }
    if waiting > _FULL * most:
        return Part("spool", Kind.SPOOL, State.DOWN, "it is full: a database is away", page=True, figures=figures)
    if daemon.spool.damage:
        return Part("spool", Kind.SPOOL, State.DEGRADED, daemon.spool.damage[-1], figures=figures)
    if waiting:
        why = f"{figures['waiting_rows']:.0f} rows wait for their database"
        return Part("spool", Kind.SPOOL, State.DEGRADED, why, figures=figures)
    return Part("spool", Kind.SPOOL, figures=figures)


def _jobs(daemon: Daemon, now: datetime) -> Iterator[Part]:
    """Jobs of the day: how the last run ended. A file that was not taken over counts as one."""
    if daemon.jobs_refused:
        yield Part("jobs.yaml", Kind.JOB, State.DEGRADED, daemon.jobs_refused)
    for entry in daemon.schedule.entries:
        if entry.live:
            continue
        memory = daemon.schedule.known.get(entry.name, Memory())
        bad = memory.status in ("partial", "failed", "skipped") and not daemon.schedule.paused(entry)
        figures = {"running": float(daemon.schedule.running(entry.name))}
        if memory.ended is not None:
            figures["age_seconds"] = max((now - memory.ended).total_seconds(), 0.0)
        why = f"{memory.status}: {memory.reason}" if bad else ""
        yield Part(entry.name, Kind.JOB, State.DEGRADED if bad else State.FRESH, why, figures=figures)


def _disk(daemon: Daemon) -> Part:
    usage = shutil.disk_usage(daemon.service.settings.state_dir)
    used = 1 - usage.free / usage.total
    figures = {"used_percent": 100 * used, "free_bytes": float(usage.free)}
    if used < _TIGHT:
        return Part("disk", Kind.DISK, figures=figures)
    state = State.DOWN if used > _FULL else State.DEGRADED
    return Part("disk", Kind.DISK, state, f"{100 * used:.0f} % of it is used: make room", page=True, figures=figures)


def _calendar(daemon: Daemon, now: datetime) -> Part:
    left = max((daemon.knowledge.calendar.last - sessions.today(now)).days, 0)
    why = daemon.knowledge.doubt or (f"it ends in {left} days: fetch the next one" if left < HORIZON_DAYS else "")
    state = State.DEGRADED if why else State.FRESH
    return Part("calendar", Kind.CALENDAR, state, why, figures={"days_left": float(left)})
