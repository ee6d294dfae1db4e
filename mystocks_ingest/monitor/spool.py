"""The log's local queue: entries wait here until the log's database has them. A small SQLite file in the state directory.

Several processes may put entries in and take them out. An entry leaves the file only after the database holds it, so
the worst that a kill does is to send it twice, which the database notices by its id.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import datetime
from pathlib import Path

from mystocks_ingest.logs import get
from mystocks_ingest.monitor.entries import Entry

FILE = "monitor.sqlite"
CAPACITY = 100_000  # entries; some 100 MB at the most
log = get("monitor")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS entry (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL, revision INTEGER NOT NULL, log_table TEXT NOT NULL,
    content TEXT NOT NULL, UNIQUE (id, revision)
);
CREATE TABLE IF NOT EXISTS refused (
    seq INTEGER PRIMARY KEY, id TEXT NOT NULL, revision INTEGER NOT NULL, log_table TEXT NOT NULL,
    content TEXT NOT NULL, reason TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS counted (name TEXT PRIMARY KEY, number INTEGER NOT NULL);
"""


class SpoolFull(Exception):
    """No more entries are kept until some have been taken out."""


class Spool:
    """The file at ``path``, made when the first entry comes. Short synchronous calls, all from one thread."""

    def __init__(self, path: Path, *, capacity: int = CAPACITY) -> None:
        self.path = path
        self._capacity = capacity
        self._db: sqlite3.Connection | None = None

    def close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None

    def put(self, entries: Sequence[Entry]) -> None:
        """Durable on return, all or none; an entry that waits already is left as it is. Raises SpoolFull, OSError."""
        with self._usable():
            try:
                self._put(entries)
            except sqlite3.OperationalError:
                raise
            except sqlite3.DatabaseError as exc:
                self._moved_away(exc)
                self._put(entries)

    def _put(self, entries: Sequence[Entry]) -> None:
        db = self._opened()
        with closing(db.execute("SELECT coalesce(max(seq) - min(seq) + 1, 0) FROM entry")) as found:
            if found.fetchone()[0] + len(entries) > self._capacity:
                raise SpoolFull
        with db:
            db.execute("BEGIN IMMEDIATE")
            db.executemany(
                "INSERT INTO entry (id, revision, log_table, content) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
                [(e.id, e.revision, e.table, e.dumps()) for e in entries],
            )

    def oldest(self, limit: int) -> list[tuple[int, Entry]]:
        """Entries in the order they came, each with its place in the queue. Raises OSError, as all that reads here."""
        if self._db is None and not self.path.exists():
            return []
        with self._usable():
            rows = self._opened().execute(
                "SELECT seq, id, revision, log_table, content FROM entry ORDER BY seq LIMIT ?", [limit]
            )
            return [(seq, Entry.loads(*rest)) for seq, *rest in rows]

    def waiting_in(self, table: str) -> list[Entry]:
        """Those meant for ``table``, in the order they came."""
        if self._db is None and not self.path.exists():
            return []
        with self._usable():
            rows = self._opened().execute(
                "SELECT id, revision, log_table, content FROM entry WHERE log_table = ? ORDER BY seq", [table]
            )
            return [Entry.loads(*row) for row in rows]

    def taken(self, places: Iterable[int]) -> None:
        """The database holds these entries."""
        db = self._opened()
        with db:
            db.execute("BEGIN IMMEDIATE")
            db.executemany("DELETE FROM entry WHERE seq = ?", [(place,) for place in places])

    def refuse(self, place: int, reason: str) -> None:
        """Set aside an entry that the database will not take, so that those behind it are not held up."""
        db = self._opened()
        with db:
            db.execute("BEGIN IMMEDIATE")
            db.execute(
                "INSERT OR REPLACE INTO refused SELECT seq, id, revision, log_table, content, ? FROM entry WHERE seq = ?",
                [reason, place],
            )
            db.execute("DELETE FROM entry WHERE seq = ?", [place])

    def lose(self, number: int) -> None:
        """Count entries that could not be kept. Raises OSError where not even that can be written."""
        with self._usable(), self._opened() as db:
            db.execute("BEGIN IMMEDIATE")
            db.execute(
                "INSERT INTO counted VALUES ('lost', ?) ON CONFLICT (name) DO UPDATE SET number = number + excluded.number",
                [number],
            )

    def counts(self) -> tuple[int, int, int]:
        """How many entries wait, were set aside, and were lost."""
        if self._db is None and not self.path.exists():
            return 0, 0, 0
        with self._usable():
            row = self._opened().execute(
                "SELECT (SELECT count(*) FROM entry), (SELECT count(*) FROM refused), "
                "coalesce((SELECT number FROM counted WHERE name = 'lost'), 0)"
            )
            waiting, refused, lost = row.fetchone()
            return waiting, refused, lost

    @contextmanager
    def _usable(self) -> Iterator[None]:
        """SQLite's errors as OSError: the disk is full, the file may not be opened."""
        try:
            yield
        except sqlite3.Error as exc:
            raise OSError(f"{self.path.name}: {exc}") from exc

    def _opened(self) -> sqlite3.Connection:
        if self._db is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._db = _connected(self.path)
            except sqlite3.OperationalError:
                raise
            except sqlite3.DatabaseError as exc:
                self._moved_away(exc)
                self._db = _connected(self.path)
        return self._db

    def _moved_away(self, exc: sqlite3.DatabaseError) -> None:
        """A file that is no database any more is kept beside the new one: somebody may want to look."""
        self.close()
        stamp = datetime.now().astimezone().strftime("%Y%m%dT%H%M%S")
        kept = self.path.with_name(f"{self.path.name}.damaged-{stamp}")
        self.path.replace(kept)
        for tail in ("-wal", "-shm"):
            self.path.with_name(self.path.name + tail).unlink(missing_ok=True)
        log.warning("spool.damaged", kept=str(kept), reason=str(exc))


def _connected(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=10.0, isolation_level=None, check_same_thread=False)
    try:
        with suppress(sqlite3.OperationalError):  # another process makes the file at this moment, and does it for both
            db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")  # an acknowledged entry outlives a power cut
        db.executescript(_SCHEMA)
    except BaseException:
        db.close()
        raise
    return db
