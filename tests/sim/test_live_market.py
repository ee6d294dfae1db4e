"""A session of the simulated market as it runs: the truth of every moment adds up to the bars, and travels the wire."""

import asyncio
import json
from datetime import UTC, datetime, time, timedelta

import numpy as np
import pyarrow.compute as pc
import pytest
from vendor_child import Vendors

from mystocks_ingest.market import datasets
from mystocks_ingest.market.sessions import ZONE, label_of
from mystocks_ingest.sim.clock import Clock
from mystocks_ingest.sim.market import Market, MarketConfig
from mystocks_ingest.sim.server import SimConfig, running

CONFIG = MarketConfig(seed=11, stocks=30, sessions=40)
LIVE = SimConfig(seed=11, stocks=30, sessions=40, live=True, speed=0)


@pytest.fixture(scope="module")
def market():
    return Market(CONFIG)


def moment(market, clock, day=None):
    return datetime.combine(day or market.last_day, time.fromisoformat(clock), ZONE)


def without(table, *names):
    return table.drop([*names, "fetched_at"])


def test_nothing_is_known_before_the_auction_and_after_the_close_the_day_is_what_it_was(market):
    assert market.quotes_at(moment(market, "09:24:59")).num_rows == 0
    auction = market.quotes_at(moment(market, "09:25:00"))
    assert auction.num_rows == market.quotes().num_rows
    assert auction["last"].equals(auction["open"])
    for clock in ("15:00:00", "15:30:00", "23:59:59"):
        assert without(market.quotes_at(moment(market, clock)), "ts").equals(without(market.quotes(), "ts"))
    weekend = market.days[np.flatnonzero(np.diff(market.days) > np.timedelta64(2, "D"))[-1]].item()
    shown = market.quotes_at(moment(market, "10:00:00", weekend + timedelta(days=1)))
    assert shown.equals(market.quotes_at(moment(market, "15:00:00", weekend)))


def test_at_the_end_of_each_minute_the_quotes_are_the_sums_of_the_minute_bars(market):
    day = market.last_day
    for symbol in ("600000.SH", "300001.SZ", "510300.SH"):
        bars = market.minute_table(symbol, "1m", day, day).to_pylist()
        volume, amount, high, low = 0, 0.0, 0.0, 1e9
        for bar in bars:
            volume, amount = volume + bar["volume"], round(amount + bar["amount"], 2)
            high, low = max(high, bar["high"]), min(low, bar["low"])
            quotes = market.quotes_at(bar["bar_time"])
            own = quotes.filter(pc.equal(quotes["symbol"], symbol)).to_pylist()[0]
            assert (own["volume"], own["last"], own["high"], own["low"]) == (volume, bar["close"], high, low)
            assert own["amount"] == pytest.approx(amount, abs=0.006)
            assert own["ts"] <= bar["bar_time"]
    assert volume == market.bars_1d(symbols=(symbol,), first=day, last=day, asset_types=("etf",))["volume"][0].as_py()


def test_volumes_grow_with_time_and_never_shrink_and_lunch_stands_still(market):
    held = None
    for clock in ("09:25:00", "09:29:59", "09:30:20", "09:30:40", "10:03:07", "11:30:00", "12:10:00", "13:00:00",
                  "13:00:59", "14:57:30", "15:00:00"):  # fmt: skip
        now = market.quotes_at(moment(market, clock))
        assert now.schema.equals(datasets.QUOTE.schema)
        if held is not None:
            assert pc.all(pc.greater_equal(now["volume"], held["volume"])).as_py()
            assert pc.all(pc.greater_equal(now["ts"], held["ts"])).as_py()
        if clock in ("12:10:00", "13:00:00", "09:29:59"):
            assert now.equals(held)
        held = now


