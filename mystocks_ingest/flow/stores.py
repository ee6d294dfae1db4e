"""All databases in use as one sink, and one way to read a dataset wherever its rows live."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mystocks_ingest.errors import Drifted, Unavailable
from mystocks_ingest.logs import get
from mystocks_ingest.market.datasets import Dataset
from mystocks_ingest.market.frames import Window
from mystocks_ingest.ports import Query, Sink, Streaming
from mystocks_ingest.schema.tables import Database, Route, Table, Tables

log = get("stores")


class Sinks(Sink, Streaming, Protocol):
    """A sink that gives rows as they are taken."""


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
        return await self._readable(table).read(table, query)

    def stream(self, table: Table, query: Query) -> AsyncGenerator[pa.RecordBatch, None]:
        return streamed(self._readable(table), table, query)

    def _readable(self, table: Table) -> Sink:
        if table in self.blocked and not self.blocked[table].readable:
            raise self.blocked[table]
        return self.of(table)

    async def ping(self) -> None:
        await asyncio.gather(*(sink.ping() for sink in self._sinks.values()))


async def streamed(sink: Sink, table: Table, query: Query) -> AsyncGenerator[pa.RecordBatch, None]:
    """What ``sink`` reads, as it comes; from one that cannot stream, all at once."""
    if not isinstance(sink, Streaming):
        for part in (await sink.read(table, query)).to_batches():
            yield part
        return
    async with aclosing(sink.stream(table, query)) as parts:
        async for part in parts:
            yield part


async def read_everywhere(wanted: Dataset, query: Query, *, tables: Tables, sink: Sink) -> pa.Table:
    """Rows of ``wanted`` from every table of its route, each key once, in key order; with a limit, the first so many.

    Where two tables hold a key, the row fetched last stands; of a dataset that does not say when a row was fetched, that
    of the required table. A best-effort table that is away or differs is left out
    with a warning; a required one raises Unavailable, or Drifted.
    """
    routes = _routes(wanted, tables)
    if len(routes) == 1:
        return await sink.read(routes[0], query)
    names = query.columns or tuple(wanted.schema.names)
    parts = await _read(routes, _deciding(wanted, query), wanted, sink)
    return (await asyncio.to_thread(_newest, _one(parts), wanted)).select(list(names)).slice(0, query.limit)


async def stream_everywhere(
    wanted: Dataset, query: Query, windows: Iterable[Window], *, tables: Tables, sink: Sinks
) -> AsyncGenerator[pa.Table, None]:
    """As ``read_everywhere``, in pieces of which each is in key order; ``windows`` are those of the query, cut small.

    Held are the rows of the newest state alone, what the tables beside the history have: they are few. Those that the
    history lacks come last. A limit is the history's: rows of the newest state may come beside its first ones.
    """
    routes = _routes(wanted, tables)
    history = next((t for t in reversed(routes) if t.database_type is not Database.REDIS), routes[-1])
    others = [t for t in routes if t is not history]
    asked = _deciding(wanted, query)
    names = list(query.columns or wanted.schema.names)
    beside = await _read(others, replace(asked, limit=None), wanted, sink)
    state = await asyncio.to_thread(_newest, _one(beside), wanted) if beside else None
    try:
        for window in windows:
            async with aclosing(sink.stream(history, replace(asked, window=window))) as parts:
                async for part in parts:
                    piece = pa.Table.from_batches([part])
                    if state is not None and state.num_rows:
                        stands = history is not routes[-1]
                        piece, state = await asyncio.to_thread(_overlaid, piece, state, wanted, stands=stands)
                    yield piece.select(names)
    except (Unavailable, Drifted) as exc:
        if history.route is Route.REQUIRED or not others:
            raise
        log.warning("table.skipped", table=history.name, reason=str(exc))
    if state is not None and state.num_rows:
        yield state.select(names)


def _routes(wanted: Dataset, tables: Tables) -> list[Table]:
    return sorted(tables.routes(wanted), key=lambda t: t.route is Route.REQUIRED)  # of equals the last one stands


def _version(wanted: Dataset) -> tuple[str, ...]:
    return tuple(name for name in ("fetched_at",) if name in wanted.schema.names)


def _deciding(wanted: Dataset, query: Query) -> Query:
    """The key and the time of fetching decide between tables, so they are read whatever columns are wanted."""
    names = query.columns or tuple(wanted.schema.names)
    return replace(query, columns=tuple(dict.fromkeys((*names, *wanted.key, *_version(wanted)))))


async def _read(routes: Sequence[Table], query: Query, wanted: Dataset, sink: Sink) -> list[pa.Table]:
    """What each of the tables holds, but for best-effort ones that are away or differ."""

    def asked(table: Table) -> Query:  # in the order of another key the first rows are other ones
        return query if table.key == wanted.key else replace(query, limit=None)

    found = await asyncio.gather(*(sink.read(table, asked(table)) for table in routes), return_exceptions=True)
    parts = []
    for table, part in zip(routes, found, strict=True):
        if isinstance(part, Unavailable | Drifted) and table.route is Route.BEST_EFFORT:
            log.warning("table.skipped", table=table.name, reason=str(part))
        elif isinstance(part, BaseException):
            raise part
        else:
            parts.append(part)
    return parts


def _one(parts: Sequence[pa.Table]) -> pa.Table:
    return pa.concat_tables(parts, promote_options="default")


def _overlaid(piece: pa.Table, state: pa.Table, wanted: Dataset, *, stands: bool) -> tuple[pa.Table, pa.Table]:
    """``piece`` with newer rows of ``state`` in its own's place, and what is left of ``state``, which ``stands`` among equals."""
    key = list(wanted.key)
    numbered = state.select(key).append_column("#", pa.array(np.arange(state.num_rows)))
    both = numbered.join(piece.select(key), key, join_type="inner", use_threads=False)["#"].unique()
    known = pc.is_in(numbered["#"], both)
    parts = [state.filter(known), piece]
    return _newest(_one(parts[::-1] if stands else parts), wanted), state.filter(pc.invert(known))


def _newest(rows: pa.Table, wanted: Dataset) -> pa.Table:
    """Each key once, its row fetched last, in key order; of equal ones the last."""
    if not rows.num_rows:
        return rows
    key = wanted.key
    ordered = rows.sort_by([(name, "ascending") for name in (*key, *_version(wanted))])
    numbered = ordered.append_column("#", pa.array(np.arange(ordered.num_rows)))
    last = numbered.group_by(list(key), use_threads=False).aggregate([("#", "max")])
    return ordered.take(pa.array(np.sort(last["#_max"].to_numpy())))
