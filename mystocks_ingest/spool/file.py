"""The spool's file: how it is laid out, opened and looked through, and what of a damaged one goes into a new one."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pyarrow as pa

from mystocks_ingest.errors import ConfigError
from mystocks_ingest.logs import get
from mystocks_ingest.spool.salvage import salvaged

log = get("spool")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS record (
    id INTEGER PRIMARY KEY AUTOINCREMENT, target TEXT NOT NULL, at TEXT NOT NULL, rows INTEGER NOT NULL,
    checksum BLOB NOT NULL, body BLOB NOT NULL, until INTEGER
);
CREATE INDEX IF NOT EXISTS record_of_target ON record (target, id);
CREATE TABLE IF NOT EXISTS quarantine (
    id INTEGER PRIMARY KEY AUTOINCREMENT, target TEXT, at TEXT, rows INTEGER, reason TEXT NOT NULL, body BLOB
);
"""
SUFFIXES = ("", "-wal", "-shm")
_INCREMENTAL = 2
_CHECK_SECONDS = 1.0  # of the start
_OPTIONS = pa.ipc.IpcWriteOptions(compression="lz4")


def opened(path: Path) -> sqlite3.Connection:
    """The file, this process's alone. Raises ConfigError where that cannot be, DatabaseError where it is damaged."""
    try:
        file = sqlite3.connect(path, check_same_thread=False, timeout=0)
    except sqlite3.OperationalError as exc:
        raise _unopened(path, exc) from exc
    try:
        file.execute("PRAGMA locking_mode = EXCLUSIVE")
        if file.execute("PRAGMA auto_vacuum").fetchone() != (_INCREMENTAL,):  # to say it again would be a write
            file.execute("PRAGMA auto_vacuum = INCREMENTAL")
        file.execute("PRAGMA journal_mode = WAL")
        file.execute("PRAGMA synchronous = FULL")
        file.execute("PRAGMA secure_delete = OFF")  # some builds write zeros over what goes, twice as much again
        file.executescript(_SCHEMA)
        _require_sound(file)
        if "until" not in [column[1] for column in file.execute("PRAGMA table_info(record)")]:
            file.execute("ALTER TABLE record ADD COLUMN until INTEGER")  # a file of an earlier version
    except sqlite3.OperationalError as exc:
        file.close()
        if "locked" in str(exc):
            raise ConfigError(f"the spool {path} is in use by another process: stop that one first") from exc
        if getattr(exc, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN):
            raise _unopened(path, exc) from exc
        raise
    except BaseException:
        file.close()
        raise
    return file


def mark(file: sqlite3.Connection, word: int) -> None:
    """Note in the file itself whether somebody has it open, so that a log that is gone is missed."""
    try:
        file.execute(f"PRAGMA user_version = {word}")
        file.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    except sqlite3.DatabaseError as exc:  # a full disk, or a damaged file that is being closed
        log.info("spool.unmarked", reason=str(exc))


def _unopened(path: Path, exc: Exception) -> ConfigError:
    if path.exists():
        return ConfigError(
            f"the spool {path} cannot be opened ({exc}): give it and its folder to this user, to write to"
        )
    return ConfigError(
        f"the spool {path} cannot be opened ({exc}): set MYSTOCKS_STATE_DIR to a folder this user may write to"
    )


def carried_over(damaged: Path, mended: Path) -> tuple[int, int]:
    """How many records of ``damaged`` are in the new file ``mended``, and how many in its quarantine."""
    saved = lost = 0
    file = sqlite3.connect(mended)
    try:
        file.execute("PRAGMA auto_vacuum = INCREMENTAL")
        file.execute("PRAGMA synchronous = FULL")
        file.executescript(_SCHEMA)
        with file:
            for found in salvaged(damaged):
                if found.sound:
                    file.execute(
                        "INSERT INTO record (target, at, rows, checksum, body) VALUES (?, ?, ?, ?, ?)",
                        (found.target, found.at, found.rows, found.checksum, found.body),
                    )
                    saved += 1
                else:
                    reason = "its bytes do not bear its checksum" if found.body is not None else "it cannot be read"
                    file.execute(
                        "INSERT INTO quarantine (target, at, rows, reason, body) VALUES (?, ?, ?, ?, ?)",
                        (found.target, found.at, found.rows, reason, found.body),
                    )
                    lost += 1
    finally:
        file.close()
    return saved, lost


def bytes_of(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def remove(path: Path) -> None:
    for suffix in SUFFIXES:
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def shrink(file: sqlite3.Connection) -> None:
    """Give the room of a file that holds nothing back to the disk; ``execute`` would free a single page."""
    try:
        file.executescript("PRAGMA incremental_vacuum")
    except sqlite3.OperationalError as exc:
        log.warning("spool.unshrunk", reason=str(exc))


def _require_sound(file: sqlite3.Connection) -> None:
    """Looked at for a moment, which does for a small file; of a large one each record proves itself when it is read."""
    timer = threading.Timer(_CHECK_SECONDS, file.interrupt)
    timer.start()
    try:
        (found,) = file.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.OperationalError as exc:
        if getattr(exc, "sqlite_errorcode", 0) != sqlite3.SQLITE_INTERRUPT:
            raise
        log.info("spool.unchecked", seconds=_CHECK_SECONDS)
        return
    finally:
        timer.cancel()
        timer.join()  # from here on it interrupts nothing
    if found != "ok":
        raise sqlite3.DatabaseError(f"malformed: {found}")


def is_full(exc: sqlite3.DatabaseError) -> bool:
    return getattr(exc, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL


def packed(rows: pa.RecordBatch) -> bytes:
    out = pa.BufferOutputStream()
    with pa.ipc.new_stream(out, rows.schema, options=_OPTIONS) as writer:
        writer.write_batch(rows)
    packed: bytes = out.getvalue().to_pybytes()
    return packed


def unpacked(body: bytes) -> pa.RecordBatch:
    with pa.ipc.open_stream(body) as reader:
        return reader.read_next_batch()
