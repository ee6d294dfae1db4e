"""Redis as the contract sees it, and the sinks its own tests open."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace

from contract import Subject
from servers.private import PrivateServer
from servers.redis import MASTER, PASSWORD, Redis, RedisCluster, RedisUnderSentinel

from mystocks_ingest.ports import Sink
from mystocks_ingest.schema.tables import Column, Database, Table
from mystocks_ingest.sinks.redis import Access, Place, RedisDatabase, RedisSink

ACCESS = Access(password=PASSWORD, connect_seconds=5.0, seconds=8.0)

COLUMNS = (
    Column("symbol", "VARCHAR", 20, nullable=False),
    Column("at", "TIMESTAMPTZ", nullable=False),
    Column("price", "DOUBLE"),
    Column("exact", "NUMERIC", precision=18, scale=4),
    Column("tiny", "TINYINT"),
    Column("small", "SMALLINT"),
    Column("whole", "INT"),
    Column("volume", "BIGINT", nullable=False),
    Column("flag", "BOOLEAN"),
    Column("listed", "DATE"),
    Column("local", "TIMESTAMP"),
    Column("detail", "JSON"),
    Column("raw", "BYTEA"),
    Column("note", "VARCHAR", 60),
)


def place(of: Redis | RedisUnderSentinel | RedisCluster) -> Place:
    match of:
        case RedisUnderSentinel():
            return Place(tuple((s.host, s.port) for s in of.sentinels), master=MASTER)
        case RedisCluster():
            return Place(tuple((s.host, s.port) for s in of.servers), cluster=True)
        case _:
            return Place(((of.host, of.port),))


class RedisSubject(Subject):
    bad: Mapping[str, tuple[str, object]] = {
        "null where none may be": ("volume", None),
        "no time to be newest by": ("at", None),
    }

    def __init__(self, redis: Redis | RedisUnderSentinel | RedisCluster) -> None:
        self.place = place(redis)
        self.server: PrivateServer | None = redis if isinstance(redis, Redis) else None

    def table(self, name: str) -> Table:
        return Table(name, Database.REDIS, "market_data", COLUMNS, ("symbol",), time_column="at")

    @asynccontextmanager
    async def opened(self, *tables: Table, port: int | None = None, pool: int | None = None) -> AsyncIterator[Sink]:
        where = self.place if port is None else replace(self.place, nodes=(("127.0.0.1", port),))
        access = replace(ACCESS, connect_seconds=self.seconds, seconds=self.seconds)
        async with RedisDatabase(where, access, pool=pool or 4) as database:
            yield await RedisSink.opened(database, tables)
