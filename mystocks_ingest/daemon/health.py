"""How the service fares, part by part. Only what loses data or keeps it from being collected is worth waking somebody."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from time import monotonic

from mystocks_ingest import __version__
from mystocks_ingest.daemon.health_datasets import histories, live
from mystocks_ingest.daemon.health_sinks import journal, sinks, sources
from mystocks_ingest.daemon.parts import Daemon
from mystocks_ingest.flow.schedule import Memory
from mystocks_ingest.market import sessions
from mystocks_ingest.market.calendar import HORIZON_DAYS
from mystocks_ingest.monitor.channels import LOG
from mystocks_ingest.monitor.health import Health, Kind, Part, Queue, State

_LAG_SECONDS = 1.0
_FULL, _TIGHT = 0.95, 0.8
_ROOM_BYTES = 20e9  # a large disk that is nearly full has room for weeks: that wakes nobody
_MISSED_SECONDS = 3600.0  # so long after the last entry that the monitor log missed somebody should look


async def health(daemon: Daemon) -> Health:
    """All parts at this moment; nobody is asked over a network for it."""
    now = daemon.clock.now()
    parts = [
        *live(daemon, now),
        *histories(daemon, now),
        *sinks(daemon, now),
        journal(daemon),
        *sources(daemon, now),
        *((daemon.stream.part(),) if daemon.stream is not None else ()),
        _spool(daemon),
        *_jobs(daemon, now),
        _loop(daemon),
        _disk(daemon),
        _calendar(daemon, now),
        _log(daemon),
        *_channels(daemon),
    ]
    queues = [
        Queue(table.database_type.store, table.name, *writer.waiting)
        for table, writer in daemon.service.writers.items()
        if writer.waiting[0]
    ]
    return Health(
        tuple(_since(daemon, part, now) for part in parts),
        __version__,
        daemon.started_at,
        now,
        tuple(queues),
        daemon.rounds.runs,
        daemon.began.age(now),
    )


def _since(daemon: Daemon, part: Part, now: datetime) -> Part:
    """With the moment at which this state was first seen; one that knows better keeps its own."""
    key = f"{part.kind}:{part.name}"
    state, since = daemon.seen.get(key, ("", now))
    if state != part.state:
        since = now
    daemon.seen[key] = (part.state, since)
    return part if part.since is not None else replace(part, since=since)


def _loop(daemon: Daemon) -> Part:
    slow = daemon.lag_seconds >= _LAG_SECONDS
    why = f"it was held up for {daemon.lag_seconds:.1f} s" if slow else ""
    state = State.DEGRADED if slow else State.FRESH
    return Part("loop", Kind.LOOP, state, why, figures={"lag_seconds": daemon.lag_seconds})


def _spool(daemon: Daemon) -> Part:
    levels = daemon.spool.levels.values()
    waiting, most = daemon.spool.bytes, daemon.spool.most_bytes
    figures = {
        "waiting_bytes": float(waiting),
        "waiting_rows": float(sum(level.rows for level in levels)),
        "waiting_records": float(sum(level.records for level in levels)),
        "limit_bytes": float(most),
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
        if daemon.front.stranded:
            why += f", of {', '.join(daemon.front.stranded)} in vain: no table in use has that name any more"
        return Part("spool", Kind.SPOOL, State.DEGRADED, why, figures=figures)
    return Part("spool", Kind.SPOOL, figures=figures)


def _jobs(daemon: Daemon, now: datetime) -> Iterator[Part]:
    """Jobs of the day: how the last run ended. A file that was not taken over counts as one."""
    for file, why in daemon.refused.items():
        yield Part(file, Kind.JOB, State.DEGRADED, why)
    for entry in daemon.schedule.entries:
        paused = daemon.schedule.paused(entry)
        if entry.live and not paused:
            continue
        memory = daemon.schedule.known.get(entry.name, Memory())
        bad = memory.status in ("partial", "failed", "skipped") and not paused
        figures = {"running": float(daemon.schedule.running(entry.name)), "paused": float(paused)}
        if memory.ended is not None:
            figures["age_seconds"] = max((now - memory.ended).total_seconds(), 0.0)
        why = f"{memory.status}: {memory.reason}" if bad else ""
        if paused:
            why = f"paused: `jobs resume {entry.name}` has it run again"
        yield Part(entry.name, Kind.JOB, State.DEGRADED if bad else State.FRESH, why, figures=figures)


def _disk(daemon: Daemon) -> Part:
    usage = shutil.disk_usage(daemon.service.settings.state_dir)
    used = 1 - usage.free / usage.total
    figures = {"used_percent": 100 * used, "free_bytes": float(usage.free)}
    if used < _TIGHT:
        return Part("disk", Kind.DISK, figures=figures)
    state = State.DOWN if used > _FULL and usage.free < _ROOM_BYTES else State.DEGRADED
    why = f"{100 * used:.0f} % of it is used, {usage.free / 1e9:,.1f} GB are free: make room"
    return Part("disk", Kind.DISK, state, why, page=True, figures=figures)


def _calendar(daemon: Daemon, now: datetime) -> Part:
    left = max((daemon.knowledge.calendar.last - sessions.today(now)).days, 0)
    why = daemon.knowledge.doubt or (f"it ends in {left} days: fetch the next one" if left < HORIZON_DAYS else "")
    state = State.DEGRADED if why else State.FRESH
    return Part("calendar", Kind.CALENDAR, state, why, figures={"days_left": float(left)})


def _log(daemon: Daemon) -> Part:
    """The monitor log: nothing waits for it, and no row depends on it, so it wakes nobody."""
    seen, missed = daemon.service.log.seen, daemon.service.log.missed
    lately = bool(missed.lost or missed.refused) and monotonic() - missed.tick < _MISSED_SECONDS
    why = f"its database is away, {seen.entries} entries wait: {seen.reason}" if seen.reason and seen.entries else ""
    if lately:
        why = f"{missed.lost} entries were lost and {missed.refused} refused since the start, the last: {missed.reason}"
    figures = {
        "waiting_entries": float(seen.entries),
        "lost_entries": float(missed.lost),
        "refused_entries": float(missed.refused),
        "missed_lately": float(lately),
    }
    return Part("log", Kind.LOG, State.DEGRADED if why else State.FRESH, why, figures=figures)


def _channels(daemon: Daemon) -> Iterator[Part]:
    """Where alerts go besides the log: one that takes none is told of by nobody else."""
    for name, count in (daemon.alerts.counts if daemon.alerts is not None else {}).items():
        if name == LOG:
            continue
        why = f"alerts do not arrive: {count.away}" if count.away else ""
        figures = {"sent": float(count.sent), "failed": float(count.failed), "dropped": float(count.dropped)}
        yield Part(name, Kind.CHANNEL, State.DEGRADED if why else State.FRESH, why, figures=figures)
