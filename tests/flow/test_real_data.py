"""Recorded rows of real vendors, served over the three wire protocols, through the real packages, into the store."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from time import monotonic

import numpy as np
import pyarrow as pa
import pytest

from mystocks_ingest import service
from mystocks_ingest.flow.report import Job, Report, Silence
from mystocks_ingest.market.datasets import BAR_1D
from mystocks_ingest.market.frames import Symbol, Window
from mystocks_ingest.ports import Query
from mystocks_ingest.settings import Settings
from mystocks_ingest.sim.server import SimConfig, running

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 11, 20, 14, tzinfo=UTC)
STOCKS = (Symbol("000001.SZ"), Symbol("000002.SZ"), Symbol("600519.SH"))
YEARS = Window(date(2020, 1, 1), date(2022, 7, 1))
PRICES = ("open", "high", "low", "close", "pre_close")
VOLUME_SHARES, AMOUNT_CNY = 50, 140  # TRUTH.md: what vendors' own rounding may differ by in a day


async def filled(folder: Path, environment: dict[str, str], job: Job) -> tuple[Report, pa.Table]:
    settings = Settings(
        MYSTOCKS_STATE_DIR=folder, MYSTOCKS_CONFIG_DIR=ROOT / "config", TUSHARE_POINTS=5000, MYSTOCKS_PACING="none",
        **environment,
    )  # fmt: skip
    began = monotonic()
    async with service.opened(settings, now=lambda: NOW + timedelta(seconds=monotonic() - began)) as opened:
        report = await opened.backfill(job, Silence())
        return report, await opened.sink.read(opened.tables.holder(BAR_1D), Query())


def columns(rows: pa.Table, name: str) -> np.ndarray:
    return rows[name].to_numpy()


async def test_three_vendors_give_equal_bars(tmp_path: Path, shared_data: Path) -> None:
    async with running(SimConfig(recorded=shared_data)) as sim:
        stored = {}
        for source in ("tushare", "baostock", "akshare"):
            report, rows = await filled(
                tmp_path / source, sim.environment, Job(("bar_1d",), YEARS, STOCKS, source=source)
            )
            assert report.missing == [], source
            stored[source] = rows
        keys = [r.select(["symbol", "trade_date"]) for r in stored.values()]
        assert keys[0].num_rows > 1_700
        assert keys[0].equals(keys[1].cast(keys[0].schema))
        assert keys[0].equals(keys[2].cast(keys[0].schema))
        for other in ("baostock", "akshare"):
            for name in PRICES:
                assert np.array_equal(columns(stored["tushare"], name), columns(stored[other], name)), (other, name)
            for name, most in (("volume", VOLUME_SHARES), ("amount", AMOUNT_CNY)):
                apart = np.abs(columns(stored["tushare"], name) - columns(stored[other], name))
                assert apart.max() <= most, (other, name)


async def test_twenty_years_of_a_stock_with_its_suspensions_and_ex_right_days(
    tmp_path: Path, shared_data: Path
) -> None:
    async with running(SimConfig(recorded=shared_data)) as sim:
        job = Job(("bar_1d",), Window(date(2000, 1, 1), date(2023, 3, 17)), STOCKS[:1], source="baostock")
        report, rows = await filled(tmp_path, sim.environment, job)
    assert (report.status, rows.num_rows) == ("complete", 5461)
    assert report.rows["suspension", "baostock"] == 161
    by_day = {r["trade_date"]: r for r in rows.to_pylist()}
    assert by_day[date(2015, 4, 13)]["pre_close"] == 16.36
    assert by_day[date(2022, 7, 22)]["pre_close"] == 12.78
    assert by_day[date(2022, 7, 21)]["close"] == 13.01


async def test_a_whole_real_market_day(tmp_path: Path, shared_data: Path) -> None:
    async with running(SimConfig(recorded=shared_data)) as sim:
        day = Window(date(2025, 2, 5), date(2025, 2, 6))
        report, rows = await filled(tmp_path, sim.environment, Job(("bar_1d",), day, source="tushare"))
    assert rows.num_rows == 5383
    assert sum(report.refused.values()) == 0


@pytest.mark.parametrize("source", ["tushare", "baostock", "akshare"])
async def test_forward_adjusted_series_are_refused_whole(tmp_path: Path, shared_data: Path, source: str) -> None:
    async with running(SimConfig(recorded=shared_data, forward_adjusted=True)) as sim:
        job = Job(("bar_1d",), YEARS, (Symbol("600519.SH"),), source=source)
        report, rows = await filled(tmp_path, sim.environment, job)
    assert rows.num_rows == 0
    assert {rule for _, _, rule in report.refused} == {"forward_adjusted"}
    assert report.exit_code == 3
    assert "forward-adjusted" in report.missing[0].why
