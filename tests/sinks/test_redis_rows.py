"""Rows that go to Redis whole, in the form of its own dump: what lies there is what HSET would have stored."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest
from contract import ALL, ordinary, same
from redis.asyncio import Redis as Client
from redis_subject import ACCESS, RedisSubject, place
from servers.redis import PASSWORD, Redis, RedisCluster

from mystocks_ingest.errors import Rejected
from mystocks_ingest.schema.keyspace import KeySpace
from mystocks_ingest.schema.tables import Column, Database, Table
from mystocks_ingest.sinks.redis import RedisDatabase, RedisSink
from mystocks_ingest.sinks.redis.dump import checksums, dumped
from mystocks_ingest.sinks.redis.encoding import as_text

COLUMNS = (
    Column("symbol", "VARCHAR", 20, nullable=False),
    Column("at", "TIMESTAMPTZ", nullable=False),
    Column("price", "DOUBLE"),
    Column("volume", "BIGINT"),
    Column("note", "VARCHAR", 100),
)


@asynccontextmanager
async def opened(of: Redis | RedisCluster, *tables: Table, user: str | None = None) -> AsyncIterator[RedisSink]:
    async with RedisDatabase(place(of), replace(ACCESS, user=user)) as database:
        yield await RedisSink.opened(database, tables)


def fresh(of: Redis | RedisCluster, **changes: object) -> Table:
    return replace(RedisSubject(of).fresh(), columns=COLUMNS, **changes)  # type: ignore[arg-type]


def quotes(table: Table, *rows: tuple[str, int, float | None, int | None, str | None]) -> pa.RecordBatch:
    """Symbol, milliseconds, price, volume, note."""
    made = [(s, datetime.fromtimestamp(ms / 1000, UTC), *rest) for s, ms, *rest in rows]
    names = [c.name for c in table.columns]
    return pa.RecordBatch.from_pylist([dict(zip(names, row, strict=True)) for row in made], schema=table.schema)


def held(server: Redis, key: str) -> dict[str, str]:
    found: dict[str, str] = json.loads(server.cli("--json", "HGETALL", key))
    return found


async def hashes(server: Redis, table: Table, symbols: list[str]) -> list[dict[bytes, bytes]]:
    """As any other program reads them."""
    async with Client(host=server.host, port=server.port, password=PASSWORD) as client:
        pipeline = client.pipeline(transaction=False)
        for symbol in symbols:
            pipeline.hgetall(f"{table.name}:{symbol}")
        found: list[dict[bytes, bytes]] = await pipeline.execute()
        return found


def count(server: Redis, command: str) -> int:
    """Calls of a command so far."""
    lines = server.cli("INFO", "commandstats").splitlines()
    return sum(int(n.partition("calls=")[2].partition(",")[0]) for n in lines if n.startswith(f"cmdstat_{command}:"))


@pytest.fixture
def strict(redis_server: Redis) -> Iterator[Redis]:
    """A server that looks through every dump before it takes it."""
    redis_server.cli("CONFIG", "SET", "sanitize-dump-payload", "yes")
    yield redis_server
    redis_server.cli("CONFIG", "SET", "sanitize-dump-payload", "no")


def reference(data: bytes) -> int:
    total = 0
    for byte in data:
        total ^= byte
        for _ in range(8):
            total = total >> 1 ^ (0x95AC9329AC4BC9B5 if total & 1 else 0)
    return total


def test_the_checksums_are_those_of_redis_for_stretches_of_every_length() -> None:
    assert reference(b"123456789") == 0xE9C6D914C4B8D9CA  # as redis/src/crc64.c says
    chance = np.random.default_rng(1)
    lengths = np.array([*range(1, 70), 1, 333, 4_000, 9])
    ends = 4_000 + np.cumsum(lengths)
    data = chance.integers(0, 256, ends[-1] + 7, np.uint8)
    found = checksums(data, ends - lengths, ends)
    spans = zip(ends - lengths, ends, strict=True)
    assert found.tolist() == [reference(data[start:end].tobytes()) for start, end in spans]


def test_a_text_that_a_listpack_does_not_take_is_not_packed() -> None:
    def packed(text: str) -> pa.Array | None:
        return dumped({"a": pa.array([b"x", text.encode()]), "b": pa.array([None, b""])}, pa.array([b"1", b"2"]))

    assert packed("x" * 63) is not None
    assert packed("x" * 64) is None
    assert dumped({"n" * 64: pa.array([b"x"])}, pa.array([b"1"])) is None
    assert dumped({f"n{i}": pa.array([b"x" * 60]) for i in range(300)}, pa.array([b"1"])) is None  # a row of 20 kB


@pytest.mark.parametrize("seed", range(3))
async def test_rows_of_every_shape_lie_there_as_hset_stores_them(strict: Redis, seed: int) -> None:
    chance = random.Random(seed)
    texts = ["", "平安银行", "🚀" * 15, "x" * 63, "-1", "007", "a\nb\r\n\x00c", None]
    prices = [None, 0.0, -0.0, 1e300, 5e-324, float("nan"), float("inf"), 15.28, -3.0]
    volumes = [None, 0, -1, 12, 127, 128, 4_095, 4_096, -(2**63), 2**63 - 1]
    whole, parts = fresh(strict), fresh(strict)
    rows = [
        (f"{n:06d}.SZ", 1_000 + n, chance.choice(prices), chance.choice(volumes), chance.choice(texts))
        for n in range(250)
    ]
    before = count(strict, "restore")
    async with opened(strict, whole, parts) as sink:
        await sink.write(whole, quotes(whole, *rows))
        assert count(strict, "restore") == before + len(rows)
        sink._whole = False
        await sink.write(parts, quotes(parts, *rows))
        assert count(strict, "restore") == before + len(rows)
        read = await sink.read(whole, ALL)
        assert str(read.to_pylist()) == str((await sink.read(parts, ALL)).to_pylist())  # NaN is not itself
    symbols = [symbol for symbol, *_ in rows]
    assert await hashes(strict, whole, symbols) == await hashes(strict, parts, symbols)
    first = f"{whole.name}:{rows[0][0]}"
    assert strict.cli("OBJECT", "ENCODING", first) == "listpack"
    strict.cli("HINCRBY", first, "at", 5)  # numbers are numbers to others
    assert strict.cli("HGET", first, "at") == "1005"


async def test_a_hash_with_more_fields_than_the_server_packs_is_stored_all_the_same(redis_server: Redis) -> None:
    redis_server.cli("CONFIG", "SET", "hash-max-listpack-entries", 3)
    try:
        table = fresh(redis_server)
        async with opened(redis_server, table) as sink:
            await sink.write(table, quotes(table, ("a", 1_000, 1.5, 7, "x")))
            await same(sink, table, quotes(table, ("a", 1_000, 1.5, 7, "x")))
        assert redis_server.cli("OBJECT", "ENCODING", f"{table.name}:a") == "hashtable"
    finally:
        redis_server.cli("CONFIG", "SET", "hash-max-listpack-entries", 128)


async def test_a_value_that_is_gone_in_the_newer_row_is_gone(redis_server: Redis) -> None:
    table = fresh(redis_server)
    async with opened(redis_server, table) as sink:
        await sink.write(table, quotes(table, ("a", 1_000, 1.5, 7, "x")))
        await sink.write(table, quotes(table, ("a", 2_000, None, 8, None)))
    assert held(redis_server, f"{table.name}:a") == {"symbol": "a", "at": "2000", "volume": "8"}


async def test_a_long_text_goes_field_by_field_among_rows_that_go_whole(redis_server: Redis) -> None:
    table = fresh(redis_server)
    rows = quotes(table, *((f"s{n:04d}", 1_000, 1.5, n, "长" * (60 if n == 2_000 else 3)) for n in range(3_100)))
    before = count(redis_server, "restore")
    async with opened(redis_server, table) as sink:
        await sink.write(table, rows)
        assert 0 < count(redis_server, "restore") - before < rows.num_rows
        await same(sink, table, rows)
        later = quotes(table, *((f"s{n:04d}", 2_000, 2.5, n, "短") for n in range(3_100)))
        await sink.write(table, later)
        await same(sink, table, later)


@pytest.mark.parametrize("shape", [Redis, RedisCluster])
async def test_another_programs_field_in_a_rows_hash_stays(
    shape: type, redis_server: Redis, redis_cluster: RedisCluster
) -> None:
    of = redis_server if shape is Redis else redis_cluster
    table = fresh(of, key_space=KeySpace(f"{fresh(of).name}{{symbol}}", channel="whole"))
    prefix = table.key_space.pattern.partition("{")[0]  # type: ignore[union-attr]
    symbols = [f"{n:03d}" for n in range(300)]
    marked = [f"{prefix}{s}" for s in symbols[::40]]
    servers = of.servers if isinstance(of, RedisCluster) else (of,)

    def on_its_server(*words: str) -> list[str]:
        return [said for s in servers if not (said := s.cli(*words)).startswith("MOVED")]

    async with opened(of, table) as sink:
        await sink.write(table, quotes(table, *((s, 2_000, 1.5, 1, "first") for s in symbols)))
        for key in marked:
            on_its_server("HSET", key, "signal", "buy")
        ages = {s: 1_000 if n % 2 else 3_000 for n, s in enumerate(symbols)}  # every other one is older
        await sink.write(table, quotes(table, *((s, ages[s], 2.5, 2, "second") for s in symbols)))
        read = (await sink.read(table, ALL)).to_pylist()
        assert [r["note"] for r in read] == ["first" if ages[s] == 1_000 else "second" for s in symbols]
    assert [on_its_server("HGET", key, "signal") for key in marked] == [["buy"]] * len(marked)


async def test_without_a_time_a_key_of_another_kind_is_still_not_overwritten(redis_server: Redis) -> None:
    table = fresh(redis_server, time_column=None)
    redis_server.cli("SET", f"{table.name}:b", "taken")
    async with opened(redis_server, table) as sink:
        with pytest.raises(Rejected, match="holds something else"):
            await sink.write(table, quotes(table, ("a", 1_000, 1.5, 7, "x"), ("b", 1_000, 1.5, 7, "x")))
        assert redis_server.cli("GET", f"{table.name}:b") == "taken"
        assert sink._whole, "one bad key is no reason to store all others slowly"


async def test_columns_that_a_batch_does_not_have_keep_their_values(redis_server: Redis) -> None:
    table = fresh(redis_server)
    async with opened(redis_server, table) as sink:
        await sink.write(table, quotes(table, ("a", 1_000, 1.5, 7, "kept")))
        part = quotes(table, ("a", 2_000, 2.5, 8, None)).select(["symbol", "at", "price", "volume"])
        await sink.write(table, part)
        await same(sink, table, quotes(table, ("a", 2_000, 2.5, 8, "kept")))


async def test_where_restore_is_not_allowed_rows_go_field_by_field_and_newest_wins_between_both_ways(
    redis_server: Redis,
) -> None:
    table = fresh(redis_server)
    rights = ("+hset", "+hget", "+hdel", "+hgetall", "+fcall", "+function|load", "+scan", "+client|setname")
    redis_server.cli("ACL", "SETUSER", "by_field", "on", f">{PASSWORD}", "~contract_*", *rights)
    chance = random.Random(5)
    symbols = [f"{n:06d}.SZ" for n in range(200)]
    batches = []
    for n in range(30):
        times = {s: chance.randrange(1, 100_000) for s in chance.sample(symbols, 150)}
        batches.append(
            quotes(table, *((s, ms, ms / 7, ms, None if ms % 3 else f"w{n}@{ms}") for s, ms in times.items()))
        )
    try:
        async with opened(redis_server, table) as one, opened(redis_server, table, user="by_field") as two:
            async with asyncio.TaskGroup() as group:
                for n, batch in enumerate(batches):
                    group.create_task((one, two)[n % 2].write(table, batch))
            assert one._whole
            assert not two._whole
            newest: dict[str, dict[str, object]] = {}
            for row in (row for batch in batches for row in batch.to_pylist()):
                if row["volume"] >= newest.get(row["symbol"], row)["volume"]:
                    newest[row["symbol"]] = row
            read = (await one.read(table, ALL)).to_pylist()
            assert {r["symbol"]: r["volume"] for r in read} == {s: r["volume"] for s, r in newest.items()}
            for row in read:
                assert row["price"] == row["volume"] / 7, "a row of two writes"
                assert (row["note"] is None) == bool(row["volume"] % 3), "a row of two writes"
                assert row["note"] is None or row["note"].endswith(f"@{row['volume']}"), "a row of two writes"
    finally:
        redis_server.cli("ACL", "DELUSER", "by_field")


async def test_a_table_of_many_columns_is_stored_and_read_back(redis_server: Redis) -> None:
    wide = (*COLUMNS[:2], *(Column(f"c{n}", "DOUBLE") for n in range(200)))
    table = replace(fresh(redis_server), columns=wide, database_type=Database.REDIS)
    async with opened(redis_server, table) as sink:
        for version in range(2):
            rows = ordinary(table, 150, version=version)
            await sink.write(table, rows)
            await same(sink, table, rows)


CENTS = [0.0, 0.01, 0.07, 0.29, 1.0, 8.1, 15.28, 999.99, 1000.0, 2999.99]
ODD = {
    "a tenth and two": [0.1 + 0.2],
    "a thousandth": [0.001, 15.285],
    "a zero below zero": [-0.0],
    "less than nothing": [-1.25],
    "dear": [2999.994, 3000.0, 1e11],
    "no number": [float("nan"), float("inf"), float("-inf")],
}


@pytest.mark.parametrize("among", [*ODD, "cents only"])
def test_a_price_is_written_as_the_shortest_text_that_is_that_number(among: str) -> None:
    values = pa.array([9.99, *CENTS, None, *ODD.get(among, []), None], pa.float64()).slice(1)
    assert as_text(values).equals(values.cast(pa.string()).cast(pa.binary()))


def test_every_price_in_cents_is_written_as_itself() -> None:
    every = pa.array(np.arange(300_000) / 100)
    texts = as_text(every)
    assert [float(text) for text in texts.to_pylist()] == every.to_pylist()
    assert max(len(text) for text in texts.to_pylist()) == len("2999.99")
