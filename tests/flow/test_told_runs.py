"""What a backfill did is in the monitor log: its run, the tables it filled, its sources, what was refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from market_day import Stage, staged
from servers.mariadb import MariaDB

from mystocks_ingest.errors import ConfigError
from mystocks_ingest.monitor.questions import RUNS, SOURCES, Question
from mystocks_ingest.ports import Run
from mystocks_ingest.service import Service
from mystocks_ingest.settings import Settings

OPERATIONS = Question(
    (
        "table_name",
        "database_type",
        "database_name",
        "operation_type",
        "operation_status",
        "operation_details",
        "error",
    ),
    "SELECT table_name, database_type, database_name, operation_type, operation_status, operation_details, "
    "error_message FROM {log}.table_operation_log WHERE operation_type = 'BACKFILL' ORDER BY id",
)
REACH = Question(
    ("dataset", "symbols", "last_session"), "SELECT dataset, symbols, last_session FROM {log}.checkpoint_status"
)
REFUSED = Question(
    ("dataset", "source", "rule", "row_count"),
    "SELECT dataset, source, rule, row_count FROM {log}.dead_letter_log ORDER BY id",
)


def on_mysql(stage: Stage, server: MariaDB, database: str) -> Stage:
    values = {str(i.alias or n): getattr(stage.settings, n) for n, i in Settings.model_fields.items()}
    changed = {
        "MYSTOCKS_STORES": "mysql",
        "MYSTOCKS_MONITOR_DATABASE": database,
        "MYSQL_PORT": server.port,
        "MYSQL_USER": server.user,
        "MYSQL_PASSWORD": server.password,
        "MYSQL_DATABASE": f"{database}_data",
    }
    return replace(stage, settings=Settings(**values | changed))


async def settled(service: Service) -> None:
    assert await service.log.settled(60), await service.log.waiting()


@pytest.mark.parametrize("place", ["embedded", "mariadb"])
async def test_a_backfill_is_told_with_its_tables_and_sources(
    tmp_path: Path, mariadb_server: MariaDB, place: str
) -> None:
    async with staged(tmp_path, stocks=6, sessions=10) as stage:
        stage = stage if place == "embedded" else on_mysql(stage, mariadb_server, "db_monitor_told")  # noqa: PLW2901
        report = await stage.backfill(stage.job("bar_1d", source="tushare"))
        async with stage.service() as service:
            await settled(service)
            (run,) = await service.log.ask(RUNS)
            stored = sum(report.rows.values())
            assert (run["job_name"], run["status"], run["rows_stored"]) == ("backfill", "complete", stored)
            assert (run["rows_refused"], run["sessions_missing"], run["error_message"]) == (0, 0, None)
            assert run["start_time"] <= run["end_time"]
            told = {row["table_name"]: row for row in await service.log.ask(OPERATIONS)}
            bars = told["bar_1d"]
            home = ("Embedded", "quant_research")
            assert (bars["database_type"], bars["database_name"]) == home  # PostgreSQL is not in use
            assert (bars["operation_status"], bars["error"]) == ("success", None)
            details = json.loads(bars["operation_details"])
            assert details["data_count"] == report.rows["bar_1d", "tushare"] > 0
            assert (details["run_id"], details["sources"]) == (run["run_id"], {"tushare": details["data_count"]})
            assert "instrument" in told  # filled on the way
            sources = {row["source"]: row for row in await service.log.ask(SOURCES)}
            tushare = sources["tushare"]
            assert (tushare["quality_score"], tushare["last_failure"], tushare["last_outcome"]) == (100.0, None, "ok")
            assert tushare["last_success"] is not None
            assert json.loads(tushare["outcomes"])["ok"] == report.outcomes["tushare", "ok"]
            ((dataset, symbols, last),) = [tuple(row.values()) for row in await service.log.ask(REACH)]
            assert (dataset, last) == ("bar_1d", stage.sim.market.last_day.isoformat())
            assert symbols >= 6
            assert await service.log.ask(REFUSED) == []


async def test_a_source_that_fails_and_errs_loses_quality(tmp_path: Path) -> None:
    async with staged(tmp_path, stocks=6, sessions=10) as stage:
        await stage.sim.fault("tushare", "volume_x100", times=2, match="daily")
        await stage.backfill(stage.job("bar_1d", source="tushare"))
        async with stage.service() as service:
            await settled(service)
            (run,) = await service.log.ask(RUNS)
            (tushare,) = [row for row in await service.log.ask(SOURCES) if row["source"] == "tushare"]
            refused = await service.log.ask(REFUSED)
            assert run["rows_refused"] > 0
            assert sum(row["row_count"] for row in refused) > 0
            assert {row["source"] for row in refused} == {"tushare"}
            assert tushare["quality_score"] < 100
            assert tushare["accepted_percent"] < 100


async def test_a_run_whose_process_died_is_told_as_interrupted_by_the_next(tmp_path: Path) -> None:
    async with staged(tmp_path, stocks=3, sessions=5) as stage:
        async with stage.service() as service:
            await service.runs.began(Run("dead", "backfill", service.now(), detail={"datasets": ["bar_1d"]}))
        async with stage.service() as service:
            await settled(service)
            (run,) = await service.log.ask(RUNS)
            assert (run["run_id"], run["status"]) == ("dead", "interrupted")
            assert "killed" in run["error_message"]
            (bars,) = await service.log.ask(OPERATIONS)
            assert (bars["table_name"], bars["operation_status"]) == ("bar_1d", "failed")
            assert await service.journal.running() == []


async def test_a_run_that_cannot_be_is_told_as_failed_with_the_reason(tmp_path: Path) -> None:
    async with staged(tmp_path, stocks=3, sessions=5) as stage, stage.service() as service:
        with pytest.raises(ConfigError):
            await stage_of(service, stage)
        await settled(service)
        (run,) = await service.log.ask(RUNS)
        assert run["status"] == "failed"
        assert "no such source" in run["error_message"] or "unknown source" in run["error_message"]


async def stage_of(service: Service, stage: Stage) -> None:
    from mystocks_ingest.flow.report import Silence  # noqa: PLC0415

    await service.backfill(stage.job("bar_1d", source="nobody"), Silence())
