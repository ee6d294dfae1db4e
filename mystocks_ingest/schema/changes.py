"""One step from the actual structure to the desired one, and what it does in words."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from mystocks_ingest.schema.structure import ColumnShape, IndexShape, TableShape


@dataclass(frozen=True, slots=True)
class CreateDatabase:
    """The database is missing."""

    database: str
    table: None = None
    verb: str = "create"

    @property
    def words(self) -> str:
        return f"database {self.database}"


@dataclass(frozen=True, slots=True)
class CreateTable:
    """``table`` is missing; with its key, indexes, comments and options."""

    table: TableShape
    verb: str = "create"

    @property
    def words(self) -> str:
        return f"table with {len(self.table.columns)} columns, key ({', '.join(self.table.key) or 'none'})"


@dataclass(frozen=True, slots=True)
class DropTable:
    """``table`` and its rows."""

    table: TableShape
    verb: str = "drop"

    @property
    def words(self) -> str:
        return "table and all its rows"


@dataclass(frozen=True, slots=True)
class AddColumn:
    """``column`` is missing in ``table`` (the desired one)."""

    table: TableShape
    column: ColumnShape
    verb: str = "add"

    @property
    def words(self) -> str:
        return f"{'tag' if self.column.is_tag else 'column'} {self.column.name} {described(self.column)}"


@dataclass(frozen=True, slots=True)
class DropColumn:
    """``column`` is there and not in the file."""

    table: TableShape
    column: ColumnShape
    verb: str = "drop"

    @property
    def words(self) -> str:
        return f"column {self.column.name} {described(self.column)}"


@dataclass(frozen=True, slots=True)
class ChangeColumn:
    """``before`` becomes ``after``: type, null, default, comment, or several of them.

    ``held``: the indexes that are there and will be there still when it is made, of those with this column.
    """

    table: TableShape
    before: ColumnShape
    after: ColumnShape
    held: tuple[IndexShape, ...] = field(default=(), compare=False)

    @property
    def verb(self) -> str:
        only_comment = replace(self.before, comment=self.after.comment) == self.after
        return "comment" if only_comment else "change"

    @property
    def words(self) -> str:
        parts = []
        if self.before.type != self.after.type:
            parts.append(f"type {self.before.type} -> {self.after.type}")
        if self.before.nullable != self.after.nullable:
            parts.append("may be null" if self.after.nullable else "may no longer be null")
        if self.before.default != self.after.default:
            parts.append(f"default {self.before.default or 'none'} -> {self.after.default or 'none'}")
        if self.before.numbered != self.after.numbered:
            parts.append("counted up by the database" if self.after.numbered else "no longer counted up")
        if self.before.touched != self.after.touched:
            parts.append("set on update" if self.after.touched else "no longer set on update")
        if self.before.is_tag != self.after.is_tag:
            parts.append("column -> tag" if self.after.is_tag else "tag -> column")
        if self.before.comment != self.after.comment:
            parts.append(f"comment {self.before.comment!r} -> {self.after.comment!r}")
        return f"column {self.after.name}: {', '.join(parts)}"


@dataclass(frozen=True, slots=True)
class ChangeKey:
    """The key's columns differ; ``before`` may be empty. ``covered``: a unique index keeps ``after`` meanwhile."""

    table: TableShape
    before: tuple[str, ...]
    after: tuple[str, ...]
    covered: bool = False
    verb: str = "change"

    @property
    def words(self) -> str:
        return f"key ({', '.join(self.before) or 'none'}) -> ({', '.join(self.after) or 'none'})"


@dataclass(frozen=True, slots=True)
class AddIndex:
    """``index`` is missing."""

    table: TableShape
    index: IndexShape
    verb: str = "index"

    @property
    def words(self) -> str:
        return f"add {'unique ' if self.index.unique else ''}{self.index.name} ({', '.join(self.index.columns)})"


@dataclass(frozen=True, slots=True)
class DropIndex:
    """``index`` is there and not in the file."""

    table: TableShape
    index: IndexShape
    verb: str = "index"

    @property
    def words(self) -> str:
        return f"drop {'unique ' if self.index.unique else ''}{self.index.name} ({', '.join(self.index.columns)})"


@dataclass(frozen=True, slots=True)
class SetComment:
    """The table's own comment, which becomes that of ``table``."""

    table: TableShape
    before: str
    verb: str = "comment"

    @property
    def words(self) -> str:
        return f"comment {self.before!r} -> {self.table.comment!r}"


@dataclass(frozen=True, slots=True)
class SetOption:
    """One of the dialect's options; None: not set."""

    table: TableShape
    option: str
    before: str | None
    after: str | None
    verb: str = "policy"

    @property
    def words(self) -> str:
        return f"{self.option}: {self.before or 'none'} -> {self.after or 'none'}"


Change = (
    CreateDatabase
    | CreateTable
    | DropTable
    | AddColumn
    | DropColumn
    | ChangeColumn
    | ChangeKey
    | AddIndex
    | DropIndex
    | SetComment
    | SetOption
)


def described(column: ColumnShape) -> str:
    """A column's type and what else is said of it, in one line."""
    parts = [column.type, "" if column.nullable else "not null"]
    parts.append(f"default {column.default}" if column.default is not None else "")
    return " ".join(p for p in parts if p)
