"""What may stand beside ``tables:`` in the file: types, and what makes sense within one block."""

from __future__ import annotations

import re
from datetime import time
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PositiveInt,
    Tag,
    WithJsonSchema,
    model_validator,
)

from mystocks_ingest.schema.document.entries import Entry, Names, Text
from mystocks_ingest.schema.document.values import VARIABLE, Options

_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_CRON = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
_CRON_PART = re.compile(r"^(?:\*|(\d+)(?:-(\d+))?)(?:/(\d+))?$")
_Share = Annotated[float, Field(ge=0, le=1)]
_Amount = Annotated[float, Field(gt=0)]


def _template(value: object) -> object:
    text = str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value
    if isinstance(text, str) and "${" in VARIABLE.sub("", text):
        raise ValueError("a place is written ${NAME} or ${NAME:default}")
    return text


def _plain(value: object) -> object:
    """A text, a number or a flag, or a list of these, which becomes a tuple."""
    if isinstance(value, list) and all(isinstance(v, str | int | float) for v in value):
        return tuple(value)
    if value is None or isinstance(value, str | int | float):
        return value
    raise ValueError("a text, a number, true or false, or a list of these must stand here")


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


_Plain = Annotated[Any, BeforeValidator(_plain)]
_Template = Annotated[str, BeforeValidator(_template), WithJsonSchema({"type": ["string", "number"]})]
_Clock = Annotated[time, BeforeValidator(_clock), WithJsonSchema({"type": "string"})]
_Weekday = Annotated[int, BeforeValidator(_weekday), WithJsonSchema({"enum": list(_DAYS)})]


class _Open(Entry):
    """Takes further entries of simple values; they are handed on as options."""

    model_config = ConfigDict(extra="allow", frozen=True, defer_build=True)
    __pydantic_extra__: dict[str, _Plain]

    @property
    def options(self) -> Options:
        return tuple((k, v) for k, v in (self.__pydantic_extra__ or {}).items() if v is not None)


class FactsEntry(_Open):
    """``metadata``: whatever is worth knowing of the file."""


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
    """``maintenance``: lists by rhythm, or one entry a task; what is no mapping is an option of all."""

    model_config = ConfigDict(extra="allow", frozen=True, defer_build=True)
    __pydantic_extra__: dict[
        str,
        Annotated[
            Annotated[TaskEntry, Tag("<task>")] | Annotated[_Plain, Tag("<plain>")],
            Discriminator(lambda value: "<task>" if isinstance(value, dict) else "<plain>"),
        ],
    ]
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

    model_config = ConfigDict(extra="allow", frozen=True, defer_build=True)
    __pydantic_extra__: dict[str, _Range]


class _Consistency(Entry):
    ohlc_check: bool = False
    duplicate_check: bool = False


class QualityEntry(Entry):
    """``data_quality_rules``."""

    completeness: _Completeness | None = None
    freshness: _Freshness | None = None
    accuracy: _Accuracy | None = None
    consistency: _Consistency | None = None


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
    """The whole file but its tables: what an editor is told; ``beside`` looks at each block by itself."""

    version: Text = ""
    project_name: Text = ""
    metadata: FactsEntry | None = None
    databases: dict[str, ServerEntry] = Field(default_factory=dict)
    monitoring: MonitoringEntry | None = None
    maintenance: MaintenanceEntry | None = None
    data_quality_rules: QualityEntry | None = None
    alert_rules: dict[str, AlertEntry] = Field(default_factory=dict)
