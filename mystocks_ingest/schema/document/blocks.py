"""What may stand beside ``tables:`` in the file: types, and what makes sense within one block."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    ConfigDict,
    Discriminator,
    Field,
    PositiveInt,
    Tag,
    model_validator,
)

from mystocks_ingest.schema.document.entries import Entry
from mystocks_ingest.schema.document.fields import Clock, Filled, Names, Plain, Text, Weekday, cron
from mystocks_ingest.schema.document.values import VARIABLE, Options

_Share = Annotated[float, Field(ge=0, le=1)]
_Amount = Annotated[float, Field(gt=0)]


def _port(text: str) -> str:
    if not VARIABLE.search(text) and not (text.isdigit() and 0 < int(text) < 65_536):
        raise ValueError(f"{text!r} is no port: write 1 to 65535, or ${{NAME}}")
    return text


class _Open(Entry):
    """Takes further entries of simple values; they are handed on as options."""

    model_config = ConfigDict(extra="allow", frozen=True, defer_build=True)
    __pydantic_extra__: dict[str, Plain]

    @property
    def options(self) -> Options:
        return tuple((k, v) for k, v in (self.__pydantic_extra__ or {}).items() if v is not None)


class FactsEntry(_Open):
    """``metadata``: whatever is worth knowing of the file."""


class ServerEntry(_Open):
    """One of ``databases``."""

    host: Filled | None = None
    port: Annotated[Filled, AfterValidator(_port)] | None = None
    user: Filled | None = None
    username: Filled | None = None
    password: Filled | None = None
    database: Filled | None = None
    db: Filled | None = None
    description: Text = ""


class TaskEntry(_Open):
    """One of ``maintenance``: when, and whether at all."""

    spellings = ("enabled",)

    name: str | None = None
    enabled: bool = True
    time: Clock | None = None
    day: Weekday | None = None
    schedule: Annotated[str, AfterValidator(cron)] | None = None
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
            Annotated[TaskEntry, Tag("<task>")] | Annotated[Plain, Tag("<plain>")],
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
    url: Filled | None = None


class MonitoringEntry(Entry):
    """``monitoring``."""

    spellings = ("enabled",)

    enabled: bool = True
    monitor_database: str = ""
    database_url: Filled | None = None
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
