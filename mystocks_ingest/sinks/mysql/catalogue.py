"""What the server has: its catalogue in a few queries a database, and their rows as shapes."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from mystocks_ingest.schema.structure import ColumnShape, IndexShape, TableShape
from mystocks_ingest.schema.tables import Default, Expression
from mystocks_ingest.sinks.mysql.ddl import Server, literal
from mystocks_ingest.sinks.mysql.defaults import expression, spelled
from mystocks_ingest.sinks.mysql.types import Kind, normal
from mystocks_ingest.sinks.mysql.wire import Wire

Rows = Sequence[tuple[object, ...]]

_TABLES = (
    "SELECT table_name, engine, table_collation, table_comment FROM information_schema.tables "
    "WHERE table_schema = {} AND table_type IN ('BASE TABLE', 'SYSTEM VERSIONED') ORDER BY table_name"
)
_COLUMNS = (
    "SELECT table_name, column_name, column_type, is_nullable, column_default, extra, collation_name, "
    "generation_expression, column_comment FROM information_schema.columns WHERE table_schema = {} "
    "ORDER BY table_name, ordinal_position"
)
_INDEXES = (
    "SELECT table_name, index_name, non_unique, column_name, collation, sub_part, index_type, {} "
    "FROM information_schema.statistics WHERE table_schema = {} ORDER BY table_name, index_name, seq_in_index"
)
_CHECKS = (
    "SELECT table_name, constraint_name, check_clause FROM information_schema.check_constraints "
    "WHERE constraint_schema = {}"
)
_FOREIGN = (
    "SELECT table_name, constraint_name FROM information_schema.referential_constraints WHERE constraint_schema = {}"
)


@dataclass(frozen=True)
class Found:
    """The rows of one database's catalogue, as the server gave them. ``checks`` are MariaDB's: by them it knows JSON."""

    database: str
    tables: Rows = ()
    columns: Rows = ()
    indexes: Rows = ()
    checks: Rows = ()
    foreign: Rows = field(default=())


async def found(wire: Wire, server: Server, database: str) -> Found:
    """Five queries at most, however many tables the database has."""
    name = literal(database)  # equality, so that the server looks at no other database
    return Found(
        database,
        await wire.run(_TABLES.format(name)),
        await wire.run(_COLUMNS.format(name)),
        await wire.run(_INDEXES.format("NULL" if server.mariadb else "expression", name)),
        await wire.run(_CHECKS.format(name)) if server.mariadb else (),
        await wire.run(_FOREIGN.format(name)),
    )


def shapes(server: Server, rows: Found) -> list[TableShape]:
    """Every table of the catalogue in normal spelling."""
    json = {
        (_text(table), _text(column))
        for table, column, clause in rows.checks
        if re.fullmatch(r"json_valid\(`(.+)`\)", _text(clause))
    }
    columns: dict[str, list[ColumnShape]] = defaultdict(list)
    for table, *row in rows.columns:
        name = _text(table)
        columns[name].append(_column(server, row, json=(name, _text(row[0])) in json))
    indexes = _indexes(rows)
    return [
        _table(server, rows.database, [_text(cell) for cell in row], columns, indexes[_text(row[0])])
        for row in rows.tables
    ]


def _table(
    server: Server,
    database: str,
    row: Sequence[str],
    columns: Mapping[str, Sequence[ColumnShape]],
    indexes: Mapping[str, IndexShape],
) -> TableShape:
    name, engine, collation, comment = row
    primary = indexes.get("PRIMARY")
    key = primary.columns if primary is not None else ()
    beside = tuple(i for i in indexes.values() if i is not primary)
    if primary is None:  # InnoDB takes the first unique index without nulls in its place
        solid = {c.name for c in columns.get(name, ()) if not c.nullable}
        stand_in = next((i for i in beside if i.unique and set(i.columns) <= solid), None)
        key = stand_in.columns if stand_in is not None else ()
        beside = tuple(i for i in beside if i is not stand_in)
    options = (("engine", engine), ("collation", collation))
    return TableShape(server.name(database), name, tuple(columns.get(name, ())), key, beside, comment, options)


def _column(server: Server, row: Sequence[object], *, json: bool) -> ColumnShape:
    name, spelling, nullable, default, extra, collation, computed, comment = row
    kind, more = normal(_text(spelling)), _text(extra).lower()
    if json and kind == "longtext":
        kind = "json"
    elif Kind.of(kind).text and _text(collation) != server.collation:
        kind += f" collate {_text(collation)}"
    if computed:
        kind += f" as ({expression(_text(computed))})"
    numbered = "auto_increment" in more
    said = None if default is None or computed else _default(server, kind, _text(default), more)
    if (
        "on update" in more and isinstance(said, Expression) and _ZERO.fullmatch(said.sql)
    ):  # MariaDB's own, of a moment that may not be null and has no default
        said = None
    return ColumnShape(
        _text(name),
        kind,
        nullable=_text(nullable) == "YES",
        default=None if numbered else spelled(kind, said),
        comment=_text(comment),
        numbered=numbered,
        touched="on update" in more,
    )


_ZERO = re.compile(r"'0000-00-00 00:00:00(\.0+)?'")


def _default(server: Server, kind: str, text: str, extra: str) -> Default:
    """MariaDB shows every default as a statement would say it; MySQL values bare, and expressions escaped once more."""
    if server.mariadb:
        return Expression(text)
    if "default_generated" in extra:
        return Expression(_mended(re.sub(r"\\(.)", r"\1", text, flags=re.DOTALL)))
    if "binary" in kind and re.fullmatch(r"0x(?:[0-9A-Fa-f]{2})*", text):
        return bytes.fromhex(text[2:]).decode(errors="replace")
    return text


def _mended(text: str) -> str:
    """MySQL's catalogue takes the UTF-8 of an expression for latin1; a text that is no such thing stays as it is."""
    try:
        return b"".join(bytes([ord(c)]) if ord(c) < 256 else c.encode("cp1252") for c in text).decode()
    except UnicodeError:
        return text


