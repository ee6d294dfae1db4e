"""How the databases and the vendors fare, as parts of the service's health."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from datetime import datetime
from time import monotonic

from mystocks_ingest.daemon.ages import Noted
from mystocks_ingest.daemon.onlooker import budgets
from mystocks_ingest.daemon.parts import Daemon
from mystocks_ingest.monitor.health import Kind, Part, State
from mystocks_ingest.schema.tables import Route, Table
from mystocks_ingest.sources.pacing import SourceStatus
from mystocks_ingest.sources.pacing_store import ALL

_FAILING = 0.5  # of the calls lately
_SILENT_SECONDS = 300.0  # without an answer of the journal


def sinks(daemon: Daemon, now: datetime) -> Iterator[Part]:
    """One part a store.

    A store that is away degrades at once: its rows wait in the spool, and nothing is lost. People are woken where it
    holds a required table and has been away for longer, or more of the spool is full of its rows, than the settings
    allow. A table that is not as described takes no rows.
    """
    written: dict[str, list[Table]] = {}
    for table in daemon.service.written:
        written.setdefault(table.database_type.store, []).append(table)
    for store, tables in sorted(written.items()):
        yield _sink(daemon, store, tables, now)


def _sink(daemon: Daemon, store: str, tables: Sequence[Table], now: datetime) -> Part:
    meter, settings = daemon.onlooker.stores[store], daemon.service.settings
    blocked = [str(e) for t, e in daemon.service.sink.blocked.items() if t in tables]
    levels = [level for t in tables if (level := daemon.spool.levels.get(str(t))) is not None]
    waiting = sum(level.bytes for level in levels)
    away = daemon.front.away.get(store, "") or meter.away
    if not away:
        daemon.outages.pop(store, None)
    outage = daemon.outages.setdefault(store, meter.missing or Noted.at_once(now)) if away else None
    lasted = outage.age(now) if outage is not None else 0.0
    share = 100 * waiting / daemon.spool.most_bytes
    required = any(t.route is Route.REQUIRED for t in tables)
    grave = required and (lasted > settings.page_away_seconds or share > settings.page_spool_percent)
    state, why = State.FRESH, ""
    if away:
        state = State.DOWN if grave else State.DEGRADED
        why = f"away: {away}; its rows wait in the spool, which they fill to {share:.0f} %"
        if not required:
            why += "; all its tables are best effort"
    elif blocked:
        state, why = State.DEGRADED, "; ".join(blocked[:2])
    elif waiting:
        state, why = State.DEGRADED, f"it is back, {sum(level.rows for level in levels)} rows follow from the spool"
    loop = asyncio.get_running_loop().time()
    lately, writes = meter.recent.lately(loop), meter.recent.lately(loop, "write")
    figures = {
        "away": float(bool(away)),
        "away_seconds": lasted,
        "waiting_rows": float(sum(level.rows for level in levels)),
        "waiting_bytes": float(waiting),
        "calls": float(lately.calls),
        "error_ratio": lately.error_ratio,
        "slowest_seconds": lately.slowest,
    }
    if writes.p50 is not None and writes.p99 is not None:
        figures |= {"write_p50_seconds": writes.p50, "write_p99_seconds": writes.p99}
    if (pool := meter.pool(loop)) is not None:
        figures |= {"connections_used": float(pool[0]), "connections_allowed": float(pool[1])}
    return Part(store, Kind.SINK, state, why, outage.at if outage is not None else None, page=required, figures=figures)


def journal(daemon: Daemon) -> Part:
    """The file of checkpoints, jobs and dead letters, whichever databases are in use; it is read each minute."""
    silent = monotonic() - daemon.rounds.counted_tick
    if silent < _SILENT_SECONDS:
        return Part("journal", Kind.SINK, page=True, figures={"away": 0.0, "away_seconds": 0.0})
    state = State.DOWN if silent > daemon.service.settings.page_away_seconds else State.DEGRADED
    why = daemon.rounds.uncounted or "it does not answer; is the disk of the state directory well?"
    figures = {"away": 1.0, "away_seconds": silent}
    return Part("journal", Kind.SINK, state, f"away for {silent:.0f} s: {why}", page=True, figures=figures)


def sources(daemon: Daemon, now: datetime) -> Iterator[Part]:
    """One part a source that a job asks. One that fails degrades: others are asked in its place."""
    resting, loop = daemon.collector.resting, asyncio.get_running_loop().time()
    asked = {
        name: None
        for entry in daemon.schedule.entries
        if not daemon.schedule.paused(entry)
        for word in entry.sources
        for name in daemon.service.sources_of(word)
    }
    for name in asked:
        counted, status = daemon.onlooker.sources.get(name), daemon.onlooker.account(name)
        if counted is None:
            continue  # nobody has asked it yet
        lately = counted.recent.lately(loop)
        shut = _shut(status, now)
        why, banned = resting.get(name, ""), False
        if shut:
            why, banned = shut
        elif not why and lately.error_ratio > _FAILING:
            why = f"{lately.failed} of its last {lately.calls} calls failed"
        figures = {
            "banned": float(banned or why.startswith("banned")),
            "calls": float(lately.calls),
            "error_ratio": lately.error_ratio,
            "slowest_seconds": lately.slowest,
        }
        if lately.p50 is not None and lately.p99 is not None:
            figures |= {"call_p50_seconds": lately.p50, "call_p99_seconds": lately.p99}
        figures |= {f"calls_left_of_{window}": float(left) for window, left in budgets(status).items()}
        if (score := daemon.rounds.quality.get(name)) is not None:
            figures["quality"] = score
        yield Part(name, Kind.SOURCE, State.DEGRADED if why else State.FRESH, why, figures=figures)


def _shut(status: SourceStatus | None, now: datetime) -> tuple[str, bool] | None:
    """Why the whole source must not be called now, and whether that is a ban."""
    for door in status.closed if status is not None else ():
        if door.api == ALL and door.until > now:
            word = "banned" if door.banned else "limited"
            return f"{word} until {door.until:%Y-%m-%d %H:%M} UTC: {door.reason}", door.banned
    return None
