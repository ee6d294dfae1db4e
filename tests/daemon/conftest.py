"""The place where a service runs, and the databases beside it."""

import hashlib
from collections.abc import Iterator

import pytest
from daemon_place import TOKEN, WEEKLY, Place, place  # noqa: F401 - a fixture for every test here
from servers.postgresql import DATABASE, USER, PostgreSQL
from servers.postgresql import PASSWORD as POSTGRESQL_PASSWORD
from servers.redis import PASSWORD, Redis


@pytest.fixture
def redis(redis_server: Redis) -> Iterator[Redis]:
    """Empty, and brought back."""
    redis_server.cli("FLUSHALL")
    yield redis_server
    if redis_server.running:
        redis_server.thaw()
    else:
        redis_server.start()


@pytest.fixture
def stores(place: Place, redis: Redis, postgresql_server: PostgreSQL) -> Place:  # noqa: F811 - it is the fixture
    """The latest state lives in Redis, what is traded in PostgreSQL; both ways in are open."""
    postgresql_server.psql("DROP SCHEMA public CASCADE; CREATE SCHEMA public", database=DATABASE)
    postgresql_server.psql(f"GRANT ALL ON SCHEMA public TO {USER}", database=DATABASE)
    place.more = {
        "MYSTOCKS_STORES": "redis,postgresql", "REDIS_PORT": str(redis.port), "REDIS_PASSWORD": PASSWORD,
        "POSTGRESQL_PORT": str(postgresql_server.port), "POSTGRESQL_USER": USER, "POSTGRESQL_DATABASE": DATABASE,
        "POSTGRESQL_PASSWORD": POSTGRESQL_PASSWORD, "POSTGRESQL_TIMESCALE": "off", "MYSTOCKS_STREAM": "on",
        "MYSTOCKS_HTTP_TOKENS": hashlib.sha256(TOKEN.encode()).hexdigest(),
    }  # fmt: skip
    place.jobs(WEEKLY)
    return place
