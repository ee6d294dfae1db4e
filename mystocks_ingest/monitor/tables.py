"""The tables of the monitor log (``db_monitor``), in the words of MySQL, which the embedded store understands as well.

The first four and their columns are the user's own. ``etl_job_log`` holds runs; ``dead_letter_log`` what each run's
checks refused, counted; ``data_source_status`` and ``checkpoint_status`` one row a source and a dataset, renewed at the
end of each run. ``log_entry`` says which entry is which row, so that an entry sent twice is written once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from mystocks_ingest.ports import Doing, Status
from mystocks_ingest.schema.tables import Database

DATABASE = "db_monitor"
Kind = Literal["text", "long text", "json", "whole", "real", "flag", "moment"]
_KINDS: Mapping[str, Kind] = {
    "VARCHAR": "text",
    "ENUM": "text",
    "TEXT": "long text",
    "JSON": "json",
    "INT": "whole",
    "BIGINT": "whole",
    "DOUBLE": "real",
    "BOOLEAN": "flag",
    "TIMESTAMP": "moment",
}
TEXT_LENGTH = 16_000  # characters that fit a TEXT whatever they are
JSON_LENGTH = 50_000


def _choice(values: Iterable[str]) -> str:
    return "ENUM(" + ", ".join(f"'{value}'" for value in values) + ")"


_SERVER = _choice(Database)
_OPERATION = _choice(Doing)
_STATUS = _choice((Status.SUCCESS, Status.FAILED, Status.PROCESSING))
_RUN = _choice(("running", "complete", "partial", "failed", "interrupted"))


@dataclass(frozen=True, slots=True)
class LogColumn:
    """``definition`` is MySQL's, without the name."""

    name: str
    definition: str

    @property
    def type(self) -> str:
        """The type alone: ``VARCHAR(255)``, ``ENUM('success', 'failed')``."""
        found = re.match(r"\w+(\([^)]*\))?", self.definition)
        return found[0] if found else self.definition

    @property
    def kind(self) -> Kind:
        return _KINDS[self.type.partition("(")[0]]

    @property
    def length(self) -> int | None:
        """Characters that fit; None: no bound that matters."""
        if self.type.startswith("VARCHAR("):
            return int(self.type[8:-1])
        return TEXT_LENGTH if self.kind == "long text" else None

    @property
    def choices(self) -> tuple[str, ...]:
        """The values of an ENUM."""
        return tuple(re.findall(r"'([^']*)'", self.type)) if self.type.startswith("ENUM") else ()


@dataclass(frozen=True, slots=True)
class LogTable:
    """``id`` is counted up by the database and stands before ``columns``; ``rest``: keys, as CREATE TABLE wants them."""

    name: str
    columns: tuple[LogColumn, ...]
    rest: tuple[str, ...] = ()


def _table(name: str, columns: Mapping[str, str], *rest: str) -> LogTable:
    return LogTable(name, tuple(LogColumn(*item) for item in columns.items()), rest)


