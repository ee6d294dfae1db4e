"""What a server was sent before it fell silent is not carried out after its correction."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
from contract import ALL, Subject, ordinary
from servers.mariadb import MariaDB
from servers.postgresql import PostgreSQL
from test_mysql import MySQLSubject
from test_timescale_contract import PostgreSQLSubject

from mystocks_ingest.errors import Unavailable
from mystocks_ingest.ports import Sink
from mystocks_ingest.schema.tables import Table

PATIENT = 30.0


class Passage:
    """A wire that holds what its present connections send, and brings it to the server after their client is gone."""

    def __init__(self, host: str, port: int) -> None:
        self._target = host, port
        self._holding: set[asyncio.StreamWriter] = set()
        self._open: set[asyncio.StreamWriter] = set()
        self._held: list[tuple[asyncio.StreamWriter, bytes]] = []
        self.answered = self.ended = 0  # held connections on which the server spoke again, or which it ended
        self.port = 0

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Passage]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for far in tuple(self._open):
                far.transport.abort()
            await asyncio.sleep(0.05)  # for the sockets to be closed in the loop's next rounds

    def hold(self) -> None:
        self._holding = set(self._open)

    @property
    def held(self) -> int:
        return sum(len(read) for _, read in self._held)

    def deliver(self) -> None:
        for far, read in self._held:
            far.write(read)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far = await asyncio.open_connection(*self._target)
        self._open.add(far)
        back = asyncio.create_task(self._back(far_reader, writer, far))
        with suppress(OSError):
            while read := await reader.read(1 << 16):
                if far in self._holding:
                    self._held.append((far, read))
                else:
                    far.write(read)
                    await far.drain()
        if far not in self._holding:
            far.transport.abort()
        await back
        writer.transport.abort()

    async def _back(
        self, far_reader: asyncio.StreamReader, writer: asyncio.StreamWriter, far: asyncio.StreamWriter
    ) -> None:
        with suppress(OSError):
            while read := await far_reader.read(1 << 16):
                if far in self._holding:
                    self.answered += 1
                else:
                    writer.write(read)
        self._open.discard(far)
        if far in self._holding:
            self.ended += 1
        far.transport.abort()


async def until(passage: Passage, what: str, count: int = 1) -> None:
    async with asyncio.timeout(PATIENT):
        while getattr(passage, what) < count:  # noqa: ASYNC110 - bytes on a wire tell nobody
            await asyncio.sleep(0.01)


@pytest.fixture(params=["postgresql", "mysql"])
def subject(request: pytest.FixtureRequest, postgresql_server: PostgreSQL, mariadb_server: MariaDB) -> Subject:
    return PostgreSQLSubject(postgresql_server) if request.param == "postgresql" else MySQLSubject(mariadb_server)


@asynccontextmanager
async def opened(subject: Subject, table: Table) -> AsyncIterator[tuple[Passage, Sink]]:
    assert subject.server is not None
    async with (
        Passage("127.0.0.1", subject.server.port).opened() as passage,
        subject.opened(table, port=passage.port, pool=2) as sink,
    ):
        yield passage, sink


async def insisted(sink: Sink, *words: object) -> None:
    async with asyncio.timeout(PATIENT):
        while True:
            try:
                await sink.write(*words)  # type: ignore[arg-type]
            except Unavailable:
                await asyncio.sleep(0.05)
            else:
                return


async def test_a_statement_that_reaches_the_server_after_its_correction_changes_nothing(subject: Subject) -> None:
    table = subject.fresh()
    first, old, new = (ordinary(table, 1, version=version) for version in (0, 1, 2))
    async with opened(subject, table) as (passage, sink):
        await sink.write(table, first)
        passage.hold()
        writing = asyncio.create_task(sink.write(table, old))
        await until(passage, "held")
        writing.cancel()  # as whoever waited no longer than the time he had
        await asyncio.wait({writing})
        assert writing.cancelled()
        await insisted(sink, table, new)
        passage.deliver()
        async with asyncio.timeout(PATIENT):
            while not passage.answered + passage.ended:  # noqa: ASYNC110 - bytes on a wire tell nobody
                await asyncio.sleep(0.01)
        found = await sink.read(table, ALL)
    assert found["price"].to_pylist() == new.column("price").to_pylist()
    assert passage.ended, "the server ended the old connection"


async def test_a_connection_that_gave_up_waits_for_nobody_once_it_is_gone(subject: Subject) -> None:
    """Rows go in by the next connection at once, again and again: nothing is left to look for."""
    table = subject.fresh()
    async with opened(subject, table) as (passage, sink):
        for version in range(1, 4):
            await insisted(sink, table, ordinary(table, 1))
            passage.hold()
            before = passage.held
            writing = asyncio.create_task(sink.write(table, ordinary(table, 1, version=version)))
            await until(passage, "held", before + 1)
            writing.cancel()
            await asyncio.wait({writing})
            await insisted(sink, table, ordinary(table, 1, version=version))
            await until(passage, "ended")
        found = await sink.read(table, ALL)
    assert found["price"].to_pylist() == ordinary(table, 1, version=3).column("price").to_pylist()
