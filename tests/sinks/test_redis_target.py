"""Key spaces on real servers, in Redis' three shapes: sampled, compared, mended; the lock; rights that suffice."""

from __future__ import annotations

import asyncio
import os
import re
import shlex
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest
from contract import ordinary, same
from redis_subject import ACCESS, RedisSubject, place
from servers.redis import PASSWORD, Redis, RedisCluster, RedisUnderSentinel

from mystocks_ingest.errors import ConfigError, Unavailable, UnsafeChange
from mystocks_ingest.flow.migrate import ensured, made, planned
from mystocks_ingest.ports import SchemaTarget
from mystocks_ingest.schema.changes import DropTable
from mystocks_ingest.schema.keyspace import KeySpace, Kind
from mystocks_ingest.schema.tables import Column, Database, Table, load
from mystocks_ingest.sinks.redis import Access, RedisDatabase, RedisSink, RedisTarget, grants
from mystocks_ingest.sinks.redis.dialect import LOCK

Server = Redis | RedisUnderSentinel | RedisCluster
SHIPPED = [
    t for t in load(Path(__file__).parents[2] / "config" / "tables.yaml").all if t.database_type is Database.REDIS
]


@pytest.fixture(params=[Redis, RedisUnderSentinel, RedisCluster])
def anywhere(
    request: pytest.FixtureRequest,
    redis_server: Redis,
    redis_under_sentinel: RedisUnderSentinel,
    redis_cluster: RedisCluster,
) -> Server:
    return next(s for s in (redis_server, redis_under_sentinel, redis_cluster) if type(s) is request.param)


@asynccontextmanager
async def opened(
    of: Server, *tables: Table, access: Access = ACCESS, expire_seconds: int = 0
) -> AsyncIterator[tuple[RedisTarget, RedisSink]]:
    async with RedisDatabase(place(of), access, expire_seconds=expire_seconds) as database:
        target = RedisTarget(database, tables, wait_seconds=20.0)
        yield target, await RedisSink.opened(database, tables, ensure=left_alone)


async def left_alone(target: SchemaTarget, tables: Sequence[Table]) -> None:
    """What is stored is each test's to look at."""


def fresh(of: Server, **space: object) -> Table:
    table = RedisSubject(of).fresh()
    pattern = str(space.pop("pattern", "#:{symbol}")).replace("#", table.name)
    return replace(table, key_space=KeySpace(pattern, **space))  # type: ignore[arg-type]


def a_map(of: Server) -> Table:
    return replace(fresh(of, pattern="#", kind=Kind.MAP), key=("symbol",))


def a_set(of: Server, **space: object) -> Table:
    columns = (Column("symbol", "VARCHAR", 20, nullable=False), Column("at", "TIMESTAMPTZ", nullable=False))
    return replace(fresh(of, pattern="#", kind=Kind.SET, **space), columns=columns)


async def wants(target: RedisTarget, *tables: Table) -> list[str]:
    return [step.change.words for step in await planned(target, tables)]


async def test_there_is_nothing_to_make_and_what_the_sink_wrote_is_no_difference(anywhere: Server) -> None:
    tables = [fresh(anywhere), a_map(anywhere), a_set(anywhere), fresh(anywhere, stream="#.log", expire_seconds=100)]
    tables[3] = replace(tables[3], key_space=replace(tables[3].key_space, stream=f"{tables[3].name}.log"))  # type: ignore[type-var]
    async with opened(anywhere, *tables) as (target, sink):
        assert await planned(target, tables) == []
        await ensured(target, tables)
        for table in tables:
            await sink.write(table, ordinary(table, 60))
        assert await planned(target, tables) == []
        shapes = [target.dialect.shape(t) for t in tables]
        assert list(await target.inspect(await target.databases())) == shapes
        assert [await target.count(s) for s in shapes] == [60, 60, 60, 60]


async def test_every_shipped_key_space_is_compared(redis_server: Redis) -> None:
    async with opened(redis_server, *SHIPPED) as (target, _):
        assert await planned(target, SHIPPED) == []


async def test_a_life_that_is_not_the_files_is_found_and_mended(anywhere: Server) -> None:
    table = fresh(anywhere)
    async with opened(anywhere, table) as (_, sink):
        await sink.write(table, ordinary(table, 30))
    dying = replace(table, key_space=replace(table.key_space, expire_seconds=100))  # type: ignore[type-var]
    async with opened(anywhere, dying) as (target, _):
        assert await wants(target, dying) == ["expire: none -> 100 s"]
        await ensured(target, [dying])
        assert await planned(target, [dying]) == []
    async with opened(anywhere, table) as (target, sink):
        (words,) = await wants(target, table)
        assert re.fullmatch(r"expire: (100|[6-9]\d) s -> none", words)
        await ensured(target, [table])
        assert await planned(target, [table]) == []
        await same(sink, table, ordinary(table, 30))


