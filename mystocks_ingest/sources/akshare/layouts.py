"""What akshare's functions return, as layouts.

Eastmoney and Tencent count in lots of 100, Sina in shares; turnover is percent at Eastmoney and a fraction at Sina
and Tencent; Eastmoney's order is open, close, high, low.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mystocks_ingest.market.cells import decimals
from mystocks_ingest.market.datasets import (
    ADJ_FACTOR,
    BAR_1D,
    CALENDAR,
    DATASETS,
    INSTRUMENT,
    PRICE_DECIMALS,
    QUOTE,
    TICK,
)
from mystocks_ingest.market.layout import Column, Layout, Read

_LOT = 100
_MINUTE = DATASETS["bar_5m"]

Columns = Mapping[str, pa.Array]


def _prices(names: Mapping[str, str]) -> dict[str, Column]:
    return {ours: Column((theirs,), Read.PRICE) for ours, theirs in names.items()}


_OHLC_CN = _prices({"open": "开盘", "high": "最高", "low": "最低", "close": "收盘"})
_OHLC = _prices({n: n for n in ("open", "high", "low", "close")})
_TRADED_CN = {"volume": Column(("成交量",), Read.COUNT, _LOT), "amount": Column(("成交额",), Read.AMOUNT)}
_TRADED = {"volume": Column(("volume",), Read.COUNT), "amount": Column(("amount",), Read.AMOUNT)}


def _previous_close(out: Columns, _: pa.RecordBatch) -> Columns:
    """Eastmoney gives the change instead of the price it was reckoned from (true of unadjusted bars only)."""
    if "change" not in out:
        return {}
    return {"pre_close": decimals(pc.subtract(out["close"], out["change"]), PRICE_DECIMALS)}


def _no_zero_open(out: Columns, _: pa.RecordBatch) -> Columns:
    """Eastmoney writes 0 as the open of one-minute bars of all but the latest session."""
    opened = out["open"]
    return {"open": pc.if_else(pc.fill_null(pc.equal(opened, 0), True), pa.scalar(None, opened.type), opened)}


def _sequence(out: Columns, _: pa.RecordBatch) -> Columns:
    """Number the trades of one second in the vendor's order; spell the sides."""
    stamps = pc.fill_null(out["ts"].cast(pa.int64()), 0).to_numpy()
    order = np.argsort(stamps, kind="stable")
    places = np.arange(len(stamps))
    starts = np.append(True, stamps[order][1:] != stamps[order][:-1])[: len(stamps)]
    numbers = np.empty(len(stamps), dtype=np.int32)
    numbers[order] = places - np.maximum.accumulate(np.where(starts, places, 0))
    sides = pa.array(["买盘", "卖盘", "中性盘"])
    codes = pc.index_in(out["kind"].cast(pa.string()), value_set=sides)
    return {"seq": pa.array(numbers), "side": pa.array(["B", "S", "N"]).take(codes)}


def _exchange(out: Columns, _: pa.RecordBatch) -> Columns:
    return {"exchange": pc.utf8_slice_codeunits(out["symbol"], 7)}


