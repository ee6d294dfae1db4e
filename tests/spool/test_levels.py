"""What the spool says of itself is what a recount of its file gives, and saying it costs no more as it grows."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mystocks_ingest.spool import FILE, Full, Level, Spool

TARGETS = ("TDengine.market_data.tick", "Redis.market_data.quote_latest", "MySQL.meta.setting")
STEPS = 100
"""Of SQLite's machine, between two calls of its progress handler."""


def batch(first: int, rows: int = 10) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({"n": pa.array(range(first, first + rows))})


actions = st.lists(
    st.tuples(st.sampled_from(["put", "put", "put", "drain", "drop", "spoil"]), st.integers(0, 2), st.integers(1, 40)),
    min_size=1,
    max_size=40,
)


@settings(max_examples=20)
@given(actions)
def test_the_levels_equal_a_recount_after_any_operations(steps: list[tuple[str, int, int]]) -> None:
    async def played(folder: Path) -> None:
        async with Spool(folder, most_bytes=30_000) as spool:
            for what, where, size in steps:
                await act(spool, what, TARGETS[where], size)
                assert spool.holds(TARGETS[where]) == (spool.levels.get(TARGETS[where], Level()).records > 0)
            said = dict(spool.levels)
        async with Spool(folder) as spool:
            counted = dict(spool.levels)
        forgotten = {t: level for t, level in said.items() if not level.records and not level.quarantined}
        assert {t: outlasting(level) for t, level in said.items() if t not in forgotten} == counted

    with TemporaryDirectory() as folder:
        asyncio.run(played(Path(folder)))


def outlasting(level: Level) -> Level:
    """What was dropped is counted since the spool was opened."""
    return Level(level.records, level.rows, level.bytes, level.oldest, 0, level.quarantined)


async def act(spool: Spool, what: str, target: str, size: int) -> None:
    match what:
        case "put":
            try:
                await spool.put(target, batch(0, size))
            except Full:
                assert spool.bytes > 20_000
        case "drain":
            await spool.done(await spool.oldest(target, most_rows=size))
        case "drop":
            before = spool.levels.get(target, Level())
            dropped = await spool.drop_oldest(target, least_bytes=size * 50)
            after = spool.levels.get(target, Level())
            assert (before.rows - after.rows, after.dropped_rows - before.dropped_rows) == (dropped, dropped)
        case "spoil":  # on the spool's own connection, for it shares its file with nobody
            await spool._run(
                lambda file: file.execute(
                    "UPDATE record SET checksum = x'00' WHERE id = (SELECT min(id) FROM record WHERE target = ?)",
                    (target,),
                )
            )
            await spool.oldest(target, most_rows=1)


async def test_the_levels_are_right_while_rows_are_put_and_taken_at_once(tmp_path: Path) -> None:
    async with Spool(tmp_path) as spool:

        async def fill() -> None:
            for n in range(60):
                await spool.put(TARGETS[0], batch(n * 10))

        async def take() -> int:
            taken = 0
            while taken < 300:
                records = await spool.oldest(TARGETS[0], most_rows=30)
                await spool.done(records)
                taken += sum(r.rows.num_rows for r in records)
            return taken

        _, taken = await asyncio.gather(fill(), take())
        assert spool.levels[TARGETS[0]].rows == 600 - taken
        said = dict(spool.levels)
    async with Spool(tmp_path) as spool:
        assert dict(spool.levels) == {t: level for t, level in said.items() if level.records}


@contextmanager
def machine_steps(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], int]]:
    """How much SQLite's machine did since it was last asked: a measure of work that no load on this one changes."""
    counted = 0

    def tick() -> int:
        nonlocal counted
        counted += 1
        return 0

    def connect(*words: object, **options: object) -> sqlite3.Connection:
        file = opened(*words, **options)  # type: ignore[call-overload]
        file.set_progress_handler(tick, STEPS)
        return file  # type: ignore[no-any-return]

    def since() -> int:
        nonlocal counted
        found, counted = counted * STEPS, 0
        return found

    opened = sqlite3.connect
    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", connect)
        yield since


async def test_draining_twenty_times_as_much_is_twenty_times_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = {}
    with machine_steps(monkeypatch) as since:
        for records in (1_000, 20_000):
            folder = tmp_path / str(records)
            folder.mkdir()
            async with Spool(folder) as spool:
                await spool.put(TARGETS[0], batch(0))
                await multiply(spool, records)
                since()
                for _ in range(records // 100):
                    await spool.done(await spool.oldest(TARGETS[0], most_rows=1_000))
                work[records] = since()
                assert not spool.holds(TARGETS[0])
    assert work[20_000] < 30 * work[1_000]


async def test_making_room_costs_what_is_dropped_and_not_what_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with machine_steps(monkeypatch) as since:
        async with Spool(tmp_path) as spool:
            await spool.put(TARGETS[0], batch(0))
            await multiply(spool, 20_000)
            since()
            assert await spool.drop_oldest(TARGETS[0], least_bytes=1) == 10
            assert since() < 2_000
        async with Spool(tmp_path) as spool:
            assert spool.levels[TARGETS[0]].records == 19_999


async def multiply(spool: Spool, records: int) -> None:
    """As many records as if each had been put; the spool counts them as at a start."""

    def copied(file: sqlite3.Connection) -> None:
        file.execute(
            "WITH RECURSIVE many(n) AS (SELECT 2 UNION ALL SELECT n + 1 FROM many WHERE n < ?) INSERT INTO record "
            "(target, at, rows, checksum, body) SELECT target, at, rows, checksum, body FROM record, many",
            (records,),
        )
        spool._draft = spool._counted(file)

    await spool._run(copied)


async def test_an_emptied_spool_gives_its_room_back(tmp_path: Path) -> None:
    async with Spool(tmp_path) as spool:
        await spool.put(TARGETS[0], batch(0, 200))
        await multiply(spool, 3_000)
        while records := await spool.oldest(TARGETS[0], most_rows=50_000):
            await spool.done(records)
    assert (tmp_path / FILE).stat().st_size < 100_000
