"""One million daily bars of the simulated market as tushare's ``daily`` sends them: the frame all peers share."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from functools import cache

import pyarrow as pa

from mystocks_ingest.market.calendar import Calendar
from mystocks_ingest.market.checks import Context
from mystocks_ingest.market.datasets import BAR_1D
from mystocks_ingest.market.frames import Request, Window
from mystocks_ingest.market.instruments import Instruments
from mystocks_ingest.sim.market import Market, MarketConfig
from mystocks_ingest.sim.source import SimSource

ROWS = 1_000_000
FETCHED = datetime(2026, 11, 20, 12, tzinfo=UTC)


@cache
def market() -> Market:
    """5,400 stocks over enough sessions."""
    return Market(MarketConfig(seed=7, stocks=5_400, sessions=220))


async def vendor_rows() -> pa.RecordBatch:
    """Session after session, as whole-market calls give them."""
    held = market()
    window = Window(held.first_day, held.last_day + timedelta(days=1))
    frames = SimSource(held, raw=True).fetch(Request(BAR_1D, window))
    parts = [frame.raw async for frame in frames if frame.dataset == BAR_1D and frame.raw is not None]
    rows = pa.concat_batches(parts)
    if rows.num_rows < ROWS:
        raise ValueError(f"the simulated market gave {rows.num_rows:,} rows")
    return rows.slice(0, ROWS)


def context() -> Context:
    """What the check leans on in a real run: the calendar and the instrument list."""
    return Context(
        now=FETCHED,
        calendar=Calendar.from_table(market().calendar(date(2000, 1, 1), market().last_day)),
        instruments=Instruments(market().instruments()),
    )
