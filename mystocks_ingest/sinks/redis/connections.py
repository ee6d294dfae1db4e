"""Connections to one Redis server: a bounded pool over the package's own connection, for raw bytes both ways."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import SecretStr
from redis import exceptions as redis_errors
from redis.asyncio.connection import Connection, SSLConnection

from mystocks_ingest.errors import ConfigError
from mystocks_ingest.logs import hide
from mystocks_ingest.settings import Settings
from mystocks_ingest.sinks.redis.failures import Lost, translated

Address = tuple[str, int]
Bytes = bytes | memoryview
_REPLIES_A_TURN = 50  # replies read before other tasks get their turn


@dataclass(frozen=True, slots=True)
class Access:
    """How a server is spoken to. ``seconds`` bounds one batch's sending and answering."""

    user: str | None = None
    password: str | None = field(default=None, repr=False)
    database: int = 0
    client_name: str = "mystocks-ingest"
    tls: Literal["off", "require", "verify"] = "off"
    tls_ca: Path | None = None
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    connect_seconds: float = 3.0
    seconds: float = 10.0

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """What the settings say. Raises ConfigError."""
        files = (settings.redis_tls_ca, settings.redis_tls_certificate, settings.redis_tls_key)
        for name, file in zip(("CA", "CERTIFICATE", "KEY"), files, strict=True):
            if file is not None and not file.is_file():
                raise ConfigError(f"REDIS_TLS_{name}: there is no file {file}: name a PEM file")
        return cls(
            settings.redis_user,
            revealed(settings.redis_password),
            settings.redis_db,
            tls=settings.redis_tls,
            tls_ca=settings.redis_tls_ca,
            tls_certificate=settings.redis_tls_certificate,
            tls_key=settings.redis_tls_key,
            connect_seconds=settings.redis_connect_seconds,
            seconds=settings.redis_seconds,
        )

    def connection(self, address: Address) -> Connection:
        """A connection, not yet open."""
        kind: type[Connection] = Connection
        tls: dict[str, Any] = {}
        if self.tls != "off":
            kind = SSLConnection
            tls = {
                "ssl_ca_certs": _text(self.tls_ca),
                "ssl_certfile": _text(self.tls_certificate),
                "ssl_keyfile": _text(self.tls_key),
                "ssl_cert_reqs": "required" if self.tls == "verify" else "none",
                "ssl_check_hostname": self.tls == "verify",
            }
        return kind(
            host=address[0],
            port=address[1],
            db=self.database,
            username=self.user,
            password=self.password,
            client_name=self.client_name,
            protocol=3,
            socket_connect_timeout=self.connect_seconds,
            socket_timeout=None,  # one deadline over the whole exchange, set by whoever exchanges
            socket_keepalive=True,
            socket_read_size=1 << 16,
            driver_info=None,
            **tls,
        )


def revealed(secret: SecretStr | None) -> str | None:
    """The secret itself; no log line or error text shows it from here on."""
    text = secret.get_secret_value() if secret is not None else None
    hide([text])
    return text


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


class Server:
    """One server's connections, at most ``most`` of them. Errors are those of errors.py, NoLibrary and Moved."""

    def __init__(self, address: Address, access: Access, most: int, *, master: bool = False) -> None:
        """``master``: each new connection must lead to a master, as Sentinel's clients have to see to."""
        self.address = address
        self.where = f"{address[0]}:{address[1]}"
        self._access = access
        self._master = master
        self._closed = False
        self._free: list[Connection] = []
        self._turn = asyncio.Semaphore(most)
        self.most = most
        self.busy = 0

    @asynccontextmanager
    async def borrowed(self) -> AsyncIterator[Exchange]:
        """A connection for one exchange. It is dropped unless every answer was read."""
        try:
            async with self._turn, asyncio.timeout(self._access.seconds):
                exchange = Exchange(await self._connected(), self.where)
                self.busy += 1
                try:
                    yield exchange
                finally:
                    self.busy -= 1
                    if exchange.clean and not self._closed:
                        self._free.append(exchange.connection)
                    else:
                        drop(exchange.connection)
        except (redis_errors.RedisError, OSError, TimeoutError) as exc:
            error = translated(exc, f"{self.where}{' (TLS, by REDIS_TLS)' if self._access.tls != 'off' else ''}")
            if isinstance(error, Lost):
                self._forget()  # what ended one connection has most likely ended its idle neighbours
            raise error from exc

    async def _connected(self) -> Connection:
        """An idle connection that is still open, or a new one."""
        while self._free:
            connection = self._free.pop()
            try:
                if _open(connection) and not await connection.can_read():
                    return connection
            except redis_errors.ConnectionError:
                pass  # the server closed it while it was idle
            drop(connection)
        connection = self._access.connection(self.address)
        try:
            await connection.connect()  # type: ignore[no-untyped-call]  # the package's own gap
            if self._master:
                await _require_master(connection)
        except BaseException:
            drop(connection)
            raise
        return connection

    def close(self) -> None:
        """Close the idle connections; those in use are closed by their users' end."""
        self._closed = True
        self._forget()

    def _forget(self) -> None:
        while self._free:
            drop(self._free.pop())


class Exchange:
    """Commands out, answers in, on one connection."""

    def __init__(self, connection: Connection, where: str) -> None:
        self.connection = connection
        self._where = where
        self._owed = 0

    @property
    def clean(self) -> bool:
        """Whether nothing is on the way, so that the next user's answers are his own."""
        return self._owed == 0 and _open(self.connection)

    async def send(self, parts: Iterable[Bytes], commands: int) -> None:
        """Send so many complete commands. Waits while the server does not keep up."""
        self._owed += commands
        await self.connection.send_packed_command(parts, check_health=False)  # type: ignore[arg-type]  # memoryviews go too

    async def answers(self) -> list[Any]:
        """The answers to all that was sent, errors among them as values, in our words."""
        found: list[Any] = []
        while self._owed:
            try:
                found.append(await self.connection.read_response(disconnect_on_error=False))
            except redis_errors.ResponseError as exc:
                found.append(translated(exc, self._where))
            self._owed -= 1
            if len(found) % _REPLIES_A_TURN == 0:
                await asyncio.sleep(0)
        return found


def _open(connection: Connection) -> bool:
    """Whether no end has closed it; after a reset the package's own answer is still yes."""
    writer = connection._writer  # noqa: SLF001 - nothing public tells
    return writer is not None and not writer.is_closing()


async def _require_master(connection: Connection) -> None:
    await connection.send_command("ROLE", check_health=False)
    if (await connection.read_response())[0] != b"master":
        raise redis_errors.ReadOnlyError("it is no master")


def drop(connection: Connection) -> None:
    """Close without waiting for anything: what was not sent is not sent."""
    writer = connection._writer  # noqa: SLF001 - the package's own way waits until a hung server has read all
    connection._parser.on_disconnect()  # type: ignore[no-untyped-call]  # noqa: SLF001 - as its own way does
    connection._reader = connection._writer = None  # noqa: SLF001 - likewise
    if writer is not None:
        writer.transport.abort()
