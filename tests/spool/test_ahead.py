"""What was acknowledged and still lies in SQLite's log survives damage to that log, or is said to be lost."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mystocks_ingest.spool import FILE, Spool

PAGE, HEAD, FRAME = 4096, 32, 24
RECORDS = 60

_CHILD = """
import asyncio, sys
from pathlib import Path
import pyarrow as pa
from mystocks_ingest.spool import Spool
async def main():
    async with Spool(Path(sys.argv[1])) as spool:
        for n in range(int(sys.argv[2])):
            await spool.put("t", pa.RecordBatch.from_pydict({"n": [n], "x": ["%d" % n * 3000]}))
        print("ready", flush=True)
        sys.stdin.read()
asyncio.run(main())
"""


def killed(folder: Path, records: int = RECORDS) -> Path:
    """The log that a process leaves which was killed after so many records; none of them is in the file itself yet."""
    child = subprocess.Popen(
        [sys.executable, "-c", _CHILD, str(folder), str(records)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        os.kill(child.pid, signal.SIGKILL)
    return folder / f"{FILE}-wal"


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What such a process leaves."""
    return killed(tmp_path_factory.mktemp("left")).parent


@pytest.fixture
def wal(left: Path, tmp_path: Path) -> Path:
    """The log in a copy of it."""
    shutil.copytree(left, tmp_path, dirs_exist_ok=True)
    return tmp_path / f"{FILE}-wal"


async def found(spool: Spool) -> list[int]:
    records = await spool.oldest("t", most_rows=10_000)
    return [n for r in records for n in r.rows.column("n").to_pylist()]


def frame(wal: Path, share: float) -> int:
    """Where a frame begins that lies so far in the log."""
    frames = (wal.stat().st_size - HEAD) // (FRAME + PAGE)
    return HEAD + int(frames * share) * (FRAME + PAGE)


def overwritten(wal: Path, at: int, what: bytes) -> None:
    content = wal.read_bytes()
    wal.write_bytes(content[:at] + what + content[at + len(what) :])


def twice(wal: Path) -> None:
    for share in (0.2, 0.7):
        overwritten(wal, frame(wal, share) + FRAME + 9, b"\0\xff")


DAMAGE: dict[str, Callable[[Path], None]] = {
    "a byte of a page": lambda wal: overwritten(wal, frame(wal, 0.5) + FRAME + 3000, b"\xff"),
    "a page of zeros": lambda wal: overwritten(wal, frame(wal, 0.3) + FRAME, bytes(PAGE)),
    "a frame's head": lambda wal: overwritten(wal, frame(wal, 0.5), bytes(FRAME)),
    "the log's head": lambda wal: overwritten(wal, 0, bytes(HEAD)),
    "two places": twice,
}


@pytest.mark.parametrize("damage", DAMAGE)
async def test_rows_behind_a_damaged_place_of_the_log_are_kept_and_the_damage_is_said(
    wal: Path, tmp_path: Path, damage: str
) -> None:
    DAMAGE[damage](wal)
    async with Spool(tmp_path) as spool:
        numbers = await found(spool)
        assert "the log of its last changes was damaged" in spool.damage[0]
        lost = set(range(RECORDS)) - set(numbers)
        assert len(lost) <= 4, "those that were hit, and no other"
        assert len(numbers) == len(set(numbers))
    assert any("-damaged" in name for name in os.listdir(tmp_path)), "what was found is kept beside it"  # noqa: PTH208
    async with Spool(tmp_path) as spool:
        assert not spool.damage
        assert await found(spool) == numbers


async def test_a_log_that_is_gone_is_said(wal: Path, tmp_path: Path) -> None:
    wal.unlink()  # noqa: ASYNC240 - nothing else runs
    async with Spool(tmp_path) as spool:
        assert "the log of its last changes is gone" in spool.damage[0]
    async with Spool(tmp_path) as spool:
        assert not spool.damage


async def test_kills_and_ends_in_order_are_no_damage(wal: Path, tmp_path: Path) -> None:
    for records in (0, 7):
        killed(tmp_path, records)
    assert os.path.getsize(wal), "it goes on from there"  # noqa: PTH202, ASYNC240
    async with Spool(tmp_path) as spool:
        assert len(await found(spool)) == RECORDS + 7
        assert not spool.damage
    async with Spool(tmp_path) as spool:
        assert not spool.damage


async def test_the_end_of_a_log_that_was_not_acknowledged_yet_is_no_damage(wal: Path, tmp_path: Path) -> None:
    with wal.open("ab") as file:  # the beginning of one more record, as a power cut leaves it
        file.write(wal.read_bytes()[-FRAME - PAGE :][: FRAME + 1000])  # noqa: ASYNC240 - likewise
    async with Spool(tmp_path) as spool:
        assert await found(spool) == list(range(RECORDS))
        assert not spool.damage
