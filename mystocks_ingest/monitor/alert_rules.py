"""What is alerted about: the measures there are, and the rules over them, as the table file's ``alert_rules`` say.

A measure the file does not name has the rule it comes with (the thresholds most of our users began with: 24 hours, one
failed creation, 5 seconds, 80 percent ...); ``enabled: false`` under its name takes that rule away.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Literal

from mystocks_ingest.schema.document.values import AlertRule

Severity = Literal["info", "warning", "error", "critical"]
SEVERITIES: tuple[Severity, ...] = ("info", "warning", "error", "critical")


class Measure(StrEnum):
    """What can be measured; also the names of the rules that come with the program."""

    DATA_FRESHNESS = "data_freshness"
    TABLE_CREATION_FAILURE = "table_creation_failure"
    SLOW_QUERY = "slow_query"
    DISK_USAGE = "disk_usage"
    SOURCE_BANNED = "source_banned"
    SPOOL_GROWING = "spool_growing"
    CALENDAR_ENDING = "calendar_ending"
    CHECKPOINT_STUCK = "checkpoint_stuck"
    JOB_FAILED = "job_failed"
    PART_DOWN = "part_down"
    ERROR_RATE = "error_rate"
    LOG_LOSING = "log_losing"


Beyond = Literal["above", "at least", "below", "for longer than"]


@dataclass(frozen=True, slots=True)
class Meter:
    """How a measure is read: ``unit`` of its values, ``usual`` the unit of a threshold that names none.

    ``hold``: how long it must be bad before anybody is told, and good before it counts as over. Where ``beyond`` is
    ``for longer than`` the threshold itself is that time.
    """

    unit: Literal["seconds", "percent", "count", "days"]
    usual: str
    threshold: float
    beyond: Beyond
    severity: Severity
    hold: timedelta
    meaning: str
    also: tuple[str, ...] = ()


_NOW, _SHORT, _WHILE = timedelta(0), timedelta(minutes=2), timedelta(minutes=5)

METERS: dict[Measure, Meter] = {
    Measure.DATA_FRESHNESS: Meter(
        "seconds", "hours", 24 * 3600, "above", "warning", _WHILE, "rows of a dataset are late",
        ("data_staleness", "freshness", "stale_data"),
    ),
    Measure.TABLE_CREATION_FAILURE: Meter(
        "count", "count", 1, "at least", "error", _NOW, "a table could not be created, and was not since",
        ("table_creation_failures", "create_table_failure"),
    ),
    Measure.SLOW_QUERY: Meter(
        "seconds", "seconds", 5, "above", "warning", _SHORT, "a database takes long to answer",
        ("slow_queries", "query_time", "query_latency"),
    ),
    Measure.DISK_USAGE: Meter(
        "percent", "percent", 80, "above", "warning", _WHILE, "a disk fills up", ("disk", "disk_space", "disk_full")
    ),
    Measure.SOURCE_BANNED: Meter(
        "count", "count", 1, "at least", "warning", _NOW, "a vendor shuts this address or account out",
        ("source_ban", "banned"),
    ),
    Measure.SPOOL_GROWING: Meter(
        "seconds", "minutes", 600, "for longer than", "error", _NOW, "rows wait for a database, and not fewer of them",
        ("spool", "spool_growth"),
    ),
    Measure.CALENDAR_ENDING: Meter(
        "days", "days", 30, "below", "warning", _NOW, "the trading calendar ends soon",
        ("calendar", "calendar_horizon", "calendar_ends_soon"),
    ),
    Measure.CHECKPOINT_STUCK: Meter(
        "seconds", "hours", 24 * 3600, "above", "error", _WHILE, "a checkpoint should have moved and did not",
        ("stuck_checkpoint",),
    ),
    Measure.JOB_FAILED: Meter("count", "count", 1, "at least", "warning", _NOW, "a scheduled job failed", ("etl_failure",)),
    Measure.PART_DOWN: Meter(
        "seconds", "minutes", 120, "for longer than", "critical", _NOW, "a database is away, or a part the service needs is down",
        ("service_down", "database_down", "connection_failure"),
    ),
    Measure.LOG_LOSING: Meter(
        "count", "count", 1, "at least", "warning", _NOW, "the monitor log lost entries within the last hour",
        ("monitor_log", "log_lost"),
    ),
    Measure.ERROR_RATE: Meter(
        "percent", "ratio", 5, "above", "warning", _WHILE, "the share of failed calls of a database or vendor",
        ("errors", "failure_rate"),
    ),
}  # fmt: skip
_BY_NAME = {name: measure for measure, meter in METERS.items() for name in (measure.value, *meter.also)}
_SECONDS = {"seconds": 1.0, "minutes": 60.0, "hours": 3600.0, "days": 86400.0}
_PERCENT = {"percent": 1.0, "ratio": 100.0}
_REMIND: dict[Severity, timedelta] = {
    "info": timedelta(days=1),
    "warning": timedelta(hours=12),
    "error": timedelta(hours=6),
    "critical": timedelta(hours=1),
}


@dataclass(frozen=True, slots=True)
class Rule:
    """``threshold`` is in the unit of the measure's meter. ``action``: the channel the file asks for, if any."""

    name: str
    measure: Measure
    threshold: float
    severity: Severity
    hold: timedelta
    remind: timedelta
    action: str = ""

    @property
    def beyond(self) -> Beyond:
        return METERS[self.measure].beyond

    def broken_by(self, value: float) -> bool:
        """Whether the value is beyond the threshold; of a rule about how long, whether the clock runs at all."""
        match self.beyond:
            case "above":
                return value > self.threshold
            case "at least":
                return value >= self.threshold
            case "below":
                return value < self.threshold
            case "for longer than":
                return value > 0

    def shown(self) -> str:
        """The condition as people read it: ``above 24 h``."""
        return f"{self.beyond} {amount(self.measure, self.threshold)}"


