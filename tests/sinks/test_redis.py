"""What Redis adds to the contract: newest wins, expiry, announcements, kinds of keys, failovers, refusals."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from contract import ALL, connections, ordinary, plain, prompt, same, until
from redis_subject import ACCESS, COLUMNS, RedisSubject, place
from servers.proxy import Proxy
from servers.redis import MASTER, PASSWORD, Redis, RedisCluster, RedisUnderSentinel, RedisWithTLS

from mystocks_ingest.errors import ConfigError, Rejected, Unavailable
from mystocks_ingest.flow.writer import Limits, Writer
from mystocks_ingest.market.frames import Symbol
from mystocks_ingest.ports import Query
from mystocks_ingest.schema.keyspace import KeySpace, Kind
from mystocks_ingest.schema.tables import Column, Database, Table, load
from mystocks_ingest.settings import Settings
from mystocks_ingest.sinks.redis import Access, Place, RedisDatabase, RedisSink

SHIPPED = load(Path(__file__).parents[2] / "config" / "tables.yaml")
Server = Redis | RedisUnderSentinel | RedisCluster


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
) -> AsyncIterator[RedisSink]:
    async with RedisDatabase(place(of), access, expire_seconds=expire_seconds) as database:
        yield await RedisSink.opened(database, tables)


def fresh(of: Server, space: KeySpace | None = None) -> Table:
    table = RedisSubject(of).fresh()
    if space is None:
        return table
    return replace(table, key_space=replace(space, pattern=space.pattern.replace("#", table.name)))


def moment(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)


def versions(table: Table, times: dict[str, int], mark: str) -> pa.RecordBatch:
    """One row per symbol at its time; ``mark`` and every other column tell which write it came from."""
    rows = ordinary(table, len(times)).to_pylist()
    for row, (symbol, ms) in zip(rows, times.items(), strict=True):
        row |= {"symbol": symbol, "at": moment(ms), "note": f"{mark}@{ms}", "volume": ms, "price": ms / 7}
    return pa.RecordBatch.from_pylist(rows, schema=table.schema)


# newest wins ------------------------------------------------------------------------------------------------------


async def test_an_older_row_never_replaces_a_newer_one_and_an_equally_old_one_does(anywhere: Server) -> None:
    table = fresh(anywhere)
    async with opened(anywhere, table) as sink:
        await sink.write(table, versions(table, {"a": 5_000, "b": 5_000, "c": 5_000}, "first"))
        await sink.write(table, versions(table, {"a": 4_999, "b": 5_000, "c": 5_001}, "second"))
        notes = (await sink.read(table, ALL)).column("note").to_pylist()
        assert notes == ["first@5000", "second@5000", "second@5001"]


async def test_times_before_1970_and_of_different_lengths_are_compared_as_numbers(redis_server: Redis) -> None:
    table = fresh(redis_server)
    async with opened(redis_server, table) as sink:
        for older, newer in ((-2_000, -1_000), (-10_000, 9), (999, 1_000), (253_402_300_799_998, 253_402_300_799_999)):
            symbol = f"s{newer}"
            await sink.write(table, versions(table, {symbol: newer}, "newer"))
            await sink.write(table, versions(table, {symbol: older}, "older"))
            read = await sink.read(table, Query(symbols=(Symbol(symbol),)))
            assert read.column("note").to_pylist() == [f"newer@{newer}"]


@pytest.mark.parametrize("seed", range(3))
async def test_under_concurrent_writers_each_key_ends_at_its_newest_row_and_never_goes_back(
    anywhere: Server, seed: int
) -> None:
    table = fresh(anywhere)
    chance = random.Random(seed)
    symbols = [f"{i:06d}.SZ" for i in range(150)]
    batches = [
        versions(table, {s: chance.randrange(1, 100_000) for s in chance.sample(symbols, 120)}, f"w{n}")
        for n in range(40)
    ]
    seen: dict[str, int] = {}
    done = asyncio.Event()
    async with opened(anywhere, table) as one, opened(anywhere, table) as two, opened(anywhere, table) as reader:

        async def watch() -> None:
            while not done.is_set():
                for row in (await reader.read(table, ALL)).to_pylist():
                    assert row["note"].endswith(f"@{row['volume']}"), "a row of two writes"
                    assert row["price"] == row["volume"] / 7, "a row of two writes"
                    assert row["volume"] >= seen.get(row["symbol"], 0), "went back in time"
                    seen[row["symbol"]] = row["volume"]

        async with asyncio.TaskGroup() as group:
            group.create_task(watch())
            async with asyncio.TaskGroup() as writers:
                for n, batch in enumerate(batches):
                    writers.create_task((one, two)[n % 2].write(table, batch))
            done.set()
        newest: dict[str, int] = {}
        for batch in batches:
            for row in batch.to_pylist():
                newest[row["symbol"]] = max(newest.get(row["symbol"], 0), row["volume"])
        read = await reader.read(table, ALL)
        assert dict(zip(read.column("symbol").to_pylist(), read.column("volume").to_pylist(), strict=True)) == newest


async def test_without_a_time_column_the_later_write_stands(redis_server: Redis) -> None:
    table = replace(fresh(redis_server), time_column=None)
    async with opened(redis_server, table) as sink:
        await sink.write(table, versions(table, {"a": 5_000}, "first"))
        await sink.write(table, versions(table, {"a": 1_000}, "second"))
        assert (await sink.read(table, ALL)).column("note").to_pylist() == ["second@1000"]


# as others see it ---------------------------------------------------------------------------------------------------


async def test_a_quote_lies_under_its_key_as_a_hash_of_plain_texts(redis_server: Redis) -> None:
    table = next(t for t in SHIPPED.all if t.name == "quote_latest")
    row = {c.name: None for c in table.columns} | {
        "symbol": "600000.SH", "ts": moment(1_700_000_000_123), "last": 15.28, "open": 15.0, "volume": 1_234_500,
        "source": "tushare", "fetched_at": moment(1_700_000_001_000),
    }  # fmt: skip
    async with opened(redis_server, table) as sink:
        await sink.write(table, pa.RecordBatch.from_pylist([row], schema=table.schema))
    said = redis_server.cli("--json", "HGETALL", "quote:600000.SH")
    assert json.loads(said) == {
        "symbol": "600000.SH", "ts": "1700000000123", "last": "15.28", "open": "15", "volume": "1234500",
        "source": "tushare", "fetched_at": "1700000001000",
    }  # fmt: skip


async def test_every_shipped_redis_table_is_written_and_read_back(anywhere: Server) -> None:
    tables = [t for t in SHIPPED.all if t.database_type is Database.REDIS]
    assert {t.key_space.pattern for t in tables if t.key_space} >= {
        "quote:{symbol}", "orderbook:{symbol}", "position:{symbol}", "account:cash",
    }  # fmt: skip
    for server in data_servers(anywhere):
        if server.cli("ROLE").startswith("master"):
            server.cli("FLUSHALL")
    async with opened(anywhere, *tables) as sink:
        for table in tables:
            rows = ordinary(table, 230)
            await sink.write(table, rows)
            await sink.write(table, ordinary(table, 230, version=2))
            await sink.write(table, ordinary(table, 230, version=1))  # older
            if table.key_space is not None and table.key_space.kind is Kind.SET:
                await same_members(sink, table, ordinary(table, 230, version=2))
            else:
                await same(sink, table, ordinary(table, 230, version=2))


async def same_members(sink: RedisSink, table: Table, rows: pa.RecordBatch) -> None:
    """A set keeps the key and the time of the rows that belong to it, and nothing else."""
    kept = [*table.key, table.time_column]
    wanted = [[row[k] for k in kept] for row in rows.to_pylist() if row["sealed"]]
    read = [[row[k] for k in kept] for row in (await sink.read(table, ALL)).to_pylist()]
    assert sorted(read) == sorted(wanted)
    assert 0 < len(read) < rows.num_rows


async def test_two_accounts_share_a_position_key_and_keep_their_rows_apart(redis_server: Redis) -> None:
    table = next(t for t in SHIPPED.all if t.name == "position_latest")
    symbol = "688001.SH"

    def row(account: str, ms: int, volume: int) -> dict[str, object]:
        return {"account": account, "symbol": symbol, "ts": moment(ms), "volume": volume, "cost": 1.5}

    async with opened(redis_server, table) as sink:
        for rows in (
            [row('一号:"甲"', 2_000, 100), row("b", 2_000, 200)],
            [row('一号:"甲"', 1_000, 7), row("b", 3_000, 300)],
        ):
            await sink.write(table, pa.RecordBatch.from_pylist(rows, schema=table.schema))
        read = await sink.read(table, Query(symbols=(Symbol(symbol),), columns=("account", "volume")))
        assert read.to_pylist() == [{"account": "b", "volume": 300}, {"account": '一号:"甲"', "volume": 100}]
    stored = json.loads(redis_server.cli("HGET", f"position:{symbol}", "b"))
    assert (
        stored == {"account": "b", "symbol": symbol, "ts": 3000, "volume": 300, "cost": "1.5"} or stored["cost"] == 1.5
    )


LISTED = (
    Column("trade_date", "DATE", nullable=False),
    Column("symbol", "VARCHAR", 20, nullable=False),
    Column("ts", "TIMESTAMPTZ", nullable=False),
    Column("sealed", "BOOLEAN"),
)


async def test_a_set_gains_and_loses_members_and_an_older_word_changes_nothing(anywhere: Server) -> None:
    name = fresh(anywhere).name
    space = KeySpace(f"{name}:{{trade_date}}", Kind.SET, expire_seconds=60)
    table = Table(
        name, Database.REDIS, "market_data", LISTED, ("trade_date", "symbol"), time_column="ts", key_space=space
    )
    day = datetime(2024, 1, 2, tzinfo=UTC).date()

    def rows(**sealed: tuple[int, bool]) -> pa.RecordBatch:
        made = [{"trade_date": day, "symbol": s, "ts": moment(ms), "sealed": is_} for s, (ms, is_) in sealed.items()]
        return pa.RecordBatch.from_pylist(made, schema=table.schema)

    async with opened(anywhere, table) as sink:
        await sink.write(table, rows(a=(1_000, True), b=(1_000, True), c=(1_000, False)))
        await sink.write(table, rows(a=(2_000, False), b=(500, False), c=(500, True)))
        read = (await sink.read(table, ALL)).to_pylist()
        assert read == [{"trade_date": day, "symbol": "b", "ts": moment(1_000), "sealed": True}]
    if isinstance(anywhere, Redis):
        assert anywhere.cli("SMEMBERS", f"{name}:2024-01-02") == "b"
        assert 0 < int(anywhere.cli("TTL", f"{name}:2024-01-02")) <= 60


async def test_keys_of_several_columns_never_collide(redis_server: Redis) -> None:
    base = fresh(redis_server)
    columns = (Column("account", "VARCHAR", 50, nullable=False), *COLUMNS)
    table = replace(base, columns=columns, key=("account", "symbol"))
    rows = ordinary(replace(table, key=("symbol",)), 4).to_pylist()
    for row, (account, symbol) in zip(rows, [("a", "b:c"), ("a:b", "c"), ("a%3Ab", "c"), ("", "")], strict=True):
        row |= {"account": account, "symbol": symbol}
    batch = pa.RecordBatch.from_pylist(rows, schema=table.schema)
    async with opened(redis_server, table) as sink:
        await sink.write(table, batch)
        await same(sink, table, batch)


async def test_other_keys_that_look_alike_are_not_rows(redis_server: Redis) -> None:
    table = fresh(redis_server)
    async with opened(redis_server, table) as sink:
        rows = ordinary(table, 3)
        await sink.write(table, rows)
        redis_server.cli("SET", f"{table.name}:text", "1")
        redis_server.cli("HSET", f"{table.name}:stranger", "colour", "red")
        await same(sink, table, rows)
        redis_server.cli("HSET", f"{table.name}:liar", "symbol", "liar", "volume", "many")
        with pytest.raises(ConfigError, match="another program writes to these keys"):
            await sink.read(table, ALL)


async def test_a_key_that_holds_something_else_refuses_its_row_only(redis_server: Redis) -> None:
    table = fresh(redis_server)
    rows = ordinary(table, 250)
    redis_server.cli("SET", f"{table.name}:000123.SZ", "taken")
    async with opened(redis_server, table) as sink, Writer(sink, table, Limits(linger_seconds=0)) as writer:
        refused = await writer.write(rows)
        assert [(r.row, "holds something else" in r.reason) for r in refused] == [(123, True)]
        assert (await sink.read(table, ALL)).num_rows == 249


# expiry, announcements ----------------------------------------------------------------------------------------------


async def test_rows_live_as_long_as_the_table_says_else_as_the_settings_say(redis_server: Redis) -> None:
    own = fresh(redis_server, KeySpace("#:{symbol}", expire_seconds=100))
    general = fresh(redis_server)
    never = fresh(redis_server, KeySpace("#:{symbol}", expire_seconds=0))
    async with opened(redis_server, own, general, never, expire_seconds=200) as sink:
        for table in (own, general, never):
            await sink.write(table, versions(table, {"a": 5_000}, "x"))
        assert 50 < int(redis_server.cli("TTL", f"{own.name}:a")) <= 100
        assert 100 < int(redis_server.cli("TTL", f"{general.name}:a")) <= 200
        assert int(redis_server.cli("TTL", f"{never.name}:a")) == -1
        assert (await sink.read(general, ALL)).num_rows == 1
        redis_server.cli("PEXPIRE", f"{general.name}:a", 1)
        async with asyncio.timeout(30):
            while (await sink.read(general, ALL)).num_rows:  # noqa: ASYNC110 - Redis tells nobody
                await asyncio.sleep(0.01)
        await sink.write(general, versions(general, {"a": 4_000}, "older, yet the only one"))
        assert (await sink.read(general, ALL)).num_rows == 1


async def test_an_older_row_does_not_prolong_a_life(redis_server: Redis) -> None:
    table = fresh(redis_server, KeySpace("#:{symbol}", expire_seconds=100))
    async with opened(redis_server, table) as sink:
        await sink.write(table, versions(table, {"a": 5_000}, "x"))
        redis_server.cli("EXPIRE", f"{table.name}:a", 50)
        await sink.write(table, versions(table, {"a": 4_000}, "x"))
        assert int(redis_server.cli("TTL", f"{table.name}:a")) <= 50
        await sink.write(table, versions(table, {"a": 6_000}, "x"))
        assert int(redis_server.cli("TTL", f"{table.name}:a")) > 50


async def test_one_message_a_batch_names_the_symbols_that_were_stored(anywhere: Server) -> None:
    table = fresh(anywhere, KeySpace("#:{symbol}", channel="news", stream="#.log", stream_length=100))
    assert table.key_space is not None
    listening = (
        anywhere if isinstance(anywhere, Redis) else anywhere.servers[1 if isinstance(anywhere, RedisCluster) else 0]
    )
    if isinstance(anywhere, RedisUnderSentinel):
        listening = anywhere.master
    from redis.asyncio import Redis as Client  # noqa: PLC0415

    async with (
        Client(host=listening.host, port=listening.port, password=PASSWORD) as client,
        client.pubsub() as subscriber,
        opened(anywhere, table) as sink,
    ):

        async def told() -> Any:
            async with asyncio.timeout(30):
                while (message := await subscriber.get_message(timeout=1)) is None:
                    pass
                return message["data"]

        await subscriber.subscribe("news")
        assert await told() == 1  # subscription
        heard = []
        for times in ({"a": 5_000, "b": 5_000}, {"a": 1_000, "b": 9_000, "平安": 1}):
            await sink.write(table, versions(table, times, "x"))
            heard.append(json.loads(await told()))  # one by one: a cluster's nodes tell each other in no order
        await sink.write(table, versions(table, {"a": 1_000}, "x"))  # nothing stored, nothing said
        await sink.write(table, versions(table, {"a": 10_000}, "x"))
        heard.append(json.loads(await told()))
    assert heard == [{"table": table.name, "rows": len(s), "symbols": s} for s in (["a", "b"], ["b", "平安"], ["a"])]


async def test_the_stream_holds_an_entry_a_batch_and_about_so_many(redis_server: Redis) -> None:
    table = fresh(redis_server, KeySpace("#:{symbol}", stream="#.log", stream_length=100))
    assert table.key_space is not None
    async with opened(redis_server, table) as sink:
        for n in range(450):
            await sink.write(table, versions(table, {"a": n}, "x"))
    assert 100 <= int(redis_server.cli("XLEN", table.key_space.stream or "")) < 300
    _, _, last = redis_server.cli("XREVRANGE", table.key_space.stream or "", "+", "-", "COUNT", 1).split("\n", 2)
    assert json.loads(last) == {"table": table.name, "rows": 1, "symbols": ["a"]}


# what goes wrong ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "accident", [("FLUSHALL",), ("FUNCTION", "FLUSH"), ("SCRIPT", "FLUSH"), ("CLIENT", "KILL", "TYPE", "normal")]
)
async def test_writing_goes_on_after(anywhere: Server, accident: tuple[str, ...]) -> None:
    table = fresh(anywhere)
    async with opened(anywhere, table) as sink:
        await sink.write(table, ordinary(table, 200))
        for server in data_servers(anywhere):
            if server.cli("ROLE").startswith("master"):
                server.cli(*accident)
        rows = ordinary(table, 300, version=1)
        await sink.write(table, rows)
        await same(sink, table, rows)


def data_servers(of: Server) -> tuple[Redis, ...]:
    return of.data if isinstance(of, RedisUnderSentinel) else of.servers if isinstance(of, RedisCluster) else (of,)


async def test_a_server_that_comes_back_empty_gets_our_functions_again(redis_server: Redis) -> None:
    table = fresh(redis_server)
    with Redis(["appendonly no"]) as server:
        async with opened(server, table) as sink:
            await sink.write(table, ordinary(table, 10))
            server.kill()
            server.start()
            await sink.write(table, ordinary(table, 5))
            await same(sink, table, ordinary(table, 5))


@pytest.fixture
def group(redis_under_sentinel: RedisUnderSentinel) -> Iterator[RedisUnderSentinel]:
    yield redis_under_sentinel
    redis_under_sentinel.mend()


@pytest.mark.parametrize("how", ["killed", "frozen", "asked to"])
async def test_after_a_failover_rows_go_to_the_new_master(group: RedisUnderSentinel, how: str) -> None:
    table = fresh(group)
    rows = ordinary(table, 400)
    async with opened(group, table) as sink, Writer(sink, table, Limits(linger_seconds=0)) as writer:
        await writer.write(rows.slice(0, 200))
        old = group.master
        match how:
            case "killed":
                old.kill()
            case "frozen":
                old.freeze()
            case _:
                await until(lambda: group.sentinels[0].cli("SENTINEL", "FAILOVER", "market") == "OK")
        assert await writer.write(rows.slice(200)) == ()
        await until(lambda: group.master is not old, 60)
        later = ordinary(table, 400, version=1)
        assert await writer.write(later) == ()
        if how == "frozen":
            old.thaw()
            await until(lambda: not old.cli("ROLE").startswith("master"), 60)
        newest = ordinary(table, 400, version=2)
        assert await writer.write(newest) == ()
        await same(sink, table, newest)


async def test_one_sentinel_of_three_is_enough(group: RedisUnderSentinel) -> None:
    table = fresh(group)
    for sentinel in group.sentinels[:2]:
        sentinel.kill()
    async with opened(group, table) as sink:
        await sink.write(table, ordinary(table, 10))
    group.sentinels[2].freeze()
    with pytest.raises(Unavailable):
        async with prompt(RedisSubject(group)), opened(group, table):
            pass


@pytest.fixture
def cluster(redis_cluster: RedisCluster) -> Iterator[RedisCluster]:
    yield redis_cluster
    redis_cluster.mend()


async def test_a_lost_node_of_a_cluster_is_unavailable_and_serves_again(cluster: RedisCluster) -> None:
    table = fresh(cluster)
    rows = ordinary(table, 400)
    async with opened(cluster, table) as sink:
        await sink.write(table, rows.slice(0, 200))
        cluster.servers[0].kill()
        with pytest.raises(Unavailable):
            async with prompt(RedisSubject(cluster)):
                await sink.write(table, rows)
        cluster.mend()
        await sink.write(table, rows)
        await same(sink, table, rows)


async def test_slots_may_move_while_rows_are_written(cluster: RedisCluster) -> None:
    table = fresh(cluster)
    first, second, _ = cluster.servers
    source, target = (s.cli("CLUSTER", "MYID") for s in (first, second))
    start = int(first.cli("CLUSTER", "SLOTS").split()[0])
    moving = True
    async with opened(cluster, table) as sink:

        async def write() -> int:
            version = 0
            while moving or version < 3:
                await sink.write(table, ordinary(table, 800, version=version))
                version += 1
            return version - 1

        writing = asyncio.create_task(write())
        command = (
            "--cluster", "reshard", f"{first.host}:{first.port}", "--cluster-from", source, "--cluster-to", target,
            "--cluster-slots", 300, "--cluster-yes",
        )  # fmt: skip
        await asyncio.to_thread(first.cli, *command)
        moving = False
        last = await writing
        await same(sink, table, ordinary(table, 800, version=last))
    assert start >= 0


async def test_while_a_slot_is_on_its_way_its_new_keys_go_to_where_it_moves(cluster: RedisCluster) -> None:
    table = fresh(cluster)
    row = ordinary(table, 1)
    key = f"{table.name}:000000.SZ"
    slot = int(cluster.servers[0].cli("CLUSTER", "KEYSLOT", key))
    ids = [s.cli("CLUSTER", "MYID") for s in cluster.servers]
    nodes = cluster.servers[0].cli("CLUSTER", "NODES")

    def holds(name: str) -> bool:
        spans = next(line for line in nodes.splitlines() if line.startswith(name)).split()[8:]
        ends = [[int(n) for n in s.split("-")] for s in spans if not s.startswith("[")]
        return any(span[0] <= slot <= span[-1] for span in ends)

    owner = next(i for i, name in enumerate(ids) if holds(name))
    other = (owner + 1) % 3
    async with opened(cluster, table) as sink:
        cluster.servers[other].cli("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[owner])
        cluster.servers[owner].cli("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[other])
        try:
            await sink.write(table, row)
            assert cluster.servers[other].cli("CLUSTER", "COUNTKEYSINSLOT", slot) == "1"
            await same(sink, table, row, Query(symbols=(Symbol("000000.SZ"),)))
        finally:
            for server in cluster.servers:
                server.cli("CLUSTER", "SETSLOT", slot, "NODE", ids[other])
        await same(sink, table, row)


async def test_a_write_cancelled_between_sending_and_reading_leaves_no_answer_to_the_next(redis_server: Redis) -> None:
    table = fresh(redis_server)
    with Proxy(redis_server.host, redis_server.port) as wire:
        async with RedisDatabase(Place(((wire.host, wire.port),)), ACCESS, pool=1) as database:
            sink = await RedisSink.opened(database, [table])
            await sink.write(table, ordinary(table, 10))
            wire.hang_after(1)
            writing = asyncio.create_task(sink.write(table, ordinary(table, 100, version=1)))
            await until(lambda: wire.reached)
            writing.cancel()
            await asyncio.wait({writing})
            assert writing.cancelled()
            wire.flow()
            await sink.ping()
            await sink.write(table, ordinary(table, 100, version=2))
            await same(sink, table, ordinary(table, 100, version=2))
            await until(lambda: len(connections(wire.port)) == 1)


async def test_a_full_memory_is_unavailable_and_passes(redis_server: Redis) -> None:
    table = fresh(redis_server)
    async with opened(redis_server, table) as sink:
        redis_server.cli("CONFIG", "SET", "maxmemory", "1mb", "maxmemory-policy", "noeviction")
        try:
            with pytest.raises(Unavailable, match=r"OOM|maxmemory"):
                await sink.write(table, ordinary(table, 5))
        finally:
            redis_server.cli("CONFIG", "SET", "maxmemory", 0)
        await sink.write(table, ordinary(table, 5))
        await same(sink, table, ordinary(table, 5))


async def test_a_replica_is_unavailable_to_writers(redis_under_sentinel: RedisUnderSentinel) -> None:
    replica = next(s for s in redis_under_sentinel.data if s is not redis_under_sentinel.master)
    with pytest.raises(Unavailable, match="replica"):
        async with opened(replica, fresh(replica)):
            pass


@pytest.mark.parametrize(
    ("access", "said"),
    [
        (Access(), "wants a password: set REDIS_PASSWORD"),
        (Access(password="wrong"), "refuses the password: set REDIS_PASSWORD"),  # noqa: S106
        (Access(user="nobody", password=PASSWORD), "refuses the password: set REDIS_PASSWORD, and REDIS_USER"),
        (replace(ACCESS, database=99), "set REDIS_DB"),
    ],
)
async def test_wrong_settings_are_told_in_one_sentence(redis_server: Redis, access: Access, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        async with opened(redis_server, access=access):
            pass
    assert said in str(caught.value)
    assert f":{redis_server.port}" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert PASSWORD not in str(caught.value)


async def test_tls_needs_a_certificate_that_is_vouched_for(redis_server: Redis) -> None:
    with RedisWithTLS() as server:
        table = fresh(redis_server)
        trusting = replace(ACCESS, tls="verify", tls_ca=server.authority)
        for access in (trusting, replace(ACCESS, tls="require")):
            async with opened(server, table, access=access) as sink:
                await sink.write(table, ordinary(table, 300))
                await same(sink, table, ordinary(table, 300))
                assert len(connections(server.port)) == 1
            await until(lambda: not connections(server.port))
        with pytest.raises(ConfigError, match="REDIS_TLS_CA"):
            async with opened(server, table, access=replace(ACCESS, tls="verify")):
                pass
        with pytest.raises(Unavailable):
            async with opened(server, table):
                pass
    with pytest.raises(Unavailable, match="TLS, by REDIS_TLS"):
        async with opened(redis_server, access=replace(ACCESS, tls="verify")):
            pass


async def test_a_user_with_few_rights_is_enough_and_a_missing_one_is_named(redis_server: Redis) -> None:
    table = fresh(redis_server)
    rights = [
        "~contract_*",
        "+hset",
        "+hget",
        "+hdel",
        "+hgetall",
        "+fcall",
        "+function|load",
        "+scan",
        "+ping",
        "+client|setname",
    ]
    redis_server.cli("ACL", "SETUSER", "ingest", "on", f">{PASSWORD}", "resetkeys", *rights)
    async with opened(redis_server, table, access=replace(ACCESS, user="ingest")) as sink:
        await sink.write(table, ordinary(table, 5))
        await same(sink, table, ordinary(table, 5))
        await sink.ping()
        redis_server.cli("ACL", "SETUSER", "ingest", "-fcall")
        with pytest.raises(ConfigError, match=r"lacks a right.*fcall"):
            await sink.write(table, ordinary(table, 5))
    redis_server.cli("ACL", "DELUSER", "ingest")


async def test_a_server_older_than_seven_is_told(redis_server: Redis) -> None:
    with (
        Redis(["rename-command FUNCTION ''"]) as old,  # Redis 6 answers the same: it has no such command
        pytest.raises(ConfigError, match="older than Redis 7"),
    ):
        async with opened(old):
            pass


async def test_a_cluster_taken_for_a_single_server_is_told(redis_cluster: RedisCluster) -> None:
    table = fresh(redis_cluster)
    with pytest.raises(ConfigError, match="REDIS_CLUSTER"):
        async with opened(redis_cluster.servers[0], table) as sink:
            await sink.write(table, ordinary(table, 100))


def settings(**values: object) -> Settings:
    return Settings(_env_file=None, **values)


async def test_the_settings_lead_to_each_kind_of_redis(
    redis_server: Redis, redis_under_sentinel: RedisUnderSentinel, redis_cluster: RedisCluster
) -> None:
    def joined(servers: Iterable[Redis]) -> str:
        return ", ".join(f"{s.host}:{s.port}" for s in servers)

    for values in (
        {"redis_host": "127.0.0.1", "redis_port": redis_server.port},
        {"redis_sentinels": joined(redis_under_sentinel.sentinels), "redis_sentinel_master": MASTER},
        {"redis_cluster": joined(redis_cluster.servers)},
    ):
        table = fresh(redis_server)
        database = RedisDatabase.of(settings(redis_password=PASSWORD, redis_expire_seconds=77, **values))
        async with database:
            sink = await RedisSink.opened(database, [table])
            await sink.write(table, ordinary(table, 20))
            await same(sink, table, ordinary(table, 20))
        assert PASSWORD not in repr(database._access)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"redis_cluster": "a:1", "redis_sentinels": "b:2"}, "both set"),
        ({"redis_cluster": "a"}, "REDIS_CLUSTER: 'a' is no address"),
        ({"redis_sentinels": "a:1,b:x"}, "REDIS_SENTINELS: 'b:x' is no address"),
        ({"redis_sentinels": " , "}, "REDIS_SENTINELS names no address"),
        ({"redis_tls_ca": "/nowhere/ca.pem"}, "REDIS_TLS_CA: there is no file"),
    ],
)
def test_settings_that_make_no_sense_are_told(values: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        RedisDatabase.of(settings(**values))
    assert said in str(caught.value)


async def test_two_tables_may_not_share_their_keys(redis_server: Redis) -> None:
    one, two = (fresh(redis_server, KeySpace("same:{symbol}")) for _ in range(2))
    with pytest.raises(ConfigError, match="would share the keys"):
        async with opened(redis_server, one, two):
            pass


async def test_the_servers_client_list_names_us(redis_server: Redis) -> None:
    async with opened(redis_server):
        assert "name=mystocks-ingest" in redis_server.cli("CLIENT", "LIST")


async def test_a_snapshot_of_the_market_does_not_stall_the_loop(redis_server: Redis) -> None:
    table = next(t for t in SHIPPED.all if t.name == "quote_latest")
    rows = ordinary(table, 5_400, version=400)
    longest = 0.0
    async with opened(redis_server, table) as sink:
        await sink.write(table, rows.slice(0, 10))

        async def watch() -> None:
            nonlocal longest
            while True:
                began = time.thread_time()  # the loop's own work: others may have the processor for any time
                await asyncio.sleep(0.001)
                longest = max(longest, time.thread_time() - began)

        stalls = []
        while len(stalls) < 5 or (min(stalls) >= 0.02 and len(stalls) < 40):  # others may keep the processors busy
            longest = 0.0
            watching = asyncio.create_task(watch())
            await sink.write(table, rows)
            watching.cancel()
            stalls.append(longest)
        assert min(stalls) < 0.02, stalls
        assert (await sink.read(table, Query(symbols=(Symbol("000007.SZ"),)))).num_rows == 1


async def test_a_row_without_its_time_is_refused(redis_server: Redis) -> None:
    table = replace(fresh(redis_server), columns=tuple(replace(c, nullable=c.name != "symbol") for c in COLUMNS))
    async with opened(redis_server, table) as sink:
        rows = ordinary(table, 2).to_pylist()
        rows[1]["at"] = None
        with pytest.raises(Rejected, match="at is null"):
            await sink.write(table, pa.RecordBatch.from_pylist(rows, schema=table.schema))
        assert plain(table, await sink.read(table, ALL)) == []
