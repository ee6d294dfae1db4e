"""A schema apply killed at thirty points, on real servers and in the embedded store; the next one makes it good."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
from killed_applies import campaign
from servers.mariadb import MariaDB
from servers.postgresql import PostgreSQL

pytestmark = [pytest.mark.long, pytest.mark.timeout(3600)]
POINTS = [i / 15 for i in range(15)]


def test_thirty_kills_leave_each_table_once_and_a_log_that_tells_it(
    tmp_path: Path, postgresql_server: PostgreSQL, mariadb_server: MariaDB
) -> None:
    postgresql_server.psql(f"ALTER ROLE {postgresql_server.user} CREATEDB")
    servers = {
        "MYSTOCKS_STORES": "postgresql,mysql",
        "MYSTOCKS_MONITOR_DATABASE": f"log_{uuid.uuid4().hex[:8]}",
        "POSTGRESQL_PORT": str(postgresql_server.port),
        "POSTGRESQL_USER": postgresql_server.user,
        "POSTGRESQL_PASSWORD": postgresql_server.password,
        "POSTGRESQL_TIMESCALE": "off",
        "MYSQL_PORT": str(mariadb_server.port),
        "MYSQL_USER": mariadb_server.user,
        "MYSQL_PASSWORD": mariadb_server.password,
    }
    (tmp_path / "servers").mkdir()
    (tmp_path / "embedded").mkdir()
    killed = campaign(servers, tmp_path / "servers", POINTS)
    killed += campaign({"MYSTOCKS_STORES": ""}, tmp_path / "embedded", POINTS)
    assert killed >= 24
