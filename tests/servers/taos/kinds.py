"""Types, columns and errors of the stand-in, with TDengine's own numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

BOOL, TINYINT, SMALLINT, INT, BIGINT, FLOAT, DOUBLE, VARCHAR, TIMESTAMP, NCHAR = range(1, 11)
UTINYINT, USMALLINT, UINT, UBIGINT, JSON, VARBINARY, DECIMAL, BLOB = range(11, 19)
DECIMAL64 = 21

NUMBERS = {
    "BOOL": BOOL,
    "TINYINT": TINYINT,
    "SMALLINT": SMALLINT,
    "INT": INT,
    "INTEGER": INT,
    "BIGINT": BIGINT,
    "FLOAT": FLOAT,
    "DOUBLE": DOUBLE,
    "VARCHAR": VARCHAR,
    "BINARY": VARCHAR,
    "TIMESTAMP": TIMESTAMP,
    "NCHAR": NCHAR,
    "TINYINT UNSIGNED": UTINYINT,
    "SMALLINT UNSIGNED": USMALLINT,
    "INT UNSIGNED": UINT,
    "BIGINT UNSIGNED": UBIGINT,
    "VARBINARY": VARBINARY,
    "DECIMAL": DECIMAL,
}
WORDS = {v: k for k, v in NUMBERS.items() if k not in ("BINARY", "INTEGER")} | {DECIMAL64: "DECIMAL"}
FIXED = {
    BOOL: np.dtype("u1"),
    TINYINT: np.dtype("i1"),
    SMALLINT: np.dtype("<i2"),
    INT: np.dtype("<i4"),
    BIGINT: np.dtype("<i8"),
    FLOAT: np.dtype("<f4"),
    DOUBLE: np.dtype("<f8"),
    TIMESTAMP: np.dtype("<i8"),
    UTINYINT: np.dtype("u1"),
    USMALLINT: np.dtype("<u2"),
    UINT: np.dtype("<u4"),
    UBIGINT: np.dtype("<u8"),
}
SIZED = frozenset({VARCHAR, NCHAR, VARBINARY})
TEXTS = frozenset({VARCHAR, NCHAR})
DECIMALS = frozenset({DECIMAL, DECIMAL64})
KEYS = frozenset({INT, UINT, BIGINT, UBIGINT, VARCHAR})  # what the second part of a composite key may be
_CODECS = (
    dict.fromkeys((INT, UINT), ("simple8b", "lz4"))
    | dict.fromkeys((TINYINT, SMALLINT, UTINYINT, USMALLINT), ("simple8b", "zlib"))
    | dict.fromkeys((BIGINT, UBIGINT, TIMESTAMP), ("delta-i", "lz4"))
    | dict.fromkeys((FLOAT, DOUBLE), ("delta-d", "lz4"))
    | {BOOL: ("bit-packing", "zstd")}
)
COMPRESSIONS = frozenset({"lz4", "zlib", "zstd", "tsz", "xz", "disabled"})
LEVELS = {"h": "high", "m": "medium", "l": "low", "high": "high", "medium": "medium", "low": "low"}
PER_SECOND = {"ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
PRECISIONS = ("ms", "us", "ns")
LATEST = {"ms": 31_556_995_200_000, "us": 31_556_995_200_000_000, "ns": 9_214_646_400_000_000_000}


class TaosError(Exception):
    """What the server answers instead of a result."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def syntax(near: str) -> TaosError:
    return TaosError(0x2600, f'syntax error near "{near[:60]}"')


@dataclass(frozen=True, slots=True)
class Column:
    """``length``: bytes of a VARCHAR, characters of an NCHAR."""

    name: str
    kind: int
    length: int = 0
    precision: int = 0
    scale: int = 0
    note: str = ""
    compress: str = ""  # empty: the type's own
    level: str = ""

    @property
    def codec(self) -> tuple[str, str, str]:
        """Encoding, compression and level as DESCRIBE shows them; the defaults are the manual's."""
        encode, compress = _CODECS.get(self.kind, ("disabled", "zstd" if self.kind in SIZED else "lz4"))
        return encode, self.compress or compress, self.level or "medium"

    @property
    def bytes(self) -> int:
        """The width as the wire tells it."""
        if self.kind in (VARCHAR, VARBINARY):
            return self.length + 2
        if self.kind == NCHAR:
            return self.length * 4 + 2
        if self.kind in DECIMALS:
            return 16 if self.kind == DECIMAL else 8
        return FIXED[self.kind].itemsize

    @property
    def described(self) -> tuple[str, int]:
        """Type and length as DESCRIBE shows them."""
        if self.kind in DECIMALS:
            return f"DECIMAL({self.precision}, {self.scale})", self.bytes
        return WORDS[self.kind], self.length if self.kind in SIZED else self.bytes
