"""The embedded store's upsert against a bare MERGE INTO from Arrow on the same rows: empty table and full rerun."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pyarrow as pa

from bench.held import FETCHED, ROWS, vendor_rows
from bench.measure import Measurement
from mystocks_ingest.market.datasets import BAR_1D
from mystocks_ingest.market.layout import normalize
from mystocks_ingest.schema.tables import Table, load
from mystocks_ingest.sinks.embedded import EmbeddedDatabase, EmbeddedSink
from mystocks_ingest.sources.tushare.layouts import DAILY

_TABLES = Path(__file__).parents[1] / "config" / "tables.yaml"


async def _ours(folder: Path, table: Table, rows: pa.RecordBatch) -> tuple[float, float]:
    async with EmbeddedDatabase(folder) as db:
        sink = await EmbeddedSink.opened(db, [table])
        seconds = []
        for _ in range(2):
            started = time.perf_counter()
            await sink.write(table, rows)
            seconds.append(time.perf_counter() - started)
    return seconds[0], seconds[1]


def _bare(folder: Path, table: Table, rows: pa.RecordBatch) -> tuple[float, float]:
    """The plainest statement that does the same, in DuckDB's own default settings."""
    names = [c.name for c in table.columns]
    changed = ", ".join(f"{n} = s.{n}" for n in names if n not in table.key)
    given = ", ".join(f"s.{n}" for n in names)
    connection = duckdb.connect(str(folder / "bare.duckdb"))
    connection.register("incoming", rows)
    connection.execute("CREATE TABLE bars AS SELECT * FROM incoming LIMIT 0")
    seconds = []
    for _ in range(2):
        started = time.perf_counter()
        connection.execute(
            "MERGE INTO bars AS t USING incoming AS s ON t.symbol = s.symbol AND t.trade_date = s.trade_date "
            f"WHEN MATCHED THEN UPDATE SET {changed} WHEN NOT MATCHED THEN INSERT VALUES ({given})"
        )
        seconds.append(time.perf_counter() - started)
    connection.close()
    return seconds[0], seconds[1]


def run() -> Iterator[Measurement]:
    table = load(_TABLES).placed(()).holder(BAR_1D)
    (frame,) = normalize(DAILY, asyncio.run(vendor_rows()), source="tushare", fetched_at=FETCHED)
    ours, bare = [], []
    for _ in range(4):
        with tempfile.TemporaryDirectory() as folder:
            ours.append(asyncio.run(_ours(Path(folder), table, frame.rows)))
        with tempfile.TemporaryDirectory() as folder:
            bare.append(_bare(Path(folder), table, frame.rows))
    for i, what in enumerate(("empty table", "full rerun")):
        mine, theirs = (ROWS / statistics.median(s[i] for s in runs[1:]) for runs in (ours, bare))
        yield Measurement(f"embedded write to bare MERGE, {what}", mine, "rows/s", 0.8, theirs)
