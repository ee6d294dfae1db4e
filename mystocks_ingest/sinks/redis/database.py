"""Redis as one database, be it a single server, a master that Sentinel names, or a cluster.

Which server holds a slot is found out at the beginning and again whenever a server is lost or says that a slot has
moved. Our functions are loaded wherever a server does not know them: at the beginning, and after a failover, a restart
without its data, or a FUNCTION FLUSH.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Self, TypeVar

from mystocks_ingest.errors import ConfigError, IngestError, Rejected, Unavailable
from mystocks_ingest.logs import get
from mystocks_ingest.settings import Settings
from mystocks_ingest.sinks.redis.connections import Access, Address, Bytes, Server, revealed
from mystocks_ingest.sinks.redis.encoding import SLOTS, command
from mystocks_ingest.sinks.redis.failures import Lost, Moved, NoLibrary
from mystocks_ingest.sinks.redis.library import LIBRARY

T = TypeVar("T")
log = get("redis")
_TRIES = 4


@dataclass(frozen=True, slots=True)
class Place:
    """Where Redis is: ``nodes`` are the server, or Sentinels (with their master's name), or nodes of a cluster."""

    nodes: tuple[Address, ...] = (("127.0.0.1", 6379),)
    master: str | None = None
    cluster: bool = False
    sentinel_user: str | None = None
    sentinel_password: str | None = field(default=None, repr=False)

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """What the settings say. Raises ConfigError."""
        if settings.redis_sentinels and settings.redis_cluster:
            raise ConfigError("REDIS_SENTINELS and REDIS_CLUSTER are both set: Redis is one or the other")
        if settings.redis_sentinels:
            return cls(
                _addresses("REDIS_SENTINELS", settings.redis_sentinels),
                master=settings.redis_sentinel_master,
                sentinel_user=settings.redis_sentinel_user,
                sentinel_password=revealed(settings.redis_sentinel_password),
            )
        if settings.redis_cluster:
            return cls(_addresses("REDIS_CLUSTER", settings.redis_cluster), cluster=True)
        return cls(((settings.redis_host, settings.redis_port),))


def _addresses(setting: str, text: str) -> tuple[Address, ...]:
    found = []
    for word in filter(None, map(str.strip, text.split(","))):
        host, _, port = word.rpartition(":")
        if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
            raise ConfigError(f"{setting}: {word!r} is no address: write host:port, several with commas")
        found.append((host.strip("[]"), int(port)))
    if not found:
        raise ConfigError(f"{setting} names no address: write host:port, several with commas")
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Command:
    """One command ready to send, for the server that holds ``slot``."""

    slot: int
    parts: tuple[Bytes, ...]


class RedisDatabase:
    """``async with RedisDatabase(place, access, pool=4) as database``. ``pool`` bounds the connections to each server."""

    def __init__(self, place: Place, access: Access, *, pool: int = 4, expire_seconds: int = 0) -> None:
        """``expire_seconds``: of rows whose table does not say; 0: never."""
        self.expire_seconds = expire_seconds
        self._place = place
        self._access = access
        self._pool = pool
        self._servers: dict[Address, Server] = {}
        self._held: list[Address | None] = []  # by slot in a cluster; one entry otherwise
        self._locating = asyncio.Lock()
        self._located = 0
        self._doubted = False  # something did not answer: it may no longer be the one to ask

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """What the settings say, not yet open. Raises ConfigError."""
        return cls(
            Place.of(settings),
            Access.of(settings),
            pool=settings.redis_pool_size,
            expire_seconds=settings.redis_expire_seconds,
        )

    @property
    def cluster(self) -> bool:
        return self._place.cluster

    async def __aenter__(self) -> Self:
        try:
            await self._locate(0)
            for server in self.servers:
                await self._load(server)
        except BaseException:
            self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()
        await asyncio.sleep(0)  # the sockets are closed in the loop's next turn

    def _close(self) -> None:
        for server in self._servers.values():
            server.close()

    @property
    def servers(self) -> list[Server]:
        """Each server that holds keys, as known now."""
        return [self._server(a) for a in dict.fromkeys(a for a in self._held if a is not None)]

    def holder(self, slot: int) -> Server:
        """The server that holds this slot (in a cluster), as known now. Raises Unavailable."""
        address = self._held[slot if self.cluster else 0] if self._held else None
        if address is None:
            raise Unavailable(f"Redis at {self._nodes()}: no server holds slot {slot}")
        return self._server(address)

    @property
    def pool(self) -> tuple[int, int]:
        """Connections in use, and how many there may be."""
        return sum(s.busy for s in self._servers.values()), self._pool * max(len(self._servers), 1)

    async def run(self, commands: Sequence[Command]) -> list[Any]:
        """The answers, in the commands' order. The first error is raised once all others are done.

        Every command must bear being sent twice: what a lost server did is not known.
        """
        return await self._surely(lambda: self._run(commands))

    async def _run(self, commands: Sequence[Command]) -> list[Any]:
        answers: list[Any] = [None] * len(commands)
        open_ = list(range(len(commands)))
        asking: dict[int, Address] = {}
        for attempt in range(1, _TRIES + 1):
            located = self._located
            failed = await self._once(commands, open_, asking, answers)
            if not failed:
                return answers
            open_, asking = sorted(failed), {}
            for number, error in failed.items():
                last = attempt == _TRIES
                match error:
                    case Moved(asking=address) if not last:
                        if address is not None:
                            asking[number] = address
                    case NoLibrary() if not last:
                        pass
                    case IngestError():
                        raise error
                    case _:
                        raise Unavailable(f"Redis at {self._nodes()} is being changed: {error}") from error
            kinds = {type(e) for e in failed.values()}
            if NoLibrary in kinds:
                for server in self.servers:
                    await self._load(server)
            if Moved in kinds and len(asking) < sum(isinstance(e, Moved) for e in failed.values()):
                await self._locate(located)
        raise AssertionError("the last attempt raises")

    async def each(self, *words: str | bytes | int) -> list[Any]:
        """One command's answers from every server that holds keys."""

        async def ask() -> list[Any]:
            return [await _told(server, command(*words)) for server in self.servers]

        return await self._surely(ask)

    async def keys(self, pattern: bytes, kind: str | None = None) -> set[bytes]:
        """The keys (of this Redis type) that match; those that come or go meanwhile may be among them."""
        words: list[str | bytes] = ["MATCH", pattern, *(["TYPE", kind] if kind is not None else [])]

        async def search() -> set[bytes]:
            return {key for server in self.servers for key in await _scanned(server, words, None)}

        return await self._surely(search)

    async def some_keys(self, most: int) -> list[bytes]:
        """About ``most`` keys of each server, whichever come first."""

        async def search() -> list[bytes]:
            return [key for server in self.servers for key in await _scanned(server, [], most)]

        return await self._surely(search)

    async def _surely(self, work: Callable[[], Awaitable[T]]) -> T:
        """``work`` on the servers that are the ones to ask now; once more where one of them was lost."""
        if self._doubted:
            await self._relocate()
        located = self._located
        try:
            try:
                return await work()
            except Lost:
                await self._locate(located)
                return await work()
        except Unavailable:
            self._doubted = self.cluster or self._place.master is not None
            raise

    async def _once(
        self, commands: Sequence[Command], numbers: Sequence[int], asking: dict[int, Address], answers: list[Any]
    ) -> dict[int, Exception]:
        """Send those commands, each server's in one go; the errors by number."""
        failed: dict[int, Exception] = {}
        shares: dict[Address, list[int]] = {}
        for number in numbers:
            address = asking.get(number) or self._held[commands[number].slot if self.cluster else 0]
            if address is None:
                failed[number] = Unavailable(f"Redis cluster at {self._nodes()}: no server holds slot {number}")
            else:
                shares.setdefault(address, []).append(number)

        async def share(address: Address, mine: list[int]) -> None:
            sent = [(command("ASKING"), *commands[n].parts) if n in asking else commands[n].parts for n in mine]
            try:
                found = await _answered(self._server(address), sent, asking=[n in asking for n in mine])
            except (IngestError, Moved, NoLibrary) as exc:
                failed.update(dict.fromkeys(mine, exc))
                return
            for number, answer in zip(mine, found, strict=True):
                if isinstance(answer, Exception):
                    failed[number] = answer
                else:
                    answers[number] = answer

        if len(shares) == 1:
            ((address, mine),) = shares.items()
            await share(address, mine)
        else:
            async with asyncio.TaskGroup() as group:
                for address, mine in shares.items():
                    group.create_task(share(address, mine), name=f"redis:{address[0]}:{address[1]}")
        return failed

    def _server(self, address: Address) -> Server:
        if address not in self._servers:
            master = self._place.master is not None
            self._servers[address] = Server(address, self._access, self._pool, master=master)
        return self._servers[address]

    async def _load(self, server: Server) -> None:
        await _told(server, command("FUNCTION", "LOAD", "REPLACE", LIBRARY))
        log.info("library.loaded", server=server.where)

    # where the servers are --------------------------------------------------------------------------------------

    async def _locate(self, known: int) -> None:
        """Find out anew which server holds what, unless somebody has since ``known``."""
        async with self._locating:
            if self._located != known:
                return
            if self.cluster:
                self._held = await self._slots()
            elif self._place.master is not None:
                self._held = [await self._master(self._place.master)]
            else:
                self._held = [self._place.nodes[0]]
            self._located += 1
            for address in [a for a in self._servers if a not in set(self._held)]:
                self._servers.pop(address).close()

    async def _relocate(self) -> None:
        try:
            await self._locate(self._located)
        except Unavailable as exc:  # nobody knows better: what is known may work again
            log.warning("servers.unknown", reason=str(exc))
        else:
            self._doubted = False

    async def _master(self, name: str) -> Address:
        access = replace(
            self._access, user=self._place.sentinel_user, password=self._place.sentinel_password, database=0,
            seconds=self._access.connect_seconds,
        )  # fmt: skip
        words = command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", name)
        said: IngestError = Unavailable(f"no Sentinel of {self._nodes()} knows a master {name}")
        for node in self._place.nodes:
            try:
                found = await _asked(Server(node, access, 1), words)
            except IngestError as exc:
                said = exc
                continue
            if isinstance(found, list) and len(found) == 2:
                return found[0].decode(), int(found[1])
        raise said

    async def _slots(self) -> list[Address | None]:
        access = replace(self._access, seconds=self._access.connect_seconds)
        said: IngestError = Unavailable(f"no node of the Redis cluster {self._nodes()} answers")
        for node in dict.fromkeys((*(a for a in self._held if a is not None), *self._place.nodes)):
            try:
                found = await _asked(Server(node, access, 1), command("CLUSTER", "SLOTS"))
            except IngestError as exc:
                said = exc
                continue
            held: list[Address | None] = [None] * SLOTS
            for first, last, (host, port, *_), *_ in found:
                held[first : last + 1] = [(host.decode() or node[0], port)] * (last + 1 - first)
            if any(held):
                return held
        raise said

    def _nodes(self) -> str:
        return ",".join(f"{host}:{port}" for host, port in self._place.nodes)


async def _scanned(server: Server, words: Sequence[str | bytes], most: int | None) -> dict[bytes, None]:
    found: dict[bytes, None] = {}
    cursor = b"0"
    while True:
        cursor, keys = await _told(server, command("SCAN", cursor, *words, "COUNT", 1000))
        found.update(dict.fromkeys(keys))
        if int(cursor) == 0 or (most is not None and len(found) >= most):
            return found


async def _asked(server: Server, words: bytes) -> Any:
    """One answer from a server that is asked this once. Raises an IngestError."""
    try:
        return await _told(server, words)
    finally:
        server.close()


async def _told(server: Server, words: bytes) -> Any:
    (answer,) = await _answered(server, [(words,)])
    if isinstance(answer, IngestError):
        raise answer
    if isinstance(answer, Exception):
        raise Rejected(str(answer)) from answer
    return answer


async def _answered(server: Server, commands: Sequence[Sequence[Bytes]], *, asking: Sequence[bool] = ()) -> list[Any]:
    """One answer for each command; where ``asking``, the command has ASKING before it."""
    double = asking if any(asking) else ()
    async with server.borrowed() as exchange:
        await exchange.send([part for parts in commands for part in parts], len(commands) + sum(double))
        found = await exchange.answers()
    if not double:
        return found
    answers = iter(found)
    return [next(answers) if not twice else (next(answers), next(answers))[1] for twice in double]
