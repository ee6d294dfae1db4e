"""The newest state of the market in Redis: one hash, map or set per key pattern, newest wins.

A write returns when Redis has answered: the rows are then in its memory, and seen by every reader. Whether they outlive
its host is its own configuration's business (appendonly); a dataset's history has other, required tables for that.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Iterable
from itertools import pairwise
from typing import ParamSpec, Self, TypeVar

import pyarrow as pa

from mystocks_ingest.errors import ConfigError, NoRight, Rejected
from mystocks_ingest.flow.migrate import Ensure, ensured
from mystocks_ingest.logs import get
from mystocks_ingest.ports import Query
from mystocks_ingest.schema.keyspace import KeySpace, Kind
from mystocks_ingest.schema.tables import Table, writable
from mystocks_ingest.sinks.redis import decoding
from mystocks_ingest.sinks.redis.database import Command, RedisDatabase
from mystocks_ingest.sinks.redis.dialect import space_of
from mystocks_ingest.sinks.redis.encoding import Call, as_text, calls, command, guard_of, slot_of
from mystocks_ingest.sinks.redis.target import RedisTarget

P = ParamSpec("P")
T = TypeVar("T")
log = get("redis")

_FIRST_ROWS, _SLICE_ROWS = 1_000, 1_500
_READ_KEYS = 500
_PART_ROWS = 1_000


class RedisSink:
    """Every table in Redis. Open with ``await RedisSink.opened(database, tables)``."""

    name = "redis"

    def __init__(self, database: RedisDatabase) -> None:
        self._database = database
        self._whole = True  # until a server turns out not to take rows in the form of a dump

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
        told = bool(space.channel or space.stream)
        whole = self._whole
        stale: list[int] = []
        if not rows.num_rows:
            return
        parts = [(first, rows.slice(first, after - first)) for first, after in pairwise(_cuts(rows.num_rows))]
        ahead = self._encoded(table, space, parts[0][1], whole=whole)
        message = None
        try:
            for number, (first, part) in enumerate(parts, 1):
                ready = await ahead
                if number < len(parts):
                    ahead = self._encoded(table, space, parts[number][1], whole=whole)
                elif told:
                    message = _threaded(_message, table, rows, [])  # what is most often true
                stale += [first + n for n in await self._stored(table, space, part, ready, whole=whole)]
            if message is not None and len(stale) < rows.num_rows:
                await self._announce(space, await (_threaded(_message, table, rows, stale) if stale else message))
        finally:
            ahead.cancel()
            if message is not None:
                message.cancel()

    def _encoded(
        self, table: Table, space: KeySpace, rows: pa.RecordBatch, *, whole: bool
    ) -> asyncio.Future[list[Call]]:
        expire = self._database.expire_seconds if space.expire_seconds is None else space.expire_seconds
        by_slot = self._database.cluster
        return _threaded(lambda: list(calls(table, space, rows, expire_seconds=expire, by_slot=by_slot, whole=whole)))

    async def _stored(
        self, table: Table, space: KeySpace, rows: pa.RecordBatch, ready: list[Call], *, whole: bool
    ) -> list[int]:
        """Send what is ready of these rows; the numbers of those that were older than what is stored."""

        async def by_field(part: pa.RecordBatch) -> list[int]:
            return [row for row, _ in await self._sent(await self._encoded(table, space, part, whole=False))]

        try:
            left = await self._sent(ready)
        except (Rejected, NoRight) as exc:
            if not whole:
                raise
            stale = await by_field(rows)
            if self._whole:
                self._whole = False
                log.warning("rows.by_field", reason=str(exc))
            return stale
        mixed = [row for row, others in left if others]
        stale = [row for row, others in left if not others]
        return stale + [mixed[n] for n in await by_field(rows.take(pa.array(mixed)))] if mixed else stale

    async def _sent(self, ready: list[Call]) -> list[tuple[int, bool]]:
        """The numbers of rows that were left out, and whether that is for another's fields, and not for their age."""
        answers = await self._database.run([Command(c.slot, c.parts) for c in ready])
        return [(call.rows[abs(n) - 1], n < 0) for call, found in zip(ready, answers, strict=True) for n in found]

    async def _announce(self, space: KeySpace, message: bytes) -> None:
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

    async def stream(self, table: Table, query: Query) -> AsyncGenerator[pa.RecordBatch, None]:
        """``read`` in batches. The newest rows of a market fit in memory; only the batches' size is bounded."""
        for part in (await self.read(table, query)).to_batches(max_chunksize=_PART_ROWS):
            yield part

    @property
    def pool(self) -> tuple[int, int]:
        """Connections in use, and how many there may be."""
        return self._database.pool

    async def ping(self) -> None:
        """Every server that holds keys answers."""
        await self._database.each("PING")


def _cuts(count: int) -> list[int]:
    """Where a batch is cut. A slice is encoded while Redis is busy with the one before; the first one is soon ready."""
    if count <= _SLICE_ROWS:
        return [0, count]
    slices = -(-(count - _FIRST_ROWS) // _SLICE_ROWS)
    return [0, *(_FIRST_ROWS + (count - _FIRST_ROWS) * n // slices for n in range(slices + 1))]


_TYPES = {Kind.HASH: "hash", Kind.MAP: "hash", Kind.SET: "set"}


def _threaded(work: Callable[P, T], *words: P.args, **more: P.kwargs) -> asyncio.Future[T]:
    """``work`` under way in a thread."""
    return asyncio.get_running_loop().run_in_executor(None, lambda: work(*words, **more))


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
