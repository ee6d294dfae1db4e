"""MySQL and MariaDB: the contract of all sinks, and what is special here."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime

import pyarrow as pa
import pytest
from contract import ServerContract, Subject
from servers.mariadb import MariaDB

from mystocks_ingest.ports import Sink
from mystocks_ingest.schema.tables import Column, Database, Table
from mystocks_ingest.sinks.mysql import Access, MySQLDatabase, MySQLSink

DATABASE = "quant_research"


class MySQLSubject(Subject):
    nan = False
    infinity = False
    bad: Mapping[str, tuple[str, object]] = {
        "null where none may be": ("volume", None),
        "text too long": ("note", "长" * 61),
        "text too long by spaces": ("note", " " * 61),
        "not a number": ("price", float("nan")),
        "infinity": ("price", float("-inf")),
        "not JSON": ("detail", "{"),
        "bytes too long": ("short", b"\xff" * 9),
        "decimal too large": ("narrow", 12_345_678.9),
    }

    def __init__(self, server: MariaDB) -> None:
        self.server: MariaDB = server

    def table(self, name: str) -> Table:
        columns = (
            Column("symbol", "VARCHAR", 20, nullable=False),
            Column("day", "DATE", nullable=False),
            Column("price", "DOUBLE"),
            Column("exact", "NUMERIC", precision=18, scale=4),
            Column("narrow", "DECIMAL", precision=10, scale=4, canonical=pa.float64()),
            Column("tiny", "TINYINT"),
            Column("small", "SMALLINT"),
            Column("whole", "INT"),
            Column("volume", "BIGINT", nullable=False),
            Column("flag", "BOOLEAN"),
            Column("listed", "DATE"),
            Column("at", "TIMESTAMPTZ"),
            Column("shanghai", "DATETIME", 3, canonical=pa.timestamp("ms", "Asia/Shanghai")),
            Column("local", "DATETIME"),
            Column("detail", "JSON"),
            Column("raw", "BLOB"),
            Column("short", "VARBINARY", 8),
            Column("long", "TEXT"),
            Column("note", "VARCHAR", 60, comment="备注 'quoted' \\ back"),
        )
        return Table(name, Database.MYSQL, DATABASE, columns, ("symbol", "day"), time_column="day", comment="对照")

    def values(self, column: Column):
        import hypothesis.strategies as st  # noqa: PLC0415

        if column.name == "narrow":
            return st.integers(-(10**10) + 1, 10**10 - 1).map(lambda n: n / 10_000)
        if column.name == "shanghai":  # its wall clock is eight hours ahead, and must not leave the year 9999
            return super().values(column).map(lambda m: min(m, datetime(9999, 12, 31, 15, 59, 59, tzinfo=UTC)))
        return super().values(column)

    def access(self, *, port: int | None = None, pool: int | None = None, **more: object) -> Access:
        server = self.server
        return replace(
            Access(
                server.host, port or server.port, server.user, server.password, pool_size=pool or 4,
                connect_seconds=self.seconds, statement_seconds=self.seconds,
            ),
            **more,
        )  # fmt: skip

    @asynccontextmanager
    async def opened(self, *tables: Table, port: int | None = None, pool: int | None = None) -> AsyncIterator[Sink]:
        async with MySQLDatabase(self.access(port=port, pool=pool)) as database:
            yield await MySQLSink.opened(database, tables)


@pytest.fixture
def subject(mariadb_server: MariaDB) -> MySQLSubject:
    return MySQLSubject(mariadb_server)


class TestMySQL(ServerContract):
    @pytest.fixture
    def subject(self, mariadb_server: MariaDB) -> MySQLSubject:
        return MySQLSubject(mariadb_server)
