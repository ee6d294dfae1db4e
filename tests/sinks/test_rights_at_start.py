"""A right that is lacking when the service starts: whichever the database, it is waited for and named; wrong settings are not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import replace

import pytest
from pymysql import err
from redis_subject import ACCESS, RedisSubject
from servers.postgresql import PASSWORD as POSTGRESQL_PASSWORD
from servers.postgresql import PostgreSQL
from servers.redis import PASSWORD, Redis

from mystocks_ingest.errors import ConfigError, NoRight, Unavailable
from mystocks_ingest.flow.arriving import Arriving, together
from mystocks_ingest.ports import Query, Sink
from mystocks_ingest.schema.tables import Column, Database, Table
from mystocks_ingest.sinks.mysql.access import Access as MySQLAccess
from mystocks_ingest.sinks.mysql.faults import translated as of_mysql
from mystocks_ingest.sinks.redis import RedisDatabase, RedisSink
from mystocks_ingest.sinks.tdengine.faults import translated as of_tdengine
from mystocks_ingest.sinks.timescale import Access, TimescaleDatabase, TimescaleSink


@asynccontextmanager
async def begun(name: str, opening: Callable[[], AbstractAsyncContextManager[Sink]]) -> AsyncIterator[Arriving]:
    sink = Arriving(name, opening)
    async with AsyncExitStack() as stack:
        await together([sink], stack)
        yield sink


async def there(sink: Arriving) -> None:
    async with asyncio.timeout(60):
        while sink.away:  # noqa: ASYNC110 - it is tried again every few seconds
            await asyncio.sleep(0.05)
    await sink.ping()


async def test_redis_without_a_right_ends_no_start_and_opens_once_it_is_granted(redis_server: Redis) -> None:
    table = RedisSubject(redis_server).fresh()
    some = ("~contract_*", "+hset", "+hget", "+hdel", "+hgetall", "+scan", "+ping", "+client|setname")
    redis_server.cli("ACL", "SETUSER", "starting", "on", f">{PASSWORD}", "resetkeys", "-@all", *some)
    where = RedisSubject(redis_server).place

    @asynccontextmanager
    async def opening(password: str = PASSWORD) -> AsyncIterator[Sink]:
        as_user = replace(ACCESS, user="starting", password=password)
        async with RedisDatabase(where, as_user) as database:
            yield await RedisSink.opened(database, [table])

    try:
        async with begun("redis", opening) as sink:
            assert "lacks a right" in sink.away
            assert "function" in sink.away
            with pytest.raises(Unavailable, match=r"could not be opened yet: .*lacks a right"):
                await sink.read(table, Query())
            redis_server.cli("ACL", "SETUSER", "starting", "+function|load", "+fcall")
            await there(sink)
        with pytest.raises(ConfigError, match="refuses the password") as caught:
            async with begun("redis", lambda: opening("guessed")):
                pass
        assert not isinstance(caught.value, NoRight)
    finally:
        redis_server.cli("ACL", "DELUSER", "starting")


async def test_postgresql_without_a_right_ends_no_start_and_opens_once_it_is_granted(
    postgresql_server: PostgreSQL,
) -> None:
    postgresql_server.psql("CREATE DATABASE shut")
    postgresql_server.psql("REVOKE CONNECT ON DATABASE shut FROM PUBLIC")
    columns = (Column("symbol", "VARCHAR", 20, nullable=False), Column("price", "DOUBLE"))
    table = Table("rights", Database.POSTGRESQL, "shut", columns, ("symbol",))
    where = Access(
        host="127.0.0.1", port=postgresql_server.port, user=postgresql_server.user, password=POSTGRESQL_PASSWORD,
        database="shut", timescale=False,
    )  # fmt: skip

    @asynccontextmanager
    async def opening(where: Access = where) -> AsyncIterator[Sink]:
        async with TimescaleDatabase(where) as database:
            yield await TimescaleSink.opened(database, [table])

    async with begun("postgresql", opening) as sink:
        assert f"user {postgresql_server.user} may not do this in shut" in sink.away
        assert "GRANT CONNECT" in sink.away
        postgresql_server.psql(f"ALTER DATABASE shut OWNER TO {postgresql_server.user}")
        await there(sink)
    wrong = replace(where, password="guessed")  # noqa: S106 - a wrong one
    with pytest.raises(ConfigError, match="refuses user") as caught:
        async with begun("postgresql", lambda: opening(wrong)):
            pass
    assert not isinstance(caught.value, NoRight)


def test_each_database_tells_a_lacking_right_from_wrong_settings() -> None:
    mysql = MySQLAccess()
    for code in (1044, 1142, 1143, 1227, 1370):
        assert isinstance(of_mysql(err.OperationalError(code, "denied"), mysql), NoRight), code
    refused = of_mysql(err.OperationalError(1045, "Access denied"), mysql)
    assert isinstance(refused, ConfigError)
    assert not isinstance(refused, NoRight)
    for code in (0x0303, 0x2644):
        assert isinstance(of_tdengine(code, "Insufficient privilege", "nas:6041"), NoRight), code
    for code in (0x0351, 0x0357):
        refused = of_tdengine(code, "Invalid user", "nas:6041")
        assert isinstance(refused, ConfigError)
        assert not isinstance(refused, NoRight)
