"""The embedded store's upsert against a bare MERGE INTO from Arrow on the same rows.

An empty table; the same million rows again; and one session's rows into the table, which is stored by symbol.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from bench.held import FETCHED, vendor_rows
from bench.measure import Measurement
from mystocks_ingest.market.datasets import BAR_1D
from mystocks_ingest.market.layout import normalize
from mystocks_ingest.schema.tables import Table, load
from mystocks_ingest.sinks.embedded import EmbeddedDatabase, EmbeddedSink
from mystocks_ingest.sources.tushare.layouts import DAILY

_TABLES = Path(__file__).parents[1] / "config" / "tables.yaml"


async def _ours(folder: Path, table: Table, batches: Sequence[pa.RecordBatch]) -> list[float]:
    async with EmbeddedDatabase(folder) as db:
        sink = await EmbeddedSink.opened(db, [table])
        seconds = []
        for rows in batches:
            started = time.perf_counter()
            await sink.write(table, rows)
            seconds.append(time.perf_counter() - started)
    return seconds


def _bare(folder: Path, table: Table, batches: Sequence[pa.RecordBatch]) -> list[float]:
    """The plainest statement that does the same, in DuckDB's own default settings."""
    names = [c.name for c in table.columns]
    changed = ", ".join(f"{n} = s.{n}" for n in names if n not in table.key)
    given = ", ".join(f"s.{n}" for n in names)
    connection = duckdb.connect(str(folder / "bare.duckdb"))
    connection.register("incoming", batches[0])
    connection.execute("CREATE TABLE bars AS SELECT * FROM incoming LIMIT 0")
    seconds = []
    for rows in batches:
        connection.register("incoming", rows)
        started = time.perf_counter()
        connection.execute(
            "MERGE INTO bars AS t USING incoming AS s ON t.symbol = s.symbol AND t.trade_date = s.trade_date "
            f"WHEN MATCHED THEN UPDATE SET {changed} WHEN NOT MATCHED THEN INSERT VALUES ({given})"
        )
        seconds.append(time.perf_counter() - started)
    connection.close()
    return seconds


def run() -> Iterator[Measurement]:
    table = load(_TABLES).placed(()).holder(BAR_1D)
    (frame,) = normalize(DAILY, asyncio.run(vendor_rows()), source="tushare", fetched_at=FETCHED)
    days = frame.rows.column("trade_date")
    session = frame.rows.filter(pc.equal(days, days[len(days) // 2]))
    batches = (frame.rows, frame.rows, session)
    ours, bare = [], []
    for _ in range(4):
        with tempfile.TemporaryDirectory() as folder:
            ours.append(asyncio.run(_ours(Path(folder), table, batches)))
        with tempfile.TemporaryDirectory() as folder:
            bare.append(_bare(Path(folder), table, batches))
    for i, (what, target) in enumerate((("empty table", 0.8), ("full rerun", None), ("one session of it", None))):
        mine, theirs = (batches[i].num_rows / statistics.median(s[i] for s in runs[1:]) for runs in (ours, bare))
        yield Measurement(f"embedded write to bare MERGE, {what}", mine, "rows/s", target, theirs)
