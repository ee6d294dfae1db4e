"""Tables in MySQL and MariaDB: upserted by key, read in key order.

Small batches are one ``INSERT ... ON DUPLICATE KEY UPDATE`` of ready-made tuples. Large ones go in as a file sent from
memory: straight into the table where it holds none of the rows yet (as fast as the server's own client), else into a
temporary table and from there by ``INSERT ... SELECT ... ON DUPLICATE KEY UPDATE``. Both merge: columns the rows do not
have keep their values, and no row is deleted.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator
from contextlib import aclosing
from datetime import date, datetime, timedelta
from functools import partial
from typing import Self, TypeVar

import numpy as np
import pyarrow as pa
from pymysql import err

from mystocks_ingest.errors import ConfigError
from mystocks_ingest.flow.migrate import Ensure, ensured
from mystocks_ingest.logs import get
from mystocks_ingest.ports import Query
from mystocks_ingest.schema.newest import guards, stale
from mystocks_ingest.schema.tables import Table, writable
from mystocks_ingest.sinks.mysql.database import MySQLDatabase
from mystocks_ingest.sinks.mysql.ddl import literal, names, quoted
from mystocks_ingest.sinks.mysql.decode import batch
from mystocks_ingest.sinks.mysql.encode import Batch, lines, prepared, tuples
from mystocks_ingest.sinks.mysql.faults import BULK_OFF, NO_STAGE, code_of
from mystocks_ingest.sinks.mysql.target import MySQLTarget
from mystocks_ingest.sinks.mysql.wire import Wire

T = TypeVar("T")
log = get("mysql")

SMALL = 1_000  # rows up to which one statement of tuples is the fastest
WHOLE = 100_000  # rows of one transaction, so that none outlasts its time limit
SLICE = 20_000  # rows encoded at a time
STATEMENT = 1 << 20  # bytes of a statement of tuples
PROBES = 24  # keys looked up before rows are taken for new
STAGE = "mystocks_stage"
_DAY_SECONDS = 86_400


class MySQLSink:
    """Every table of a MySQL or MariaDB server. Open with ``await MySQLSink.opened(db, tables)``."""

    name = "mysql"

    def __init__(self, database: MySQLDatabase) -> None:
        self._database = database
        self._turns: dict[str, asyncio.Lock] = {}  # one writer per table: two would only wait for each other's rows
        self._bulk = True

    @classmethod
    async def opened(cls, database: MySQLDatabase, tables: Iterable[Table], *, ensure: Ensure = ensured) -> Self:
        """A sink whose tables exist as described. Raises UnsafeChange where one could become so only with a loss."""
        sink = cls(database)
        await sink.ensure(tables, by=ensure)
        return sink

    async def ensure(self, tables: Iterable[Table], *, by: Ensure = ensured) -> None:
        """Create the databases and tables that are missing, and change those that differ where that is safe."""
        wanted = tuple(tables)
        twice = [name for name, count in Counter(self._place(t) for t in wanted).items() if count > 1]
        if twice:
            raise ConfigError(f"two tables would be {', '.join(twice)}: rename one, or leave MYSQL_DATABASE unset")
        await by(MySQLTarget(self._database), wanted)

    async def write(self, table: Table, rows: pa.RecordBatch) -> None:
        """Upsert by key; the rows hold each key once. Durable on return, up to ``WHOLE`` rows in one transaction."""
        writable(table)
        for at in range(0, rows.num_rows, WHOLE):
            ready = await asyncio.to_thread(prepared, table, rows.slice(at, WHOLE))
            async with self._turns.setdefault(self._place(table), asyncio.Lock()):
                small = ready.rows.num_rows <= SMALL or not self._bulk
                await self._database.run(partial(self._insert if small else self._load, ready))

    async def read(self, table: Table, query: Query) -> pa.Table:
        """Rows in key order, with the names and types of the table's Arrow schema."""
        statement, schema = self._select(table, query)

        async def work(wire: Wire) -> list[pa.RecordBatch]:
            return [part async for part in self._parts(wire, statement, schema)]

        return pa.Table.from_batches(await self._database.run(work, seconds=math.inf), schema)

    async def stream(self, table: Table, query: Query) -> AsyncGenerator[pa.RecordBatch, None]:
        """``read`` in batches of some thousand rows; the server sends no more than is being taken."""
        statement, schema = self._select(table, query)
        await self._database.ping()  # finds connections that died while idle
        async with self._database.lent() as wire, aclosing(self._parts(wire, statement, schema)) as parts:
            async for part in parts:
                yield part

    async def _parts(self, wire: Wire, statement: str, schema: pa.Schema) -> AsyncGenerator[pa.RecordBatch, None]:
        """The rows of a query, each step of it bounded in time, and not the whole, which may be long."""
        if wire.mariadb:
            statement = f"SET STATEMENT max_statement_time = {_DAY_SECONDS} FOR {statement}"
        else:
            hint = f"/*+ MAX_EXECUTION_TIME({_DAY_SECONDS * 1000}) */"
            statement = statement.replace("SELECT", f"SELECT {hint}", 1)
        async with aclosing(wire.rows(statement)) as found:
            while True:
                async with asyncio.timeout(self._database.access.statement_seconds):
                    packets = await anext(found, None)
                if packets is None:
                    return
                yield await asyncio.to_thread(batch, packets, schema)

    @property
    def pool(self) -> tuple[int, int]:
        """Connections in use, and how many there may be."""
        return self._database.pool

    async def ping(self) -> None:
        await self._database.ping()

    def _place(self, table: Table) -> str:
        return quoted(self._database.access.database or table.database_name, table.name)

    async def _insert(self, ready: Batch, wire: Wire) -> None:
        head = f"INSERT INTO {self._place(ready.table)} ({names(ready.names)}) VALUES ".encode()  # noqa: S608 - quoted
        tail = _merging(ready).encode()
        limit = min(STATEMENT, wire.packet_limit - 64) - len(head) - len(tail)

        def statements(rows: pa.RecordBatch) -> list[bytes]:
            return [head + piece + tail for piece in tuples(rows, limit)]

        many = ready.rows.num_rows > SMALL
        if many:
            await wire.transact("BEGIN")
        async for made in _ahead(statements, ready.rows, SLICE // 4):
            for number, statement in enumerate(made):
                if not many and number == 0 and len(made) > 1:
                    await wire.transact("BEGIN")
                    many = True
                await wire.run(statement)
        if many:
            await wire.commit()

    async def _load(self, ready: Batch, wire: Wire) -> None:
        if not wire.bulk:
            await self._insert(ready, wire)
            return
        try:
            if await self._unknown(wire, ready):
                await wire.transact("BEGIN")
                if _all_new(await wire.load(_load_data(self._place(ready.table), ready), _text(ready))):
                    await wire.commit()
                    return
                await wire.rollback()
            await self._merge(wire, ready)
        except err.Error as exc:
            if code_of(exc) not in BULK_OFF | NO_STAGE:
                raise
            log.info("bulk.off", reason=str(exc.args[-1]))
            self._bulk = False
            await wire.rollback()
            await self._insert(ready, wire)

    async def _unknown(self, wire: Wire, ready: Batch) -> bool:
        """Whether the table holds none of the rows, as far as a look at some of their keys tells."""
        places = np.unique(np.linspace(0, ready.rows.num_rows - 1, PROBES).astype(np.int64))
        some = ready.rows.take(pa.array(places)).select(list(ready.table.key))
        keys = [piece.decode() for row in range(some.num_rows) for piece in tuples(some.slice(row, 1), 1 << 20)]
        key = f"({names(ready.table.key)})"
        either = " UNION ALL ".join(
            f"(SELECT 1 FROM {self._place(ready.table)} WHERE {key} = {value} LIMIT 1)"  # noqa: S608 - quoted, escaped
            for value in keys
        )
        return not await wire.run(f"{either} LIMIT 1")

    async def _merge(self, wire: Wire, ready: Batch) -> None:
        stage = quoted(self._database.access.database or ready.table.database_name, STAGE)
        place, columns = self._place(ready.table), names(ready.names)
        await wire.run(f"DROP TEMPORARY TABLE IF EXISTS {stage}")
        await wire.run(f"CREATE TEMPORARY TABLE {stage} AS SELECT {columns} FROM {place} LIMIT 0")  # noqa: S608 - quoted
        await wire.transact("BEGIN")
        await wire.load(_load_data(stage, ready, strict=True), _text(ready))
        await wire.run(f"INSERT INTO {place} ({columns}) SELECT {columns} FROM {stage}{_merging(ready)}")  # noqa: S608
        await wire.commit()
        await wire.run(f"DROP TEMPORARY TABLE {stage}")

    def _select(self, table: Table, query: Query) -> tuple[str, pa.Schema]:
        known = [c.name for c in table.columns]
        unknown = [n for n in query.columns if n not in known]
        if unknown:
            raise ConfigError(f"table {table.name} has no column {', '.join(unknown)}; it has {', '.join(known)}")
        wanted = query.columns or tuple(known)
        schema = pa.schema([pa.field(n, table.schema.field(n).type) for n in wanted])
        terms = []
        if query.symbols:
            terms.append(f"{quoted('symbol')} IN ({', '.join(literal(s) for s in query.symbols)})")
        if query.window is not None and table.time_column is not None:
            kind = table.schema.field(table.time_column).type
            first, end = (_bound(day, kind) for day in (query.window.start, query.window.end))
            terms.append(f"{quoted(table.time_column)} >= {first} AND {quoted(table.time_column)} < {end}")
        where = f" WHERE {' AND '.join(terms)}" if terms else ""
        order = f" ORDER BY {names(table.key)}" if table.key else ""
        limit = f" LIMIT {query.limit:d}" if query.limit is not None else ""
        return f"SELECT {names(wanted)} FROM {self._place(table)}{where}{order}{limit}", schema  # noqa: S608 - quoted, escaped


def _bound(day: date, kind: pa.DataType) -> str:
    """The first moment of a Shanghai day as the column holds it."""
    if pa.types.is_timestamp(kind) and kind.tz is not None and kind.tz.upper() in ("UTC", "ETC/UTC", "Z", "+00:00"):
        if day == date.min:
            return f"'{day.isoformat()}'"
        return f"'{(datetime.combine(day, datetime.min.time()) - timedelta(hours=8)).isoformat(' ')}'"
    return f"'{day.isoformat()}'"


def _merging(ready: Batch) -> str:
    """What happens to a row whose key is there already.

    An assignment sees what those before it have changed. So the columns that tell whether the row is older come last,
    and the one that decides first comes at the very end: whatever was set by then is equal, and leaves it to the rest.
    """
    given = [n for n in ready.names if n not in ready.table.key] or [ready.table.key[0]]
    by = guards(ready.table, given)
    if not by:
        return " ON DUPLICATE KEY UPDATE " + ", ".join(f"{quoted(n)} = VALUES({quoted(n)})" for n in given)
    place = quoted(ready.table.name)
    older = stale(by, lambda n: f"{place}.{quoted(n)}", lambda n: f"VALUES({quoted(n)})")
    telling = [guard.name for guard in by]
    ordered = [*(n for n in given if n not in telling), *reversed(telling)]
    return " ON DUPLICATE KEY UPDATE " + ", ".join(
        f"{quoted(n)} = IF({older}, {place}.{quoted(n)}, VALUES({quoted(n)}))" for n in ordered
    )


def _load_data(place: str, ready: Batch, *, strict: bool = False) -> str:
    """``strict``: a value that does not fit ends the statement. Else it is a warning, and so is a key that is there."""
    targets, sets = [], []
    for number, (column, field) in enumerate(zip(ready.columns, ready.rows.schema, strict=True)):
        if pa.types.is_binary(field.type):  # its bytes need not be text
            targets.append(f"@b{number}")
            sets.append(f"{quoted(column.name)} = UNHEX(@b{number})")
        else:
            targets.append(quoted(column.name))
    extra = f" SET {', '.join(sets)}" if sets else ""
    return (
        f"LOAD DATA LOCAL INFILE 'rows' {'REPLACE ' if strict else ''}INTO TABLE {place} CHARACTER SET utf8mb4 "
        f"FIELDS TERMINATED BY '\\t' ESCAPED BY '\\\\' LINES TERMINATED BY '\\n' ({', '.join(targets)}){extra}"
    )


def _all_new(summary: str) -> bool:
    """Whether the server's summary of a load tells of no key that was there and of no value it changed."""
    counts = dict(re.findall(r"(Skipped|Warnings|Deleted): (\d+)", summary))
    return len(counts) == 3 and not any(int(n) for n in counts.values())


async def _text(ready: Batch) -> AsyncIterator[memoryview]:
    async for part in _ahead(lines, ready.rows, SLICE):
        yield part


async def _ahead(encode: Callable[[pa.RecordBatch], T], rows: pa.RecordBatch, step: int) -> AsyncIterator[T]:
    """``encode`` of one slice of rows after the other, in a thread, one slice ahead of whoever takes them."""
    loop = asyncio.get_running_loop()
    slices: Iterator[pa.RecordBatch] = (rows.slice(at, step) for at in range(0, rows.num_rows, step))
    following = loop.run_in_executor(None, encode, next(slices))
    try:
        for part in slices:
            made = await following
            following = loop.run_in_executor(None, encode, part)
            yield made
        yield await following
    finally:
        following.cancel()
