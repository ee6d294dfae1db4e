"""A long answer is handed on as it comes: the same rows as a read, whatever it costs never more than a piece in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from test_stores import Away

from mystocks_ingest.errors import Unavailable
from mystocks_ingest.flow.stores import Stores, read_everywhere, stream_everywhere
from mystocks_ingest.market.datasets import QUOTE
from mystocks_ingest.market.frames import Symbol, Window
from mystocks_ingest.ports import Query, Sink
from mystocks_ingest.schema import tables as desired
from mystocks_ingest.schema.tables import Route, Table, Tables
from mystocks_ingest.sinks.embedded import EmbeddedDatabase, EmbeddedSink

ROOT = Path(__file__).parents[2]
SYMBOLS = [Symbol(f"{number:06d}.SZ") for number in range(1, 9)]
DAY = date(2024, 1, 2)
YEAR = Window(date(2024, 1, 1), date(2025, 1, 1))


def quotes(symbols: list[Symbol], seconds: range, *, fetched: int, last: float) -> pa.RecordBatch:
    """A quote of each symbol and second; ``fetched`` seconds after noon UTC."""
    filled = [
        {
            "symbol": symbol,
            "ts": datetime(2024, 1, 2, 2, tzinfo=UTC) + timedelta(seconds=second),
            "last": last,
            "source": "t",
            "fetched_at": datetime(2024, 1, 2, 12, tzinfo=UTC) + timedelta(seconds=fetched),
        }
        for symbol in symbols
        for second in seconds
    ]
    return pa.RecordBatch.from_pylist(filled, schema=QUOTE.schema)


@dataclass(frozen=True)
class Slices:
    """``sink``, whose long answers come in batches of seven rows."""

    sink: EmbeddedSink
    name: str = "slices"

    async def write(self, table: Table, rows: pa.RecordBatch) -> None:
        await self.sink.write(table, rows)

    async def read(self, table: Table, query: Query) -> pa.Table:
        return await self.sink.read(table, query)

    async def stream(self, table: Table, query: Query) -> AsyncGenerator[pa.RecordBatch, None]:
        async for part in self.sink.stream(table, query):
            for first in range(0, part.num_rows, 7):
                yield part.slice(first, 7)

    async def ping(self) -> None:
        await self.sink.ping()


@asynccontextmanager
async def two(folder: Path) -> AsyncIterator[tuple[Tables, dict[str, Sink], Table, Table]]:
    """Quotes in two databases, each played by a store file of its own: the newest state, and the history."""
    tables = desired.load(ROOT / "config" / "tables.yaml").placed(("redis", "tdengine"))
    routes = {t.database_type.store: t for t in tables.routes(QUOTE)}
    async with EmbeddedDatabase(folder / "redis") as hot, EmbeddedDatabase(folder / "tdengine") as cold:
        sinks: dict[str, Sink] = {
            "redis": await EmbeddedSink.opened(hot, tables.routes(QUOTE)),
            "tdengine": Slices(await EmbeddedSink.opened(cold, tables.routes(QUOTE))),
        }
        yield tables, sinks, routes["redis"], routes["tdengine"]


async def streamed(tables: Tables, sinks: Mapping[str, Sink], query: Query) -> list[pa.Table]:
    windows = [YEAR] if query.window is None else [query.window]
    found = stream_everywhere(QUOTE, query, windows, tables=tables, sink=Stores(sinks))
    return [piece async for piece in found]


def in_order(pieces: list[pa.Table]) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = pa.concat_tables(pieces).sort_by([(k, "ascending") for k in QUOTE.key]).to_pylist()
    return rows


async def test_a_stream_gives_what_a_read_gives(tmp_path: Path) -> None:
    async with two(tmp_path) as (tables, sinks, hot, cold):
        await sinks["tdengine"].write(cold, quotes(SYMBOLS, range(20), fetched=1, last=1.0))
        await sinks["redis"].write(
            hot, quotes(SYMBOLS[:5], range(19, 20), fetched=2, last=2.0)
        )  # newer than the history
        await sinks["redis"].write(hot, quotes(SYMBOLS[5:7], range(19, 20), fetched=0, last=3.0))  # older
        await sinks["redis"].write(hot, quotes(SYMBOLS[7:], range(25, 26), fetched=2, last=4.0))  # not in it
        whole = await read_everywhere(QUOTE, Query(window=YEAR), tables=tables, sink=Stores(sinks))
        pieces = await streamed(tables, sinks, Query(window=YEAR))
        assert in_order(pieces) == whole.to_pylist()
        assert whole.num_rows == 8 * 20 + 1
        assert max(piece.num_rows for piece in pieces) <= 7
        assert [r["last"] for r in whole.to_pylist() if r["ts"].second == 19] == [2.0] * 5 + [1.0] * 3


async def test_a_limit_is_kept_by_every_database_and_the_rows_are_the_first_ones(tmp_path: Path) -> None:
    async with two(tmp_path) as (tables, sinks, hot, cold):
        await sinks["tdengine"].write(cold, quotes(SYMBOLS, range(20), fetched=1, last=1.0))
        await sinks["redis"].write(hot, quotes(SYMBOLS, range(19, 21), fetched=2, last=2.0))
        stores = Stores(sinks)
        whole = (await read_everywhere(QUOTE, Query(window=YEAR), tables=tables, sink=stores)).to_pylist()
        for limit in (1, 19, 21, 22, 60, 1_000):
            query = Query(window=YEAR, limit=limit)
            first = await read_everywhere(QUOTE, query, tables=tables, sink=stores)
            assert first.to_pylist() == whole[:limit], limit
            pieces = await streamed(tables, sinks, query)
            assert in_order(pieces)[:limit] == whole[:limit], limit
            assert sum(piece.num_rows for piece in pieces) <= limit + 16, "what the limit drops does not come"


async def test_the_state_being_away_leaves_the_history_and_the_history_being_away_is_said(tmp_path: Path) -> None:
    async with two(tmp_path) as (tables, sinks, hot, cold):
        assert (hot.route, cold.route) == (Route.BEST_EFFORT, Route.REQUIRED)
        await sinks["tdengine"].write(cold, quotes(SYMBOLS, range(20), fetched=1, last=1.0))
        assert len(in_order(await streamed(tables, {**sinks, "redis": Away()}, Query(window=YEAR)))) == 160
        with pytest.raises(Unavailable, match="away"):
            await streamed(tables, {**sinks, "tdengine": Away()}, Query(window=YEAR))


async def test_the_embedded_store_takes_rows_amid_a_long_answer_which_does_not_show_them(tmp_path: Path) -> None:
    tables = desired.load(ROOT / "config" / "tables.yaml").placed(())
    (table,) = tables.routes(QUOTE)
    many = quotes(SYMBOLS, range(30_000), fetched=1, last=1.0)
    async with EmbeddedDatabase(tmp_path) as database:
        sink = await EmbeddedSink.opened(database, [table])
        await sink.write(table, many)
        seen = 0
        async for part in sink.stream(table, Query()):
            if not seen:
                await sink.write(table, quotes(SYMBOLS, range(30_000, 30_010), fetched=2, last=2.0))
            seen += part.num_rows
        assert seen == many.num_rows
        assert (await sink.read(table, Query())).num_rows == many.num_rows + 80


async def test_a_store_that_is_opened_anew_says_so_to_whoever_reads_a_long_answer(tmp_path: Path) -> None:
    tables = desired.load(ROOT / "config" / "tables.yaml").placed(())
    (table,) = tables.routes(QUOTE)
    async with EmbeddedDatabase(tmp_path) as database:
        sink = await EmbeddedSink.opened(database, [table])
        await sink.write(table, quotes(SYMBOLS, range(30_000), fetched=1, last=1.0))
        parts = sink.stream(table, Query())
        await anext(parts)
        await asyncio.wrap_future(database._thread.submit(database._close))
        with pytest.raises(Unavailable, match="opened anew amid a long answer: ask again"):
            async for _ in parts:
                pass
        assert (await sink.read(table, Query(limit=3))).num_rows == 3
