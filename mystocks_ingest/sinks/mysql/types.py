"""Types of columns: the file's words as the server's catalogue spells them, and which of them hold another's values. Pure.

The normal spelling is the catalogue's, lower case, without the display width that MariaDB and older MySQL add
(``int(11)`` is ``int``; ``tinyint(1)`` stays, for it is what BOOLEAN is). ``... collate x`` follows only where a text is
not compared as this project's are, ``... as (x)`` where the server computes the values.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self

import pyarrow as pa

from mystocks_ingest.schema.diff import Fit
from mystocks_ingest.schema.tables import Column
from mystocks_ingest.schema.types import UNSIGNED, WORDS, Family
from mystocks_ingest.sinks.mysql.ddl import CHARACTER_BYTES, unquoted

BOOLEAN = "tinyint(1)"
LONGEST_VARCHAR = 65_532 // CHARACTER_BYTES
"""Characters; and only where the row holds nothing else."""

_DIGITS = {"s": 0, "ms": 3, "us": 6, "ns": 6}
_UNBOUNDED = {"tinytext": 255, "text": 65_535, "mediumtext": 2**24 - 1, "longtext": 2**32 - 1}  # bytes
_BLOBS = {"tinyblob": 255, "blob": 65_535, "mediumblob": 2**24 - 1, "longblob": 2**32 - 1}
_BITS = {"tinyint": 8, "smallint": 16, "mediumint": 24, "int": 32, "bigint": 64}
_TEXTS = frozenset({"char", "varchar", "enum", "set", *_UNBOUNDED})
_BESIDE = frozenset({*_UNBOUNDED, *_BLOBS, "json"})
"""Stored beside the row, and indexed only by their beginning."""


def digits(column: Column) -> int:
    """Digits after the second that a moment's column keeps: those the file asks for, and at least those it needs."""
    if column.length is not None and column.canonical is None:
        return min(6, column.length)
    return min(6, max(_DIGITS.get(getattr(column.arrow, "unit", "ms"), 3), column.length or 0))


def type_of(column: Column) -> str:
    """The server's type for a column, as its catalogue will show it."""
    word, length = column.type, column.length
    match WORDS[word]:
        case Family.TEXT if word == "ENUM":
            return f"enum({','.join(enumerated(v) for v in column.values)})"
        case Family.TEXT if word == "UUID":
            return "varchar(36)"
        case Family.TEXT if word.lower() in _UNBOUNDED or length is None:
            return word.lower() if word.lower() in _UNBOUNDED and not (length or 0) > 16_000 else _text_of(length)
        case Family.TEXT:
            return f"varchar({length})"  # CHAR would lose trailing spaces
        case Family.INTEGER if word == "TINYINT" and length == 1:
            return BOOLEAN
        case Family.INTEGER:
            return word.lower().replace("integer", "int") if word in UNSIGNED else _whole(word)
        case Family.REAL:
            return "float" if word in ("FLOAT", "FLOAT4") else "double"
        case Family.DECIMAL:
            if pa.types.is_decimal(column.arrow):
                return f"decimal({column.arrow.precision},{column.arrow.scale})"
            scale = column.scale if column.scale is not None else (0 if column.precision else 6)
            return f"decimal({column.precision or 18},{scale})"
        case Family.BOOLEAN:
            return BOOLEAN
        case Family.DAY:
            return "date"
        case Family.MOMENT:
            return f"datetime({digits(column)})" if digits(column) else "datetime"
        case Family.JSON:
            return "json"
        case Family.BYTES if word == "VARBINARY" and length is not None:
            return f"varbinary({length})"
        case Family.BYTES if word.lower() in _BLOBS and not (length or 0) > 65_535:
            return word.lower()
        case Family.BYTES:
            return "longblob"


def _text_of(length: int | None) -> str:
    return "longtext" if (length or 0) > 16_000 else "text"


def _whole(word: str) -> str:
    """A word of whole numbers with a sign; PostgreSQL's SERIAL is one that is counted up."""
    return {"INTEGER": "int", "SERIAL": "int", "SMALLSERIAL": "smallint", "BIGSERIAL": "bigint"}.get(word, word.lower())


def enumerated(value: str) -> str:
    """A value of an ENUM as the catalogue spells it."""
    return "'" + value.replace("\\", "\\\\").replace("'", "''").replace("\n", "\\n") + "'"


def normal(spelled: str) -> str:
    """``COLUMN_TYPE`` of the catalogue in the normal spelling."""
    if spelled.startswith(("enum(", "set(")):
        return spelled
    text = spelled.lower()
    if text.startswith(BOOLEAN) and "unsigned" not in text:
        return BOOLEAN
    return re.sub(r"^((?:tiny|small|medium|big)?int|year)\(\d+\)", r"\1", text)


def values(kind: str) -> tuple[str, ...]:
    """The values of an ENUM or SET."""
    return tuple(unquoted(v) for v in re.findall(r"'(?:[^'\\]|''|\\.)*'", kind[kind.index("(") :]))


