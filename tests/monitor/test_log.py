"""The monitor log holds what it was told, once, in the seed's tables; wherever it lives."""

from __future__ import annotations

import asyncio
import json
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import ClassVar

import pytest
from places import QUICK, Place, now, rows, settled

from mystocks_ingest.errors import Unavailable
from mystocks_ingest.logs import hide
from mystocks_ingest.monitor import entries, questions, tables
from mystocks_ingest.monitor.entries import Entry
from mystocks_ingest.monitor.log import MonitorLog
from mystocks_ingest.monitor.spool import FILE, Spool
from mystocks_ingest.ports import Doing, Operation, Status, Validation
from mystocks_ingest.schema.tables import Column, Database, Moment, Table

NOON = datetime(2026, 11, 20, 4, 0, 0, tzinfo=UTC)
TABLE = Table(
    "symbols",
    Database.MYSQL,
    "quant_research",
    (
        Column("symbol", "VARCHAR", 20, nullable=False, comment="股票代码"),
        Column("close", "DECIMAL", precision=10, scale=4, default=0),
        Column("updated_at", "TIMESTAMP", default=Moment.NOW),
    ),
    ("symbol",),
)
CREATE = Operation(
    Doing.CREATE,
    Database.MYSQL,
    "quant_research",
    "symbols",
    NOON,
    ddl="CREATE TABLE `symbols` ('\\\\', \"x\")",
    details={"change": "表"},
    made=TABLE,
)
ALTER = Operation(Doing.ALTER, Database.TDENGINE, "market_data", "ticks", NOON + timedelta(hours=1))


async def test_an_operation_is_one_row_from_processing_to_its_end(place: Place) -> None:
    async with place.log() as log:
        ident = await log.began(ALTER)
        await settled(log)
        columns = ("operation_type", "operation_status", "error_message", "operation_time")
        assert await rows(log, "table_operation_log", *columns[:3]) == [("ALTER", "processing", None)]
        await log.ended(ident, Status.FAILED, "it would not")
        await settled(log)
        assert await rows(log, "table_operation_log", *columns[:3]) == [("ALTER", "failed", "it would not")]


async def test_a_creation_is_told_with_its_columns_once_it_is_known_how_it_ended(place: Place) -> None:
    async with place.log() as log:
        ident = await log.began(CREATE)
        await settled(log)
        assert await rows(log, "table_creation_log", "table_name") == []
        await log.ended(ident, Status.SUCCESS)
        await settled(log)
        ((number, *values, parameters),) = await rows(
            log, "table_creation_log", "id", "table_name", "database_type", "database_name", "status", "ddl_command",
            "error_message", "table_parameters",
        )  # fmt: skip
        assert values == ["symbols", "MySQL", "quant_research", "success", CREATE.ddl, None]
        assert json.loads(str(parameters)) == {"key": ["symbol"], "change": "表"}
        names = [c.name for c in tables.COLUMNS.columns]
        assert await rows(log, "column_definition_log", *names) == [
            (number, "symbol", "VARCHAR", 20, None, None, 0, 1, None, "股票代码"),
            (number, "close", "DECIMAL", None, 10, 4, 1, 0, "0", None),
            (number, "updated_at", "TIMESTAMP", None, None, None, 1, 0, "CURRENT_TIMESTAMP", None),
        ]


async def test_an_entry_is_written_once_however_often_it_is_sent(place: Place) -> None:
    begun, done = (entries.operated("one", ALTER, status) for status in (Status.PROCESSING, Status.SUCCESS))
    other = entries.operated("other", ALTER, Status.FAILED)
    async with place.log() as log, place.store() if place.server else nothing(log) as store:
        await store.prepare()
        for batch in ([begun], [begun, begun], [begun, done, other], [done], [other, begun]):
            await store.write(batch)
        for _ in range(3):
            assert await log.record([begun, done])
        await settled(log)
        assert await rows(log, "table_operation_log", "operation_status") == [("success",), ("failed",)]


class nothing:  # noqa: N801 - stands for a context manager
    """The log's own store: the embedded one cannot be opened twice."""

    def __init__(self, log: MonitorLog) -> None:
        self.log = log

    async def __aenter__(self):
        return self.log._store

    async def __aexit__(self, *_: object) -> None: ...


async def test_the_users_three_queries_give_their_columns(place: Place) -> None:
    async with place.log() as log:
        for status in (Status.SUCCESS, Status.FAILED):
            await log.ended(await log.began(CREATE), status, "" if status is Status.SUCCESS else "no room")
        await log.ended(await log.began(ALTER), Status.SUCCESS)
        later = NOON + timedelta(days=2)
        await log.validated(
            [
                Validation(Database.MYSQL, "quant_research", "symbols", NOON),
                Validation(Database.MYSQL, "quant_research", "bars", NOON, ("column open is missing", "key differs")),
                Validation(Database.POSTGRESQL, "quant_research", "daily", later, ("no table",), {"missing": 1}),
            ]
        )
        await settled(log)
        history = await log.ask(questions.HISTORY)
        assert [tuple(row) for row in history] == [questions.HISTORY.columns] * 2
        assert [(r["status"], r["error_message"], r["creation_time"]) for r in history] == [
            ("failed", "no room", NOON),
            ("success", None, NOON),
        ]
        assert [tuple(r.values()) for r in await log.ask(questions.FAILURES)] == [
            ("daily", "PostgreSQL", "quant_research", later, "no table"),
            ("bars", "MySQL", "quant_research", NOON, "column open is missing\nkey differs"),
        ]
        assert [r["table_name"] for r in await log.ask(questions.FAILURES, since=NOON + timedelta(seconds=1))] == [
            "daily"
        ]
        counted = {tuple(r.values()) for r in await log.ask(questions.STATISTICS)}
        assert counted == {
            ("MySQL", "CREATE", 2, 1),
            ("TDengine", "ALTER", 1, 1),
            ("MySQL", "VALIDATE", 2, 2),
            ("PostgreSQL", "VALIDATE", 1, 1),
        }
        assert len(await log.ask(questions.EACH_OPERATION, limit=4)) == 4


