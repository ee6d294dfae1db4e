"""AkShare's real package against the simulated market: every row as in the truth, every fault a typed outcome."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc
import pytest
import pytest_asyncio
import stamina
from asking import Ask, of, plain

from mystocks_ingest.errors import Banned, Malformed, Unreachable
from mystocks_ingest.market.datasets import MINUTE_INTERVALS
from mystocks_ingest.sources.akshare import Akshare
from mystocks_ingest.sources.akshare.families import FAMILIES

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.fixture
def ask(sim):
    return Ask(sim)


def make(sim, name, deadline=30.0):
    last = sim.market.last_day
    now = datetime(last.year, last.month, last.day, 9, tzinfo=UTC)
    family = replace(FAMILIES[name], rates=(), spacing=0.0, deadline=deadline)
    return Akshare(family, endpoint=sim.environment["AKSHARE_ENDPOINT"], pacing=None, clock=lambda: now)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def families(sim):
    """Every family, unpaced, after the simulated market's last close; lanes start here."""
    opened = {name: make(sim, name) for name in FAMILIES}
    await asyncio.gather(*(s._lane.call("builtins:dict", {}, deadline=60) for s in opened.values()))
    yield opened
    for source in opened.values():
        await source.aclose()


@pytest_asyncio.fixture(loop_scope="session")
async def source(sim, families):
    def find(name="akshare"):
        families[name]._pacer.reopen()
        return families[name]

    with stamina.set_testing(True, attempts=2):
        yield find
    await sim.clear()


TOLERANCE = {"volume": 50, "amount": 140, "turnover": 0.01}  # lots are rounded, and with them what comes of them


def same(ours, truth, *, without=()):
    """Equal in every column but ``without``; volume and amount within what rounding to lots can do."""
    assert ours.num_rows == truth.num_rows > 0
    for name in set(truth.column_names) - set(without):
        left, right = ours.column(name).combine_chunks(), truth.column(name).combine_chunks()
        if name in TOLERANCE:
            far = pc.max(pc.abs(pc.subtract(left.cast(pa.float64()), right.cast(pa.float64())))).as_py()
            assert far <= TOLERANCE[name], name
            assert left.null_count == right.null_count, name
        else:
            assert left.cast(right.type).equals(right), name


KINDS = (("stock", "SH"), ("stock", "SZ"), ("stock", "BJ"), ("etf", ""), ("index", "SH"))


@pytest.mark.parametrize(("asset_type", "exchange"), KINDS)
async def test_daily_bars_are_the_markets_own(sim, ask, source, asset_type, exchange):
    symbol = ask.one(asset_type, exchange)
    got = await ask.rows(source(), "bar_1d", symbol)
    truth = plain([of(sim.market.bars_1d(asset_types=(asset_type,)), symbol)])
    same(got, truth, without=("turnover", *(("pre_close",) if asset_type == "index" else ())))


@pytest.mark.parametrize(
    ("name", "exchange"),
    [("akshare-sina", "SH"), ("akshare-sina", "SZ"), ("akshare-tencent", "SH"), ("akshare-tencent", "SZ")],
)
async def test_other_families_give_the_same_daily_bars(sim, ask, source, name, exchange):
    symbol = ask.one("stock", exchange)
    got = await ask.rows(source(name), "bar_1d", symbol)
    truth = plain([of(sim.market.bars_1d(), symbol)])
    same(got, truth, without=("turnover", "pre_close"))


async def test_the_same_code_on_two_exchanges_gives_two_instruments(sim, ask, source):
    opened = source()
    stock = await ask.rows(opened, "bar_1d", "000001.SZ")
    index = await ask.rows(opened, "bar_1d", "000001.SH")
    assert stock.column("close")[0].as_py() < 1000 < index.column("close")[0].as_py()


@pytest.mark.parametrize("name", ["bar_1w", "bar_1mo"])
async def test_weeks_and_months_are_the_markets_own(sim, ask, source, name):
    symbol = ask.one("stock", "SH")
    got = await ask.rows(source(), name, symbol)
    truth = plain([sim.market.period_bars(name.removeprefix("bar_"), symbols=(symbol,))])
    both = pc.is_in(got.column("trade_date"), value_set=truth.column("trade_date").combine_chunks())
    same(got.filter(both), truth, without=("turnover", "pre_close", "provisional"))


@pytest.mark.parametrize("interval", MINUTE_INTERVALS)
async def test_minute_bars_are_the_markets_own(sim, ask, source, interval):
    symbol = ask.one("stock", "SZ")
    got = await ask.rows(source(), f"bar_{interval}", symbol)
    first = got.column("bar_time")[0].as_py().date()
    truth = plain([sim.market.minute_table(symbol, interval, first)])
    same(got, truth, without=("open", *(("volume", "amount") if interval != "1m" else ())))
    opened, own = got.column("open"), truth.column("open")
    known = pc.is_valid(opened)
    assert opened.filter(known).combine_chunks().equals(own.filter(known).combine_chunks())
    assert pc.sum(known).as_py() > 0


