"""The contract of all sinks, held by TDengine: the stand-in, or the server that TDENGINE_HOST names."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any
from uuid import uuid4

import pytest
from contract import ServerContract, Subject
from hypothesis import strategies as st
from servers.private import PrivateServer
from servers.tdengine import OwnServer, TaosServer

from mystocks_ingest.ports import Sink
from mystocks_ingest.schema.tables import Column, Database, Table
from mystocks_ingest.sinks.tdengine import Options, TDengineDatabase, TDengineSink

COLUMNS = (
    Column("at", "TIMESTAMP", nullable=False),
    Column("seq", "INT", nullable=False),
    Column("price", "DOUBLE"),
    Column("exact", "DECIMAL", precision=18, scale=4),
    Column("broad", "DECIMAL", precision=28, scale=10),
    Column("tiny", "TINYINT"),
    Column("small", "SMALLINT"),
    Column("whole", "INT"),
    Column("volume", "BIGINT", nullable=False),
    Column("flag", "BOOLEAN"),
    Column("listed", "DATE"),
    Column("moment", "TIMESTAMPTZ"),
    Column("detail", "JSON"),
    Column("raw", "VARBINARY", 60),
    Column("bytes", "VARCHAR", 240),
    Column("note", "NCHAR", 60),
    Column("symbol", "VARCHAR", 20, nullable=False, is_tag=True),
)


class TDengineSubject(Subject):
    nan = False  # stored as NULL: see test_tdengine.py
    bad: Mapping[str, tuple[str, object]] = {
        "null where none may be": ("volume", None),
        "text too long": ("note", "长" * 61),
        "bytes too many": ("bytes", "长" * 81),
        "time before KEEP": ("at", datetime(1900, 1, 1)),
        "time after 2970": ("at", datetime(2999, 1, 1)),
    }

    def __init__(self, server: PrivateServer | OwnServer, database: str) -> None:
        self.server = server  # type: ignore[assignment]
        self.database = database

    def table(self, name: str) -> Table:
        return Table(
            name,
            Database.TDENGINE,
            self.database,
            COLUMNS,
            ("symbol", "at", "seq"),
            time_column="at",
            is_super_table=True,
        )

    def values(self, column: Column) -> st.SearchStrategy[Any]:
        if column.name == "at":  # within KEEP, and before 2970
            return st.datetimes(datetime(1930, 1, 1), datetime(2969, 12, 31)).map(
                lambda m: m.replace(microsecond=m.microsecond // 1000 * 1000)
            )
        if column.name == "bytes":
            return self._texts(60)
        return super().values(column)

    @asynccontextmanager
    async def opened(self, *tables: Table, port: int | None = None, pool: int | None = None) -> AsyncIterator[Sink]:
        server: Any = self.server
        options = Options(
            server.host,
            port or server.port,
            server.user,
            server.password,
            connections=pool or 2,
            timeout_seconds=self.seconds,
            connect_seconds=8.0,
        )
        async with TDengineDatabase(options) as database:
            yield await TDengineSink.opened(database, tables)


@pytest.fixture(scope="module")
def tdengine_server() -> Iterator[PrivateServer | OwnServer]:
    """Shared by the module's tests; one that stops or freezes it brings it back."""
    host = os.environ.get("TDENGINE_HOST")
    if host:
        port = int(os.environ.get("TDENGINE_PORT", "6041"))
        user, password = os.environ.get("TDENGINE_USER", "root"), os.environ.get("TDENGINE_PASSWORD", "taosdata")
        yield OwnServer(host, port, user, password)
        return
    with TaosServer() as server:
        yield server


class TestTDengine(ServerContract):
    @pytest.fixture
    async def subject(self, tdengine_server: PrivateServer | OwnServer) -> AsyncIterator[TDengineSubject]:
        name = f"contract_{uuid4().hex[:8]}"
        yield TDengineSubject(tdengine_server, name)
        if not isinstance(tdengine_server, OwnServer):
            return  # the stand-in's folder goes with it
        server = tdengine_server
        options = Options(server.host, server.port, server.user, server.password, connections=1)
        async with TDengineDatabase(options) as database:
            await database.execute(f"DROP DATABASE IF EXISTS {name}")
