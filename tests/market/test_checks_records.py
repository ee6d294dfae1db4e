from datetime import UTC, date, datetime

import archives
import made
import pytest

from mystocks_ingest.market.checks import check
from mystocks_ingest.market.frames import Symbol
from mystocks_ingest.market.layout import Column, Layout, Read, normalize
from mystocks_ingest.market.sessions import ZONE

TS = datetime(2024, 1, 2, 10, 0, tzinfo=ZONE)


def verdict(dataset, **known):
    def judge(**columns):
        count = max(len(v) for v in columns.values() if isinstance(v, list))
        filled = {name: v if isinstance(v, list) else [v] * count for name, v in columns.items()}
        return check(made.frame(filled, dataset), made.context(**known)).refused

    return judge


def rules(refused):
    return dict(zip(refused.frame.raw["row"].to_pylist(), refused.rules, strict=True))


def test_quotes():
    fields = {
        "symbol": [f"60000{i}.SH" for i in range(8)],
        "ts": TS,
        "last": [10.0, None, 0.0, 12.0, 10.0, 10.0, -1.0, 10.0],
        "high": [10.2, None, 0.0, 10.2, 10.2, 10.2, 10.2, 10.2],
        "low": [9.9, None, 0.0, 9.9, 9.9, 9.9, 9.9, 9.9],
        "volume": [1_000_000, None, 0, 1_000_000, 10_000, 1_000_000, 1_000_000, 1_000_000],
        "amount": [10_050_000.0, None, 0.0, 10_050_000.0, 10_050_000.0, 10_050_000.0, 10_050_000.0, 10_050_000.0],
        "bid_price1": [9.99, None, 0.0, 9.99, 9.99, 10.05, 9.99, 9.98],
        "bid_price2": [9.98, None, 0.0, 9.98, 9.98, 9.98, 9.98, 9.99],
        "ask_price1": [10.0, None, 0.0, 10.0, 10.0, 10.0, 10.0, 10.0],
    }
    refused = verdict("quote")(**fields)
    assert rules(refused) == {3: "ohlc_order", 4: "unit", 5: "inconsistent", 6: "out_of_range", 7: "inconsistent"}


def test_lots_for_shares_are_seen_in_a_quiet_stocks_quote_too_and_a_rounded_lot_is_none():
    fields = {"last": 10.0, "high": 10.2, "low": 9.9, "ts": TS}
    shares, yuan = [1_000, 900, 7, 100, 150], [1_000_000.0, 900_000.0, 7_000.0, 1_500.0, 1_500.0]
    symbols = [f"60000{i}.SH" for i in range(5)]
    refused = verdict("quote")(symbol=symbols, volume=shares, amount=yuan, **fields)
    assert rules(refused) == dict.fromkeys(range(3), "unit")


def test_a_snapshot_fetched_on_sunday_is_stamped_with_sunday_and_passes():
    sunday = datetime(2024, 1, 7, 10, 0, tzinfo=ZONE)
    assert rules(verdict("quote", calendar=made.calendar())(symbol=["600000.SH"], ts=sunday, last=10.0)) == {}


def test_ticks():
    refused = verdict("tick")(
        symbol=["600000.SH"] * 5,
        ts=TS,
        seq=[0, 1, 2, 3, 4],
        price=[10.0, 10.0, 0.0, 10.0, 10.01],
        volume=[1000, 10, 100, -100, 0],
        amount=[10_000.0, 100_000.0, 0.0, 1.0, 30.0],
    )
    assert rules(refused) == {1: "unit", 2: "price_not_positive", 3: "negative_volume"}


def test_two_ticks_of_one_second_are_two_rows_and_of_one_place_a_conflict():
    ticks = {"symbol": ["600000.SH"] * 3, "ts": TS, "price": [10.0, 10.01, 10.02], "volume": 100}
    assert rules(verdict("tick")(**ticks, seq=[0, 1, 2])) == {}
    assert rules(verdict("tick")(**ticks, seq=[0, 1, 1])) == {1: "duplicate_key", 2: "duplicate_key"}


