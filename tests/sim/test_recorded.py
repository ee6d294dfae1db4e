"""Real recorded rows over the three protocols, read by the real packages (figures: what is known of the recordings)."""

import math

import pytest
import pytest_asyncio
from vendor_child import Vendors

from mystocks_ingest.sim.server import SimConfig, running

pytestmark = pytest.mark.asyncio(loop_scope="module")

FIELDS = "date,code,open,high,low,close,preclose,volume,amount,adjustflag,turn,tradestatus,pctChg,isST"
STOCKS = ("000001.SZ", "000002.SZ", "600519.SH")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def recorded(shared_data):
    async with running(SimConfig(recorded=shared_data)) as sim:
        child = await Vendors(sim.environment).open()
        await child.call("baostock", "login")
        yield child
        await child.aclose()


def records(answer):
    assert "rows" in answer, answer
    return [dict(zip(answer["columns"], row, strict=True)) for row in answer["rows"]]


async def k_data(recorded, symbol, start, end, flag="3"):
    code = f"{symbol[-2:].lower()}.{symbol[:6]}"
    return records(await recorded.call("baostock", "query_history_k_data_plus", code, FIELDS, start, end, "d", flag))


async def test_known_closes_come_back(recorded):
    closes = {r["date"]: float(r["close"]) for r in await k_data(recorded, "600519.SH", "2001-01-01", "2023-12-31")}
    assert closes["2001-08-27"] == 35.55
    assert (closes["2020-01-02"], closes["2021-02-10"], closes["2021-02-18"]) == (1130.00, 2601.00, 2471.00)


async def test_suspended_sessions_are_baostocks_alone(recorded):
    rows = await k_data(recorded, "000001.SZ", "2000-01-04", "2023-03-16")
    assert [sum(r["tradestatus"] == s for r in rows) for s in "10"] == [5461, 161]
    tushare = records(await recorded.call("tushare", "daily", ts_code="000001.SZ", end_date="20230316"))
    assert len(tushare) == 5461


@pytest.mark.parametrize("symbol", STOCKS)
async def test_the_three_vendors_agree_to_the_cent_and_within_their_units(recorded, symbol):
    baostock = [r for r in await k_data(recorded, symbol, "2020-01-01", "2022-12-31") if r["tradestatus"] == "1"]
    span = {"start_date": "20200101", "end_date": "20221231"}
    tushare = records(await recorded.call("tushare", "daily", ts_code=symbol, **span))[::-1]
    akshare = records(await recorded.call("akshare", "stock_zh_a_hist", symbol[:6], **span))
    assert len(baostock) == len(tushare) == len(akshare) == 728
    for b, t, a in zip(baostock, tushare, akshare, strict=True):
        assert b["date"].replace("-", "") == t["trade_date"] == a["日期"][:10].replace("-", "")
        assert float(b["close"]) == t["close"] == a["收盘"]
        assert abs(t["vol"] * 100 - float(b["volume"])) <= 8
        assert abs(a["成交量"] * 100 - float(b["volume"])) <= 50
        assert math.isclose(t["amount"] * 1000, float(b["amount"]), abs_tol=8)


async def test_a_whole_market_recorded_by_tushare_is_shown_by_all(recorded):
    tushare = records(await recorded.call("tushare", "daily", trade_date="20250205"))
    assert len(tushare) == 5383
    baostock = records(await recorded.call("baostock", "query_daily_history_k_AStock", "2025-02-05"))
    assert {r["code"][3:]: float(r["close"]) for r in baostock} == {
        r["ts_code"][:6]: r["close"] for r in tushare if not r["ts_code"].endswith("BJ")
    }


async def test_forward_adjusted_archives_are_never_shown_as_raw(recorded):
    raw = records(await recorded.call("akshare", "stock_zh_a_hist", "600519"))
    assert min(r["收盘"] for r in raw) > 0
    adjusted = records(await recorded.call("akshare", "stock_zh_a_hist", "600519", adjust="qfq"))
    assert sum(r["收盘"] < 0 for r in adjusted) == 3470


async def test_they_are_when_that_is_what_the_test_is_about(shared_data):
    async with running(SimConfig(recorded=shared_data, forward_adjusted=True)) as sim:
        child = await Vendors(sim.environment).open()
        rows = records(await child.call("akshare", "stock_zh_a_hist", "600519"))
        await child.aclose()
    assert sum(r["收盘"] < 0 for r in rows) == 3470


async def test_recorded_minutes_come_in_each_vendors_unit(recorded):
    lots = records(await recorded.call("akshare", "stock_zh_a_hist_min_em", "600000", period="5"))
    fields = "date,time,code,open,high,low,close,volume,amount,adjustflag"
    arguments = ("sh.600000", fields, "2025-11-01", "2025-11-30", "5", "3")
    shares = records(await recorded.call("baostock", "query_history_k_data_plus", *arguments))
    assert len(lots) == len(shares) == 240
    assert [r["成交量"] for r in lots] == [round(float(r["volume"]) / 100) for r in shares]


async def test_tables_of_tushare_come_back(recorded):
    factors = records(await recorded.call("tushare", "adj_factor", ts_code="000001.SZ", trade_date="20240102"))
    assert [r["adj_factor"] for r in factors] == [116.713]
    basics = records(await recorded.call("tushare", "daily_basic", trade_date="20191025"))
    assert len(basics) == 3676
    days = records(await recorded.call("tushare", "trade_cal", start_date="20240101", end_date="20240105"))
    assert [(d["cal_date"], d["is_open"]) for d in days][::-1] == [
        ("20240101", 0), ("20240102", 1), ("20240103", 1), ("20240104", 1), ("20240105", 1),
    ]  # fmt: skip
    listed = records(await recorded.call("tushare", "stock_basic"))
    assert ("000001.SZ", "19910403") in {(r["ts_code"], r["list_date"]) for r in listed}


async def test_ex_right_days_follow_from_the_recorded_reference_prices(recorded):
    events = records(await recorded.call("baostock", "query_adjust_factor", "sz.000001", "2015-01-01", "2022-12-31"))
    assert [e["dividOperateDate"] for e in events] == [
        "2015-04-13", "2016-06-16", "2017-07-21", "2018-07-12", "2019-06-26", "2020-05-28", "2021-05-14", "2022-07-22",
    ]  # fmt: skip
