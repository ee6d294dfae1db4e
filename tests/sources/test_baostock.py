"""Baostock's real package against the simulated server: every row as in the truth, every fault a typed outcome in time."""

import asyncio
from datetime import UTC, date, datetime, timedelta

import psutil
import pyarrow.compute as pc
import pytest
import pytest_asyncio
from asking import Ask, of, plain

from mystocks_ingest.errors import Banned, ConfigError, Denied, Limited, Malformed, Unreachable, Unsupported
from mystocks_ingest.market.frames import Window
from mystocks_ingest.ports import Rate
from mystocks_ingest.sim.server import SimConfig, running
from mystocks_ingest.sources.baostock.calls import address, meaning
from mystocks_ingest.sources.baostock.source import Baostock
from mystocks_ingest.sources.pacing import Budget

pytestmark = pytest.mark.asyncio(loop_scope="session")

NOW = datetime(2026, 11, 20, 4, 0, tzinfo=UTC)
DEADLINE = 3.0
IN_TIME = 60.0  # on a busy machine, where a lane takes seconds to start; a silent server would last for ever
QUICK = Budget(rates=(Rate(40_000, 86_400.0),))
HISTORY = "query_history_k_data_plus"


def make(sim, **given):
    options = {"endpoint": sim.environment["BAOSTOCK_ENDPOINT"], "budget": QUICK, "deadline": DEADLINE}
    return Baostock(**(options | given))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def baostock(sim):
    source = make(sim, deadline=20.0)
    await source.probe()
    yield source
    await source.aclose()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def hasty(sim):
    """A source with a short deadline, for faults that leave nothing behind."""
    source = make(sim)
    source._deadline = (
        30.0  # the client's own time-out stays short; a lane that a busy machine made late would be killed
    )
    await source.probe()
    yield source
    await source.aclose()


@pytest_asyncio.fixture(loop_scope="session")
async def fresh(sim):
    """A source that nothing has happened to yet; faults are disarmed afterwards."""
    source = make(sim)
    yield source
    await sim.clear()
    await source.aclose()


@pytest.fixture
def ask(sim):
    return Ask(sim)


# -- rows ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("asset_type", "exchange"), [("stock", "SH"), ("stock", "SZ"), ("index", ""), ("etf", "")])
async def test_daily_bars_by_symbol_equal_the_truth(baostock, ask, asset_type, exchange):
    symbol = ask.one(asset_type, exchange)
    rows = await ask.rows(baostock, "bar_1d", symbol)
    truth = plain([ask.market.bars_1d(symbols=(symbol,))])
    columns = ["symbol", "trade_date", "open", "high", "low", "close", "pre_close", "volume", "amount"]
    assert rows.select(columns).to_pylist() == truth.select(columns).to_pylist()
    assert rows.num_rows > 100


async def test_suspended_sessions_come_as_suspensions_and_not_as_bars(baostock, ask):
    everything = plain([ask.market.suspensions()])
    everything = everything.filter(pc.invert(pc.ends_with(everything["symbol"], "BJ")))
    symbol = everything["symbol"].to_pylist()[0]
    frames = await ask.frames(baostock, "bar_1d", symbol)
    assert [f.dataset.name for f in frames] == ["bar_1d", "suspension"]
    off = plain([frames[1].rows])
    assert off["trade_date"].to_pylist() == of(everything, symbol)["trade_date"].to_pylist()
    assert not set(off["trade_date"].to_pylist()) & set(frames[0].rows["trade_date"].to_pylist())


@pytest.mark.parametrize("asset_type", ["stock", "etf"])
async def test_the_whole_market_of_a_session_equals_the_truth_without_beijing(baostock, ask, asset_type):
    rows = await ask.rows(baostock, "bar_1d", window=ask.last, asset_type=asset_type)
    truth = plain([ask.market.bars_1d(asset_types=(asset_type,))])
    keep = pc.and_(pc.equal(truth["trade_date"], ask.market.last_day), pc.invert(pc.ends_with(truth["symbol"], "BJ")))
    columns = ["symbol", "close", "pre_close", "volume", "amount"]
    assert rows.select(columns).to_pylist() == truth.filter(keep).select(columns).to_pylist()


@pytest.mark.parametrize("interval", ["5m", "15m", "30m", "60m"])
async def test_minute_bars_of_many_pages_arrive_whole(baostock, ask, interval):
    symbol = ask.one("stock")
    rows = await ask.rows(baostock, f"bar_{interval}", symbol)
    truth = plain([ask.market.minute_table(symbol, interval)])
    columns = ["symbol", "bar_time", "open", "high", "low", "close", "volume", "amount"]
    assert rows.select(columns).to_pylist() == truth.select(columns).to_pylist()
    assert interval != "5m" or rows.num_rows > 4000


