"""How a column's type is written: as DESCRIBE shows it, with its compression where that is not the type's own. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from mystocks_ingest.schema.structure import ColumnShape
from mystocks_ingest.schema.tables import Column, Storage
from mystocks_ingest.sinks.tdengine.shape import Stored

SIZED = re.compile(r"(VARCHAR|NCHAR|VARBINARY|GEOMETRY)\((\d+)\)")
_DECIMAL = re.compile(r"DECIMAL\((\d+), ?(\d+)\)")
CODEC = re.compile(r"^(.*?) COMPRESS '(\w+)' LEVEL '(\w+)'$")
_CODECS = frozenset({"lz4", "zlib", "zstd", "tsz", "xz", "disabled"})
_LEVELS = {"l": "low", "m": "medium", "h": "high"}


@dataclass(frozen=True, slots=True)
class Described:
    """One line of DESCRIBE. ``note`` is TAG or COMPOSITE KEY."""

    name: str
    type: str
    length: int
    note: str
    compress: str = ""
    level: str = ""


def _own(kind: str) -> tuple[str, ...]:
    """The codecs a type has when nothing is said; of some types versions differ."""
    if kind.startswith(("TINYINT", "SMALLINT")):
        return ("zlib",)
    if kind == "BOOL" or kind.startswith(("VARCHAR", "NCHAR")):
        return ("zstd",)
    if kind.startswith(("DECIMAL", "VARBINARY", "BLOB", "GEOMETRY", "JSON")):
        return ("lz4", "zstd")
    return ("lz4",)


def _compressed(kind: str, codec: str, level: str) -> str:
    """The type with its compression, where that is not the type's own."""
    if codec not in _CODECS or (codec in _own(kind) and level == "medium"):
        return kind
    if codec == "tsz" and kind not in ("FLOAT", "DOUBLE"):
        return kind  # it is for these only
    return f"{kind} COMPRESS '{codec}' LEVEL '{level}'"


def spelled(column: Stored, key: Sequence[str], storage: Storage) -> str:
    """Columns of the key keep their own compression, which suits times and numbers."""
    if column.name in key or (storage.codec is None and storage.level is None):
        return column.sql
    level = (storage.level or "medium").lower()
    codec = (storage.codec or _own(column.sql)[0]).lower()
    return _compressed(column.sql, codec, _LEVELS.get(level[:1], level))


def seen(line: Described, *, valued: bool) -> str:
    word = line.type.upper().replace("BINARY", "VARCHAR") if line.type.upper() == "BINARY" else line.type.upper()
    if word in ("VARCHAR", "NCHAR", "VARBINARY", "GEOMETRY"):
        word = f"{word}({line.length})"
    decimal = _DECIMAL.fullmatch(word)
    word = f"DECIMAL({decimal[1]}, {decimal[2]})" if decimal else word
    return _compressed(word, line.compress.lower(), line.level.lower()) if valued else word


def bare(kind: str) -> str:
    return CODEC.sub(r"\1", kind)


def digits(kind: str) -> tuple[int, int] | None:
    """Of a DECIMAL: digits before and after the point."""
    match = _DECIMAL.fullmatch(kind)
    return (int(match[1]) - int(match[2]), int(match[2])) if match else None


def written(column: ColumnShape, key: Sequence[str], precision: str | None) -> Column:
    kind = bare(column.type)
    length = size = scale = None
    if sized := SIZED.fullmatch(kind):
        kind, length = sized[1], int(sized[2])
    elif decimal := _DECIMAL.fullmatch(kind):
        kind, size, scale = "DECIMAL", int(decimal[1]), int(decimal[2])
    if kind == "GEOMETRY":
        kind = "VARBINARY"  # the file has no word for it
    return Column(
        column.name,
        kind,
        length,
        size,
        scale,
        nullable=column.name not in key,
        is_tag=column.is_tag,
        canonical=pa.timestamp(precision) if kind == "TIMESTAMP" and precision else None,
    )


def compression(kind: str) -> tuple[str, str]:
    match = CODEC.match(kind)
    return (match[2], match[3]) if match else (_own(kind)[0], "medium")