def amount(measure: Measure, value: float) -> str:
    """A value of the measure with its unit: 26 h, 81 %, 12 days."""
    match METERS[measure].unit:
        case "seconds":
            for unit, word in ((86400 * 2, "days"), (5400, "h"), (90, "min")):
                if value >= unit:
                    return f"{value / {'days': 86400, 'h': 3600, 'min': 60}[word]:.4g} {word}"
            return f"{value:.3g} s"
        case "percent":
            return f"{value:.3g} %"
        case "days":
            return f"{value:g} days"
        case "count":
            return f"{value:g}"


def rules(entries: Sequence[AlertRule]) -> tuple[tuple[Rule, ...], tuple[str, ...]]:
    """The rules in force, and one sentence for each entry that cannot be one: nothing here measures what it names."""
    found: list[Rule] = []
    remarks: list[str] = []
    named: set[Measure] = set()
    for entry in entries:
        measure = _BY_NAME.get(entry.name.lower().replace("-", "_").replace(" ", "_"))
        if measure is None:
            known = ", ".join(METERS)
            remarks.append(f"alert_rules: nothing measures {entry.name!r}, so it never fires; measured are: {known}")
            continue
        named.add(measure)
        threshold = _converted(entry, METERS[measure])
        if threshold is None:
            remarks.append(
                f"alert_rules: {entry.name} is measured in {METERS[measure].unit}, not in {entry.unit}; it never fires"
            )
        elif entry.enabled:
            found.append(_rule(entry.name, measure, threshold, entry.severity, entry.action))
    found += [_rule(m.value, m, meter.threshold) for m, meter in METERS.items() if m not in named]
    return tuple(found), tuple(remarks)


def _rule(name: str, measure: Measure, threshold: float, severity: str = "", action: str = "") -> Rule:
    meter = METERS[measure]
    grave = next((s for s in SEVERITIES if s == severity), meter.severity)
    hold = timedelta(seconds=threshold) if meter.beyond == "for longer than" else meter.hold
    return Rule(name, measure, threshold, grave, hold, _REMIND[grave], action)


def _converted(entry: AlertRule, meter: Meter) -> float | None:
    """The entry's threshold in the meter's unit; None where its unit is of another kind."""
    unit = entry.unit or meter.usual
    match meter.unit:
        case "seconds":
            return entry.threshold * _SECONDS[unit] if unit in _SECONDS else None
        case "days":
            return entry.threshold * _SECONDS[unit] / 86400 if unit in _SECONDS else None
        case "percent":
            return entry.threshold * _PERCENT[unit] if unit in _PERCENT else None
        case "count":
            return entry.threshold if unit in ("count", "rows") else None
