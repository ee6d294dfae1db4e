"""A sink whose writes are counted and timed."""

from __future__ import annotations

import asyncio

import pyarrow as pa

from mystocks_ingest.errors import Rejected
from mystocks_ingest.monitor.metrics import Metrics
from mystocks_ingest.ports import Query, Sink
from mystocks_ingest.schema.tables import Table


class Metered:
    """A ports.Sink: ``sink``, told to ``metrics``."""

    name = "metered"

    def __init__(self, sink: Sink, metrics: Metrics) -> None:
        self._sink = sink
        self._metrics = metrics

    async def write(self, table: Table, rows: pa.RecordBatch) -> None:
        clock = asyncio.get_running_loop().time
        store, began = table.database_type.store, clock()
        try:
            await self._sink.write(table, rows)
        except Rejected:
            self._metrics.wrote(store, table.name, rows.num_rows, rows.nbytes, clock() - began, "rejected")
            raise
        except BaseException:
            self._metrics.wrote(store, table.name, rows.num_rows, rows.nbytes, clock() - began, "failed")
            raise
        self._metrics.wrote(store, table.name, rows.num_rows, rows.nbytes, clock() - began)

    async def read(self, table: Table, query: Query) -> pa.Table:
        return await self._sink.read(table, query)

    async def ping(self) -> None:
        await self._sink.ping()
