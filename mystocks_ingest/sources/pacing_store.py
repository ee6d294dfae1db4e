"""What pacing remembers across restarts: calls made, limits learnt, closed doors. One SQLite file for all sources.

Calls are counted by pyrate-limiter's sliding windows (one table a source, one a source's API). A missing or
damaged file costs nothing but memory: it is written anew.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import wraps
from pathlib import Path
from typing import ParamSpec, TypeVar

from pyrate_limiter import Rate as WindowRate
from pyrate_limiter import RateItem, SQLiteBucket, SQLiteQueries

from mystocks_ingest.errors import ConfigError, Unavailable
from mystocks_ingest.ports import Rate
from mystocks_ingest.sources.pacing_room import CALL, LIVE, SCHEMA, Room

ALL = "*"
_LEAK_EVERY = 1000  # calls between two removals of what no window counts any more
_SCHEMA = """
CREATE TABLE IF NOT EXISTS closed (source TEXT, api TEXT, until TEXT, banned INTEGER, reason TEXT,
                                   PRIMARY KEY (source, api));
CREATE TABLE IF NOT EXISTS learnt (source TEXT, api TEXT, calls INTEGER, seconds REAL,
                                   PRIMARY KEY (source, api, seconds));
CREATE TABLE IF NOT EXISTS last (source TEXT PRIMARY KEY, success TEXT, failure TEXT, reason TEXT,
                                 strikes INTEGER NOT NULL DEFAULT 0, opened INTEGER NOT NULL DEFAULT 0);
"""


@dataclass(frozen=True, slots=True)
class Closed:
    """A source, or one API of it, that must not be called before ``until``."""

    api: str
    until: datetime
    banned: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Used:
    """Calls made inside one window."""

    rate: Rate
    calls: int

    @property
    def left(self) -> int:
        return max(0, self.rate.calls - self.calls)


@dataclass(frozen=True, slots=True)
class Last:
    """When the source last answered and last failed, failures in a row, and how often its breaker opened."""

    success: datetime | None = None
    failure: datetime | None = None
    reason: str = ""
    strikes: int = 0
    opened: int = 0


P = ParamSpec("P")
T = TypeVar("T")


def _kept(method: Callable[P, T]) -> Callable[P, T]:
    """``method``, whose failure to write the file is one sentence: a call that is not counted must not be made."""

    @wraps(method)
    def called(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return method(*args, **kwargs)
        except sqlite3.OperationalError as exc:
            raise Unavailable(
                f"the calls made cannot be counted in pacing.sqlite ({exc}): free space on the disk of the state "
                "directory, then run the same command again"
            ) from exc

    return called


class PacingStore:
    """One source's part of the file. Calls are short and synchronous; ``now`` is aware UTC."""

    def __init__(self, source: str, path: Path | None) -> None:
        self.source = source
        self._db = _open(path)
        self._taken = 0
        self._buckets: dict[str, tuple[tuple[Rate, ...], SQLiteBucket]] = {}
        self._rooms: dict[str, Room] = {}

    def close(self) -> None:
        self._db.close()

    @_kept
    def take(self, api: str, rates: Sequence[Rate], *, now: datetime, cost: int = 1, live: bool = False) -> float:
        """0.0 when ``cost`` calls fit every window and are now counted, else the seconds until they may fit.

        ``live``: they may have the room that others must leave.
        """
        bucket = self._bucket(api, rates, now)
        if bucket is None:
            return 0.0
        at = _milliseconds(now)
        self._db.execute("BEGIN IMMEDIATE")  # another process counts in the same file
        try:
            if live:
                self._rooms[api].count(at, cost)
            elif wait := self._rooms[api].wait(at, cost):
                return wait / 1000
            item = RateItem(LIVE if live else CALL, at, cost)
            if bucket.put(item):  # commits
                self._taken += 1
                if self._taken % _LEAK_EVERY == 0:
                    bucket.leak(at)
                return 0.0
            blocked = bucket.waiting(item)
        finally:
            if self._db.in_transaction:
                self._db.rollback()
        return max(int(blocked), 1) / 1000 if isinstance(blocked, int) else 1.0

    @_kept
    def charge(self, api: str, rates: Sequence[Rate], *, now: datetime, calls: int, live: bool = False) -> None:
        """Count calls that were made already, whether they fit or not."""
        bucket = self._bucket(api, rates, now)
        if bucket is not None and calls > 0:
            put = SQLiteQueries.PUT_ITEM.format(table=bucket.table)
            with self._db:
                if live:
                    self._rooms[api].count(_milliseconds(now), calls)
                self._db.executemany(put, [(LIVE if live else CALL, _milliseconds(now))] * calls)

    @_kept
    def used(self, api: str, rates: Sequence[Rate], *, now: datetime) -> tuple[Used, ...]:
        """Calls made in each window that ends at ``now``."""
        bucket = self._bucket(api, rates, now)
        if bucket is None:
            return ()
        query = f"SELECT COUNT(*) FROM '{bucket.table}' WHERE item_timestamp >= ?"  # noqa: S608  # named by _table
        at = _milliseconds(now)
        counts = [self._db.execute(query, (at - int(r.seconds * 1000),)).fetchone()[0] for r in rates]
        return tuple(Used(r, int(n)) for r, n in zip(rates, counts, strict=True))

    @_kept
    def shut(self, api: str, *, until: datetime, banned: bool, reason: str) -> None:
        """Close the API, or with ``*`` the whole source; the later of two ends counts."""
        self._db.execute(
            """INSERT INTO closed VALUES (?, ?, ?, ?, ?) ON CONFLICT (source, api) DO UPDATE SET
               until = max(until, excluded.until), banned = excluded.banned, reason = excluded.reason""",
            (self.source, api, _text(until), banned, reason),
        )
        self._db.commit()

    @_kept
    def closed(self, *, now: datetime) -> list[Closed]:
        """What is closed at ``now``."""
        rows = self._db.execute(
            "SELECT api, until, banned, reason FROM closed WHERE source = ? AND until > ? ORDER BY api",
            (self.source, _text(now)),
        )
        return [Closed(api, datetime.fromisoformat(until), bool(banned), why) for api, until, banned, why in rows]

    @_kept
    def reopen(self) -> None:
        """Forget closures and failures, as a user may ask for."""
        self._db.execute("DELETE FROM closed WHERE source = ?", (self.source,))
        self._db.execute("UPDATE last SET strikes = 0, opened = 0 WHERE source = ?", (self.source,))
        self._db.commit()

    @_kept
    def learn(self, api: str, rate: Rate) -> None:
        """Remember the limit that the vendor named."""
        self._db.execute(
            "INSERT OR REPLACE INTO learnt VALUES (?, ?, ?, ?)", (self.source, api, rate.calls, rate.seconds)
        )
        self._db.commit()

    @_kept
    def learnt(self, api: str) -> list[Rate]:
        """Limits the vendor named for this API."""
        rows = self._db.execute("SELECT calls, seconds FROM learnt WHERE source = ? AND api = ?", (self.source, api))
        return [Rate(calls, seconds) for calls, seconds in rows]

    @_kept
    def last(self) -> Last:
        """The source's latest success and failure."""
        row = self._db.execute(
            "SELECT success, failure, reason, strikes, opened FROM last WHERE source = ?", (self.source,)
        ).fetchone()
        return Last(_moment(row[0]), _moment(row[1]), row[2] or "", row[3], row[4]) if row else Last()

    @_kept
    def note(self, last: Last) -> None:
        """Write the latest success and failure."""
        values = (self.source, _text(last.success), _text(last.failure), last.reason, last.strikes, last.opened)
        self._db.execute("INSERT OR REPLACE INTO last VALUES (?, ?, ?, ?, ?, ?)", values)
        self._db.commit()

    def _bucket(self, api: str, rates: Sequence[Rate], now: datetime) -> SQLiteBucket | None:
        wanted = binding(rates)
        if not wanted:
            return None
        known = self._buckets.get(api)
        if known is not None and known[0] == wanted:
            return known[1]
        table = _table(self.source, api)
        self._db.execute(SQLiteQueries.CREATE_BUCKET_TABLE.format(table=table))
        index = SQLiteQueries.CREATE_INDEX_ON_TIMESTAMP.format(index_name=f"idx_{table}", table_name=table)
        self._db.execute(index)
        self._db.commit()
        bucket = SQLiteBucket([WindowRate(r.calls, round(r.seconds * 1000)) for r in wanted], self._db, table)
        bucket.leak(_milliseconds(now))
        self._buckets[api] = (wanted, bucket)
        self._rooms[api] = Room(self._db, table, wanted)
        return bucket


