"""MariaDB: daily bars upserted, beside the server's own client and aiomysql's ``executemany``.

One million rows, as whole-market calls give them (session after session), with text and NUMERIC columns, into a table
keyed by symbol and day. The client reads a finished file; ours starts from Arrow, so its encoding is inside the timing.
Both write what ``innodb_flush_log_at_trx_commit=1`` makes durable. Turns alternate, and each side's median counts.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import aiomysql
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bench.measure import Measurement, loop_stalls, timed
from mystocks_ingest.ports import Query
from mystocks_ingest.schema.tables import Column, Database, Table
from mystocks_ingest.sinks.mysql import Access, MySQLDatabase, MySQLSink
from mystocks_ingest.sinks.mysql.ddl import quoted
from mystocks_ingest.sinks.mysql.encode import lines

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from servers.mariadb import MariaDB

ROWS = 1_000_000
SYMBOLS = 5_000
BATCH = 100_000  # the writer's
ROUNDS = 3
PEER_ROWS = 50_000
OPTIONS = {"innodb_buffer_pool_size": "1G", "innodb_log_file_size": "512M", "innodb_flush_log_at_trx_commit": "1"}
PRICES = ("open", "high", "low", "close", "pre_close")
TABLE = Table(
    "bar",
    Database.MARIADB,
    "bench",
    (
        Column("symbol", "VARCHAR", 20, nullable=False),
        Column("trade_date", "DATE", nullable=False),
        *(Column(name, "NUMERIC", precision=10, scale=4) for name in PRICES),
        Column("volume", "BIGINT", nullable=False),
        Column("amount", "NUMERIC", precision=20, scale=4),
        Column("turnover", "DOUBLE"),
        Column("name", "VARCHAR", 50),
        Column("source", "VARCHAR", 20, nullable=False),
        Column("fetched_at", "DATETIME", 3, nullable=False, canonical=pa.timestamp("ms", "UTC")),
    ),
    ("symbol", "trade_date"),
    time_column="trade_date",
)


def made(rows: int = ROWS) -> pa.RecordBatch:
    """Bars of 5,000 symbols, session after session; prices of four decimals."""
    chance = np.random.default_rng(7)
    sessions = rows // SYMBOLS
    symbols = pa.array([f"{n:06d}.{'SH' if n % 2 else 'SZ'}" for n in range(SYMBOLS)])
    names = pa.array([f"平安'银行{n}" for n in range(SYMBOLS)])
    which = pa.array(np.tile(np.arange(SYMBOLS), sessions))
    days = np.repeat(np.array([date(2024, 1, 2) + timedelta(i) for i in range(sessions)], "datetime64[D]"), SYMBOLS)

    def exact(top: int, kind: pa.DataType) -> pa.Array:
        return pc.divide(pa.array(chance.integers(10_000, top, rows)), pa.scalar(10_000.0)).cast(kind, safe=False)

    columns = [
        symbols.take(which),
        pa.array(days),
        *(exact(3_000_000, pa.decimal128(10, 4)) for _ in PRICES),
        pa.array(chance.integers(1, 10**9, rows) * 100),
        exact(10**13, pa.decimal128(20, 4)),
        pa.array(chance.random(rows)),
        names.take(which),
        pa.array(["tushare"] * rows),
        pa.array([datetime(2026, 11, 20, 12, tzinfo=UTC)] * rows, pa.timestamp("ms", "UTC")),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=pa.schema([pa.field(f.name, f.type) for f in TABLE.schema]))


def run() -> Iterator[Measurement]:
    rows = made()
    with MariaDB(OPTIONS) as server:
        yield from asyncio.run(_measured(server, rows))
    with MariaDB({**OPTIONS, "max_allowed_packet": "64K"}) as server:
        few = rows.slice(0, ROWS // 4)
        turns = asyncio.run(_turns(server, few))
    yield Measurement(
        "MariaDB: first load with max_allowed_packet=64K, by LOAD DATA of mariadb",
        few.num_rows / turns.first, "rows/s", 0.85, few.num_rows / turns.client,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Turns:
    """Median seconds of each side, and of the loop's longest stalls: while we write, and while it only waits."""

    first: float
    again: float
    client: float
    stall: float
    idle: float


