"""A database away at the start or during work costs no row; a second SIGTERM and a kill leave the spool intact."""

from __future__ import annotations

import signal

import pytest
from daemon_place import QUOTES, Place, Service, until
from servers.redis import PASSWORD, Redis

pytestmark = pytest.mark.timeout(400)  # each starts services, on a machine that may be busy
PAUSED = QUOTES.replace("}", ", paused: true}")


def in_redis(place: Place, redis: Redis) -> Place:
    """The newest quotes live in Redis, everything else in the embedded store."""
    place.more = {"MYSTOCKS_STORES": "redis", "REDIS_PORT": str(redis.port), "REDIS_PASSWORD": PASSWORD}
    place.jobs(QUOTES)
    return place


def shown(redis: Redis) -> set[str]:
    return {key.removeprefix("quote:") for key in redis.cli("--scan", "--pattern", "quote:*").split()}


async def everything_is_shown(place: Place, redis: Redis, service: Service) -> None:
    """There are quotes in Redis, and none wait for it."""

    async def home() -> bool:
        (spool,) = (await service.health())["parts"]["spool"]
        return len(shown(redis)) > 10 and not spool["figures"]["waiting_rows"]

    await until(home)
    assert shown(redis) <= set(place.sim.market.quotes()["symbol"].to_pylist())


async def test_a_database_that_is_away_at_the_start_gets_its_rows_when_it_comes(place: Place, redis: Redis) -> None:
    in_redis(place, redis)
    redis.stop()
    async with place.service("14:50:00") as service:
        await service.says("sink.away")
        redis.start()
        await service.says("rows.drained")
        await everything_is_shown(place, redis, service)
        assert await service.stop() == 0
    assert set((await place.stored("quote"))["symbol"].to_pylist()) == shown(redis)


async def test_a_database_that_goes_away_during_work_gets_its_rows_when_it_is_back(place: Place, redis: Redis) -> None:
    in_redis(place, redis)
    place.jobs(PAUSED)
    async with place.service("14:50:00") as service:
        redis.stop()
        place.jobs(QUOTES)
        await service.says("sink.away")
        redis.start()
        await service.says("rows.drained")
        await everything_is_shown(place, redis, service)
        assert await service.stop() == 0
    assert set((await place.stored("quote"))["symbol"].to_pylist()) == shown(redis)


async def test_a_kill_with_rows_in_the_spool_loses_none_of_them(place: Place, redis: Redis) -> None:
    in_redis(place, redis)
    redis.stop()
    async with place.service("14:50:00") as service:
        await service.says("sink.away")
        await service.says("batch.taken")  # and what is the same again is not taken
        service.process.kill()
        assert await service.ended() == -signal.SIGKILL
    redis.start()
    assert shown(redis) == set()
    place.jobs(PAUSED)
    async with place.service("14:51:00") as service:
        await everything_is_shown(place, redis, service)
        assert await service.stop() == 0
    assert set((await place.stored("quote"))["symbol"].to_pylist()) == shown(redis)


async def test_a_second_sigterm_ends_at_once_and_the_spool_is_intact(place: Place, redis: Redis) -> None:
    in_redis(place, redis)
    place.jobs(PAUSED)
    async with place.service("14:50:00") as service:
        redis.freeze()
        place.jobs(QUOTES)

        async def under_way() -> bool:
            return any(queue["store"] == "redis" for queue in (await service.health())["queues"])

        await until(under_way)  # to a server that says nothing
        service.process.send_signal(signal.SIGTERM)
        await service.says("service.stopping")
        assert service.process.returncode is None, "it waits for Redis"
        service.process.send_signal(signal.SIGTERM)
        assert await service.ended() == 128 + signal.SIGTERM
    redis.thaw()
    async with place.service("14:51:00") as service:
        await everything_is_shown(place, redis, service)
        assert await service.stop() == 0
    assert shown(redis) <= set((await place.stored("quote"))["symbol"].to_pylist())
