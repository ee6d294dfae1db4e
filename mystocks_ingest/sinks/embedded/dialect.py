"""DuckDB's words for tables: what its catalogue shows of one, and the statements that change one.

The catalogue keeps types, defaults, NOT NULL and comments. It has no key of ours (an index would make every insert
four times slower), so the key stands in a small table of its own, ``structure.table_key``, written by the same statement
that makes the table. Indexes and ON UPDATE are left out: whole blocks are skipped by their statistics, and a unique index
forbids the delete-and-insert by which rows are replaced. Each change is one text, so that it is made whole or not at all.
"""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from typing import assert_never

import pyarrow as pa

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
from mystocks_ingest.schema.structure import ColumnShape, TableShape
from mystocks_ingest.schema.tables import Column, Database, Expression, Moment, Table

DATABASE = "main"
"""DuckDB's schema that holds the tables; other schemas of the file are not ours to compare."""
KEYS = "structure.table_key"
_NOW = "current_timestamp"
_FUNCTIONS = frozenset({"gen_random_uuid()", "uuid()", "current_date"})  # other databases' words that DuckDB shares


def quoted(name: str) -> str:
    """An identifier in DuckDB's quotes."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text value in DuckDB's quotes."""
    return "'" + text.replace("'", "''") + "'"


def sql_type(column: Column) -> str:
    """DuckDB's type for a column: the canonical one where there is one, so that no digit is lost."""
    kind = column.arrow
    if pa.types.is_timestamp(kind):
        return "TIMESTAMP WITH TIME ZONE" if kind.tz is not None else "TIMESTAMP"
    if pa.types.is_decimal(kind):
        return f"DECIMAL({kind.precision},{kind.scale})"
    if pa.types.is_time(kind):
        return "TIME"
    return _SQL_TYPES[kind]


_SQL_TYPES = {
    pa.string(): "VARCHAR",
    pa.large_string(): "VARCHAR",
    pa.bool_(): "BOOLEAN",
    pa.int8(): "TINYINT",
    pa.int16(): "SMALLINT",
    pa.int32(): "INTEGER",
    pa.int64(): "BIGINT",
    pa.uint8(): "UTINYINT",
    pa.uint16(): "USMALLINT",
    pa.uint32(): "UINTEGER",
    pa.uint64(): "UBIGINT",
    pa.float32(): "FLOAT",
    pa.float64(): "DOUBLE",
    pa.date32(): "DATE",
    pa.binary(): "BLOB",
}


class EmbeddedDialect:
    """schema.diff.Dialect of the embedded store."""

    def shape(self, table: Table) -> TableShape:
        """The table as DuckDB's catalogue and ``structure.table_key`` show it."""
        return TableShape(
            DATABASE,
            table.name,
            tuple(_column(c) for c in table.columns),
            table.key,
            comment=table.comment,
        )

    def fit(self, before: str, after: str) -> Fit:
        if before == after:
            return Fit.SAME
        if after in _WIDER.get(before, ()):
            return Fit.WIDER
        room, wanted = _digits(after), _digits(before)
        if room is not None and wanted is not None and room[0] >= wanted[0] and room[1] >= wanted[1]:
            return Fit.WIDER
        return Fit.LOSSY

    def hazard(self, change: Change) -> str:
        match change:
            case ChangeColumn(before=before, after=after) if after.numbered and not before.numbered:
                return "its numbers would begin at 1 again, among those that are there"
            case SetOption() | AddIndex():
                return "the embedded store has no such thing"
            case _:
                return ""

    def ddl(self, change: Change) -> list[str]:
        """One text of one or more statements, run in one transaction."""
        return [";\n".join(parts)] if (parts := _statements(change)) else []

    def table(self, shape: TableShape) -> Table:
        columns = tuple(_written(c) for c in shape.columns)
        return Table(shape.name, Database.EMBEDDED, shape.database, columns, shape.key, comment=shape.comment)


def _column(column: Column) -> ColumnShape:
    kind = sql_type(column)
    numbered = column.numbered and kind.endswith(("INT", "INTEGER"))
    return ColumnShape(
        column.name,
        kind,
        nullable=column.nullable,
        default=None if numbered else _default(column, kind),
        comment=column.comment,
        numbered=numbered,
    )


def _default(column: Column, kind: str) -> str | None:
    match column.default:
        case None:
            return None
        case Moment.NOW:
            return _NOW if kind.startswith(("TIMESTAMP", "DATE")) else None
        case Expression(sql=sql):
            return sql.lower() if sql.lower() in _FUNCTIONS else None
        case bool() as value:
            return normal_default("true" if value else "false", kind)
        case int() | float() as value:
            return normal_default(str(value), kind)
        case str() as text:
            return normal_default(literal(text), kind)


