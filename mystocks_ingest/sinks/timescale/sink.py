"""Tables in PostgreSQL: upserted by key, read in key order.

Three ways in, each durable on return and each safe to repeat:

* up to 250 rows: one ``INSERT .. SELECT unnest(..)``, one round trip;
* rows of which a sample of keys is not stored yet: COPY straight into the table. A key that is there after all stops
  it, nothing of it remains, and the next way is taken;
* else: COPY into a temporary table, and from there those rows that are new or differ. Unchanged rows are only read:
  no new version, no lock, and a compressed chunk is not unpacked for them.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterable, Sequence
from datetime import date
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from asyncpg import exceptions as pg

from mystocks_ingest.errors import ConfigError, Rejected
from mystocks_ingest.flow.migrate import Ensure, ensured
from mystocks_ingest.logs import get
from mystocks_ingest.ports import Query
from mystocks_ingest.schema.tables import Table, writable
from mystocks_ingest.sinks.timescale import ddl
from mystocks_ingest.sinks.timescale.database import Connection, TimescaleDatabase, copied, transaction
from mystocks_ingest.sinks.timescale.encoding import (
    Decoder,
    copy_stream,
    key_columns,
    parameters,
    wired,
)
from mystocks_ingest.sinks.timescale.statements import Statements, select, wanted
from mystocks_ingest.sinks.timescale.target import TimescaleTarget

log = get("postgresql")

SMALL = 250  # rows up to which one statement with its values is the fastest way
_SHARED = 20_000  # rows from which two connections, and so two processes of the server, share a batch
_SAMPLE = 64  # keys looked up before rows are taken for new
_ANALYZED = 2_000  # rows from which the planner's guess about the staged rows is worth a look at them
_READ_BYTES = 1 << 21  # CSV decoded at a time: about 10 ms in a thread


class TimescaleSink:
    """Every PostgreSQL table of the file. Open with ``await TimescaleSink.opened(database, tables)``."""

    name = "postgresql"

    def __init__(self, database: TimescaleDatabase) -> None:
        self._database = database
        self._statements: dict[tuple[Table, tuple[str, ...]], Statements] = {}
        self._partitions: dict[Table, set[date]] = {}

    @classmethod
    async def opened(cls, database: TimescaleDatabase, tables: Iterable[Table], *, ensure: Ensure = ensured) -> Self:
        """A sink whose tables exist as described.

        Raises ConfigError (server, rights, extension), Unavailable, or UnsafeChange when a stored table differs.
        """
        await ensure(TimescaleTarget(database), tuple(tables))
        return cls(database)

    async def write(self, table: Table, rows: pa.RecordBatch) -> None:
        """Upsert by key; the rows hold each key once. Durable on return."""
        writable(table)
        if not rows.num_rows:
            return
        plan = self._plan(table, rows.schema.names)
        name = self._database.name_of(table.database_name)
        small = rows.num_rows <= SMALL
        ready = wired(rows, plan.columns) if small else await asyncio.to_thread(wired, rows, plan.columns)
        if table.is_timescale_hypertable and not self._database.where.timescale:
            await self._partition(table, ready)
        if small:
            values = parameters(ready, plan.columns)
            await self._database.run(name, lambda c: c.execute(plan.insert, *values))
        else:
            await self._load(name, plan, ready)

    async def _load(self, name: str, plan: Statements, rows: pa.RecordBatch) -> None:
        """A large batch, by two connections at once where it pays; each half is a transaction of its own."""
        where = self._database.where
        half = rows.num_rows // 2
        shared = rows.num_rows >= _SHARED and where.pool_size > 1
        parts = [rows.slice(0, half), rows.slice(half)] if shared else [rows]

        async def load(part: pa.RecordBatch) -> None:
            await self._database.run(name, lambda c: _loaded(c, plan, part, where.statement_seconds))

        ends = await asyncio.gather(*(load(part) for part in parts), return_exceptions=True)
        errors = [end for end in ends if isinstance(end, BaseException)]
        for error in sorted(errors, key=lambda e: isinstance(e, Rejected)):  # the rows are judged by a healthy server
            raise error

    async def read(self, table: Table, query: Query) -> pa.Table:
        """Rows in key order, with the names and types of the table's Arrow schema."""
        columns = wanted(table, query)
        batches = [batch async for batch in self.stream(table, query)]
        return pa.Table.from_batches(batches, schema=pa.schema([pa.field(c.name, c.arrow) for c in columns]))

    async def stream(self, table: Table, query: Query) -> AsyncGenerator[pa.RecordBatch, None]:
        """The same in batches of some 20,000 rows, as the server gives them."""
        columns = wanted(table, query)
        decoder = Decoder(tuple(columns))
        texts: asyncio.Queue[bytes | None] = asyncio.Queue(maxsize=2)
        begun = False

        async def copy(connection: Connection) -> None:
            nonlocal begun
            if begun:  # a second run would give the first rows again
                raise pg.ConnectionFailureError("the connection broke amid the rows")
            held: list[bytes] = []
            size = 0

            async def take(chunk: bytes) -> None:
                nonlocal begun, size
                held.append(bytes(chunk))
                size += len(chunk)
                if size >= _READ_BYTES:
                    begun = True
                    await texts.put(b"".join(held))
                    held.clear()
                    size = 0

            statement, values = select(table, query, columns)
            await connection.copy_from_query(statement, *values, output=take, format="csv")
            if held:
                begun = True
                await texts.put(b"".join(held))

        async def produce() -> None:
            try:
                await self._database.run(self._database.name_of(table.database_name), copy)
            finally:
                with contextlib.suppress(asyncio.QueueFull):
                    texts.put_nowait(None)

        producer = asyncio.create_task(produce(), name=f"read:{table.name}")
        try:
            while True:
                taking = asyncio.ensure_future(texts.get())
                await asyncio.wait({taking, producer}, return_when=asyncio.FIRST_COMPLETED)
                if not taking.done() and producer.done() and texts.empty():
                    taking.cancel()
                    break
                text = await taking
                if text is None:
                    break
                yield await asyncio.to_thread(decoder.decode, text)
            await producer
        finally:
            producer.cancel()
            await asyncio.wait({producer})

    @property
    def pool(self) -> tuple[int, int]:
        """Connections in use, and how many there may be."""
        return self._database.pool

    async def ping(self) -> None:
        for name in self._database.opened_names or (self._database.name_of("postgres"),):
            await self._database.run(name, lambda c: c.execute("SELECT 1"))

    def _plan(self, table: Table, given: Sequence[str]) -> Statements:
        columns = tuple(c for c in table.columns if c.name in given)
        known = (table, tuple(c.name for c in columns))
        plan = self._statements.get(known)
        if plan is None or plan.table != table:
            missing = [k for k in table.key if k not in given]
            if missing:
                raise ConfigError(f"rows for table {table.name} lack its key column {', '.join(missing)}")
            plan = self._statements[known] = Statements(table, columns)
        return plan

    async def _partition(self, table: Table, rows: pa.RecordBatch) -> None:
        """Make the native partitions that ``rows`` need and that are not there yet."""
        known = self._partitions.setdefault(table, set())
        days = pc.unique(rows.column(table.time_column or "").cast(pa.date32()).drop_null()).to_pylist()
        needed = {ddl.period(table, d) for d in days if ddl.FIRST_YEAR <= d.year <= ddl.LAST_YEAR} - known
        if not needed:
            return

        async def make(connection: Connection) -> None:
            async with transaction(connection, f"SELECT pg_advisory_xact_lock({ddl.LOCK})"):
                for start in sorted(needed):
                    await connection.execute(ddl.partition(table, start))

        try:
            await self._database.run(self._database.name_of(table.database_name), make)
        except (ConfigError, Rejected) as exc:
            if not isinstance(exc.__cause__, pg.InsufficientPrivilegeError | pg.CheckViolationError):
                raise
            # the rows are not lost: they go where other rows of those times, or all that nobody may sort, lie already
            log.warning("partitions.unmade", table=table.name, periods=len(needed), reason=str(exc))
        known |= needed


