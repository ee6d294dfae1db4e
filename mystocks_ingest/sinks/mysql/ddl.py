"""Tables in the dialect of MySQL and MariaDB. Pure.

Every moment is a ``DATETIME`` with the fraction its values have: ``TIMESTAMP`` ends in 2038. It holds the wall clock of
the column's own zone: UTC for ``fetched_at`` and the like, UTC+08:00 for Shanghai times. Text is utf8mb4 and compared
by its bytes, so that two keys are equal here only where they are equal everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

from mystocks_ingest.schema.tables import Column, Database, Table
from mystocks_ingest.schema.types import WORDS, Family

COLLATION = {Database.MARIADB: "utf8mb4_nopad_bin", Database.MYSQL: "utf8mb4_0900_bin"}
"""By code point, and with trailing spaces that count."""

_DIGITS = {"s": 0, "ms": 3, "us": 6, "ns": 6}


def quoted(*names: str) -> str:
    """Identifiers in backticks, joined by dots."""
    return ".".join("`" + name.replace("`", "``") + "`" for name in names)


def literal(text: str) -> str:
    """A string in quotes; the session has no NO_BACKSLASH_ESCAPES."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def digits(column: Column) -> int:
    """Digits after the second that a moment's column keeps: those the file asks for, and at least those it needs."""
    return min(6, max(_DIGITS.get(getattr(column.arrow, "unit", "ms"), 3), column.length or 0))


def sql_type(column: Column) -> str:
    """The server's type for a column."""
    family = WORDS[column.type]
    match family:
        case Family.TEXT if column.type in ("TEXT", "LONGTEXT") or column.length is None:
            return "LONGTEXT" if column.type == "LONGTEXT" or (column.length or 0) > 16_000 else "TEXT"
        case Family.TEXT:
            return f"VARCHAR({column.length})"  # CHAR would lose trailing spaces
        case Family.INTEGER:
            return "INT" if column.type == "INTEGER" else column.type
        case Family.REAL:
            return "FLOAT" if column.type in ("FLOAT", "FLOAT4") else "DOUBLE"
        case Family.DECIMAL:
            if pa.types.is_decimal(column.arrow):
                return f"DECIMAL({column.arrow.precision},{column.arrow.scale})"
            scale = column.scale if column.scale is not None else (0 if column.precision else 6)
            return f"DECIMAL({column.precision or 18},{scale})"
        case Family.BOOLEAN:
            return "BOOLEAN"
        case Family.DAY:
            return "DATE"
        case Family.MOMENT:
            return f"DATETIME({digits(column)})" if digits(column) else "DATETIME"
        case Family.JSON:
            return "JSON"
        case Family.BYTES if column.type == "VARBINARY" and column.length is not None:
            return f"VARBINARY({column.length})"
        case Family.BYTES:
            return "LONGBLOB" if column.type == "BYTEA" or (column.length or 0) > 65_535 else "BLOB"


def _default(column: Column) -> str:
    match column.default:
        case None:
            return ""
        case bool() as flag:
            return f" DEFAULT {int(flag)}"
        case int() | float() as number:
            return f" DEFAULT {number}"
        case text if text.upper().startswith("CURRENT_TIMESTAMP"):
            now = f"CURRENT_TIMESTAMP({digits(column)})" if digits(column) else "CURRENT_TIMESTAMP"
            return f" DEFAULT {now}" + (f" ON UPDATE {now}" if "ON UPDATE" in text.upper() else "")
        case text if sql_type(column) in ("TEXT", "LONGTEXT", "JSON", "BLOB", "LONGBLOB"):
            return f" DEFAULT ({literal(text)})"  # these take an expression only
        case text:
            return f" DEFAULT {literal(text)}"


def definition(column: Column) -> str:
    """A column as CREATE TABLE and ALTER TABLE want it."""
    null = "NULL" if column.nullable else "NOT NULL"
    comment = f" COMMENT {literal(column.comment)}" if column.comment else ""
    return f"{quoted(column.name)} {sql_type(column)} {null}{_default(column)}{comment}"


def ddl(table: Table, server: Database | None = None, *, database: str | None = None) -> list[str]:
    """The statements that make the table where it is missing; ``server``: MYSQL or MARIADB, default the table's own.

    ``database``: in place of the one the table names.
    """
    kind = server or table.database_type
    lines = [definition(column) for column in table.columns]
    if table.key:
        lines.append(f"PRIMARY KEY ({names(table.key)})")
    comment = f" COMMENT = {literal(table.comment)}" if table.comment else ""
    return [
        f"CREATE TABLE IF NOT EXISTS {quoted(database or table.database_name, table.name)} (\n  "
        + ",\n  ".join(lines)
        + f"\n) ENGINE = InnoDB ROW_FORMAT = DYNAMIC DEFAULT CHARACTER SET = utf8mb4 COLLATE = "
        f"{COLLATION.get(kind, COLLATION[Database.MARIADB])}{comment}"
    ]


def widening(table: Table, column: Column, *, database: str | None = None) -> str:
    """The statement that adds a column to a table that is there."""
    return f"ALTER TABLE {quoted(database or table.database_name, table.name)} ADD COLUMN {definition(column)}"


def names(columns: Iterable[str]) -> str:
    """A list of quoted names."""
    return ", ".join(quoted(name) for name in columns)


def same_type(column: Column, stored: str) -> bool:
    """Whether ``stored`` (``COLUMN_TYPE`` of the server's catalogue) holds what the file asks for.

    Servers name types in their own ways: MariaDB says ``bigint(20)``, and ``longtext`` for JSON; a longer text is fine.
    """
    wanted, found = sql_type(column).lower(), stored.lower()
    if wanted.startswith("varchar(") and found.startswith("varchar("):
        return int(found[8:-1]) >= int(wanted[8:-1])
    aliases = {"boolean": {"tinyint(1)"}, "json": {"json", "longtext"}, "text": {"text", "mediumtext", "longtext"}}
    if wanted in ("tinyint", "smallint", "mediumint", "int", "bigint"):
        return found.split("(")[0] == wanted
    return found in aliases.get(wanted, {wanted})
