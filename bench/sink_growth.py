"""Whether a row costs the same in a large table as in a small one, and whether memory stays flat: 10^5 to 10^7 rows.

Daily bars, session after session, 100,000 rows a write (one-minute bars for TDengine); only the writes are timed. Cost a
row over the last million against that over the first, and resident memory after 10^7 rows against after 10^6.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.compute as pc

from bench import mysql_write, postgresql_write, tdengine_write
from bench.measure import Measurement, timed
from mystocks_ingest.arrow import give_memory_back, keep_pandas_out
from mystocks_ingest.schema.tables import Database, Table
from mystocks_ingest.sinks.embedded import EmbeddedDatabase, EmbeddedSink
from mystocks_ingest.sinks.mysql import MySQLDatabase, MySQLSink
from mystocks_ingest.sinks.tdengine import TDengineDatabase, TDengineSink
from mystocks_ingest.sinks.timescale import Access, TimescaleDatabase, TimescaleSink

BATCH = 100_000
WRITES = 100
_DAYS = BATCH // postgresql_write.SYMBOLS
Write = Callable[[pa.RecordBatch], Awaitable[None]]


@asynccontextmanager
async def _postgresql() -> AsyncIterator[tuple[str, Table, pa.RecordBatch, Write]]:
    with postgresql_write.PostgreSQL(postgresql_write.OPTIONS) as server:
        table = postgresql_write.bar_table()
        where = Access(
            host=server.host, port=server.port, user=server.user, password=server.password,
            timescale=server.timescale, statement_seconds=300,
        )  # fmt: skip
        async with TimescaleDatabase(where) as database:
            sink = await TimescaleSink.opened(database, [table])
            kind = "hypertable" if server.timescale else "partitions"
            rows = postgresql_write.made(table, BATCH)
            yield f"PostgreSQL ({kind})", table, rows, lambda part: sink.write(table, part)


@asynccontextmanager
async def _mariadb() -> AsyncIterator[tuple[str, Table, pa.RecordBatch, Write]]:
    with mysql_write.MariaDB({**mysql_write.OPTIONS, "innodb_buffer_pool_size": "2G"}) as server:
        table = mysql_write.TABLE
        async with MySQLDatabase(mysql_write.access(server)) as database:
            sink = await MySQLSink.opened(database, [table])
            yield "MariaDB", table, mysql_write.made(BATCH), lambda part: sink.write(table, part)


@asynccontextmanager
async def _tdengine() -> AsyncIterator[tuple[str, Table, pa.RecordBatch, Write]]:
    with tdengine_write.server() as options:
        table = tdengine_write.TABLE
        async with TDengineDatabase(options) as database:
            sink = await TDengineSink.opened(database, [table])
            yield "TDengine", table, tdengine_write.made(BATCH)[0], lambda part: sink.write(table, part)


@asynccontextmanager
async def _embedded() -> AsyncIterator[tuple[str, Table, pa.RecordBatch, Write]]:
    table = postgresql_write.bar_table()
    with tempfile.TemporaryDirectory() as folder:
        async with EmbeddedDatabase(Path(folder)) as database:
            sink = await EmbeddedSink.opened(database, [table])
            rows = postgresql_write.made(table, BATCH)
            yield Database.EMBEDDED.value, table, rows, lambda part: sink.write(table, part)


def run() -> Iterator[Measurement]:
    keep_pandas_out()
    give_memory_back()
    for opened in (_embedded, _tdengine, _postgresql, _mariadb):
        yield from asyncio.run(_grown(opened()))


async def _grown(place: object) -> list[Measurement]:
    process, seconds, memory = psutil.Process(), [], {}
    async with place as (name, table, rows, write):  # type: ignore[attr-defined]
        for number in range(WRITES):
            part = _later(table, rows, number)
            seconds.append(await timed(lambda part=part: write(part)))
            if number + 1 in (10, WRITES):
                memory[number + 1] = process.memory_info().rss / 1e6
                print(f"  {name}: {(number + 1) * BATCH:,} rows, {sum(seconds):.1f} s", flush=True)
    million = 1_000_000 // BATCH
    first, last = sum(seconds[:million]), sum(seconds[-million:])
    return [
        Measurement(f"{name}: 10^7 rows", WRITES * BATCH / sum(seconds), "rows/s"),
        Measurement(f"{name}: a row's cost at 10^5, by that at 10^7", last / million / seconds[0], "times"),
        Measurement(f"{name}: a row's cost at 10^6, by that at 10^7", last / first, "times", 1.5, at_most=True),
        Measurement(f"{name}: memory at 10^7 beyond that at 10^6", memory[WRITES] - memory[10], "MB", 60, at_most=True),
    ]


def _later(table: Table, rows: pa.RecordBatch, number: int) -> pa.RecordBatch:
    """The rows, so many batches later."""
    name = table.time_column or "trade_date"
    place, column = rows.schema.get_field_index(name), rows.column(name)
    if pa.types.is_date(column.type):
        moved = pc.add(column.cast(pa.int32()), pa.scalar(number * _DAYS, pa.int32())).cast(column.type)
    else:
        minutes = tdengine_write.BATCH // tdengine_write.SYMBOLS
        step = number * minutes * 60_000 if column.type.unit == "ms" else number * minutes * 60_000_000
        moved = pc.add(column.cast(pa.int64()), step).cast(column.type)
    return rows.set_column(place, rows.schema.field(name), moved)
