"""Everything in a file but its tables, as the plain values of ``values``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from mystocks_ingest.schema.document.blocks import (
    AlertEntry,
    FactsEntry,
    FileEntry,
    MaintenanceEntry,
    MonitoringEntry,
    QualityEntry,
    ServerEntry,
    TaskEntry,
)
from mystocks_ingest.schema.document.entries import Entry
from mystocks_ingest.schema.document.places import Complaint
from mystocks_ingest.schema.document.salvage import salvaged
from mystocks_ingest.schema.document.values import (
    AlertRule,
    Channel,
    DatabaseEntry,
    Document,
    Maintenance,
    Monitoring,
    QualityRules,
    Task,
    Template,
)

_Model = TypeVar("_Model", bound=Entry)
_KINDS = ("mysql", "mariadb", "postgresql", "tdengine", "redis")


def document(data: Mapping[str, object], complaints: list[Complaint], context: Mapping[str, object]) -> Document:
    """Everything in ``data`` but its tables; what is wrong with it goes to ``complaints``.

    Each block is looked at by itself: a file that has none of them does not wait for their models to be built.
    """
    known = [*FileEntry.model_fields, "tables"]
    complaints += [
        Complaint((key,), f"unknown entry {key!r}; known: {', '.join(known)}", on_key=True)
        for key in data
        if key not in known
    ]

    def block(model: type[_Model], name: str) -> _Model | None:
        item = data.get(name)
        found = salvaged(model, item, (name,), complaints, context) if item is not None else None
        return found.entry if found is not None else None

    def blocks(model: type[_Model], name: str) -> Iterator[tuple[str, _Model]]:
        items = data.get(name)
        if items is not None and not isinstance(items, dict):
            complaints.append(Complaint((name,), f"`{name}` must be a mapping of names to entries"))
        for key, item in items.items() if isinstance(items, dict) else ():
            found = salvaged(model, item, (name, key), complaints, context)
            if found is not None:
                yield str(key), found.entry

    facts = block(FactsEntry, "metadata")
    monitoring, maintenance = block(MonitoringEntry, "monitoring"), block(MaintenanceEntry, "maintenance")
    quality = block(QualityEntry, "data_quality_rules")
    servers = tuple(_server(name, entry) for name, entry in blocks(ServerEntry, "databases"))
    for server in servers:
        if server.name.lower() not in _KINDS:
            text = f"unknown database {server.name!r}; known: {', '.join(_KINDS)}"
            complaints.append(Complaint(("databases", server.name), text, on_key=True))
    project = (("project", str(data["project_name"])),) if data.get("project_name") else ()
    return Document(
        version=str(data.get("version") or ""),
        metadata=(*project, *(facts.options if facts is not None else ())),
        databases=servers,
        monitoring=_monitoring(monitoring) if monitoring is not None else Monitoring(),
        maintenance=_maintenance(maintenance) if maintenance is not None else Maintenance(),
        data_quality_rules=_quality(quality) if quality is not None else QualityRules(),
        alert_rules=tuple(
            AlertRule(name, rule.threshold, rule.unit, rule.action, rule.severity, rule.enabled)
            for name, rule in blocks(AlertEntry, "alert_rules")
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


def _maintenance(entry: MaintenanceEntry) -> Maintenance:
    rest = (entry.__pydantic_extra__ or {}).items()
    options = tuple((k, v) for k, v in rest if v is not None and not isinstance(v, TaskEntry))
    return Maintenance(entry.create_tables, tuple(_tasks(entry)), options)


def _tasks(entry: MaintenanceEntry) -> Iterator[Task]:
    for given in (*entry.daily_tasks, *entry.weekly_tasks):
        yield _task(given.name, given)
    for name, task in (entry.__pydantic_extra__ or {}).items():
        if isinstance(task, TaskEntry):
            yield _task(task.name or name, task)


def _task(name: str, entry: TaskEntry) -> Task:
    typed: dict[str, Any] = {
        "retention_days": entry.retention_days,
        "completeness_threshold": entry.completeness_threshold,
        "disk_threshold_percent": entry.disk_threshold_percent,
    }
    options = (*((k, v) for k, v in typed.items() if v is not None), *entry.options)
    return Task(name, entry.enabled, entry.time, entry.day, entry.schedule, options)


def _quality(entry: QualityEntry) -> QualityRules:
    complete, fresh, right, alike = entry.completeness, entry.freshness, entry.accuracy, entry.consistency
    ranges = (right.__pydantic_extra__ or {}).items() if right is not None else ()
    return QualityRules(
        complete.threshold if complete is not None else None,
        complete.required_columns if complete is not None else (),
        fresh.daily_data_hours if fresh is not None else None,
        fresh.realtime_data_minutes if fresh is not None else None,
        tuple((name.removesuffix("_range"), limits.min, limits.max) for name, limits in ranges),
        alike is not None and alike.ohlc_check,
        alike is not None and alike.duplicate_check,
    )
