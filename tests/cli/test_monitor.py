"""``monitor`` answers from the embedded store and from MariaDB alike, and a mistake is one sentence."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from servers.mariadb import MariaDB

from mystocks_ingest import service
from mystocks_ingest.monitor.spool import FILE
from mystocks_ingest.ports import Doing, Operation, Run, Status, Validation
from mystocks_ingest.schema.tables import Column, Database, Table
from mystocks_ingest.settings import load

NOW = datetime.now(UTC).replace(microsecond=0)
MADE = Table("symbols", Database.MYSQL, "quant_research", (Column("symbol", "VARCHAR", 20),), ("symbol",))


@pytest.fixture(params=["embedded", "mariadb"])
def told(
    request: pytest.FixtureRequest, state: Path, mariadb_server: MariaDB, monkeypatch: pytest.MonkeyPatch
) -> Mapping[str, str]:
    """A log that holds a creation two days old, one that failed just now, two validations, and a run."""
    if request.param == "mariadb":
        name = f"db_monitor_cli_{abs(hash(request.node.name)) % 10**8}"
        for setting, value in {
            "MYSTOCKS_STORES": "mysql",
            "MYSTOCKS_MONITOR_DATABASE": name,
            "MYSQL_PORT": str(mariadb_server.port),
            "MYSQL_USER": mariadb_server.user,
            "MYSQL_PASSWORD": mariadb_server.password,
        }.items():
            monkeypatch.setenv(setting, value)

    async def tell() -> None:
        async with service.monitored(load(), now=lambda: NOW) as log:
            for ago, status in ((timedelta(days=2), Status.SUCCESS), (timedelta(minutes=1), Status.FAILED)):
                operation = Operation(
                    Doing.CREATE, Database.MYSQL, "quant_research", "symbols", NOW - ago, details={"n": 1}, made=MADE
                )
                await log.ended(await log.began(operation), status, "" if status is Status.SUCCESS else "no room")
            bad = ("column close is missing",)
            await log.validated([Validation(Database.TDENGINE, "market_data", "ticks", NOW, bad)])
            from mystocks_ingest.monitor import entries  # noqa: PLC0415

            run = Run("r1", "backfill", NOW - timedelta(hours=1), NOW, "partial", {"rows": 12_345, "missing": 2})
            await log.record([entries.ran(run)])
            assert await log.settled(20)

    asyncio.run(tell())
    return {}


def test_history_lists_creations_newest_first(command, told) -> None:
    rows = json.loads(command("monitor", "history", "--json").out)
    names = ["table_name", "database_type", "database_name", "creation_time", "status", "error_message"]
    assert [list(row) for row in rows] == [names] * 2
    assert [(r["status"], r["error_message"]) for r in rows] == [("failed", "no room"), ("success", None)]
    assert datetime.fromisoformat(rows[1]["creation_time"]) == NOW - timedelta(days=2)
    assert len(json.loads(command("monitor", "history", "--json", "--limit", "1").out)) == 1
    assert len(json.loads(command("monitor", "history", "--json", "--since", "24h").out)) == 1
    day = (NOW - timedelta(days=4)).date().isoformat()
    assert len(json.loads(command("monitor", "history", "--json", "--since", day).out)) == 2
    shown = command("monitor", "history")
    assert shown.code == 0
    assert "symbols" in shown.out
    assert "no room" in shown.out


def test_operations_are_counted_or_listed(command, told) -> None:
    rows = json.loads(command("monitor", "operations", "--json").out)
    assert {tuple(r.values()) for r in rows} == {("MySQL", "CREATE", 2, 1), ("TDengine", "VALIDATE", 1, 1)}
    assert list(rows[0]) == ["database_type", "operation_type", "count", "success_count"]
    each = json.loads(command("monitor", "operations", "--each", "--json").out)
    assert [(r["operation_type"], r["operation_status"]) for r in each] == [
        ("VALIDATE", "success"),
        ("CREATE", "failed"),
        ("CREATE", "success"),
    ]
    assert each[1]["operation_details"] == {"n": 1}
    assert json.loads(command("monitor", "operations", "--json", "--since", "12h").out)[0]["count"] == 1


def test_failures_are_validations_that_found_a_difference(command, told) -> None:
    (row,) = json.loads(command("monitor", "failures", "--json").out)
    assert (row["table_name"], row["database_name"], row["issues_found"]) == (
        "ticks",
        "market_data",
        "column close is missing",
    )


def test_runs_are_listed_with_their_sums(command, told) -> None:
    (row,) = json.loads(command("monitor", "runs", "--json").out)
    assert (row["run_id"], row["status"], row["rows_stored"], row["sessions_missing"]) == ("r1", "partial", 12_345, 2)
    assert "12,345" in command("monitor", "runs").out


def test_what_is_not_there_is_said(command, told) -> None:
    ended = command("monitor", "sources")
    assert (ended.code, ended.out) == (0, "no source was asked\n")
    assert command("monitor", "sources", "--json").out == "[]\n"


@pytest.mark.parametrize(
    ("since", "said"),
    [
        ("yesterday", "'yesterday' is not a time; write 2024-01-31, 2024-01-31T09:30, 7d or 24h"),
        ("2999-01-01", "--since 2999-01-01 00:00:00+08:00 lies in the future"),
        ("99999w", "--since 99999w lies before any record"),
    ],
)
def test_a_since_that_is_none_is_one_sentence(command, since: str, said: str) -> None:
    assert said in command("monitor", "runs", "--since", since).sentence()


def test_a_log_that_cannot_be_reached_is_one_sentence(command, mariadb_server: MariaDB) -> None:
    away = {"MYSTOCKS_STORES": "mysql", "MYSQL_PORT": "1", "MYSQL_USER": "x", "MYSQL_PASSWORD": "some-secret"}
    assert "cannot be reached" in command("monitor", "runs", env=away).sentence(code=3)


def test_a_busy_embedded_store_is_one_sentence(command, state: Path) -> None:
    from mystocks_ingest.sinks.embedded import EmbeddedDatabase  # noqa: PLC0415

    async def busy() -> None:
        async with EmbeddedDatabase(state):
            ended = await asyncio.to_thread(program_in_thread)
            assert "in use" in ended

    def program_in_thread() -> str:
        import subprocess  # noqa: PLC0415
        import sys  # noqa: PLC0415

        done = subprocess.run(
            [sys.executable, "-m", "mystocks_ingest", "monitor", "runs"], capture_output=True, text=True, check=False
        )
        assert done.returncode == 2, done
        return done.stderr

    asyncio.run(busy())
    assert not (state / FILE).exists()
