"""The in-process simulated market moved to a child, as vendors' packages are: the parent's memory is its own."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import AsyncIterator
from multiprocessing.connection import Connection
from typing import Self

import pyarrow as pa

from mystocks_ingest.market.datasets import dataset
from mystocks_ingest.market.frames import Frame, Request
from mystocks_ingest.sim.market import Market, MarketConfig
from mystocks_ingest.sim.source import SimSource


class FarSource:
    """ports.Source over a SimSource in a child process; frames come as Arrow streams."""

    def __init__(self, config: MarketConfig) -> None:
        self._here, there = multiprocessing.get_context("spawn").Pipe()
        self._child = multiprocessing.get_context("spawn").Process(target=_serve, args=(there, config), daemon=True)
        self._turn = asyncio.Lock()

    async def __aenter__(self) -> Self:
        self._child.start()
        facts = await asyncio.to_thread(self._here.recv)
        self.name, self.family, self.offers, self.rates, self.concurrency, self.first_day, self.last_day = facts
        return self

    async def __aexit__(self, *_: object) -> None:
        self._here.send(None)
        await asyncio.to_thread(self._child.join)

    async def fetch(self, request: Request) -> AsyncIterator[Frame]:
        async with self._turn:
            frames = await asyncio.to_thread(self._ask, request)
        for name, fetched_at, stream in frames:
            (rows,) = pa.ipc.open_stream(stream)
            yield Frame(dataset(name), self.name, fetched_at, rows)

    def _ask(self, request: Request) -> list[tuple[str, object, bytes]]:
        self._here.send((request.dataset.name, request.window, request.symbols))
        return self._here.recv()  # type: ignore[no-any-return]

    def calls(self, request: Request) -> int:
        return max(len(request.symbols), 1)

    async def probe(self) -> None: ...

    async def aclose(self) -> None: ...


def _serve(pipe: Connection, config: MarketConfig) -> None:
    market = Market(config)
    source = SimSource(market)
    facts = (source.name, source.family, source.offers, source.rates, source.concurrency)
    pipe.send((*facts, market.first_day, market.last_day))
    while (asked := pipe.recv()) is not None:
        name, window, symbols = asked
        pipe.send(asyncio.run(_answer(source, Request(dataset(name), window, symbols))))


async def _answer(source: SimSource, request: Request) -> list[tuple[str, object, bytes]]:
    return [(f.dataset.name, f.fetched_at, _packed(f.rows)) async for f in source.fetch(request)]


def _packed(rows: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_batch(rows)
    return sink.getvalue().to_pybytes()
