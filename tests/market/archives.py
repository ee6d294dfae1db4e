"""The real archives as canonical frames, by layouts of their own: these tests judge the checks, not the sources."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv, feather

from mystocks_ingest.market.datasets import DATASETS
from mystocks_ingest.market.frames import Frame, Symbol
from mystocks_ingest.market.layout import Column, Layout, Read, normalize

FETCHED = datetime(2026, 11, 21, 12, tzinfo=UTC)


def _columns(**named: tuple[tuple[str, ...] | str, Read, float] | tuple[tuple[str, ...] | str, Read]):
    return {
        name: Column((spec[0],) if isinstance(spec[0], str) else spec[0], *spec[1:]) for name, spec in named.items()
    }


def _not_traded(raw: pa.RecordBatch) -> pa.Array:
    return pc.equal(raw.column("tradestatus").cast(pa.string()), "0")


def _prices(open_="open", high="high", low="low", close="close"):
    return {"open": (open_, Read.PRICE), "high": (high, Read.PRICE), "low": (low, Read.PRICE)} | {
        "close": (close, Read.PRICE)
    }


_DAILY = {"symbol": (("ts_code", "code", "股票代码"), Read.SYMBOL)} | {
    "trade_date": (("trade_date", "date", "日期", "交易日期"), Read.DAY)
}
TUSHARE = Layout(
    "tushare daily",
    DATASETS["bar_1d"],
    _columns(
        **_DAILY,
        **_prices(),
        pre_close=("pre_close", Read.PRICE),
        volume=("vol", Read.COUNT, 100.0),
        amount=("amount", Read.AMOUNT, 1000.0),
    ),
    frozenset({"ts_code", "vol"}),
)
FUND = Layout(
    "tushare fund",
    DATASETS["bar_1d"],
    _columns(
        symbol=("indiv_d_ts_code", Read.SYMBOL),
        trade_date=("indiv_d_trade_date", Read.DAY),
        **_prices("indiv_d_open", "indiv_d_high", "indiv_d_low", "indiv_d_close"),
        pre_close=("indiv_d_pre_close", Read.PRICE),
        volume=("indiv_d_vol", Read.COUNT, 100.0),
        amount=("indiv_d_amount", Read.AMOUNT, 1000.0),
    ),
    frozenset({"indiv_d_vol"}),
)
BAOSTOCK = Layout(
    "baostock daily",
    DATASETS["bar_1d"],
    _columns(
        **_DAILY,
        **_prices(),
        pre_close=("preclose", Read.PRICE),
        volume=("volume", Read.COUNT),
        amount=("amount", Read.AMOUNT),
        turnover=("turn", Read.NUMBER),
    ),
    frozenset({"adjustflag", "volume"}),
    suspended=_not_traded,
)
AKSHARE = Layout(
    "akshare hist",
    DATASETS["bar_1d"],
    _columns(
        **_DAILY,
        **_prices("开盘", "最高", "最低", "收盘"),
        volume=("成交量", Read.COUNT, 100.0),
        amount=("成交额", Read.AMOUNT),
        turnover=("换手率", Read.NUMBER),
    ),
    frozenset({"日期", "成交量"}),
)
CHINESE_HEADERS = Layout(
    "tushare, Chinese headers",
    DATASETS["bar_1d"],
    _columns(
        **_DAILY,
        **_prices("开盘价", "最高价", "最低价", "收盘价"),
        pre_close=("昨收价", Read.PRICE),
        volume=("成交量(手)", Read.COUNT, 100.0),
        amount=("成交额(千元)", Read.AMOUNT, 1000.0),
    ),
    frozenset({"交易日期"}),
)
SINA_INDEX = Layout(
    "sina index",
    DATASETS["bar_1d"],
    _columns(trade_date=("date", Read.DAY), **_prices(), volume=("volume", Read.COUNT)),
    frozenset({"date"}),
)
BAOSTOCK_5M = Layout(
    "baostock 5m",
    DATASETS["bar_5m"],
    _columns(
        symbol=("code", Read.SYMBOL),
        bar_time=("time", Read.TIME),
        **_prices(),
        volume=("volume", Read.COUNT),
        amount=("amount", Read.AMOUNT),
    ),
    frozenset({"time"}),
)
AKSHARE_5M = Layout(
    "akshare 5m",
    DATASETS["bar_5m"],
    _columns(
        bar_time=("时间", Read.TIME),
        **_prices("开盘", "最高", "最低", "收盘"),
        volume=("成交量", Read.COUNT, 100.0),
        amount=("成交额", Read.AMOUNT),
    ),
    frozenset({"时间"}),
)
DAILY_BASIC = Layout(
    "tushare daily_basic",
    DATASETS["daily_basic"],
    _columns(
        symbol=("ts_code", Read.SYMBOL),
        trade_date=("trade_date", Read.DAY),
        turnover=("turnover_rate", Read.NUMBER),
        turnover_free=("turnover_rate_f", Read.NUMBER),
        volume_ratio=("volume_ratio", Read.NUMBER),
        **{n: (n, Read.NUMBER) for n in ("pe", "pe_ttm", "pb", "ps", "ps_ttm")},
        total_shares=("total_share", Read.NUMBER, 1e4),
        float_shares=("float_share", Read.NUMBER, 1e4),
        free_shares=("free_share", Read.NUMBER, 1e4),
        total_value=("total_mv", Read.NUMBER, 1e4),
        float_value=("circ_mv", Read.NUMBER, 1e4),
    ),
    frozenset({"turnover_rate"}),
)

RAW = (
    *((f"daily_baostock_unadjusted_original/{c}.feather", BAOSTOCK) for c in ("sh.600000", "sh.600036", "sh.600519")),
    *((f"daily_baostock_unadjusted_original/{c}.feather", BAOSTOCK) for c in ("sz.000001", "sz.000002", "sz.000792")),
    *((f"daily_baostock_unadjusted_shuffled/{c}.csv", BAOSTOCK) for c in ("sh.600000", "sh.600519", "sz.000001")),
    *((f"daily_tushare_raw/data_{m}.csv", TUSHARE) for m in ("202104", "202107", "202201")),
    ("daily_tushare_raw/whole_market_20250205.csv", TUSHARE),
    ("daily_tushare_raw/600519.SH_2019_renamed_date.csv", TUSHARE),
    *((f"daily_with_adj_factor_cn_headers/{c}.csv", CHINESE_HEADERS) for c in ("000001.SZ", "000002.SZ")),
    *((f"daily_with_adj_factor_cn_headers/{c}.csv", CHINESE_HEADERS) for c in ("000651.SZ", "000858.SZ")),
    ("fund_adj_tushare/510300.SH_indiv_d.csv", FUND),
    ("index_tushare_daily/000300.SH_daily.csv", TUSHARE),
    ("index_tushare_daily/akshare_index_000300.csv", SINA_INDEX),
    ("minute_baostock_5m/sh.600000_5m_20251111_20251117.csv", BAOSTOCK_5M),
    ("minute_akshare_em_5m/600519_5m.csv", AKSHARE_5M),
    ("minute_akshare_em_5m/002466_5m.csv", BAOSTOCK_5M),
    ("daily_basic_tushare/daily_basic_20191025.csv", DAILY_BASIC),
)
EQUAL_SINCE_2018 = (
    *((f"three_format_equal/akshare_{c}.csv", AKSHARE) for c in ("601519", "600221")),
    *((f"three_format_equal/tushare_{c}.SH.csv", TUSHARE) for c in ("601519", "600221")),
)
_SIX = ("000001", "000002", "000792", "600000", "600036", "600519")
ADJUSTED = (
    *((f"daily_akshare_hist_qfq/{c}.csv", AKSHARE) for c in _SIX),
    *((f"daily_tushare_probar_qfq/{c}.csv", TUSHARE) for c in ("000001.SZ", "000792.SZ")),
    *((f"daily_tushare_probar_qfq/{c}.SH.csv", TUSHARE) for c in ("600000", "600036", "600519")),
    *((f"daily_baostock_qfq_original/{c}.csv", BAOSTOCK) for c in ("600519.SH", "000001.SZ")),
)
_SYMBOL_OF_FILE = {"600519_5m": "600519.SH", "akshare_index_000300": "000300.SH"}


def load(folder: Path, name: str, layout: Layout) -> Frame:
    """The bars of one archive (its suspended rows left out)."""
    path = folder / name
    if path.suffix == ".feather":
        table = feather.read_table(path)
    else:
        text = csv.ConvertOptions(column_types={"ts_code": pa.string(), "code": pa.string(), "股票代码": pa.string()})
        table = csv.read_csv(path, convert_options=text)
    symbol = _SYMBOL_OF_FILE.get(path.stem)
    (raw,) = table.combine_chunks().to_batches()
    return normalize(layout, raw, source="files", fetched_at=FETCHED, symbol=Symbol(symbol) if symbol else None)[0]
