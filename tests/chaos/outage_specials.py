"""What else may befall the service: its disk full, its spool torn, its clock stepped, its names not resolved any more."""

from __future__ import annotations

import asyncio
import math
import os
import random
import shutil
import sqlite3
import subprocess
import time
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from outage_faults import begin, end
from outage_rows import Balance
from outage_stage import STORES, Look, Stage
from outages import Case, Result, aftermath, watched, well
from servers.mariadb import MariaDB
from servers.postgresql import PostgreSQL

from mystocks_ingest.spool import FILE

NAME = "servers.outage.test"
DISK_MB = 64
SPOOLED_ROWS = 100
HOUR = timedelta(hours=1)

SPECIALS = (
    *(Case("disk", "full", m) for m in (1, 10)),
    *(Case(subject, "torn", 1) for subject in ("spool", "spool at work")),
    *(Case("clock", step, m) for step in ("+1 h", "-1 h") for m in (1, 10)),
    *(Case("names", "gone", m) for m in (1, 10)),
    *(Case("passwords", "changed", m) for m in (1, 10)),
    Case("start", "all hung", 10),
)


class Impossible(Exception):
    """This machine cannot do it; the text says why."""


@asynccontextmanager
async def setting(stage: Stage, subject: str) -> AsyncIterator[None]:
    """What must be so before the service starts. Raises Impossible."""
    match subject:
        case "disk":
            with_root("mount")
            stage.state.mkdir()
            await ran("mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", str(stage.state))
            try:
                yield
            finally:
                await stage.kill()
                await ran("umount", str(stage.state))
        case "names":
            with_root("unshare")
            own = 'mount --bind hosts /etc/hosts && mount --bind resolv /etc/resolv.conf && exec "$@"'
            stage.prefix = ("unshare", "--mount", "sh", "-c", own, "sh")
            stage.host = NAME
            stage.unguarded = True  # the guard takes every name for another machine
            names(stage, known=True)
            (stage.folder / "resolv").write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
            yield
        case _:
            yield


def with_root(tool: str) -> None:
    if os.geteuid() != 0 or shutil.which(tool) is None:
        raise Impossible(f"skipped: only root may {tool} here")


async def ran(*command: str) -> None:
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Impossible(f"skipped: {' '.join(command[:3])} failed: {done.stderr.strip()}")


def names(stage: Stage, *, known: bool) -> None:
    """What /etc/hosts says to the service; the same file, for it is mounted."""
    line = f"127.0.0.1 {NAME}\n" if known else ""
    (stage.folder / "hosts").write_text(f"127.0.0.1 localhost\n{line}")


async def special(stage: Stage, case: Case) -> Result:
    """One of ``SPECIALS``."""
    before = await well(stage)
    seconds = case.minutes * 60 / stage.speed
    match case.subject:
        case "disk":
            during = await _disk_full(stage, seconds)
        case "clock":
            during = await _clock(stage, HOUR if case.fault == "+1 h" else -HOUR, seconds)
        case "names":
            during = await _names_gone(stage, seconds)
        case "passwords":
            during = await _locked_out(stage, seconds)
        case "start":
            during = await _started_amid_silence(stage, seconds)
        case _:
            return await _torn(stage, case, before)
    return await aftermath(stage, case, before, during)


async def _disk_full(stage: Stage, seconds: float) -> Look:
    """A database is away, and the disk takes nothing of what should wait for it."""
    ballast = stage.state / "ballast"
    await begin(stage, "tdengine", "stopped")
    await asyncio.to_thread(_fill, ballast)
    try:
        return await watched(stage, seconds)
    finally:
        ballast.unlink()
        await end(stage, "tdengine", "stopped")


def _fill(path: Path) -> None:
    """Until nothing fits any more, to the byte."""
    with path.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while file.write(b"\0" * size) == size:
                    pass
            except OSError:
                continue


async def _clock(stage: Stage, step: timedelta, seconds: float) -> Look:
    """Wrong for a while; a vendor fails in it, so that a source rests until a time that does not come."""
    stage.step_clock(step)
    looking = asyncio.create_task(watched(stage, seconds))
    await asyncio.sleep(seconds / 2)
    await begin(stage, "tushare", "errors")
    seen = await looking
    stage.step_clock(-step)
    await end(stage, "tushare", "errors")
    return seen


