"""Puts each vendor's tables behind its protocol: those of a simulated market, or of recordings."""

from __future__ import annotations

from pathlib import Path

from mystocks_ingest.sim import (
    baostock_tables,
    recorded_akshare,
    recorded_baostock,
    recorded_tushare,
    recordings,
    tushare_tables,
    wire_akshare,
    wire_baostock,
    wire_tushare,
)
from mystocks_ingest.sim.eastmoney_tables import EastmoneyTables
from mystocks_ingest.sim.faults import FaultBook
from mystocks_ingest.sim.market import Market, MarketConfig
from mystocks_ingest.sim.recorded import Library
from mystocks_ingest.sim.site_tables import ExchangeTables, SinaTables, TencentTables
from mystocks_ingest.sim.transport import Listener
from mystocks_ingest.sim.web import serve
from mystocks_ingest.sim.wire_akshare import Akshare
from mystocks_ingest.sim.wire_baostock import Baostock
from mystocks_ingest.sim.wire_tushare import Tushare

_EXCHANGES = ("sse", "szse", "bse", "csindex")


def listeners(
    config: MarketConfig, directory: Path | None, book: FaultBook, *, forward_adjusted: bool
) -> dict[str, Listener]:
    """One listener per vendor, not yet open. Raises FileNotFoundError when ``directory`` is none."""
    tushare: wire_tushare.Tables
    baostock: wire_baostock.Tables
    sites: dict[str, wire_akshare.Tables]
    if directory is None:
        market = Market(config)
        exchanges = ExchangeTables(market)
        sites = {"eastmoney": EastmoneyTables(market), "sina": SinaTables(market), "tencent": TencentTables(market)}
        sites |= dict.fromkeys(_EXCHANGES, exchanges)
        tushare, baostock = tushare_tables.MarketTables(market), baostock_tables.MarketTables(market)
    else:
        library = Library(recordings.load(directory), forward_adjusted=forward_adjusted)
        sites = dict.fromkeys(("eastmoney", "sina", *_EXCHANGES), recorded_akshare.AkshareTables(library))
        tushare, baostock = recorded_tushare.TushareTables(library), recorded_baostock.BaostockTables(library)
    return {
        "tushare": Listener(serve(Tushare(tushare, book).reply)),
        "baostock": Listener(Baostock(baostock, book).handle),
        "akshare": Listener(serve(Akshare(sites, book).reply)),
    }
