"""All databases in use as one sink, and one way to read a dataset wherever its rows live."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from mystocks_ingest.errors import Drifted, Unavailable
from mystocks_ingest.logs import get
from mystocks_ingest.market.datasets import Dataset
from mystocks_ingest.ports import Query, Sink
from mystocks_ingest.schema.tables import Route, Table, Tables

log = get("stores")


class Stores:
    """A ports.Sink that hands each table to the database it lives in. ``sinks`` are keyed by store name.

    ``blocked``: tables that are not as the file describes them. A write to one raises its Drifted.
    """

    name = "stores"

    def __init__(self, sinks: Mapping[str, Sink], blocked: Mapping[Table, Drifted] | None = None) -> None:
        self._sinks = sinks
        self.blocked = blocked if blocked is not None else {}

    def of(self, table: Table) -> Sink:
        """The sink of the table's database."""
        return self._sinks[table.database_type.store]

    def at(self, store: str) -> Sink:
        """The sink of a store. Raises KeyError for one that is not in use."""
        return self._sinks[store]

    async def write(self, table: Table, rows: pa.RecordBatch) -> None:
        if table in self.blocked:
            raise self.blocked[table]
        await self.of(table).write(table, rows)

    async def read(self, table: Table, query: Query) -> pa.Table:
        if table in self.blocked and not self.blocked[table].readable:
            raise self.blocked[table]
        return await self.of(table).read(table, query)

    async def ping(self) -> None:
        await asyncio.gather(*(sink.ping() for sink in self._sinks.values()))


async def read_everywhere(wanted: Dataset, query: Query, *, tables: Tables, sink: Sink) -> pa.Table:
    """Rows of ``wanted`` from every table of its route, each key once, in key order.

    Where two tables hold a key, the row fetched last stands; of a dataset that does not say when a row was fetched, that
    of the required table. A best-effort table that is away or differs is left out
    with a warning; a required one raises Unavailable, or Drifted.
    """
    routes = sorted(tables.routes(wanted), key=lambda t: t.route is Route.REQUIRED)  # of equals the last one stands
    if len(routes) == 1:
        return await sink.read(routes[0], query)
    # the key and the time of fetching decide between tables, so they are read whatever columns are wanted
    names = query.columns or tuple(wanted.schema.names)
    version = tuple(name for name in ("fetched_at",) if name in wanted.schema.names)
    needed = tuple(dict.fromkeys((*names, *wanted.key, *version)))
    asked = Query(query.symbols, query.window, needed)
    found = await asyncio.gather(*(sink.read(table, asked) for table in routes), return_exceptions=True)
    parts = []
    for table, part in zip(routes, found, strict=True):
        if isinstance(part, Unavailable | Drifted) and table.route is Route.BEST_EFFORT:
            log.warning("table.skipped", table=table.name, reason=str(part))
        elif isinstance(part, BaseException):
            raise part
        else:
            parts.append(part)
    return _newest(pa.concat_tables(parts, promote_options="default"), wanted.key, version).select(list(names))


def _newest(rows: pa.Table, key: tuple[str, ...], version: tuple[str, ...]) -> pa.Table:
    """Each key once, its row fetched last, in key order; of equal ones the last."""
    if not rows.num_rows:
        return rows
    ordered = rows.sort_by([(name, "ascending") for name in (*key, *version)])
    numbered = ordered.append_column("#", pa.array(np.arange(ordered.num_rows)))
    last = numbered.group_by(list(key), use_threads=False).aggregate([("#", "max")])
    return ordered.take(pa.array(np.sort(last["#_max"].to_numpy())))
