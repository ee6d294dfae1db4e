"""Names, texts and servers as MySQL and MariaDB spell them. Pure.

Every moment is a ``DATETIME`` with the fraction its values have: ``TIMESTAMP`` ends in 2038. It holds the wall clock of
the column's own zone: UTC for ``fetched_at`` and the like, UTC+08:00 for Shanghai times. Text is utf8mb4 and compared
by its bytes, so that two keys are equal here only where they are equal everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from mystocks_ingest.schema.tables import Database

ENGINE = "InnoDB"
CHARSET = "utf8mb4"
COLLATION = {Database.MARIADB: "utf8mb4_nopad_bin", Database.MYSQL: "utf8mb4_0900_bin"}
"""By code point, and with trailing spaces that count."""

CHARACTER_BYTES = 4
"""What a character of utf8mb4 may take, in a row and in an index."""
KEY_BYTES = 3072
"""Of one index, its columns together (InnoDB, ROW_FORMAT=DYNAMIC)."""
KEY_COLUMNS = 16
ROW_BYTES = 65_535
"""Of one row without what lies beside it (TEXT, BLOB, JSON)."""
COLUMN_COMMENT, TABLE_COMMENT = 1024, 2048

_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "0": "\0", "b": "\b", "Z": "\x1a"}


@dataclass(frozen=True, slots=True)
class Server:
    """Which of the two servers it is. ``lower_names``: it stores names of databases and tables in lower case."""

    kind: Database = Database.MARIADB
    version: tuple[int, ...] = (10, 11)
    lower_names: bool = False

    @property
    def mariadb(self) -> bool:
        return self.kind is Database.MARIADB

    @property
    def collation(self) -> str:
        return COLLATION[self.kind]

    @property
    def descends(self) -> bool:
        """Whether an index keeps DESC; MariaDB before 10.8 reads the word and forgets it."""
        return not self.mariadb or self.version >= (10, 8)

    def name(self, text: str) -> str:
        """A database's or table's name as this server stores it."""
        return text.lower() if self.lower_names else text


def quoted(*names: str) -> str:
    """Identifiers in backticks, joined by dots."""
    return ".".join("`" + name.replace("`", "``") + "`" for name in names)


def literal(text: str) -> str:
    """A string in quotes; the session has no NO_BACKSLASH_ESCAPES."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def unquoted(text: str) -> str:
    """The text of a literal; of several ways to escape, each is understood."""
    inner = text[text.index("'") + 1 : -1].replace("''", "'")
    return re.sub(r"\\(.)", lambda m: _ESCAPES.get(m[1], m[1]), inner, flags=re.DOTALL)


def names(columns: Iterable[str]) -> str:
    """A list of quoted names."""
    return ", ".join(quoted(name) for name in columns)
