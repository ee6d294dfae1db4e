"""A connection to TDengine is in one database at a time; sub tables that are bound go there and nowhere else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import count

import pytest
from contract import ordinary, same
from servers.tdengine import TaosServer

from mystocks_ingest.errors import Unavailable
from mystocks_ingest.schema.tables import Column, Database, Table
from mystocks_ingest.sinks.tdengine import Options, TDengineDatabase, TDengineSink
from mystocks_ingest.sinks.tdengine.faults import translated

_names = count()
COLUMNS = (
    Column("at", "TIMESTAMP", nullable=False),
    Column("price", "DOUBLE"),
    Column("symbol", "VARCHAR", 20, nullable=False, is_tag=True),
)


@pytest.fixture(scope="module")
def server() -> Iterator[TaosServer]:
    with TaosServer() as server:
        yield server


def bars(database: str, **changes: object) -> Table:
    table = Table("bars", Database.TDENGINE, database, COLUMNS, ("symbol", "at"), time_column="at", is_super_table=True)
    return replace(table, **changes)  # type: ignore[arg-type]


def options(server: TaosServer) -> Options:
    return Options(server.host, server.port, server.user, server.password, connections=1)


async def test_rows_of_several_databases_go_each_to_its_own_over_one_connection(server: TaosServer) -> None:
    number = next(_names)
    tables = [bars(f"first_{number}"), bars(f"Second {number}"), bars(f"first_{number}", name="others")]
    async with TDengineDatabase(options(server)) as database:
        sink = await TDengineSink.opened(database, tables)
        for version in range(2):
            for table in tables:
                await sink.write(table, ordinary(table, 50, version=version))
        for table in tables:
            await same(sink, table, ordinary(table, 50, version=1))
        assert len(database.pids) == 1


async def test_a_database_that_is_dropped_and_made_anew_is_written_to_again(server: TaosServer) -> None:
    table = bars(f"again_{next(_names)}")
    async with TDengineDatabase(options(server)) as database:
        sink = await TDengineSink.opened(database, [table])
        await sink.write(table, ordinary(table, 50))
        await database.execute(f"DROP DATABASE `{table.database_name}`")
        await TDengineSink.opened(database, [table])
        await sink.write(table, ordinary(table, 20, version=1))
        await same(sink, table, ordinary(table, 20, version=1))


def test_a_connection_that_lost_its_database_is_asked_again_and_the_rows_are_not_to_blame() -> None:
    error = translated(0x0200, "[0x0200] Internal error: `db is not specified`", "tsdb:6041")
    assert type(error) is Unavailable
    assert "dropped meanwhile" in str(error)
