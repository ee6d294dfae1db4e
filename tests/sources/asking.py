"""What the tests of the vendors' packages ask of the simulated market."""

from datetime import timedelta

import pyarrow as pa
import pyarrow.compute as pc

from mystocks_ingest.market.datasets import dataset
from mystocks_ingest.market.frames import Request, Window

ORIGIN = ("source", "fetched_at")


class Ask:
    """Requests over the simulator's window, and answers as one sorted table."""

    def __init__(self, sim):
        self.market = sim.market
        self.window = Window(sim.market.first_day, sim.market.last_day + timedelta(days=1))
        self.last = Window(sim.market.last_day, sim.market.last_day + timedelta(days=1))

    def one(self, asset_type, exchange="", n=0):
        own = self.market.listing
        fits = [
            s for s, a in zip(own.symbols, own.asset_types, strict=True) if a == asset_type and s.endswith(exchange)
        ]
        return fits[n]

    async def frames(self, source, name, *symbols, window=None, asset_type="stock"):
        request = Request(dataset(name), window or self.window, tuple(symbols), asset_type)
        return [frame async for frame in source.fetch(request)]

    async def rows(self, source, name, *symbols, window=None, asset_type="stock"):
        """The request's rows without their origin, sorted by key."""
        frames = await self.frames(source, name, *symbols, window=window, asset_type=asset_type)
        return plain([f.rows for f in frames if f.dataset.name == name])


def plain(tables):
    """Rows without their origin, sorted by key: two sources' answers can be compared."""
    batches = [t.combine_chunks().to_batches() if isinstance(t, pa.Table) else [t] for t in tables]
    table = pa.Table.from_batches([b for group in batches for b in group])
    table = table.drop_columns([c for c in ORIGIN if c in table.column_names])
    key = [c for c in ("exchange", "symbol", "trade_date", "bar_time", "ts") if c in table.column_names]
    return table.sort_by([(c, "ascending") for c in key])


def of(table, *symbols):
    return table.filter(pc.is_in(table.column("symbol"), value_set=pa.array(symbols)))
