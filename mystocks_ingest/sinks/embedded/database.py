"""The embedded store: one DuckDB file, one connection, one thread.

DuckDB lets one process open the file for writing and shuts every other one out. All work therefore goes through
one connection on one dedicated thread, and a second process gets StoreBusy with the owner's pid.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import duckdb
import pyarrow as pa

from mystocks_ingest.errors import ConfigError, IngestError, Rejected, StoreBusy, Unavailable
from mystocks_ingest.logs import get

FILE = "mystocks.duckdb"
_MEMORY = "96MB"  # DuckDB's share of a parent that stays under 400 MB
_AMPLE_MEMORY = "2GB"  # for one transaction that cannot do with less
_ZONE = "SET TimeZone = 'Asia/Shanghai'"
_THREADS = min(2, os.cpu_count() or 1)

T = TypeVar("T")
Connection = duckdb.DuckDBPyConnection
_Options = dict[str, str | bool | int | float | list[str]]
log = get("embedded")


class _Reader:
    """An answer under way; ``parts`` None: not begun."""

    def __init__(self) -> None:
        self.parts: Iterator[pa.RecordBatch] | None = None


class EmbeddedDatabase:
    """The open store file under ``state_dir``. ``async with EmbeddedDatabase(dir) as db: await db.run(fn)``."""

    def __init__(self, state_dir: Path, *, memory_limit: str = _MEMORY) -> None:
        self.path = state_dir / FILE
        self._memory = memory_limit
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="embedded")
        self._connection: Connection | None = None
        self._readers: dict[_Reader, Connection] = {}  # of answers under way; used on the thread alone
        self._waiting = 0  # calls that were given to the thread and have not ended
        self.structure = asyncio.Lock()  # held while tables are made or changed

    async def __aenter__(self) -> Self:
        try:
            await self._call(self._open)
        except BaseException:
            self._thread.submit(self._close)
            self._thread.shutdown(wait=False)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._call(self._close)
        finally:
            self._thread.shutdown(wait=False)

    async def run(self, work: Callable[[Connection], T], *, incoming: pa.RecordBatch | pa.Table | None = None) -> T:
        """``work(connection)`` on the store's thread, in one transaction: all of it is durable on return, or none.

        Its statements find ``incoming`` under that name. Raises Rejected (what is in the rows), Unavailable (disk
        full) or ConfigError (file damaged) in place of DuckDB's own errors. Cancelling the caller does not
        interrupt a transaction that has begun.
        """
        return await self._call(lambda: self._transaction(work, incoming))

    async def stream(self, statement: str, values: list[object], *, rows: int) -> AsyncGenerator[pa.RecordBatch, None]:
        """What a SELECT gives, as of its beginning, in batches of some ``rows``; other work goes on between two of them.

        Raises as ``run`` does, and Unavailable where the file had to be opened anew meanwhile.
        """
        reader = _Reader()

        def opened() -> None:
            connection = (self._connection or self._open()).cursor()
            self._readers[reader] = connection
            connection.execute(_ZONE)
            reader.parts = connection.sql(statement, params=values).to_arrow_reader(rows)

        def following() -> pa.RecordBatch | None:
            if reader.parts is None:
                opened()
            elif reader not in self._readers:
                raise Unavailable(f"the store {self.path} was opened anew amid a long answer: ask again")
            assert reader.parts is not None  # noqa: S101 - just opened
            try:
                return next(reader.parts, None)
            except (pa.ArrowException, OSError) as exc:  # Arrow's name for whatever DuckDB said
                raise _translated(duckdb.Error(str(exc)), self.path) from exc

        try:
            while (part := await self._call(lambda: self._judged(following))) is not None:
                yield part
        finally:
            if (connection := self._readers.get(reader)) is not None:
                connection.interrupt()  # nobody wants the rows that it may be putting in order
            await asyncio.shield(self._call(lambda: self._left(reader)))

    def _left(self, reader: _Reader) -> None:
        reader.parts = None
        if (connection := self._readers.pop(reader, None)) is not None:
            connection.close()

    @property
    def pool(self) -> tuple[int, int]:
        """1 while its one connection is in use, and 1."""
        return min(self._waiting, 1), 1

    async def _call(self, work: Callable[[], T]) -> T:
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        finally:
            self._waiting -= 1

    def _transaction(self, work: Callable[[Connection], T], incoming: pa.RecordBatch | pa.Table | None) -> T:
        def tried() -> T:
            try:
                return self._attempt(work, incoming)
            except duckdb.OutOfMemoryException as exc:
                if _FULL.search(str(exc)):
                    raise
                with self._ample_memory():
                    return self._attempt(work, incoming)

        return self._judged(tried)

    def _judged(self, work: Callable[[], T]) -> T:
        """``work``, with our errors in place of DuckDB's."""
        try:
            return work()
        except duckdb.Error as exc:
            error = _translated(exc, self.path)
            if error is exc:
                raise
            raise error from exc

    def _attempt(self, work: Callable[[Connection], T], incoming: pa.RecordBatch | pa.Table | None) -> T:
        try:
            connection = self._connection or self._open()
            if incoming is not None:
                connection.register("incoming", incoming)
            connection.begin()
            result = work(connection)
            connection.commit()
        except BaseException as exc:
            self._abandon(exc)
            raise
        finally:
            if incoming is not None and self._connection is not None:
                self._connection.unregister("incoming")
        return result

    @contextmanager
    def _ample_memory(self) -> Iterator[None]:
        """Deleted rows hold 16 KB for each 2,048 rows of the table among which they lie, until a checkpoint.

        A batch scattered over a large table can so need more than the daily allowance; it gets it once.
        """
        connection = self._connection or self._open()
        connection.execute(f"SET memory_limit = '{_AMPLE_MEMORY}'")
        try:
            yield
        finally:
            self._close()  # which writes a checkpoint; the next transaction opens the file with the usual limit

    def _abandon(self, error: BaseException) -> None:
        """Roll back, and open the file anew next time where DuckDB is of no more use.

        After a fatal error it refuses all further work; after one for want of memory it still takes rows for deleted.
        """
        if self._connection is None:
            return
        broken = isinstance(error, duckdb.OutOfMemoryException)
        try:
            self._connection.rollback()
        except duckdb.TransactionException:
            pass  # none was open: BEGIN itself failed, or COMMIT rolled back
        except duckdb.Error:
            broken = True
        if broken:
            log.info("store.reopened", reason=str(error).splitlines()[0])
            self._close()

    def _open(self) -> Connection:
        _usable(self.path.parent)
        scratch = self.path.parent / "tmp"
        settings: _Options = {
            "memory_limit": self._memory,
            "threads": str(_THREADS),
            "temp_directory": str(scratch),
            "preserve_insertion_order": "false",
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
        }
        try:
            connection = _connected(self.path, settings)
        except duckdb.Error as exc:
            raise _unopened(exc, self.path) from exc
        shutil.rmtree(scratch, ignore_errors=True)  # what a killed process left; the file's lock is ours now
        connection.execute(_ZONE)
        connection.execute("SET enable_progress_bar = false")  # it would write into what a command prints
        self._connection = connection
        return connection

    def _close(self) -> None:
        for connection in self._readers.values():  # they would keep the file open, and its settings
            connection.close()
        self._readers.clear()
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _usable(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        probe = directory / ".writable"
        probe.touch()
        probe.unlink()
    except FileExistsError:
        raise ConfigError(f"the state directory {directory} is a file: set MYSTOCKS_STATE_DIR to a folder") from None
    except OSError as exc:
        raise ConfigError(
            f"the state directory {directory} cannot be written to ({exc.strerror}): "
            "set MYSTOCKS_STATE_DIR to a folder this user may write to, on a disk with space"
        ) from exc


def _connected(path: Path, settings: _Options) -> Connection:
    try:
        return duckdb.connect(str(path), config=settings)
    except duckdb.Error:
        if not _unfinished(path):
            raise
        log.warning("store.restarted", path=str(path))
        path.unlink()
        return duckdb.connect(str(path), config=settings)


def _unfinished(path: Path) -> bool:
    """Whether a kill or a full disk ended the very creation of the file: its three headers are not all there."""
    if not path.is_file() or path.with_name(path.name + ".wal").exists():
        return False
    with path.open("rb") as file:
        head = file.read(3 * 4096)
    return len(head) < 3 * 4096 and (not any(head) or head[8:12] == b"DUCK")


def _sentence(exc: duckdb.Error) -> str:
    """The first line of DuckDB's message, without its class."""
    return re.sub(r"^[\w ]*Error: ", "", str(exc).splitlines()[0])


_DAMAGE = re.compile("corrupt|not a valid DuckDB|not read enough bytes|checksum", re.IGNORECASE)
_FULL = re.compile("no space left|disk is full|quota exceeded|max_temp_directory_size|file too large", re.IGNORECASE)
_LOCKED = re.compile(r"\block\b", re.IGNORECASE)


def _damaged(exc: duckdb.Error, path: Path) -> ConfigError:
    return ConfigError(
        f"the store {path} cannot be read ({_sentence(exc)}): restore it from a backup, or move it away to start anew"
    )


def _unopened(exc: duckdb.Error, path: Path) -> IngestError:
    text = str(exc)
    if _LOCKED.search(text):
        found = re.search(r"PID (\d+)", text)
        owner = int(found[1]) if found else None
        who = f"process {owner}" if owner is not None else "another process"
        return StoreBusy(f"the store {path} is in use by {who}: wait until it has ended, or stop it", owner_pid=owner)
    if isinstance(exc, duckdb.ConnectionException):
        return StoreBusy(f"the store {path} is already open in this process", owner_pid=os.getpid())
    if _FULL.search(text):
        return _full(path)
    if isinstance(exc, duckdb.PermissionException) or "Permission denied" in text or "Read-only" in text:
        return ConfigError(f"the store {path} cannot be written to: give this user the right to write it")
    return _damaged(exc, path)


def _full(path: Path) -> Unavailable:
    return Unavailable(f"the disk of the store {path} is full: free space, then run the same command again")


_ROWS_AT_FAULT = (duckdb.DataError, duckdb.IntegrityError, duckdb.InvalidInputException)


def _translated(exc: duckdb.Error, path: Path) -> Exception:
    if isinstance(exc, _ROWS_AT_FAULT):
        return Rejected(_sentence(exc))
    if isinstance(exc, duckdb.ProgrammingError):
        return exc  # a statement of ours is wrong: no row and no disk is to blame
    if _FULL.search(str(exc)):
        return _full(path)
    if _DAMAGE.search(str(exc)):
        return _damaged(exc, path)
    if isinstance(exc, duckdb.OutOfMemoryException):
        return Unavailable(
            f"the store {path} needs more than {_AMPLE_MEMORY} of memory for this: ask for fewer rows at once"
        )
    return Unavailable(f"the store {path} cannot take rows: {_sentence(exc)}")
