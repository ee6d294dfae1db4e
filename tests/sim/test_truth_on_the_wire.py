"""The real packages, talking to the simulator, get the truth back in each vendor's own units and habits."""

import collections
from datetime import date, timedelta

import pytest

from mystocks_ingest.sim.akshare.eastmoney import EastmoneyTables
from mystocks_ingest.sim.akshare.wire import Asked
from mystocks_ingest.sim.market import Market, MarketConfig

pytestmark = pytest.mark.asyncio(loop_scope="module")

FIELDS = "date,code,open,high,low,close,preclose,volume,amount,adjustflag,turn,tradestatus,pctChg,isST"


def records(answer):
    assert "rows" in answer, answer
    return [dict(zip(answer["columns"], row, strict=True)) for row in answer["rows"]]


def truth(sim, symbol):
    return sim.market.bars_1d(symbols=(symbol,)).to_pylist()


def compact(day):
    return day.strftime("%Y%m%d")


def baostock_code(symbol):
    return f"{symbol[-2:].lower()}.{symbol[:6]}"


@pytest.mark.parametrize("symbol", ["600000.SH", "000001.SZ", "920001.BJ"])
async def test_tushare_daily_is_newest_first_in_lots_and_thousands(sim, vendors, symbol):
    rows = records(await vendors.call("tushare", "daily", ts_code=symbol))
    expected = truth(sim, symbol)[::-1]
    assert [r["trade_date"] for r in rows] == [compact(r["trade_date"]) for r in expected]
    for row, true in zip(rows, expected, strict=True):
        assert [row[n] for n in ("open", "high", "low", "close", "pre_close")] == [
            true[n] for n in ("open", "high", "low", "close", "pre_close")
        ]
        assert round(row["vol"] * 100) == true["volume"]
        assert round(row["amount"] * 1000, 2) == true["amount"]


async def test_tushare_gives_the_whole_market_of_a_session_and_nothing_of_a_sunday(sim, vendors):
    day = sim.market.last_day
    rows = records(await vendors.call("tushare", "daily", trade_date=compact(day)))
    true = sim.market.bars_1d(first=day, last=day).to_pylist()
    assert {r["ts_code"]: r["close"] for r in rows} == {r["symbol"]: r["close"] for r in true}
    nothing = await vendors.call("tushare", "daily", trade_date="20260628")
    assert nothing["rows"] == []
    assert len(nothing["columns"]) == 11


async def test_tushare_has_a_factor_for_every_listed_session_suspended_or_not(sim, vendors):
    symbol = sim.market.suspensions()["symbol"][0].as_py()
    rows = records(await vendors.call("tushare", "adj_factor", ts_code=symbol))
    events = [r for r in sim.market.factors().to_pylist() if r["symbol"] == symbol]
    number = sim.market.number[symbol]
    first, stop = max(sim.market.listing.first[number], 0), sim.market.listing.stop[number]
    assert [r["trade_date"] for r in rows] == [str(d).replace("-", "") for d in sim.market.days[first:stop][::-1]]
    for row in rows:
        in_force = [e["factor"] for e in events if compact(e["trade_date"]) <= row["trade_date"]][-1]
        assert row["adj_factor"] == in_force


async def test_tushare_lists_listed_and_delisted_apart_and_says_who_was_suspended(sim, vendors):
    instruments = sim.market.instruments(("stock",)).to_pylist()
    for status in ("L", "D", "P"):
        fields = "ts_code,list_date,delist_date"
        rows = records(await vendors.call("tushare", "stock_basic", list_status=status, fields=fields))
        true = [r for r in instruments if r["status"] == status]
        assert {(r["ts_code"], r["list_date"], r["delist_date"]) for r in rows} == {
            (r["symbol"], compact(r["list_date"]), r["delist_date"] and compact(r["delist_date"])) for r in true
        }
    day = sim.market.last_day
    rows = records(await vendors.call("tushare", "suspend_d", trade_date=compact(day), suspend_type="S"))
    assert {r["ts_code"] for r in rows} == set(sim.market.suspensions(day, day)["symbol"].to_pylist()) != set()


async def test_tushare_minutes_are_in_shares_and_yuan(sim, vendors):
    day = sim.market.last_day
    answer = await vendors.call(
        "tushare",
        "stk_mins",
        ts_code="000001.SZ",
        freq="1min",
        start_date=f"{day} 09:00:00",
        end_date=f"{day} 19:00:00",
    )
    rows = records(answer)[::-1]
    true = sim.market.minute_table("000001.SZ", "1m", day, day).to_pylist()
    assert len(rows) == 241
    assert [(r["trade_time"][11:16], r["close"], r["vol"], r["amount"]) for r in rows] == [
        (t["bar_time"].strftime("%H:%M"), t["close"], t["volume"], t["amount"]) for t in true
    ]