async def test_opening_a_sink_looks_and_mends_and_one_stray_key_is_no_matter(anywhere: Server) -> None:
    table = fresh(anywhere)
    dying = replace(table, key_space=replace(table.key_space, expire_seconds=100))  # type: ignore[type-var]
    async with opened(anywhere, table) as (_, sink):
        await sink.write(table, ordinary(table, 10))
    async with opened(anywhere, dying) as (target, _):
        await target.execute("", shlex.join(["SET", f"{table.name}:stray", "1"]))
        await RedisSink.opened(target._database, [dying])
        assert await wants(target, dying) == [f"drop {table.name}:stray (a string, not a hash)"]


async def test_a_sink_does_not_open_where_another_kind_lies(redis_server: Redis) -> None:
    rows = fresh(redis_server)
    as_map = replace(rows, key=("symbol", "at"), key_space=replace(rows.key_space, kind=Kind.MAP))  # type: ignore[type-var]
    async with opened(redis_server, rows) as (target, sink):
        await sink.write(rows, ordinary(rows, 5))
        with pytest.raises(UnsafeChange, match=r"kind: hash -> map: the keys .* hold a row's fields"):
            await RedisSink.opened(target._database, [as_map])


async def test_the_times_beside_a_set_get_the_sets_life(anywhere: Server) -> None:
    table = a_set(anywhere)
    async with opened(anywhere, table) as (_, sink):
        await sink.write(table, ordinary(table, 3))
    dying = replace(table, key_space=replace(table.key_space, expire_seconds=100))  # type: ignore[type-var]
    async with opened(anywhere, dying) as (target, _):
        await ensured(target, [dying])
        beside = f"{{{table.name}}}:at"
        lives = [int(said) for s in of(anywhere) if (said := s.cli("TTL", beside)).lstrip("-").isdigit()]
        assert max(lives) > 90


def of(server: Server) -> tuple[Redis, ...]:
    """The servers that hold keys."""
    match server:
        case RedisUnderSentinel():
            return (server.master,)
        case RedisCluster():
            return server.servers
        case _:
            return (server,)


async def test_strays_and_strange_fields_are_told_and_stop_nobody(redis_server: Redis) -> None:
    table = fresh(redis_server)
    async with opened(redis_server, table) as (target, sink):
        await sink.write(table, ordinary(table, 5))
        first = ordinary(table, 1).column("symbol")[0].as_py()
        redis_server.cli("SET", f"{table.name}:text", "1")
        redis_server.cli("HSET", f"{table.name}:stranger", "colour", "red")
        redis_server.cli("HSET", f"{table.name}:{first}", "left_over", "1")
        assert sorted(await wants(target, table)) == [
            "column left_over TEXT",
            f"drop {table.name}:stranger (a hash without the row's key, not a hash)",
            f"drop {table.name}:text (a string, not a hash)",
        ]
        await ensured(target, [table])  # leaves them
        assert len(await wants(target, table)) == 3
        await made(target, await planned(target, [table]))  # asked for by name
        assert await planned(target, [table]) == []
        await same(sink, table, ordinary(table, 5))


async def test_a_key_space_that_holds_something_else_altogether_is_another_kind(anywhere: Server) -> None:
    rows = fresh(anywhere)
    async with opened(anywhere, rows) as (_, sink):
        await sink.write(rows, ordinary(rows, 5))
    as_map = replace(rows, key=("symbol", "at"), key_space=replace(rows.key_space, kind=Kind.MAP))  # type: ignore[type-var]
    async with opened(anywhere, as_map) as (target, _):
        assert await wants(target, as_map) == ["kind: hash -> map"]
        await made(target, await planned(target, [as_map]))
        assert await planned(target, [as_map]) == []


async def test_dropping_a_table_takes_its_keys_and_no_other(anywhere: Server) -> None:
    tables = [fresh(anywhere), a_set(anywhere), fresh(anywhere)]
    async with opened(anywhere, *tables) as (target, sink):
        for table in tables:
            await sink.write(table, ordinary(table, 30))
        for table in tables[:2]:
            shape = target.dialect.shape(table)
            for statement in target.dialect.ddl(DropTable(shape)):
                await target.execute("", statement)
            assert await target.count(shape) == 0
        assert await target.count(target.dialect.shape(tables[2])) == 30


async def test_a_hundred_key_spaces_among_many_keys_cost_few_trips(redis_server: Redis) -> None:
    redis_server.cli("FLUSHALL")  # what other tests left there would be looked over, too
    tables = [fresh(redis_server) for _ in range(100)]
    async with opened(redis_server, *tables) as (target, sink):
        for table in tables:
            await sink.write(table, ordinary(table, 40))
        before = calls(redis_server)
        began = time.perf_counter()
        assert await planned(target, tables) == []
        seconds = time.perf_counter() - began
        assert seconds < 60  # about 1 on a machine with nothing else to do
        assert calls(redis_server, "scan") - before["scan"] <= 105
        assert calls(redis_server, "type") - before["type"] <= 2_000


