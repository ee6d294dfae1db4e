"""What is remembered of jobs across restarts: a table of the journal in the embedded store."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Protocol, TypeVar

import duckdb
import pyarrow as pa

from mystocks_ingest.flow.schedule import Memory

T = TypeVar("T")

_TABLE = """
CREATE SCHEMA IF NOT EXISTS journal;
CREATE TABLE IF NOT EXISTS journal.job (
    name VARCHAR PRIMARY KEY, due TIMESTAMP WITH TIME ZONE, started TIMESTAMP WITH TIME ZONE,
    ended TIMESTAMP WITH TIME ZONE, status VARCHAR NOT NULL, reason VARCHAR NOT NULL, paused BOOLEAN
);
"""


class Database(Protocol):
    """What is needed of the store: work in one transaction."""

    async def run(self, work: Callable[[duckdb.DuckDBPyConnection], T]) -> T: ...


class JobMemories:
    """flow.schedule.Memories in the embedded store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @classmethod
    async def opened(cls, database: Database) -> JobMemories:
        """The memories, their table created where it was absent."""
        await database.run(lambda c: c.execute(_TABLE))
        return cls(database)

    async def jobs(self) -> Mapping[str, Memory]:
        """By the job's name."""
        statement = "SELECT name, due, started, ended, status, reason, paused FROM journal.job ORDER BY name"
        # through Arrow: DuckDB's own rows need pytz for instants
        found: pa.Table = await self._database.run(lambda c: c.sql(statement).to_arrow_table())
        instants = pa.schema(
            [(f.name, pa.timestamp("us", tz="UTC") if pa.types.is_timestamp(f.type) else f.type) for f in found.schema]
        )
        return {row.pop("name"): Memory(**row) for row in found.cast(instants).to_pylist()}

    async def remember(self, name: str, memory: Memory) -> None:
        """Durable on return."""
        values: list[str | bool | datetime | None] = [
            name, memory.due, memory.started, memory.ended, memory.status, memory.reason, memory.paused,
        ]  # fmt: skip
        await self._database.run(
            lambda c: c.execute("INSERT OR REPLACE INTO journal.job VALUES (?,?,?,?,?,?,?)", values)
        )