def test_the_trades_of_a_minute_add_up_to_its_bar_and_quotes_are_the_sums_of_trades(market):
    day = market.last_day
    for symbol in ("600000.SH", "000001.SZ", "510300.SH"):
        ticks = market.ticks(symbol, day).to_pylist()
        assert market.ticks(symbol, day).schema.equals(datasets.TICK.schema)
        bars = {b["bar_time"].time(): b for b in market.minute_table(symbol, "1m", day, day).to_pylist()}
        by_label = {label: [] for label in bars}
        for tick in ticks:
            clock = tick["ts"].time()
            by_label[time(9, 30) if clock == time(9, 25) else label_of(clock, "1m")].append(tick)
        for label, bar in bars.items():
            own = by_label[label]
            assert sum(t["volume"] for t in own) == bar["volume"]
            assert sum(t["amount"] for t in own) == pytest.approx(bar["amount"], abs=0.001)
            assert own[-1]["price"] == bar["close"]
            assert all(bar["low"] <= t["price"] <= bar["high"] for t in own)
            if bar["volume"] >= 400:
                assert (max(t["price"] for t in own), min(t["price"] for t in own)) == (bar["high"], bar["low"])
        until = moment(market, "10:41:33")
        part = market.ticks(symbol, day, until=until).to_pylist()
        assert part == [t for t in ticks if t["ts"] <= until]
        quotes = market.quotes_at(until)
        own = quotes.filter(pc.equal(quotes["symbol"], symbol)).to_pylist()[0]
        assert (own["volume"], own["last"], own["ts"]) == (
            sum(t["volume"] for t in part),
            part[-1]["price"],
            part[-1]["ts"],
        )
        assert own["amount"] == pytest.approx(sum(t["amount"] for t in part), abs=0.02)


def test_equal_seeds_and_moments_give_equal_answers_whatever_was_asked_before(market):
    other = Market(CONFIG)
    other.ticks("600000.SH", other.days[5].item())
    at = moment(market, "14:02:11")
    assert other.quotes_at(at).equals(market.quotes_at(at))
    with pytest.raises(ValueError, match="no session"):
        other.ticks("600000.SH", other.first_day - timedelta(days=3))


def test_a_clock_runs_at_its_speed_stands_at_zero_and_can_be_set():
    ours = [100.0]
    clock = Clock(datetime(2026, 6, 30, 9, 0, tzinfo=ZONE), 60.0, monotonic=lambda: ours[0])
    ours[0] += 2
    assert clock.true == datetime(2026, 6, 30, 1, 2, tzinfo=UTC)
    clock.set(speed=0)
    ours[0] += 50
    assert clock.true == datetime(2026, 6, 30, 1, 2, tzinfo=UTC)
    clock.set(datetime(2026, 6, 30, 13, 0))
    assert clock.moment == datetime(2026, 6, 30, 5, 0, tzinfo=UTC)
    with clock.behind(30.0):
        assert clock.true - clock.moment == timedelta(seconds=30)
    with pytest.raises(ValueError, match="speed -1"):
        clock.set(speed=-1)


# -- on the wire ------------------------------------------------------------------------------------------------------
async def rt_k(sim):
    """rt_k of all, as bytes would say it: rows by symbol."""
    host, _, port = sim.environment["TUSHARE_ENDPOINT"].removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    asked = {"api_name": "rt_k", "token": "x", "params": {"ts_code": "*"}, "fields": "ts_code,trade_time,close,vol"}
    body = json.dumps(asked).encode()
    head = f"POST /dataapi/rt_k HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    writer.write(head.encode() + body)
    reply = await reader.read()
    writer.close()
    return {row[0]: row[1:] for row in json.loads(reply.partition(b"\r\n\r\n")[2])["data"]["items"]}


def volumes(table):
    return dict(zip(table["symbol"].to_pylist(), table["volume"].to_pylist(), strict=True))


