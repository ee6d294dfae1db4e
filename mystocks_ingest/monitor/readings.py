"""What the rules look at, read from the service's health and the monitor log: one value for each measure and subject.

The figures of a part that are read here, by its kind (those that are absent are unknown, which is neither good nor bad):

| kind | figure | what it is |
|---|---|---|
| dataset | ``late_seconds`` | how long rows that should be there by the schedule are awaited; 0: fresh |
| dataset | ``age_seconds`` | where there is no ``late_seconds``: since the newest row came |
| dataset | ``checkpoint_late_seconds`` | how long the checkpoint should have moved and has not |
| sink | ``slowest_seconds``, ``latency_seconds`` | the slowest answer lately; else a usual one |
| sink | ``away`` | 1 while it does not answer |
| sink, source | ``error_ratio`` | failed calls among all, lately, 0 to 1 |
| source | ``banned`` | 1 while it shuts us out |
| spool | ``waiting_bytes`` | what waits |
| disk | ``used_percent`` | of the disk |
| calendar | ``days_left`` | until it ends |
| log | ``missed_lately`` | 1 for an hour after the monitor log lost an entry |
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from mystocks_ingest.monitor.alert_rules import Measure
from mystocks_ingest.monitor.health import Health, Kind, Part, State


@dataclass(frozen=True, slots=True)
class Reading:
    """``value`` None: not known at the moment. ``why`` is the part's own reason, where it has one."""

    measure: Measure
    subject: str
    value: float | None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Logged:
    """What the monitor log knows: failed creations of each table since its last success."""

    failed_creations: Mapping[str, int]
    reasons: Mapping[str, str]

    @classmethod
    def of(cls, history: Sequence[Mapping[str, object]]) -> Logged:
        """From the rows of ``questions.HISTORY``, newest first."""
        failed: Counter[str] = Counter()
        reasons: dict[str, str] = {}
        made: set[str] = set()
        for row in history:
            table = f"{row['database_type']} {row['database_name']}.{row['table_name']}"
            if row["status"] == "success":
                made.add(table)
            elif table not in made:
                failed[table] += 1
                reasons.setdefault(table, str(row["error_message"] or ""))
        return cls(failed, reasons)


def readings(health: Health, logged: Logged | None) -> list[Reading]:
    """Every reading there is. ``logged`` None: the log could not be asked, so that nothing is known of creations."""
    found = [reading for part in health.parts for reading in _of(part)]
    if logged is not None:
        found += [
            Reading(Measure.TABLE_CREATION_FAILURE, f"table {table}", float(times), logged.reasons.get(table, ""))
            for table, times in logged.failed_creations.items()
        ]
    return found


def measured(health: Health, logged: Logged | None) -> frozenset[str]:
    """The measures of which anything is known: a rule over another one cannot fire."""
    known = {r.measure.value for r in readings(health, logged) if r.value is not None}
    return frozenset(known if logged is None else {*known, Measure.TABLE_CREATION_FAILURE.value})


def _of(part: Part) -> Iterator[Reading]:
    subject = part.name if part.kind.value == part.name else f"{part.kind.value} {part.name}"

    def reading(measure: Measure, *names: str, scale: float = 1.0) -> Reading:
        value = next((part.figures[name] for name in names if name in part.figures), None)
        return Reading(measure, subject, None if value is None else value * scale, part.reason)

    match part.kind:
        case Kind.DATASET:
            yield reading(Measure.DATA_FRESHNESS, "late_seconds", "age_seconds")
            yield reading(Measure.CHECKPOINT_STUCK, "checkpoint_late_seconds")
        case Kind.SINK:
            yield reading(Measure.SLOW_QUERY, "slowest_seconds", "latency_seconds")
            yield reading(Measure.ERROR_RATE, "error_ratio", scale=100)
        case Kind.SOURCE:
            yield reading(Measure.SOURCE_BANNED, "banned")
            yield reading(Measure.ERROR_RATE, "error_ratio", scale=100)
        case Kind.SPOOL:
            yield reading(Measure.SPOOL_GROWING, "waiting_bytes", "bytes")
        case Kind.DISK:
            yield reading(Measure.DISK_USAGE, "used_percent")
        case Kind.CALENDAR:
            yield reading(Measure.CALENDAR_ENDING, "days_left")
        case Kind.JOB:
            yield Reading(Measure.JOB_FAILED, subject, float(part.state is not State.FRESH), part.reason)
        case Kind.LOG:
            yield reading(Measure.LOG_LOSING, "missed_lately")
        case Kind.LOOP | Kind.CHANNEL:
            pass
    if part.page or part.kind is Kind.SINK:  # a database that is away is told long before it pages
        down = float(part.state is State.DOWN)
        yield Reading(Measure.PART_DOWN, subject, max(down, part.figures.get("away", 0.0)), part.reason)
