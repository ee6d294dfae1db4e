"""What the embedded store does when the disk, the file or its own process fails."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest
import structlog

from mystocks_ingest.errors import ConfigError, StoreBusy
from mystocks_ingest.ports import Query
from mystocks_ingest.schema.tables import Table, Tables
from mystocks_ingest.sinks.embedded import FILE, EmbeddedDatabase, EmbeddedSink

Bars = Callable[..., pa.RecordBatch]
HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SYMBOLS = 1_000
WRITER = f"""
import asyncio, sys
from datetime import date, timedelta
from pathlib import Path
sys.path.insert(0, {str(HERE)!r})
from conftest import make_bars
from mystocks_ingest import logs
from mystocks_ingest.errors import IngestError
from mystocks_ingest.market.datasets import BAR_1D
from mystocks_ingest.ports import Query
from mystocks_ingest.schema.tables import load
from mystocks_ingest.sinks.embedded import EmbeddedDatabase, EmbeddedSink

logs.configure(level="error")

async def main(folder, first, last, size):
    tables = load(Path({str(ROOT / "config" / "tables.yaml")!r})).placed(())
    table = tables.holder(BAR_1D)
    async with EmbeddedDatabase(folder) as db:
        sink = await EmbeddedSink.opened(db, tables.all)
        for i in range(first, last):
            day = date(2000, 1, 1) + timedelta(i)
            await sink.write(table, make_bars(symbols=size, sessions=2, close=float(i + 1), first=day, noise=True))
            print(i, flush=True)

try:
    asyncio.run(main(Path(sys.argv[1]), *map(int, sys.argv[2:])))
except IngestError as error:
    print(type(error).__name__, error, flush=True)
