"""Of a disk without a byte to spare, what waits can be brought home all the same, and nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_CHILD = """
import asyncio, json, os, sys
from pathlib import Path
import pyarrow as pa
from mystocks_ingest.errors import IngestError
from mystocks_ingest.spool import Full, Spool

folder, rows, again = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "again"

def batch(first, size):
    return pa.RecordBatch.from_pydict({"n": range(first, first + size), "x": [os.urandom(8) for _ in range(size)]})

async def filled(spool):
    acknowledged = 0
    for size in (rows, 1):
        try:
            while True:
                await spool.put("t", batch(acknowledged, size))
                acknowledged += size
        except Full:
            pass
    try:
        with open(folder / "hog", "wb", buffering=0) as hog:
            while True:
                hog.write(bytes(512))
    except OSError:
        return acknowledged

async def emptied(spool):
    found = []
    while spool.bytes:
        records = await spool.oldest("t", most_rows=20_000)
        found += [n for r in records for n in r.rows.column("n").to_pylist()]
        await spool.done(records)
    return found

async def main():
    async with Spool(folder) as spool:
        acknowledged = await filled(spool)
        found = [] if again else await emptied(spool)
    if again:
        async with Spool(folder) as spool:
            found = await emptied(spool)
    print(json.dumps({"acknowledged": acknowledged, "whole": found == list(range(acknowledged))}))

try:
    asyncio.run(main())
except IngestError as exc:
    print(json.dumps({"error": f"{type(exc).__name__}: {exc}"}))
"""


def ran(folder: Path, options: str, rows: int, *, again: bool = False) -> dict[str, object]:
    """What the child says, whose folder is a file system of its own; skips where that is not allowed."""
    folder.mkdir()
    mount = f'mount -t tmpfs -o {options} tmpfs "{folder}" && exec "$@"'
    prefix = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, "sh")
    if shutil.which("unshare") is None or subprocess.run([*prefix, "true"], capture_output=True).returncode:  # noqa: PLW1510
        pytest.skip("this machine does not let a test mount a file system of its own")
    words = [*prefix, sys.executable, "-c", _CHILD, str(folder), str(rows), "again" if again else "once"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("rows", [100, 20_000])
@pytest.mark.parametrize("again", [False, True], ids=["at once", "after a restart"])
async def test_what_waits_on_a_full_disk_is_brought_home_whole(tmp_path: Path, rows: int, *, again: bool) -> None:
    said = await asyncio.to_thread(ran, tmp_path / "disk", "size=6m", rows, again=again)
    assert said.get("whole") is True, said
    assert int(str(said["acknowledged"])) >= rows


async def test_a_disk_that_is_read_only_is_one_sentence(tmp_path: Path) -> None:
    said = await asyncio.to_thread(ran, tmp_path / "disk", "ro", 1)
    assert "ConfigError: the spool" in str(said["error"])
    assert "MYSTOCKS_STATE_DIR" in str(said["error"])
