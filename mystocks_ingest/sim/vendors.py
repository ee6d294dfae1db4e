"""Puts each vendor's tables behind its protocol: those of a simulated market, or of recordings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mystocks_ingest.sim.akshare import eastmoney, exchanges, sina, tencent
from mystocks_ingest.sim.akshare import wire as akshare_wire
from mystocks_ingest.sim.baostock import tables as baostock_tables
from mystocks_ingest.sim.baostock import wire as baostock_wire
from mystocks_ingest.sim.clock import Clock
from mystocks_ingest.sim.faults import FaultBook
from mystocks_ingest.sim.market import Market, MarketConfig
from mystocks_ingest.sim.recorded import akshare as recorded_akshare
from mystocks_ingest.sim.recorded import baostock as recorded_baostock
from mystocks_ingest.sim.recorded import reading
from mystocks_ingest.sim.recorded import tushare as recorded_tushare
from mystocks_ingest.sim.recorded.library import Library
from mystocks_ingest.sim.transport import Listener
from mystocks_ingest.sim.tushare import tables as tushare_tables
from mystocks_ingest.sim.tushare import wire as tushare_wire
from mystocks_ingest.sim.web import serve

_EXCHANGES = ("sse", "szse", "bse", "csindex")


def listeners(
    config: MarketConfig,
    directory: Path | None,
    book: FaultBook,
    *,
    forward_adjusted: bool,
    clock: Callable[[Market], Clock] | None = None,
) -> tuple[dict[str, Listener], Clock | None]:
    """One listener per vendor, not yet open, and the market's clock. Raises FileNotFoundError when ``directory`` is none."""
    tushare: tushare_wire.Tables
    baostock: baostock_wire.Tables
    sites: dict[str, akshare_wire.Tables]
    running = None
    if directory is None:
        market = Market(config)
        market.clock = running = clock(market) if clock is not None else None
        tushare, baostock = tushare_tables.MarketTables(market), baostock_tables.MarketTables(market)
        sites = {
            "eastmoney": eastmoney.EastmoneyTables(market),
            "sina": sina.SinaTables(market),
            "tencent": tencent.TencentTables(market),
            **dict.fromkeys(_EXCHANGES, exchanges.ExchangeTables(market)),
        }
    else:
        library = Library(reading.load(directory), forward_adjusted=forward_adjusted)
        tushare, baostock = recorded_tushare.TushareTables(library), recorded_baostock.BaostockTables(library)
        sites = dict.fromkeys(("eastmoney", "sina", *_EXCHANGES), recorded_akshare.AkshareTables(library))
    return {
        "tushare": Listener(serve(tushare_wire.Tushare(tushare, book, running).reply)),
        "baostock": Listener(baostock_wire.Baostock(baostock, book).handle),
        "akshare": Listener(serve(akshare_wire.Akshare(sites, book, running).reply)),
    }, running