"""


_DAYS = (
    "SELECT trade_date, count(*), count(DISTINCT symbol), min(close), max(close) FROM bar_1d GROUP BY ALL ORDER BY ALL"
)


def writer(folder: Path, first: int, last: int, size: int, *prefix: str) -> subprocess.Popen[str]:
    """A child that writes batch ``i`` (two sessions, the second overwritten by the next batch) and says so."""
    command = [*prefix, sys.executable, "-c", WRITER, str(folder), str(first), str(last), str(size)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)


async def stored(folder: Path, tables: Tables, table: Table) -> pa.Table:
    async with EmbeddedDatabase(folder) as db:
        return await (await EmbeddedSink.opened(db, tables.all)).read(table, Query())


async def test_every_acknowledged_row_survives_kill_9_and_none_is_doubled(
    tmp_path: Path,
) -> None:
    chance = random.Random(5)
    acknowledged = -1
    kills = 0
    while kills < 6:
        child = writer(tmp_path, acknowledged + 1, 10_000, SYMBOLS)
        assert child.stdout is not None
        assert child.stderr is not None
        if kills:  # the first time, while the file is being made
            for _ in range(chance.randint(3, 6)):
                line = child.stdout.readline()
                assert line, child.stderr.read()
                acknowledged = int(line)
        await asyncio.sleep(chance.uniform(0.0, 0.3) if kills else chance.uniform(0.3, 0.6))
        child.send_signal(signal.SIGKILL)
        child.wait()
        kills += 1
        said = child.stdout.read().split()
        acknowledged = int(said[-1]) if said else acknowledged
        child.stdout.close()
        child.stderr.close()
        if acknowledged < 0:
            continue
        async with EmbeddedDatabase(tmp_path) as db:
            days = await db.run(lambda c: c.execute(_DAYS).fetchall())
        newest = days[-1][0]
        extra = (newest - date(2000, 1, 1)).days - 1 - acknowledged
        assert extra in (0, 1), "all acknowledged batches, and at most the one under way"
        last = acknowledged + extra
        assert days == [
            (date(2000, 1, 1) + timedelta(i), SYMBOLS, SYMBOLS, min(i, last) + 1, min(i, last) + 1)
            for i in range(last + 2)
        ], "each batch is stored whole and once, and the later write of a row stands"
    assert acknowledged > 10


def refusal(folder: Path, *prefix: str) -> str:
    child = writer(folder, 0, 10_000, SYMBOLS, *prefix)
    out, err = child.communicate(timeout=110)
    assert not err, err
    return out.splitlines()[-1]


async def test_a_second_process_is_told_who_has_the_store(tmp_path: Path) -> None:
    async with EmbeddedDatabase(tmp_path):
        said = refusal(tmp_path)
    assert said == (
        f"StoreBusy the store {tmp_path / FILE} is in use by process {os.getpid()}: wait until it has ended, or stop it"
    )


async def test_the_owners_pid_is_on_the_error(tmp_path: Path) -> None:
    child = writer(tmp_path, 0, 10_000, 10)
    try:
        assert child.stdout is not None
        assert child.stdout.readline()
        with pytest.raises(StoreBusy) as caught:
            async with EmbeddedDatabase(tmp_path):
                pass
        assert caught.value.owner_pid == child.pid
    finally:
        child.kill()
        child.communicate()
    async with EmbeddedDatabase(tmp_path) as db:  # and it is free as soon as the owner has gone
        assert await db.run(lambda c: c.execute("SELECT count(*) > 0 FROM bar_1d").fetchone()) == (True,)


def mounted(folder: Path, options: str) -> tuple[str, ...]:
    """The prefix that runs a command where ``folder`` is a file system of its own; skips where that is not allowed."""
    folder.mkdir(exist_ok=True)
    mount = f'mount -t tmpfs -o {options} tmpfs "{folder}" && exec "$@"'
    prefix = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, "sh")
    if (
        shutil.which("unshare") is None
        or subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode
    ):
        pytest.skip("this machine does not let a test mount a file system of its own")
    return prefix


def test_a_read_only_state_directory_is_one_sentence(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    said = refusal(folder, *mounted(folder, "ro"))
    assert said.startswith(
        f"ConfigError the state directory {folder} cannot be written to (Read-only file system): set"
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_state_directory_of_somebody_else_is_one_sentence(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    assert refusal(tmp_path).startswith(f"ConfigError the state directory {tmp_path} cannot be written to")


@pytest.mark.parametrize("size", ["64k", "6m", "20m"])
def test_a_full_disk_is_one_sentence_and_keeps_what_was_acknowledged(tmp_path: Path, size: str) -> None:
    folder, kept = tmp_path / "state", tmp_path / "kept"
    kept.mkdir()
    prefix = mounted(folder, f"size={size}")
    saving = prefix[-2].replace('exec "$@"', f'"$@" && cp "{folder}"/mystocks* "{kept}"')
    child = writer(folder, 0, 10_000, SYMBOLS, *prefix[:-2], saving, "sh")
    out, err = child.communicate(timeout=110)
    acknowledged = [line for line in out.splitlines() if line.isdigit()]
    said = out.splitlines()[-1]
    assert said.startswith(f"Unavailable the disk of the store {folder / FILE} is full: free space"), (out, err)
    if not acknowledged:
        return

    async def count() -> int:
        async with EmbeddedDatabase(kept) as db:
            found = await db.run(lambda c: c.execute("SELECT count(*) FROM bar_1d").fetchone())
        return int(found[0])

    rows = asyncio.run(count())
    assert rows in ((len(acknowledged) + 1) * SYMBOLS, (len(acknowledged) + 2) * SYMBOLS)


@pytest.mark.parametrize("content", [b"", b"\0" * 4096, b"\0" * 8 + b"DUCK" + b"\0" * 5000])
async def test_a_file_whose_making_was_cut_short_is_begun_anew(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    async with EmbeddedDatabase(tmp_path) as db:
        assert await db.run(lambda c: c.execute("SELECT 1").fetchone()) == (1,)


async def test_a_file_that_is_not_ours_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(b"my diary")
    with pytest.raises(ConfigError, match=r"cannot be read .*restore it from a backup, or move it away"):
        async with EmbeddedDatabase(tmp_path):
            pass
    assert (tmp_path / FILE).read_bytes() == b"my diary"


@pytest.mark.parametrize("damage", ["cut", "scrambled headers", "scrambled rows"])
async def test_a_damaged_file_is_one_sentence(
    tmp_path: Path, tables: Tables, bar_table: Table, bars: Bars, damage: str
) -> None:
    async with EmbeddedDatabase(tmp_path) as db:
        sink = await EmbeddedSink.opened(db, tables.all)
        rows = bars(symbols=50_000, sessions=4)
        await sink.write(bar_table, rows.set_column(2, "open", pc.random(rows.num_rows)).cast(rows.schema))
    path = tmp_path / FILE
    content = bytearray(path.read_bytes())
    match damage:
        case "cut":
            del content[len(content) // 2 :]
        case "scrambled headers":
            content[4096:12288] = random.Random(1).randbytes(8192)
        case _:
            for at in range(20_000, len(content), 5_000):
                content[at] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"cannot be read .*restore it from a backup, or move it away"):
        await stored(tmp_path, tables, bar_table)


async def test_a_batch_scattered_over_a_large_table_gets_the_memory_it_needs(
    tmp_path: Path, tables: Tables, bar_table: Table, bars: Bars
) -> None:
    sessions, symbols = 1_000, 4_000
    async with EmbeddedDatabase(tmp_path) as db:
        await EmbeddedSink.opened(db, tables.all)
        await db.run(lambda c: c.execute(_BY_DAY, [symbols, symbols, sessions * symbols]))
    of_each_block = bars(symbols=4, sessions=sessions, close=11.0, first=date(2000, 1, 1))
    far_apart = pa.array([f"00{i}000.SZ" for i in range(4) for _ in range(sessions)])
    of_each_block = of_each_block.set_column(0, "symbol", far_apart)
    async with EmbeddedDatabase(tmp_path, memory_limit="32MB") as db:
        sink = await EmbeddedSink.opened(db, tables.all)
        with structlog.testing.capture_logs() as logged:
            for _ in range(2):
                await sink.write(bar_table, of_each_block)
        assert "store.reopened" in [line["event"] for line in logged], "the allowance was never exceeded"
        found = await db.run(lambda c: c.execute(_CENSUS).fetchone())
    assert found == (sessions * symbols, sessions * symbols, of_each_block.num_rows)


_BY_DAY = """
INSERT INTO bar_1d BY NAME
SELECT format('{:06d}.SZ', i % ?) AS symbol, DATE '2000-01-01' + CAST(i // ? AS INTEGER) AS trade_date,
    1.0 AS open, 1.0 AS high, 1.0 AS low, 1.0 AS close, 1 AS volume, false AS provisional, 'x' AS source,
    TIMESTAMPTZ '2026-11-20 12:00:00+00' AS fetched_at
FROM range(?) AS t(i) ORDER BY i
"""
_CENSUS = "SELECT count(*), count(DISTINCT hash(symbol, trade_date)), count(*) FILTER (WHERE close = 11.0) FROM bar_1d"


async def test_a_state_directory_that_is_a_file_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "state"
    path.touch()
    with pytest.raises(ConfigError, match="is a file: set MYSTOCKS_STATE_DIR to a folder"):
        async with EmbeddedDatabase(path):
            pass
