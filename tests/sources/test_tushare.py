"""Tushare's real package against the simulated server: every row as in the truth, every fault a typed outcome in time."""

import asyncio
from datetime import UTC, date, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc
import pytest
import pytest_asyncio
from asking import Ask, of, plain

from mystocks_ingest.errors import ConfigError, Denied, Limited, Malformed, Unreachable, Unsupported
from mystocks_ingest.market.frames import Window
from mystocks_ingest.ports import Rate
from mystocks_ingest.sources.tushare import apis
from mystocks_ingest.sources.tushare.calls import base_url, meaning, named_limit
from mystocks_ingest.sources.tushare.source import Tushare, budget

pytestmark = pytest.mark.asyncio(loop_scope="session")

NOW = datetime(2026, 11, 20, 4, 0, tzinfo=UTC)
DEADLINE = 3.0
IN_TIME = 60.0  # on a busy machine, where a lane takes seconds to start; some of the faults would last for ever


def make(sim, **given):
    options = {
        "token": sim.environment["TUSHARE_TOKEN"],
        "budget": budget(5000),
        "endpoint": sim.environment["TUSHARE_ENDPOINT"],
        "deadline": DEADLINE,
    }
    return Tushare(**(options | given))


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def tushare(sim):
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


@pytest.mark.parametrize(("asset_type", "exchange"), [("stock", "SH"), ("stock", "BJ"), ("index", ""), ("etf", "")])
async def test_daily_bars_by_symbol_equal_the_truth(tushare, ask, asset_type, exchange):
    symbol = ask.one(asset_type, exchange)
    rows = await ask.rows(tushare, "bar_1d", symbol)
    truth = plain([ask.market.bars_1d(symbols=(symbol,))])
    assert rows.drop_columns(["turnover"]).to_pylist() == truth.drop_columns(["turnover"]).to_pylist()
    assert rows.num_rows > 100


@pytest.mark.parametrize("asset_type", ["stock", "etf"])
async def test_the_whole_market_of_a_session_equals_the_truth(tushare, ask, asset_type):
    rows = await ask.rows(tushare, "bar_1d", window=ask.last, asset_type=asset_type)
    truth = plain([ask.market.bars_1d(asset_types=(asset_type,))])
    truth = truth.filter(pc.equal(truth["trade_date"], ask.market.last_day))
    assert (
        rows.select(["symbol", "close", "pre_close", "volume", "amount"]).to_pylist()
        == truth.select(["symbol", "close", "pre_close", "volume", "amount"]).to_pylist()
    )


@pytest.mark.parametrize("interval", ["1m", "5m", "60m"])
async def test_minute_bars_longer_than_the_cap_arrive_whole(tushare, ask, interval):
    symbol = ask.one("stock")
    rows = await ask.rows(tushare, f"bar_{interval}", symbol)
    truth = plain([ask.market.minute_table(symbol, interval)])
    columns = ["symbol", "bar_time", "open", "high", "low", "close", "volume", "amount"]
    assert rows.select(columns).equals(truth.select(columns).cast(rows.select(columns).schema))
    assert interval != "1m" or rows.num_rows > 8000


async def test_weekly_and_monthly_units_are_proven(tushare, ask):
    symbol = ask.one("stock")
    for name, period in (("bar_1w", "1w"), ("bar_1mo", "1mo")):
        rows = await ask.rows(tushare, name, symbol)
        truth = plain([ask.market.period_bars(period, symbols=(symbol,))])
        for column in ("trade_date", "close", "volume", "amount"):
            assert rows[column].to_pylist() == truth[column].to_pylist()


async def test_weekly_bars_that_come_in_shares_and_yuan_are_read_so():
    layout = apis._BY_DATASET["bar_1w"]["stock"].layout
    from mystocks_ingest.market.layout import normalize  # noqa: PLC0415

    row = {"ts_code": "600000.SH", "trade_date": "20250207", "open": 10.0, "high": 11.0, "low": 9.0, "close": 10.5}
    for lot, thousand in ((100, 1000), (1, 1)):
        raw = pa.RecordBatch.from_pylist(
            [row | {"pre_close": 10.0, "vol": 1_000_000.0 / lot, "amount": 10_000_000.0 / thousand}]
        )
        rows = normalize(layout, raw, source="tushare", fetched_at=NOW)[0].rows
        assert rows["volume"].to_pylist() == [1_000_000]
        assert rows["amount"].to_pylist() == [10_000_000.0]


