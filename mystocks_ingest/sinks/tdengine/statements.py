"""What TDengine runs for one change, and why it cannot make some. Pure."""

from __future__ import annotations

from mystocks_ingest.schema.changes import (
    AddColumn,
    AddIndex,
    Change,
    ChangeColumn,
    ChangeKey,
    DropColumn,
    DropIndex,
    SetOption,
)
from mystocks_ingest.schema.structure import ColumnShape, TableShape
from mystocks_ingest.sinks.tdengine.names import literal, quoted
from mystocks_ingest.sinks.tdengine.spelling import SIZED, bare, compression


def impossible(change: Change) -> str:
    """Why TDengine cannot make the change at all, with the remedy; empty when it can."""
    anew = "make a table of another name and copy the rows"
    match change:
        case ChangeKey():
            return f"a key is made with its table and never changed: {anew}"
        case ChangeColumn(table=table, before=before, after=after):
            if before.is_tag != after.is_tag:
                return f"a tag cannot become a column, nor a column a tag: {anew}"
            old, new = bare(before.type), bare(after.type)
            if old != new and after.name in table.key:
                return f"a column of the key cannot be changed: {anew}"
            grown = (a := SIZED.fullmatch(old)) and (b := SIZED.fullmatch(new)) and a[1] == b[1]
            if old != new and not (grown and int(a[2]) < int(b[2])):  # type: ignore[index]
                return f"TDengine only lengthens texts: give the column another name, or {anew}"
        case AddColumn(table=table, column=column) if column.name in table.key:
            return f"a key is made with its table and never changed: {anew}"
        case DropColumn(table=table, column=column) if column.name in table.key:
            return f"a column of the key cannot be dropped: {anew}"
        case SetOption(option="precision"):
            return "the precision of a database cannot be changed: give the tables another database_name"
        case SetOption(option="super table"):
            return f"a table cannot become a super table, nor the other way round: {anew}"
        case AddIndex() | DropIndex():
            return "TDengine keeps no index beside the key and the first tag"
        case _:
            pass
    return ""


def created(table: TableShape) -> str:
    columns = [_defined(c, second=c.name in table.key[1:]) for c in table.columns if not c.is_tag]
    tags = ", ".join(_defined(c) for c in table.columns if c.is_tag)
    tagged = f" TAGS ({tags})" if tags else ""
    comment = f" COMMENT {literal(table.comment)}" if table.comment else ""
    return f"CREATE {kind_of(table)} IF NOT EXISTS {name_of(table)} ({', '.join(columns)}){tagged}{comment}"


def _defined(column: ColumnShape, *, second: bool = False) -> str:
    return f"{quoted(column.name)} {column.type}{' PRIMARY KEY' if second else ''}"


def changed(table: TableShape, before: ColumnShape, after: ColumnShape) -> list[str]:
    modify = f"{alter(table)} MODIFY {part_of(after)} {quoted(after.name)}"
    lines = [f"{modify} {bare(after.type)}"] if bare(before.type) != bare(after.type) else []
    old, new = compression(before.type), compression(after.type)
    return [*lines, f"{modify} COMPRESS '{new[0]}' LEVEL '{new[1]}'"] if old != new else lines


def kind_of(table: TableShape) -> str:
    return "STABLE" if any(c.is_tag for c in table.columns) else "TABLE"


def part_of(column: ColumnShape) -> str:
    return "TAG" if column.is_tag else "COLUMN"


def name_of(table: TableShape) -> str:
    return quoted(table.database, table.name)


def alter(table: TableShape) -> str:
    return f"ALTER {kind_of(table)} {name_of(table)}"
