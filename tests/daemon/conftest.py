"""The place where a service runs, and a Redis beside it."""

from collections.abc import Iterator

import pytest
from daemon_place import place  # noqa: F401 - a fixture for every test here
from servers.redis import Redis


@pytest.fixture
def redis(redis_server: Redis) -> Iterator[Redis]:
    """Empty, and brought back."""
    redis_server.cli("FLUSHALL")
    yield redis_server
    if redis_server.running:
        redis_server.thaw()
    else:
        redis_server.start()