def test_daily_ratios():
    refused = verdict("daily_basic")(
        symbol=[f"60000{i}.SH" for i in range(6)],
        trade_date=date(2024, 1, 2),
        turnover=[1.0, 1.0, 1.0, -1.0, 500.0, None],
        total_shares=[1e9, 1e9, 1e5, 1e9, 1e9, None],
        float_shares=[5e8, 5e4, 5e4, 5e8, 5e8, None],
        total_value=[1e10, 1e10, 1e6, 1e10, 1e10, None],
        float_value=[5e9, 5e9, 5e5, 5e9, 5e9, None],
    )
    assert rules(refused) == {1: "inconsistent", 2: "unit", 3: "out_of_range", 4: "out_of_range"}
    assert "ten thousands" in refused.reasons[1]


def test_forward_factors_are_refused_as_a_series():
    days = [date(2024, 1, d) for d in (2, 3, 4)]
    judge = verdict("adj_factor")
    refused = judge(
        symbol=["600000.SH"] * 3 + ["600036.SH"] * 3, trade_date=days * 2, factor=[0.8, 0.9, 1.0, 1.0, 1.1, 1.2]
    )
    assert rules(refused) == dict.fromkeys((0, 1, 2), "forward_adjusted")
    assert rules(judge(symbol=["600000.SH"] * 3, trade_date=days, factor=[1.0, 0.0, -2.0])) == {
        1: "out_of_range",
        2: "out_of_range",
    }
    assert rules(judge(symbol=["600000.SH"] * 2, trade_date=[date(1900, 1, 1), days[0]], factor=[1.0, 1.0])) == {}


def test_instruments_and_calendar_days():
    refused = verdict("instrument")(
        symbol=["600000.SH", "000001.SZ", "000002.SZ"],
        exchange=["SH", "SH", "SZ"],
        asset_type="stock",
        status="L",
        list_date=[date(2000, 1, 1)] * 3,
        delist_date=[None, None, date(1999, 1, 1)],
    )
    assert rules(refused) == {1: "inconsistent", 2: "inconsistent"}
    refused = verdict("calendar")(exchange="SH", trade_date=[date(2027, 1, 2), date(2027, 1, 4)], is_open=[True, True])
    assert rules(refused) == {0: "inconsistent"}


def test_limit_prices():
    refused = verdict("limit_price")(
        symbol=["600000.SH", "600001.SH"], trade_date=date(2024, 1, 2), up_limit=[11.0, 9.0], down_limit=[9.0, 11.0]
    )
    assert rules(refused) == {1: "inconsistent"}


@pytest.mark.parametrize("dataset", sorted(made.DATASETS))
def test_every_dataset_can_be_checked_and_misses_its_required_cells(dataset):
    kind = made.DATASETS[dataset]
    refused = check(made.frame({f.name: [None] for f in kind.fields}, dataset), made.context()).refused
    assert refused.rules == ["missing"]


def test_a_real_order_book_passes(shared_data):
    from pyarrow import csv  # noqa: PLC0415 - only where the data is

    options = csv.ReadOptions(encoding="gbk")
    table = csv.read_csv(shared_data / "snapshot_l1" / "sz000001_20221230_l1_GBK.csv", read_options=options)
    levels = {
        f"{side}_{what}{n}": Column((f"{word}{numeral}{mark}",), how, scale)
        for side, word in (("bid", "买"), ("ask", "卖"))
        for n, numeral in enumerate("一二三四五", 1)
        for what, mark, how, scale in (("price", "价", Read.PRICE, 1.0), ("volume", "量", Read.COUNT, 100.0))
    }
    layout = Layout(
        "snapshots",
        made.DATASETS["quote"],
        {"ts": Column(("时间",), Read.TIME), "last": Column(("最新价",), Read.PRICE), **levels},
        frozenset({"买一价"}),
    )
    (raw,) = table.combine_chunks().to_batches()
    at = datetime(2023, 1, 1, tzinfo=UTC)
    (frame,) = normalize(layout, raw, source="files", fetched_at=at, symbol=Symbol("000001.SZ"))
    checked = check(frame, made.context())
    assert len(checked.accepted) > 4000
    assert set(checked.refused.rules) <= {"duplicate_key"}  # a few snapshots share a second


def test_a_whole_days_real_ratios_pass(shared_data):
    frame = archives.load(shared_data, "daily_basic_tushare/daily_basic_20191025.csv", archives.DAILY_BASIC)
    assert len(check(frame, made.context()).accepted) == len(frame) == 3676
