from datetime import date, datetime

import archives
import numpy as np
import pyarrow as pa
import pytest
from pyarrow import csv

from mystocks_ingest.errors import ConfigError
from mystocks_ingest.market.adjust import adjust
from mystocks_ingest.market.sessions import ZONE


def days(*numbers):
    return pa.array([date(2024, 1, n) for n in numbers], pa.date32())


def factors(rows):
    symbols, numbers, values, sources = zip(*rows, strict=True)
    return pa.table({"symbol": symbols, "trade_date": days(*numbers), "factor": values, "source": sources})


BARS = pa.table(
    {
        "symbol": ["600000.SH", "600000.SH", "600000.SH", "600001.SH", "600001.SH"],
        "trade_date": days(2, 3, 4, 2, 3),
        "close": [10.0, 5.0, 5.5, 7.0, 7.1],
        "pre_close": [9.9, 5.0, 5.0, 7.0, None],
        "volume": [100, 200, 300, 400, 500],
    }
)
EVENTS = factors([("600000.SH", 1, 1.0, "x"), ("600000.SH", 3, 2.0, "x"), ("600001.SH", 1, 3.0, "x")])


def test_back_adjusted_prices_carry_the_factor_in_force():
    adjusted = adjust(BARS, EVENTS, "back")
    assert adjusted["close"].to_pylist() == [10.0, 10.0, 11.0, 21.0, 21.3]
    assert adjusted["pre_close"].to_pylist() == [9.9, 10.0, 10.0, 21.0, None]
    assert adjusted["volume"].to_pylist() == BARS["volume"].to_pylist()


def test_forward_adjusted_prices_end_at_the_raw_ones():
    adjusted = adjust(BARS, EVENTS, "forward")
    assert adjusted["close"].to_pylist() == [5.0, 5.0, 5.5, 7.0, 7.1]


def test_the_newest_factor_is_the_base_even_after_the_last_bar():
    later = pa.concat_tables([EVENTS, factors([("600000.SH", 20, 4.0, "x")])])
    assert adjust(BARS, later, "forward")["close"].to_pylist()[:3] == [2.5, 2.5, 2.75]


def test_none_changes_nothing():
    assert adjust(BARS, EVENTS, "none") is BARS


def test_an_index_keeps_its_prices_beside_stocks_that_are_adjusted():
    bars = pa.table(
        {
            "symbol": ["000300.SH", "600519.SH", "000001.SZ"],
            "trade_date": days(2, 2, 2),
            "close": [3500.1234, 10.0, 9.0],
        }
    )
    known = factors([("600519.SH", 1, 2.0, "x")])
    assert adjust(bars, known, "back")["close"].to_pylist() == [3500.1234, 20.0, None]
    assert adjust(bars, known, "forward")["close"].to_pylist() == [3500.1234, 10.0, None]


def test_a_bar_before_the_first_factor_has_no_adjusted_price():
    assert adjust(BARS, factors([("600000.SH", 3, 2.0, "x")]), "back")["close"].to_pylist() == [
        None,
        10.0,
        11.0,
        None,
        None,
    ]
    assert adjust(BARS, EVENTS.slice(0, 0), "forward")["close"].null_count == 5


def test_factors_of_two_sources_never_mix():
    mixed = factors(
        [
            ("600000.SH", 2, 10.0, "late"),
            ("600000.SH", 4, 40.0, "late"),
            ("600000.SH", 1, 1.0, "early"),
            ("600000.SH", 3, 2.0, "early"),
        ]
    )
    assert adjust(BARS.slice(0, 3), mixed, "back")["close"].to_pylist() == [10.0, 10.0, 11.0]


def test_minute_bars_use_the_factor_of_their_session():
    moments = [datetime(2024, 1, 2, 15, tzinfo=ZONE), datetime(2024, 1, 3, 0, 30, tzinfo=ZONE)]
    bars = pa.table(
        {
            "symbol": ["600000.SH", "600000.SH"],
            "bar_time": pa.array(moments, pa.timestamp("ms", tz="Asia/Shanghai")),
            "close": [10.0, 5.0],
        }
    )
    assert adjust(bars, EVENTS, "back")["close"].to_pylist() == [10.0, 10.0]


def test_an_unknown_way_is_a_users_mistake():
    with pytest.raises(ConfigError, match="none, back or forward"):
        adjust(BARS, EVENTS, "qfq")


@pytest.mark.parametrize("code", ["000001.SZ", "000002.SZ", "000651.SZ", "000858.SZ"])
def test_real_factors_give_the_vendors_own_adjusted_prices(shared_data, code):
    name = f"daily_with_adj_factor_cn_headers/{code}.csv"
    frame = archives.load(shared_data, name, archives.CHINESE_HEADERS)
    vendor = csv.read_csv(shared_data / name).sort_by("交易日期")
    bars = pa.Table.from_batches([frame.rows])
    known = pa.table(
        {
            "symbol": bars["symbol"],
            "trade_date": bars["trade_date"],
            "factor": vendor["复权因子"],
            "source": bars["source"],
        }
    )
    back = adjust(bars, known, "back")
    for ours, theirs in {"open": "开盘价后复权", "close": "收盘价后复权", "pre_close": "昨收价后复权"}.items():
        assert np.abs(back[ours].to_numpy() - vendor[theirs].to_numpy()).max() < 1e-4
    forward = adjust(bars, known, "forward")["close"].to_numpy()
    ratio = forward / vendor["收盘价前复权"].to_numpy()
    assert np.ptp(ratio) < 1e-4 * ratio.mean()  # the vendor's base is a later day, one constant apart
    assert forward[-1] == bars["close"][-1].as_py()
