from __future__ import annotations

from pathlib import Path

import pyarrow.compute as pc
import pytest
from market_day import Stage, assert_equal_to_truth, staged

from mystocks_ingest.errors import ConfigError, Outcome
from mystocks_ingest.market.datasets import BAR_1D, INSTRUMENT
from mystocks_ingest.market.frames import Symbol
from mystocks_ingest.ports import Query


async def test_every_row_of_the_market_is_stored_once_and_a_second_run_asks_nobody(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        first = await stage.backfill(stage.job("instrument", "calendar", "bar_1d", "adj_factor", source="tushare"))
        assert (first.status, first.missing, first.warnings) == ("complete", [], [])
        assert_equal_to_truth(await stage.stored(), stage.truth())
        before = await stage.sim.calls()
        second = await stage.backfill(stage.job("instrument", "calendar", "bar_1d", "adj_factor", source="tushare"))
        assert (second.status, second.requests, sum(second.rows.values())) == ("complete", 0, 0)
        assert await stage.sim.calls() == before


async def test_delisted_stocks_are_among_the_universe(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        await stage.backfill(stage.job(source="tushare"))
        listing = await stage.stored(INSTRUMENT)
        gone = set(listing.filter(pc.equal(listing["status"], "D"))["symbol"].to_pylist())
        stored = set((await stage.stored())["symbol"].to_pylist())
        assert gone & set(stage.truth()["symbol"].to_pylist())
        assert gone & set(stage.truth()["symbol"].to_pylist()) <= stored


async def test_a_banned_vendor_is_left_and_another_family_completes(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        await stage.sim.fault("baostock", "blacklist", times=None)
        report = await stage.backfill(stage.job(symbols=mainland(stage)))
        assert report.status == "complete"
        assert report.outcomes["baostock", Outcome.BANNED] <= 1
        assert_equal_to_truth(await stage.stored(), stage.truth(mainland(stage)))


async def test_a_row_one_vendor_dropped_comes_from_another(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        symbol = steady(stage)
        await stage.sim.fault("tushare", "drop_row", match="daily", times=None)
        report = await stage.backfill(stage.job(symbols=(symbol,)))
        assert report.status == "complete"
        assert_equal_to_truth(await stage.stored(), stage.truth((symbol,)))


async def test_a_dropped_row_nobody_else_can_give_is_reported_and_asked_for_again(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        symbol = steady(stage)
        await stage.sim.fault("tushare", "drop_row", match="daily", times=None)
        report = await stage.backfill(stage.job(symbols=(symbol,), source="tushare"))
        assert (report.status, report.exit_code) == ("partial", 3)
        assert [(m.symbol, m.sessions) for m in report.missing] == [(symbol, 1)]
        await stage.sim.clear()
        again = await stage.backfill(stage.job(symbols=(symbol,), source="tushare"))
        assert again.status == "complete"
        assert_equal_to_truth(await stage.stored(), stage.truth((symbol,)))


async def test_a_unit_error_is_refused_and_the_rows_come_from_another_vendor(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        symbol = steady(stage)
        await stage.sim.fault("tushare", "volume_x100", match="daily", times=None)
        report = await stage.backfill(stage.job(symbols=(symbol,)))
        assert report.status == "complete"
        assert report.refused["bar_1d", "tushare", "unit"] == stage.truth((symbol,)).num_rows
        assert_equal_to_truth(await stage.stored(), stage.truth((symbol,)))


async def test_all_vendors_down_ends_partial_with_what_is_missing_and_why(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        for vendor in ("tushare", "baostock", "akshare"):
            await stage.sim.fault(vendor, "refused", times=None)
        symbol = steady(stage)
        report = await stage.backfill(stage.job(symbols=(symbol,)))
        assert report.exit_code == 3
        (missing,) = report.missing
        assert missing.sessions == stage.truth((symbol,)).num_rows
        assert "unreachable" in missing.why


async def test_an_unfinished_bar_is_provisional_and_fetched_again_after_the_close(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        symbol, last = steady(stage), stage.sim.market.last_day
        await stage.sim.fault("akshare", "provisional", times=None)
        report = await stage.backfill(stage.job(symbols=(symbol,), source="akshare"), now=stage.at(10, 30))
        assert report.provisional == 1
        bar = (await stage.stored()).filter(pc.field("trade_date") == last).to_pylist()[0]
        assert bar["provisional"] is True
        await stage.sim.clear()
        await stage.backfill(stage.job(symbols=(symbol,), source="akshare"), now=stage.at(22))
        bar = (await stage.stored()).filter(pc.field("trade_date") == last).to_pylist()[0]
        assert bar["provisional"] is False
        assert_equal_to_truth(await stage.stored(), stage.truth((symbol,)))


async def test_an_empty_market_day_is_a_failure_not_a_holiday(tmp_path: Path) -> None:
    async with staged(tmp_path, sessions=12) as stage:
        await stage.sim.fault("tushare", "empty", match="daily", times=1)
        report = await stage.backfill(stage.job(source="tushare"))
        assert report.outcomes["tushare", Outcome.MALFORMED] == 1
        assert report.exit_code == 3
        assert len({w for m in report.missing for w in m.windows}) == 1


async def test_force_fetches_again(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        symbol = steady(stage)
        await stage.backfill(stage.job(symbols=(symbol,), source="tushare"))
        report = await stage.backfill(stage.job(symbols=(symbol,), source="tushare", force=True))
        assert report.rows["bar_1d", "tushare"] == stage.truth((symbol,)).num_rows
        assert_equal_to_truth(await stage.stored(), stage.truth((symbol,)))


async def test_a_wider_window_fetches_only_what_is_new(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        symbol = steady(stage)
        whole = stage.job(symbols=(symbol,), source="tushare")
        middle = stage.sim.market.bars_1d(symbols=(symbol,))["trade_date"].to_pylist()[30]
        await stage.backfill(
            stage.job(symbols=(symbol,), source="tushare", window=type(whole.window)(middle, whole.window.end))
        )
        report = await stage.backfill(whole)
        assert report.rows["bar_1d", "tushare"] == 30
        assert_equal_to_truth(await stage.stored(), stage.truth((symbol,)))


async def test_an_unknown_symbol_is_named_with_its_nearest_neighbour(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        known = steady(stage)
        wrong = Symbol(known[:4] + "99" + known[6:])
        with pytest.raises(ConfigError, match=rf"unknown symbol {wrong}: no source lists it"):
            await stage.backfill(stage.job(symbols=(wrong,), source="tushare"))


async def test_the_plan_names_the_cost_and_fetches_no_history(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage, stage.service() as opened:
        lines = await opened.plan(stage.job("bar_1d", source="tushare"))
        assert [(line.dataset, line.source) for line in lines] == [("bar_1d", "tushare")]
        assert 0 < lines[0].calls <= 60
        assert (await opened.sink.read(opened.tables.holder(BAR_1D), Query())).num_rows == 0


def mainland(stage: Stage) -> tuple[Symbol, ...]:
    """Stocks of Shanghai and Shenzhen, which every vendor has."""
    return tuple(sorted({Symbol(s) for s in stage.truth()["symbol"].to_pylist() if not s.endswith(".BJ")}))


def steady(stage: Stage) -> Symbol:
    """A Shenzhen or Shanghai stock that traded in every session."""
    counts = pc.value_counts(stage.truth()["symbol"]).to_pylist()
    most = max(c["counts"] for c in counts)
    return min(Symbol(c["values"]) for c in counts if c["counts"] == most and not c["values"].endswith(".BJ"))


async def test_two_vendors_whose_rows_were_refused_do_not_prove_that_there_are_none(tmp_path: Path) -> None:
    async with staged(tmp_path) as stage:
        symbol = steady(stage)
        for vendor, api in (("tushare", "daily"), ("baostock", "query_history_k_data_plus"), ("akshare", "*")):
            await stage.sim.fault(vendor, "volume_x100", match=api, times=None)
        report = await stage.backfill(stage.job(symbols=(symbol,)))
        assert report.exit_code == 3
        (missing,) = report.missing
        assert missing.sessions == stage.truth((symbol,)).num_rows
        assert "refused" in missing.why
