"""Layouts of exports that no vendor's function returns as such, and how a file is matched with a layout.

A file is tried as it is, then with a prefix that all its columns share taken away, then with its day column called
``trade_date``; the vendor's full signature is asked for first, and for bars then the columns that a bar needs. A
symbol column may be missing where the path names the symbol. What is matched is still to be proven by the checks.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath

import pyarrow as pa
import pyarrow.compute as pc

from mystocks_ingest.errors import ConfigError
from mystocks_ingest.market import symbols
from mystocks_ingest.market.datasets import ADJ_FACTOR, BAR_1D, INSTRUMENT, QUOTE, SUSPENSION, Dataset
from mystocks_ingest.market.frames import Symbol
from mystocks_ingest.market.layout import Column, Layout, Read

_SYMBOL_CN = {"symbol": Column(("股票代码", "ts代码", "代码"), Read.SYMBOL)}
_DAY_CN = {"trade_date": Column(("交易日期", "日期"), Read.DAY)}


def _joined_symbol(_: Mapping[str, pa.Array], raw: pa.RecordBatch) -> Mapping[str, pa.Array]:
    """Market and code stand in two columns: sz, 000001."""
    market, code = raw.column("市场代码").cast(pa.string()), raw.column("证券代码").cast(pa.string())
    return {"symbol": symbols.parse_column(pc.binary_join_element_wise(market, pc.utf8_lpad(code, 6, "0"), "."))}


LAYOUTS = (
    Layout(
        "tushare stk_factor, Chinese names",
        BAR_1D,
        {
            **_SYMBOL_CN,
            **_DAY_CN,
            **{
                ours: Column((theirs,), Read.PRICE)
                for ours, theirs in (
                    *(("open", "开盘价"), ("high", "最高价"), ("low", "最低价")),
                    *(("close", "收盘价"), ("pre_close", "昨收价")),
                )
            },
            "volume": Column(("成交量(手)",), Read.COUNT, 100),
            "amount": Column(("成交额(千元)",), Read.AMOUNT, 1000),
            "turnover": Column(("换手率(%)",), Read.NUMBER),
        },
        frozenset({"股票代码", "交易日期", "开盘价", "最高价", "最低价", "收盘价", "成交量(手)", "成交额(千元)"}),
    ),
    Layout(
        "tushare stk_factor, Chinese names",
        ADJ_FACTOR,
        {**_SYMBOL_CN, **_DAY_CN, "factor": Column(("复权因子",), Read.NUMBER)},
        frozenset({"股票代码", "交易日期", "复权因子"}),
    ),
    Layout(
        "tushare suspend",
        SUSPENSION,
        {"symbol": Column(("ts_code",), Read.SYMBOL), "trade_date": Column(("suspend_date",), Read.DAY)},
        frozenset({"ts_code", "suspend_date", "resume_date"}),
    ),
    Layout(
        "level-1 snapshots, Chinese names",
        QUOTE,
        {
            "ts": Column(("时间",), Read.TIME),
            "last": Column(("最新价",), Read.PRICE),
            **{
                f"{side}_{what}{n}": Column((f"{name}{numeral}{suffix}",), how, scale)
                for side, name in (("bid", "买"), ("ask", "卖"))
                for n, numeral in enumerate("一二三四五", 1)
                for what, suffix, how, scale in (("price", "价", Read.PRICE, 1.0), ("volume", "量", Read.COUNT, 100.0))
            },  # its own volume and amount are of the single snapshot, not of the day so far
        },
        frozenset({"市场代码", "证券代码", "时间", "最新价", "买一价", "卖一价", "买一量", "卖一量"}),
        derive=_joined_symbol,
    ),
)

_IN_PATH = re.compile(
    r"(?<![0-9A-Za-z])(?:(sh|sz|bj)[._-]?)?(\d{6})(?:[._-]?(sh|sz|bj|xshg|xshe|ss))?(?![0-9A-Za-z])", re.IGNORECASE
)
_MONTH = re.compile(r"^(19|20)\d\d(0[1-9]|1[0-2])$")  # 202104 in a name is a month, not a stock
_INDEX = re.compile(r"(?<![a-z])(index|indices|zhishu)(?![a-z])|指数", re.IGNORECASE)
_DAY_NAMES = ("date", "datetime", "day", "日期")


@dataclass(frozen=True)
class Match:
    """How a file's table is read: ``renamed`` maps its column names to the layout's."""

    layout: Layout
    renamed: Mapping[str, str]
    symbol: Symbol | None


def match(layouts: Sequence[Layout], names: Sequence[str], path: PurePath) -> list[Match]:
    """The ways to read a table with these columns, one per dataset (intervals of bars count as one); empty for a stranger."""
    named = symbol_in(path)
    for renamed in _renamings(names):
        present = {renamed.get(n, n) for n in names}
        for wanted in (_signature, _needed):
            found: dict[str, tuple[int, Match]] = {}
            for layout in layouts:
                group = group_of(layout.dataset)
                if (size := _fit(layout, wanted(layout), present, named)) > found.get(group, (0,))[0]:
                    says = present.intersection(layout.columns["symbol"].names) if "symbol" in layout.columns else ()
                    owner = named if "symbol" in layout.dataset.required and not says else None
                    found[group] = (size, Match(_completed(layout, present, path), renamed, owner))
            if found:
                return [m for _, m in found.values()]
    return []


def of_interval(layouts: Sequence[Layout], found: Match, dataset: Dataset) -> Match:
    """The match read as ``dataset``: bars of every interval look alike, only their times tell them apart."""
    ours = found.layout
    if ours.dataset is dataset:
        return found
    vendor = [la for la in layouts if la.dataset is dataset and la.name.split()[0] == ours.name.split()[0]]
    alike = [la for la in vendor if la.columns["close"] == ours.columns["close"]]
    layout = alike[0] if alike else replace(ours, dataset=dataset)
    return replace(found, layout=replace(layout, asset_type=ours.asset_type))


def group_of(dataset: Dataset) -> str:
    """Datasets whose tables look alike are one choice: bars within the day, bars of days and longer."""
    if dataset.interval is None:
        return dataset.name
    return "minutes" if dataset.time == "bar_time" else "days"


def symbol_in(path: PurePath) -> Symbol | None:
    """The symbol that the file's name, or else its folder's name, spells."""
    for part in (path.stem, path.parent.name):
        for market, code, suffix in _IN_PATH.findall(part):
            exchange = market or suffix
            if not exchange and _MONTH.match(code):
                continue
            try:
                return symbols.parse(f"{code}.{exchange}" if exchange else code, asset_type=_asset_type(path))
            except ConfigError:
                continue
    return None


def _asset_type(path: PurePath) -> str:
    return "index" if _INDEX.search("/".join(path.parts[-3:])) else "stock"


def _fit(layout: Layout, signature: frozenset[str], present: set[str], named: Symbol | None) -> int:
    """How many columns of the signature are there when all of them are, else 0."""
    own = layout.columns.get("symbol")
    if (
        own is not None
        and named is not None
        and layout.dataset is not INSTRUMENT
        and not present.intersection(own.names)
    ):
        signature -= set(own.names)
    return len(signature) if signature <= present else 0


def _signature(layout: Layout) -> frozenset[str]:
    return layout.signature


def _needed(layout: Layout) -> frozenset[str]:
    """What a bar cannot do without, and the amount, which proves its units (of an index it cannot: none)."""
    if layout.dataset.interval is None or not layout.signature or not {"volume", "amount"} <= set(layout.columns):
        return frozenset()
    needed = ("symbol", *(n for n in layout.dataset.required if n in layout.columns), "amount")
    return frozenset(layout.columns[n].names[0] for n in needed if n in layout.columns)


def _completed(layout: Layout, present: set[str], path: PurePath) -> Layout:
    """The layout with what the file does not say: a list without a status column is of listed stocks."""
    asset_type = _asset_type(path)
    if asset_type != "stock":
        layout = replace(layout, asset_type=asset_type)
    status = layout.columns.get("status")
    if layout.dataset is INSTRUMENT and status is not None and not present.intersection(status.names):
        return replace(layout, constants={**layout.constants, "status": "L"})
    if layout.dataset is ADJ_FACTOR:  # factors of two vendors must not mix in one series
        return replace(layout, constants={**layout.constants, "source": f"files-{layout.name.split()[0]}"})
    return layout


def _renamings(names: Sequence[str]) -> Iterator[Mapping[str, str]]:
    prefix = os.path.commonprefix([*names])  # noqa: RUF071  # of words, not of paths
    prefix = prefix[: prefix.rfind("_") + 1] if len(names) > 1 else ""
    for cut in ("", prefix) if prefix else ("",):
        plain = {n: n.removeprefix(cut).strip().lstrip("\ufeff").strip() for n in names}
        yield plain
        if "trade_date" not in plain.values():
            for day in _DAY_NAMES:
                if day in plain.values():
                    yield {n: "trade_date" if p == day else p for n, p in plain.items()}
