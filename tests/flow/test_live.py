"""Live collection against the vendors' wire: what is news is stored, who fails rests, the next one is asked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from time import monotonic

import pyarrow as pa
import pyarrow.compute as pc

from mystocks_ingest import sources
from mystocks_ingest.flow.ingest import Ingest
from mystocks_ingest.flow.live import Collector, Figures
from mystocks_ingest.flow.witness import Witness
from mystocks_ingest.flow.writer import Writer
from mystocks_ingest.market.checks import Context
from mystocks_ingest.market.datasets import DATASETS, QUOTE
from mystocks_ingest.market.frames import Frame
from mystocks_ingest.market.sessions import ZONE
from mystocks_ingest.monitor.journal import EmbeddedJournal
from mystocks_ingest.ports import Query, Source
from mystocks_ingest.schema import tables
from mystocks_ingest.settings import Settings
from mystocks_ingest.sim.server import Sim, SimConfig, running
from mystocks_ingest.sinks.embedded import EmbeddedDatabase, EmbeddedSink

TABLES = tables.load(Path(__file__).parents[2] / "config" / "tables.yaml").placed(())


@dataclass
class Floor:
    """A collector over two vendors of a simulated market, storing into the embedded store."""

    sim: Sim
    collector: Collector
    sink: EmbeddedSink
    offered: list[Source]

    async def stored(self, name: str = "quote") -> pa.Table:
        return await self.sink.read(TABLES.holder(DATASETS[name]), Query())


@asynccontextmanager
async def floor(folder: Path, *, deadline: float = 30.0) -> AsyncIterator[Floor]:
    async with AsyncExitStack() as stack:
        sim = await stack.enter_async_context(running(SimConfig(seed=11, stocks=24, sessions=30)))
        settings = Settings(
            MYSTOCKS_STATE_DIR=folder, MYSTOCKS_CALL_DEADLINE=deadline, TUSHARE_POINTS=5000, **sim.environment
        )
        began, moment = monotonic(), datetime.combine(sim.market.last_day, time(14, 58), ZONE).astimezone(UTC)

        def now() -> datetime:
            return moment + timedelta(seconds=monotonic() - began)

        database = await stack.enter_async_context(EmbeddedDatabase(folder))
        sink = await EmbeddedSink.opened(database, TABLES.all)
        journal = await EmbeddedJournal.opened(database, now=now)
        writers = {
            table: await stack.enter_async_context(Writer(sink, table))
            for name in ("quote", "bar_1m")
            for table in TABLES.routes(DATASETS[name])
        }
        ingest = Ingest(TABLES, writers, journal, lambda: Context(now()), "live", Witness(sink, TABLES))
        found = {name: sources.open_source(name, settings, now=now) for name in ("tushare", "akshare-sina")}
        for source in found.values():
            stack.push_async_callback(source.aclose)
        yield Floor(sim, Collector(found, ingest, now, bars=True), sink, list(found.values()))


async def test_the_first_poll_is_all_news_and_the_second_none(tmp_path: Path) -> None:
    async with floor(tmp_path) as f:
        assert await f.collector.poll(QUOTE, order=("tushare",)) == ""
        seen = f.collector.figures["quote"]
        truth = set(f.sim.market.quotes()["symbol"].to_pylist())
        stored = await f.stored()
        assert set(stored["symbol"].to_pylist()) <= truth
        assert seen.news == stored.num_rows > 10
        assert await f.collector.poll(QUOTE, order=("tushare",)) == ""
        assert (seen.polls, seen.news, seen.unchanged) == (2, stored.num_rows, stored.num_rows)
        assert (await f.stored()).num_rows == stored.num_rows


async def test_a_vendor_that_fails_rests_and_the_next_one_is_asked(tmp_path: Path) -> None:
    async with floor(tmp_path) as f:
        await f.sim.fault("tushare", "bad_token", times=None)
        assert await f.collector.poll(QUOTE, order=("tushare", "akshare-sina")) == ""
        assert f.collector.figures["quote"].source == "akshare-sina"
        assert "tushare" in f.collector.resting
        await f.sim.clear()
        calls = await f.sim.calls()
        await f.collector.poll(QUOTE, order=("tushare", "akshare-sina"))
        assert (await f.sim.calls())["tushare"] == calls["tushare"], "it rests still"


async def test_a_vendor_that_falls_silent_is_not_waited_for_long_where_another_one_can_answer(tmp_path: Path) -> None:
    async with floor(tmp_path, deadline=120.0) as f:
        f.collector.patience_seconds = 0.5
        for _ in range(4):  # it takes long to begin, and less after that
            assert await f.collector.poll(QUOTE, order=("tushare",)) == ""
        await f.sim.fault("tushare", "silence", times=None)
        assert await f.collector.poll(QUOTE, order=("tushare", "akshare-sina")) == ""
        assert f.collector.figures["quote"].source == "akshare-sina"
        assert "did not answer within" in f.collector._resting["tushare", ""].reason


async def test_nobody_left_to_ask_is_a_reason_and_no_error(tmp_path: Path) -> None:
    async with floor(tmp_path) as f:
        await f.sim.fault("tushare", "bad_token", times=None)
        said = await f.collector.poll(QUOTE, order=("tushare",))
        assert "denied" in said
        assert "rests until" in await f.collector.poll(QUOTE, order=("tushare",))
        assert f.collector.figures["quote"].failed == 2


def at(quotes: pa.Table, clock: time, day: datetime, more: int) -> Frame:
    """The quotes as they stood at another time, with so much more volume."""
    moment = datetime.combine(day.astimezone(ZONE).date(), clock, ZONE)
    stamps = pa.array([moment] * quotes.num_rows, QUOTE.schema.field("ts").type)
    moved = quotes.set_column(quotes.schema.get_field_index("ts"), "ts", stamps)
    paid = pc.add(quotes["amount"], pc.multiply(quotes["last"], float(more)))
    for name, values in (("volume", pc.add(quotes["volume"], more)), ("amount", paid)):
        moved = moved.set_column(moved.schema.get_field_index(name), name, values)
    batch = moved.select(QUOTE.schema.names).cast(QUOTE.schema).combine_chunks().to_batches()[0]
    return Frame(QUOTE, "tushare", day, batch)


async def test_bars_are_built_from_the_quotes_that_were_stored(tmp_path: Path) -> None:
    async with floor(tmp_path) as f:
        quotes, seen = f.sim.market.quotes(), Figures()
        for clock, more in ((time(10), 0), (time(10, 3), 500), (time(10, 3, 3), 700)):
            await f.collector._store(at(quotes, clock, f.collector.now(), more), f.offered[0], seen)
        await f.collector.flush()
        bars = await f.stored("bar_1m")
        traded = seen.news // 3
        assert traded > 10
        labels = pc.strftime(bars["bar_time"], "%H:%M").to_pylist()
        assert {label: labels.count(label) for label in set(labels)} == {
            "10:03": traded,
            "10:04": traded,
        }
        assert set(bars["source"].to_pylist()) == {"quotes"}
        assert pc.all(bars["provisional"]).as_py()
