"""Whether each dataset is as new as it should be, as parts of the service's health."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from mystocks_ingest.daemon.ages import Noted
from mystocks_ingest.daemon.freshness import Freshness, Held, Plan, freshness
from mystocks_ingest.daemon.parts import Daemon
from mystocks_ingest.flow.schedule import Memory
from mystocks_ingest.market import sessions
from mystocks_ingest.market.datasets import DATASETS
from mystocks_ingest.market.timetable import Every, in_session
from mystocks_ingest.monitor.health import Kind, Part, State
from mystocks_ingest.schema.jobs import JobEntry

_QUIET_SECONDS = 60.0  # a whole market that does not change for so long is not heard of any more
_DEAF_SECONDS = 300.0
_ALL_DOWN_SECONDS = 60.0  # every source refuses, for so long: no poll can help
_LONG_LATE_SECONDS = 24 * 3600.0


def live(daemon: Daemon, now: datetime) -> Iterator[Part]:
    """Live datasets: something must change while the exchange trades continuously. What is missed then is gone."""
    opened = in_session(now, daemon.knowledge.calendar) and sessions.phase(now) in (
        sessions.Phase.MORNING,
        sessions.Phase.AFTERNOON,
    )
    entries = [e for e in daemon.schedule.entries if e.live and not daemon.schedule.paused(e)]
    _watch(daemon, {name for entry in entries for name in entry.datasets}, now)
    for entry in entries:
        for name in entry.datasets:
            last = _heard(daemon, name)
            since_opening = (now - _opening(now)).total_seconds() + last.set_back(now)
            silent = min(last.age(now), daemon.watched[name].age(now), since_opening) if opened else 0.0
            late = max(silent - _limit(entry), 0.0)
            down = _down(daemon, entry, name)
            deaf = silent > _DEAF_SECONDS or (bool(down) and silent > max(_ALL_DOWN_SECONDS, _limit(entry)))
            state = State.DOWN if deaf else State.DEGRADED if late else State.FRESH
            why = ""
            if state is not State.FRESH:
                why = f"nothing new for {silent:.0f} s while the exchange trades"
                why += f"; the clock was set back by {back:.0f} s meanwhile" if (back := last.set_back(now)) else ""
                why += _refused(daemon, name)
                why += f"; every source is down: {'; '.join(down)}" if down else ""
            figures = {"late_seconds": late, "age_seconds": last.age(now)}
            yield Part(name, Kind.DATASET, state, why, page=True, figures=figures)


def _refused(daemon: Daemon, name: str) -> str:
    seen = daemon.collector.figures.get(name)
    rows = seen.refused_since if seen is not None else 0
    return f"; {rows} rows came and were refused (`dead-letters list`)" if rows else ""


def _watch(daemon: Daemon, live: set[str], now: datetime) -> None:
    """From when on news is awaited: the start, or when a job was resumed, or came with a changed file."""
    for name in set(daemon.watched) - live:
        del daemon.watched[name]
    for name in live - set(daemon.watched):
        daemon.watched[name] = Noted.at_once(now) if daemon.looked else daemon.began
    daemon.looked = True


def _heard(daemon: Daemon, name: str) -> Noted:
    """When the last news came; the start, while none has."""
    seen = daemon.collector.figures.get(name)
    if seen is None or seen.last_news is None:
        return daemon.began
    return Noted(seen.last_news, seen.news_tick)


def _opening(now: datetime) -> datetime:
    """The beginning of the half of the session that runs."""
    local = now.astimezone(sessions.ZONE)
    minute = sessions.AFTERNOON[0] if local.hour >= 13 else sessions.MORNING[0]
    return local.replace(hour=minute // 60, minute=minute % 60, second=0, microsecond=0)


def _limit(entry: JobEntry) -> float:
    return max(_QUIET_SECONDS, 3 * entry.when.interval.total_seconds()) if isinstance(entry.when, Every) else 0.0


def _down(daemon: Daemon, entry: JobEntry, dataset: str) -> Sequence[str]:
    """Why each source of the job that has the dataset is left alone; none while one of them is not."""
    names = [name for word in entry.sources for name in daemon.service.sources_of(word)]
    asked = [n for n in names if n in daemon.live_sources and dataset in daemon.live_sources[n].offers]
    rests = {n: daemon.collector.rests(n, DATASETS[dataset]) for n in asked}
    return [f"{n}: {why}" for n, why in rests.items()] if rests and all(rests.values()) else []


def histories(daemon: Daemon, now: datetime) -> Iterator[Part]:
    """Datasets of the day's jobs, indices by themselves. What is late can still be fetched, so it wakes nobody."""
    rounds = daemon.rounds
    if rounds.held is None:
        return  # just started: nobody has counted yet
    judged: dict[str, tuple[Freshness, Held | None, Plan]] = {}
    for entry in daemon.schedule.entries:
        if entry.live or daemon.schedule.paused(entry):
            continue
        for dataset in entry.datasets:
            plan = rounds.plans.get((entry.name, dataset))
            if plan is None:
                continue  # a job of a file that was taken over a moment ago
            of_indices = entry.universe == "index"
            name, stored = f"{dataset} index" if of_indices else dataset, rounds.held.get((dataset, of_indices))
            found = freshness(
                plan,
                stored,
                daemon.schedule.known.get(entry.name, Memory()),
                daemon.knowledge.calendar,
                now=now,
                started_at=daemon.started_at,
                running=daemon.schedule.running(entry.name),
                short_since=rounds.memories.short.get(entry.name),
            )
            worst = judged.get(name)
            if worst is None or found.checkpoint_late_seconds > worst[0].checkpoint_late_seconds:
                judged[name] = (found, stored, plan)
    for name, (found, stored, plan) in judged.items():
        yield _history(daemon, name, found, stored, plan, now)


