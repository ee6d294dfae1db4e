"""The key spaces of Redis: a bounded sample read in a few trips, mended by a command for each key."""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import shlex
import socket
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress

from mystocks_ingest.errors import ConfigError, IngestError, Unavailable
from mystocks_ingest.schema.keyspace import KeySpace, Kind
from mystocks_ingest.schema.structure import IndexShape, TableShape
from mystocks_ingest.schema.tables import Database, Table
from mystocks_ingest.sinks.redis import decoding
from mystocks_ingest.sinks.redis.database import Command, RedisDatabase
from mystocks_ingest.sinks.redis.dialect import DATABASE, LOCK, RedisDialect, Sample, space_of
from mystocks_ingest.sinks.redis.encoding import command, slot_of

SCANNED_KEYS = 100_000  # of each server, at most, for a sample of all key spaces
SAMPLED_KEYS = 20  # of each key space
_FIELDS = 512  # of each sampled hash
_PAGE = 500
_LIFE_MS = 15_000
_BEAT_SECONDS = 4.0
_WAIT_SECONDS = 40.0
_LOOK_SECONDS = 0.2
_OURS = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call({}) end return 0"
_RENEW = _OURS.format("'PEXPIRE', KEYS[1], ARGV[2]")
_RELEASE = _OURS.format("'UNLINK', KEYS[1]")


