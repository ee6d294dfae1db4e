"""Live collection through a simulated session: what was visible is stored once, whatever the vendor's servers do."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from time import monotonic

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from mystocks_ingest import sources
from mystocks_ingest.errors import Unavailable
from mystocks_ingest.flow.ingest import Ingest
from mystocks_ingest.flow.live import Collector, Figures
from mystocks_ingest.flow.patience import Patience
from mystocks_ingest.flow.witness import Witness
from mystocks_ingest.flow.writer import Writer
from mystocks_ingest.market.checks import Context
from mystocks_ingest.market.datasets import DATASETS, QUOTE, TICK
from mystocks_ingest.market.frames import Symbol
from mystocks_ingest.market.sessions import ZONE
from mystocks_ingest.monitor.journal import EmbeddedJournal
from mystocks_ingest.ports import Query
from mystocks_ingest.schema import tables
from mystocks_ingest.schema.tables import Table
from mystocks_ingest.settings import Settings
from mystocks_ingest.sim.market import Market
from mystocks_ingest.sim.server import Sim, SimConfig, running
from mystocks_ingest.sinks.embedded import EmbeddedDatabase, EmbeddedSink

TABLES = tables.load(Path(__file__).parents[2] / "config" / "tables.yaml").placed(())
SEEN = ("last", "open", "high", "low", "pre_close", "volume", "bid_price1", "bid_volume1", "ask_price1", "ask_volume1")
"""Of a quote, as rt_k tells it; its amount is in whole yuan."""

Row = dict[str, object]
Rows = dict[tuple[str, datetime], Row]


@dataclass
class Floor:
    """A collector at a simulated exchange, storing into the embedded store. Both have the time that the test sets."""

    sim: Sim
    collector: Collector
    sink: EmbeddedSink
    _clocks: dict[str, Callable[[], datetime]]

    async def at(self, clock: str, speed: float = 0.0) -> datetime:
        """The exchange's time from now on."""
        moment = datetime.combine(self.sim.market.last_day, time.fromisoformat(clock), ZONE).astimezone(UTC)
        await self.sim.clock(moment, speed)
        began = monotonic()
        self._clocks["exchange"] = lambda: moment + timedelta(seconds=(monotonic() - began) * speed)
        self._clocks["pacing"] = lambda: moment + timedelta(seconds=(monotonic() - began) * max(speed, 20.0))
        return moment

    async def poll(self) -> Figures:
        assert await self.collector.poll(QUOTE, order=("tushare",)) == ""
        return self.collector.figures["quote"]

    async def stored(self, name: str) -> list[Row]:
        return (await self.sink.read(TABLES.holder(DATASETS[name]), Query())).to_pylist()

    async def quotes(self) -> Rows:
        rows = await self.stored("quote")
        found = {(str(r["symbol"]), at) for r in rows if isinstance(at := r["ts"], datetime)}
        assert len(found) == len(rows)
        return {(str(r["symbol"]), _time(r["ts"])): r for r in rows}


@asynccontextmanager
async def floor(folder: Path, *names: str) -> AsyncIterator[Floor]:
    async with AsyncExitStack() as stack:
        config = SimConfig(seed=11, stocks=24, sessions=30, live=True, speed=0)
        sim = await stack.enter_async_context(running(config))
        settings = Settings(
            MYSTOCKS_STATE_DIR=folder,
            MYSTOCKS_CALL_DEADLINE=30.0,
            TUSHARE_POINTS=5000,
            MYSTOCKS_PACING="none",
            **sim.environment,
        )
        clocks: dict[str, Callable[[], datetime]] = {}

        def now() -> datetime:
            return clocks["exchange"]() if clocks else datetime.now(UTC)

        def paced() -> datetime:
            """Goes on while the exchange's clock stands: who waits for a turn would wait for ever."""
            return clocks["pacing"]()

        database = await stack.enter_async_context(EmbeddedDatabase(folder))
        sink = await EmbeddedSink.opened(database, TABLES.all)
        journal = await EmbeddedJournal.opened(database, now=now)
        writers = {
            table: await stack.enter_async_context(Writer(sink, table, patience=Patience(0.5)))
            for name in ("quote", "tick", "bar_1m")
            for table in TABLES.routes(DATASETS[name])
        }
        ingest = Ingest(TABLES, writers, journal, lambda: Context(now()), "live", Witness(sink, TABLES))
        found = {name: sources.open_source(name, settings, now=paced) for name in names}
        for source in found.values():
            stack.push_async_callback(source.aclose)
        made = Floor(sim, Collector(found, ingest, now, bars=True), sink, clocks)
        await made.at("09:10")
        yield made


