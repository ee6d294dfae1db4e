"""The contract of all sinks, held by Redis in its three shapes."""

from __future__ import annotations

import pytest
from contract import ServerContract, StoreContract
from redis_subject import RedisSubject
from servers.redis import Redis, RedisCluster, RedisUnderSentinel


class TestRedis(ServerContract):
    @pytest.fixture
    def subject(self, redis_server: Redis) -> RedisSubject:
        return RedisSubject(redis_server)


class TestRedisUnderSentinel(StoreContract):
    @pytest.fixture
    def subject(self, redis_under_sentinel: RedisUnderSentinel) -> RedisSubject:
        return RedisSubject(redis_under_sentinel)


class TestRedisCluster(StoreContract):
    @pytest.fixture
    def subject(self, redis_cluster: RedisCluster) -> RedisSubject:
        return RedisSubject(redis_cluster)
