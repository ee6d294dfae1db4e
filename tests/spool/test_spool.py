"""The spool keeps what it acknowledged, in order, through kills and damage; what it cannot keep it says."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pytest

from mystocks_ingest.errors import ConfigError
from mystocks_ingest.spool import FILE, Full, Spool
from mystocks_ingest.spool import file as spool_file

TICKS = "TDengine.market_data.tick"
BARS = "PostgreSQL.quant_research.bar_1d"


def batch(first: int, rows: int = 10) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({"n": pa.array(range(first, first + rows)), "name": ["平安银行"] * rows})


async def everything(spool: Spool, target: str) -> list[int]:
    found = []
    while records := await spool.oldest(target, most_rows=25):
        assert sum(r.rows.num_rows for r in records) <= 25 or len(records) == 1
        found += [n for r in records for n in r.rows.column("n").to_pylist()]
        await spool.done(records)
    return found


async def test_records_come_out_in_order_by_target_and_stay_until_done(tmp_path: Path) -> None:
    async with Spool(tmp_path) as spool:
        for first in range(0, 60, 10):
            await spool.put(TICKS if first % 20 else BARS, batch(first))
        once = await spool.oldest(BARS, most_rows=25)
        again = await spool.oldest(BARS, most_rows=25)
        assert [r.id for r in once] == [r.id for r in again]
        assert spool.levels[BARS].rows == 30
        assert await everything(spool, BARS) == [*range(10), *range(20, 30), *range(40, 50)]
        assert not spool.holds(BARS)
        assert spool.holds(TICKS)
        assert await everything(spool, TICKS) == [*range(10, 20), *range(30, 40), *range(50, 60)]
        assert spool.bytes == 0


async def test_what_was_spooled_is_there_after_a_restart_and_done_stays_done(tmp_path: Path) -> None:
    async with Spool(tmp_path) as spool:
        for first in (0, 10, 20):
            await spool.put(TICKS, batch(first))
        await spool.done(await spool.oldest(TICKS, most_rows=1))
        size = spool.bytes
    async with Spool(tmp_path) as spool:
        level = spool.levels[TICKS]
        assert (level.records, level.rows, spool.bytes) == (2, 20, size)
        assert level.oldest is not None
        assert await everything(spool, TICKS) == list(range(10, 30))


_CHILD = """
import asyncio, sys
from pathlib import Path
import pyarrow as pa
from mystocks_ingest.spool import Spool
async def main():
    async with Spool(Path(sys.argv[1])) as spool:
        for n in range(100_000):
            await spool.put("t", pa.RecordBatch.from_pydict({"n": [n]}))
            print(n, flush=True)
asyncio.run(main())
"""


async def test_kill_9_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    expected = 0
    for lines in (3, 40, 90):
        child = subprocess.Popen([sys.executable, "-c", _CHILD, str(tmp_path)], stdout=subprocess.PIPE, text=True)  # noqa: ASYNC220 - nothing else runs
        assert child.stdout is not None
        acknowledged = [int(child.stdout.readline()) for _ in range(lines)]
        os.kill(child.pid, signal.SIGKILL)
        acknowledged += [int(line) for line in child.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
        child.wait()
        child.stdout.close()
        expected += len(acknowledged)
        async with Spool(tmp_path) as spool:
            rows = spool.levels["t"].rows
            assert rows in (expected, expected + 1), "one more may be on disk than was acknowledged"
            expected = rows
    async with Spool(tmp_path) as spool:
        found = await everything(spool, "t")
    assert len(found) == expected
    assert found.count(0) == 3


async def test_a_record_with_a_flipped_byte_is_set_aside_and_the_others_flow(tmp_path: Path) -> None:
    async with Spool(tmp_path) as spool:
        for first in (0, 10, 20):
            await spool.put(TICKS, batch(first))
    with sqlite3.connect(tmp_path / FILE) as file:
        body = bytearray(file.execute("SELECT body FROM record WHERE id = 2").fetchone()[0])
        body[len(body) // 2] ^= 1
        file.execute("UPDATE record SET body = ? WHERE id = 2", (bytes(body),))
    file.close()
    async with Spool(tmp_path) as spool:
        assert await everything(spool, TICKS) == [*range(10), *range(20, 30)]
        assert spool.levels[TICKS].quarantined == 1
        assert "checksum" in spool.damage[0]
    async with Spool(tmp_path) as spool:
        assert spool.levels[TICKS].quarantined == 1, "it is not forgotten"


@pytest.mark.parametrize("damage", ["torn", "overwritten", "no database"])
async def test_of_a_damaged_file_every_readable_record_is_carried_over(tmp_path: Path, damage: str) -> None:
    async with Spool(tmp_path) as spool:
        for first in range(0, 4000, 10):
            await spool.put(TICKS, batch(first))
    path = tmp_path / FILE
    size = path.stat().st_size
    with path.open("r+b") as file:
        match damage:
            case "torn":
                file.truncate(size * 2 // 3 // 4096 * 4096 + 100)
            case "overwritten":
                file.seek(size // 2 // 4096 * 4096)
                file.write(os.urandom(8192))
            case _:
                file.write(b"\0" * 100)
    async with Spool(tmp_path) as spool:
        found = await everything(spool, TICKS)
        assert found == sorted(set(found))
        assert set(found) <= set(range(4000))
        if damage != "no database":
            assert len(found) > 1000, "most of the file was sound"
        assert spool.damage
        await spool.put(TICKS, batch(5000))
        assert await everything(spool, TICKS) == list(range(5000, 5010))
    assert spool.damage[0].split()[-1].startswith(str(tmp_path / "spool-damaged-")), "the damaged file is kept"


async def test_a_damaged_file_s_unusable_records_are_set_aside_and_counted(tmp_path: Path) -> None:
    async with Spool(tmp_path) as spool:
        for first in range(0, 4000, 10):
            await spool.put(TICKS, batch(first))
    path = tmp_path / FILE
    content = bytearray(path.read_bytes())
    torn = content.rfind("平安银行".encode())  # in the bytes of one record
    content[torn] ^= 1
    content[len(content) // 2 // 4096 * 4096 : len(content) // 2 // 4096 * 4096 + 4096] = os.urandom(4096)
    path.write_bytes(content)
    async with Spool(tmp_path) as spool:
        found = await everything(spool, TICKS)
        assert spool.levels[TICKS].quarantined >= 1
        assert 3000 < len(found) < 4000
        assert " set aside" in spool.damage[0]


@pytest.mark.parametrize("moved", [0, 1, 2])
async def test_a_crash_while_a_mended_file_takes_its_place_is_made_good_at_the_next_start(
    tmp_path: Path, moved: int
) -> None:
    """Three renames: the damaged file's, its log's, and then the mended one's into their place."""
    async with Spool(tmp_path / "mended") as spool:
        await spool.put(TICKS, batch(0))
    (tmp_path / "mended" / FILE).rename(tmp_path / "spool-mended.sqlite")
    for part in (FILE, f"{FILE}-wal")[moved:]:
        (tmp_path / part).write_bytes(b"damaged")
    async with Spool(tmp_path) as spool:
        assert await everything(spool, TICKS) == list(range(10))
        await spool.put(BARS, batch(20))
    assert not (tmp_path / "spool-mended.sqlite").exists()
    async with Spool(tmp_path) as spool:
        assert await everything(spool, BARS) == list(range(20, 30))


