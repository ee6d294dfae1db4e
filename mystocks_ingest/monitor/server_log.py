"""The monitor log in MySQL or MariaDB: the database ``db_monitor``, which dashboards and the users' own queries read.

A database that is there already, from another program that knew the same four tables, is taken as it is: tables and
columns that are missing are made, ENUMs gain the values they lack, and nothing is ever taken away.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import Any, Protocol, TypeVar

from mystocks_ingest.errors import ConfigError
from mystocks_ingest.monitor.entries import Cell, Entry
from mystocks_ingest.monitor.questions import Question
from mystocks_ingest.monitor.tables import (
    BY_NAME,
    COLUMNS,
    CREATION,
    DATABASE,
    ENTRY,
    TABLES,
    History,
    LogColumn,
    LogTable,
)

T = TypeVar("T")


class Connection(Protocol):
    """What a statement needs: it is sent, and values in it are escaped."""

    async def run(self, statement: str) -> Sequence[tuple[object, ...]]: ...
    async def transact(self, statement: str) -> None: ...
    async def commit(self) -> object: ...
    def escape(self, obj: Any) -> str: ...


class Server(Protocol):
    """What the log needs of the server: repeatable work on a connection whose clock is UTC, bounded in time."""

    async def run(self, work: Callable[[Any], Awaitable[T]], *, seconds: float | None = None) -> T: ...


class ServerLog:
    """log.Store on a MySQL or MariaDB server; ``database``: in place of ``db_monitor``."""

    def __init__(self, server: Server, database: str = DATABASE) -> None:
        self._server = server
        self._database = database

    @property
    def name(self) -> str:
        return f"MySQL's {self._database}"

    async def prepare(self) -> list[str]:
        """Make what is missing; the names of the tables that were. Raises ConfigError, Unavailable."""
        try:
            return await self._server.run(self._prepare)
        except ConfigError as exc:
            raise ConfigError(
                f"the monitor log's database {self._database} cannot be made ready ({exc}); as an administrator run "
                f"CREATE DATABASE `{self._database}` CHARACTER SET utf8mb4; GRANT ALL ON `{self._database}`.* TO the "
                "user of MYSQL_USER"
            ) from exc

    async def write(self, entries: Sequence[Entry]) -> None:
        """All in one transaction, each once. Raises Rejected, Unavailable, ConfigError."""
        newest = {e.id: e for e in sorted(entries, key=lambda e: e.revision)}
        await self._server.run(partial(self._write, newest))

    async def ask(self, question: Question, values: Mapping[str, object]) -> list[dict[str, Any]]:
        """The answer's rows; moments in UTC."""

        async def work(wire: Connection) -> Sequence[tuple[object, ...]]:
            text = question.text.format(log=f"`{self._database}`")
            return await wire.run(re.sub(r"\$(\w+)", lambda m: wire.escape(_value(values[m[1]])), text))

        return [dict(zip(question.columns, map(_read, row), strict=True)) for row in await self._server.run(work)]

    async def counts(self) -> dict[str, int]:
        """Rows of each table that is there."""

        async def work(wire: Connection) -> dict[str, int]:
            there = await self._columns(wire)
            counts = {}
            for table in TABLES:
                if table.name in there:
                    ((number,),) = await wire.run(f"SELECT COUNT(*) FROM {self._place(table.name)}")  # noqa: S608 - constant
                    counts[table.name] = int(str(number))
            return counts

        return await self._server.run(work)

    async def drop(self) -> None:
        """Drop the log's own tables; the database and whatever else is in it stay."""
        names = ", ".join(self._place(name) for name in (ENTRY, *(t.name for t in reversed(TABLES))))
        await self._server.run(lambda wire: wire.run(f"DROP TABLE IF EXISTS {names}"))

    async def prune(self, history: History, *, before: datetime, whole: bool, limit: int) -> int:
        """As MonitorLog.prune; all in one transaction. Rows that another program wrote into these tables stay."""

        async def work(wire: Connection) -> int:
            table, entry, name = self._place(history.table.name), self._place(ENTRY), wire.escape(history.table.name)
            spare = f" AND NOT ({history.lasting})" if history.lasting and not whole else ""
            old = await wire.run(
                f"SELECT o.id FROM {table} AS o JOIN {entry} AS e ON e.log_table = {name} AND e.row_id = o.id "  # noqa: S608
                f"WHERE {history.moment} < {wire.escape(_value(before))}{spare} ORDER BY {history.moment} LIMIT {limit}"
            )
            if not old:
                return 0
            ids = ", ".join(str(number) for (number,) in old)
            await wire.transact("BEGIN")
            if history.table is CREATION:
                await wire.run(f"DELETE FROM {self._place(COLUMNS.name)} WHERE table_log_id IN ({ids})")  # noqa: S608
            await wire.run(f"DELETE FROM {entry} WHERE log_table = {name} AND row_id IN ({ids})")  # noqa: S608
            await wire.run(f"DELETE FROM {table} WHERE id IN ({ids})")  # noqa: S608
            await wire.commit()
            return len(old)

        return await self._server.run(work)

    def _place(self, table: str) -> str:
        return f"`{self._database}`.`{table}`"

    async def _columns(self, wire: Connection) -> dict[str, dict[str, str]]:
        """Types of the columns that are there, by table."""
        rows = await wire.run(
            "SELECT table_name, column_name, column_type FROM information_schema.columns "  # noqa: S608 - escaped
            f"WHERE table_schema = {wire.escape(self._database)}"
        )
        found: dict[str, dict[str, str]] = {}
        for table, column, kind in rows:
            found.setdefault(_word(table), {})[_word(column)] = _word(kind)
        return found

    async def _prepare(self, wire: Connection) -> list[str]:
        there = await self._columns(wire)
        if not there:
            known = await wire.run(
                f"SELECT 1 FROM information_schema.schemata WHERE schema_name = {wire.escape(self._database)}"  # noqa: S608
            )
            if not known:
                await wire.run(f"CREATE DATABASE IF NOT EXISTS `{self._database}` CHARACTER SET utf8mb4")
        made = []
        for table in TABLES:
            if table.name in there:
                await self._complete(wire, table, there[table.name])
                continue
            columns = [f"{c.name} {c.definition}" for c in table.columns]
            rest = [line.replace("REFERENCES ", f"REFERENCES `{self._database}`.") for line in table.rest]
            await wire.run(
                f"CREATE TABLE IF NOT EXISTS {self._place(table.name)} (\n  id INT AUTO_INCREMENT PRIMARY KEY,\n  "
                + ",\n  ".join([*columns, *rest])
                + "\n) ENGINE = InnoDB DEFAULT CHARACTER SET = utf8mb4"
            )
            made.append(table.name)
        if ENTRY not in there:
            await wire.run(
                f"CREATE TABLE IF NOT EXISTS {self._place(ENTRY)} (\n"
                "  entry_id VARCHAR(190) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL PRIMARY KEY,\n"
                "  log_table VARCHAR(64) NOT NULL,\n  row_id INT NOT NULL,\n  revision BIGINT NOT NULL,\n"
                "  KEY (log_table, row_id)\n) ENGINE = InnoDB DEFAULT CHARACTER SET = utf8mb4"
            )
        return made

    async def _complete(self, wire: Connection, table: LogTable, there: Mapping[str, str]) -> None:
        for column in table.columns:
            if column.name not in there:
                await wire.run(f"ALTER TABLE {self._place(table.name)} ADD COLUMN {column.name} {column.definition}")
            elif column.choices:
                has = tuple(re.findall(r"'([^']*)'", there[column.name]))
                lacks = [choice for choice in column.choices if choice not in has]
                if lacks and there[column.name].lower().startswith("enum"):
                    values = ", ".join(f"'{choice}'" for choice in (*has, *lacks))
                    await wire.run(f"ALTER TABLE {self._place(table.name)} MODIFY COLUMN {column.name} ENUM({values})")

    async def _write(self, newest: Mapping[str, Entry], wire: Connection) -> None:
        await wire.transact("BEGIN")
        ids = ", ".join(wire.escape(ident) for ident in newest)
        rows = await wire.run(
            f"SELECT entry_id, row_id, revision FROM {self._place(ENTRY)} WHERE entry_id IN ({ids}) FOR UPDATE"  # noqa: S608
        )
        known = {_word(ident): (int(str(row)), int(str(revision))) for ident, row, revision in rows}
        for entry in newest.values():
            if entry.id not in known:
                await self._insert(wire, entry)
            elif known[entry.id][1] < entry.revision:
                await self._update(wire, entry, known[entry.id][0])
        await wire.commit()

    async def _insert(self, wire: Connection, entry: Entry) -> None:
        table = BY_NAME[entry.table]
        await wire.run(self._insertion(wire, table, [entry.values]))
        ((row,),) = await wire.run("SELECT LAST_INSERT_ID()")
        await wire.run(
            f"INSERT INTO {self._place(ENTRY)} VALUES "  # noqa: S608 - escaped
            f"({wire.escape(entry.id)}, {wire.escape(entry.table)}, {row}, {entry.revision})"
        )
        if entry.parts:
            parts = [{**part, "table_log_id": int(str(row))} for part in entry.parts]
            await wire.run(self._insertion(wire, COLUMNS, parts))

    async def _update(self, wire: Connection, entry: Entry, row: int) -> None:
        sets = ", ".join(f"{c.name} = {_literal(wire, c, entry.values)}" for c in BY_NAME[entry.table].columns)
        await wire.run(f"UPDATE {self._place(entry.table)} SET {sets} WHERE id = {row}")  # noqa: S608 - escaped
        await wire.run(
            f"UPDATE {self._place(ENTRY)} SET revision = {entry.revision} WHERE entry_id = {wire.escape(entry.id)}"  # noqa: S608
        )

    def _insertion(self, wire: Connection, table: LogTable, rows: Sequence[Mapping[str, Cell]]) -> str:
        names = ", ".join(c.name for c in table.columns)
        tuples = ", ".join("(" + ", ".join(_literal(wire, c, row) for c in table.columns) + ")" for row in rows)
        return f"INSERT INTO {self._place(table.name)} ({names}) VALUES {tuples}"  # noqa: S608 - escaped


def _literal(wire: Connection, column: LogColumn, row: Mapping[str, Cell]) -> str:
    value = row.get(column.name)
    if value is not None and column.kind == "moment":
        return wire.escape(_value(datetime.fromisoformat(str(value))))
    return wire.escape(value)


def _value(value: object) -> object:
    """Moments as the session's clock, which is UTC, in whole seconds: all that a TIMESTAMP keeps."""
    return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S") if isinstance(value, datetime) else value


def _read(value: object) -> object:
    match value:
        case datetime():
            return value.replace(tzinfo=UTC)
        case Decimal():
            return int(value)
        case bytes():
            return value.decode()
    return value


def _word(value: object) -> str:
    """MySQL 8's catalogue gives some columns as bytes."""
    return value.decode() if isinstance(value, bytes) else str(value)
