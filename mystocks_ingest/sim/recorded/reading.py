"""Recorded vendor rows read from a directory: files are recognised by their columns, whatever they are called.

Raw and forward-adjusted series are kept apart: baostock's say which they are, of the others a series is raw when
amount over volume lies between low and high on (nearly) every row.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather

from mystocks_ingest.sim.holidays import Days
from mystocks_ingest.sim.noise import F64

Texts = Mapping[str, Sequence[str]]
_PREFIX = re.compile(r"^indiv(_adj)?_d_")
_CODE = re.compile(r"(?<!\d)(\d{6})(?!\d)")


@dataclass(frozen=True)
class Rows:
    """Daily rows of one file in one unit: yuan, shares. ``turn`` and ``st`` are baostock's texts where known."""

    symbols: npt.NDArray[np.str_]
    days: Days
    prices: F64  # rows x (open, high, low, close)
    ref: F64
    volume: F64
    amount: F64
    traded: npt.NDArray[np.bool_]
    turn: npt.NDArray[np.str_]
    st: npt.NDArray[np.str_]

    def take(self, at: npt.NDArray[np.int64] | npt.NDArray[np.bool_]) -> Rows:
        return Rows(**{n: getattr(self, n)[at] for n in Rows.__dataclass_fields__})

    def __len__(self) -> int:
        return len(self.days)


@dataclass
class Recordings:
    """Everything recognised. ``daily`` and ``forward`` by vendor; the other tables as the vendor's texts."""

    daily: dict[str, list[Rows]] = field(default_factory=dict)
    forward: dict[str, list[Rows]] = field(default_factory=dict)
    minutes: dict[str, dict[str, Texts]] = field(default_factory=dict)  # vendor -> symbol -> columns, 5 minutes
    tables: dict[str, list[Texts]] = field(default_factory=dict)  # tushare api -> tables

    def merged(self, vendor: str) -> Rows:
        """Raw rows as ``vendor`` would have them: its own first, the other vendors' where it has none."""
        order = [vendor, *(v for v in ("baostock", "tushare", "akshare") if v != vendor)]
        return merge([rows for v in order for rows in self.daily.get(v, [])])


def merge(parts: Sequence[Rows]) -> Rows:
    """One table sorted by symbol and day; of equal keys the first wins."""
    if not parts:
        none = np.empty(0, dtype="U9")
        numbers = np.empty(0)
        days = np.empty(0, dtype="datetime64[D]")
        return Rows(none, days, np.empty((0, 4)), numbers, numbers, numbers, np.empty(0, dtype=np.bool_), none, none)
    rows = Rows(**{n: np.concatenate([getattr(p, n) for p in parts]) for n in Rows.__dataclass_fields__})
    order = np.lexsort((np.arange(len(rows)), rows.days, rows.symbols))
    rows = rows.take(order)
    fresh = np.ones(len(rows), dtype=np.bool_)
    fresh[1:] = (rows.symbols[1:] != rows.symbols[:-1]) | (rows.days[1:] != rows.days[:-1])
    return rows.take(fresh)


def load(directory: Path) -> Recordings:
    """Read every file under ``directory`` that is recognised. Raises FileNotFoundError when there is no directory."""
    if not directory.is_dir():
        raise FileNotFoundError(f"no directory of recordings at {directory}")
    found = Recordings()
    for path in sorted(p for p in directory.rglob("*") if p.suffix in (".csv", ".feather")):
        table = _texts(path)
        if table:
            _sort_in(found, path, table)
    return found


def _texts(path: Path) -> dict[str, list[str]]:
    """A file's columns as texts; UTF-8 with or without a mark, or GBK."""
    if path.suffix == ".feather":
        table = pa.feather.read_table(path)
    else:
        head = path.read_bytes()[:65_536].split(b"\n", 1)[0]
        try:
            names, encoding = head.decode("utf-8-sig").strip().split(","), "utf-8"
        except UnicodeDecodeError:
            names, encoding = head.decode("gbk", "replace").strip().split(","), "gbk"
        types = {n: pa.string() for n in names}
        table = pa.csv.read_csv(
            path, read_options=pa.csv.ReadOptions(encoding=encoding),
            convert_options=pa.csv.ConvertOptions(column_types=types, strings_can_be_null=False),
        )  # fmt: skip
    out = {}
    for name in table.schema.names:
        out[_PREFIX.sub("", name.lstrip("\ufeff"))] = table[name].cast(pa.string()).fill_null("").to_pylist()
    return out