def calls(server: Redis, name: str | None = None) -> dict[str, int] | int:
    found = {
        line.partition(":")[0].removeprefix("cmdstat_"): int(line.partition("calls=")[2].partition(",")[0])
        for line in server.cli("INFO", "commandstats").splitlines()
        if "calls=" in line
    }
    counts = {k: found.get(k, 0) for k in ("scan", "type")}
    return counts if name is None else counts[name]


# the lock -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def unlocked(anywhere: Server) -> Iterator[Server]:
    yield anywhere
    for server in of(anywhere):
        server.cli("DEL", LOCK)


async def test_never_two_hold_the_lock_and_a_waiter_names_the_holder(unlocked: Server) -> None:
    inside = 0

    async def hold(target: RedisTarget) -> None:
        nonlocal inside
        for _ in range(3):
            async with target.lock():
                inside += 1
                assert inside == 1
                await asyncio.sleep(0.02)
                inside -= 1

    async with opened(unlocked) as (one, _), opened(unlocked) as (two, _):
        one._wait = two._wait = 30.0
        await asyncio.gather(hold(one), hold(two))
        two._wait = 0.5
        async with one.lock():
            with pytest.raises(Unavailable, match=rf"being changed by process {os.getpid()} on "):
                async with two.lock():
                    pass


async def test_the_lock_of_one_that_was_killed_ends_by_itself(redis_server: Redis) -> None:
    async with opened(redis_server) as (target, _):
        target._wait = 30.0
        began = time.monotonic()
        redis_server.cli("SET", LOCK, "process 1 on elsewhere, abc", "PX", 700)
        async with target.lock():
            assert time.monotonic() - began > 0.3
            assert 4_000 < int(redis_server.cli("PTTL", LOCK)) <= 15_000
        assert redis_server.cli("EXISTS", LOCK) == "0"


# rights -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def users(anywhere: Server) -> Iterator[dict[str, str]]:
    """Names of users by their part; they are forgotten afterwards."""
    names = {part: f"{part}_{uuid4().hex[:6]}" for part in ("writer", "reader", "migrator")}
    yield names
    for server in of(anywhere) if not isinstance(anywhere, RedisUnderSentinel) else anywhere.data:
        server.cli("ACL", "DELUSER", *names.values())


async def test_each_user_can_do_its_work_and_no_more(anywhere: Server, users: dict[str, str]) -> None:
    tables = [
        fresh(anywhere, channel="news", stream="#.log", expire_seconds=100), a_map(anywhere), a_set(anywhere),
    ]  # fmt: skip
    tables[0] = replace(tables[0], key_space=replace(tables[0].key_space, stream=f"{tables[0].name}.log"))  # type: ignore[type-var]
    for line in grants(tables, **users):
        for server in of(anywhere):
            assert server.cli(*shlex.split(line.replace("<password>", PASSWORD))) == "OK"
    async with opened(anywhere, *tables, access=replace(ACCESS, user=users["writer"])) as (target, sink):
        for table in tables:
            await sink.write(table, ordinary(table, 30))
            await same(sink, table, ordinary(table, 30))
        await sink.ping()
        database = target._database
        for words in (("FLUSHALL",), ("CONFIG", "GET", "*"), ("KEYS", "*"), ("ACL", "LIST")):
            with pytest.raises(ConfigError, match="lacks a right"):
                await database.each(*words)
        other = replace(tables[0], name="other", key_space=KeySpace("another:{symbol}"))
        with pytest.raises(ConfigError, match="lacks a right"):
            await sink.write(other, ordinary(other, 1))
        assert await planned(target, tables) == []  # it may look, and not mend
        with pytest.raises(ConfigError, match="lacks a right"):
            async with target.lock():
                pass
    async with opened(anywhere, *tables, access=replace(ACCESS, user=users["migrator"])) as (target, sink):
        assert await planned(target, tables) == []
        dying = [replace(t, key_space=replace(t.key_space, expire_seconds=50)) for t in tables]  # type: ignore[type-var]
        await ensured(RedisTarget(target._database, dying), dying)
        assert await target.count(target.dialect.shape(tables[1])) == 30
        with pytest.raises(ConfigError, match="lacks a right"):
            await target._database.each("FLUSHALL")
        with pytest.raises(ConfigError, match="lacks a right"):
            await sink.write(tables[1], ordinary(tables[1], 1))
    for server in of(anywhere):
        reader = ["--user", users["reader"]]
        assert "NOPERM" in server.cli(*reader, "HSET", f"{tables[0].name}:x", "a", "1")
        assert "NOPERM" in server.cli(*reader, "FLUSHALL")
        assert "NOPERM" not in server.cli(*reader, "HGETALL", f"{tables[0].name}:x")
        assert "NOPERM" in server.cli(*reader, "HGETALL", "another:x")