async def test_the_calendar_and_the_instruments_equal_the_truth(tushare, ask):
    window = Window(date(1990, 12, 19), date(2027, 1, 1))
    rows = await ask.rows(tushare, "calendar", window=window)
    truth = plain([ask.market.calendar()])
    rows = rows.filter(pc.greater_equal(rows["trade_date"], truth["trade_date"][0]))
    assert rows.select(["trade_date", "is_open"]).to_pylist() == truth.select(["trade_date", "is_open"]).to_pylist()
    rows = await ask.rows(tushare, "instrument", window=window)
    truth = plain([ask.market.instruments()])
    columns = ["symbol", "exchange", "asset_type", "status", "list_date", "delist_date"]
    assert rows.select(columns).to_pylist() == truth.select(columns).to_pylist()
    assert "D" in rows["status"].to_pylist()


async def test_factors_valuations_and_suspensions_equal_the_truth(tushare, ask):
    symbol = ask.one("stock")
    basic = await ask.rows(tushare, "daily_basic", symbol)
    truth = of(plain([ask.market.daily_basic()]), symbol)
    assert basic["total_shares"].to_pylist() == pytest.approx(truth["total_shares"].to_pylist())
    assert basic["pe_ttm"].to_pylist() == pytest.approx(truth["pe_ttm"].to_pylist(), abs=1e-3)
    off = await ask.rows(tushare, "suspension", symbol)
    assert off.to_pylist() == of(plain([ask.market.suspensions()]), symbol).to_pylist()
    factors = await ask.rows(tushare, "adj_factor", symbol)
    last = of(plain([ask.market.factors()]), symbol)["factor"].to_pylist()[-1]
    assert factors["factor"].to_pylist()[-1] == pytest.approx(last)


async def test_quotes_of_the_whole_market_carry_the_exchanges_time(tushare, ask):
    rows = await ask.rows(tushare, "quote", window=ask.last)
    assert rows.num_rows > 10
    assert rows["ts"].null_count == 0


async def test_an_answer_without_rows_is_empty_and_no_failure(tushare, ask):
    window = Window(date(2005, 1, 1), date(2005, 2, 1))
    frames = await ask.frames(tushare, "bar_1d", ask.one("stock"), window=window)
    assert sum(len(f) for f in frames) == 0


async def test_an_answer_at_the_cap_is_split_until_it_is_whole(sim, ask, monkeypatch):
    api = apis.Api("daily", apis._DAILY["stock"].layout, apis._DAILY["stock"].fields, 20)
    monkeypatch.setitem(apis._DAILY, "stock", api)
    monkeypatch.setattr(apis, "_FILL", 100.0)  # so that the plan does not cut the window beforehand
    source = make(sim, deadline=20.0)
    try:
        symbol = ask.one("stock")
        rows = await ask.rows(source, "bar_1d", symbol)
        assert (
            rows["trade_date"].to_pylist() == plain([ask.market.bars_1d(symbols=(symbol,))])["trade_date"].to_pylist()
        )
        with pytest.raises(Malformed, match="there are more"):
            await ask.rows(source, "bar_1d", window=ask.last)
    finally:
        await source.aclose()


async def test_an_answer_the_server_calls_incomplete_is_never_taken(fresh, sim, ask):
    symbol = ask.one("stock")
    await sim.fault("tushare", "truncated", times=1, match="daily", rows=50)
    rows = await ask.rows(fresh, "bar_1d", symbol)
    assert rows.num_rows == ask.market.bars_1d(symbols=(symbol,)).num_rows
    await sim.fault("tushare", "truncated", times=1, match="daily", rows=5)
    with pytest.raises(Malformed):
        await ask.rows(fresh, "bar_1d", window=ask.last)


# -- faults -------------------------------------------------------------------------------------------------------

