"""The monitor log keeps what the table file says and no more, lets it go in small batches, and loses nothing else."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from places import Place, now, rows, settled
from test_log import ALTER, CREATE, NOON

from mystocks_ingest.errors import Unavailable
from mystocks_ingest.monitor import entries, tables
from mystocks_ingest.monitor.entries import Entry, entry
from mystocks_ingest.monitor.log import MonitorLog
from mystocks_ingest.monitor.questions import Question
from mystocks_ingest.monitor.retention import DAYS, Limits, Retention, terms
from mystocks_ingest.monitor.tables import History
from mystocks_ingest.ports import Doing, Run, Status, Validation
from mystocks_ingest.schema.document.values import Monitoring

OLD, RECENT = NOON - timedelta(days=DAYS + 1), NOON - timedelta(days=DAYS - 1)
SMALL = Limits(batch=3, rest_seconds=0.0)
VALIDATE = replace(ALTER, kind=Doing.VALIDATE)


def told(at: datetime, word: str) -> list[Entry]:
    """What a day leaves behind: entries of every history."""
    refused = {"run_id": word, "dataset": "quote", "source": "sina", "rule": "unit", "row_count": 1, "log_time": at}
    return [
        *entries.validated(f"v{word}", Validation(ALTER.database_type, "db", word, at, ("x",))),
        entries.ran(Run(word, "backfill", at, at, "complete")),
        entries.operated(f"b{word}", replace(VALIDATE, kind=Doing.BACKFILL, table=word, at=at), Status.SUCCESS),
        entry(f"r{word}", 0, tables.LETTERS, refused),
        *structure(at, word, Status.SUCCESS),
    ]


def structure(at: datetime, word: str, status: Status) -> list[Entry]:
    made = replace(CREATE, table=word, at=at)
    assert made.made is not None
    return [
        entries.operated(f"c{word}", made, status),
        entries.created(f"c{word}", made, made.made, status, "", at=at),
    ]


async def test_what_is_older_goes_with_all_that_hangs_on_it_and_the_structures_history_stays(place: Place) -> None:
    async with place.log() as log:
        old = [e for n in range(5) for e in (*told(OLD, f"old{n}"), *structure(OLD, f"failed{n}", Status.FAILED))]
        assert await log.record([*old, *told(RECENT, "recent")])
        await settled(log)
        pruning = Retention(terms(Monitoring())[0], log, now=lambda: NOON, limits=SMALL)
        assert await pruning.once() == 5 * 4 + 5 + 5 * 2  # v, its operation, backfill and run; letters; what failed
        assert await pruning.once() == 0
        names = {name for (name,) in await rows(log, "table_operation_log", "table_name")}
        assert names == {"recent", *(f"old{n}" for n in range(5))}
        assert await rows(log, "table_operation_log", "operation_type") == [
            *[("CREATE",)] * 5, ("VALIDATE",), ("BACKFILL",), ("CREATE",),
        ]  # fmt: skip
        assert await rows(log, "table_validation_log", "table_name") == [("recent",)]
        assert await rows(log, "etl_job_log", "run_id") == [("recent",)]
        assert await rows(log, "dead_letter_log", "run_id") == [("recent",)]
        assert {s for (s,) in await rows(log, "table_creation_log", "status")} == {"success"}
        held = [await count(log, history.table.name) for history in tables.HISTORIES]
        assert await count(log, "log_entry") == sum(held)
        assert await count(log, "column_definition_log") == 3 * 6


async def count(log: MonitorLog, table: str) -> int:
    (row,) = await log.ask(Question(("number",), f"SELECT count(*) AS number FROM {{log}}.{table}"))
    return int(row["number"])


async def test_what_the_file_says_decides_and_naming_a_table_lets_go_of_its_structures_history_too(
    place: Place,
) -> None:
    monitoring = Monitoring(retention_days=(("", 200), ("table_creation_log", 30), ("etl_job_log", 1), ("quotes", 3)))
    kept, (remark,) = terms(monitoring)
    assert {t.history.table.name: t.days for t in kept} == {
        "table_creation_log": 30, "table_operation_log": 200, "table_validation_log": 200, "etl_job_log": 1,
        "dead_letter_log": 200,
    }  # fmt: skip
    assert remark.startswith("monitoring: retention_days names 'quotes', which is no history of the monitor log")
    async with place.log() as log:
        await log.record(told(OLD, "old"))
        await settled(log)
        assert await Retention(kept, log, now=lambda: NOON).once() == 2
        assert await rows(log, "table_creation_log", "id") == []
        assert await rows(log, "column_definition_log", "id") == []
        assert await rows(log, "etl_job_log", "id") == []
        assert len(await rows(log, "table_operation_log", "id")) == 3


async def test_rows_of_another_program_stay(on_mariadb: Place) -> None:
    async with on_mariadb.log() as log:
        await log.record(told(OLD, "ours"))
        await settled(log)
        assert on_mariadb.server is not None
        on_mariadb.server.sql(
            f"INSERT INTO {on_mariadb.database}.table_validation_log (table_name, database_type, database_name, "
            "validation_time) VALUES ('theirs', 'MySQL', 'db', '2001-01-01 00:00:00')"
        )
        assert await Retention(terms(Monitoring())[0], log, now=lambda: NOON).once() == 5
        assert await rows(log, "table_validation_log", "table_name") == [("theirs",)]


async def test_an_entry_that_comes_while_old_ones_go_is_kept_and_one_told_again_is_written_once(place: Place) -> None:
    async with place.log() as log:
        assert await log.record([e for n in range(30) for e in told(OLD, f"old{n}")])
        await settled(log)
        pruning = asyncio.create_task(Retention(terms(Monitoring())[0], log, now=lambda: NOON, limits=SMALL).once())
        for n in range(10):
            assert await log.record(told(NOON, f"new{n}"))
            assert await log.record(told(NOON, f"new{n}"))
        await pruning
        await settled(log)
        assert [name for (name,) in await rows(log, "etl_job_log", "run_id")] == [f"new{n}" for n in range(10)]
        waiting = await log.waiting()
        assert (waiting.entries, waiting.refused, waiting.lost) == (0, 0, 0)


async def test_a_log_that_is_away_is_tried_again_until_it_answers() -> None:
    class Away:
        def __init__(self) -> None:
            self.asked = 0
            self.answered = asyncio.Event()

        async def prune(self, history: History, *, before: datetime, whole: bool, limit: int) -> int:
            self.asked += 1
            if self.asked < 3:
                raise Unavailable("it is away")
            self.answered.set()
            return 0

    log = Away()
    limits = Limits(first_seconds=0.0, every_seconds=0.0)
    task = asyncio.create_task(Retention(terms(Monitoring())[0], log, now=now, limits=limits).run())
    try:
        await asyncio.wait_for(log.answered.wait(), 30)
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