HIST = Layout(
    "akshare stock_zh_a_hist",
    BAR_1D,
    {
        "symbol": Column(("股票代码",), Read.SYMBOL),
        "trade_date": Column(("日期",), Read.DAY),
        **_OHLC_CN,
        **_TRADED_CN,
        "turnover": Column(("换手率",), Read.NUMBER),
        "change": Column(("涨跌额",), Read.PRICE),
    },
    frozenset({"日期", "开盘", "收盘", "最高", "最低", "成交量", "成交额", "涨跌额"}),
    derive=_previous_close,
)
INDEX_EM = Layout(
    "akshare stock_zh_index_daily_em",
    BAR_1D,
    {
        "trade_date": Column(("date",), Read.DAY),
        **_OHLC,
        "volume": Column(("volume",), Read.COUNT, _LOT),
        "amount": Column(("amount",), Read.AMOUNT),
    },
    frozenset(),  # its columns say neither unit nor vendor: not to be recognised in a file
    asset_type="index",
)
MINUTE = Layout(
    "akshare stock_zh_a_hist_min_em",
    _MINUTE,
    {"bar_time": Column(("时间",), Read.TIME), **_OHLC_CN, **_TRADED_CN},
    frozenset({"时间", "开盘", "收盘", "最高", "最低", "成交量", "成交额"}),
    derive=_no_zero_open,
)
SPOT_EM = Layout(
    "akshare stock_zh_a_spot_em",
    QUOTE,
    {
        "symbol": Column(("代码",), Read.SYMBOL),
        "last": Column(("最新价",), Read.PRICE),
        **_prices({"open": "今开", "high": "最高", "low": "最低", "pre_close": "昨收"}),
        **_TRADED_CN,
    },
    frozenset({"代码", "名称", "最新价", "今开", "昨收", "成交量", "市盈率-动态"}),
)
BID_ASK = Layout(
    "akshare stock_bid_ask_em",
    QUOTE,
    {
        "last": Column(("最新",), Read.PRICE),
        **_prices({"open": "今开", "high": "最高", "low": "最低", "pre_close": "昨收"}),
        "volume": Column(("总手",), Read.COUNT, _LOT),
        "amount": Column(("金额",), Read.AMOUNT),
        **{
            f"{ours}_{what}{n}": Column((f"{theirs}_{n}{suffix}",), how)  # volumes are already shares here
            for ours, theirs in (("bid", "buy"), ("ask", "sell"))
            for n in range(1, 6)
            for what, suffix, how in (("price", "", Read.PRICE), ("volume", "_vol", Read.COUNT))
        },
    },
    frozenset({"buy_1", "buy_1_vol", "sell_1", "sell_1_vol", "总手"}),
)
INTRADAY = Layout(
    "akshare stock_intraday_em",
    TICK,
    {
        "ts": Column(("时间",), Read.TIME),
        "price": Column(("成交价",), Read.PRICE),
        "volume": Column(("手数",), Read.COUNT, _LOT),
        "kind": Column(("买卖盘性质",), Read.TEXT),
    },
    frozenset({"时间", "成交价", "手数", "买卖盘性质"}),
    derive=_sequence,
)
TICK_TX = Layout(
    "akshare stock_zh_a_tick_tx_js",
    TICK,
    {
        "ts": Column(("成交时间",), Read.TIME),
        "price": Column(("成交价格",), Read.PRICE),
        "volume": Column(("成交量",), Read.COUNT, _LOT),
        "amount": Column(("成交金额", "成交额"), Read.AMOUNT),
        "kind": Column(("性质",), Read.TEXT),
    },
    frozenset({"成交时间", "成交价格", "成交量", "性质"}),
    derive=_sequence,
)
HIST_TX = Layout(
    "akshare stock_zh_a_hist_tx",
    BAR_1D,
    {
        "trade_date": Column(("date",), Read.DAY),
        **_OHLC,
        **_TRADED,
        "turnover": Column(("turnover",), Read.NUMBER, 100),
    },
    frozenset(),  # its volumes are wrong for some symbols by a factor that only the symbol tells
)
DAILY_SINA = Layout(
    "akshare stock_zh_a_daily",
    BAR_1D,
    {
        "trade_date": Column(("date",), Read.DAY),
        **_OHLC,
        **_TRADED,
        "turnover": Column(("turnover",), Read.NUMBER, 100),
    },
    frozenset({"date", "open", "high", "low", "close", "volume", "amount", "outstanding_share", "turnover"}),
)
FACTOR_SINA = Layout(
    "akshare stock_zh_a_daily hfq-factor",
    ADJ_FACTOR,
    {"trade_date": Column(("date",), Read.DAY), "factor": Column(("hfq_factor",), Read.NUMBER)},
    frozenset({"date", "hfq_factor"}),
)
SPOT_SINA = Layout(
    "akshare stock_zh_a_spot",
    QUOTE,
    {
        "symbol": Column(("代码",), Read.SYMBOL),
        "ts": Column(("时间戳",), Read.TIME),
        "last": Column(("最新价",), Read.PRICE),
        **_prices({"open": "今开", "high": "最高", "low": "最低", "pre_close": "昨收"}),
        "volume": Column(("成交量",), Read.COUNT),
        "amount": Column(("成交额",), Read.AMOUNT),
        "bid_price1": Column(("买入",), Read.PRICE),
        "ask_price1": Column(("卖出",), Read.PRICE),
    },
    frozenset({"代码", "最新价", "买入", "卖出", "昨收", "今开", "成交量", "时间戳"}),
)
SPOT_SINA_ENGLISH = Layout(
    "akshare stock_zh_a_spot, English names",
    QUOTE,
    {
        "symbol": Column(("symbol",), Read.SYMBOL),
        "ts": Column(("date",), Read.TIME),
        "last": Column(("latest_price",), Read.PRICE),
        **_prices({"open": "open", "high": "high", "low": "low", "pre_close": "close"}),
        **_TRADED,
        "bid_price1": Column(("bid_price",), Read.PRICE),
        "ask_price1": Column(("ask_price",), Read.PRICE),
    },
    frozenset({"symbol", "latest_price", "price_change", "bid_price", "ask_price", "close", "volume", "date"}),
)
CALENDAR_SINA = Layout(
    "akshare tool_trade_date_hist_sina",
    CALENDAR,
    {"trade_date": Column(("trade_date",), Read.DAY), "is_open": Column(("is_open",), Read.FLAG)},
    frozenset(),
    constants={"exchange": "SH"},  # the three stock exchanges share their sessions
)


def _listing(function: str, code: str, name: str, listed: str, *, signature: set[str], delisted: str = "") -> Layout:
    return Layout(
        f"akshare {function}",
        INSTRUMENT,
        {
            "symbol": Column((code,), Read.SYMBOL),
            "name": Column((name,), Read.TEXT),
            "list_date": Column((listed,), Read.DAY),
            "industry": Column(("所属行业",), Read.TEXT),
            "area": Column(("地区",), Read.TEXT),
            **({"delist_date": Column((delisted,), Read.DAY)} if delisted else {}),
        },
        frozenset({code, name, listed, *signature}),
        derive=_exchange,
        constants={"asset_type": "stock", "status": "D" if delisted else "L"},
    )


SH_LIST = _listing("stock_info_sh_name_code", "证券代码", "证券简称", "上市日期", signature={"证券全称", "公司全称"})
SZ_LIST = _listing("stock_info_sz_name_code", "A股代码", "A股简称", "A股上市日期", signature={"所属行业"})
BJ_LIST = _listing("stock_info_bj_name_code", "证券代码", "证券简称", "上市日期", signature={"地区", "报告日期"})
SH_DELISTED = _listing(
    "stock_info_sh_delist", "公司代码", "公司简称", "上市日期", signature=set(), delisted="暂停上市日期"
)
SZ_DELISTED = _listing(
    "stock_info_sz_delist", "证券代码", "证券简称", "上市日期", signature=set(), delisted="终止上市日期"
)

LAYOUTS = (
    *(HIST, MINUTE, SPOT_EM, BID_ASK, INTRADAY, TICK_TX, DAILY_SINA, FACTOR_SINA, SPOT_SINA, SPOT_SINA_ENGLISH),
    *(SH_LIST, SZ_LIST, BJ_LIST, SH_DELISTED, SZ_DELISTED),
)
