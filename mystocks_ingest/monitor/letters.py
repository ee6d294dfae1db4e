"""How refused rows are kept in the journal: each once, and of one kind no more than a disk can bear."""

from __future__ import annotations

import duckdb

MOST_LETTERS = 50_000
"""Open dead letters of one dataset, source and rule that are kept; some 50 MB."""
_CHOSEN = """
SELECT i.*
FROM incoming AS i
LEFT JOIN (
    SELECT dataset, source, rule, count(*) AS letters FROM journal.dead_letter WHERE replayed_at IS NULL GROUP BY ALL
) AS h ON h.dataset = i.dataset AND h.source = i.source AND h.rule = i.rule
LEFT JOIN (SELECT DISTINCT fingerprint FROM journal.dead_letter) AS k ON k.fingerprint = i.fingerprint
QUALIFY k.fingerprint IS NOT NULL OR i.source LIKE 'push:%' OR i.rule = 'store'
    OR coalesce(h.letters, 0) + row_number() OVER (
        PARTITION BY i.dataset, i.source, i.rule, k.fingerprint IS NULL ORDER BY i.symbol, i."time"
    ) <= ?
"""
_UNKEPT = """
SELECT dataset, source, rule, count(*) AS letters FROM incoming ANTI JOIN chosen USING (fingerprint)
GROUP BY ALL ORDER BY ALL
"""
_COUNT_UNKEPT = (
    "INSERT INTO journal.letter_unkept VALUES (?, ?, ?, ?) ON CONFLICT (dataset, source, rule) "
    "DO UPDATE SET letters = letters + excluded.letters"
)


def bury(connection: duckdb.DuckDBPyConnection, *, most: int) -> list[tuple[str, str, str, int]]:
    """Keep ``incoming``; by dataset, source and rule, how many letters there was no room for."""
    held = "SELECT (SELECT count(*) FROM journal.dead_letter) + (SELECT count(*) FROM incoming)"
    ((letters,),) = connection.execute(held).fetchall()
    if letters <= most:
        _merge(connection, "incoming")
        return []
    connection.register("chosen", connection.sql(_CHOSEN, params=[most]).to_arrow_table())
    try:
        _merge(connection, "chosen")
        unkept = connection.execute(_UNKEPT).fetchall()
        if unkept:
            connection.executemany(_COUNT_UNKEPT, [list(counted) for counted in unkept])
        return unkept
    finally:
        connection.unregister("chosen")


def _merge(connection: duckdb.DuckDBPyConnection, letters: str) -> None:
    connection.execute(
        f"MERGE INTO journal.dead_letter AS d USING {letters} AS i ON d.fingerprint = i.fingerprint "  # noqa: S608
        'WHEN MATCHED THEN UPDATE SET reason = i.reason, "row" = i."row", "at" = i."at", run_id = i.run_id, '
        "seen = d.seen + 1, replayed_at = NULL "
        'WHEN NOT MATCHED THEN INSERT (fingerprint, dataset, source, symbol, "time", rule, reason, raw, "row", "at", '
        'run_id, seen) VALUES (i.fingerprint, i.dataset, i.source, i.symbol, i."time", i.rule, i.reason, i.raw, '
        'i."row", i."at", i.run_id, 1)'
    )
