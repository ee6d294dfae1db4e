"""Redis: a snapshot of 5,400 quotes, newest wins, beside ``redis-benchmark -c 4 -P 100`` HSET of the same fields.

Ours starts from Arrow: encoding, sending, the decision which row is newer, and every answer are inside the timing; the
benchmark sends one prepared text and decides nothing. Turns alternate on one server and each side's median counts. Both
with the whole quote as tables.yaml has it, and with ten fields, as the technique was measured before.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from redis.asyncio import Redis as Client

from bench.measure import Measurement
from mystocks_ingest.ports import Query
from mystocks_ingest.schema.tables import Table, load
from mystocks_ingest.sinks.redis import Access, Place, RedisDatabase, RedisSink

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from servers.private import binary
from servers.redis import PASSWORD, Redis

ROOT = Path(__file__).parents[1]
SYMBOLS = 5_400
ROUNDS = 9
PEER_REQUESTS = 100_000
OPTIONS = ("appendonly no", "appendfsync no")
FEW = ("symbol", "ts", "last", "open", "high", "low", "pre_close", "volume", "amount", "source")


def quotes(columns: tuple[str, ...] | None = None) -> Table:
    """The shipped table of the newest quotes, or one of fewer columns."""
    table = next(t for t in load(ROOT / "config" / "tables.yaml").all if t.name == "quote_latest")
    kept = tuple(c for c in table.columns if columns is None or c.name in columns)
    return replace(table, columns=kept)


def snapshot(table: Table, number: int) -> pa.RecordBatch:
    """Quote ``number`` of every symbol: other prices and volumes, three seconds later."""
    chance = np.random.default_rng(number)
    columns = []
    for field in table.schema:
        if field.name == "symbol":
            columns.append(pa.array([f"{n:06d}.{'SH' if n % 2 else 'SZ'}" for n in range(SYMBOLS)]))
        elif pa.types.is_timestamp(field.type):
            columns.append(pa.array(np.full(SYMBOLS, 1_763_700_000_000 + number * 3_000)).cast(field.type))
        elif pa.types.is_floating(field.type):
            top = 10**11 if field.name == "amount" else 30_000
            columns.append(pa.array(chance.integers(100, top, SYMBOLS) / 100))
        elif pa.types.is_integer(field.type):
            columns.append(pa.array(chance.integers(1, 10**5, SYMBOLS) * 100))
        else:
            columns.append(pa.array(["tushare"] * SYMBOLS))
    return pa.RecordBatch.from_arrays(columns, schema=pa.schema([pa.field(f.name, f.type) for f in table.schema]))


def run() -> Iterator[Measurement]:
    with Redis(OPTIONS) as server:
        yield from asyncio.run(_measured(server, "31 fields", quotes()))
        server.cli("FLUSHALL")
        yield from asyncio.run(_measured(server, "10 fields", quotes(FEW)))


async def _measured(server: Redis, name: str, table: Table) -> list[Measurement]:
    snapshots = [snapshot(table, n) for n in range(ROUNDS + 2)]
    peers: list[float] = []
    ours: list[float] = []
    stalls: list[float] = []
    idle: list[float] = []
    access = Access(password=PASSWORD)
    async with RedisDatabase(Place(((server.host, server.port),)), access) as database:
        sink = await RedisSink.opened(database, [table])
        await sink.write(table, snapshots[0])
        for rows in snapshots[1:-1]:
            watch = _Watch()
            async with watch:
                peers.append(await asyncio.to_thread(_benchmark, server, rows))
            idle.append(watch.longest)
            async with watch:
                began = time.perf_counter()
                await sink.write(table, rows)
                ours.append(time.perf_counter() - began)
            stalls.append(watch.longest)
        began = time.perf_counter()
        read = await sink.read(table, Query())
        reading = time.perf_counter() - began
        assert read.equals(pa.Table.from_batches([snapshots[-2]])), "what was read is not what was written"
        await sink.write(table, snapshots[1])  # older
        assert (await sink.read(table, Query())).equals(read), "an older row replaced a newer one"
    pipelined = await _pipelined(server, snapshots[-1])
    seconds = statistics.median(ours)
    rate, peer = SYMBOLS / seconds, statistics.median(peers)
    return [
        Measurement(f"Redis, {name}: quotes, by redis-benchmark -c 4 -P 100", rate, "rows/s", 0.5, peer),
        Measurement(f"Redis, {name}: quotes, by redis-py's pipeline", rate, "rows/s", None, SYMBOLS / pipelined),
        Measurement(f"Redis, {name}: a snapshot visible", seconds * 1000, "ms", 40, at_most=True),
        Measurement(f"Redis, {name}: longest stall of the loop", max(stalls) * 1000, "ms", 20, at_most=True),
        Measurement(f"Redis, {name}: longest stall of an idle loop beside the peer", max(idle) * 1000, "ms"),
        Measurement(f"Redis, {name}: a snapshot read back", reading * 1000, "ms"),
    ]


class _Watch:
    """The longest time for which the loop did not turn within the block."""

    longest = 0.0

    async def __aenter__(self) -> None:
        self.longest = 0.0
        self._task = asyncio.create_task(self._look())
        await asyncio.sleep(0)

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()

    async def _look(self) -> None:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(0.001)
            self.longest = max(self.longest, time.perf_counter() - began - 0.001)


def _benchmark(server: Redis, rows: pa.RecordBatch) -> float:
    """Requests a second, as redis-benchmark counts them, with the fields and values of one of the rows."""
    row = rows.slice(7, 1).to_pylist()[0]
    row |= {"ts": "1763700000000", "fetched_at": "1763700000000"}
    words = [str(word) for name in rows.schema.names for word in (name, row[name])]
    said = server.run(
        binary("redis-benchmark", "redis-tools"), "-h", server.host, "-p", str(server.port), "-a", PASSWORD, "-c", "4",
        "-P", "100", "-n", str(PEER_REQUESTS), "-r", str(SYMBOLS), "--csv", "HSET", "peer:__rand_int__", *words,
    )  # fmt: skip
    return float(said.strip().splitlines()[-1].rsplit('","', 7)[1])


async def _pipelined(server: Redis, rows: pa.RecordBatch) -> float:
    """Seconds of the usual way: a pipeline of HSETs, 500 at a time, no row compared with what is stored."""
    texts = [{k: str(v) for k, v in row.items()} for row in rows.to_pylist()]
    async with Client(host=server.host, port=server.port, password=PASSWORD, protocol=3) as client:
        began = time.perf_counter()
        for first in range(0, len(texts), 500):
            pipeline = client.pipeline(transaction=False)
            for text in texts[first : first + 500]:
                pipeline.hset(f"plain:{text['symbol']}", mapping=text)
            await pipeline.execute()
        return time.perf_counter() - began
