"""The newest state of the market in Redis: one hash, map or set per key pattern, newest wins.

A write returns when Redis has answered: the rows are then in its memory, and seen by every reader. Whether they outlive
its host is its own configuration's business (appendonly); a dataset's history has other, required tables for that.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from typing import Self

import pyarrow as pa

from mystocks_ingest.errors import ConfigError
from mystocks_ingest.flow.migrate import Ensure, ensured
from mystocks_ingest.logs import get
from mystocks_ingest.ports import Query
from mystocks_ingest.schema.keyspace import KeySpace, Kind
from mystocks_ingest.schema.tables import Table, writable
from mystocks_ingest.sinks.redis import decoding
from mystocks_ingest.sinks.redis.database import Command, RedisDatabase
from mystocks_ingest.sinks.redis.dialect import space_of
from mystocks_ingest.sinks.redis.encoding import Call, as_text, calls, command, guard_of, slot_of
from mystocks_ingest.sinks.redis.failures import NoRight
from mystocks_ingest.sinks.redis.target import RedisTarget

log = get("redis")

SLICE_ROWS = 1_500  # encoded while Redis is busy with the slice before
_READ_KEYS = 500
_PART_ROWS = 1_000


class RedisSink:
    """Every table in Redis. Open with ``await RedisSink.opened(database, tables)``."""

    name = "redis"

    def __init__(self, database: RedisDatabase) -> None:
        self._database = database

    @classmethod
    async def opened(cls, database: RedisDatabase, tables: Iterable[Table], *, ensure: Ensure = ensured) -> Self:
        """A sink for these tables. Raises ConfigError when their keys would be mixed up.

        Redis makes nothing ahead: ``ensure`` looks at a sample of what is stored, and gives it the life that is asked
        for. A user without the right to look may write all the same.
        """
        wanted = tuple(tables)
        taken: dict[str, Table] = {}
        for table in wanted:
            space = space_of(table)
            for complaint in space.complaints(table.key):
                raise ConfigError(f"{table.where or table.name}: {complaint}")
            twin = taken.setdefault(space.pattern, table)
            if twin is not table:
                raise ConfigError(
                    f"{table.where or table.name}: {table.name} and {twin.name} would share the keys {space.pattern}: "
                    "give one of them another pattern"
                )
        try:
            await ensure(RedisTarget(database, wanted), wanted)
        except NoRight as exc:
            log.info("keys.unseen", reason=str(exc))
        return cls(database)

    async def write(self, table: Table, rows: pa.RecordBatch) -> None:
        """Store the rows, except those of which a newer version is stored; the rows hold each key once.

        One message per batch goes to the table's channel and stream, naming the symbols that were stored.
        """
        writable(table)
        space = space_of(table)
        expire = self._database.expire_seconds if space.expire_seconds is None else space.expire_seconds

        loop = asyncio.get_running_loop()

        def encoded(first: int) -> asyncio.Future[list[Call]]:
            part = rows.slice(first, SLICE_ROWS)
            by_slot = self._database.cluster
            return loop.run_in_executor(
                None, lambda: list(calls(table, space, part, expire_seconds=expire, by_slot=by_slot))
            )

        stale: list[int] = []
        if not rows.num_rows:
            return
        ahead = encoded(0)
        try:
            for first in range(0, rows.num_rows, SLICE_ROWS):
                ready = await ahead
                if first + SLICE_ROWS < rows.num_rows:
                    ahead = encoded(first + SLICE_ROWS)
                answers = await self._database.run([Command(c.slot, c.parts) for c in ready])
                for call, left_out in zip(ready, answers, strict=True):
                    stale += [first + call.rows[n - 1] for n in left_out]
        finally:
            ahead.cancel()
        if (space.channel or space.stream) and len(stale) < rows.num_rows:
            await self._announce(table, space, rows, stale)

    async def _announce(self, table: Table, space: KeySpace, rows: pa.RecordBatch, stale: list[int]) -> None:
        message = await asyncio.to_thread(_message, table, rows, stale)
        sent = []
        if space.channel:
            sent.append(_command("PUBLISH", space.channel, message))
        if space.stream:
            sent.append(_command("XADD", space.stream, "MAXLEN", "~", space.stream_length, "*", "message", message))
        await self._database.run(sent)

    async def read(self, table: Table, query: Query) -> pa.Table:
        """Rows in key order, each whole: a row is never seen half written."""
        names = decoding.columns_of(table, query)
        space = space_of(table)
        keys = decoding.named_keys(table, space, query)
        if keys is None:
            form = decoding.matcher(space)
            found = await self._database.keys(decoding.glob(space), _TYPES[space.kind])
            keys = [k for k in found if form.fullmatch(k)]
        parts = [await self._fetched(table, space, keys[i : i + _READ_KEYS]) for i in range(0, len(keys), _READ_KEYS)]
        empty = pa.schema([pa.field(f.name, f.type) for f in table.schema]).empty_table()
        return await asyncio.to_thread(decoding.selected, table, pa.concat_tables([empty, *parts]), query, names)

    async def _fetched(self, table: Table, space: KeySpace, keys: list[bytes]) -> pa.Table:
        if space.kind is Kind.SET:
            beside = guard_of(table)
            members = await self._database.run([_command("SMEMBERS", k) for k in keys])
            times = await self._database.run([_command("HGETALL", b"{%b}:%b" % (k, beside.encode())) for k in keys])
            texts = decoding.sets(table, space, keys, members, times)
        else:
            replies = await self._database.run([_command("HGETALL", k) for k in keys])
            texts_of = decoding.hashes if space.kind is Kind.HASH else decoding.maps
            texts = await asyncio.to_thread(texts_of, table, replies)
        return await asyncio.to_thread(decoding.rows, table, texts)

    async def stream(self, table: Table, query: Query) -> AsyncIterator[pa.RecordBatch]:
        """``read`` in batches. The newest rows of a market fit in memory; only the batches' size is bounded."""
        for part in (await self.read(table, query)).to_batches(max_chunksize=_PART_ROWS):
            yield part

    async def ping(self) -> None:
        """Every server that holds keys answers."""
        await self._database.each("PING")


_TYPES = {Kind.HASH: "hash", Kind.MAP: "hash", Kind.SET: "set"}


def _command(name: str, key: str | bytes, *words: str | bytes | int) -> Command:
    text = key if isinstance(key, bytes) else key.encode()
    return Command(slot_of(text), (command(name, text, *words),))


def _message(table: Table, rows: pa.RecordBatch, stale: list[int]) -> bytes:
    """What subscribers get: the table, how many rows were stored, and their symbols (or the first key column)."""
    name = "symbol" if "symbol" in rows.schema.names else table.key[0]
    told = as_text(rows.column(name)).cast(pa.string()).to_pylist()
    for number in sorted(stale, reverse=True):
        del told[number]
    content = {"table": table.name, "rows": len(told), f"{name}s": told}
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
