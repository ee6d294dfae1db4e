import collections
import itertools

import exchange_calendars
import numpy as np
import pyarrow.compute as pc
import pytest

from mystocks_ingest.market import datasets
from mystocks_ingest.sim.holidays import FIRST, LAST, sessions
from mystocks_ingest.sim.market import Market, MarketConfig


@pytest.fixture(scope="module")
def market():
    return Market(MarketConfig(seed=3, stocks=60, sessions=300))


@pytest.mark.filterwarnings("ignore:Series.values")  # within exchange_calendars
def test_the_calendar_is_the_exchanges_own():
    real = exchange_calendars.get_calendar("XSHG", start=str(FIRST), end=str(LAST)).sessions
    assert [str(d) for d in sessions()] == [d.date().isoformat() for d in real]


def test_equal_seeds_give_equal_markets_and_others_do_not(market):
    same, other = (Market(MarketConfig(seed=s, stocks=60, sessions=300)).bars_1d() for s in (3, 4))
    assert market.bars_1d().equals(same)
    assert not market.bars_1d().equals(other)


def test_a_day_of_the_whole_market_and_the_history_of_a_symbol_show_the_same_rows(market):
    every = market.bars_1d()
    day = market.days[123].item()
    assert market.bars_1d(first=day, last=day).equals(every.filter(pc.equal(every["trade_date"], day)))
    one = market.bars_1d(symbols=("000001.SZ",))
    assert one.equals(every.filter(pc.equal(every["symbol"], "000001.SZ")))


def test_every_truth_table_has_the_canonical_schema(market):
    tables = {
        "bar_1d": market.bars_1d(asset_types=("stock", "etf", "index")),
        "bar_1w": market.period_bars("1w"),
        "bar_1mo": market.period_bars("1mo"),
        "bar_5m": market.minute_table("600000.SH", "5m"),
        "instrument": market.instruments(),
        "calendar": market.calendar(),
        "suspension": market.suspensions(),
        "adj_factor": market.factors(),
        "daily_basic": market.daily_basic(),
        "quote": market.quotes(),
        "tick": market.ticks("600000.SH"),
    }
    for name, table in tables.items():
        dataset = datasets.dataset(name)
        assert table.schema.equals(dataset.schema), name
        assert table.num_rows > 0, name
        assert all(table[c].null_count == 0 for c in dataset.required), name
        keys = table.select(list(dataset.key))
        assert keys.group_by(list(dataset.key)).aggregate([]).num_rows == table.num_rows, name


def test_the_listing_holds_every_case_the_real_one_has(market):
    own, prices = market.listing, market.prices
    assert set(own.boards) == {"SH", "SZ", "CY", "KC", "BJ", "INDEX", "ETF"}
    stocks = np.array(own.asset_types) == "stock"
    assert (stocks & (own.first > 0)).any(), "listed inside the range"
    assert (stocks & ~np.isnat(own.delist_dates)).any(), "delisted inside the range"
    assert own.st.any(), "under special treatment"
    last = len(market.days) - 1
    assert any(not prices.traded[last, n] and own.stop[n] > last for n in np.flatnonzero(stocks)), "closed at the end"
    i, t = prices.event_keys // len(market.days), prices.event_keys % len(market.days)
    assert (~prices.traded[t, i]).any(), "ex-right day within a suspension"


def test_prices_stay_within_the_boards_limits_but_for_the_first_sessions(market):
    bars = market.bars(*market.pairs(market.kind("stock"), 0, len(market.days)))
    own = market.listing
    percent = {"SH": 10, "SZ": 10, "CY": 20, "KC": 20, "BJ": 30}
    limit = np.array([5 if own.st[i] and own.boards[i] in ("SH", "SZ") else percent[own.boards[i]] for i in bars.i])
    age = bars.t - own.first[bars.i]
    bound = age >= own.free_sessions[bars.i]
    assert (~bound).any()
    high = np.floor(bars.ref * (100 + limit) / 100 + 0.5)
    low = np.floor(bars.ref * (100 - limit) / 100 + 0.5)
    assert (bars.high <= high)[bound].all()
    assert (bars.low >= low)[bound].all()
    assert (bars.close == high)[bound].any(), "limit-up days exist"
    assert ((bars.low == bars.high) & bound).any(), "locked days exist"
    free = np.abs(bars.close / bars.ref - 1)[~bound]
    assert free.max() > 0.1, "new listings move without a limit"


