"""What can be asked of the monitor log, as SQL that MySQL, MariaDB and the embedded store understand alike.

``{log}`` stands for the log's database; ``$name`` for a value, which is always bound or escaped.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Question:
    """``columns``: those of the answer; ``moments``: which of them are times; ``documents``: which hold JSON."""

    columns: tuple[str, ...]
    text: str
    moments: tuple[str, ...] = ()
    documents: tuple[str, ...] = ()


HISTORY = Question(
    ("table_name", "database_type", "database_name", "creation_time", "status", "error_message"),
    """
    SELECT table_name, database_type, database_name, creation_time, status, error_message
    FROM {log}.table_creation_log
    WHERE creation_time >= $since
    ORDER BY creation_time DESC, id DESC
    LIMIT $limit
    """,
    moments=("creation_time",),
)
STATISTICS = Question(
    ("database_type", "operation_type", "count", "success_count"),
    """
    SELECT database_type, operation_type, COUNT(*) AS count,
           SUM(CASE WHEN operation_status = 'success' THEN 1 ELSE 0 END) AS success_count
    FROM {log}.table_operation_log
    WHERE operation_time >= $since
    GROUP BY database_type, operation_type
    ORDER BY database_type, operation_type
    LIMIT $limit
    """,
)
EACH_OPERATION = Question(
    (
        "operation_time",
        "table_name",
        "database_type",
        "database_name",
        "operation_type",
        "operation_status",
        "operation_details",
        "error_message",
    ),
    """
    SELECT operation_time, table_name, database_type, database_name, operation_type, operation_status,
           operation_details, error_message
    FROM {log}.table_operation_log
    WHERE operation_time >= $since
    ORDER BY operation_time DESC, id DESC
    LIMIT $limit
    """,
    moments=("operation_time",),
    documents=("operation_details",),
)
FAILURES = Question(
    ("table_name", "database_type", "database_name", "validation_time", "issues_found"),
    """
    SELECT table_name, database_type, database_name, validation_time, issues_found
    FROM {log}.table_validation_log
    WHERE validation_status = 'fail' AND validation_time >= $since
    ORDER BY validation_time DESC, id DESC
    LIMIT $limit
    """,
    moments=("validation_time",),
)
RUNS = Question(
    (
        "run_id",
        "job_name",
        "start_time",
        "end_time",
        "status",
        "rows_stored",
        "rows_refused",
        "sessions_missing",
        "error_message",
    ),
    """
    SELECT run_id, job_name, start_time, end_time, status, rows_stored, rows_refused, sessions_missing, error_message
    FROM {log}.etl_job_log
    WHERE start_time >= $since
    ORDER BY start_time DESC, id DESC
    LIMIT $limit
    """,
    moments=("start_time", "end_time"),
)
SOURCES = Question(
    (
        "source",
        "quality_score",
        "answered_percent",
        "accepted_percent",
        "delivered_percent",
        "runs",
        "last_success",
        "last_failure",
        "last_outcome",
        "detail",
        "outcomes",
        "updated_at",
    ),
    """
    SELECT source, quality_score, answered_percent, accepted_percent, delivered_percent, runs, last_success,
           last_failure, last_outcome, detail, outcomes, updated_at
    FROM {log}.data_source_status
    WHERE updated_at >= $since
    ORDER BY source
    LIMIT $limit
    """,
    moments=("last_success", "last_failure", "updated_at"),
    documents=("outcomes",),
)
RECORDED = Question(
    (
        "entry_id",
        "revision",
        "table_name",
        "database_type",
        "database_name",
        "operation_type",
        "operation_time",
        "operation_status",
        "operation_details",
        "ddl_command",
        "error_message",
    ),
    """
    SELECT e.entry_id, e.revision, o.table_name, o.database_type, o.database_name, o.operation_type, o.operation_time,
           o.operation_status, o.operation_details, o.ddl_command, o.error_message
    FROM {log}.table_operation_log AS o JOIN {log}.log_entry AS e ON e.log_table = 'table_operation_log' AND e.row_id = o.id
    WHERE o.operation_time >= $since AND ($table = '' OR o.table_name = $table)
      AND ($status = '' OR o.operation_status = $status)
    ORDER BY o.operation_time DESC, o.id DESC
    LIMIT $limit
    """,
    moments=("operation_time",),
)
"""Those that this program wrote, with the ids it gave them."""

NAMED = {
    "history": HISTORY,
    "operations": STATISTICS,
    "each operation": EACH_OPERATION,
    "failures": FAILURES,
    "runs": RUNS,
    "sources": SOURCES,
}
"""The questions that commands put."""
