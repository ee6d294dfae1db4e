"""What happened, as rows of the monitor log."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from mystocks_ingest.logs import redact
from mystocks_ingest.monitor import tables
from mystocks_ingest.monitor.tables import JSON_LENGTH, LogTable
from mystocks_ingest.ports import Doing, Operation, Recorded, Run, Status, Validation
from mystocks_ingest.schema.tables import Column, Database, Expression, Moment, Table

Cell = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of the log; moments are ISO texts with their zone, JSON is text.

    ``id`` names the row however often it is sent; of two the one with the greater ``revision`` stands. ``parts`` are
    the rows of ``column_definition_log`` beneath it.
    """

    id: str
    revision: int
    table: str
    values: Mapping[str, Cell]
    parts: tuple[Mapping[str, Cell], ...] = ()

    def dumps(self) -> str:
        return json.dumps({"values": self.values, "parts": self.parts}, ensure_ascii=False)

    @classmethod
    def loads(cls, id: str, revision: int, table: str, content: str) -> Entry:  # noqa: A002 - the log's word
        found = json.loads(content)
        return cls(id, revision, table, found["values"], tuple(found["parts"]))


def entry(id: str, revision: int, table: LogTable, values: Mapping[str, object], parts: Sequence[Entry] = ()) -> Entry:  # noqa: A002
    """An entry whose every text fits its column, without secrets; what is longer is cut, and says so."""
    cells = {column.name: _cell(values.get(column.name), column) for column in table.columns}
    return Entry(id, revision, table.name, cells, tuple(p.values for p in parts))


def _cell(value: object, column: tables.LogColumn) -> Cell:
    match value:
        case None:
            return None
        case datetime():
            return value.astimezone(UTC).isoformat()
        case _ if column.kind == "json":
            text = _clean(json.dumps(value, ensure_ascii=False, default=str))
            return text if len(text) <= JSON_LENGTH else json.dumps({"left out": f"{len(text)} characters"})
        case str():
            text = _clean(value)
            cut = column.length is not None and len(text) > column.length
            return text[: column.length - 1] + "…" if cut and column.length is not None else text
        case bool() | int() | float():
            return value
        case _:
            return _clean(str(value))


def _clean(text: str) -> str:
    """Without secrets, and without what no database takes for text."""
    return redact(text).encode("utf-8", "replace").decode().replace("\0", "")


def operated(id: str, operation: Operation, status: Status, error: str = "") -> Entry:  # noqa: A002
    """A row of ``table_operation_log``: first PROCESSING, then how it ended."""
    values = {
        "table_name": operation.table,
        "database_type": operation.database_type.value,
        "database_name": operation.database,
        "operation_type": operation.kind.value,
        "operation_time": operation.at,
        "operation_status": status.value,
        "operation_details": dict(operation.details) or None,
        "ddl_command": operation.ddl or None,
        "error_message": error or None,
    }
    return entry(id, 0 if status is Status.PROCESSING else 1, tables.OPERATION, values)


def created(id: str, operation: Operation, made: Table, status: Status, error: str, *, at: datetime) -> Entry:  # noqa: A002
    """A row of ``table_creation_log`` and its columns, once it is known how the creation ended."""
    values = {
        "table_name": operation.table,
        "database_type": operation.database_type.value,
        "database_name": operation.database,
        "creation_time": operation.at,
        "modification_time": at,
        "status": status.value,
        "table_parameters": _parameters(made, operation),
        "ddl_command": operation.ddl or None,
        "error_message": error or None,
    }
    columns = [_column(column, made) for column in made.columns]
    return entry(f"{id}:creation", 0, tables.CREATION, values, columns)


def _parameters(made: Table, operation: Operation) -> dict[str, object]:
    said = {
        "key": list(made.key),
        "dataset": made.dataset.name if made.dataset is not None else None,
        "time_column": made.time_column,
        "is_super_table": made.is_super_table or None,
        "is_timescale_hypertable": made.is_timescale_hypertable or None,
        "comment": made.comment or None,
    }
    return {name: value for name, value in {**said, **operation.details}.items() if value is not None}


def _column(column: Column, made: Table) -> Entry:
    match column.default:
        case Moment():
            default: str | None = column.default.value
        case Expression(sql=sql):
            default = sql
        case None:
            default = None
        case bool():
            default = "TRUE" if column.default else "FALSE"
        case _:
            default = str(column.default)
    values = {
        "column_name": column.name,
        "data_type": column.type,
        "col_length": column.length,
        "col_precision": column.precision,
        "col_scale": column.scale,
        "is_nullable": column.nullable,
        "is_primary_key": column.name in made.key,
        "default_value": default,
        "comment": column.comment or None,
    }
    return entry("", 0, tables.COLUMNS, values)


def validated(id: str, found: Validation) -> list[Entry]:  # noqa: A002
    """A row of ``table_validation_log``, each issue a line of it, and one among the operations."""
    values = {
        "table_name": found.table,
        "database_type": found.database_type.value,
        "database_name": found.database,
        "validation_time": found.at,
        "validation_status": "fail" if found.issues else "pass",
        "validation_details": dict(found.details) or None,
        "issues_found": "\n".join(found.issues) or None,
    }
    operation = Operation(
        Doing.VALIDATE,
        found.database_type,
        found.database,
        found.table,
        found.at,
        details={"issues": len(found.issues), **found.details},
    )
    return [entry(id, 0, tables.VALIDATION, values), operated(f"{id}:operation", operation, Status.SUCCESS)]


def ran(run: Run, error: str = "") -> Entry:
    """A row of ``etl_job_log``."""
    values = {
        "run_id": run.id,
        "job_name": run.command,
        "start_time": run.started_at,
        "end_time": run.ended_at,
        "status": run.status,
        "rows_stored": run.detail.get("rows"),
        "rows_refused": run.detail.get("refused"),
        "sessions_missing": run.detail.get("missing"),
        "job_details": dict(run.detail) or None,
        "error_message": error or None,
    }
    return entry(f"run:{run.id}", 0 if run.status == "running" else 1, tables.JOB, values)


def recorded(id: str, values: Mapping[str, object]) -> Recorded:  # noqa: A002
    """The operation of a row of ``table_operation_log``, as the log was told of it."""
    details = values["operation_details"]
    at = values["operation_time"]
    operation = Operation(
        Doing(str(values["operation_type"])),
        Database(str(values["database_type"])),
        str(values["database_name"]),
        str(values["table_name"]),
        at if isinstance(at, datetime) else datetime.fromisoformat(str(at)),
        str(values["ddl_command"] or ""),
        json.loads(str(details)) if details else {},
    )
    return Recorded(id, operation, Status(str(values["operation_status"])), str(values["error_message"] or ""))