async def test_operations_are_recalled_as_told_by_a_later_process(place: Place) -> None:
    operation = replace(CREATE, made=None)
    async with place.log() as log:
        ident = await log.began(operation)
        await log.ended(await log.began(ALTER), Status.SUCCESS)
        await settled(log)
    async with place.log() as log:
        newest, oldest = await log.operations()
        assert (newest.operation, newest.status) == (ALTER, Status.SUCCESS)
        assert (oldest.id, oldest.operation, oldest.status) == (ident, operation, Status.PROCESSING)
        assert await log.operations(status=Status.PROCESSING) == [oldest]
        assert await log.operations(table="ticks") == [newest]
        assert await log.operations(since=NOON + timedelta(minutes=1)) == [newest]
        assert await log.operations(limit=1) == [newest]
        await log.ended(oldest.id, Status.FAILED, "interrupted", of=oldest.operation)
        assert await log.operations(status=Status.PROCESSING) == []  # spooled or not
        assert [r.error for r in await log.operations(status=Status.FAILED)] == ["interrupted"]


async def test_the_log_survives_being_initialised_and_is_dropped_only_when_asked(place: Place) -> None:
    async with place.log() as log:
        first = await log.initialise()
        assert set(first.made) == {t.name for t in tables.TABLES}
        await log.ended(await log.began(CREATE), Status.SUCCESS)
        await settled(log)
        again = await log.initialise()
        assert (again.made, again.dropped) == ((), {})
        assert (again.kept["table_operation_log"], again.kept["column_definition_log"]) == (1, 3)
        anew = await log.initialise(drop_existing=True)
        assert anew.dropped["table_creation_log"] == 1
        assert await rows(log, "table_operation_log", "id") == []
        await log.began(ALTER)
        await settled(log)
        assert len(await rows(log, "table_operation_log", "id")) == 1


async def test_tables_dropped_behind_its_back_are_made_again(place: Place) -> None:
    async with place.log() as log:
        await log.began(ALTER)
        await settled(log)
        assert log._store is not None
        await log._store.drop()
        await log.began(ALTER)
        await settled(log)
        assert len(await rows(log, "table_operation_log", "id")) == 1


async def test_texts_of_any_length_and_content_find_room_and_secrets_do_not(place: Place) -> None:
    hide(["s3cret-word"])
    nasty = "错误 \ud800 \0 '; DROP TABLE x; -- \\ s3cret-word " + "长" * 30_000
    operation = replace(CREATE, ddl=nasty, details={"text": nasty, "list": list(range(100_000))})
    async with place.log() as log:
        await log.ended(await log.began(operation), Status.FAILED, nasty)
        await settled(log)
        ((ddl, error, details),) = await rows(
            log, "table_operation_log", "ddl_command", "error_message", "operation_details"
        )
        assert str(ddl).startswith("错误 ? ")
        assert (str(ddl)[-1], len(str(error))) == ("…", tables.TEXT_LENGTH)
        assert "s3cret" not in f"{ddl}{error}{details}"
        assert list(json.loads(str(details))) == ["left out"]


async def test_an_entry_the_database_will_not_take_is_set_aside_and_holds_nobody_up(place: Place) -> None:
    bad = entries.Entry("bad", 0, "data_source_status", {"source": "x", "updated_at": None, "quality_score": "none"})
    async with place.log() as log:
        good = [entries.operated(str(i), ALTER, Status.SUCCESS) for i in range(4)]
        assert await log.record([*good[:2], bad, *good[2:]])
        await settled(log)
        assert len(await rows(log, "table_operation_log", "id")) == 4
        waiting = await log.waiting()
        assert (waiting.entries, waiting.refused, waiting.lost) == (0, 1, 0)


async def test_without_its_database_the_log_keeps_and_says_so(place: Place) -> None:
    async with MonitorLog(place.spool(), None, now=now, limits=QUICK) as log:
        ident = await log.began(ALTER)
        with pytest.raises(Unavailable, match="another process"):
            await log.operations()
    async with place.log() as log:
        await settled(log)
        assert [r.id for r in await log.operations()] == [ident]


async def test_it_is_not_settled_by_a_look_into_the_spool_from_before_the_last_entry(tmp_path: Path) -> None:
    """The spool is read as empty, and an entry comes before that is known: the order that a busy machine may give."""
    looking, look_on = threading.Event(), threading.Event()

    class SlowSpool(Spool):
        def oldest(self, limit: int) -> list[tuple[int, Entry]]:
            found = super().oldest(limit)
            looking.set()
            assert look_on.wait(30)
            return found

    class SlowStore:
        name = "a store that holds what it is given once it may"
        held: ClassVar[list[str]] = []
        may = asyncio.Event()

        async def prepare(self) -> list[str]:
            return []

        async def write(self, entries: list[Entry]) -> None:
            await self.may.wait()
            self.held.extend(entry.id for entry in entries)

    store = SlowStore()
    async with MonitorLog(SlowSpool(tmp_path / FILE), store, now=now, limits=QUICK) as log:
        assert await asyncio.to_thread(looking.wait, 30)
        telling = asyncio.create_task(log.record([entries.operated("late", ALTER, Status.SUCCESS)]))
        await asyncio.sleep(0.05)  # it is in the queue of the spool's thread, behind the look
        look_on.set()
        assert await telling
        assert not await log.settled(0.1)
        store.may.set()
        assert await log.settled(30)
        assert store.held == ["late"]
