"""Tables in the dialect of MySQL and MariaDB: the structure they will show, and the statements of each change. Pure.

The server makes a statement whole or not at all, and a change is one statement (or two of which the first is a step on
the way), so that after a kill a new plan continues.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import assert_never

from mystocks_ingest.errors import UnsafeChange
from mystocks_ingest.schema.changes import (
    AddColumn,
    AddIndex,
    Change,
    ChangeColumn,
    ChangeKey,
    CreateDatabase,
    CreateTable,
    DropColumn,
    DropIndex,
    DropTable,
    SetComment,
    SetOption,
)
from mystocks_ingest.schema.diff import Fit
from mystocks_ingest.schema.structure import ColumnShape, IndexShape, TableShape
from mystocks_ingest.schema.tables import Column, Index, Moment, Table
from mystocks_ingest.sinks.mysql.ddl import CHARSET, ENGINE, Server, literal, quoted
from mystocks_ingest.sinks.mysql.defaults import meant, spelled
from mystocks_ingest.sinks.mysql.limits import obstacles, refusals
from mystocks_ingest.sinks.mysql.types import BOOLEAN, Kind, fit, type_of, values

_OWN_VALUE = re.compile(r"^\(.*\b(?:uuid|uuid_short|rand|random_bytes|sysdate|user|current_user|connection_id)\(")
_PART = re.compile(r"(?P<name>.+?)(?P<prefix> ?\(\d+\))?(?P<order>(?: +(?:ASC|DESC))?)", re.IGNORECASE)


@dataclass(frozen=True)
class MySQLDialect:
    """schema.diff.Dialect of one server. ``database``: in place of those that tables name (MYSQL_DATABASE)."""

    server: Server = field(default_factory=Server)
    database: str | None = None

    def shape(self, table: Table) -> TableShape:
        """What the catalogue will show; DESC is left out where the server forgets it."""
        columns = tuple(_column(c, in_key=c.name in table.key) for c in table.columns)
        indexes: dict[tuple[tuple[str, ...], bool], IndexShape] = {}
        for index in table.indexes:
            shape = IndexShape(index.name, tuple(self._part(c) for c in index.columns), index.unique)
            if shape.columns == table.key:
                continue  # the key is a unique index already
            indexes.setdefault((shape.columns, shape.unique), shape)
        return TableShape(
            self.server.name(self.database or table.database_name),
            self.server.name(table.name),
            columns,
            table.key,
            tuple(indexes.values()),
            table.comment,
            (("engine", ENGINE), ("collation", self.server.collation)),
        )

    def fit(self, before: str, after: str) -> Fit:
        return fit(before, after)

    def hazard(self, change: Change) -> str:
        refused = next(refusals(change), "") or next(obstacles(change), "")
        if refused:
            return refused
        match change:
            case ChangeColumn(before=before, after=after) if after.numbered and not before.numbered:
                return "a row numbered 0 would get another number"
            case ChangeColumn(before=before, after=after) if Kind.of(before.type).word != Kind.of(after.type).word and (
                Kind.of(before.type).word == "timestamp"
            ):
                return "its moments would become wall clocks of UTC, whatever clock its readers go by"
            case AddColumn(column=column) if self._late(column) and not column.nullable:
                return "MySQL computes no value for the rows that are there: let it be null"
            case AddColumn(column=column) if column.numbered:
                return "the rows that are there would be numbered in any order"
            case SetOption(option="engine", before=before) if before not in (None, "MyISAM", "Aria"):
                return f"somebody chose {before} for it"
            case _:
                return ""

    def ddl(self, change: Change) -> list[str]:
        refused = next(refusals(change), "")
        if refused:
            raise UnsafeChange(f"{change.table or ''}: {change.words}: {refused}")
        if isinstance(change, AddColumn) and self._late(change.column):
            plain = replace(change, column=replace(change.column, nullable=True, default=None))
            return [self._statement(plain), self._statement(ChangeColumn(change.table, plain.column, change.column))]
        return [self._statement(change)]

    def table(self, shape: TableShape) -> Table:
        indexes = tuple(Index(i.name, i.columns, i.unique) for i in shape.indexes)
        columns = tuple(_written(c) for c in shape.columns)
        return Table(
            shape.name, self.server.kind, shape.database, columns, shape.key, comment=shape.comment, indexes=indexes
        )

    def _statement(self, change: Change) -> str:
        if isinstance(change, CreateDatabase):
            return (
                f"CREATE DATABASE IF NOT EXISTS {quoted(change.database)} "
                f"CHARACTER SET {CHARSET} COLLATE {self.server.collation}"
            )
        table = change.table
        alter = f"ALTER TABLE {_place(table)}"
        match change:
            case CreateTable():
                return self._created(table)
            case DropTable():
                return f"DROP TABLE IF EXISTS {_place(table)}"
            case AddColumn(column=column):
                return f"{alter} ADD COLUMN {self._definition(column, explicit=True)}"
            case DropColumn(column=column):
                return f"{alter} DROP COLUMN {quoted(column.name)}"
            case ChangeColumn(after=after):
                return f"{alter} MODIFY COLUMN {self._definition(after, explicit=True)}"
            case ChangeKey(before=before, after=after):
                steps = ["DROP PRIMARY KEY"] if before else []
                steps += [f"ADD PRIMARY KEY ({_parts(after)})"] if after else []
                return f"{alter} {', '.join(steps)}"
            case AddIndex(index=index):
                return f"{alter} ADD {_index(index)}"
            case DropIndex(index=index):
                return f"{alter} DROP INDEX {quoted(index.name)}"
            case SetComment():
                return f"{alter} COMMENT = {literal(table.comment)}"
            case SetOption(option="collation", after=collation):  # of columns to come; each that is there says its own
                return f"{alter} DEFAULT CHARACTER SET {CHARSET} COLLATE {collation}"
            case SetOption(after=engine):
                return f"{alter} ENGINE = {engine}"
            case _:
                assert_never(change)

    def _late(self, column: ColumnShape) -> bool:
        """Whether MySQL takes the default only once the column is there: each row's value would be another."""
        return not self.server.mariadb and _OWN_VALUE.search(column.default or "") is not None

    def _created(self, table: TableShape) -> str:
        lines = [self._definition(column) for column in table.columns]
        if table.key:
            lines.append(f"PRIMARY KEY ({_parts(table.key)})")
        lines += [_index(index) for index in table.indexes]
        comment = f" COMMENT = {literal(table.comment)}" if table.comment else ""
        return (
            f"CREATE TABLE {_place(table)} (\n  " + ",\n  ".join(lines) + f"\n) ENGINE = {ENGINE} ROW_FORMAT = DYNAMIC "
            f"DEFAULT CHARACTER SET = {CHARSET} COLLATE = {self.server.collation}{comment}"
        )

    def _definition(self, column: ColumnShape, *, explicit: bool = False) -> str:
        """The whole of a column. ``explicit``: with its collation, for the table's own may be another."""
        kind = Kind.of(column.type)
        parts = [quoted(column.name), column.type]
        if explicit and kind.text:
            parts.append(f"CHARACTER SET {CHARSET} COLLATE {self.server.collation}")
        parts.append("NULL" if column.nullable else "NOT NULL")
        if column.numbered:
            parts.append("AUTO_INCREMENT")
        if column.default is not None:
            bare = kind.beside and not column.default.startswith("(")  # MySQL gives these no default but an expression
            parts.append(f"DEFAULT ({column.default})" if bare else f"DEFAULT {column.default}")
        if column.touched:
            parts.append(f"ON UPDATE {spelled(column.type, Moment.NOW)}")
        if column.comment:
            parts.append(f"COMMENT {literal(column.comment)}")
        return " ".join(parts)

    def _part(self, text: str) -> str:
        """A column of an index, as the catalogue will show it."""
        name, prefix, order = _taken_apart(text)
        return name + prefix + (" DESC" if order == "DESC" and self.server.descends else "")