def test_bars_are_sound_and_their_mean_price_lies_within_the_day(market):
    bars = market.bars(*market.pairs(np.flatnonzero(~market.listing.index), 0, len(market.days)))
    assert (bars.low <= np.minimum(bars.open, bars.close)).all()
    assert (bars.high >= np.maximum(bars.open, bars.close)).all()
    assert (bars.volume > 0).all()
    mean = bars.amount / bars.volume
    assert (mean >= bars.price(bars.low) * (1 - 1e-6)).all()
    assert (mean <= bars.price(bars.high) * (1 + 1e-6)).all()


def test_pre_close_is_the_last_close_except_on_ex_right_days_where_the_factor_explains_it(market):
    rows = market.bars_1d().to_pylist()
    halted = market.suspensions().to_pylist()
    factor = collections.defaultdict(list)
    for row in market.factors().to_pylist():
        factor[row["symbol"]].append((row["trade_date"], row["factor"]))

    def in_force(symbol, day):
        return [f for d, f in factor[symbol] if d <= day][-1]

    ex_right = 0
    for before, after in itertools.pairwise(rows):
        if before["symbol"] != after["symbol"]:
            continue
        symbol = before["symbol"]
        ratio = in_force(symbol, after["trade_date"]) / in_force(symbol, before["trade_date"])
        if ratio == 1:
            assert after["pre_close"] == before["close"]
        else:
            ex_right += 1
            assert after["pre_close"] == pytest.approx(before["close"] / ratio, abs=0.0051 * 2)
    assert ex_right > 20
    assert halted


def test_bars_and_suspensions_together_cover_every_session_of_a_listing(market):
    held = collections.Counter(market.bars_1d()["symbol"].to_pylist())
    held.update(market.suspensions()["symbol"].to_pylist())
    for n in market.kind("stock"):
        own = market.listing
        expected = min(own.stop[n], len(market.days)) - max(own.first[n], 0)
        assert held[own.symbols[n]] == expected


@pytest.mark.parametrize("interval", ["1m", "5m", "15m", "30m", "60m"])
@pytest.mark.parametrize("symbol", ["600000.SH", "300001.SZ", "510300.SH"])
def test_minute_bars_add_up_to_the_daily_bar(market, interval, symbol):
    days = {r["trade_date"]: r for r in market.bars_1d(symbols=(symbol,)).to_pylist()}
    sessions_ = collections.defaultdict(list)
    for row in market.minute_table(symbol, interval).to_pylist():
        sessions_[row["bar_time"].date()].append(row)
    assert set(sessions_) == set(days)
    count = {"1m": 241, "5m": 48, "15m": 16, "30m": 8, "60m": 4}[interval]
    for day, rows in sessions_.items():
        whole = days[day]
        assert len(rows) == count
        assert sum(r["volume"] for r in rows) == whole["volume"]
        assert sum(r["amount"] for r in rows) == pytest.approx(whole["amount"], abs=0.01)
        assert (rows[0]["open"], rows[-1]["close"]) == (whole["open"], whole["close"])
        assert max(r["high"] for r in rows) == whole["high"]
        assert min(r["low"] for r in rows) == whole["low"]
        for row in rows:
            assert row["low"] <= min(row["open"], row["close"]) <= max(row["open"], row["close"]) <= row["high"]
            assert row["low"] * 0.999 <= row["amount"] / row["volume"] <= row["high"] * 1.001
    assert sessions_[day][-1]["bar_time"].strftime("%H:%M") == "15:00"


def test_weekly_bars_are_made_of_the_daily_ones_and_an_unfinished_week_has_none():
    market = Market(MarketConfig(seed=3, stocks=20, sessions=100))  # ends on a Tuesday
    weeks = market.period_bars("1w", symbols=("600000.SH",)).to_pylist()
    days = market.bars_1d(symbols=("600000.SH",)).to_pylist()
    assert weeks[-1]["trade_date"] < days[-1]["trade_date"]
    third = [d for d in days if weeks[1]["trade_date"] < d["trade_date"] <= weeks[2]["trade_date"]]
    assert weeks[2]["volume"] == sum(d["volume"] for d in third)
    assert (weeks[2]["open"], weeks[2]["close"]) == (third[0]["open"], third[-1]["close"])


def test_a_range_the_calendar_does_not_reach_is_refused():
    with pytest.raises(ValueError, match="reach further back"):
        Market(MarketConfig(stocks=5, sessions=9_000))
