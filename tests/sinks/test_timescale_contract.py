"""The contract of all sinks, held by PostgreSQL: plain tables, native partitions, and hypertables where they are."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import pytest
from contract import ServerContract, StoreContract, Subject
from servers.postgresql import PostgreSQL

from mystocks_ingest.ports import Sink
from mystocks_ingest.schema.tables import Column, Database, Table
from mystocks_ingest.sinks.timescale import Access, TimescaleDatabase, TimescaleSink

COLUMNS = (
    Column("symbol", "VARCHAR", 20, nullable=False),
    Column("day", "DATE", nullable=False),
    Column("price", "DOUBLE"),
    Column("exact", "NUMERIC", precision=18, scale=4),
    Column("rounded", "NUMERIC", precision=10, scale=4),
    Column("tiny", "TINYINT"),
    Column("small", "SMALLINT"),
    Column("whole", "INT"),
    Column("volume", "BIGINT", nullable=False),
    Column("flag", "BOOLEAN"),
    Column("listed", "DATE"),
    Column("at", "TIMESTAMPTZ"),
    Column("local", "TIMESTAMP"),
    Column("detail", "JSONB"),
    Column("verbatim", "JSON"),
    Column("raw", "BYTEA"),
    Column("note", "VARCHAR", 60),
    Column("remark", "TEXT"),
)


class PostgreSQLSubject(Subject):
    timescale = False
    hypertable = False
    bad: Mapping[str, tuple[str, object]] = {
        "a text longer than its column": ("note", "长" * 61),
        "null where none may be": ("volume", None),
        "a byte no text may hold": ("note", "nul\0"),
        "not JSON": ("detail", "{"),
    }

    def __init__(self, server: PostgreSQL) -> None:
        self.server: PostgreSQL = server

    def table(self, name: str) -> Table:
        return Table(
            name,
            Database.POSTGRESQL,
            self.server.database,
            COLUMNS,
            ("symbol", "day"),
            time_column="day",
            is_timescale_hypertable=self.hypertable,
            comment="给测试用的表",
        )

    @asynccontextmanager
    async def opened(self, *tables: Table, port: int | None = None, pool: int | None = None) -> AsyncIterator[Sink]:
        where = Access(
            host=self.server.host,
            port=port or self.server.port,
            user=self.server.user,
            password=self.server.password,
            timescale=self.timescale,
            pool_size=pool or 4,
            connect_seconds=self.seconds,
            statement_seconds=self.seconds,
        )
        async with TimescaleDatabase(where) as database:
            yield await TimescaleSink.opened(database, tables)


class PartitionedSubject(PostgreSQLSubject):
    hypertable = True


class HypertableSubject(PartitionedSubject):
    timescale = True


class TestPostgreSQL(ServerContract):
    @pytest.fixture
    def subject(self, postgresql_server: PostgreSQL) -> PostgreSQLSubject:
        return PostgreSQLSubject(postgresql_server)


class TestPartitioned(StoreContract):
    @pytest.fixture
    def subject(self, postgresql_server: PostgreSQL) -> PostgreSQLSubject:
        return PartitionedSubject(postgresql_server)


class TestHypertable(StoreContract):
    @pytest.fixture
    def subject(self, postgresql_server: PostgreSQL) -> PostgreSQLSubject:
        if not postgresql_server.timescale:
            pytest.skip("TimescaleDB is not installed beside this PostgreSQL")
        return HypertableSubject(postgresql_server)
