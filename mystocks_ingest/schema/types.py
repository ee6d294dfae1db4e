"""The type words of ``tables.yaml``, and which canonical field each of them can hold without loss.

The words are those users write for PostgreSQL, MySQL and TDengine; each database's own spelling is the business
of the file that knows the database.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import pyarrow as pa

from mystocks_ingest.market.datasets import Field


class Family(StrEnum):
    """What kind of value a type word stands for."""

    TEXT = "text"
    INTEGER = "whole numbers"
    REAL = "numbers"
    DECIMAL = "decimal numbers"
    BOOLEAN = "true/false"
    DAY = "days"
    MOMENT = "moments"
    JSON = "JSON"
    BYTES = "bytes"


_SIGNED_BITS: Mapping[str, int] = {
    "TINYINT": 8,
    "SMALLINT": 16,
    "MEDIUMINT": 24,
    "INT": 32,
    "INTEGER": 32,
    "BIGINT": 64,
}
UNSIGNED: Mapping[str, int] = {f"{word} UNSIGNED": bits for word, bits in _SIGNED_BITS.items()}
"""Whole numbers from 0 on, with their bits; PostgreSQL has none of them."""

SERIALS: Mapping[str, str] = {"SMALLSERIAL": "SMALLINT", "SERIAL": "INTEGER", "BIGSERIAL": "BIGINT"}
"""PostgreSQL's words for numbers it counts up. The reader of the file gives the plain word, and ``numbered``."""

_INTEGER_BITS: Mapping[str, int] = {
    **_SIGNED_BITS,
    **UNSIGNED,
    **{word: _SIGNED_BITS[plain] for word, plain in SERIALS.items()},
}
_SHORT_REALS = frozenset({"FLOAT", "REAL", "FLOAT4"})  # 4 bytes in TDengine and MySQL: about 7 digits

WORDS: Mapping[str, Family] = {
    **dict.fromkeys(("VARCHAR", "CHAR", "NCHAR", "NVARCHAR", "BINARY", "ENUM", "UUID"), Family.TEXT),
    **dict.fromkeys(("TEXT", "TINYTEXT", "MEDIUMTEXT", "LONGTEXT"), Family.TEXT),
    **dict.fromkeys(_INTEGER_BITS, Family.INTEGER),
    **dict.fromkeys((*_SHORT_REALS, "DOUBLE", "DOUBLE PRECISION", "FLOAT8"), Family.REAL),
    **dict.fromkeys(("NUMERIC", "DECIMAL"), Family.DECIMAL),
    **dict.fromkeys(("BOOLEAN", "BOOL"), Family.BOOLEAN),
    "DATE": Family.DAY,
    **dict.fromkeys(("TIMESTAMP", "TIMESTAMPTZ", "DATETIME"), Family.MOMENT),
    **dict.fromkeys(("JSON", "JSONB"), Family.JSON),
    **dict.fromkeys(("BLOB", "TINYBLOB", "MEDIUMBLOB", "LONGBLOB", "BYTEA", "VARBINARY"), Family.BYTES),
}

SIZED = frozenset({"VARCHAR", "CHAR", "NCHAR", "NVARCHAR", "BINARY", "VARBINARY"})
"""Words that take a length; in TDengine and MySQL they cannot do without one."""


def family_of(field: Field) -> Family:
    """The family of a canonical field."""
    kind = field.type
    if pa.types.is_boolean(kind):
        return Family.BOOLEAN
    if pa.types.is_integer(kind):
        return Family.INTEGER
    if pa.types.is_floating(kind):
        return Family.REAL
    if pa.types.is_date(kind):
        return Family.DAY
    if pa.types.is_timestamp(kind):
        return Family.MOMENT
    return Family.TEXT


def whole_range(word: str) -> tuple[int, int]:
    """The least and the greatest value of a word of whole numbers."""
    bits = _INTEGER_BITS[word]
    return (0, 2**bits - 1) if word in UNSIGNED else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


_HOLDS: Mapping[Family, frozenset[Family]] = {
    Family.TEXT: frozenset({Family.TEXT, Family.JSON}),
    Family.INTEGER: frozenset({Family.INTEGER, Family.DECIMAL}),
    Family.REAL: frozenset({Family.REAL, Family.DECIMAL}),
    Family.DECIMAL: frozenset({Family.DECIMAL, Family.REAL}),
    Family.BOOLEAN: frozenset({Family.BOOLEAN, Family.INTEGER}),
    Family.DAY: frozenset({Family.DAY, Family.MOMENT}),
    Family.MOMENT: frozenset({Family.MOMENT}),
    Family.JSON: frozenset({Family.JSON, Family.TEXT}),
    Family.BYTES: frozenset({Family.BYTES}),
}
_ADVICE: Mapping[Family, str] = {
    Family.TEXT: "VARCHAR with a length",
    Family.INTEGER: "BIGINT",
    Family.REAL: "DOUBLE",
    Family.DECIMAL: "NUMERIC",
    Family.BOOLEAN: "BOOLEAN",
    Family.DAY: "DATE",
    Family.MOMENT: "TIMESTAMP",
    Family.JSON: "JSON",
    Family.BYTES: "BLOB",
}


def misfit(word: str, field: Field, *, short_float: bool) -> str | None:
    """Why a column of type ``word`` cannot hold ``field`` without loss, with the remedy; None when it can.

    ``short_float``: the database's FLOAT has 4 bytes.
    """
    wanted = family_of(field)
    if WORDS[word] not in _HOLDS[wanted]:
        return f"{word} cannot hold {field.name}, which is {wanted}: use {_ADVICE[wanted]}"
    if WORDS[word] is Family.INTEGER and wanted is Family.INTEGER and _INTEGER_BITS[word] < field.type.bit_width:
        return f"{word} is too narrow for {field.name}: use {'BIGINT' if field.type.bit_width > 32 else 'INT'}"
    if word in _SHORT_REALS and wanted is Family.REAL and short_float:
        return f"{word} keeps about 7 digits here and would change {field.name}: use DOUBLE"
    return None


def arrow_type(word: str, precision: int | None, scale: int | None) -> pa.DataType:
    """The Arrow type for a column that no canonical field describes."""
    match WORDS[word]:
        case Family.TEXT | Family.JSON:
            return pa.string()
        case Family.INTEGER if word in UNSIGNED:
            return {8: pa.uint8(), 16: pa.uint16(), 64: pa.uint64()}.get(_INTEGER_BITS[word], pa.uint32())
        case Family.INTEGER:
            return {8: pa.int8(), 16: pa.int16(), 64: pa.int64()}.get(_INTEGER_BITS[word], pa.int32())
        case Family.REAL:
            return pa.float64()
        case Family.DECIMAL:
            return pa.decimal128(precision or 18, scale if scale is not None else (0 if precision else 6))
        case Family.BOOLEAN:
            return pa.bool_()
        case Family.DAY:
            return pa.date32()
        case Family.MOMENT:
            return pa.timestamp("ms", tz="UTC") if word == "TIMESTAMPTZ" else pa.timestamp("ms")
        case Family.BYTES:
            return pa.binary()
