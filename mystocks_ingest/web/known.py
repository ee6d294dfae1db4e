"""What the service remembers of deliveries across restarts: answers to keys, and entries stored but not acknowledged.

One SQLite file in the state directory. What is remembered is on disk on return. The file is a memory, no store of rows:
one that is damaged is set aside and begun anew.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from mystocks_ingest.errors import ConfigError
from mystocks_ingest.logs import get

T = TypeVar("T")
log = get("deliveries")

FILE = "deliveries.sqlite"
KEPT_ANSWERS = 20_000
KEPT_FOR = timedelta(days=7)
_PRUNE_EVERY = 200
_SCHEMA = """
CREATE TABLE IF NOT EXISTS answer (
    number INTEGER PRIMARY KEY AUTOINCREMENT, who TEXT NOT NULL, at REAL NOT NULL, digest BLOB NOT NULL,
    status INTEGER NOT NULL, body TEXT NOT NULL
);
CREATE UNIQUE INDEX IF NOT EXISTS answer_of ON answer (who);
CREATE TABLE IF NOT EXISTS stored (stream TEXT, id TEXT, PRIMARY KEY (stream, id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS consumer (name TEXT NOT NULL);
"""


@dataclass(frozen=True, slots=True)
class Remembered:
    """What was answered to a delivery whose content has this ``digest``."""

    digest: bytes
    status: int
    body: Mapping[str, object]


class Known:
    """``async with Known(state directory) as known``. A disk that is full costs memory only: it is logged."""

    def __init__(
        self, folder: Path, *, now: Callable[[], datetime], most: int = KEPT_ANSWERS, age: timedelta = KEPT_FOR
    ) -> None:
        self._path = folder / FILE
        self._now = now
        self._most = most
        self._age = age
        self._added = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="deliveries")
        self._file: sqlite3.Connection | None = None

    async def __aenter__(self) -> Self:
        await self._run(lambda _: None, None)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        finally:
            self._thread.shutdown(wait=False)

    async def answer(self, who: Sequence[str]) -> Remembered | None:
        """What was answered to this key, None where it is not known (any more)."""
        oldest = (self._now() - self._age).timestamp()
        find = "SELECT digest, status, body FROM answer WHERE who = ? AND at >= ?"
        row = await self._run(lambda file: file.execute(find, (json.dumps(who), oldest)).fetchone(), None)
        return None if row is None else Remembered(row[0], row[1], json.loads(row[2]))

    async def remember(self, who: Sequence[str], answer: Remembered) -> None:
        """Keep what was answered; the oldest go where there are too many."""
        now, oldest = self._now().timestamp(), (self._now() - self._age).timestamp()
        self._added += 1
        prune = self._added % _PRUNE_EVERY == 1

        def keep(file: sqlite3.Connection) -> None:
            values = (json.dumps(who), now, answer.digest, answer.status, json.dumps(answer.body))
            file.execute("INSERT OR REPLACE INTO answer (who, at, digest, status, body) VALUES (?, ?, ?, ?, ?)", values)
            if prune:
                file.execute("DELETE FROM answer WHERE at < ?", (oldest,))
                newest = "SELECT number FROM answer ORDER BY number DESC LIMIT 1 OFFSET ?"
                file.execute(f"DELETE FROM answer WHERE number <= ({newest})", (self._most,))  # noqa: S608 - a constant

        await self._run(keep, None)

    async def stored(self, stream: str, ids: Sequence[str]) -> None:
        """The rows of these entries are durable, and Redis does not know it yet."""
        rows = [(stream, i) for i in ids]
        await self._run(lambda file: file.executemany("INSERT OR IGNORE INTO stored VALUES (?, ?)", rows), None)

    async def settled(self, stream: str, ids: Sequence[str]) -> None:
        """Redis knows."""
        rows = [(stream, i) for i in ids]
        await self._run(lambda file: file.executemany("DELETE FROM stored WHERE stream = ? AND id = ?", rows), None)

    async def unsettled(self, stream: str) -> frozenset[str]:
        """Entries whose rows are durable, of which Redis may not know it."""
        find = "SELECT id FROM stored WHERE stream = ?"
        rows: list[tuple[str]] = await self._run(lambda file: file.execute(find, (stream,)).fetchall(), [])
        return frozenset(ident for (ident,) in rows)

    async def consumer(self) -> str:
        """This state directory's name among the consumers of a group: the same one after a restart."""

        def named(file: sqlite3.Connection) -> str:
            row = file.execute("SELECT name FROM consumer").fetchone()
            if row is not None:
                return str(row[0])
            name = f"mystocks-{secrets.token_hex(4)}"
            file.execute("INSERT INTO consumer VALUES (?)", (name,))
            return name

        return await self._run(named, f"mystocks-{secrets.token_hex(4)}")

    # on the file's thread ------------------------------------------------------------------------------------------

    async def _run(self, work: Callable[[sqlite3.Connection], T], otherwise: T) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._attempt, work, otherwise)

    def _attempt(self, work: Callable[[sqlite3.Connection], T], otherwise: T) -> T:
        try:
            return self._once(work)
        except sqlite3.OperationalError as exc:  # the disk is full: rows are not lost by it, a repeat is not known
            log.warning("deliveries.unremembered", reason=str(exc))
            return otherwise
        except sqlite3.DatabaseError as exc:
            self._close()
            damaged = self._path.with_name(f"deliveries-damaged-{self._now():%Y%m%dT%H%M%S%f}.sqlite")
            for suffix in ("-wal", "-shm"):
                self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
            self._path.replace(damaged)
            log.error("deliveries.damaged", reason=str(exc), kept=str(damaged))  # noqa: TRY400 - no defect of ours
            return self._once(work)

    def _once(self, work: Callable[[sqlite3.Connection], T]) -> T:
        file = self._file or self._open()
        with file:  # one transaction
            return work(file)

    def _open(self) -> sqlite3.Connection:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            file = sqlite3.connect(self._path, check_same_thread=False, timeout=5.0)
        except (OSError, sqlite3.OperationalError) as exc:
            raise ConfigError(
                f"{self._path} cannot be opened ({exc}): set MYSTOCKS_STATE_DIR to a folder this user may write to"
            ) from exc
        try:
            file.execute("PRAGMA journal_mode = WAL")
            file.execute("PRAGMA synchronous = FULL")
            file.executescript(_SCHEMA)
        except BaseException:
            file.close()
            raise
        self._file = file
        return file

    def _close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
