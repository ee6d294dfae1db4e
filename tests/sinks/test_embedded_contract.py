"""The contract of all sinks, held by the embedded store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from contract import StoreContract, Subject

from mystocks_ingest.ports import Sink
from mystocks_ingest.schema.tables import Column, Database, Table
from mystocks_ingest.sinks.embedded import EmbeddedDatabase, EmbeddedSink


class EmbeddedSubject(Subject):
    bad: Mapping[str, tuple[str, object]] = {"null where none may be": ("volume", None)}

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def table(self, name: str) -> Table:
        columns = (
            Column("symbol", "VARCHAR", 20, nullable=False),
            Column("day", "DATE", nullable=False),
            Column("price", "DOUBLE"),
            Column("exact", "NUMERIC", precision=18, scale=4),
            Column("tiny", "TINYINT"),
            Column("small", "SMALLINT"),
            Column("whole", "INT"),
            Column("volume", "BIGINT", nullable=False),
            Column("flag", "BOOLEAN"),
            Column("listed", "DATE"),
            Column("at", "TIMESTAMPTZ"),
            Column("local", "TIMESTAMP"),
            Column("detail", "JSON"),
            Column("raw", "BYTEA"),
            Column("note", "VARCHAR", 60),
        )
        return Table(name, Database.EMBEDDED, "quant_research", columns, ("symbol", "day"), time_column="day")

    @asynccontextmanager
    async def opened(
        self,
        *tables: Table,
        port: int | None = None,
        pool: int | None = None,
    ) -> AsyncIterator[Sink]:
        async with EmbeddedDatabase(self.folder) as database:
            yield await EmbeddedSink.opened(database, tables)


class TestEmbedded(StoreContract):
    @pytest.fixture
    def subject(self, tmp_path: Path) -> EmbeddedSubject:
        return EmbeddedSubject(tmp_path)