def _sort_in(found: Recordings, path: Path, table: dict[str, list[str]]) -> None:
    for signature, take in _LAYOUTS:
        if signature <= set(table):
            take(found, path, table)
            return


def _numbers(cells: Sequence[str]) -> F64:
    return np.array([float(c) if c not in ("", "-") else np.nan for c in cells])


def days_of(cells: Sequence[str]) -> Days:
    """20240102, 2024-01-02 or 2024/01/02."""
    iso = [
        c[:10].replace("/", "-") if len(c) >= 10 and not c[:8].isdigit() else f"{c[:4]}-{c[4:6]}-{c[6:8]}"
        for c in cells
    ]
    return np.array(iso, dtype="datetime64[D]")


def _rows(
    table: Texts, symbols: Sequence[str], names: Sequence[str], ref: F64 | None, shares: float, yuan: float
) -> Rows:
    day, *prices, volume, amount = names
    size = len(table[day])
    columns = np.stack([_numbers(table[n]) for n in prices], axis=1)
    status = table.get("tradestatus", ["1"] * size)
    return Rows(
        np.array(symbols, dtype="U9"), days_of(table[day]), columns, columns[:, 3] if ref is None else ref,
        np.nan_to_num(np.round(_numbers(table[volume]) * shares)), np.nan_to_num(np.round(_numbers(table[amount]) * yuan, 2)),
        np.array(status) == "1", np.array(table.get("turn", [""] * size), dtype="U16"),
        np.array(table.get("isST", ["0"] * size), dtype="U1"),
    )  # fmt: skip


def _is_raw(rows: Rows) -> bool:
    """Whether amount / volume lies within the day's range, as it does in raw series only."""
    busy = rows.volume > 0
    if not busy.any():
        return True
    mean = rows.amount[busy] / rows.volume[busy]
    low, high = rows.prices[busy, 2], rows.prices[busy, 1]
    return float(np.mean((mean > low * 0.99) & (mean < high * 1.01))) > 0.99


def asset_type(symbol: str) -> str:
    """By the code alone, which is enough for the recordings at hand."""
    code, exchange = symbol[:6], symbol[-2:]
    if (exchange == "SH" and code.startswith("000")) or (exchange == "SZ" and code.startswith("399")):
        return "index"
    return "etf" if code.startswith(("51", "15", "16", "58", "56")) else "stock"


def exchange_of(code: str) -> str:
    return "SH" if code.startswith(("6", "5", "9")) and not code.startswith("92") else \
        "BJ" if code.startswith(("92", "8", "4")) else "SZ"  # fmt: skip


def _keep(found: Recordings, vendor: str, rows: Rows, *, raw: bool) -> None:
    (found.daily if raw else found.forward).setdefault(vendor, []).append(rows)


def _tushare_daily(found: Recordings, _: Path, table: dict[str, list[str]]) -> None:
    table.setdefault("trade_date", table.get("date", []))
    names = ("trade_date", "open", "high", "low", "close", "vol", "amount")
    rows = _rows(table, table["ts_code"], names, _numbers(table["pre_close"]), 100, 1000)
    different = set(table["ts_code"])
    if len(different) > 1:  # pages of daily(trade_date=...): raw or not at once
        _keep(found, "tushare", rows, raw=_is_raw(rows))
        return
    _keep(found, "tushare", rows, raw={asset_type(s) for s in different} == {"index"} or _is_raw(rows))


def _tushare_chinese(found: Recordings, _: Path, table: dict[str, list[str]]) -> None:
    names = ("交易日期", "开盘价", "最高价", "最低价", "收盘价", "成交量(手)", "成交额(千元)")
    rows = _rows(table, table["股票代码"], names, _numbers(table["昨收价"]), 100, 1000)
    _keep(found, "tushare", rows, raw=_is_raw(rows))
    factors = {"ts_code": table["股票代码"], "trade_date": table["交易日期"], "adj_factor": table["复权因子"]}
    found.tables.setdefault("adj_factor", []).append(factors)


