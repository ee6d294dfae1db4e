"""A service whose tables are not as the file describes them: one route stops, the others go on."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from mystocks_ingest import service
from mystocks_ingest.errors import Drifted
from mystocks_ingest.market.datasets import ADJ_FACTOR, BAR_1D, CALENDAR, Dataset
from mystocks_ingest.ports import Query, Status
from mystocks_ingest.settings import Settings
from mystocks_ingest.sim.server import Sim, SimConfig, running
from mystocks_ingest.sinks.embedded import FILE

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 11, 20, 8, 0, tzinfo=UTC)
WORDS = ("backfill", "--dataset", "bar_1d,adj_factor", "--from", "2025-12-22", "--to", "2025-12-31", "--json")


def set_up(folder: Path, **more: object) -> Settings:
    return Settings(_env_file=None, state_dir=folder, config_dir=ROOT / "config", **more)


def by_hand(folder: Path, statement: str) -> None:
    with duckdb.connect(str(folder / FILE)) as connection:
        connection.execute(statement)


def row(wanted: Dataset) -> pa.RecordBatch:
    values = {"symbol": "600000.SH", "trade_date": date(2024, 1, 2), "source": "tushare", "fetched_at": NOW}
    values |= {"factor": 1.0, "provisional": False, "volume": 100, "exchange": "SH", "is_open": True}
    values |= dict.fromkeys(("open", "high", "low", "close"), 10.0)
    return pa.RecordBatch.from_pylist([{f.name: values.get(f.name) for f in wanted.schema}], schema=wanted.schema)


async def start(settings: Settings) -> None:
    async with service.opened(settings, now=lambda: NOW):
        pass


async def test_a_write_to_a_drifted_table_is_refused_and_other_tables_take_theirs(tmp_path: Path) -> None:
    settings = set_up(tmp_path)
    await start(settings)
    by_hand(tmp_path, "ALTER TABLE adj_factor ALTER COLUMN factor TYPE VARCHAR")
    async with service.opened(settings, now=lambda: NOW) as opened:
        with pytest.raises(Drifted, match="column factor: type VARCHAR -> DOUBLE: not every VARCHAR fits"):
            await opened.sink.write(opened.tables.holder(ADJ_FACTOR), row(ADJ_FACTOR))
        bars = opened.tables.holder(BAR_1D)
        await opened.sink.write(bars, row(BAR_1D))
        assert (await opened.sink.read(bars, Query())).num_rows == 1


async def test_a_start_mends_what_is_safe_and_the_log_has_it(tmp_path: Path) -> None:
    settings = set_up(tmp_path)
    await start(settings)
    by_hand(tmp_path, "DROP TABLE calendar")
    async with service.opened(settings, now=lambda: NOW) as opened:
        assert (await opened.sink.read(opened.tables.holder(CALENDAR), Query())).num_rows == 0
        made = await opened.log.operations(table="calendar", status=Status.SUCCESS)
    assert len(made) == 2


async def test_a_start_that_only_reports_leaves_the_store_as_it_is(tmp_path: Path) -> None:
    await start(set_up(tmp_path))
    by_hand(tmp_path, "DROP TABLE calendar")
    by_hand(tmp_path, "COMMENT ON TABLE bar_1d IS 'mine'")
    async with service.opened(set_up(tmp_path, schema_at_start="report"), now=lambda: NOW) as opened:
        calendar = opened.tables.holder(CALENDAR)
        for use in (opened.sink.read(calendar, Query()), opened.sink.write(calendar, row(CALENDAR))):
            with pytest.raises(Drifted, match="not made yet"):
                await use
        await opened.sink.write(opened.tables.holder(BAR_1D), row(BAR_1D))
    with duckdb.connect(str(tmp_path / FILE)) as connection:
        assert connection.execute("SELECT comment FROM duckdb_tables() WHERE table_name = 'bar_1d'").fetchall() == [
            ("mine",)
        ]


@pytest.fixture
async def sim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Sim]:
    async with running(SimConfig(stocks=6, sessions=40, end=date(2025, 12, 31))) as sim:
        for name, value in sim.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("TUSHARE_POINTS", "15000")
        monkeypatch.setenv("MYSTOCKS_STATE_DIR", str(tmp_path))
        monkeypatch.setenv("MYSTOCKS_CONFIG_DIR", str(ROOT / "config"))
        monkeypatch.chdir(tmp_path)
        yield sim


async def program(*words: str) -> tuple[int, str, str]:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "mystocks_ingest", *words, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    out, err = await asyncio.wait_for(child.communicate(), 110)
    return int(child.returncode or 0), out.decode(), err.decode()


async def test_a_backfill_stores_what_it_may_and_says_which_dataset_it_left_out(sim: Sim, tmp_path: Path) -> None:
    await start(set_up(tmp_path))
    by_hand(tmp_path, "ALTER TABLE adj_factor ALTER COLUMN factor TYPE VARCHAR")
    code, out, err = await program(*WORDS)
    assert code == 3, err
    report = json.loads(out.splitlines()[-1])
    assert {r["dataset"] for r in report["rows"] if r["rows"]} >= {"bar_1d"}
    assert "adj_factor" not in {r["dataset"] for r in report["rows"] if r["rows"]}
    assert "column factor: type VARCHAR -> DOUBLE" in json.dumps(report)
    assert "Traceback" not in err
    by_hand(tmp_path, "ALTER TABLE adj_factor ALTER COLUMN factor TYPE DOUBLE")
    code, out, err = await program(*WORDS)
    assert code == 0, err + out