def _indexes(rows: Found) -> defaultdict[str, dict[str, IndexShape]]:
    """By table and name. An index that the server made for a foreign key of a user's is not among them."""
    foreign = {(_text(table), _text(name)) for table, name in rows.foreign}
    parts: dict[tuple[str, str], list[str]] = defaultdict(list)
    unique: dict[tuple[str, str], bool] = {}
    for table, name, repeated, column, order, prefix, method, computed in rows.indexes:
        at = (_text(table), _text(name))
        if at in foreign and str(repeated) != "0":
            continue
        part = _text(column) if column is not None else f"({expression(_text(computed))})"
        part += f"({prefix})" if prefix is not None and _text(method) != "SPATIAL" else ""
        part += " DESC" if _text(order) == "D" else ""
        part += f" {_text(method)}" if _text(method) not in ("BTREE", "HASH") else ""
        parts[at].append(part)
        unique[at] = str(repeated) == "0"
    out: defaultdict[str, dict[str, IndexShape]] = defaultdict(dict)
    for (table, name), columns in parts.items():
        out[table][name] = IndexShape(name, tuple(columns), unique=unique[table, name])
    return out


async def databases(wire: Wire) -> frozenset[str]:
    """Those this user may see, without the server's own."""
    names = _texts(await wire.run("SELECT schema_name FROM information_schema.schemata"))
    return frozenset(names) - {"information_schema", "performance_schema", "mysql", "sys"}


def _texts(rows: Iterable[tuple[object, ...]]) -> list[str]:
    return [_text(value) for (value,) in rows]


def _text(value: object) -> str:
    """MySQL's catalogue gives some columns as bytes."""
    return value.decode() if isinstance(value, bytes) else "" if value is None else str(value)