async def _names_gone(stage: Stage, seconds: float) -> Look:
    """Connections that stand need no name: they are cut, as a router's restart does."""
    names(stage, known=False)
    for wire in stage.wires.values():
        await asyncio.to_thread(wire.sever)
    try:
        return await watched(stage, seconds)
    finally:
        names(stage, known=True)


async def _locked_out(stage: Stage, seconds: float) -> Look:
    """Passwords are changed at the databases, and the connections that knew the old ones are ended."""
    await asyncio.to_thread(_passwords, stage, "another one")
    for store in STORES:
        await asyncio.to_thread(stage.wires[store].sever)
    try:
        return await watched(stage, seconds)
    finally:
        await asyncio.to_thread(_passwords, stage, "")


def _passwords(stage: Stage, word: str) -> None:
    """Empty: those that the service knows."""
    postgresql, mariadb = stage.servers["postgresql"], stage.servers["mysql"]
    assert isinstance(postgresql, PostgreSQL)
    assert isinstance(mariadb, MariaDB)
    postgresql.psql(f"ALTER ROLE {postgresql.user} PASSWORD '{word or postgresql.password}'", database="postgres")
    mariadb.sql(f"ALTER USER {mariadb.user}@'127.0.0.1' IDENTIFIED BY '{word or mariadb.password}'")


async def _started_amid_silence(stage: Stage, seconds: float) -> Look:
    """The machine comes up before its databases answer: they hold the line and say nothing."""
    await stage.kill()
    for server in stage.servers.values():
        await asyncio.to_thread(server.freeze)
    try:
        await stage.start()
        return await watched(stage, seconds)
    finally:
        for server in stage.servers.values():
            await asyncio.to_thread(server.thaw)


async def _torn(stage: Stage, case: Case, before: Look) -> Result:
    """Rows that the spool itself sets aside and reports are not lost; all others are owed."""
    await begin(stage, "tdengine", "stopped")
    seen = await spooled(stage)
    if case.subject == "spool":
        await stage.kill()
        await asyncio.to_thread(tear, stage.state / FILE)
        await stage.start()
        seen = max(seen, await stage.look(), key=lambda look: look.worse)
    else:
        await asyncio.to_thread(flip, stage.state / f"{FILE}-wal", 40)
    await end(stage, "tdengine", "stopped")
    result = await aftermath(stage, case, before, seen, spoilt=True)
    await stage.kill()
    aside = await asyncio.to_thread(set_aside, stage.state / FILE)
    found = result.balance
    lost = max(found.lost - aside, 0)
    said = (f"{aside} rows were set aside and reported", *found.examples)
    return replace(result, balance=Balance(found.owed, lost, found.doubled, said), aside=aside)


async def spooled(stage: Stage, stores: Collection[str] = ("tdengine",)) -> Look:
    """Once enough rows wait, and all of ``stores`` are known to be away; a busy machine's late quotes pass."""
    async with asyncio.timeout(180):
        first = math.inf
        while True:
            seen = await stage.look()
            if seen.waiting_rows >= SPOOLED_ROWS and seen.bad.keys() >= set(stores):
                first = min(first, time.monotonic())
                if seen.code == 200 or time.monotonic() > first + 30:
                    return seen
            await asyncio.sleep(0.1)


def tear(path: Path) -> None:
    """Flip bytes amid one record, and cut the end of the file off amid a page."""
    with sqlite3.connect(path) as file:
        bodies = [body for (body,) in file.execute("SELECT body FROM record ORDER BY id")]
    file.close()  # and with it its log
    content = bytearray(path.read_bytes())
    at = content.find(bodies[len(bodies) // 2][-64:])
    content[at + 8] ^= 0xFF
    path.write_bytes(content[:-1000])


def flip(path: Path, times: int) -> None:
    """Single bits of the file, under the feet of the process that has it open."""
    dice = random.Random(7)
    with path.open("r+b") as file:
        size = path.stat().st_size
        for _ in range(times):
            file.seek(dice.randrange(size // 2, size))
            old = file.read(1)
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([old[0] ^ 1 << dice.randrange(8)]))


def set_aside(path: Path) -> int:
    """Rows in the quarantine."""
    with sqlite3.connect(path) as file:
        (rows,) = file.execute("SELECT coalesce(sum(rows), 0) FROM quarantine").fetchone()
    file.close()
    return int(rows)