def _column(column: Column, *, in_key: bool) -> ColumnShape:
    kind = type_of(column)
    nullable = column.nullable and not in_key and not column.numbered
    touched = column.touched and Kind.of(kind).word == "datetime"
    default = column.default
    if touched and not nullable and default is None:  # MariaDB would give it the year 0, and refuse every change later
        default = Moment.NOW
    return ColumnShape(
        column.name,
        kind,
        nullable=nullable,
        default=None if column.numbered else spelled(kind, default),
        comment=column.comment,
        numbered=column.numbered,
        touched=touched,
    )


def _written(column: ColumnShape) -> Column:
    """A column of the catalogue in the words of the file. A type the file has no word for keeps the server's."""
    kind = Kind.of(column.type)
    plain = Column(
        column.name,
        kind.word.upper() + (" UNSIGNED" if kind.unsigned and kind.whole else ""),
        nullable=column.nullable,
        default=meant(column.type, column.default),
        comment=column.comment,
        numbered=column.numbered,
        touched=column.touched,
    )
    match kind.word:
        case "enum":
            return replace(plain, values=values(column.type))
        case "decimal":
            return replace(plain, precision=kind.numbers[0], scale=kind.numbers[1])
        case "datetime" | "timestamp":  # a TIMESTAMP of the file is a DATETIME here
            return replace(plain, type="DATETIME", length=kind.length)
        case _ if column.type == BOOLEAN:
            return replace(plain, type="BOOLEAN")
        case _:
            return replace(plain, length=kind.length or None)


def _taken_apart(part: str) -> tuple[str, str, str]:
    """Name, prefix and direction of an index's column."""
    found = _PART.fullmatch(part.strip())
    if found is None:
        return part, "", ""
    return found["name"].strip(), (found["prefix"] or "").strip(), found["order"].strip().upper()


def _parts(columns: tuple[str, ...]) -> str:
    """The columns of an index or a key, quoted."""
    out = []
    for column in columns:
        name, prefix, order = _taken_apart(column)
        out.append(quoted(name) + prefix + (" DESC" if order == "DESC" else ""))
    return ", ".join(out)


def _index(index: IndexShape) -> str:
    return f"{'UNIQUE ' if index.unique else ''}INDEX {quoted(index.name)} ({_parts(index.columns)})"


def _place(table: TableShape) -> str:
    return quoted(table.database, table.name)