def _time(value: object) -> datetime:
    assert isinstance(value, datetime)
    return value.astimezone(UTC)


def visible(market: Market, moment: datetime) -> Rows:
    """The truth's quotes of stocks."""
    stocks = pa.array([market.listing.symbols[n] for n in market.kind("stock")])
    table = market.quotes_at(moment)
    table = table.filter(pc.is_in(table["symbol"], stocks))
    return {(str(r["symbol"]), _time(r["ts"])): r for r in table.to_pylist()}


def same(ours: Rows, truth: Rows) -> None:
    assert ours.keys() == truth.keys()
    for key, row in ours.items():
        assert {n: row[n] for n in SEEN} == {n: truth[key][n] for n in SEEN}, key
        assert row["amount"] == int(float(str(truth[key]["amount"])))


def steps(first: str, last: str, seconds: int) -> list[str]:
    day = date(2026, 1, 1)
    at, end = (datetime.combine(day, time.fromisoformat(t)) for t in (first, last))
    out = []
    while at <= end:
        out.append(at.strftime("%H:%M:%S"))
        at += timedelta(seconds=seconds)
    return out


def minutes(market: Market, symbol: str) -> dict[str, Row]:
    """The truth's minute bars by label; the auction counts into the first, as in bars made of quotes."""
    day = market.last_day
    bars = {r["bar_time"].strftime("%H:%M"): r for r in market.minute_table(symbol, "1m", day, day).to_pylist()}
    auction, first = bars.pop("09:30"), bars["09:31"]
    first["open"] = auction["open"]
    for name, among in (("high", max), ("low", min)):
        first[name] = among(first[name], auction[name])
    for name in ("volume", "amount"):
        first[name] += auction[name]
    return bars


async def test_every_change_that_a_poll_saw_is_stored_once_and_bars_are_exact_where_their_end_was_polled(
    tmp_path: Path,
) -> None:
    async with floor(tmp_path, "tushare") as f:
        market, truth = f.sim.market, {}
        for clock in (*steps("09:24:00", "09:36:00", 20), *steps("14:58:40", "15:00:20", 20)):
            moment = await f.at(clock)
            await f.poll()
            await f.collector.flush()
            truth |= visible(market, moment)
        seen, ours = f.collector.figures["quote"], await f.quotes()
        assert len(truth) > 400
        same(ours, truth)
        assert (seen.news, seen.late, seen.stale, seen.refused) == (len(truth), 0, 0, 0)
        latest = {symbol: max(at for s, at in ours if s == symbol) for symbol, _ in ours}
        same({key: ours[key] for key in latest.items()}, visible(market, moment))
        bars = {(str(b["symbol"]), _time(b["bar_time"]).astimezone(ZONE).strftime("%H:%M")): b
                for b in await f.stored("bar_1m")}  # fmt: skip
        polled = ("09:31", "09:32", "09:33", "09:34", "09:35", "09:36", "15:00")
        assert {label for _, label in bars} == set(polled), "the minute that was half over has no bar"
        for symbol in latest:
            own = minutes(market, symbol)
            for label in polled:
                bar, true = bars[symbol, label], own[label]
                assert (bar["volume"], bar["close"]) == (true["volume"], true["close"]), (symbol, label)
                assert bar["amount"] == pytest.approx(true["amount"], abs=2.0)  # rt_k's are in whole yuan
                assert float(str(true["low"])) <= float(str(bar["low"]))
                assert float(str(bar["high"])) <= float(str(true["high"]))
                assert bar["provisional"]
            assert [bars[symbol, "09:31"][n] for n in ("open", "high", "low")] == [
                own["09:31"][n] for n in ("open", "high", "low")
            ], "the first bar's extremes are the day's so far"


