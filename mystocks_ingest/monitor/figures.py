"""Figures of runs in the embedded journal: what each source did in each run, what was refused, how far a dataset is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from datetime import UTC, date

import duckdb
import pyarrow as pa

from mystocks_ingest.monitor.journal import Database
from mystocks_ingest.monitor.quality import RUNS, Figures

_TABLE = """
CREATE TABLE IF NOT EXISTS journal.source_run (
    source VARCHAR NOT NULL, run_id VARCHAR NOT NULL, "at" TIMESTAMP WITH TIME ZONE NOT NULL, good BIGINT NOT NULL,
    failed BIGINT NOT NULL, limited BIGINT NOT NULL, "rows" BIGINT NOT NULL, refused BIGINT NOT NULL,
    missing BIGINT NOT NULL
)
"""
_COLUMNS = ("source", "run_id", "at", "good", "failed", "limited", "rows", "refused", "missing")
_KEPT = 3 * RUNS  # of each source: some runs tell nothing


@dataclass(frozen=True, slots=True)
class Refusals:
    """Rows that one run's checks refused by one rule, and the reason for one of them."""

    dataset: str
    source: str
    rule: str
    rows: int
    example: str


@dataclass(frozen=True, slots=True)
class Reach:
    """How far a dataset's checkpoints go, as days; ``slowest``: the last day of the symbol that is furthest behind."""

    dataset: str
    symbols: int
    first: date
    last: date
    slowest: date


class RunFigures:
    """Open with ``await RunFigures.opened(db)`` after the journal."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @classmethod
    async def opened(cls, database: Database) -> RunFigures:
        await database.run(lambda c: c.execute(_TABLE))
        return cls(database)

    async def add(self, figures: Sequence[Figures]) -> None:
        """Keep a run's figures, and let go of those too old to matter."""
        if not figures:
            return

        def work(connection: duckdb.DuckDBPyConnection) -> None:
            connection.executemany(
                "INSERT INTO journal.source_run VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", [list(astuple(f)) for f in figures]
            )
            connection.execute(
                "DELETE FROM journal.source_run WHERE rowid IN (SELECT rowid FROM journal.source_run "
                'QUALIFY row_number() OVER (PARTITION BY source ORDER BY "at" DESC, rowid DESC) > ?)',
                [_KEPT],
            )

        await self._database.run(work)

    async def latest(self, source: str) -> list[Figures]:
        """The source's runs, newest first."""
        statement = 'SELECT * FROM journal.source_run WHERE source = ? ORDER BY "at" DESC, rowid DESC'
        found: pa.Table = await self._database.run(lambda c: c.sql(statement, params=[source]).to_arrow_table())
        rows = found.select(list(_COLUMNS)).to_pylist()
        return [Figures(**{**row, "at": row["at"].astimezone(UTC)}) for row in rows]

    async def refusals(self, run_id: str) -> list[Refusals]:
        """What the run's checks refused, counted."""
        statement = (
            "SELECT dataset, source, rule, count(*) AS letters, max(reason) AS example FROM journal.dead_letter "
            "WHERE run_id = ? GROUP BY dataset, source, rule ORDER BY ALL"
        )
        rows = await self._database.run(lambda c: c.execute(statement, [run_id]).fetchall())
        return [Refusals(*row) for row in rows]

    async def reaches(self, datasets: Sequence[str]) -> list[Reach]:
        """How far each dataset is that has any checkpoint."""
        statement = (
            'SELECT dataset, count(*), min("first"), max("last") - 1, min("last") - 1 FROM ('
            'SELECT dataset, symbol, min("start") AS "first", max("end") AS "last" FROM journal.checkpoint '
            "WHERE dataset IN (SELECT unnest(?)) GROUP BY dataset, symbol) GROUP BY dataset ORDER BY dataset"
        )
        rows = await self._database.run(lambda c: c.execute(statement, [list(datasets)]).fetchall())
        return [Reach(*row) for row in rows]

    async def reached(self, indices: Sequence[str]) -> dict[tuple[str, bool], dict[date, int]]:
        """By dataset, and whether of ``indices`` (symbols) or of the others: how many checkpoints reach each day."""
        statement = (
            'SELECT dataset, is_index, "last", count(*) FROM ('
            'SELECT dataset, symbol IN (SELECT unnest(?::VARCHAR[])) AS is_index, max("end") - 1 AS "last" '
            "FROM journal.checkpoint GROUP BY dataset, symbol) GROUP BY ALL"
        )
        rows = await self._database.run(lambda c: c.execute(statement, [list(indices)]).fetchall())
        found: dict[tuple[str, bool], dict[date, int]] = {}
        for dataset, is_index, last, count in rows:
            found.setdefault((dataset, is_index), {})[last] = count
        return found