CREATION = _table(
    "table_creation_log",
    {
        "table_name": "VARCHAR(255) NOT NULL",
        "database_type": _SERVER,
        "database_name": "VARCHAR(255) NOT NULL",
        "creation_time": "TIMESTAMP DEFAULT CURRENT_TIMESTAMP",
        "modification_time": "TIMESTAMP DEFAULT CURRENT_TIMESTAMP ON UPDATE CURRENT_TIMESTAMP",
        "status": _choice((Status.SUCCESS, Status.FAILED)),
        "table_parameters": "JSON",
        "ddl_command": "TEXT",
        "error_message": "TEXT",
    },
    "KEY (creation_time)",
)
COLUMNS = _table(
    "column_definition_log",
    {
        "table_log_id": "INT",
        "column_name": "VARCHAR(255) NOT NULL",
        "data_type": "VARCHAR(100) NOT NULL",
        "col_length": "INT",
        "col_precision": "INT",
        "col_scale": "INT",
        "is_nullable": "BOOLEAN DEFAULT TRUE",
        "is_primary_key": "BOOLEAN DEFAULT FALSE",
        "default_value": "VARCHAR(255)",
        "comment": "TEXT",
    },
    "FOREIGN KEY (table_log_id) REFERENCES table_creation_log(id)",
)
OPERATION = _table(
    "table_operation_log",
    {
        "table_name": "VARCHAR(255) NOT NULL",
        "database_type": _SERVER,
        "database_name": "VARCHAR(255) NOT NULL",
        "operation_type": _OPERATION,
        "operation_time": "TIMESTAMP DEFAULT CURRENT_TIMESTAMP",
        "operation_status": _STATUS,
        "operation_details": "JSON",
        "ddl_command": "TEXT",
        "error_message": "TEXT",
    },
    "KEY (operation_time)",
)
VALIDATION = _table(
    "table_validation_log",
    {
        "table_name": "VARCHAR(255) NOT NULL",
        "database_type": _SERVER,
        "database_name": "VARCHAR(255) NOT NULL",
        "validation_time": "TIMESTAMP DEFAULT CURRENT_TIMESTAMP",
        "validation_status": _choice(("pass", "fail")),
        "validation_details": "JSON",
        "issues_found": "TEXT",
    },
    "KEY (validation_time)",
)
JOB = _table(
    "etl_job_log",
    {
        "run_id": "VARCHAR(64) NOT NULL",
        "job_name": "VARCHAR(255) NOT NULL",
        "start_time": "TIMESTAMP NULL DEFAULT NULL",
        "end_time": "TIMESTAMP NULL DEFAULT NULL",
        "status": _RUN,
        "rows_stored": "BIGINT",
        "rows_refused": "BIGINT",
        "sessions_missing": "BIGINT",
        "job_details": "JSON",
        "error_message": "TEXT",
    },
    "KEY (start_time)",
)
LETTERS = _table(
    "dead_letter_log",
    {
        "run_id": "VARCHAR(64) NOT NULL",
        "dataset": "VARCHAR(64) NOT NULL",
        "source": "VARCHAR(64) NOT NULL",
        "rule": "VARCHAR(64) NOT NULL",
        "row_count": "BIGINT",
        "example": "TEXT",
        "log_time": "TIMESTAMP NULL DEFAULT NULL",
    },
    "KEY (log_time)",
)
SOURCE = _table(
    "data_source_status",
    {
        "source": "VARCHAR(64) NOT NULL",
        "quality_score": "DOUBLE",
        "last_success": "TIMESTAMP NULL DEFAULT NULL",
        "last_failure": "TIMESTAMP NULL DEFAULT NULL",
        "last_outcome": "VARCHAR(20)",
        "detail": "TEXT",
        "runs": "INT",
        "answered_percent": "DOUBLE",
        "accepted_percent": "DOUBLE",
        "delivered_percent": "DOUBLE",
        "outcomes": "JSON",
        "updated_at": "TIMESTAMP NULL DEFAULT NULL",
    },
)
CHECKPOINT = _table(
    "checkpoint_status",
    {
        "dataset": "VARCHAR(64) NOT NULL",
        "symbols": "BIGINT",
        "first_session": "VARCHAR(10)",
        "last_session": "VARCHAR(10)",
        "slowest_session": "VARCHAR(10)",
        "updated_at": "TIMESTAMP NULL DEFAULT NULL",
    },
)
ENTRY = "log_entry"  # entry_id -> log_table, row_id, revision

TABLES = (CREATION, COLUMNS, OPERATION, VALIDATION, JOB, LETTERS, SOURCE, CHECKPOINT)
"""In the order in which they can be made; the other way round they can be dropped."""

BY_NAME: Mapping[str, LogTable] = {table.name: table for table in TABLES}


@dataclass(frozen=True, slots=True)
class History:
    """A table that grows with time. ``moment``: the column by which its rows are old.

    ``lasting``: the rows that tell what was done to the structure, as a condition; they are few and are kept longer.
    """

    table: LogTable
    moment: str
    lasting: str = ""


HISTORIES = (
    History(CREATION, "creation_time", "status = 'success'"),
    History(
        OPERATION, "operation_time", "operation_type IN ('CREATE', 'ALTER', 'DROP') AND operation_status = 'success'"
    ),
    History(VALIDATION, "validation_time"),
    History(JOB, "start_time"),
    History(LETTERS, "log_time"),
)
