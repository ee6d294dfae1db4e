"""PostgreSQL: daily bars upserted by key, beside psql's own ``\\copy`` and pandas.to_sql.

One million rows, as whole-market calls give them (session after session), into the program's own table of daily bars:
a hypertable where TimescaleDB is installed beside the server, native partitions by year else. psql copies a finished
file into the same keyed table; ours starts from Arrow, so its encoding is inside the timing. Turns alternate, and each
side's median counts. to_sql appends fewer rows to a table of the same key: it has no upsert.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy

from bench.measure import Measurement, loop_stalls, timed
from mystocks_ingest.market.datasets import BAR_1D
from mystocks_ingest.ports import Query
from mystocks_ingest.schema.tables import Column, Table, load
from mystocks_ingest.sinks.timescale import Access, TimescaleDatabase, TimescaleSink
from mystocks_ingest.sinks.timescale.encoding import copy_stream, wired

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))
from servers.postgresql import PostgreSQL  # noqa: E402 - the tests' private server

ROWS = 1_000_000
SYMBOLS = 5_000
BATCH = 100_000  # the writer's
ROUNDS = 3
PEER_ROWS = 50_000
OPTIONS = {"shared_buffers": "1GB", "max_wal_size": "8GB", "checkpoint_timeout": "30min"}


def bar_table(*, numeric: bool = False) -> Table:
    """The table of daily bars as shipped; ``numeric``: with prices as NUMERIC(10,4), as many users write them."""
    table = load(ROOT / "config" / "tables.yaml").placed(("postgresql",)).holder(BAR_1D)
    if not numeric:
        return table

    def exact(column: Column) -> Column:
        price = column.name in ("open", "high", "low", "close", "pre_close")
        return replace(column, type="NUMERIC", precision=10, scale=4) if price else column

    return replace(table, name="bar_1d_numeric", columns=tuple(exact(c) for c in table.columns))


def made(table: Table, rows: int = ROWS) -> pa.RecordBatch:
    """Bars of 5,000 symbols, session after session; prices of four decimals."""
    chance = np.random.default_rng(7)
    sessions = -(-rows // SYMBOLS)
    symbols = pa.array([f"{n:06d}.{'SH' if n % 2 else 'SZ'}" for n in range(SYMBOLS)])
    days = np.array([date(2024, 1, 2) + timedelta(i) for i in range(sessions)], "datetime64[D]")

    def prices() -> pa.Array:
        return pc.divide(pa.array(chance.integers(10_000, 3_000_000, rows)), pa.scalar(10_000.0))

    columns: dict[str, pa.Array] = {
        "symbol": symbols.take(pa.array(np.tile(np.arange(SYMBOLS), sessions)[:rows])),
        "trade_date": pa.array(np.repeat(days, SYMBOLS)[:rows]),
        **{name: prices() for name in ("open", "high", "low", "close", "pre_close", "turnover")},
        "volume": pa.array(chance.integers(1, 10**7, rows) * 100),
        "amount": pc.divide(pa.array(chance.integers(10**8, 10**12, rows)), pa.scalar(100.0)),
        "provisional": pa.array(np.zeros(rows, bool)),
        "source": pa.array(["tushare"] * rows),
        "fetched_at": pa.array([datetime(2026, 11, 20, 12, tzinfo=UTC)] * rows, pa.timestamp("ms", "UTC")),
    }
    schema = pa.schema([pa.field(f.name, f.type) for f in table.schema])
    return pa.RecordBatch.from_arrays([columns[f.name].cast(f.type) for f in schema], schema=schema)


def run() -> Iterator[Measurement]:
    with PostgreSQL(OPTIONS) as server:
        yield from asyncio.run(_bars(server, bar_table()))
        yield from asyncio.run(_bars(server, bar_table(numeric=True)))


async def _bars(server: PostgreSQL, table: Table) -> list[Measurement]:
    rows = made(table)
    columns = table.columns
    ready = wired(rows, columns)
    binary, text = server.folder / "rows.bin", server.folder / "rows.csv"
    with binary.open("wb") as out:
        async for part in copy_stream(ready, columns):
            out.write(part)
    where = Access(
        host=server.host, port=server.port, user=server.user, password=server.password, timescale=server.timescale,
        statement_seconds=300,
    )  # fmt: skip
    name = f'"{table.name}"'
    first, again, whole, by_binary, by_csv, stalls, idle = [], [], [], [], [], [], []
    async with TimescaleDatabase(where) as database:
        sink = await TimescaleSink.opened(database, [table])

        async def ours(step: int = BATCH) -> None:
            for at in range(0, rows.num_rows, step):
                await sink.write(table, rows.slice(at, step))

        async def psql(command: str) -> None:
            await asyncio.to_thread(server.psql, command)

        await ours()  # makes the partitions; psql needs them, and nobody's time counts it
        await psql(f"\\copy (SELECT * FROM {name} ORDER BY trade_date, symbol) to '{text}' csv")  # noqa: S608 - our own table
        for file in (binary, text):
            file.chmod(0o644)
        for _ in range(ROUNDS):
            await _emptied(psql, name)
            seconds, stall = await loop_stalls(lambda: timed(lambda: psql(f"\\copy {name} from '{binary}' binary")))
            by_binary.append(seconds)
            idle.append(stall)
            await _emptied(psql, name)
            seconds, stall = await loop_stalls(lambda: timed(ours))
            first.append(seconds)
            stalls.append(stall)
            seconds, stall = await loop_stalls(lambda: timed(ours))
            again.append(seconds)
            stalls.append(stall)
            await _emptied(psql, name)
            by_csv.append(await timed(lambda: psql(f"\\copy {name} from '{text}' csv")))
            await _emptied(psql, name)
            whole.append(await timed(lambda: ours(ROWS)))
        assert server.psql(f"SELECT count(*) FROM {name}") == str(rows.num_rows)  # noqa: S608 - our own table
        read = await timed(lambda: sink.read(table, Query()))
        small, commits = [], []
        await psql("CREATE TABLE one_row AS SELECT 1 AS n; GRANT ALL ON one_row TO PUBLIC")
        for n in range(60):
            small.append(await timed(lambda n=n: sink.write(table, rows.slice(n * 250, 250))))
            commits.append(await _committed(database))
        await psql("DROP TABLE one_row")
        await _emptied(psql, name)
    appended = await asyncio.to_thread(_to_sql, server, table, rows.slice(0, PEER_ROWS))
    what = ("hypertable" if server.timescale else "partitions") + (", NUMERIC" if "numeric" in table.name else "")
    loaded, binaries = ROWS / statistics.median(first), ROWS / statistics.median(by_binary)
    csvs, rerun = ROWS / statistics.median(by_csv), ROWS / statistics.median(again)
    label = f"PostgreSQL ({what}): "
    return [
        Measurement(label + "first load, by \\copy binary", loaded, "rows/s", 0.85, binaries),
        Measurement(label + "first load in one batch, by the same", ROWS / statistics.median(whole), "rows/s", None,
                    binaries),
        Measurement(label + "same rows again, by \\copy csv", rerun, "rows/s", 1.0, csvs),
        Measurement(label + "first load, by pandas.to_sql", loaded, "rows/s", 4, PEER_ROWS / appended),
        Measurement(label + "longest stall of the loop", max(stalls) * 1000, "ms", 20, at_most=True),
        Measurement(label + "longest stall of an idle loop beside psql", max(idle) * 1000, "ms"),
        Measurement(label + "an update of one row beside it, median", statistics.median(commits) * 1000, "ms"),
        Measurement(label + "250 rows, median", statistics.median(small) * 1000, "ms", 5, at_most=True),
        Measurement(label + "read back", ROWS / read, "rows/s"),
    ]  # fmt: skip


async def _committed(database: TimescaleDatabase) -> float:
    """Seconds of the smallest durable change on a connection like ours: what the disk and the scheduler cost alone."""
    name = database.opened_names[0]
    return await timed(lambda: database.run(name, lambda c: c.execute("UPDATE one_row SET n = n + 1")))


async def _emptied(psql: Callable[[str], Awaitable[None]], name: str) -> None:
    await psql(f"TRUNCATE {name}")
    await psql("CHECKPOINT")


def _to_sql(server: PostgreSQL, table: Table, rows: pa.RecordBatch) -> float:
    """Seconds in which pandas appends ``rows`` to the emptied table, the frame being made beforehand."""
    frame = rows.to_pandas(date_as_object=True)
    engine = sqlalchemy.create_engine(server.url(user=server.user).replace("postgresql:", "postgresql+psycopg:"))
    began = time.perf_counter()
    frame.to_sql(table.name, engine, if_exists="append", index=False)
    seconds = time.perf_counter() - began
    engine.dispose()
    return seconds
