"""Connections to TDengine, each in a process of its own that can be killed.

A call has a deadline. A connection that failed or a process that is late is ended, and the call is sent again once on
a new one: every call of a sink may be repeated, since an insert is an upsert. After that the server counts as away.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from urllib.parse import quote

import pyarrow as pa

from mystocks_ingest import logs
from mystocks_ingest.errors import ConfigError, Unavailable
from mystocks_ingest.settings import Settings
from mystocks_ingest.sinks.tdengine.dialect import DATABASE_OPTIONS
from mystocks_ingest.sinks.tdengine.faults import Broken, broken, translated, unreached
from mystocks_ingest.sinks.tdengine.process import Answer, Child, Lost, spawn

log = logs.get("tdengine")

OLDEST = (3, 3, 2)  # composite keys, binary SQL
_TOGETHER = 500  # queries of one call, which has one deadline
_START_SECONDS = 60.0  # interpreter and imports on a loaded machine


@dataclass(frozen=True, slots=True)
class Options:
    """Where the server is and how long to wait for it. ``timeout_seconds`` bounds one call, not a whole write."""

    host: str = "127.0.0.1"
    port: int = 6041
    user: str = "root"
    password: str = "taosdata"  # noqa: S105 - the vendor's default
    connections: int = 2
    timeout_seconds: float = 30.0
    connect_seconds: float = 5.0
    tls: str = "off"
    tls_ca: str | None = None
    database_options: str = DATABASE_OPTIONS

    @classmethod
    def of(cls, settings: Settings) -> Options:
        return cls(
            settings.tdengine_host,
            settings.tdengine_port,
            settings.tdengine_user,
            settings.tdengine_password.get_secret_value(),
            settings.tdengine_pool_size,
            settings.tdengine_statement_seconds,
            settings.tdengine_connect_seconds,
            settings.tdengine_tls,
            str(settings.tdengine_tls_ca) if settings.tdengine_tls_ca is not None else None,
            settings.tdengine_database_options,
        )

    @property
    def place(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def dsn(self) -> str:
        """The address for taos-ws-py. All of it is in here: what is given beside a DSN makes it try localhost too."""
        hosts = ",".join(h if ":" in h else f"{h}:{self.port}" for h in self.host.replace(" ", "").split(","))
        settings: dict[str, str | int] = {
            "read_timeout": math.ceil(self.timeout_seconds),
            "conn_timeout": max(1, int(self.connect_seconds / 2)),
            "conn_retries": 1,
            "retry_backoff_ms": 100,
            "retry_backoff_max_ms": 500,
            "user_app": "mystocks_ingest",
        }
        if self.tls == "verify":
            settings |= {"tls_mode": "verify_identity"}
        if self.tls_ca:
            settings |= {"tls_ca": quote(self.tls_ca, safe="/")}
        options = "&".join(f"{name}={value}" for name, value in settings.items())
        who = f"{quote(self.user, safe='')}:{quote(self.password, safe='')}"
        return f"{'ws' if self.tls == 'off' else 'wss'}://{who}@{hosts}?{options}"


class Line:
    """One connection. Used by one caller at a time."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._child: Child | None = None
        self.closed = False

    @property
    def pid(self) -> int | None:
        """The process id of the connection, while it runs."""
        return self._child.pid if self._child is not None and self._child.alive else None

    async def ask(self, call: Answer, *, rows: pa.RecordBatch | None = None, resend: bool = True) -> Answer:
        """The child's answer; ``rows`` go along. Raises Rejected, Unavailable, ConfigError."""
        while True:
            child = await self._connected()
            try:
                return await self._asked(child, call, rows, self._options.timeout_seconds + 1)
            except Broken as exc:
                await self.end()
                log.warning("connection.lost", reason=str(exc), resend=resend)
                if not resend or self.closed:
                    raise unreached(str(exc), self._options.place) from exc
                resend = False

    async def rows(self, answer: Answer) -> pa.RecordBatch:
        """The rows that an answer announced."""
        child = self._child
        if child is None:
            raise unreached("the connection was closed", self._options.place)
        try:
            return await asyncio.to_thread(child.outgoing.take, answer["size"])
        except Lost as exc:
            raise unreached(str(exc), self._options.place) from exc

    async def end(self) -> None:
        """Kill the process and wait until it is gone."""
        child, self._child = self._child, None
        if child is not None:
            await child.ended()

    async def _connected(self) -> Child:
        if self.closed:
            raise Unavailable(f"the connections to TDengine at {self._options.place} are closed")
        child = self._child
        if child is None or not child.alive:
            await self.end()
            child = self._child = await spawn(self._options.dsn)
            try:
                await self._asked(child, {"do": "leave"}, None, _START_SECONDS)
            except Broken as exc:
                await self.end()
                raise unreached(str(exc), self._options.place) from exc
            log.info("connection.started", pid=child.pid)
        if not child.connected:
            await self._connect(child)
        return child

    async def _connect(self, child: Child) -> None:
        try:
            async with asyncio.timeout(self._options.connect_seconds + 0.5):
                answer = await child.ask({"do": "connect"})
        except (TimeoutError, Lost) as exc:
            await self.end()
            said = (
                f"no answer within {self._options.connect_seconds:g} s" if isinstance(exc, TimeoutError) else str(exc)
            )
            raise unreached(said, self._options.place) from exc
        except asyncio.CancelledError:
            await self.end()
            raise
        if "error" in answer:
            error = translated(answer["code"], answer["error"], self._options.place)
            raise error if isinstance(error, ConfigError) else unreached(answer["error"], self._options.place)
        _recent(str(answer["version"]), self._options.place)
        child.connected = True

    async def _asked(self, child: Child, call: Answer, rows: pa.RecordBatch | None, seconds: float) -> Answer:
        try:
            async with asyncio.timeout(seconds):
                if rows is not None:
                    call = call | {"size": await asyncio.to_thread(child.incoming.put, rows)}
                answer = await child.ask(call)
        except TimeoutError:
            raise Broken(f"no answer within {seconds:g} s, its process was ended") from None
        except Lost as exc:
            raise Broken(str(exc)) from exc
        except asyncio.CancelledError:
            await self.end()  # it is busy with what nobody waits for
            raise
        if "error" not in answer:
            return answer
        if broken(answer["code"]):
            raise Broken(answer["error"])
        raise translated(answer["code"], answer["error"], self._options.place)


