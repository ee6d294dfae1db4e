"""From vendor layout to durable rows: normalize, check, group commit; against pandas.to_sql and dlt.

The peers get the same rows as a DataFrame and do less: neither checks anything, to_sql only appends. dlt is
asked for what our store does, an upsert by key; its plain append is shown beside it.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import dlt
import pandas as pd
import pyarrow as pa
import sqlalchemy

from bench.held import FETCHED, ROWS, context, vendor_rows
from bench.measure import Measurement
from mystocks_ingest.flow.ingest import Ingest
from mystocks_ingest.flow.witness import Witness
from mystocks_ingest.flow.writer import Writer
from mystocks_ingest.market.datasets import BAR_1D
from mystocks_ingest.market.layout import normalize
from mystocks_ingest.monitor.journal import EmbeddedJournal
from mystocks_ingest.schema.tables import load
from mystocks_ingest.sinks.embedded import EmbeddedDatabase, EmbeddedSink
from mystocks_ingest.sources.tushare.layouts import DAILY

_TABLES = Path(__file__).parents[1] / "config" / "tables.yaml"
_PIECE = 122_880  # a row group of the store
_KEY = ["ts_code", "trade_date"]


async def _ours(folder: Path, raw: pa.RecordBatch, *, piece: int, workers: int) -> float:
    """Seconds until the last of ``raw``, cut into answers of ``piece`` rows, is durable."""
    tables = load(_TABLES).placed(())
    table = tables.holder(BAR_1D)
    judged = context()
    async with EmbeddedDatabase(folder) as db:
        sink = await EmbeddedSink.opened(db, tables.all)
        journal = await EmbeddedJournal.opened(db, now=lambda: FETCHED)
        async with Writer(sink, table) as writer:
            ingest = Ingest(tables, {table: writer}, journal, lambda: judged, "bench", Witness(sink, tables))
            answers = [raw.slice(at, piece) for at in range(0, raw.num_rows, piece)]
            started = time.perf_counter()

            async def work() -> int:
                stored = 0
                while answers:
                    answer = answers.pop(0)
                    for frame in await asyncio.to_thread(
                        normalize, DAILY, answer, source="tushare", fetched_at=FETCHED
                    ):
                        stored += len((await ingest.take(frame, None, now=FETCHED)).accepted)
                return stored

            stored = sum(await asyncio.gather(*(work() for _ in range(workers))))
            seconds = time.perf_counter() - started
    assert stored == raw.num_rows, f"{raw.num_rows - stored} rows were refused"
    return seconds


def _rate(raw: pa.RecordBatch, *, piece: int, workers: int) -> float:
    seconds = []
    for _ in range(4):
        with tempfile.TemporaryDirectory() as folder:
            seconds.append(asyncio.run(_ours(Path(folder), raw, piece=piece, workers=workers)))
    return ROWS / statistics.median(seconds[1:])


def _to_sql(frame: pd.DataFrame) -> float:
    with tempfile.TemporaryDirectory() as folder:
        engine = sqlalchemy.create_engine(f"sqlite:///{folder}/bars.sqlite")
        started = time.perf_counter()
        frame.to_sql("bars", engine, index=False, if_exists="append")
        seconds = time.perf_counter() - started
        engine.dispose()
    return len(frame) / seconds


def _dlt(frame: pd.DataFrame, disposition: str) -> float:
    with tempfile.TemporaryDirectory() as folder:
        pipeline = dlt.pipeline(
            "bars", pipelines_dir=f"{folder}/pipelines", destination=dlt.destinations.duckdb(f"{folder}/bars.duckdb")
        )
        started = time.perf_counter()
        pipeline.run(
            dlt.resource([frame], name="bars"),
            write_disposition=disposition,  # type: ignore[arg-type]
            primary_key=_KEY,
        )
        seconds = time.perf_counter() - started
    return len(frame) / seconds


def run() -> Iterator[Measurement]:
    raw = asyncio.run(vendor_rows())
    frame = raw.to_pandas()
    whole = _rate(raw, piece=_PIECE, workers=2)
    yield Measurement("normalize + check + write 1M bars", whole, "rows/s", 800_000)
    yield Measurement("  in answers of 5,400 rows", _rate(raw, piece=5_400, workers=8), "rows/s")
    yield Measurement("  to pandas.to_sql into SQLite", whole, "rows/s", 20, _to_sql(frame))
    yield Measurement("  to dlt merge into DuckDB", whole, "rows/s", 5, _dlt(frame, "merge"))
    yield Measurement("  to dlt append into DuckDB", whole, "rows/s", None, _dlt(frame, "append"))
