"""The embedded store: one DuckDB file, one connection, one thread.

DuckDB lets one process open the file for writing and shuts every other one out. All work therefore goes through
one connection on one dedicated thread, and a second process gets StoreBusy with the owner's pid.

Tables have no primary key: MERGE on a table without an index is four times faster, and uniqueness follows from
one writer that merges by key. A batch's own range of keys bounds what MERGE has to look at, so the cost of a batch
does not grow with the table as long as rows arrive roughly in the order of one key column.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from mystocks_ingest.errors import ConfigError, IngestError, Rejected, StoreBusy, Unavailable, UnsafeChange
from mystocks_ingest.logs import get
from mystocks_ingest.ports import Query
from mystocks_ingest.schema.tables import Column, Table, writable

FILE = "mystocks.duckdb"
_MEMORY = "160MB"  # DuckDB's share of a parent that stays under 400 MB
_THREADS = min(2, os.cpu_count() or 1)

T = TypeVar("T")
Connection = duckdb.DuckDBPyConnection
log = get("embedded")


class EmbeddedDatabase:
    """The open store file under ``state_dir``. ``async with EmbeddedDatabase(dir) as db: await db.run(fn)``."""

    def __init__(self, state_dir: Path, *, memory_limit: str = _MEMORY) -> None:
        self.path = state_dir / FILE
        self._memory = memory_limit
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="embedded")
        self._connection: Connection | None = None

    async def __aenter__(self) -> Self:
        try:
            await self._call(self._open)
        except BaseException:
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

    async def run(self, work: Callable[[Connection], T]) -> T:
        """``work(connection)`` on the store's thread, in one transaction: all of it is durable on return, or none.

        Raises Rejected (what is in the rows) or Unavailable (disk full, file damaged), never DuckDB's own errors.
        Cancelling the caller does not interrupt a transaction that has begun.
        """
        return await self._call(lambda: self._transaction(work))

    async def _call(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _transaction(self, work: Callable[[Connection], T]) -> T:
        try:
            connection = self._connection or self._open()
            connection.begin()
            result = work(connection)
            connection.commit()
        except duckdb.Error as exc:
            self._abandon(exc)
            error = _translated(exc, self.path)
            if error is exc:
                raise
            raise error from exc
        except BaseException:
            self._abandon(None)
            raise
        return result

    def _abandon(self, error: duckdb.Error | None) -> None:
        """Roll back; after a fatal error DuckDB refuses all further work, so the file is opened anew next time."""
        if self._connection is None:
            return
        try:
            self._connection.rollback()
        except duckdb.TransactionException:
            return  # none was open: BEGIN itself failed, or COMMIT rolled back
        except duckdb.Error as exc:
            log.warning("store.reopened", reason=_sentence(error or exc))
            self._connection.close()
            self._connection = None

    def _open(self) -> Connection:
        _usable(self.path.parent)
        scratch = self.path.parent / "tmp"
        try:
            connection = duckdb.connect(
                str(self.path),
                config={
                    "memory_limit": self._memory,
                    "threads": str(_THREADS),
                    "temp_directory": str(scratch),
                    "preserve_insertion_order": "false",
                    "autoinstall_known_extensions": "false",
                    "autoload_known_extensions": "false",
                },
            )
        except duckdb.Error as exc:
            raise _unopened(exc, self.path) from exc
        connection.execute("SET TimeZone = 'Asia/Shanghai'")
        self._connection = connection
        return connection

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class EmbeddedSink:
    """Every table in the embedded database. Open with ``await EmbeddedSink.opened(db, tables)``."""

    name = "embedded"

    def __init__(self, database: EmbeddedDatabase) -> None:
        self._database = database

    @classmethod
    async def opened(cls, database: EmbeddedDatabase, tables: Iterable[Table]) -> Self:
        """A sink whose tables exist as described. Raises UnsafeChange when a stored one differs otherwise."""
        wanted = tuple(tables)
        await database.run(lambda c: _ensure_all(c, wanted))
        return cls(database)

    async def write(self, table: Table, rows: pa.RecordBatch) -> None:
        """Upsert by key; the rows hold each key once. Durable on return."""
        writable(table)
        if rows.num_rows:
            await self._database.run(lambda c: _merge(c, table, rows))

    async def read(self, table: Table, query: Query) -> pa.Table:
        """Rows in key order, in the table's Arrow schema."""
        return await self._database.run(lambda c: _select(c, table, query))

    async def ping(self) -> None:
        await self._database.run(lambda c: c.execute("SELECT 1").fetchone())


