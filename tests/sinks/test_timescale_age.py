"""A TimescaleDB that is too old, or whose files are gone: one sentence that says what to run."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from servers.postgresql import PASSWORD, USER, PostgreSQL

from mystocks_ingest.errors import ConfigError, IngestError, Unavailable
from mystocks_ingest.schema.tables import Column, Database, Table
from mystocks_ingest.settings import Settings
from mystocks_ingest.sinks.examination import examined

COLUMNS = (
    Column("symbol", "VARCHAR", 20, nullable=False),
    Column("trade_date", "DATE", nullable=False),
    Column("close", "DOUBLE"),
)


def bars(database: str) -> Table:
    return Table(
        "bars", Database.POSTGRESQL, database, COLUMNS, ("symbol", "trade_date"), time_column="trade_date",
        is_timescale_hypertable=True,
    )  # fmt: skip


@pytest.fixture
def aged(postgresql_server: PostgreSQL) -> Callable[[str], str]:
    """Makes a database in which the catalogue says that TimescaleDB of this version was created."""

    def made(version: str) -> str:
        name = f"aged_{uuid4().hex[:8]}"
        postgresql_server.psql(f"CREATE DATABASE {name} OWNER {USER}", database="postgres")
        if postgresql_server.timescale:
            script = f"UPDATE pg_extension SET extversion = '{version}' WHERE extname = 'timescaledb'"
            postgresql_server.psql("CREATE EXTENSION IF NOT EXISTS timescaledb", database=name)
        else:
            script = (
                f"INSERT INTO pg_extension SELECT 999999, 'timescaledb', 10, oid, false, '{version}', NULL, NULL "
                "FROM pg_namespace WHERE nspname = 'public'"
            )
        postgresql_server.psql(script, database=name)
        return name

    return made


def settings(server: PostgreSQL, **more: object) -> Settings:
    return Settings(
        _env_file=None, postgresql_host=server.host, postgresql_port=server.port, postgresql_user=server.user,
        postgresql_password=server.password, **more,
    )  # fmt: skip


async def said(server: PostgreSQL, database: str, kind: type[IngestError]) -> str:
    """What ``doctor`` says of the store."""
    with pytest.raises(kind) as caught:
        await examined("postgresql", settings(server), [bars(database)], now=lambda: datetime.now(UTC), seconds=60)
    assert "\n" not in str(caught.value)
    assert PASSWORD not in str(caught.value)
    return str(caught.value)


async def test_a_timescaledb_that_is_too_old_is_one_sentence(
    postgresql_server: PostgreSQL, aged: Callable[[str], str]
) -> None:
    if postgresql_server.timescale:
        pytest.skip("this server's own TimescaleDB does not start when the catalogue names another version")
    for version in ("2.9.3", "1.7.5", "2.12.2-dev"):
        database = aged(version)
        found = await said(postgresql_server, database, ConfigError)
        assert found == (
            f"PostgreSQL at 127.0.0.1:{postgresql_server.port}, database {database}: TimescaleDB {version} is too old, "
            "2.13 is needed: install it and run ALTER EXTENSION timescaledb UPDATE"
        )


async def test_an_old_timescaledb_is_nobodys_business_where_it_is_switched_off(
    postgresql_server: PostgreSQL, aged: Callable[[str], str]
) -> None:
    if postgresql_server.timescale:
        pytest.skip("this server's own TimescaleDB does not start when the catalogue names another version")
    tables = [bars(aged("1.7.5"))]
    plain = settings(postgresql_server, postgresql_timescale="off")
    found = await examined("postgresql", plain, tables, now=lambda: datetime.now(UTC), seconds=60)
    assert found.server.version.endswith("TimescaleDB 1.7.5")


async def test_a_timescaledb_whose_files_were_replaced_is_one_sentence_until_it_is_updated(
    postgresql_server: PostgreSQL, aged: Callable[[str], str]
) -> None:
    if not postgresql_server.timescale:
        pytest.skip("TimescaleDB is not installed here")
    database = aged("2.9.3")
    found = await said(postgresql_server, database, Unavailable)
    assert f"database {database}: the server no longer has the TimescaleDB this database was made with" in found
    assert "run ALTER EXTENSION timescaledb UPDATE there, as the first command of a session" in found