def access(server: MariaDB) -> Access:
    return Access(server.host, server.port, server.user, server.password, statement_seconds=300.0)


async def _turns(server: MariaDB, rows: pa.RecordBatch) -> Turns:
    """The client and we load the same rows into the same table by turns; ours once more over themselves."""
    file = server.folder / "rows.tsv"
    with file.open("wb") as out:
        for at in range(0, rows.num_rows, BATCH):
            out.write(lines(rows.slice(at, BATCH)))
    file.chmod(0o644)
    first, again, client, stalls, idle = [], [], [], [], []
    async with MySQLDatabase(access(server)) as database:
        sink = await MySQLSink.opened(database, [TABLE])

        async def ours() -> None:
            for at in range(0, rows.num_rows, BATCH):
                await sink.write(TABLE, rows.slice(at, BATCH))

        for _ in range(ROUNDS):
            server.sql("TRUNCATE TABLE bench.bar")
            seconds, stall = await loop_stalls(lambda: timed(lambda: asyncio.to_thread(_client, server, file)))
            client.append(seconds)
            idle.append(stall)
            server.sql("TRUNCATE TABLE bench.bar")
            seconds, stall = await loop_stalls(lambda: timed(ours))
            first.append(seconds)
            stalls.append(stall)
            again.append(await timed(ours))
        assert server.sql("SELECT COUNT(*) FROM bench.bar") == str(rows.num_rows)
    return Turns(*(statistics.median(found) for found in (first, again, client, stalls, idle)))


async def _measured(server: MariaDB, rows: pa.RecordBatch) -> list[Measurement]:
    total = rows.num_rows
    turns = await _turns(server, rows)
    async with MySQLDatabase(access(server)) as database:
        read = await timed(lambda: MySQLSink(database).read(TABLE, Query()))
    server.sql("TRUNCATE TABLE bench.bar")
    executed = await timed(lambda: _executemany(server, rows.slice(0, PEER_ROWS)))
    loaded, client = total / turns.first, total / turns.client
    return [
        Measurement("MariaDB: first load, by LOAD DATA of mariadb", loaded, "rows/s", 0.85, client),
        Measurement("MariaDB: first load, by executemany", loaded, "rows/s", 4, PEER_ROWS / executed),
        Measurement("MariaDB: same rows again, by LOAD DATA of mariadb", total / turns.again, "rows/s", None, client),
        Measurement("MariaDB: longest stall of the loop", turns.stall * 1000, "ms", 20, at_most=True),
        Measurement("MariaDB: longest stall of an idle loop beside the client", turns.idle * 1000, "ms"),
        Measurement("MariaDB: read back", total / read, "rows/s"),
    ]


def _client(server: MariaDB, file: Path) -> None:
    server.run(
        server.client, "--no-defaults", "--local-infile=1", f"--host={server.host}", f"--port={server.port}",
        f"--user={server.user}", f"--password={server.password}", "--default-character-set=utf8mb4", "bench",
        stdin=f"LOAD DATA LOCAL INFILE '{file}' INTO TABLE bar CHARACTER SET utf8mb4;",
    )  # fmt: skip


async def _executemany(server: MariaDB, rows: pa.RecordBatch) -> None:
    names = [c.name for c in TABLE.columns]
    values = [tuple(row.values()) for row in rows.to_pylist()]
    connection = await aiomysql.connect(
        host=server.host, port=server.port, user=server.user, password=server.password.encode().decode("latin1"),
        db="bench", charset="utf8mb4",
    )  # fmt: skip
    async with connection.cursor() as cursor:
        await cursor.executemany(
            f"INSERT INTO bar ({', '.join(map(quoted, names))}) VALUES ({', '.join(['%s'] * len(names))}) "  # noqa: S608
            "ON DUPLICATE KEY UPDATE " + ", ".join(f"{quoted(n)} = VALUES({quoted(n)})" for n in names[2:]),
            values,
        )
    await connection.commit()
    connection.close()