def normal_default(text: str | None, kind: str) -> str | None:
    """A default of a column of type ``kind`` in the one spelling that stands for all of equal meaning."""
    if text is None or text.upper() == "NULL":
        return None
    bare = text[1:-1].replace("''", "'") if len(text) > 1 and text[0] == text[-1] == "'" else None
    inner = bare if bare is not None else text
    lowered = inner.lower()
    match kind:
        case "BOOLEAN" if lowered in _TRUE or lowered in _FALSE:
            return "true" if lowered in _TRUE else "false"
        case "FLOAT" | "DOUBLE":
            number = _number("1" if lowered == "true" else "0" if lowered == "false" else inner)
            return repr(float(number)) if number is not None else text
        case _ if kind.endswith(("INT", "INTEGER")) or kind.startswith("DECIMAL"):
            number = _number("1" if lowered == "true" else "0" if lowered == "false" else inner)
            if number is None:
                return text
            plain = f"{number:f}"
            return plain.rstrip("0").rstrip(".") if "." in plain else plain
    if bare is None and lowered in ("now()", "get_current_timestamp()", "transaction_timestamp()"):
        return _NOW
    if bare is None and kind == "VARCHAR" and (lowered in ("true", "false") or _number(text) is not None):
        return literal(text)
    return text


_TRUE = frozenset({"true", "t", "1", "cast('t' as boolean)"})
_FALSE = frozenset({"false", "f", "0", "cast('f' as boolean)"})


def _number(text: str) -> Decimal | None:
    try:
        return Decimal(text) + 0  # no minus before nought
    except InvalidOperation:
        return None


def sequence(table: str, column: str) -> str:
    """The sequence that counts a numbered column up."""
    return f"{table}_{column}_seq"


def _definition(table: TableShape, column: ColumnShape, *, null: bool = True) -> str:
    parts = [quoted(column.name), column.type]
    if column.numbered:
        parts.append(f"DEFAULT {_next(table, column)}")
    elif column.default is not None:
        parts.append(f"DEFAULT {column.default}")
    if null and not column.nullable:
        parts.append("NOT NULL")
    return " ".join(parts)


def _next(table: TableShape, column: ColumnShape) -> str:
    return f"nextval({literal(quoted(sequence(table.name, column.name)))})"


def _counted(table: TableShape, column: ColumnShape) -> list[str]:
    return [f"CREATE SEQUENCE IF NOT EXISTS {quoted(sequence(table.name, column.name))}"] if column.numbered else []


def _statements(change: Change) -> list[str]:
    if isinstance(change, CreateDatabase):
        return [f"CREATE SCHEMA IF NOT EXISTS {quoted(change.database)}"]
    table = change.table
    name = quoted(table.name)
    match change:
        case CreateTable():
            return _created(table)
        case DropTable():
            return [
                f"DROP TABLE {name}",
                *(
                    f"DROP SEQUENCE IF EXISTS {quoted(sequence(table.name, c.name))}"
                    for c in table.columns
                    if c.numbered
                ),
                f"DELETE FROM {KEYS} WHERE table_name = {literal(table.name)}",  # noqa: S608 - quoted
            ]
        case AddColumn(column=column):
            # NOT NULL comes after, so that an empty table may gain a column without a default
            late = not column.nullable and column.default is None and not column.numbered
            return [
                *_counted(table, column),
                f"ALTER TABLE {name} ADD COLUMN {_definition(table, column, null=not late)}",
                *([f"ALTER TABLE {name} ALTER COLUMN {quoted(column.name)} SET NOT NULL"] if late else []),
                *_commented(table, column),
            ]
        case DropColumn(column=column):
            return [f"ALTER TABLE {name} DROP COLUMN {quoted(column.name)}"]
        case ChangeColumn(before=before, after=after):
            return _changed(table, before, after)
        case ChangeKey(after=key):
            return [_distinct(table, key), _keyed(table, key)] if key else [_keyed(table, key)]
        case SetComment():
            return [f"COMMENT ON TABLE {name} IS {_comment(table.comment)}"]
        case DropIndex(index=index):
            return [f"DROP INDEX {quoted(index.name)}"]
        case AddIndex() | SetOption():
            return []
        case _:
            assert_never(change)


def _created(table: TableShape) -> list[str]:
    columns = ",\n  ".join(_definition(table, c) for c in table.columns)
    return [
        *(statement for column in table.columns for statement in _counted(table, column)),
        f"CREATE TABLE {quoted(table.name)} (\n  {columns}\n)",
        _keyed(table, table.key),
        *([f"COMMENT ON TABLE {quoted(table.name)} IS {_comment(table.comment)}"] if table.comment else []),
        *(statement for column in table.columns for statement in _commented(table, column)),
    ]


def _changed(table: TableShape, before: ColumnShape, after: ColumnShape) -> list[str]:
    alter = f"ALTER TABLE {quoted(table.name)} ALTER COLUMN {quoted(after.name)}"
    default = after.default if not after.numbered else _next(table, after)
    out = _counted(table, after) if not before.numbered else []
    same_default = before.default == after.default and before.numbered == after.numbered
    retyped = before.type != after.type
    if (before.default is not None or before.numbered) and (retyped or not same_default):
        out.append(f"{alter} DROP DEFAULT")
    if retyped:
        out.append(f"{alter} SET DATA TYPE {after.type}")
    if default is not None and (retyped or not same_default):
        out.append(f"{alter} SET DEFAULT {default}")
    if before.nullable != after.nullable:
        out.append(f"{alter} {'DROP' if after.nullable else 'SET'} NOT NULL")
    if before.comment != after.comment:
        out += _commented(table, after, always=True)
    return out


