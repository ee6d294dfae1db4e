"""While the log's database is away nothing stops, and afterwards every entry is there once, in order."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from places import QUICK, Place, now, rows, settled
from servers.proxy import Proxy
from test_log import ALTER

from mystocks_ingest.monitor import entries
from mystocks_ingest.monitor.entries import Entry
from mystocks_ingest.monitor.log import MonitorLog
from mystocks_ingest.monitor.spool import FILE
from mystocks_ingest.ports import Status


def told(*numbers: int) -> list[Entry]:
    return [entries.operated(str(n), replace(ALTER, table=f"t{n}"), Status.SUCCESS) for n in numbers]


OUTAGES: dict[str, tuple[Callable[[Proxy], None], Callable[[Proxy], None]]] = {
    "refused": (Proxy.refuse, Proxy.accept),
    "hung": (Proxy.hang, Proxy.flow),
    "cut": (Proxy.sever, Proxy.flow),
}


@pytest.mark.parametrize("outage", OUTAGES)
async def test_nothing_waits_for_an_absent_database_and_entries_arrive_in_order(on_mariadb: Place, outage: str) -> None:
    assert on_mariadb.server is not None
    away, back = OUTAGES[outage]
    with Proxy(on_mariadb.server.host, on_mariadb.server.port) as wire:
        async with on_mariadb.through(wire.port).log() as log:
            await log.record(told(0))
            await settled(log)
            away(wire)
            for n in range(1, 40):
                async with asyncio.timeout(30):  # the database is away until this loop is over
                    assert await log.record(told(n))
                if n % 10 == 0:
                    await asyncio.sleep(0.2)
            if outage != "cut":
                assert not await log.settled(0.1)
                assert (await log.waiting()).entries == 39
            back(wire)
            await settled(log)
            names = [name for (name,) in await rows(log, "table_operation_log", "table_name")]
            assert names == [f"t{n}" for n in range(40)]
            waiting = await log.waiting()
            assert (waiting.entries, waiting.refused, waiting.lost, waiting.reason) == (0, 0, 0, "")


async def test_a_server_that_stops_and_comes_back_has_every_entry(on_mariadb: Place) -> None:
    server = on_mariadb.server
    assert server is not None
    async with on_mariadb.log() as log:
        await log.record(told(*range(20)))
        try:
            server.kill()  # maybe amid a transaction
            await log.record(told(*range(20, 40)))
        finally:
            server.start()
        await settled(log)
        names = [name for (name,) in await rows(log, "table_operation_log", "table_name")]
        assert names == [f"t{n}" for n in range(40)]


@pytest.mark.parametrize("outage", ["refused", "hung"])
async def test_leaving_waits_a_moment_only_and_the_next_process_finishes(on_mariadb: Place, outage: str) -> None:
    assert on_mariadb.server is not None
    away, back = OUTAGES[outage]
    with Proxy(on_mariadb.server.host, on_mariadb.server.port) as wire:
        place = on_mariadb.through(wire.port, patience=(100.0, 100.0))
        away(wire)
        async with place.log(replace(QUICK, drain_seconds=1.0)) as log:
            await log.record(told(1, 2))
            began = time.monotonic()
        assert time.monotonic() - began < 30
        back(wire)
        async with place.log() as log:
            await settled(log)
            assert await rows(log, "table_operation_log", "table_name") == [("t1",), ("t2",)]


@asynccontextmanager
async def disk_held(folder: Path) -> AsyncIterator[None]:
    """Another process holds the spool's file, as long as the block lasts."""
    db = sqlite3.connect(folder / FILE, isolation_level=None)
    try:
        db.execute("BEGIN IMMEDIATE")
        yield
    finally:
        db.execute("ROLLBACK")
        db.close()


async def test_a_full_queue_is_waited_for_briefly_and_then_counted(place: Place) -> None:
    limits = replace(QUICK, queue=2, room_seconds=0.2)
    async with MonitorLog(place.spool(), None, now=now, limits=limits) as log:
        assert await log.record(told(0))
        async with disk_held(place.folder):
            under_way = [asyncio.create_task(log.record(told(1)))]
            await asyncio.sleep(0.1)  # the sidecar has taken it
            under_way += [asyncio.create_task(log.record(told(n))) for n in (2, 3)]
            await asyncio.sleep(0.1)
            async with asyncio.timeout(30):
                assert not await log.record(told(4, 5, 6))
            assert log._lost == 3
            assert not any(task.done() for task in under_way)  # nothing is acknowledged before it is on the disk
        assert await asyncio.gather(*under_way) == [True] * 3
        assert (await log.waiting()).lost == 3
    async with place.log() as log:
        await settled(log)
        assert await rows(log, "table_operation_log", "table_name") == [(f"t{n}",) for n in range(4)]
        assert (await log.waiting()).lost == 3  # the count outlives the process


async def test_a_spool_that_is_full_takes_no_more_and_counts_what_it_lost(place: Place) -> None:
    async with MonitorLog(place.spool(capacity=5), None, now=now, limits=QUICK) as log:
        assert await log.record(told(1, 2, 3, 4, 5))
        assert not await log.record(told(6, 7))
        waiting = await log.waiting()
        assert (waiting.entries, waiting.lost) == (5, 2)
    async with place.log() as log:
        await settled(log)
        assert len(await rows(log, "table_operation_log", "id")) == 5


async def test_a_state_directory_that_cannot_be_written_stops_nothing(place: Place) -> None:
    (place.folder / FILE).mkdir()
    async with MonitorLog(place.spool(), None, now=now, limits=QUICK) as log:
        await log.ended(await log.began(ALTER), Status.SUCCESS)
        assert log._lost == 2


async def test_a_damaged_spool_is_kept_beside_a_new_one(place: Place) -> None:
    (place.folder / FILE).write_bytes(b"no database at all" * 1000)
    async with place.log() as log:
        assert await log.record(told(1))
        await settled(log)
        assert await rows(log, "table_operation_log", "table_name") == [("t1",)]
    (kept,) = place.folder.glob(f"{FILE}.damaged-*")
    assert kept.read_bytes().startswith(b"no database")


async def test_what_the_database_has_though_the_spool_does_not_know_is_not_doubled(place: Place) -> None:
    """As a kill leaves it between the two."""
    entries_made = told(*range(5))
    spool = place.spool()
    spool.put(entries_made)
    spool.close()
    async with place.store() as store:
        await store.prepare()
        await store.write(entries_made[:3])
    async with place.log() as log:
        await settled(log)
        assert await rows(log, "table_operation_log", "table_name") == [(f"t{n}",) for n in range(5)]


async def test_two_processes_that_empty_one_spool_double_nothing(on_mariadb: Place) -> None:
    async with on_mariadb.log() as one, on_mariadb.log() as other:
        for first in range(0, 300, 10):
            log = one if first % 20 else other
            assert await log.record(told(*range(first, first + 10)))
        await settled(one)
        await settled(other)
        names = [str(name) for (name,) in await rows(one, "table_operation_log", "table_name")]
        assert sorted(names) == sorted(f"t{n}" for n in range(300))
