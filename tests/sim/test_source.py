import pyarrow as pa
import pytest

from mystocks_ingest.errors import Unsupported
from mystocks_ingest.market.datasets import DATASETS
from mystocks_ingest.market.frames import Request, Symbol, Window
from mystocks_ingest.ports import Source
from mystocks_ingest.sim.market import Market, MarketConfig
from mystocks_ingest.sim.source import SimSource


@pytest.fixture(scope="module")
def market():
    return Market(MarketConfig(seed=9, stocks=25, sessions=60))


def whole(market):
    return Window(market.first_day, Window(market.last_day, market.last_day).last.replace(year=2027))


async def frames(source, name, window, *symbols):
    request = Request(DATASETS[name], window, tuple(Symbol(s) for s in symbols))
    return [f async for f in source.fetch(request)]


async def test_sessions_of_the_whole_market_put_together_are_the_truth(market):
    source: Source = SimSource(market)
    found = await frames(source, "bar_1d", whole(market))
    bars = pa.Table.from_batches([f.rows for f in found if f.dataset.name == "bar_1d"])
    true = market.bars_1d(asset_types=("stock", "etf", "index"))
    assert bars.sort_by([("symbol", "ascending"), ("trade_date", "ascending")]).equals(true)
    halted = pa.Table.from_batches([f.rows for f in found if f.dataset.name == "suspension"])
    assert halted.sort_by([("symbol", "ascending"), ("trade_date", "ascending")]).equals(market.suspensions())


async def test_raw_rows_stand_beside_their_canonical_ones_in_tushares_units(market):
    (frame, *_) = await frames(SimSource(market, raw=True), "bar_1d", whole(market), "000001.SZ", "600000.SH")
    raw, rows = frame.raw.to_pylist(), frame.rows.to_pylist()
    assert len(rows) > 100
    for vendor, ours in zip(raw, rows, strict=True):
        assert (vendor["ts_code"], vendor["close"]) == (ours["symbol"], ours["close"])
        assert vendor["trade_date"] == ours["trade_date"].strftime("%Y%m%d")
        assert round(vendor["vol"] * 100) == ours["volume"]
        assert round(vendor["amount"] * 1000, 2) == ours["amount"]


@pytest.mark.parametrize("name", sorted(SimSource(Market(MarketConfig(stocks=5, sessions=10))).offers))
async def test_every_dataset_offered_comes_in_its_canonical_schema(market, name):
    symbols = () if name == "calendar" else ("600000.SH",)
    found = await frames(SimSource(market), name, whole(market), *symbols)
    own = [f for f in found if f.dataset.name == name]
    assert own
    assert all(f.rows.schema.equals(DATASETS[name].schema) for f in own)


async def test_an_unknown_symbol_is_not_silently_left_out(market):
    with pytest.raises(Unsupported, match=r"does not list 999999\.SH"):
        await frames(SimSource(market), "bar_1d", whole(market), "999999.SH")
