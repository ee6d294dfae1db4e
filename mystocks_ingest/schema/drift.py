"""How a stored table differs from the file, in words for whoever is to mend it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never

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
    described,
)


class Kind(StrEnum):
    """Seen from the file: what it describes is not there, what is there it does not describe, or the two disagree."""

    MISSING = "missing"
    EXTRA = "extra"
    DIFFERENT = "different"


@dataclass(frozen=True, slots=True)
class Issue:
    """One difference. ``part``: the column, index or option; empty for the table itself."""

    kind: Kind
    part: str
    words: str

    def __str__(self) -> str:
        return f"{self.kind.value}: {self.words}"


def part(change: Change) -> str:
    """The column, index or option that ``change`` is about; empty for the table itself."""
    match change:
        case AddColumn(column=column) | DropColumn(column=column) | ChangeColumn(after=column):
            return column.name
        case AddIndex(index=index) | DropIndex(index=index):
            return index.name
        case SetOption(option=option):
            return option
        case ChangeKey():
            return "key"
        case _:
            return ""


def issue(change: Change) -> Issue:
    """What the change would mend."""
    match change:
        case CreateDatabase(database=database):
            return Issue(Kind.MISSING, "", f"database {database}")
        case CreateTable():
            return Issue(Kind.MISSING, "", "the table")
        case DropTable():
            return Issue(Kind.EXTRA, "", "the table")
        case AddColumn(column=column):
            return Issue(Kind.MISSING, column.name, f"{_word(change)} {column.name} {described(column)}")
        case DropColumn(column=column):
            return Issue(Kind.EXTRA, column.name, f"{_word(change)} {column.name} {described(column)}")
        case ChangeColumn(before=before, after=after):
            return Issue(Kind.DIFFERENT, after.name, f"column {after.name}: {_disagreement(before, after)}")
        case ChangeKey(before=before, after=after):
            there, said = ", ".join(before) or "none", ", ".join(after) or "none"
            return Issue(Kind.DIFFERENT, "key", f"the key is ({there}), the file says ({said})")
        case AddIndex(index=index):
            return Issue(Kind.MISSING, index.name, f"{_index(change)} {index.name} ({', '.join(index.columns)})")
        case DropIndex(index=index):
            return Issue(Kind.EXTRA, index.name, f"{_index(change)} {index.name} ({', '.join(index.columns)})")
        case SetComment(before=before, table=table):
            return Issue(Kind.DIFFERENT, "", f"the comment is {before!r}, the file says {table.comment!r}")
        case SetOption(option=option, before=before, after=after):
            kind = Kind.MISSING if before is None else Kind.EXTRA if after is None else Kind.DIFFERENT
            return Issue(kind, option, f"{option} is {before or 'not set'}, the file says {after or 'nothing of it'}")
        case _:
            assert_never(change)


def _word(change: AddColumn | DropColumn) -> str:
    return "tag" if change.column.is_tag else "column"


def _index(change: AddIndex | DropIndex) -> str:
    return "unique index" if change.index.unique else "index"


def _disagreement(before: object, after: object) -> str:
    """Each property in which the two columns differ: what is there, and what the file says."""
    said = []
    for name, word in _PROPERTIES.items():
        there, wanted = getattr(before, name), getattr(after, name)
        if there != wanted:
            said.append(f"{word} is {_value(name, there)}, the file says {_value(name, wanted)}")
    return "; ".join(said)


_PROPERTIES = {
    "type": "type",
    "nullable": "null",
    "default": "default",
    "comment": "comment",
    "numbered": "counting up",
    "touched": "set on update",
    "is_tag": "tag",
}


def _value(name: str, value: object) -> str:
    match value:
        case None:
            return "none"
        case bool() if name == "nullable":
            return "allowed" if value else "refused"
        case bool():
            return "yes" if value else "no"
        case str() if name == "comment":
            return repr(value)
    return str(value)