def _history(daemon: Daemon, name: str, found: Freshness, stored: Held | None, plan: Plan, now: datetime) -> Part:
    figures = {
        "late_seconds": found.late_seconds,
        "checkpoint_late_seconds": found.checkpoint_late_seconds,
    }
    if stored is not None and plan.published is not None:
        close = datetime.combine(stored.newest, sessions.CLOSE, sessions.ZONE)
        figures |= {
            "age_seconds": max((now - close).total_seconds(), 0.0),
            "symbols": float(stored.symbols),
            "symbols_behind": float(stored.behind),
        }
    late = found.checkpoint_late_seconds
    state = State.FRESH
    if late or found.doubt:
        state = State.DOWN if late > _LONG_LATE_SECONDS else State.DEGRADED
    return Part(name, Kind.DATASET, state, _why(daemon, found, stored, plan), figures=figures)


def _why(daemon: Daemon, found: Freshness, stored: Held | None, plan: Plan) -> str:
    """What is awaited since when, what there is, and what the job says of it."""
    if not found.checkpoint_late_seconds or found.due is None:
        return found.doubt
    since = f"{found.due.astimezone(sessions.ZONE):%Y-%m-%d %H:%M} Shanghai"
    if plan.published is None:
        why = f"it should have been fetched at {since}"
    elif stored is None:
        why = f"nothing is stored yet, and its first rows were due at {since}"
    elif found.late_seconds:
        why = f"the session of {found.awaited} should be stored since {since}; the newest stored is {stored.newest}"
    else:
        why = f"most symbols are complete up to {stored.most} only, since {since}: {stored.behind} of {stored.symbols} lag further"
    memory = daemon.schedule.known.get(plan.job, Memory())
    if daemon.schedule.running(plan.job):
        said = "runs"
    elif memory.status in ("", "running"):
        said = "has not ended a run"
    else:
        said = f"ended {memory.status}" + (f": {memory.reason}" if memory.reason else "")
    return f"{why}; job {plan.job} {said}"