async def test_answers_that_are_old_repeated_or_of_several_ages_bring_nothing_twice_and_nothing_back(
    tmp_path: Path,
) -> None:
    async with floor(tmp_path, "tushare") as f:
        truth = {}
        for clock in ("10:00:00", "10:00:40", "10:01:20"):
            moment = await f.at(clock)
            await f.poll()
            truth |= visible(f.sim.market, moment)
            for kind in ("stale", "out_of_order", "repeated"):
                await f.sim.fault("tushare", kind, seconds=90)
                await f.poll()
        hits = (await f.sim.hits())["tushare"]
        assert {k: hits[k] for k in ("stale", "out_of_order", "repeated")} == {
            "stale": 3,
            "out_of_order": 3,
            "repeated": 3,
        }
        same(await f.quotes(), truth)
        seen = f.collector.figures["quote"]
        assert seen.news == len(truth)
        assert seen.late > 60
        await f.at("10:02:00")
        await f.sim.fault("tushare", "volume_x100")
        assert (await f.poll()).refused > 10
        held = await f.quotes()
        same(held, truth)
        await f.poll()
        same(await f.quotes(), truth | visible(f.sim.market, f.collector.now()))


async def test_at_sixty_times_the_speed_each_stored_quote_is_the_truth_of_its_second(tmp_path: Path) -> None:
    async with floor(tmp_path, "tushare") as f:
        await f.poll()  # the vendor's package is loaded before the clock runs
        await f.at("10:14:30", 60.0)
        for _ in range(25):
            await f.poll()
            await f.collector.flush()
        moment = await f.at("15:00:30")
        await f.poll()
        await f.collector.flush()
        ours, market = await f.quotes(), f.sim.market
        assert f.collector.figures["quote"].news == len(ours) > 100
        truth: Rows = {}
        for at in {at for _, at in ours}:
            truth |= {key: row for key, row in visible(market, at).items() if key in ours}
        same(ours, truth)
        for symbol in {s for s, _ in ours}:
            volumes = [int(str(row["volume"])) for (s, _), row in sorted(ours.items()) if s == symbol]
            assert volumes == sorted(set(volumes))
        last = visible(market, moment)
        same({key: ours[key] for key in last}, last)