async def fill(spool: Spool) -> int:
    kept = 0
    try:
        while True:
            await spool.put(TICKS, batch(kept * 10))
            kept += 1
    except Full:
        return kept


async def test_a_full_spool_says_so_and_room_is_made_at_the_cost_of_the_oldest(tmp_path: Path) -> None:
    async with Spool(tmp_path, most_bytes=20_000) as spool:
        kept = await fill(spool)
        assert kept > 3
        with pytest.raises(Full, match="full"):
            await spool.put(TICKS, batch(0))
        dropped = await spool.drop_oldest(TICKS, least_bytes=1_000)
        assert dropped > 0
        assert spool.levels[TICKS].dropped_rows == dropped
        await spool.put(TICKS, batch(kept * 10))
        assert await everything(spool, TICKS) == list(range(dropped, kept * 10 + 10))


async def test_two_processes_cannot_hold_one_spool(tmp_path: Path) -> None:
    async with Spool(tmp_path) as spool:
        await spool.put(TICKS, batch(0))
        with pytest.raises(ConfigError, match="in use"):
            async with Spool(tmp_path):
                pass
        assert await everything(spool, TICKS) == list(range(10))


async def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="MYSTOCKS_STATE_DIR"):
        async with Spool(tmp_path / "file"):
            pass


async def test_a_file_of_an_earlier_version_is_taken_over_and_its_rows_count_as_of_any_time(tmp_path: Path) -> None:
    async with Spool(tmp_path) as spool:
        await spool.put(TICKS, batch(0), until=7)
    with closing(sqlite3.connect(tmp_path / FILE)) as file:
        file.execute("ALTER TABLE record DROP COLUMN until")
    async with Spool(tmp_path) as spool:
        assert spool.until(TICKS) is None
        await spool.put(TICKS, batch(10), until=9)
        assert spool.until(TICKS) is None, "the first record does not say"
        first, second = await spool.oldest(TICKS, most_rows=100)
        await spool.done([first])
    async with Spool(tmp_path) as spool:
        assert spool.until(TICKS) == 9
        assert await everything(spool, TICKS) == second.rows.column("n").to_pylist()


async def test_a_file_too_large_to_be_looked_through_at_the_start_opens_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Spool(tmp_path) as spool:
        await spool.put(TICKS, pa.record_batch({"n": [random.randbytes(4000) for _ in range(5_000)]}))
    monkeypatch.setattr(spool_file, "_CHECK_SECONDS", 0.0)  # it ends in the middle, or before it began
    async with Spool(tmp_path) as spool:
        assert not spool.damage
        (record,) = await spool.oldest(TICKS, most_rows=1)
        assert record.rows.num_rows == 5_000