def quoted(name: str) -> str:
    """An identifier in DuckDB's quotes."""
    return '"' + name.replace('"', '""') + '"'


def sql_type(column: Column) -> str:
    """DuckDB's type for a column: the canonical one where there is one, so that no digit is lost."""
    kind = column.arrow
    if pa.types.is_timestamp(kind):
        return "TIMESTAMP WITH TIME ZONE" if kind.tz is not None else "TIMESTAMP"
    if pa.types.is_decimal(kind):
        return f"DECIMAL({kind.precision},{kind.scale})"
    return _SQL_TYPES[kind]


_SQL_TYPES = {
    pa.string(): "VARCHAR",
    pa.bool_(): "BOOLEAN",
    pa.int8(): "TINYINT",
    pa.int16(): "SMALLINT",
    pa.int32(): "INTEGER",
    pa.int64(): "BIGINT",
    pa.float64(): "DOUBLE",
    pa.date32(): "DATE",
    pa.binary(): "BLOB",
}


def _ensure_all(connection: Connection, tables: Iterable[Table]) -> None:
    for table in tables:
        ensure(connection, table)


def ensure(connection: Connection, table: Table) -> None:
    """Create ``table``, or add the columns it has gained. Raises UnsafeChange for every other difference."""
    found = dict(
        connection.execute(
            "SELECT column_name, data_type FROM duckdb_columns() WHERE schema_name = 'main' AND table_name = ?",
            [table.name],
        ).fetchall()
    )
    name = quoted(table.name)
    if not found:
        columns = ", ".join(f"{quoted(c.name)} {sql_type(c)}{'' if c.nullable else ' NOT NULL'}" for c in table.columns)
        connection.execute(f"CREATE TABLE {name} ({columns})")
        return
    wanted = {c.name: c for c in table.columns}
    for column in table.columns:
        if column.name in found:
            if found[column.name] != sql_type(column):
                raise UnsafeChange(
                    f"{table.where}: column {column.name} of table {table.name} is stored as {found[column.name]} and "
                    f"the file now wants {sql_type(column)}: give the column another name, or move the table's data"
                )
            continue
        if not column.nullable:
            raise UnsafeChange(
                f"{table.where}: table {table.name} holds rows and cannot gain column {column.name}, which may not be "
                f"null: let it be null"
            )
        connection.execute(f"ALTER TABLE {name} ADD COLUMN {quoted(column.name)} {sql_type(column)}")
        log.info("table.widened", table=table.name, column=column.name)
    for gone in found.keys() - wanted.keys():
        log.info("column.kept", table=table.name, column=gone)  # dropped from the file, never from the store


def _merge(connection: Connection, table: Table, rows: pa.RecordBatch) -> None:
    names = [c.name for c in table.columns if c.name in rows.schema.names]
    columns = ", ".join(quoted(n) for n in names)
    name = quoted(table.name)
    within, bounds = _range(table, rows)
    connection.register("incoming", rows)
    try:  # names in these statements come from the validated YAML and are quoted; values are bound
        held = connection.execute(f"SELECT 1 FROM {name} AS t WHERE {within} LIMIT 1", bounds).fetchone()  # noqa: S608 - as above
        if held is None:
            connection.execute(f"INSERT INTO {name} ({columns}) SELECT {columns} FROM incoming")  # noqa: S608 - as above
            return
        same = " AND ".join(f"t.{quoted(k)} = s.{quoted(k)}" for k in table.key)
        changed = ", ".join(f"{quoted(n)} = s.{quoted(n)}" for n in names if n not in table.key)
        given = ", ".join(f"s.{quoted(n)}" for n in names)
        update = f"WHEN MATCHED THEN UPDATE SET {changed}" if changed else "WHEN MATCHED THEN DO NOTHING"
        connection.execute(
            f"MERGE INTO {name} AS t USING incoming AS s ON {same} AND {within} "  # noqa: S608 - as above
            f"{update} WHEN NOT MATCHED THEN INSERT ({columns}) VALUES ({given})",
            bounds,
        )
    finally:
        connection.unregister("incoming")