@dataclass(frozen=True, slots=True)
class Kind:
    """A type taken apart. ``numbers`` are those in brackets: length, or precision and scale."""

    word: str
    numbers: tuple[int, ...] = ()
    unsigned: bool = False
    collation: str = ""
    computed: bool = False

    @classmethod
    def of(cls, kind: str) -> Self:
        word = re.split(r"[( ]", kind, maxsplit=1)[0]
        rest = kind[len(word) :]
        if word in ("enum", "set"):
            rest = rest[rest.rindex(")") + 1 :] if ")" in rest else rest
            numbers: tuple[int, ...] = ()
        else:
            found = re.match(r"\((\d+)(?:,(\d+))?\)", rest)
            numbers = tuple(int(n) for n in found.groups() if n is not None) if found else ()
        collation = re.search(r" collate (\w+)", rest)
        return cls(word, numbers, " unsigned" in rest, collation[1] if collation else "", " as (" in rest)

    @property
    def text(self) -> bool:
        """Whether it has a collation."""
        return self.word in _TEXTS

    @property
    def beside(self) -> bool:
        """Whether its values lie beside the row; such a column is indexed by its beginning only."""
        return self.word in _BESIDE

    @property
    def begins(self) -> bool:
        """Whether an index may have its beginning."""
        return self.word in {"char", "varchar", "binary", "varbinary", *_UNBOUNDED, *_BLOBS}

    @property
    def length(self) -> int:
        return self.numbers[0] if self.numbers else 0

    @property
    def range(self) -> tuple[int, int]:
        """Of a whole number."""
        bits = _BITS[self.word]
        return (0, 2**bits - 1) if self.unsigned else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)

    @property
    def whole(self) -> bool:
        return self.word in _BITS

    @property
    def bytes(self) -> int:
        """What the greatest value takes in a row, or in an index; a decimal's is the most it could be."""
        match self.word:
            case "varchar":
                return self.length * CHARACTER_BYTES + 2
            case "char":
                return self.length * CHARACTER_BYTES
            case "varbinary":
                return self.length + 2
            case "binary":
                return self.length
            case "decimal":
                whole, part = (self.numbers[0] - self.numbers[1], self.numbers[1]) if len(self.numbers) > 1 else (10, 0)
                return sum(n // 9 * 4 + (n % 9 + 1) // 2 for n in (whole, part))
            case _ if self.beside:
                return 12
            case _:
                return {"tinyint": 1, "smallint": 2, "mediumint": 3, "int": 4, "float": 4, "date": 3, "enum": 2}.get(
                    self.word, 8
                )


def fit(before: str, after: str) -> Fit:
    """How values of a column of type ``before`` fit into ``after``; both in the normal spelling."""
    if before == after:
        return Fit.SAME
    old, new = Kind.of(before), Kind.of(after)
    if new.computed or old.computed:
        return Fit.LOSSY
    if old.collation and not old.collation.startswith("utf8") and old.word == new.word and old.word in _UNBOUNDED:
        return Fit.LOSSY  # its characters take more bytes in utf8mb4
    return Fit.WIDER if _holds(before, after, old, new) else Fit.LOSSY


def _holds(before: str, after: str, old: Kind, new: Kind) -> bool:
    if old.whole:
        return _holds_whole(old, new, boolean=after == BOOLEAN and before != BOOLEAN)
    if new.unsigned and not old.unsigned:
        return False
    match old.word, new.word:
        case "decimal", "decimal":
            (p, s), (q, t) = old.numbers, new.numbers
            return t >= s and q - t >= p - s
        case ("float", "float") | ("float", "double") | ("double", "double"):
            return not new.numbers
        case ("varchar" | "char", "varchar") | ("char", "char") | ("varbinary" | "binary", "varbinary"):
            return new.length >= old.length
        case ("varchar" | "char", text) if text in _UNBOUNDED:
            return _UNBOUNDED[text] >= old.length * CHARACTER_BYTES
        case ("varbinary" | "binary", blob) if blob in _BLOBS:
            return _BLOBS[blob] >= old.length
        case (less, more) if less in _UNBOUNDED and more in _UNBOUNDED:
            return _UNBOUNDED[more] >= _UNBOUNDED[less]
        case (less, more) if less in _BLOBS and more in _BLOBS:
            return _BLOBS[more] >= _BLOBS[less]
        case "enum", "enum":
            return set(values(before)) <= set(values(after))
        case "enum", "varchar":
            return max((len(v) for v in values(before)), default=0) <= new.length
        case ("json", "longtext") | ("date", "datetime"):
            return True
        case ("datetime" | "timestamp", "datetime") | ("timestamp", "timestamp") | ("bit", "bit") | ("time", "time"):
            return new.length >= old.length
        case _:
            return False


def _holds_whole(old: Kind, new: Kind, *, boolean: bool) -> bool:
    """``boolean``: the new type is read as true or false, and the old one was not."""
    low, high = old.range
    if new.whole:
        return not boolean and new.range[0] <= low and high <= new.range[1]
    if new.unsigned and not old.unsigned:
        return False
    if new.word == "decimal":
        precision, scale = new.numbers
        return int(10 ** (precision - scale)) > max(high, -low)
    return high <= {"float": 2**24, "double": 2**53}.get(new.word, -1)
