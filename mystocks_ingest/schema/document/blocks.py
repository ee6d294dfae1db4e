"""What stands beside ``tables:`` in the file: typed, looked at, and handed on as the plain values of ``values``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import time
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, PositiveInt, WithJsonSchema, model_validator

from mystocks_ingest.schema.document.entries import Entry, Names, Text
from mystocks_ingest.schema.document.places import Complaint
from mystocks_ingest.schema.document.salvage import salvaged
from mystocks_ingest.schema.document.values import (
    VARIABLE,
    AlertRule,
    Channel,
    DatabaseEntry,
    Document,
    Maintenance,
    Monitoring,
    Options,
    QualityRules,
    Task,
    Template,
)

_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_CRON = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
_CRON_PART = re.compile(r"^(?:\*|(\d+)(?:-(\d+))?)(?:/(\d+))?$")
_KINDS = ("mysql", "mariadb", "postgresql", "tdengine", "redis")
_Scalar = str | int | float | bool
_Share = Annotated[float, Field(ge=0, le=1)]
_Amount = Annotated[float, Field(gt=0)]


def _template(value: object) -> object:
    text = str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value
    if isinstance(text, str) and "${" in VARIABLE.sub("", text):
        raise ValueError("a place is written ${NAME} or ${NAME:default}")
    return text


def _port(text: str) -> str:
    if not VARIABLE.search(text) and not (text.isdigit() and 0 < int(text) < 65_536):
        raise ValueError(f"{text!r} is no port: write 1 to 65535, or ${{NAME}}")
    return text


def _clock(value: object) -> time:
    found = re.fullmatch(r"(\d{1,2}):(\d{2})(?::(\d{2}))?", str(value).strip())
    if found is None or int(found[1]) > 23 or int(found[2]) > 59 or int(found[3] or 0) > 59:
        raise ValueError(f"{value!r} is no time of day: write '01:00'")
    return time(int(found[1]), int(found[2]), int(found[3] or 0))


def _weekday(value: object) -> int:
    text = str(value).strip().lower()
    found = [i for i, day in enumerate(_DAYS) if len(text) >= 3 and day.startswith(text)]
    if not found:
        raise ValueError(f"{value!r} is no day of the week: write monday to sunday")
    return found[0]


def _cron(text: str) -> str:
    fields = text.split()
    if len(fields) != 5:
        raise ValueError(f"{text!r} is no cron expression: it has five fields, minute hour day month weekday")
    for field, (least, most) in zip(fields, _CRON, strict=True):
        for part in field.split(","):
            found = _CRON_PART.match(part)
            numbers = [int(n) for n in found.groups()[:2] if n] if found is not None else []
            if found is None or any(not least <= n <= most for n in numbers) or found[3] == "0":
                raise ValueError(f"{part!r} in the cron expression {text!r} must be * or {least} to {most}")
    return text


_Template = Annotated[str, BeforeValidator(_template), WithJsonSchema({"type": ["string", "number"]})]
_Clock = Annotated[time, BeforeValidator(_clock), WithJsonSchema({"type": "string"})]
_Weekday = Annotated[int, BeforeValidator(_weekday), WithJsonSchema({"enum": list(_DAYS)})]


class _Open(Entry):
    """Takes further entries of simple values; they are handed on as options."""

    model_config = ConfigDict(extra="allow", frozen=True)
    __pydantic_extra__: dict[str, _Scalar | tuple[_Scalar, ...] | None]

    @property
    def options(self) -> Options:
        return tuple((k, v) for k, v in (self.__pydantic_extra__ or {}).items() if v is not None)


class ServerEntry(_Open):
    """One of ``databases``."""

    host: _Template | None = None
    port: Annotated[_Template, AfterValidator(_port)] | None = None
    user: _Template | None = None
    username: _Template | None = None
    password: _Template | None = None
    database: _Template | None = None
    db: _Template | None = None
    description: Text = ""


class TaskEntry(_Open):
    """One of ``maintenance``: when, and whether at all."""

    spellings = ("enabled",)

    name: str | None = None
    enabled: bool = True
    time: _Clock | None = None
    day: _Weekday | None = None
    schedule: Annotated[str, AfterValidator(_cron)] | None = None
    retention_days: PositiveInt | None = None
    completeness_threshold: _Share | None = None
    disk_threshold_percent: Annotated[float, Field(gt=0, le=100)] | None = None

    @model_validator(mode="after")
    def _once(self) -> TaskEntry:
        if self.schedule is not None and self.time is not None:
            raise ValueError("`schedule` and `time` both say when: keep one of them")
        return self


class NamedTaskEntry(TaskEntry):
    name: str


class MaintenanceEntry(Entry):
    """``maintenance``: lists by rhythm, or one entry a task."""

    model_config = ConfigDict(extra="allow", frozen=True)
    __pydantic_extra__: dict[str, TaskEntry]
    spellings = ("create_tables",)

    create_tables: bool | None = None
    daily_tasks: tuple[NamedTaskEntry, ...] = ()
    weekly_tasks: tuple[NamedTaskEntry, ...] = ()


class _Completeness(Entry):
    threshold: _Share | None = None
    required_columns: Names = ()


class _Freshness(Entry):
    daily_data_hours: _Amount | None = None
    realtime_data_minutes: _Amount | None = None


class _Range(Entry):
    min: float | None = None
    max: float | None = None

    @model_validator(mode="after")
    def _ordered(self) -> _Range:
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"the least, {self.min:g}, is more than the greatest, {self.max:g}")
        return self


class _Accuracy(Entry):
    """``price_range``, ``volume_range`` and the like."""

    model_config = ConfigDict(extra="allow", frozen=True)
    __pydantic_extra__: dict[str, _Range]


class _Consistency(Entry):
    ohlc_check: bool = False
    duplicate_check: bool = False


class QualityEntry(Entry):
    """``data_quality_rules``."""

    completeness: _Completeness = _Completeness()
    freshness: _Freshness = _Freshness()
    accuracy: _Accuracy = _Accuracy()
    consistency: _Consistency = _Consistency()


class AlertEntry(Entry):
    """One of ``alert_rules``."""

    spellings = ("enabled",)

    threshold: Annotated[float, Field(ge=0)]
    unit: Literal[
        "seconds", "minutes", "hours", "days", "count", "percent", "score", "ratio", "rows", "mb", "gb", ""
    ] = ""
    action: str = ""
    severity: Literal["info", "warning", "error", "critical", ""] = ""
    enabled: bool = True
    description: Text = ""

    @model_validator(mode="after")
    def _measured(self) -> AlertEntry:
        most = {"percent": 100.0, "ratio": 1.0, "score": 1.0}.get(self.unit)
        if most is not None and self.threshold > most:
            raise ValueError(f"a threshold in {self.unit} is at most {most:g}, not {self.threshold:g}")
        return self


class ChannelEntry(Entry):
    """One of ``alert_channels``."""

    type: str
    recipients: Names = ()
    level: str = ""
    url: _Template | None = None


class MonitoringEntry(Entry):
    """``monitoring``."""

    spellings = ("enabled",)

    enabled: bool = True
    monitor_database: str = ""
    database_url: _Template | None = None
    log_retention_days: PositiveInt | None = None
    retention_days: dict[str, PositiveInt] = Field(default_factory=dict)
    alert_channels: tuple[ChannelEntry, ...] = ()


class FileEntry(Entry):
    """The whole file but its tables, which are looked at one by one."""

    version: Text = ""
    project_name: Text = ""
    metadata: dict[str, _Scalar | None] = Field(default_factory=dict)
    databases: dict[str, ServerEntry] = Field(default_factory=dict)
    monitoring: MonitoringEntry = MonitoringEntry()
    maintenance: MaintenanceEntry = MaintenanceEntry()
    data_quality_rules: QualityEntry = QualityEntry()
    alert_rules: dict[str, AlertEntry] = Field(default_factory=dict)


def document(data: object, complaints: list[Complaint], context: Mapping[str, object]) -> Document:
    """Everything in ``data`` but its tables; what is wrong with it goes to ``complaints``."""
    if not isinstance(data, dict):
        return Document()
    known = [*FileEntry.model_fields, "tables"]
    complaints += [
        Complaint((key,), f"unknown entry {key!r}; known: {', '.join(known)}", on_key=True)
        for key in data
        if key not in known
    ]
    rest = {k: v for k, v in data.items() if k in FileEntry.model_fields and v is not None}
    found = salvaged(FileEntry, rest, (), complaints, context)
    if found is None:
        return Document()
    entry = found.entry
    for name in entry.databases:
        if name.lower() not in _KINDS:
            text = f"unknown database {name!r}; known: {', '.join(_KINDS)}"
            complaints.append(Complaint(("databases", name), text, on_key=True))
    facts = {"project": entry.project_name, **entry.metadata} if entry.project_name else entry.metadata
    return Document(
        version=entry.version,
        metadata=tuple((k, v) for k, v in facts.items() if v is not None),
        databases=tuple(_server(name, server) for name, server in entry.databases.items()),
        monitoring=_monitoring(entry.monitoring),
        maintenance=Maintenance(entry.maintenance.create_tables, tuple(_tasks(entry.maintenance))),
        data_quality_rules=_quality(entry.data_quality_rules),
        alert_rules=tuple(
            AlertRule(name, rule.threshold, rule.unit, rule.action, rule.severity, rule.enabled)
            for name, rule in entry.alert_rules.items()
        ),
    )


def _filled(text: str | None, *, secret: bool = False) -> Template | None:
    return None if text is None else Template(text, secret)


def _server(name: str, entry: ServerEntry) -> DatabaseEntry:
    return DatabaseEntry(
        name,
        host=_filled(entry.host),
        port=_filled(entry.port),
        user=_filled(entry.user if entry.user is not None else entry.username),
        password=_filled(entry.password, secret=True),
        database=_filled(entry.database if entry.database is not None else entry.db),
        description=entry.description,
        options=entry.options,
    )


def _monitoring(entry: MonitoringEntry) -> Monitoring:
    days = {"": entry.log_retention_days} if entry.log_retention_days is not None else {}
    return Monitoring(
        entry.enabled,
        entry.monitor_database,
        _filled(entry.database_url, secret=True),
        tuple({**days, **entry.retention_days}.items()),
        tuple(Channel(c.type, c.recipients, c.level, _filled(c.url, secret=True)) for c in entry.alert_channels),
    )


def _tasks(entry: MaintenanceEntry) -> Iterator[Task]:
    for given in (*entry.daily_tasks, *entry.weekly_tasks):
        yield _task(given.name, given)
    for name, given in (entry.__pydantic_extra__ or {}).items():
        yield _task(given.name or name, given)


def _task(name: str, entry: TaskEntry) -> Task:
    typed: dict[str, Any] = {
        "retention_days": entry.retention_days,
        "completeness_threshold": entry.completeness_threshold,
        "disk_threshold_percent": entry.disk_threshold_percent,
    }
    options = (*((k, v) for k, v in typed.items() if v is not None), *entry.options)
    return Task(name, entry.enabled, entry.time, entry.day, entry.schedule, options)


def _quality(entry: QualityEntry) -> QualityRules:
    ranges = (entry.accuracy.__pydantic_extra__ or {}).items()
    return QualityRules(
        entry.completeness.threshold,
        entry.completeness.required_columns,
        entry.freshness.daily_data_hours,
        entry.freshness.realtime_data_minutes,
        tuple((name.removesuffix("_range"), limits.min, limits.max) for name, limits in ranges),
        entry.consistency.ohlc_check,
        entry.consistency.duplicate_check,
    )
