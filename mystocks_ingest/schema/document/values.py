"""What a table file says beside its tables, as plain values: cheap to import, for whoever acts on it later."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import time

Scalar = str | int | float | bool
Options = tuple[tuple[str, Scalar | tuple[Scalar, ...]], ...]

VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-?([^}]*))?\}")


@dataclass(frozen=True, slots=True)
class Template:
    """Text with ``${NAME}`` and ``${NAME:default}`` places. Its ``repr`` shows a secret's names, never its text."""

    text: str
    secret: bool = False

    @property
    def variables(self) -> tuple[str, ...]:
        return tuple(found[1] for found in VARIABLE.finditer(self.text))

    def resolved(self, environment: Mapping[str, str]) -> str | None:
        """The text with every place filled; None when a name is not set and has no default. An empty default counts."""
        for found in VARIABLE.finditer(self.text):
            if found[2] is None and found[1] not in environment:
                return None
        return VARIABLE.sub(lambda found: environment.get(found[1], found[2] or ""), self.text)

    def __repr__(self) -> str:
        shown = ("".join(f"${{{name}}}" for name in self.variables) or "***") if self.secret else self.text
        return f"Template({shown!r})"


@dataclass(frozen=True, slots=True)
class DatabaseEntry:
    """One entry of ``databases``: where a server is. ``options`` are pool sizes and the like."""

    name: str
    host: Template | None = None
    port: Template | None = None
    user: Template | None = None
    password: Template | None = None
    database: Template | None = None
    description: str = ""
    options: Options = ()


@dataclass(frozen=True, slots=True)
class Task:
    """A task of ``maintenance``: at a time each day, or each week on ``weekday`` (0 is Monday), or by cron's five fields."""

    name: str
    enabled: bool = True
    at: time | None = None
    weekday: int | None = None
    cron: str | None = None
    options: Options = ()


@dataclass(frozen=True, slots=True)
class Maintenance:
    """``maintenance``: ``create_tables`` is whether missing tables are made without being asked."""

    create_tables: bool | None = None
    tasks: tuple[Task, ...] = ()
    options: Options = ()


@dataclass(frozen=True, slots=True)
class QualityRules:
    """``data_quality_rules``. Shares are 0 to 1; a range's end of None is open."""

    completeness: float | None = None
    required_columns: tuple[str, ...] = ()
    daily_data_hours: float | None = None
    realtime_data_minutes: float | None = None
    ranges: tuple[tuple[str, float | None, float | None], ...] = ()  # what, least, greatest: ("price", 0, 10000)
    ohlc_check: bool = False
    duplicate_check: bool = False


@dataclass(frozen=True, slots=True)
class AlertRule:
    """One of ``alert_rules``: tell somebody when the measure passes ``threshold``, in ``unit``."""

    name: str
    threshold: float
    unit: str = ""
    action: str = ""
    severity: str = ""
    enabled: bool = True


@dataclass(frozen=True, slots=True)
class Channel:
    """Where alerts go: ``email``, ``log``, ``webhook``, ..."""

    kind: str
    recipients: tuple[str, ...] = ()
    level: str = ""
    url: Template | None = None


@dataclass(frozen=True, slots=True)
class Monitoring:
    """``monitoring``: ``retention_days`` by kind of log, or one for all under an empty name."""

    enabled: bool = True
    database: str = ""
    database_url: Template | None = None
    retention_days: tuple[tuple[str, int], ...] = ()
    channels: tuple[Channel, ...] = ()


@dataclass(frozen=True, slots=True)
class Remark:
    """What the reader has to say of a file that is right: ``where`` is ``path:line:column``."""

    where: str
    text: str

    def __str__(self) -> str:
        return f"{self.where}: {self.text}"


@dataclass(frozen=True, slots=True)
class Document:
    """A table file without its tables."""

    version: str = ""
    metadata: Options = ()
    databases: tuple[DatabaseEntry, ...] = ()
    monitoring: Monitoring = field(default_factory=Monitoring)
    maintenance: Maintenance = field(default_factory=Maintenance)
    data_quality_rules: QualityRules = field(default_factory=QualityRules)
    alert_rules: tuple[AlertRule, ...] = ()
    remarks: tuple[Remark, ...] = ()

    def database(self, name: str) -> DatabaseEntry | None:
        return next((d for d in self.databases if d.name.lower() == name.lower()), None)