async def test_weekly_and_monthly_bars_equal_the_truth(baostock, ask):
    symbol = ask.one("stock")
    for name, period in (("bar_1w", "1w"), ("bar_1mo", "1mo")):
        rows = await ask.rows(baostock, name, symbol)
        truth = plain([ask.market.period_bars(period, symbols=(symbol,))])
        for column in ("trade_date", "close", "volume", "amount"):
            assert rows[column].to_pylist() == truth[column].to_pylist()


async def test_the_calendar_and_the_instruments_equal_the_truth(baostock, ask):
    window = Window(date(1990, 12, 19), date(2027, 1, 1))
    rows = await ask.rows(baostock, "calendar", window=window)
    truth = plain([ask.market.calendar()])
    rows = rows.filter(pc.greater_equal(rows["trade_date"], truth["trade_date"][0]))
    assert rows.select(["trade_date", "is_open"]).to_pylist() == truth.select(["trade_date", "is_open"]).to_pylist()
    rows = await ask.rows(baostock, "instrument", window=window)
    truth = plain([ask.market.instruments()])
    truth = truth.filter(pc.not_equal(truth["exchange"], "BJ"))
    columns = ["symbol", "exchange", "asset_type", "status", "list_date", "delist_date"]
    assert rows.select(columns).to_pylist() == truth.select(columns).to_pylist()


async def test_the_factor_in_force_at_the_windows_start_is_among_the_rows(baostock, ask):
    symbol = ask.one("stock")
    rows = await ask.rows(baostock, "adj_factor", symbol)
    truth = of(plain([ask.market.factors()]), symbol)
    assert rows["trade_date"].to_pylist()[0] < ask.window.start
    assert rows["factor"].to_pylist()[-1] == pytest.approx(truth["factor"].to_pylist()[-1], abs=1e-5)


async def test_valuations_are_the_subset_that_baostock_has(baostock, ask):
    symbol = ask.one("stock")
    rows = await ask.rows(baostock, "daily_basic", symbol)
    assert rows.num_rows > 100
    assert rows["pe_ttm"].null_count < rows.num_rows
    assert rows["total_shares"].null_count == rows.num_rows


@pytest.mark.parametrize(
    ("name", "symbol"), [("bar_1d", "920819.BJ"), ("bar_5m", "000300.SH"), ("bar_1m", "600000.SH")]
)
async def test_what_baostock_does_not_have_is_unsupported_without_a_call(baostock, sim, ask, name, symbol):
    before = await sim.calls()
    with pytest.raises(Unsupported):
        await ask.rows(baostock, name, symbol)
    assert await sim.calls() == before


async def test_an_answer_without_rows_is_empty_and_no_failure(baostock, ask):
    window = Window(date(2005, 1, 1), date(2005, 2, 1))
    frames = await ask.frames(baostock, "bar_1d", ask.one("stock"), window=window)
    assert sum(len(f) for f in frames) == 0


# -- faults -------------------------------------------------------------------------------------------------------

PASSING = [
    ("fin", Unreachable),
    ("fin_mid", Unreachable),
    ("rst", Unreachable),
    ("rst_mid", Unreachable),
    ("silence", Unreachable),
    ("refused", Unreachable),
    ("server_error", Unreachable),
    ("type_04", Malformed),
    ("unzip_error", Malformed),
    ("column_removed", Malformed),
    ("column_renamed", Malformed),
    ("not_logged_in", Unreachable),
]
LASTING = [("blacklist", Banned), ("client_too_old", Denied), ("login_limit", Limited)]


@pytest.mark.parametrize(("kind", "error"), PASSING, ids=[f[0] for f in PASSING])
async def test_a_fault_has_its_outcome_in_time_and_is_over_when_it_is_over(hasty, sim, ask, kind, error):
    await sim.fault("baostock", kind, times=None, match=HISTORY)
    try:
        with pytest.raises(error):
            await asyncio.wait_for(ask.rows(hasty, "bar_1d", ask.one("stock")), IN_TIME)
    finally:
        await sim.clear()
    assert (await ask.rows(hasty, "bar_1d", ask.one("stock"))).num_rows > 100


@pytest.mark.parametrize("kind", ["fin", "rst_mid", "silence"])
async def test_a_server_that_fails_at_the_login_is_noticed_in_time_too(fresh, sim, ask, kind):
    await sim.fault("baostock", kind, times=None, match="login")
    with pytest.raises(Unreachable):
        await asyncio.wait_for(ask.rows(fresh, "bar_1d", ask.one("stock")), IN_TIME)
    await sim.clear()
    assert (await ask.rows(fresh, "bar_1d", ask.one("stock"))).num_rows > 100


@pytest.mark.parametrize("kind", ["page_error", "drop_pages"])
async def test_a_later_page_that_fails_is_an_error_and_not_the_end(hasty, sim, ask, kind):
    symbol = ask.one("stock")
    await sim.fault("baostock", kind, times=None, match=HISTORY)
    try:
        with pytest.raises(Unreachable):
            await ask.rows(hasty, "bar_5m", symbol)
    finally:
        await sim.clear()
    await sim.fault("baostock", kind, times=1, match=HISTORY)
    rows = await ask.rows(hasty, "bar_5m", symbol)
    assert rows.num_rows == ask.market.minute_table(symbol, "5m").num_rows