async def test_a_change_that_could_not_be_stored_is_stored_at_the_next_poll(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with floor(tmp_path, "tushare") as f:
        moment = await f.at("10:00:00")

        async def away(*_: object, **__: object) -> None:
            raise Unavailable("the disk is full")

        with monkeypatch.context() as patched:
            patched.setattr(EmbeddedSink, "write", away)
            with pytest.raises(Unavailable):
                await f.poll()
        assert await f.quotes() == {}
        await f.poll()
        same(await f.quotes(), visible(f.sim.market, moment))


async def test_bars_that_could_not_be_stored_are_stored_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with floor(tmp_path, "tushare") as f:
        write = EmbeddedSink.write

        async def no_bars(sink: EmbeddedSink, table: Table, rows: pa.RecordBatch) -> None:
            if table.name == "bar_1m":
                raise Unavailable("the disk is full")
            await write(sink, table, rows)

        for clock in ("09:30:30", "09:31:00"):
            await f.at(clock)
            await f.poll()
        with monkeypatch.context() as patched:
            patched.setattr(EmbeddedSink, "write", no_bars)
            for clock in ("09:31:05", "09:32:00"):
                await f.at(clock)
                with pytest.raises(Unavailable):
                    await f.collector.flush()
                with pytest.raises(Unavailable):
                    await f.poll()
        assert await f.stored("bar_1m") == []
        await f.at("09:32:05")
        await f.collector.flush()
        bars = {(str(b["symbol"]), _time(b["bar_time"]).astimezone(ZONE).strftime("%H:%M")): b["volume"]
                for b in await f.stored("bar_1m")}  # fmt: skip
        symbols = {symbol for symbol, _ in bars}
        assert len(symbols) > 10
        assert bars == {(s, label): minutes(f.sim.market, s)[label]["volume"]
                        for s in symbols for label in ("09:31", "09:32")}  # fmt: skip


async def test_the_last_bar_of_a_life_that_ended_at_the_close_is_stored_by_the_next_without_a_look(
    tmp_path: Path,
) -> None:
    async with floor(tmp_path, "tushare") as f:
        f.collector.memory = tmp_path / "bars.arrow"
        for clock in ("14:58:50", "14:59:05", "15:00:02"):
            await f.at(clock)
            await f.poll()
        labels = {_time(b["bar_time"]).astimezone(ZONE).strftime("%H:%M") for b in await f.stored("bar_1m")}
        assert "15:00" not in labels
        await f.at("21:00:00")
        given = f.collector
        await Collector(given.sources, given.ingest, given.now, bars=True, memory=given.memory).flush()
        last = {str(b["symbol"]): b["close"] for b in await f.stored("bar_1m")
                if _time(b["bar_time"]).astimezone(ZONE).strftime("%H:%M") == "15:00"}  # fmt: skip
        assert len(last) > 10
        assert last == {symbol: minutes(f.sim.market, symbol)["15:00"]["close"] for symbol in last}


async def test_polled_trades_are_stored_once_each_with_numbers_that_stay(tmp_path: Path) -> None:
    symbols = (Symbol("600000.SH"), Symbol("000001.SZ"))
    async with floor(tmp_path, "akshare") as f:
        market, day = f.sim.market, f.sim.market.last_day
        assert await f.collector.poll(TICK, order=("akshare",), symbols=symbols) == ""
        assert (await f.sim.calls())["akshare"] == {}, "before the auction there are no trades of today"
        offered = 0
        for clock in ("09:25:00", "09:33:20", "11:30:30"):
            moment = await f.at(clock)
            assert await f.collector.poll(TICK, order=("akshare",), symbols=symbols) == ""
            offered += sum(market.ticks(s, day, until=moment).num_rows for s in symbols)
            await f.sim.fault("akshare", "stale", times=2, seconds=100, match="eastmoney/details")
            if clock > "09:30":
                assert await f.collector.poll(TICK, order=("akshare",), symbols=symbols) == ""
                offered += sum(market.ticks(s, day, until=moment - timedelta(seconds=100)).num_rows for s in symbols)
            await f.sim.clear()
        truth = [r for s in sorted(symbols) for r in market.ticks(s, day, until=moment).to_pylist()]
        names = ("symbol", "seq", "price", "volume", "side")
        ours = sorted(await f.stored("tick"), key=lambda r: (str(r["symbol"]), _time(r["ts"]), r["seq"]))
        assert [(_time(r["ts"]), *(r[n] for n in names)) for r in ours] == [
            (_time(r["ts"]), *(r[n] for n in names)) for r in truth
        ]
        assert {r["seq"] for r in ours} == {0, 1}
        seen = f.collector.figures["tick"]
        assert (seen.rows, seen.news) == (offered, len(truth))


async def test_a_symbol_that_does_not_trade_or_fails_costs_the_others_no_trades(tmp_path: Path) -> None:
    async with floor(tmp_path, "akshare") as f:
        market, day = f.sim.market, f.sim.market.last_day
        traded = [s for s in ("600000.SH", "000001.SZ") if market.ticks(s, day).num_rows]
        stocks = [str(market.listing.symbols[n]) for n in market.kind("stock")]
        quiet = next(s for s in stocks if not market.ticks(s, day).num_rows and s[:1] in "036")
        symbols = tuple(Symbol(s) for s in (traded[0], quiet, traded[1]))
        moment = await f.at("10:30:00")
        await f.sim.fault("akshare", "garbage", times=3, match="eastmoney/details")
        said = await f.collector.poll(TICK, order=("akshare",), symbols=symbols)
        assert f"1 of 3 symbols could not be had, such as {traded[0]}" in said
        assert f.collector.resting == {}
        held = Counter(str(r["symbol"]) for r in await f.stored("tick"))
        assert held[traded[1]] == market.ticks(traded[1], day, until=moment).num_rows
        assert await f.collector.poll(TICK, order=("akshare",), symbols=symbols) == ""
        held = Counter(str(r["symbol"]) for r in await f.stored("tick"))
        assert held == {s: market.ticks(s, day, until=moment).num_rows for s in traded}


async def test_a_symbol_that_joins_during_the_day_gets_no_bar_of_what_was_before(tmp_path: Path) -> None:
    one, other = Symbol("600000.SH"), Symbol("000001.SZ")
    async with floor(tmp_path, "tushare") as f:
        for clock in ("10:00:30", "10:01:00", "10:01:40", "10:02:00", "10:02:30", "10:03:00", "10:03:30"):
            await f.at(clock)
            symbols = (one,) if clock < "10:01:30" else (one, other)
            assert await f.collector.poll(QUOTE, order=("tushare",), symbols=symbols) == ""
            await f.collector.flush()
        bars = {
            (str(b["symbol"]), _time(b["bar_time"]).astimezone(ZONE).strftime("%H:%M")): b["volume"]
            for b in await f.stored("bar_1m")
        }
        own = {symbol: minutes(f.sim.market, symbol) for symbol in (one, other)}
        assert bars == {
            (symbol, label): own[symbol][label]["volume"]
            for symbol, label in ((one, "10:02"), (one, "10:03"), (other, "10:03"))
        }
