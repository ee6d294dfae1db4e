"""How PostgreSQL spells names, types and spans of time: pure text, as its catalogue gives them back."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta

from mystocks_ingest.schema.tables import Column
from mystocks_ingest.schema.types import WORDS, Family


def quoted(name: str) -> str:
    """An identifier in PostgreSQL's quotes."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A string constant; a backslash in it stands for itself."""
    return "'" + text.replace("'", "''") + "'"


def sql_type(column: Column) -> str:
    """The column's type as PostgreSQL itself spells it (``format_type``), so that found and wanted compare.

    What PostgreSQL has no type for takes the least one that holds every value: unsigned numbers the next wider one
    (BIGINT's numeric(20,0)), an ENUM as many characters as its longest value.
    """
    match WORDS[column.type]:
        case Family.TEXT if column.type == "UUID":
            return "uuid"
        case Family.TEXT if column.values:
            return f"character varying({max(len(v) for v in column.values)})"
        case Family.TEXT:  # CHAR too: blanks that PostgreSQL pads it with would come back as part of the value
            return f"character varying({column.length})" if column.length and "TEXT" not in column.type else "text"
        case Family.INTEGER:
            return _INTEGERS.get(column.type, "integer")
        case Family.REAL:
            return "double precision"
        case Family.DECIMAL:
            if column.precision is None:
                return "numeric"
            return f"numeric({column.precision},{column.scale or 0})"
        case Family.BOOLEAN:
            return "boolean"
        case Family.DAY:
            return "date"
        case Family.MOMENT:
            zoned = column.type == "TIMESTAMPTZ" or getattr(column.arrow, "tz", None) is not None
            return f"timestamp with{'' if zoned else 'out'} time zone"
        case Family.JSON:
            return column.type.lower()
        case Family.BYTES:
            return "bytea"


_INTEGERS: Mapping[str, str] = {
    "TINYINT": "smallint",
    "SMALLINT": "smallint",
    "SMALLSERIAL": "smallint",
    "TINYINT UNSIGNED": "smallint",
    "BIGINT": "bigint",
    "BIGSERIAL": "bigint",
    "INT UNSIGNED": "bigint",
    "INTEGER UNSIGNED": "bigint",
    "BIGINT UNSIGNED": "numeric(20,0)",
}

_SIZED = re.compile(r"([a-z ]+?)\((\d+)(?:,(-?\d+))?\)(.*)")


def parted(kind: str) -> tuple[str, tuple[int, ...]]:
    """A type without its numbers, and the numbers: ``numeric(10,4)`` -> ``numeric``, (10, 4)."""
    found = _SIZED.fullmatch(kind)
    if found is None:
        return kind, ()
    name, first, second, rest = found.groups()
    return name + rest, tuple(int(n) for n in (first, second) if n is not None)


_UNITS = (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1))


def span(length: timedelta | float) -> str:
    """A span of time in the greatest unit that divides it, as in INTERVAL '400 days'; a number is of seconds."""
    seconds = int(length.total_seconds() if isinstance(length, timedelta) else length)
    unit, size = next((u for u in _UNITS if seconds % u[1] == 0 and seconds), _UNITS[-1])
    return f"{seconds // size} {unit}{'' if seconds == size else 's'}"


def length_of(text: str) -> timedelta:
    """The span that ``span`` has spelled."""
    number, unit = text.split(" ")
    return timedelta(seconds=int(number) * dict(_UNITS)[unit.rstrip("s")])