def _baostock_daily(found: Recordings, _: Path, table: dict[str, list[str]]) -> None:
    symbols = [f"{c[3:]}.{c[:2].upper()}" for c in table["code"]]
    names = ("date", "open", "high", "low", "close", "volume", "amount")
    rows = _rows(table, symbols, names, _numbers(table["preclose"]), 1, 1)
    _keep(found, "baostock", rows, raw=set(table["adjustflag"]) == {"3"})


def _akshare_daily(found: Recordings, _: Path, table: dict[str, list[str]]) -> None:
    symbols = [f"{c.zfill(6)}.{exchange_of(c.zfill(6))}" for c in table["股票代码"]]
    names = ("日期", "开盘", "最高", "最低", "收盘", "成交量", "成交额")
    ref = np.round(_numbers(table["收盘"]) - _numbers(table["涨跌额"]), 4)
    rows = _rows(table, symbols, names, ref, 100, 1)
    _keep(found, "akshare", rows, raw=_is_raw(rows))


def _akshare_minutes(found: Recordings, path: Path, table: dict[str, list[str]]) -> None:
    code = _CODE.search(path.stem)
    if code:
        symbol = f"{code[1]}.{exchange_of(code[1])}"
        found.minutes.setdefault("akshare", {})[symbol] = table


def _baostock_minutes(found: Recordings, _: Path, table: dict[str, list[str]]) -> None:
    for code in dict.fromkeys(table["code"]):
        at = [n for n, c in enumerate(table["code"]) if c == code]
        own = {name: [cells[n] for n in at] for name, cells in table.items()}
        found.minutes.setdefault("baostock", {})[f"{code[3:]}.{code[:2].upper()}"] = own


def _as(api: str) -> Callable[[Recordings, Path, dict[str, list[str]]], None]:
    def keep(found: Recordings, _: Path, table: dict[str, list[str]]) -> None:
        found.tables.setdefault(api, []).append(table)

    return keep


_LAYOUTS: tuple[tuple[frozenset[str], Callable[[Recordings, Path, dict[str, list[str]]], None]], ...] = (
    (frozenset({"ts_code", "trade_date", "turnover_rate", "total_share"}), _as("daily_basic")),
    (frozenset({"股票代码", "交易日期", "复权因子", "成交量(手)"}), _tushare_chinese),
    (frozenset({"ts_code", "open", "high", "low", "close", "pre_close", "vol", "amount"}), _tushare_daily),
    (frozenset({"ts_code", "trade_date", "adj_factor"}), _as("fund_adj")),
    (frozenset({"exchange", "cal_date", "is_open"}), _as("trade_cal")),
    (frozenset({"ts_code", "symbol", "name", "list_date"}), _as("stock_basic")),
    (frozenset({"index_code", "con_code", "weight"}), _as("index_weight")),
    (frozenset({"date", "code", "preclose", "adjustflag", "tradestatus"}), _baostock_daily),
    (frozenset({"date", "time", "code", "open", "adjustflag", "volume"}), _baostock_minutes),
    (frozenset({"code", "tradeStatus", "code_name"}), _as("query_all_stock")),
    (frozenset({"updateDate", "code", "industry"}), _as("query_stock_industry")),
    (frozenset({"日期", "股票代码", "开盘", "收盘", "成交量", "涨跌额"}), _akshare_daily),
    (frozenset({"时间", "开盘", "收盘", "成交量", "成交额"}), _akshare_minutes),
)


def each_symbol(rows: Rows) -> Iterator[tuple[str, Rows]]:
    """The rows of one symbol after the other (``rows`` sorted by symbol)."""
    edges = np.flatnonzero(np.r_[True, rows.symbols[1:] != rows.symbols[:-1], True]) if len(rows) else np.array([0])
    for start, stop in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        yield str(rows.symbols[start]), rows.take(np.arange(start, stop))
