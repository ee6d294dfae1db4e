"""A pool of connections, each bounded in time; a connection that died while idle goes unnoticed."""

from __future__ import annotations

import asyncio
import math
import random
import re
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self, TypeVar

from pymysql import err

from mystocks_ingest.errors import ConfigError, IngestError, Unavailable
from mystocks_ingest.logs import get
from mystocks_ingest.schema.tables import Database
from mystocks_ingest.sinks.mysql.access import Access
from mystocks_ingest.sinks.mysql.ddl import Server
from mystocks_ingest.sinks.mysql.faults import DEADLOCK, code_of, lost, translated
from mystocks_ingest.sinks.mysql.remains import Remains
from mystocks_ingest.sinks.mysql.wire import Wire

T = TypeVar("T")
log = get("mysql")

_OLDEST = {True: (10, 6), False: (8, 0, 17)}  # of MariaDB, of MySQL
_STRICT = (
    "STRICT_ALL_TABLES,STRICT_TRANS_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,ERROR_FOR_DIVISION_BY_ZERO,"
    "NO_ENGINE_SUBSTITUTION"
)
_PING_SECONDS = 2.0
_ATTEMPTS = 8  # against deadlocks with other programs


class MySQLDatabase:
    """``async with MySQLDatabase(access) as db: await db.run(work)``. Opening proves that the server answers."""

    def __init__(self, access: Access) -> None:
        self.access = access
        self.server = Server()  # as of the newest connection
        self._places = asyncio.Semaphore(access.pool_size)
        self._idle: deque[Wire] = deque()
        self._busy: set[Wire] = set()
        self._remains = Remains("mysql")

    async def __aenter__(self) -> Self:
        await self.ping()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends every connection at once: what is durable has been told, what is under way is given up."""
        for wire in self._idle:
            wire.quit()
        for wire in self._busy:
            wire.abort()
        self._idle.clear()
        for _ in range(3):  # asyncio closes the sockets in its next rounds
            await asyncio.sleep(0)

    async def ping(self) -> None:
        await self.run(lambda wire: wire.run("SELECT 1"), seconds=min(5.0, self.access.statement_seconds))

    async def run(self, work: Callable[[Wire], Awaitable[T]], *, seconds: float | None = None) -> T:
        """What ``work`` gives on a connection, within ``seconds`` (default: those of a statement; inf: it bounds itself).

        ``work`` must be repeatable: it is run again after a deadlock, and when the connection turns out to have died
        while idle. A transaction it leaves open is rolled back. Raises our errors in place of the driver's.
        """
        limit = self.access.statement_seconds if seconds is None else seconds
        fresh, attempt = False, 0
        while True:
            attempt += 1
            try:
                async with self._lent(fresh=fresh, seconds=limit) as wire:
                    async with asyncio.timeout(None if math.isinf(limit) else limit):
                        return await work(wire)
            except _Again as exc:
                if attempt >= _ATTEMPTS:
                    raise translated(exc.error, self.access) from exc.error
                fresh = lost(exc.error)
                if not fresh:
                    await asyncio.sleep(random.uniform(0, 0.01 * 2**attempt))  # noqa: S311 - jitter

    @asynccontextmanager
    async def lent(self, *, fresh: bool = False) -> AsyncIterator[Wire]:
        """A connection for a while; errors are ours. Who borrows bounds each step in time."""
        try:
            async with self._lent(fresh=fresh) as wire:
                yield wire
        except _Again as exc:
            raise translated(exc.error, self.access) from exc.error

    @property
    def pool(self) -> tuple[int, int]:
        """Connections in use, and how many there may be."""
        return len(self._busy), self.access.pool_size

    @asynccontextmanager
    async def apart(self) -> AsyncIterator[Wire]:
        """A new connection beside the pool, for what holds it long; it ends with the block."""
        wire = await self._connected()
        self._busy.add(wire)
        try:
            yield wire
        finally:
            self._busy.discard(wire)
            wire.quit()

    @asynccontextmanager
    async def _lent(self, *, fresh: bool, seconds: float = math.inf) -> AsyncIterator[Wire]:
        wire = await self._acquired(fresh=fresh)
        young = wire.fresh
        sound = False
        done = False  # nothing it was sent is still to be carried out
        try:
            if self._remains:
                async with asyncio.timeout(min(seconds, self.access.statement_seconds)):
                    await self._remains.ended(wire)
            yield wire
            sound = done = True
        except TimeoutError as exc:
            limit = min(seconds, self.access.statement_seconds)
            raise Unavailable(f"{self.access} did not answer within {limit:g} s") from exc
        except (err.Error, OSError) as exc:
            if lost(exc):
                if not young:
                    self._drop_idle()  # they are as old, or older
                    raise _Again(exc) from exc
                raise translated(exc, self.access) from exc
            sound = await self._settled(wire)
            if code_of(exc) == DEADLOCK:
                raise _Again(exc) from exc
            error = translated(exc, self.access)
            if error is exc:
                raise
            raise error from exc
        except IngestError:
            sound = await self._settled(wire)
            raise
        finally:
            self._busy.discard(wire)
            if sound and not wire.broken and not wire.get_transaction_status():
                wire.fresh = False
                wire.used_at = asyncio.get_running_loop().time()
                self._idle.append(wire)
            else:
                if not done:
                    self._remains.dropped(wire)
                wire.abort()
            self._places.release()

    async def _settled(self, wire: Wire) -> bool:
        """Roll back what a refused statement left open; whether the connection is good for more."""
        if wire.broken:
            return False
        try:
            async with asyncio.timeout(_PING_SECONDS):
                await wire.rollback()
        except (err.Error, OSError, TimeoutError):
            return False
        return True

    async def _acquired(self, *, fresh: bool) -> Wire:
        try:
            async with asyncio.timeout(self.access.statement_seconds + self.access.connect_seconds):
                await self._places.acquire()
        except TimeoutError as exc:
            raise Unavailable(
                f"{self.access}: all {self.access.pool_size} connections are busy (MYSQL_POOL_SIZE)"
            ) from exc
        try:
            wire = None if fresh else await self._rested()
            if wire is None:
                wire = await self._connected()
        except BaseException:
            self._places.release()
            raise
        self._busy.add(wire)
        return wire

    async def _rested(self) -> Wire | None:
        """An idle connection that still lives, as far as can be told; those that do not are dropped."""
        now = asyncio.get_running_loop().time()
        while self._idle:
            wire = self._idle.pop()
            age = now - wire.used_at
            if wire.broken or age > self.access.recycle_seconds:
                wire.quit()
            elif age < self.access.idle_seconds or await self._answers(wire):
                return wire
        return None

    async def _answers(self, wire: Wire) -> bool:
        alive = False
        try:
            async with asyncio.timeout(_PING_SECONDS):
                await wire.ping(reconnect=False)
            alive = True
        except (err.Error, OSError, TimeoutError):
            log.info("connection.dropped", reason="it died while idle")
        finally:
            if not alive:
                wire.abort()
        return alive

    async def _connected(self) -> Wire:
        wire = Wire(self.access)
        try:
            async with asyncio.timeout(self.access.connect_seconds):
                await wire.opened()
                self._remains.followed(wire)
                await self._prepare(wire)
        except TimeoutError as exc:
            wire.abort()
            raise Unavailable(f"{self.access} did not answer within {self.access.connect_seconds:g} s") from exc
        except (err.Error, OSError, RuntimeError) as exc:
            wire.abort()
            raise translated(exc, self.access) from exc
        except BaseException:
            wire.abort()
            raise
        return wire

    async def _prepare(self, wire: Wire) -> None:
        """A session in which nothing is cut short in silence, and in which no clock but UTC is read."""
        ((said, packet, bulk, lower),) = await wire.run(
            "SELECT VERSION(), @@max_allowed_packet, @@local_infile, @@lower_case_table_names"
        )
        wire.mariadb = "mariadb" in str(said).lower()
        wire.version = version(str(said))
        kind = "MariaDB" if wire.mariadb else "MySQL"
        if wire.version < (oldest := _OLDEST[wire.mariadb]):
            raise ConfigError(
                f"{self.access} is {kind} {said}; {kind} {'.'.join(map(str, oldest))} or later is needed: upgrade it"
            )
        self.server = Server(Database(kind), wire.version, str(lower) == "1")
        wire.packet_limit = int(str(packet))
        wire.bulk = str(bulk) in ("1", "ON")
        seconds = self.access.statement_seconds
        limit = f"max_statement_time = {seconds:g}" if wire.mariadb else f"max_execution_time = {int(seconds * 1000)}"
        await wire.run("SET NAMES utf8mb4")
        await wire.run(
            f"SET SESSION sql_mode = '{_STRICT}', time_zone = '+00:00', sql_notes = 0, net_write_timeout = 600, {limit}, "
            f"innodb_lock_wait_timeout = {max(1, min(50, int(seconds * 0.8)))}"
        )

    def _drop_idle(self) -> None:
        while self._idle:
            self._idle.pop().abort()


class _Again(Exception):
    """Worth another try: a deadlock, or the loss of a connection that had served before and may have died since."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


def version(said: str) -> tuple[int, ...]:
    """``5.5.5-10.11.19-MariaDB-log`` -> (10, 11, 19)."""
    return tuple(int(n) for n in re.findall(r"\d+", said.removeprefix("5.5.5-").split("-")[0])[:3])