PASSING = [
    ("http_500", {}, Unreachable),
    ("http_502", {}, Unreachable),
    ("http_504", {}, Unreachable),
    ("captcha", {}, Malformed),
    ("garbage", {}, Malformed),
    ("null_data", {}, Malformed),
    ("silence", {}, Unreachable),
    ("delay", {"seconds": 30}, Unreachable),
    ("fin", {}, Unreachable),
    ("fin_mid", {}, (Unreachable, Malformed)),
    ("rst", {}, Unreachable),
    ("rst_mid", {}, Unreachable),
    ("refused", {}, Unreachable),
    ("column_removed", {}, Malformed),
    ("column_renamed", {}, Malformed),
]
LASTING = [
    ("bad_token", Denied),
    ("ip_limit", Denied),
    ("permission", Denied),
    ("code_2002", Denied),
    ("rate_hour", Limited),
    ("rate_day", Limited),
]


@pytest.mark.parametrize(("kind", "options", "error"), PASSING, ids=[f[0] for f in PASSING])
async def test_a_fault_has_its_outcome_in_time_and_is_over_when_it_is_over(hasty, sim, ask, kind, options, error):
    await sim.fault("tushare", kind, times=None, match="daily", **options)
    try:
        with pytest.raises(error):
            await asyncio.wait_for(ask.rows(hasty, "bar_1d", ask.one("stock")), IN_TIME)
    finally:
        await sim.clear()
    assert (await ask.rows(hasty, "bar_1d", ask.one("stock"))).num_rows > 100


@pytest.mark.parametrize(("kind", "error"), LASTING)
async def test_a_refusal_is_asked_for_once(fresh, sim, ask, kind, error):
    await fresh.probe()
    await sim.fault("tushare", kind, times=None, match="daily")
    before = (await sim.calls())["tushare"].get("daily", 0)
    for _ in range(3):
        with pytest.raises(error):
            await asyncio.wait_for(ask.rows(fresh, "bar_1d", ask.one("stock")), IN_TIME)
    assert (await sim.calls())["tushare"]["daily"] == before + 1


@pytest.mark.parametrize("kind", ["http_502", "captcha", "fin", "rst_mid", "null_data"])
async def test_a_fault_that_passes_is_repeated_without_a_trace(hasty, sim, ask, kind):
    await sim.fault("tushare", kind, times=1, match="daily")
    assert (await ask.rows(hasty, "bar_1d", ask.one("stock"))).num_rows > 100


@pytest.mark.parametrize("kind", ["rate_minute", "rate_minute_new"])
async def test_a_minutes_quota_is_limited_for_about_a_minute_and_learnt(sim, ask, kind, tmp_path):
    path = tmp_path / "pacing.sqlite"
    source = make(sim, pacing=path)
    try:
        await source.probe()
        await sim.fault("tushare", kind, times=None, match="daily", calls=2)
        caught = asyncio.create_task(ask.rows(source, "bar_1d", ask.one("stock")))
        async with asyncio.timeout(30):
            while not (closed := source.status().closed):  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.01)
        assert [c.api for c in closed] == ["daily"]
        assert timedelta(seconds=30) < closed[0].until - datetime.now(UTC) < timedelta(seconds=65)
        # it waits for the minute to pass; who asks for another API is served
        assert (await ask.rows(source, "daily_basic", ask.one("stock"))).num_rows > 100
        assert not caught.done()
        assert source._pacer._store.learnt("daily") == [Rate(2, 60.0)]
        caught.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caught
    finally:
        await sim.clear()
        await source.aclose()


async def test_a_limited_api_stays_closed_after_a_restart(sim, ask, tmp_path):
    path = tmp_path / "pacing.sqlite"
    for times in (None, 0):
        source = make(sim, pacing=path)
        try:
            if times is None:
                await sim.fault("tushare", "rate_day", times=None, match="daily")
            before = (await sim.calls())["tushare"].get("daily", 0)
            with pytest.raises(Limited) as caught:
                await ask.rows(source, "bar_1d", ask.one("stock"))
            assert caught.value.until.astimezone().utcoffset() is not None
            assert caught.value.until > datetime.now(UTC)
            assert ((await sim.calls())["tushare"].get("daily", 0) - before) == (1 if times is None else 0)
        finally:
            await sim.clear()
            await source.aclose()