async def test_what_the_packages_see_is_the_truth_of_the_clocks_moment():
    async with running(LIVE) as sim:
        vendors = await Vendors(sim.environment).open()
        try:
            at = moment(sim.market, "10:17:21")
            assert await sim.clock(at) == at
            truth = {q["symbol"]: q for q in sim.market.quotes_at(at).to_pylist()}
            fields = "ts_code,close,vol,trade_time"
            answer = await vendors.call("tushare", "rt_k", ts_code="*", fields=fields)
            assert {r[0]: tuple(r[1:]) for r in answer["rows"]} == {
                s: (q["last"], q["volume"], q["ts"].strftime("%Y-%m-%d %H:%M:%S")) for s, q in truth.items()
            }
            answer = await vendors.call("akshare", "stock_zh_a_spot", patience=60)
            rows = [dict(zip(answer["columns"], r, strict=True)) for r in answer["rows"]]
            seen = {r["代码"][2:]: (r["最新价"], r["成交量"], r["时间戳"]) for r in rows if r["最新价"]}
            stocks = {s: q for s, q in truth.items() if s[:6] in seen}
            assert len(stocks) == len(seen) > 15
            assert seen == {s[:6]: (q["last"], q["volume"], q["ts"].strftime("%H:%M:%S")) for s, q in stocks.items()}
            answer = await vendors.call("akshare", "stock_bid_ask_em", "600000")
            book, own = dict(answer["rows"]), truth["600000.SH"]
            assert (book["最新"], book["总手"], book["buy_1"]) == (
                own["last"],
                own["volume"] // 100,
                own["bid_price1"],
            )
            answer = await vendors.call("akshare", "stock_intraday_em", "600000")
            ticks = sim.market.ticks("600000.SH", at.date(), until=at).to_pylist()
            assert [(r[0], r[1], r[2]) for r in answer["rows"]] == [
                (t["ts"].strftime("%H:%M:%S"), t["price"], t["volume"] // 100) for t in ticks
            ]
            day = at.strftime("%Y%m%d")
            assert (await vendors.call("tushare", "daily", trade_date=day))["rows"] == []
            await sim.clock(moment(sim.market, "15:00:00"))
            assert len((await vendors.call("tushare", "daily", trade_date=day))["rows"]) > 15
        finally:
            await vendors.aclose()


async def test_answers_can_be_old_repeated_or_of_several_ages():
    async with running(LIVE) as sim:
        at, before = moment(sim.market, "10:17:21"), moment(sim.market, "10:15:21")
        now, old = volumes(sim.market.quotes_at(at)), volumes(sim.market.quotes_at(before))
        await sim.clock(at)
        assert {s: r[2] for s, r in (await rt_k(sim)).items()} == now
        await sim.fault("tushare", "stale", seconds=120)
        assert {s: r[2] for s, r in (await rt_k(sim)).items()} == old
        assert {s: r[2] for s, r in (await rt_k(sim)).items()} == now
        await sim.fault("tushare", "out_of_order", seconds=120)
        mixed = {s: r[2] for s, r in (await rt_k(sim)).items()}
        assert all(v in (now[s], old[s]) for s, v in mixed.items())
        assert mixed != now
        assert mixed != old
        await sim.clock(at)
        assert {s: r[2] for s, r in (await rt_k(sim)).items()} == now
        await sim.fault("tushare", "repeated")
        await sim.clock(at + timedelta(minutes=2))
        assert {s: r[2] for s, r in (await rt_k(sim)).items()} == now
        assert {s: r[2] for s, r in (await rt_k(sim)).items()} != now


async def test_without_a_clock_there_is_none_to_set_and_nothing_to_lag_behind(sim):
    with pytest.raises(ValueError, match="no clock"):
        await sim.clock(speed=1)
    with pytest.raises(ValueError, match="has no fault 'stale'"):
        await sim.fault("tushare", "stale")


async def test_a_clock_that_runs_moves_the_quotes():
    async with running(SimConfig(seed=11, stocks=12, sessions=30, live=True, speed=600)) as sim:
        await sim.clock(moment(sim.market, "10:00:00"))
        first = await rt_k(sim)
        await asyncio.sleep(0.3)
        second = await rt_k(sim)
        assert first != second
        assert all(second[s][2] >= row[2] for s, row in first.items())


async def test_the_simulator_says_of_which_moments_its_answers_were():
    async with running(LIVE) as sim:
        assert await sim.shown() == {}
        moments = [moment(sim.market, clock) for clock in ("10:17:21", "10:17:24")]
        for at in moments:
            await sim.clock(at)
            await rt_k(sim)
        await sim.fault("tushare", "stale", seconds=60)
        await rt_k(sim)
        for kind in ("out_of_order", "repeated"):
            await sim.fault("tushare", kind, seconds=60)
            await rt_k(sim)
        assert await sim.shown() == {"rt_k": [*moments, moments[-1] - timedelta(seconds=60)]}


async def test_the_vendors_calendars_can_end_earlier_than_the_truth_is_known():
    until = datetime(2026, 6, 30, tzinfo=ZONE).date()
    async with running(SimConfig(seed=11, stocks=12, sessions=30, calendar_until=until)) as sim:
        assert sim.market.calendar()["trade_date"][-1].as_py() == until
        vendors = await Vendors(sim.environment).open()
        try:
            answer = await vendors.call("tushare", "trade_cal", start_date="20260620", end_date="20261231")
            days = [dict(zip(answer["columns"], row, strict=True))["cal_date"] for row in answer["rows"]]
            assert (min(days), max(days), len(days)) == ("20260620", "20260630", 11)
            answer = await vendors.call("akshare", "tool_trade_date_hist_sina")
            assert str(answer["rows"][-1][0])[:10] == str(until)
        finally:
            await vendors.aclose()