async def _loaded(connection: Connection, plan: Statements, rows: pa.RecordBatch, seconds: float) -> None:
    """A large batch: straight in where it seems new, else by way of a staging table."""
    table = plan.table
    names = [c.name for c in plan.columns]
    if not await connection.fetchval(plan.known, *_sampled(plan, rows)):
        try:
            await copied(connection, table.name, copy_stream(rows, plan.columns), names, seconds)
        except pg.UniqueViolationError:
            pass  # some of them are there, or another writer was faster
        else:
            return
    async with transaction(connection, plan.stage):
        await copied(connection, "mystocks_staged", copy_stream(rows, plan.columns), names, seconds)
        if rows.num_rows >= _ANALYZED:
            await connection.execute("ANALYZE mystocks_staged")
        await connection.execute(plan.merge_staged.format(*plan.bounds(rows)))


def _sampled(plan: Statements, rows: pa.RecordBatch) -> list[list[object]]:
    """Some keys of ``rows``, evenly spread, the first and the last among them."""
    at = pa.array(np.unique(np.linspace(0, rows.num_rows - 1, _SAMPLE).astype(np.int64)))
    keys = key_columns(plan.table)
    sample = pa.RecordBatch.from_arrays([rows.column(c.name).take(at) for c in keys], [c.name for c in keys])
    for column in keys:
        if rows.column(column.name).null_count:
            raise Rejected(f"{plan.table.name}: {column.name} is null, and a key cannot be")
    return parameters(sample, keys)
