from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest

from mystocks_ingest.errors import Unavailable
from mystocks_ingest.flow.stores import Stores, read_everywhere
from mystocks_ingest.market.datasets import QUOTE
from mystocks_ingest.market.frames import Symbol
from mystocks_ingest.ports import Query
from mystocks_ingest.schema import tables as desired
from mystocks_ingest.schema.tables import Route, Table, Tables
from mystocks_ingest.sinks.embedded import EmbeddedDatabase, EmbeddedSink

ROOT = Path(__file__).parents[2]
A, B = Symbol("000001.SZ"), Symbol("600000.SH")


@dataclass(frozen=True)
class Away:
    """A database that does not answer."""

    name: str = "away"

    async def write(self, table: Table, rows: pa.RecordBatch) -> None:
        raise Unavailable("away")

    async def read(self, table: Table, query: Query) -> pa.Table:
        raise Unavailable("away")

    async def ping(self) -> None:
        raise Unavailable("away")


def quotes(*rows: tuple[str, int, float, int]) -> pa.RecordBatch:
    """Quotes of (symbol, second, last, second of fetching)."""
    filled = [
        {
            "symbol": s,
            "ts": datetime(2024, 1, 2, 2, 0, ts, tzinfo=UTC),
            "last": last,
            "source": "t",
            "fetched_at": datetime(2024, 1, 2, 2, 1, fetched, tzinfo=UTC),
        }
        for s, ts, last, fetched in rows
    ]
    return pa.RecordBatch.from_pylist(filled, schema=QUOTE.schema)


@asynccontextmanager
async def hot_and_cold(folder: Path) -> AsyncIterator[tuple[Tables, dict[str, EmbeddedSink]]]:
    """Quotes in two databases, each played by a store file of its own."""
    tables = desired.load(ROOT / "config" / "tables.yaml").placed(("redis", "tdengine"))
    async with EmbeddedDatabase(folder / "redis") as hot, EmbeddedDatabase(folder / "tdengine") as cold:
        routes = tables.routes(QUOTE)
        assert {t.database_type.store for t in routes} == {"redis", "tdengine"}
        yield (
            tables,
            {"redis": await EmbeddedSink.opened(hot, routes), "tdengine": await EmbeddedSink.opened(cold, routes)},
        )


def seen(rows: pa.Table) -> list[tuple[str, int, float]]:
    return [(r["symbol"], r["ts"].second, r["last"]) for r in rows.to_pylist()]


async def test_rows_of_two_databases_are_merged_without_doubling_and_the_newest_stands(tmp_path: Path) -> None:
    async with hot_and_cold(tmp_path) as (tables, sinks):
        stores = Stores(sinks)
        hot = next(t for t in tables.routes(QUOTE) if t.database_type.store == "redis")
        cold = next(t for t in tables.routes(QUOTE) if t.database_type.store == "tdengine")
        await stores.write(cold, quotes((A, 1, 10.0, 1), (A, 2, 10.1, 2), (B, 1, 5.0, 1)))
        await stores.write(hot, quotes((A, 2, 10.2, 3), (B, 3, 5.1, 3)))
        rows = await read_everywhere(QUOTE, Query(), tables=tables, sink=stores)
        assert seen(rows) == [(A, 1, 10.0), (A, 2, 10.2), (B, 1, 5.0), (B, 3, 5.1)]
        only = await read_everywhere(QUOTE, Query(symbols=(B,), columns=("last",)), tables=tables, sink=stores)
        assert only.to_pydict() == {"last": [5.0, 5.1]}


async def test_a_best_effort_database_that_is_away_is_left_out_and_a_required_one_is_not(tmp_path: Path) -> None:
    async with hot_and_cold(tmp_path) as (tables, sinks):
        routes = tables.routes(QUOTE)
        (optional,) = [t for t in routes if t.route is Route.BEST_EFFORT]
        (required,) = [t for t in routes if t.route is Route.REQUIRED]
        await sinks[required.database_type.store].write(required, quotes((A, 1, 10.0, 1)))
        without = Stores({**sinks, optional.database_type.store: Away()})
        assert seen(await read_everywhere(QUOTE, Query(), tables=tables, sink=without)) == [(A, 1, 10.0)]
        with pytest.raises(Unavailable):
            await read_everywhere(
                QUOTE, Query(), tables=tables, sink=Stores({**sinks, required.database_type.store: Away()})
            )