async def test_quotes_of_the_market_and_of_a_symbol_are_the_markets_own(sim, ask, source):
    truth = plain([sim.market.quotes()])
    got = await ask.rows(source(), "quote", window=ask.last)
    got = got.filter(pc.is_valid(got.column("last")))  # a suspended stock is in the list without prices
    own = of(truth, *got.column("symbol").to_pylist())
    prices = ("symbol", "last", "open", "high", "low", "pre_close", "volume", "amount")
    same(got.select(prices), own.select(prices))
    symbol = ask.one("stock", "SH")
    got = await ask.rows(source(), "quote", symbol, window=ask.last)
    same(got, of(truth, symbol), without=("ts", "source", "fetched_at"))


@pytest.mark.parametrize("name", ["akshare", "akshare-tencent"])
async def test_trades_of_the_last_session_are_the_markets_own(sim, ask, source, name):
    symbol = ask.one("stock", "SZ")
    got = await ask.rows(source(name), "tick", symbol, window=ask.last)
    truth = plain([sim.market.ticks(symbol)])
    same(got, truth, without=("seq", *(("amount",) if name == "akshare" else ())))
    keys = got.select(["ts", "seq"])
    assert keys.group_by(["ts", "seq"]).aggregate([]).num_rows == got.num_rows


async def test_factors_in_force_are_the_markets_own(sim, ask, source):
    symbol = ask.one("stock", "SH")
    got = await ask.rows(source("akshare-sina"), "adj_factor", symbol)
    truth = plain([of(sim.market.factors(), symbol)])
    latest = {r["trade_date"]: r["factor"] for r in truth.to_pylist()}
    events = got.to_pylist()
    for day, factor in latest.items():
        in_force = [e["factor"] for e in events if e["trade_date"] <= day][-1]
        assert in_force == pytest.approx(factor, rel=1e-4), day


async def test_the_calendar_is_the_markets_own(sim, ask, source):
    got = await ask.rows(source("akshare-sina"), "calendar")
    truth = plain([sim.market.calendar(sim.market.first_day, sim.market.last_day)])
    same(got, truth)


async def test_the_lists_hold_every_stock_of_the_market(sim, ask, source):
    got = await ask.rows(source("akshare-exchanges"), "instrument")
    truth = sim.market.instruments(("stock",))
    columns = ("symbol", "exchange", "asset_type", "status", "list_date", "delist_date")
    ours = {r["symbol"]: r for r in got.select(columns).to_pylist()}
    missing = [r for r in truth.select(columns).to_pylist() if r != ours.get(r["symbol"])]
    assert [r for r in missing if r["exchange"] != "BJ" or r["status"] == "L"] == []  # Beijing lists no delisted ones


FAULTS = (
    ("refused", Unreachable),
    ("rst", Unreachable),
    ("fin", Unreachable),
    ("http_500", Unreachable),
    ("http_502", Unreachable),
    ("http_504", Unreachable),
    ("http_456", Banned),
    ("captcha", Banned),
    ("garbage", Malformed),
    ("column_added", Malformed),
    ("column_removed", Malformed),
    ("fin_mid", Unreachable),
    ("rst_mid", Unreachable),
)


@pytest.mark.parametrize(("kind", "error"), FAULTS)
async def test_every_fault_of_a_kline_is_a_typed_outcome(sim, ask, source, kind, error):
    opened = source()
    await sim.fault("akshare", kind, times=None)
    with pytest.raises((error, Banned)):  # two dropped connections open the breaker
        await ask.rows(opened, "bar_1d", ask.one("stock", "SH"))


@pytest.mark.parametrize("kind", ["http_502", "captcha", "garbage", "column_removed", "truncated"])
async def test_no_fault_of_a_paged_list_passes_for_the_market(sim, ask, source, kind):
    opened = source()
    await sim.fault("akshare", kind, times=None, match="eastmoney/list", rows=20)
    with pytest.raises((Unreachable, Malformed, Banned)):
        await ask.rows(opened, "quote", window=ask.last)


@pytest.mark.parametrize("kind", ["drop_pages", "http_502", "garbage", "fin_mid", "captcha"])
async def test_no_fault_of_tencents_pages_passes_for_a_day(sim, ask, source, kind):
    opened = source("akshare-tencent")
    await sim.fault("akshare", kind, times=None, match="tencent/ticks")
    with pytest.raises((Unreachable, Malformed, Banned)):
        await ask.rows(opened, "tick", ask.one("stock", "SZ"), window=ask.last)


@pytest.mark.parametrize("match", ["eastmoney/kline", "eastmoney/list"])
async def test_a_silent_server_is_left_at_the_deadline(sim, ask, match):
    source = make(sim, "akshare", deadline=3.0)
    await sim.fault("akshare", "silence", times=None, match=match)
    try:
        market, symbol = ask.rows(source, "quote", window=ask.last), ask.rows(source, "bar_1d", ask.one("stock", "SH"))
        asked, other = (market, symbol) if match == "eastmoney/list" else (symbol, market)
        other.close()
        with stamina.set_testing(True, attempts=1), pytest.raises(Unreachable, match="no answer within 3 s"):
            await asyncio.wait_for(asked, 60)  # with the start of the lane
    finally:
        await sim.clear()
        await source.aclose()
