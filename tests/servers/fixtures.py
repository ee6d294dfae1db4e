"""One private server per kind and test run. ``tests/conftest.py`` names the fixtures."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import pytest

from .mariadb import MariaDB
from .postgresql import PostgreSQL
from .private import Missing, PrivateServer
from .redis import Redis, RedisCluster, RedisUnderSentinel

S = TypeVar("S", bound=PrivateServer | RedisCluster | RedisUnderSentinel)


@contextmanager
def served(config: pytest.Config, make: Callable[[], S]) -> Iterator[S]:
    """A running server; where it is not installed the test fails with what to install, or is skipped if asked."""
    try:
        server = make()
    except Missing as exc:
        if config.getoption("--allow-missing"):
            pytest.skip(str(exc))
        pytest.fail(str(exc), pytrace=False)
    with server:
        yield server


@pytest.fixture(scope="session")
def postgresql_server(pytestconfig: pytest.Config) -> Iterator[PostgreSQL]:
    """Shared by all tests; one that stops or freezes it brings it back."""
    with served(pytestconfig, lambda: PostgreSQL({"fsync": "off"})) as server:
        yield server


@pytest.fixture(scope="session")
def mariadb_server(pytestconfig: pytest.Config) -> Iterator[MariaDB]:
    """Shared by all tests; one that stops or freezes it brings it back."""
    with served(pytestconfig, lambda: MariaDB({"innodb_flush_log_at_trx_commit": "1"})) as server:
        yield server


@pytest.fixture(scope="session")
def redis_server(pytestconfig: pytest.Config) -> Iterator[Redis]:
    """Shared by all tests; one that stops or freezes it brings it back."""
    with served(pytestconfig, Redis) as server:
        yield server


@pytest.fixture(scope="session")
def redis_under_sentinel(pytestconfig: pytest.Config) -> Iterator[RedisUnderSentinel]:
    """Shared by all tests; one that breaks it mends it."""
    with served(pytestconfig, RedisUnderSentinel) as group:
        yield group


@pytest.fixture(scope="session")
def redis_cluster(pytestconfig: pytest.Config) -> Iterator[RedisCluster]:
    """Shared by all tests; one that breaks it mends it."""
    with served(pytestconfig, RedisCluster) as group:
        yield group
