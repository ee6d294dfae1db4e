"""What must change so that the structure found becomes the one wanted, and which of it may lose data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from enum import StrEnum
from typing import Protocol, assert_never

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
from mystocks_ingest.schema.structure import TableShape
from mystocks_ingest.schema.tables import Table


class Fit(StrEnum):
    """How the values of one type fit into another."""

    SAME = "same"
    WIDER = "wider"  # every value of the old type is one of the new
    LOSSY = "lossy"  # some values would be changed or refused


class Dialect(Protocol):
    """What is known of one kind of database, pure: no connection."""

    def shape(self, table: Table) -> TableShape:
        """What the catalogue would show once ``table`` stands as the file describes it."""
        ...

    def fit(self, before: str, after: str) -> Fit:
        """Types in the normal spelling of shapes."""
        ...

    def hazard(self, change: Change) -> str:
        """Why this database cannot make the change, or could only by losing data; empty when it safely can.

        Beyond ``diff.hazard``, which holds for all.
        """
        ...

    def ddl(self, change: Change) -> list[str]:
        """The statements. Raises UnsafeChange for what the database cannot do at all, with the remedy."""
        ...

    def table(self, shape: TableShape) -> Table:
        """The shape in the words of the file: the way back of ``shape``, for ``schema export``."""
        ...


def diff(desired: TableShape, actual: TableShape | None) -> list[Change]:
    """The changes in the order in which they can be made. Nothing is dropped but by a change that says so."""
    if actual is None:
        return [CreateTable(desired)]
    wanted = {(i.columns, i.unique): i.name for i in desired.indexes}
    names = set(wanted.values())  # one whose name is wanted for another index has to go, and comes again under its own
    kept = [i for i in actual.indexes if wanted.get((i.columns, i.unique)) == i.name or i.name not in names]
    there = {(i.columns, i.unique) for i in kept}
    gone = [i for i in actual.indexes if i not in kept or (i.columns, i.unique) not in wanted]
    first = [i for i in gone if any(_retyped(name, desired, actual) for name in i.names)]  # a new type may forbid them
    changes: list[Change] = [DropIndex(desired, i) for i in first]
    freed: list[Change] = []  # a column of the key may be null only when it is none any more
    for column in desired.columns:
        found = actual.column(column.name)
        if found is None:
            changes.append(AddColumn(desired, column))
        elif found != column:
            bound = column.name in actual.key and column.nullable and not found.nullable
            held = tuple(
                i for i in actual.indexes if column.name in i.names and (i not in first or i.name not in names)
            )
            (freed if bound else changes).append(ChangeColumn(desired, found, column, held))
    if frozenset(desired.key) != frozenset(actual.key):
        covered = any(i.unique and frozenset(i.columns) == frozenset(desired.key) for i in actual.indexes)
        changes.append(ChangeKey(desired, actual.key, desired.key, covered=covered))
    changes += freed
    taken = {c.name for c in actual.columns} - {c.name for c in desired.columns}
    changes += [DropIndex(desired, i) for i in gone if i not in first]
    changes += [AddIndex(desired, i) for i in desired.indexes if (i.columns, i.unique) not in there]
    changes += [DropColumn(desired, c) for c in actual.columns if c.name in taken]
    if desired.comment != actual.comment:
        changes.append(SetComment(desired, actual.comment))
    before, after = actual.settings, desired.settings
    for option in dict.fromkeys((*after, *before)):
        if before.get(option) != after.get(option):
            changes.append(SetOption(desired, option, before.get(option), after.get(option)))
    return changes


def _retyped(name: str, desired: TableShape, actual: TableShape) -> bool:
    """Whether a column gets another type; one that is counted up needs its index until then."""
    found, column = actual.column(name), desired.column(name)
    return found is not None and column is not None and found.type != column.type and not found.numbered


def hazard(change: Change, dialect: Dialect) -> str:
    """Why the change may lose data or cannot be made, so that it is made only when asked for by name; else empty."""
    return next(_hazards(change, dialect), "") or dialect.hazard(change)


def _hazards(change: Change, dialect: Dialect) -> Iterator[str]:
    match change:
        case DropTable():
            yield "all its rows would be lost"
        case DropColumn():
            yield "its values would be lost"
        case DropIndex(table=table, index=index) if index.name in {i.name for i in table.indexes}:
            pass  # it is made anew under the same name
        case DropIndex():
            yield "it is not in the file, so somebody made it by hand"
        case ChangeKey(before=()):
            pass  # where rows share the new key, the database refuses it and nothing is lost
        case ChangeKey():
            yield "rows that share the new key would be lost, and the table is rebuilt"
        case ChangeColumn(before=before, after=after):
            if before.is_tag != after.is_tag:
                yield "a tag cannot become a column, nor a column a tag: make a new table"
            if dialect.fit(before.type, after.type) is Fit.LOSSY:
                yield f"not every {before.type} fits into {after.type}"
            if before.nullable and not after.nullable:
                yield "rows without a value would be refused"
        case AddColumn(column=column) if not column.nullable and column.default is None and not column.numbered:
            yield "rows that are there would have no value for it: let it be null, or give it a default"
        case AddColumn() | AddIndex() | CreateDatabase() | CreateTable() | SetComment() | SetOption():
            pass
        case _:
            assert_never(change)


def applied(change: Change, actual: TableShape | None) -> TableShape | None:
    """The structure after the change; None when there is no table then."""
    match change:
        case CreateDatabase():
            return actual
        case CreateTable(table=table):
            return table
        case DropTable():
            return None
        case _ if actual is None:
            raise ValueError(f"{change.table} is not there: {change.words}")
        case AddColumn(column=column):
            return replace(actual, columns=(*actual.columns, column))
        case DropColumn(column=column):
            return replace(actual, columns=tuple(c for c in actual.columns if c.name != column.name))
        case ChangeColumn(after=after):
            return replace(actual, columns=tuple(after if c.name == after.name else c for c in actual.columns))
        case ChangeKey(after=key):
            return replace(actual, key=key)
        case AddIndex(index=index):
            return replace(actual, indexes=(*actual.indexes, index))
        case DropIndex(index=index):
            return replace(actual, indexes=tuple(i for i in actual.indexes if i != index))
        case SetComment(table=table):
            return replace(actual, comment=table.comment)
        case SetOption(option=option, after=value):
            kept = {k: v for k, v in actual.options if k != option}
            return replace(actual, options=tuple((kept if value is None else {**kept, option: value}).items()))
        case _:
            assert_never(change)