async def test_tushare_cuts_a_long_answer_without_a_word_and_daily_ignores_the_offset(sim, vendors):
    short = await vendors.call("tushare", "daily", ts_code="600000.SH", limit=10)
    again = await vendors.call("tushare", "daily", ts_code="600000.SH", limit=10, offset=10)
    assert len(short["rows"]) == 10
    assert again["rows"] == short["rows"]
    paged = await vendors.call("tushare", "fund_adj", ts_code="510300.SH", limit=10, offset=10)
    first = await vendors.call("tushare", "fund_adj", ts_code="510300.SH", limit=20)
    assert paged["rows"] == first["rows"][10:]


async def test_index_and_stock_of_one_bare_code_are_two_things(sim, vendors):
    index = records(await vendors.call("tushare", "index_daily", ts_code="000001.SH"))
    stock = records(await vendors.call("tushare", "daily", ts_code="000001.SZ"))
    assert index[0]["close"] == truth(sim, "000001.SH")[-1]["close"] != stock[0]["close"]


@pytest.mark.parametrize("symbol", ["600000.SH", "000001.SZ"])
async def test_baostock_shows_suspended_sessions_too(sim, vendors, symbol):
    await vendors.call("baostock", "login")
    closed = {r["trade_date"] for r in sim.market.suspensions().to_pylist() if r["symbol"] == symbol}
    arguments = (baostock_code(symbol), FIELDS, "2020-01-01", "2026-12-31", "d", "3")
    rows = records(await vendors.call("baostock", "query_history_k_data_plus", *arguments))
    traded = [r for r in rows if r["tradestatus"] == "1"]
    true = truth(sim, symbol)
    assert {date.fromisoformat(r["date"]) for r in rows if r["tradestatus"] == "0"} == closed
    assert [
        (r["date"], float(r["close"]), float(r["preclose"]), int(r["volume"]), float(r["amount"])) for r in traded
    ] == [(str(t["trade_date"]), t["close"], t["pre_close"], t["volume"], t["amount"]) for t in true]


async def test_a_suspended_row_of_baostock_repeats_the_reference_price(sim, vendors):
    await vendors.call("baostock", "login")
    closed = next(r for r in sim.market.suspensions().to_pylist() if not r["symbol"].endswith("BJ"))
    day = str(closed["trade_date"])
    arguments = (baostock_code(closed["symbol"]), FIELDS, day, day, "d", "3")
    (row,) = records(await vendors.call("baostock", "query_history_k_data_plus", *arguments))
    assert row["open"] == row["high"] == row["low"] == row["close"] == row["preclose"] != ""
    assert (row["volume"], row["amount"], row["turn"], row["tradestatus"]) == ("0", "0.0000", "", "0")


async def test_baostock_pages_are_as_long_as_the_client_asks(sim, vendors):
    await vendors.call("baostock", "login")
    fields = "date,time,code,open,high,low,close,volume,amount,adjustflag"
    arguments = ("sh.600000", fields, "2020-01-01", "2026-12-31", "5", "3")
    rows = records(await vendors.call("baostock", "query_history_k_data_plus", *arguments))
    true = sim.market.minute_table("600000.SH", "5m").to_pylist()
    assert len(rows) == len(true) > 4000
    assert [(r["time"][:12], float(r["close"]), int(r["volume"])) for r in rows] == [
        (t["bar_time"].strftime("%Y%m%d%H%M"), t["close"], t["volume"]) for t in true
    ]


async def test_baostock_gives_a_whole_session_in_one_answer_without_beijing(sim, vendors):
    await vendors.call("baostock", "login")
    day = sim.market.last_day
    rows = records(await vendors.call("baostock", "query_daily_history_k_AStock", str(day)))
    traded = {r["code"]: float(r["close"]) for r in rows if r["tradestatus"] == "1"}
    true = sim.market.bars_1d(first=day, last=day).to_pylist()
    assert traded == {baostock_code(r["symbol"]): r["close"] for r in true if not r["symbol"].endswith("BJ")}
    unknown = await vendors.call("baostock", "query_history_k_data_plus", "bj.920001", FIELDS, str(day), str(day))
    assert unknown["code"] != "0"


