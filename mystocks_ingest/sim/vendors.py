"""Puts each vendor's tables behind its protocol."""

from __future__ import annotations

from pathlib import Path

from mystocks_ingest.sim.baostock_tables import MarketTables as BaostockTables
from mystocks_ingest.sim.eastmoney_tables import EastmoneyTables
from mystocks_ingest.sim.faults import FaultBook
from mystocks_ingest.sim.market import Market, MarketConfig
from mystocks_ingest.sim.site_tables import ExchangeTables, SinaTables, TencentTables
from mystocks_ingest.sim.transport import Listener
from mystocks_ingest.sim.tushare_tables import MarketTables as TushareTables
from mystocks_ingest.sim.web import serve
from mystocks_ingest.sim.wire_akshare import Akshare
from mystocks_ingest.sim.wire_akshare import Tables as Sites
from mystocks_ingest.sim.wire_baostock import Baostock
from mystocks_ingest.sim.wire_tushare import Tushare


def listeners(
    config: MarketConfig, recorded: Path | None, book: FaultBook, *, forward_adjusted: bool
) -> dict[str, Listener]:
    """One listener per vendor, not yet open."""
    market = Market(config)
    return {
        "tushare": Listener(serve(Tushare(TushareTables(market), book).reply)),
        "baostock": Listener(Baostock(BaostockTables(market), book).handle),
        "akshare": Listener(serve(Akshare(_sites(market), book).reply)),
    }


def _sites(market: Market) -> dict[str, Sites]:
    exchanges = ExchangeTables(market)
    return {
        "eastmoney": EastmoneyTables(market),
        "sina": SinaTables(market),
        "tencent": TencentTables(market),
        **dict.fromkeys(("sse", "szse", "bse", "csindex"), exchanges),
    }