def binding(rates: Sequence[Rate]) -> tuple[Rate, ...]:
    """The rates that bind, narrowest window first: a wider window that allows fewer calls makes the narrow one idle."""
    kept: list[Rate] = []
    for rate in sorted(rates, key=lambda r: (r.seconds, r.calls)):
        if kept and rate.calls / rate.seconds >= kept[-1].calls / kept[-1].seconds:
            continue
        while kept and kept[-1].calls >= rate.calls:
            kept.pop()
        kept.append(rate)
    return tuple(kept)


def _open(path: Path | None) -> sqlite3.Connection:
    try:
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        try:
            return _connect(path)
        except sqlite3.DatabaseError as exc:
            if path is None or isinstance(exc, sqlite3.OperationalError):
                raise
            path.replace(path.with_suffix(".damaged"))
            return _connect(path)
    except (OSError, sqlite3.Error) as exc:
        where = path.parent if path is not None else "memory"
        raise ConfigError(
            f"the call counts of the sources cannot be kept in {where}: {exc}; "
            "set MYSTOCKS_STATE_DIR to a folder this user may write"
        ) from exc


def _connect(path: Path | None) -> sqlite3.Connection:
    db = sqlite3.connect(path or ":memory:", timeout=10.0, isolation_level="DEFERRED", check_same_thread=False)
    try:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=NORMAL")
        db.executescript(_SCHEMA + SCHEMA)
    except sqlite3.Error:
        db.close()
        raise
    return db


def _table(source: str, api: str) -> str:
    name = source if api == ALL else f"{source}__{api}"
    return "calls_" + re.sub(r"\W", "_", name)


def _milliseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat(timespec="milliseconds")


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