def _range(table: Table, rows: pa.RecordBatch) -> tuple[str, list[object]]:
    """The condition that bounds the table's rows by the batch's least and greatest key values, and its values."""
    bounds: list[object] = []
    terms = []
    for key in table.key:
        span = pc.min_max(rows.column(key))
        if not span["min"].is_valid:
            raise Rejected(f"{table.name}: {key} is null, and a key cannot be")
        bounds += [span["min"].as_py(), span["max"].as_py()]
        terms.append(f"t.{quoted(key)} BETWEEN ? AND ?")
    return " AND ".join(terms), bounds


def _select(connection: Connection, table: Table, query: Query) -> pa.Table:
    known = [c.name for c in table.columns]
    unknown = [n for n in query.columns if n not in known]
    if unknown:
        raise ConfigError(f"table {table.name} has no column {', '.join(unknown)}; it has {', '.join(known)}")
    names = query.columns or tuple(known)
    terms: list[str] = []
    values: list[object] = []
    if query.symbols:
        terms.append("symbol IN (SELECT unnest(?))")
        values.append(list(query.symbols))
    if query.window is not None and table.time_column is not None:
        moment = pa.types.is_timestamp(table.schema.field(table.time_column).type)
        bound = "CAST(? AS DATE)::TIMESTAMP WITH TIME ZONE" if moment else "?"
        time = quoted(table.time_column)
        terms.append(f"{time} >= {bound} AND {time} < {bound}")
        values += [query.window.start, query.window.end]
    where = f"WHERE {' AND '.join(terms)}" if terms else ""
    order = f"ORDER BY {', '.join(quoted(k) for k in table.key)}" if table.key else ""
    columns = ", ".join(quoted(n) for n in names)
    statement = f"SELECT {columns} FROM {quoted(table.name)} {where} {order}"  # noqa: S608 - names quoted, values bound
    found: pa.Table = connection.sql(statement, params=values).to_arrow_table()
    return found.cast(pa.schema([pa.field(n, table.schema.field(n).type) for n in names]))


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


def _sentence(exc: duckdb.Error) -> str:
    """The first line of DuckDB's message, without its class and without its advice."""
    return str(exc).splitlines()[0].removeprefix("IO Error: ")


def _unopened(exc: duckdb.Error, path: Path) -> IngestError:
    text = str(exc)
    if "lock" in text.lower():
        found = re.search(r"PID (\d+)", text)
        owner = int(found[1]) if found else None
        who = f"process {owner}" if owner is not None else "another process"
        return StoreBusy(f"the store {path} is in use by {who}: wait until it has ended, or stop it", owner_pid=owner)
    if isinstance(exc, duckdb.ConnectionException):
        return StoreBusy(f"the store {path} is already open in this process", owner_pid=os.getpid())
    if "No space left" in text or isinstance(exc, duckdb.OutOfMemoryException):
        return Unavailable(f"the store {path} cannot be opened: the disk is full")
    if isinstance(exc, duckdb.PermissionException) or "Permission denied" in text or "Read-only" in text:
        return ConfigError(f"the store {path} cannot be written to: give this user the right to write it")
    return ConfigError(
        f"the store {path} cannot be read ({_sentence(exc)}): restore it from a backup, or move it away to start anew"
    )


_ROWS_AT_FAULT = (duckdb.DataError, duckdb.IntegrityError, duckdb.InvalidInputException)


def _translated(exc: duckdb.Error, path: Path) -> Exception:
    if isinstance(exc, _ROWS_AT_FAULT):
        return Rejected(_sentence(exc))
    if isinstance(exc, duckdb.ProgrammingError):
        return exc  # a statement of ours is wrong: no row and no disk is to blame
    if "No space left" in str(exc) or "disk is full" in str(exc):
        return Unavailable(f"the disk of the store {path} is full: free space, then run the same command again")
    return Unavailable(f"the store {path} cannot take rows: {_sentence(exc)}")