def _commented(table: TableShape, column: ColumnShape, *, always: bool = False) -> list[str]:
    if not column.comment and not always:
        return []
    return [f"COMMENT ON COLUMN {quoted(table.name)}.{quoted(column.name)} IS {_comment(column.comment)}"]


def _comment(text: str) -> str:
    return literal(text) if text else "NULL"


def _keyed(table: TableShape, key: tuple[str, ...]) -> str:
    columns = ", ".join(literal(k) for k in key)
    return f"INSERT OR REPLACE INTO {KEYS} VALUES ({literal(table.name)}, [{columns}])"  # noqa: S608 - names from the validated file


def _distinct(table: TableShape, key: tuple[str, ...]) -> str:
    """Fails where rows share ``key``; a table whose rows do not is left as it is."""
    columns = ", ".join(quoted(k) for k in key)
    words = literal(f"rows of {table.name} share the key ({', '.join(key)})")
    return (
        f"SELECT CASE WHEN EXISTS (SELECT 1 FROM {quoted(table.name)} GROUP BY {columns} HAVING count(*) > 1) "  # noqa: S608 - likewise
        f"THEN error({words}) END"
    )


_WIDER = {
    "TINYINT": {"SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "FLOAT", "DOUBLE"},
    "SMALLINT": {"INTEGER", "BIGINT", "HUGEINT", "FLOAT", "DOUBLE"},
    "INTEGER": {"BIGINT", "HUGEINT", "DOUBLE"},
    "BIGINT": {"HUGEINT"},
    "UTINYINT": {"USMALLINT", "UINTEGER", "UBIGINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "FLOAT", "DOUBLE"},
    "USMALLINT": {"UINTEGER", "UBIGINT", "INTEGER", "BIGINT", "HUGEINT", "FLOAT", "DOUBLE"},
    "UINTEGER": {"UBIGINT", "BIGINT", "HUGEINT", "DOUBLE"},
    "UBIGINT": {"HUGEINT"},
    "FLOAT": {"DOUBLE"},
    "DATE": {"TIMESTAMP"},
}
_INTEGER_DIGITS = {"TINYINT": 3, "SMALLINT": 5, "INTEGER": 10, "BIGINT": 19}
_INTEGER_DIGITS |= {"UTINYINT": 3, "USMALLINT": 5, "UINTEGER": 10, "UBIGINT": 20}


def _digits(kind: str) -> tuple[int, int] | None:
    """Digits before and after the point that a DECIMAL has room for, or that a whole number needs."""
    if kind in _INTEGER_DIGITS:
        return (_INTEGER_DIGITS[kind], -1)  # never room enough for another: _WIDER speaks of those
    found = re.fullmatch(r"DECIMAL\((\d+),(\d+)\)", kind)
    return (int(found[1]) - int(found[2]), int(found[2])) if found else None


_WORDS = {
    "VARCHAR": "VARCHAR",
    "INTEGER": "INT",
    "TIMESTAMP WITH TIME ZONE": "TIMESTAMPTZ",
    "TIMESTAMP_S": "TIMESTAMP",
    "TIMESTAMP_MS": "TIMESTAMP",
    "TIMESTAMP_NS": "TIMESTAMP",
    "UTINYINT": "TINYINT UNSIGNED",
    "USMALLINT": "SMALLINT UNSIGNED",
    "UINTEGER": "INT UNSIGNED",
    "UBIGINT": "BIGINT UNSIGNED",
    "FLOAT": "REAL",
    "HUGEINT": "BIGINT",
}
_KNOWN = frozenset({"TINYINT", "SMALLINT", "BIGINT", "DOUBLE", "BOOLEAN", "DATE", "TIME", "TIMESTAMP", "BLOB"})


def _written(column: ColumnShape) -> Column:
    """The column in the file's words; a type that no word of the file means is text."""
    decimal = re.fullmatch(r"DECIMAL\((\d+),(\d+)\)", column.type)
    precision, scale = (int(decimal[1]), int(decimal[2])) if decimal else (None, None)
    known = column.type if column.type in _KNOWN else "VARCHAR"
    word = "NUMERIC" if decimal else _WORDS.get(column.type, known)
    return Column(
        column.name,
        word,
        precision=precision,
        scale=scale,
        nullable=column.nullable,
        default=_meant(column),
        comment=column.comment,
        numbered=column.numbered,
    )


def _meant(column: ColumnShape) -> str | int | float | bool | Moment | Expression | None:
    text = column.default
    if text is None:
        return None
    if text == _NOW:
        return Moment.NOW
    if text[0] == "'":
        return text[1:-1].replace("''", "'")
    if column.type == "BOOLEAN" and text in ("true", "false"):
        return text == "true"
    number = _number(text)
    if number is None:
        return Expression(text)
    if column.type in ("FLOAT", "DOUBLE"):
        return float(text)
    return int(number) if number == number.to_integral_value() else text