class RedisTarget:
    """ports.SchemaTarget of Redis: single, under Sentinel, cluster. It knows only the key spaces of ``tables``."""

    name = "redis"

    def __init__(
        self, database: RedisDatabase, tables: Iterable[Table] = (), *, wait_seconds: float = _WAIT_SECONDS
    ) -> None:
        self._database = database
        self._tables = [t for t in tables if t.database_type is Database.REDIS]
        self._wait = wait_seconds
        self._lost = False
        self.dialect = RedisDialect(expire_seconds=database.expire_seconds)

    async def databases(self) -> frozenset[str]:
        return frozenset({DATABASE})

    async def inspect(self, databases: Iterable[str]) -> Sequence[TableShape]:
        """One pass over at most 100,000 keys of each server for all key spaces, then two trips for the keys chosen."""
        if DATABASE not in set(databases) or not self._tables:
            return ()
        chosen = await self._chosen()
        streams = {t.name: space_of(t).stream for t in self._tables}
        asked = [*(k for keys in chosen.values() for k in keys), *(s.encode() for s in streams.values() if s)]
        samples = await self._sampled(list(dict.fromkeys(asked)))
        found = []
        for table in self._tables:
            rows = [samples[k] for k in chosen[table.name] if k in samples]
            stream = streams[table.name]
            log = samples.get(stream.encode()) if stream else None
            odd = (
                [IndexShape(stream, (f"a {log.type}, not a stream",))]
                if log and stream and log.type != "stream"
                else []
            )
            found.append(self.dialect.found(table, rows, strays=odd))
        return found

    async def _chosen(self) -> dict[str, list[bytes]]:
        """Keys of each table, by their names alone."""
        chosen: dict[str, list[bytes]] = {t.name: [] for t in self._tables}
        forms: dict[bytes, list[tuple[str, re.Pattern[bytes]]]] = {}  # by the text before their first place
        for table in self._tables:
            space = space_of(table)
            if space.places:
                forms.setdefault(space.texts[0].encode(), []).append((table.name, decoding.matcher(space)))
            else:
                chosen[table.name].append(space.pattern.encode())
        if not forms:
            return chosen
        lengths = sorted({len(text) for text in forms})
        for key in await self._database.some_keys(SCANNED_KEYS):
            for name, form in (pair for length in lengths for pair in forms.get(key[:length], ())):
                if len(chosen[name]) < SAMPLED_KEYS and form.fullmatch(key):
                    chosen[name].append(key)
        return chosen

    async def _sampled(self, keys: Sequence[bytes]) -> dict[bytes, Sample]:
        """What lies under the keys; those that are gone are left out."""
        if not keys:
            return {}
        told = await self._database.run([c for k in keys for c in (_command("TYPE", k), _command("PTTL", k))])
        types = {k: told[2 * i].decode() for i, k in enumerate(keys)}
        lives = {k: int(told[2 * i + 1]) for i, k in enumerate(keys)}
        hashes = [k for k in keys if types[k] == "hash"]
        fields = await self._database.run([_command("HRANDFIELD", k, _FIELDS, "WITHVALUES") for k in hashes])
        held = {k: dict(_pairs(found)) for k, found in zip(hashes, fields, strict=True)}
        gone = {k for k in keys if types[k] == "none" or (k in held and not held[k])}
        return {k: Sample(k, types[k], lives[k], held.get(k, {})) for k in keys if k not in gone}

    async def execute(self, database: str, statement: str) -> None:  # noqa: ARG002 - there is but one
        """Run a command of the dialect's, for each key of a pattern where it says EACH."""
        if self._lost:
            raise Unavailable("the lock on Redis' key spaces was lost, for Redis was away: try again")
        words = shlex.split(statement)
        if not words:
            return
        if words[0] != "EACH":
            await self._database.run([_command(words[0], words[1].encode(), *words[2:])])
            return
        pattern, rest = words[1], words[2:]
        beside = rest[1] if rest[0] == "WITH" else None
        verb, *arguments = rest[2:] if beside else rest
        keys = await self._keys(KeySpace(pattern))
        if beside:
            keys += [b"{%b}:%b" % (k, beside.encode()) for k in keys]
        for first in range(0, len(keys), _PAGE):
            await self._database.run([_command(verb, k, *arguments) for k in keys[first : first + _PAGE]])

    async def count(self, table: TableShape) -> int:
        """Rows: keys of a hash's pattern, fields and members of maps and sets."""
        said = table.settings
        keys = await self._keys(KeySpace(said["pattern"]))
        if said["kind"] == Kind.HASH.value:
            return len(keys)
        verb = "HLEN" if said["kind"] == Kind.MAP.value else "SCARD"
        counts = [
            await self._database.run([_command(verb, k) for k in keys[i : i + _PAGE]])
            for i in range(0, len(keys), _PAGE)
        ]
        return sum(int(n) for part in counts for n in part)

    async def _keys(self, space: KeySpace) -> list[bytes]:
        """Every key of the pattern, of whatever type."""
        if not space.places:
            key = space.pattern.encode()
            return [key] if await self._sampled([key]) else []
        form = decoding.matcher(space)
        return sorted(k for k in await self._database.keys(decoding.glob(space)) if form.fullmatch(k))

    @asynccontextmanager
    async def lock(self) -> AsyncIterator[None]:
        """A key with a life of fifteen seconds, renewed every four: a holder that was killed is outlived.

        What is done under it may be done twice without harm, so that a failover that loses the key does none.
        """
        who = f"process {os.getpid()} on {socket.gethostname()}, {secrets.token_hex(4)}"
        await self._take(who)
        renewal = asyncio.create_task(self._renew(who), name="redis:lock")
        try:
            yield
        finally:
            renewal.cancel()
            await asyncio.wait({renewal})
            self._lost = False
            with suppress(IngestError):  # it ends by itself
                await self._database.run([_script(_RELEASE, who)])

    async def _take(self, who: str) -> None:
        clock = asyncio.get_running_loop().time
        until = clock() + self._wait
        key = LOCK.encode()
        while True:
            # a command that is sent twice finds its own word there
            _, holder = await self._database.run(
                [_command("SET", key, who, "NX", "PX", _LIFE_MS), _command("GET", key)]
            )
            if holder == who.encode():
                return
            if clock() > until:
                name = (holder or b"another").decode(errors="replace").rpartition(",")[0]
                raise Unavailable(f"Redis' key spaces are being changed by {name}: try again later")
            await asyncio.sleep(_LOOK_SECONDS)

    async def _renew(self, who: str) -> None:
        clock = asyncio.get_running_loop().time
        heard = clock()
        while not self._lost:
            await asyncio.sleep(_BEAT_SECONDS)
            try:
                (kept,) = await self._database.run([_script(_RENEW, who, _LIFE_MS)])
            except ConfigError:
                raise
            except IngestError:
                self._lost = clock() - heard > _LIFE_MS / 1000
            else:
                heard, self._lost = clock(), not kept


def _pairs(found: Sequence[object]) -> Iterable[tuple[bytes, bytes]]:
    """Fields and values as RESP3 tells them."""
    for pair in found:
        assert isinstance(pair, list | tuple)  # noqa: S101 - Redis' promise
        yield pair[0], pair[1]


def _command(name: str, key: bytes, *words: str | int) -> Command:
    return Command(slot_of(key), (command(name, key, *words),))


def _script(text: str, *words: str | int) -> Command:
    return Command(slot_of(LOCK.encode()), (command("EVAL", text, 1, LOCK, *words),))