async def test_a_right_missing_for_an_extra_asset_type_leaves_the_stocks(fresh, sim, ask):
    await sim.fault("tushare", "permission", times=None, match="fund_daily")
    for _ in range(2):
        with pytest.raises(Unsupported, match="no right"):
            await ask.rows(fresh, "bar_1d", ask.one("etf"))
    assert (await sim.calls())["tushare"]["fund_daily"] >= 1
    assert (await ask.rows(fresh, "bar_1d", ask.one("stock"))).num_rows > 100


async def test_an_instrument_list_without_a_right_to_funds_has_the_stocks(fresh, sim, ask):
    await sim.fault("tushare", "permission", times=None, match="fund_basic")
    rows = await ask.rows(fresh, "instrument")
    assert set(rows["asset_type"].to_pylist()) == {"stock", "index"}


async def test_without_a_token_the_answer_says_what_to_do(sim, ask):
    source = make(sim, token=None)
    with pytest.raises(Denied, match="TUSHARE_TOKEN"):
        await ask.rows(source, "bar_1d", ask.one("stock"))
    await source.aclose()


async def test_a_cancelled_request_frees_its_lane(fresh, sim, ask):
    await fresh.probe()
    await sim.fault("tushare", "silence", times=None, match="daily")
    task = asyncio.create_task(ask.rows(fresh, "bar_1d", ask.one("stock")))
    await asyncio.sleep(0.3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await sim.clear()
    assert (await ask.rows(fresh, "bar_1d", ask.one("stock"))).num_rows > 100


# -- texts, windows, addresses: pure ---------------------------------------------------------------------------------

SEE = "权限的具体详情访问：https://tushare.pro/document/1?doc_id=108。"


@pytest.mark.parametrize(
    ("text", "kind", "until"),
    [
        (f"抱歉，您每分钟最多访问该接口500次，{SEE}", Limited, NOW + timedelta(seconds=62)),
        (f"抱歉，您访问接口(daily)频率超限(500次/分钟)，{SEE}", Limited, NOW + timedelta(seconds=62)),
        (f"抱歉，您每小时最多访问该接口10次，{SEE}", Limited, NOW + timedelta(minutes=61)),
        (f"抱歉，您每天最多访问该接口5次，{SEE}", Limited, datetime(2026, 11, 20, 16, 1, tzinfo=UTC)),
        (f"抱歉，您没有接口(stk_mins)访问权限，{SEE}", Denied, None),
        (f"抱歉，您没有接口访问权限，{SEE}", Denied, None),
        (f"抱歉，您没有访问该接口的权限，{SEE}", Denied, None),
        ("您的token不对，请确认。", Denied, None),
        ("您的IP数量超限，最大数量为5个！", Denied, None),
        ("请指定正确的接口名", Unsupported, None),
        ("系统繁忙，请稍后再试", Unreachable, None),
        ("something never seen before", Malformed, None),
    ],
)
async def test_the_vendors_texts_mean(text, kind, until):
    error = meaning(text, "daily", now=NOW)
    assert type(error) is kind
    assert text in str(error)
    if until is not None:
        assert error.until == until


async def test_a_limit_is_read_from_either_wording():
    assert named_limit("每分钟最多访问该接口500次") == (500, 60.0)
    assert named_limit("频率超限(2次/天)") == (2, 86400.0)
    assert named_limit("没有访问该接口的权限") is None


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("http://127.0.0.1:80", "http://127.0.0.1:80/dataapi"),
        ("127.0.0.1:8000/", "http://127.0.0.1:8000/dataapi"),
        ("https://proxy.example/ts/api", "https://proxy.example/ts/api"),
    ],
)
async def test_an_endpoint_may_lack_scheme_and_path(given, url):
    assert base_url(given) == url


async def test_an_endpoint_that_is_none_is_one_sentence():
    with pytest.raises(ConfigError, match="TUSHARE_ENDPOINT"):
        base_url("ftp://x")


async def test_the_tier_sets_the_pace():
    assert budget(120).rates == (Rate(40, 60.0),)
    assert budget(2000).rates == (Rate(160, 60.0),)
    assert budget(2000).each_api == (Rate(80_000, 86_400.0),)
    assert budget(5000).rates == (Rate(400, 60.0),)
    assert budget(5000).each_api == ()