@pytest.mark.parametrize("kind", ["fin", "rst_mid", "server_error", "not_logged_in", "unzip_error"])
async def test_a_fault_that_passes_is_repeated_without_a_trace(hasty, sim, ask, kind):
    await sim.fault("baostock", kind, times=1, match=HISTORY)
    assert (await ask.rows(hasty, "bar_1d", ask.one("stock"))).num_rows > 100


@pytest.mark.parametrize("kind", ["bad_crc", "bad_length"])
async def test_a_frame_that_is_wrong_but_readable_changes_no_row(hasty, sim, ask, kind):
    symbol = ask.one("stock")
    await sim.fault("baostock", kind, times=1, match=HISTORY)
    rows = await ask.rows(hasty, "bar_1d", symbol)
    assert rows["close"].to_pylist() == plain([ask.market.bars_1d(symbols=(symbol,))])["close"].to_pylist()


@pytest.mark.parametrize(("kind", "error"), LASTING)
async def test_a_refusal_is_heard_once_and_outlives_a_restart(sim, ask, kind, error, tmp_path):
    await sim.fault("baostock", kind, times=None, match="login")
    path = tmp_path / "pacing.sqlite"
    before = (await sim.calls())["baostock"].get("login", 0)
    for _ in range(2):
        source = make(sim, pacing=path)
        try:
            with pytest.raises(error) as caught:
                await asyncio.wait_for(ask.rows(source, "bar_1d", ask.one("stock")), IN_TIME)
        finally:
            await source.aclose()
    await sim.clear()
    if error is Banned:
        assert caught.value.until > datetime.now(UTC) + timedelta(hours=5)
    if issubclass(error, Limited):
        assert (await sim.calls())["baostock"]["login"] == before + 1


async def test_adjusted_prices_are_refused_where_raw_ones_were_asked_for(baostock):
    from mystocks_ingest.sources.baostock import layouts  # noqa: PLC0415
    from mystocks_ingest.sources.baostock.source import Query  # noqa: PLC0415

    fields = "date,code,open,high,low,close,preclose,volume,amount,adjustflag,turn,tradestatus"
    arguments = {
        "code": "sh.600000", "fields": fields, "start_date": "2026-06-01", "end_date": "2026-06-10",
        "frequency": "d", "adjustflag": "2",
    }  # fmt: skip
    query = Query(HISTORY, arguments, layouts.DAILY)
    answer = await baostock._ask(query)
    with pytest.raises(Malformed, match="adjustflag 2"):
        baostock._read(query, answer)


async def test_all_calls_go_through_one_connection_one_at_a_time(sim, ask):
    source = make(sim, deadline=20.0)
    try:
        symbols = [ask.one("stock", "SH", n) for n in range(4)]
        answers = await asyncio.gather(*(ask.rows(source, "bar_1d", s) for s in symbols))
        assert [a["symbol"].to_pylist()[0] for a in answers] == symbols
        child = psutil.Process(source._lane.pid)
        assert len([c for c in child.net_connections("tcp") if c.status == psutil.CONN_ESTABLISHED]) == 1
    finally:
        await source.aclose()


async def test_every_message_is_counted_and_the_budget_holds(sim, ask):
    source = make(sim, deadline=20.0, budget=Budget(rates=(Rate(5, 86_400.0),)))
    try:
        await ask.rows(source, "bar_5m", ask.one("stock"))  # login, 3 pages
        assert source.status().used[0].calls == 4
        await source.probe()
        with pytest.raises(Limited):
            await source.probe()
    finally:
        await source.aclose()


async def test_the_connection_is_renewed_before_the_vendor_drops_it():
    async with running(SimConfig(seed=7, stocks=30, sessions=20)) as sim:
        source = make(sim, deadline=20.0)
        try:
            for _ in range(201):
                await source.probe()
            assert (await sim.calls())["baostock"]["login"] == 2
        finally:
            await source.aclose()
        assert (await sim.calls())["baostock"]["logout"] == 1


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("10001011", Banned),
        ("10001005", Limited),
        ("10001002", Denied),
        ("10001004", Denied),
        ("10001012", Denied),
        ("10002007", Unreachable),
        ("10005001", Unreachable),
        ("10004011", Unsupported),
        ("10004010", Malformed),
        ("99999999", Malformed),
    ],
)
async def test_the_vendors_codes_mean(code, kind):
    error = meaning(code, "文字", "query", ConnectionResetError("gone"), now=NOW)
    assert type(error) is kind
    if kind is Banned:
        assert error.until == NOW + timedelta(hours=6)


async def test_an_endpoint_is_host_and_port():
    assert address("127.0.0.1:10031") == ("127.0.0.1", 10031)
    assert address("tcp://sim/") == ("sim", 10030)
    with pytest.raises(ConfigError, match="BAOSTOCK_ENDPOINT"):
        address("127.0.0.1:port")
