"""What the server would refuse, said before it is asked, with the remedy. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence

from mystocks_ingest.schema.changes import (
    AddColumn,
    AddIndex,
    Change,
    ChangeColumn,
    ChangeKey,
    CreateTable,
    SetComment,
)
from mystocks_ingest.schema.structure import ColumnShape, TableShape
from mystocks_ingest.sinks.mysql.ddl import (
    CHARACTER_BYTES,
    COLUMN_COMMENT,
    KEY_BYTES,
    KEY_COLUMNS,
    ROW_BYTES,
    TABLE_COMMENT,
    unquoted,
)
from mystocks_ingest.sinks.mysql.types import LONGEST_VARCHAR, Kind, values


def refusals(change: Change) -> Iterator[str]:
    """Why the server cannot make the change, and what to write in the file instead."""
    match change:
        case CreateTable(table=table):
            yield from _table(table)
        case AddColumn(table=table, column=column) | ChangeColumn(table=table, after=column):
            yield from _column(column)
            yield from _row(table)
            if column.numbered:
                yield from _numbered(table)
            if isinstance(change, ChangeColumn) and change.before.type != column.type:
                yield from _indexed(table, column.name)
        case ChangeKey(table=table, after=key) if key:
            yield from _index("the key", table, key)
        case AddIndex(table=table, index=index):
            yield from _index(f"index {index.name}", table, index.columns)
        case SetComment(table=table):
            yield from _comment(table)
        case _:
            return


def obstacles(change: Change) -> Iterator[str]:
    """What is there beside the file's and keeps the server from the change until it is gone."""
    if not isinstance(change, ChangeColumn) or change.before.type == change.after.type:
        return
    for index in change.held:
        known = all(change.table.column(name) is not None for name in index.names)
        if known and next(_index(f"index {index.name}", change.table, index.columns), ""):
            yield (
                f"index {index.name}, which is there and not in the file, cannot hold a {change.after.type}: have it "
                "dropped by name first"
            )


def _indexed(table: TableShape, name: str) -> Iterator[str]:
    """What the file's own key and indexes with the column would meet."""
    if name in table.key:
        yield from _index("the key", table, table.key)
    for index in table.indexes:
        if name in index.names:
            yield from _index(f"index {index.name}", table, index.columns)


def _table(table: TableShape) -> Iterator[str]:
    for column in table.columns:
        yield from _column(column)
    yield from _row(table)
    yield from _numbered(table)
    if table.key:
        yield from _index("the key", table, table.key)
    for index in table.indexes:
        yield from _index(f"index {index.name}", table, index.columns)
    yield from _comment(table)


def _comment(table: TableShape) -> Iterator[str]:
    if len(table.comment) > TABLE_COMMENT:
        yield f"its comment has {len(table.comment):,} characters, and {TABLE_COMMENT:,} fit: shorten it"


def _column(column: ColumnShape) -> Iterator[str]:
    kind = Kind.of(column.type)
    if len(column.comment) > COLUMN_COMMENT:
        yield (
            f"the comment of column {column.name} has {len(column.comment):,} characters, and {COLUMN_COMMENT:,} fit: "
            "shorten it"
        )
    if kind.word == "varchar" and kind.length > LONGEST_VARCHAR:
        yield f"column {column.name} is longer than the {LONGEST_VARCHAR:,} characters of a VARCHAR: make it LONGTEXT"
    if kind.word == "enum" and not values(column.type):
        yield f"column {column.name} is an ENUM without values: name them, ENUM('a', 'b')"
    if kind.word == "decimal" and len(kind.numbers) > 1 and kind.numbers[1] > 30:
        yield f"column {column.name} has {kind.numbers[1]} digits after the point, and 30 fit: lower its scale"
    if kind.word == "json" and column.default is not None and not _document(column.default):
        yield (
            f"the default of column {column.name} is {column.default}, which is no JSON: write one such as '[]', or none"
        )
    if column.numbered and not kind.whole:
        yield f"AUTO_INCREMENT counts whole numbers, and column {column.name} is {column.type}: make it BIGINT"


def _document(default: str) -> bool:
    """Whether it is one; what an expression gives is known to the server alone, but for a time, which is none."""
    if not default.startswith("'"):
        return default != "(current_timestamp())"
    try:
        json.loads(unquoted(default))
    except ValueError:
        return False
    return True


def _row(table: TableShape) -> Iterator[str]:
    size = sum(Kind.of(c.type).bytes for c in table.columns) + (len(table.columns) + 7) // 8
    if size > ROW_BYTES:
        yield (
            f"a row could take {size:,} bytes, and {ROW_BYTES:,} fit (a character takes {CHARACTER_BYTES}): make its long "
            "columns TEXT"
        )


def _numbered(table: TableShape) -> Iterator[str]:
    counted = [c.name for c in table.columns if c.numbered]
    if len(counted) > 1:
        yield f"{' and '.join(counted)} cannot both be AUTO_INCREMENT: leave it at one of them"
    leading = {i.columns[0] for i in table.indexes} | set(table.key[:1])
    for name in counted:
        if name not in leading:
            yield (
                f"AUTO_INCREMENT column {name} must be the first of the key or of an index: make it the "
                f"`primary_key`, or add an index on it"
            )


def _index(what: str, table: TableShape, columns: Sequence[str]) -> Iterator[str]:
    if len(columns) > KEY_COLUMNS:
        yield f"{what} has {len(columns)} columns, and {KEY_COLUMNS} fit: leave some out"
    total = 0
    for part in columns:
        found = re.fullmatch(r"(.+?)(?:\((\d+)\))?(?: DESC)?", part)
        column = table.column(found[1]) if found is not None else None
        if found is None or column is None:
            yield f"{what} names {part}, which is not a column of the table: correct it"
            continue
        kind = Kind.of(column.type)
        if found[2] is not None and not kind.begins:
            yield f"{what} names {part}, and only texts and bytes are indexed by their beginning: write {column.name}"
        elif found[2] is not None and 0 < kind.length <= int(found[2]):
            yield (
                f"{what} names {part}, and column {column.name} has no more than {kind.length:,}: write {column.name}"
            )
        if kind.word == "json":
            yield f"{what} names {column.name}, and JSON cannot be indexed: leave it out"
        elif kind.beside and found[2] is None:
            yield (
                f"{what} names {column.name}, and a {kind.word.upper()} is indexed by its beginning only: make it "
                f"VARCHAR with a length, or write {column.name}(191)"
            )
        elif found[2] is not None:
            total += int(found[2]) * (CHARACTER_BYTES if kind.text else 1)
        else:
            total += kind.bytes - (2 if kind.word in ("varchar", "varbinary") else 0)
    if total > KEY_BYTES:
        yield (
            f"{what} could take {total:,} bytes, and {KEY_BYTES:,} fit (a character takes {CHARACTER_BYTES}): make its "
            "VARCHAR columns shorter, or index the beginning of one, such as name(191)"
        )