class TDengineDatabase:
    """The connections to one server. ``async with TDengineDatabase(options) as database``; they open when needed."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self._lines = tuple(Line(options) for _ in range(options.connections))
        self._free = list(self._lines)
        self._room = asyncio.Semaphore(options.connections)
        logs.hide([options.password])

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for line in self._lines:
            line.closed = True
        await asyncio.gather(*(line.end() for line in self._lines))

    @property
    def pool(self) -> tuple[int, int]:
        """Connections in use, and how many there may be."""
        return self.options.connections - len(self._free), self.options.connections

    @property
    def pids(self) -> list[int]:
        """The processes that run now."""
        return [line.pid for line in self._lines if line.pid is not None]

    @asynccontextmanager
    async def line(self) -> AsyncIterator[Line]:
        """A connection for the block's own use, the most recently used free one; waits until one is free."""
        async with self._room:
            line = self._free.pop()
            try:
                yield line
            finally:
                self._free.append(line)

    async def ask(self, call: Answer, *, rows: pa.RecordBatch | None = None) -> Answer:
        """As Line.ask, on any connection."""
        async with self.line() as line:
            return await line.ask(call, rows=rows)

    async def execute(self, sql: str, *, resend: bool = True) -> None:
        """``resend``: should the connection be lost, once more, for the statement bears being run twice."""
        async with self.line() as line:
            await line.ask({"do": "execute", "sql": sql}, resend=resend)

    async def query(self, sql: str) -> list[list[object]]:
        """The rows of a small answer, with values that JSON has."""
        answer = await self.ask({"do": "query", "sql": sql})
        rows: list[list[object]] = answer["rows"]
        return rows

    async def queries(self, sqls: Sequence[str]) -> list[list[list[object]]]:
        """As ``query`` for several, in one call of the process: what it costs is the server's time."""
        found: list[list[list[object]]] = []
        for first in range(0, len(sqls), _TOGETHER):
            answer = await self.ask({"do": "queries", "sqls": list(sqls[first : first + _TOGETHER])})
            found += answer["rows"]
        return found


def _recent(version: str, place: str) -> None:
    numbers = tuple(int(n) for n in re.findall(r"\d+", version)[:3])
    if numbers < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise ConfigError(
            f"TDengine at {place} is version {version}, and {oldest} or newer is needed: upgrade the server"
        )