async def test_baostock_calendar_lists_and_factors_are_the_truth(sim, vendors):
    await vendors.call("baostock", "login")
    days = records(await vendors.call("baostock", "query_trade_dates", "2026-01-01", "2026-12-31"))
    true = sim.market.calendar(date(2026, 1, 1)).to_pylist()
    assert [(d["calendar_date"], d["is_trading_day"]) for d in days] == [
        (str(t["trade_date"]), "1" if t["is_open"] else "0") for t in true
    ]
    basics = {r["code"]: r for r in records(await vendors.call("baostock", "query_stock_basic"))}
    for row in sim.market.instruments().to_pylist():
        if not row["symbol"].endswith("BJ"):
            theirs = basics[baostock_code(row["symbol"])]
            assert theirs["ipoDate"] == str(row["list_date"])
            assert theirs["outDate"] == (str(row["delist_date"]) if row["delist_date"] else "")
            assert theirs["type"] == {"stock": "1", "index": "2", "etf": "5"}[row["asset_type"]]
    events = records(await vendors.call("baostock", "query_adjust_factor", "sh.600000", "1990-01-01", "2026-12-31"))
    own = [r for r in sim.market.factors().to_pylist() if r["symbol"] == "600000.SH"][1:]
    assert [(e["dividOperateDate"], float(e["backAdjustFactor"])) for e in events] == [
        (str(r["trade_date"]), r["factor"]) for r in own
    ]


@pytest.mark.parametrize(("symbol", "function"), [("600000.SH", "stock_zh_a_hist"), ("000001.SZ", "stock_zh_a_hist"),
                                                  ("920001.BJ", "stock_zh_a_hist"), ("510300.SH", "fund_etf_hist_em")])  # fmt: skip
async def test_eastmoney_daily_is_in_whole_lots_and_yuan(sim, vendors, symbol, function):
    rows = records(await vendors.call("akshare", function, symbol[:6]))
    true = sim.market.bars_1d(symbols=(symbol,)).to_pylist()
    assert len(rows) == len(true)
    for row, t in zip(rows, true, strict=True):
        assert row["日期"][:10] == str(t["trade_date"])
        assert [row[n] for n in ("开盘", "最高", "最低", "收盘")] == [t[n] for n in ("open", "high", "low", "close")]
        assert abs(row["成交量"] * 100 - t["volume"]) <= 50
        assert row["成交额"] == t["amount"]
        assert row["收盘"] - row["涨跌额"] == pytest.approx(t["pre_close"], abs=1e-9)


async def test_eastmoney_knows_nothing_of_a_wrong_market_code(vendors):
    assert await vendors.call("akshare", "stock_zh_a_hist", "999999") == {"columns": [], "rows": [], "noise": ""}


async def test_eastmoney_one_minute_bars_have_no_open_but_on_the_latest_session(sim, vendors):
    rows = records(await vendors.call("akshare", "stock_zh_a_hist_min_em", "600000", period="1"))
    by_day = collections.defaultdict(list)
    for row in rows:
        by_day[row["时间"][:10]].append(row)
    latest = max(by_day)
    assert len(by_day) <= 5
    assert all(len(own) == 241 for own in by_day.values())
    assert all((row["开盘"] == 0) == (day != latest) for day, own in by_day.items() for row in own)


async def test_eastmoney_five_minute_bars_are_the_truth_of_the_last_weeks(sim, vendors):
    rows = records(await vendors.call("akshare", "stock_zh_a_hist_min_em", "000001", period="5"))
    true = sim.market.minute_table("000001.SZ", "5m").to_pylist()[-len(rows) :]
    assert [(r["时间"][:16], r["收盘"], r["成交额"]) for r in rows] == [
        (t["bar_time"].strftime("%Y-%m-%d %H:%M"), t["close"], t["amount"]) for t in true
    ]


async def test_the_spot_list_shows_who_does_not_trade_as_missing(sim, vendors):
    rows = records(await vendors.call("akshare", "stock_zh_a_spot_em"))
    day = sim.market.last_day
    closed = {s[:6] for s in sim.market.suspensions(day, day)["symbol"].to_pylist()}
    traded = {r["symbol"][:6]: r["close"] for r in sim.market.bars_1d(first=day, last=day).to_pylist()}
    assert {r["代码"] for r in rows if r["最新价"] is None} == closed
    assert {r["代码"]: r["最新价"] for r in rows if r["最新价"] is not None} == traded


async def test_a_list_page_never_holds_more_than_a_hundred_rows(sim, vendors):
    """Whatever page size is asked for; here the whole list is shorter, so the cap is asked of the pure table."""
    tables = EastmoneyTables(Market(MarketConfig(stocks=250, sessions=30)))
    query = {"fs": "m:0 t:6,m:0 t:80,m:1 t:2,m:1 t:23,m:0 t:81 s:2048", "pz": "5000", "pn": "1", "fields": "f12"}
    page = tables.table(Asked("eastmoney/list", "", query), adjusted=False)
    assert page.size == 100
    assert page.note > 200


