"""A table file: ``reading.read`` turns it into tables and a ``Document``; the values here need no pydantic and no YAML."""

from __future__ import annotations

from mystocks_ingest.schema.document.values import (
    AlertRule,
    Channel,
    DatabaseEntry,
    Document,
    Maintenance,
    Monitoring,
    QualityRules,
    Remark,
    Task,
    Template,
)

__all__ = [
    "AlertRule",
    "Channel",
    "DatabaseEntry",
    "Document",
    "Maintenance",
    "Monitoring",
    "QualityRules",
    "Remark",
    "Task",
    "Template",
]
