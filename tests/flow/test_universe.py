from __future__ import annotations

from pathlib import Path

import pyarrow.compute as pc
import pytest
from market_day import staged

from mystocks_ingest.errors import ConfigError
from mystocks_ingest.market.datasets import BAR_1D, dataset

SSE50, HS300 = 50, 300  # the simulated market's first stocks


async def test_an_index_universe_is_fetched_and_its_members_alone(tmp_path: Path) -> None:
    async with staged(tmp_path, stocks=90, sessions=6) as stage:
        report = await stage.backfill(stage.job("bar_1d", universe="sz50"))
        members = await stage.stored(dataset("index_weight"))
        wanted = set(members.filter(pc.equal(members["index_symbol"], "000016.SH"))["symbol"].to_pylist())
        bars = await stage.stored(BAR_1D)
    assert report.status == "complete", report.missing
    assert 0 < len(wanted) < 90
    assert set(bars["symbol"].to_pylist()) <= wanted
    truth = set(stage.truth()["symbol"].to_pylist())
    assert set(bars["symbol"].to_pylist()) == wanted & truth


async def test_members_that_no_source_gives_are_one_sentence(tmp_path: Path) -> None:
    async with staged(tmp_path, stocks=12, sessions=6) as stage:
        with pytest.raises(ConfigError, match=r"members of hs300 are not stored: .* backfill --dataset index_weight"):
            await stage.backfill(stage.job("bar_1d", universe="hs300", source="tushare"))