async def test_ticks_of_both_sites_add_up_to_the_day(sim, vendors):
    true = truth(sim, "000001.SZ")[-1]
    eastmoney = records(await vendors.call("akshare", "stock_intraday_em", "000001"))
    tencent = records(await vendors.call("akshare", "stock_zh_a_tick_tx_js", "sz000001"))
    assert len(eastmoney) == len(tencent) > 70  # more than one of tencent's pages
    assert sum(r["手数"] for r in eastmoney) == sum(r["成交量"] for r in tencent) == true["volume"] // 100


async def test_sinas_packed_series_and_factors_are_read_by_the_package_itself(sim, vendors):
    calendar = records(await vendors.call("akshare", "tool_trade_date_hist_sina"))
    opened = [str(r["trade_date"]) for r in sim.market.calendar(date(2000, 1, 1)).to_pylist() if r["is_open"]]
    assert [r["trade_date"][:10] for r in calendar][1:] == opened  # the package adds 1992-05-04 itself
    rows = records(await vendors.call("akshare", "stock_zh_a_daily", "sz000001"))
    true = truth(sim, "000001.SZ")
    assert [(r["date"][:10], r["open"], r["close"], r["volume"], r["amount"]) for r in rows] == [
        (str(t["trade_date"]), t["open"], t["close"], t["volume"], t["amount"]) for t in true
    ]
    factors = records(await vendors.call("akshare", "stock_zh_a_daily", "sz000001", adjust="hfq-factor"))
    own = [r for r in sim.market.factors().to_pylist() if r["symbol"] == "000001.SZ"]
    assert [(f["date"][:10], float(f["hfq_factor"])) for f in factors[-2::-1]] == [
        (str(r["trade_date"]), r["factor"]) for r in own[1:]
    ]


async def test_tencents_star_volumes_are_shares_and_the_others_lots(sim, vendors):
    for symbol, unit in (("600000.SH", 1), ("688001.SH", 1), ("000001.SZ", 100)):  # the package skips x100 for sz000
        code = symbol[-2:].lower() + symbol[:6]
        rows = records(await vendors.call("akshare", "stock_zh_a_hist_tx", code, "2026-01-01", "2026-12-31"))
        true = [t for t in truth(sim, symbol) if t["trade_date"] >= date(2026, 1, 1)]
        assert [(r["date"][:10], r["close"]) for r in rows] == [(str(t["trade_date"]), t["close"]) for t in true]
        assert all(abs(r["volume"] * unit - t["volume"]) <= 50 for r, t in zip(rows, true, strict=True))


async def test_the_exchanges_lists_together_are_the_listing(sim, vendors):
    listed, delisted = set(), set()
    for function, arguments, column in (
        ("stock_info_sh_name_code", ["主板A股"], "证券代码"),
        ("stock_info_sh_name_code", ["科创板"], "证券代码"),
        ("stock_info_sz_name_code", ["A股列表"], "A股代码"),
        ("stock_info_bj_name_code", [], "证券代码"),
    ):
        listed |= {r[column] for r in records(await vendors.call("akshare", function, *arguments))}
    for function, argument, column in (
        ("stock_info_sh_delist", "全部", "公司代码"),
        ("stock_info_sz_delist", "终止上市公司", "证券代码"),
    ):
        delisted |= {r[column] for r in records(await vendors.call("akshare", function, argument))}
    true = sim.market.instruments(("stock",)).to_pylist()
    assert listed == {r["symbol"][:6] for r in true if r["status"] == "L"}
    assert delisted == {r["symbol"][:6] for r in true if r["status"] == "D"} != set()


async def test_five_levels_are_in_shares_and_an_empty_side_is_dashes(sim, vendors):
    quotes = {q["symbol"]: q for q in sim.market.quotes().to_pylist()}
    rows = {r["item"]: r["value"] for r in records(await vendors.call("akshare", "stock_bid_ask_em", "600000"))}
    own = quotes["600000.SH"]
    for level in range(1, 6):
        assert rows[f"buy_{level}"] == own[f"bid_price{level}"]
        assert rows[f"sell_{level}_vol"] == own[f"ask_volume{level}"]
    day = sim.market.last_day
    closed = next(s for s in sim.market.suspensions(day, day)["symbol"].to_pylist())
    rows = {r["item"]: r["value"] for r in records(await vendors.call("akshare", "stock_bid_ask_em", closed[:6]))}
    assert rows["buy_1"] == "-"
    assert rows["buy_1_vol"] == "-" * 100


async def test_calls_are_counted_by_vendor_and_interface(sim, vendors):
    before = (await sim.calls())["tushare"].get("trade_cal", 0)
    end = sim.market.last_day
    await vendors.call("tushare", "trade_cal", start_date=compact(end - timedelta(days=9)), end_date=compact(end))
    assert (await sim.calls())["tushare"]["trade_cal"] == before + 1
