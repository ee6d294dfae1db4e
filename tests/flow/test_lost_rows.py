"""Rows that a checkpoint speaks of and the store has no more: noticed, said and fetched again."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from market_day import Stage, assert_equal_to_truth, staged

from mystocks_ingest import service
from mystocks_ingest.flow.ledger import Ledger
from mystocks_ingest.flow.lost import forgotten
from mystocks_ingest.market.datasets import ADJ_FACTOR, BAR_1D, SUSPENSION, Dataset
from mystocks_ingest.market.frames import Symbol
from mystocks_ingest.settings import Settings
from mystocks_ingest.sinks.embedded import FILE

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
DAYS = [date(2026, 1, 1) + timedelta(days=n) for n in range(100)]
WORDS = ("bar_1d", "adj_factor")


def by_hand(stage: Stage, *statements: str) -> None:
    with duckdb.connect(str(stage.settings.state_dir / FILE)) as connection:
        for statement in statements:
            connection.execute(statement)


async def test_an_emptied_table_is_filled_again_though_a_run_ended_early_and_is_believed_then(tmp_path: Path) -> None:
    async with staged(tmp_path, stocks=12, sessions=30) as stage:
        job = stage.job(*WORDS, source="tushare")
        await stage.backfill(job)
        factors = (await stage.stored(ADJ_FACTOR)).num_rows
        by_hand(stage, "DROP TABLE bar_1d", "DELETE FROM adj_factor")
        await stage.sim.fault("tushare", "permission", match="daily", times=None)
        report = await stage.backfill(job)
        assert report.status == "partial"
        assert sorted(w.partition(":")[0] for w in report.warnings) == sorted(WORDS)
        await stage.sim.clear()
        assert (await stage.backfill(job)).status == "complete"
        assert_equal_to_truth(await stage.stored(), stage.truth())
        assert (await stage.stored(ADJ_FACTOR)).num_rows == factors
        again = await stage.backfill(job)
        assert (again.requests, again.warnings) == (0, [])


def rows(wanted: Dataset, symbols: list[str], days: list[date]) -> pa.RecordBatch:
    given = {"source": "tushare", "fetched_at": NOW, "provisional": False, "volume": 100}
    given |= dict.fromkeys(("open", "high", "low", "close"), 10.0)
    made = [given | {"symbol": symbol, "trade_date": day} for symbol in symbols for day in days]
    found = [{f.name: row.get(f.name) for f in wanted.schema} for row in made]
    return pa.RecordBatch.from_pylist(found, schema=wanted.schema)


@pytest.mark.parametrize(
    ("stored", "suspended", "symbols", "undone"),
    [
        (100, 0, 6, None),
        (60, 0, 6, 60),
        (60, 0, 1, 60),
        (0, 0, 6, 0),
        (60, 40, 1, None),  # it has not traded since
        (91, 0, 1, None),  # nine sessions of one symbol may be proven absent
    ],
)
async def test_what_an_older_copy_lacks_is_found_and_little_more(
    tmp_path: Path, stored: int, suspended: int, symbols: int, undone: int | None
) -> None:
    names = [f"60000{n}.SH" for n in range(symbols)]
    settings = Settings(_env_file=None, state_dir=tmp_path, config_dir=ROOT / "config")
    async with service.opened(settings, now=lambda: NOW) as opened:
        for wanted, days in ((BAR_1D, DAYS[:stored]), (SUSPENSION, DAYS[100 - suspended :])):
            if days:
                await opened.sink.write(opened.tables.holder(wanted), rows(wanted, names, days))
        ledger = Ledger.blank("bar_1d", [Symbol(name) for name in names], np.array(DAYS, "datetime64[D]"))
        ledger.done[:] = True
        since = await forgotten(BAR_1D, ledger, opened.tables, opened.sink)
        if undone is None:
            assert since is None
            assert ledger.done.all()
        else:
            assert since is not None
            first = DAYS.index(since)
            assert max(undone - 10, 0) <= first <= undone
            assert not ledger.done[:, first:].any()
            assert ledger.done[:, :first].all()
