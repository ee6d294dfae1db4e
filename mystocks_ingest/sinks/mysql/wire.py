"""One connection: aiomysql's, with a handshake that keeps the password, a bulk way in and a bulk way out.

aiomysql's own ``local_infile`` reads whichever file the server names, and fails where that is longer than the server's
``max_allowed_packet``. Here the server may ask for no file at all: ``load`` answers its request with bytes from memory,
in packets that every server takes.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, AsyncIterable, Sequence
from typing import Any

from aiomysql.connection import Connection, MySQLResult
from pymysql import err
from pymysql.connections import MAX_PACKET_LEN
from pymysql.constants import CLIENT, COMMAND
from pymysql.protocol import OKPacketWrapper

from mystocks_ingest.errors import ConfigError
from mystocks_ingest.sinks.mysql.access import APPLICATION, Access

PACKET = 256 << 10  # bytes of a packet of bulk rows, where the server takes that
READ = 512 << 10  # bytes that make one batch of rows on the way out, about
NO_TLS = 2026


class Wire(Connection):  # type: ignore[misc] # aiomysql ships no types
    """An open connection. Made by ``Wire.opened``; ended by ``quit`` or ``abort``."""

    _reader: Any = None
    _kept: Any = None
    _transport: Any = None  # the last one; aiomysql forgets its writer when a login fails
    _result: Any
    _ssl_context: ssl.SSLContext | None
    _next_seq_id: int

    bulk = False  # whether the server lets us send rows as a file
    mariadb = False
    version: tuple[int, ...] = ()
    packet_limit = 1 << 20
    fresh = True  # has not served anybody yet
    used_at = 0.0

    def __init__(self, access: Access) -> None:
        context = access.context()
        super().__init__(
            host=access.host,
            port=access.port,
            user=access.user,
            password=access.password.encode().decode("latin1"),  # which aiomysql undoes: the server wants UTF-8
            charset="utf8mb4",
            autocommit=True,
            local_infile=True,
            ssl=context,
            program_name=APPLICATION,
        )
        self._local_infile = False  # announced to the server, and yet no file of ours is ever its to name
        self._access = access

    @property
    def _writer(self) -> Any:
        return self._kept

    @_writer.setter
    def _writer(self, writer: Any) -> None:
        self._kept = writer
        if writer is not None:
            self._transport = writer.transport

    async def opened(self) -> None:
        """Connect and log in. Whoever calls this bounds it in time."""
        try:
            await self._connect()
        except BaseException:
            self.abort()
            raise

    async def _request_authentication(self) -> None:
        if self._ssl_context is not None and not self.server_capabilities & CLIENT.SSL:
            if self._access.tls != "prefer":
                raise err.OperationalError(NO_TLS, "the server offers no TLS")
            self._ssl_context = None
            self.client_flag &= ~CLIENT.SSL
        await super()._request_authentication()

    async def _process_auth(self, plugin_name: bytes, auth_packet: object) -> object:
        if plugin_name == b"mysql_clear_password" and self._access.tls != "verify":
            raise err.OperationalError(NO_TLS, "the server asks for the password in clear text")
        return await super()._process_auth(plugin_name, auth_packet)

    @property
    def thread(self) -> int | None:
        """Its number on the server; None before the server's greeting."""
        given = getattr(self, "server_thread_id", None)
        return int(given[0]) if given else None

    def abort(self) -> None:
        """Drop the connection at once, whatever is under way; never raises, never waits."""
        if self._transport is not None:
            self._transport.abort()
        self._writer = self._reader = self._transport = None

    def quit(self) -> None:
        """Say good-bye and drop the connection; never waits."""
        if self._writer is not None:
            self._writer.write(b"\1\0\0\0" + bytes([COMMAND.COM_QUIT]))
        self.abort()

    @property
    def broken(self) -> bool:
        """Whether the other side has ended it, as far as that is known here."""
        return (
            self._reader is None
            or self._reader.at_eof()
            or self._reader.eof_received
            or self._reader.exception() is not None
            or self._writer.transport.is_closing()
        )

    async def run(self, statement: str | bytes) -> Sequence[tuple[object, ...]]:
        """The rows of a statement's answer; for one that gives none, an empty sequence."""
        await self.query(statement)
        return self._result.rows or ()

    async def transact(self, statement: str) -> None:
        """A statement whose answer does not matter, such as BEGIN."""
        await self.query(statement)

    async def load(self, statement: str, parts: AsyncIterable[memoryview]) -> str:
        """``LOAD DATA LOCAL``, fed from ``parts``; the server's summary (``Records: 3  Deleted: 0 ...``)."""
        await self._execute_command(COMMAND.COM_QUERY, statement)
        packet = await self._read_packet()
        if not packet.is_load_local_packet():
            raise err.OperationalError(2014, "the server did not ask for the rows")
        step = max(1024, min(PACKET, self.packet_limit // 2))
        try:
            async for part in parts:
                for at in range(0, len(part), step):
                    piece = part[at : at + step]
                    self._writer.write(len(piece).to_bytes(3, "little") + bytes([self._next_seq_id]) + piece)
                    self._next_seq_id = (self._next_seq_id + 1) % 256
                    await self._writer.drain()
        except OSError as exc:
            self.abort()
            raise err.OperationalError(2013, f"Lost connection while sending rows ({exc})") from exc
        except BaseException:
            self.abort()  # the server waits for rows: nothing else can be said to it
            raise
        self.write_packet(b"")
        answer = OKPacketWrapper(await self._read_packet())
        self.server_status = answer.server_status
        return bytes(answer.message).decode("utf-8", "replace")

    async def rows(self, statement: str) -> AsyncGenerator[bytes, None]:
        """The row packets of a query as they come, in runs of about half a megabyte that end where a row ends."""
        await self._execute_command(COMMAND.COM_QUERY, statement)
        head = MySQLResult(self)
        await head.init_unbuffered_query()
        head.unbuffered_active = False  # from here the packets are ours
        pending = bytearray()
        at, ended = 0, False
        while not ended:
            read = await self._reader.read(READ)
            if not read:
                raise err.OperationalError(2013, "Lost connection to MySQL server during query")
            pending += read
            while not ended and len(pending) - at >= 5:
                size = int.from_bytes(pending[at : at + 3], "little")
                if size == MAX_PACKET_LEN:
                    self.abort()
                    raise ConfigError("a row of 16 MB or more cannot be read: name fewer columns")
                if len(pending) - at < 4 + size:
                    break
                first = pending[at + 4]
                ended = first == 0xFE and size < 9
                if first == 0xFF:
                    err.raise_mysql_exception(bytes(pending[at + 4 : at + 4 + size]))
                at += 0 if ended else 4 + size
            if at >= READ or (ended and at):
                yield bytes(memoryview(pending)[:at])
                pending, at = pending[at:], 0
        self._result = None
