"""The two places a monitor log can be in, as fixtures."""

from __future__ import annotations

from pathlib import Path

import pytest
from places import Place, unused_database
from servers.mariadb import MariaDB


@pytest.fixture
def on_mariadb(tmp_path: Path, mariadb_server: MariaDB) -> Place:
    return Place(tmp_path, mariadb_server, unused_database())


@pytest.fixture(params=["embedded", "mariadb"])
def place(request: pytest.FixtureRequest, tmp_path: Path, on_mariadb: Place) -> Place:
    return Place(tmp_path, None, "db_monitor") if request.param == "embedded" else on_mariadb
