"""Names in TDengine: of sub tables, and quoted in SQL."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2s

LONGEST = 192
_PLAIN = re.compile(r"([0-9A-Z]+)\.([A-Z]+)")


@lru_cache(maxsize=65_536)
def sub_table(super_table: str, *tags: object) -> str:
    """The sub table that holds the rows of these key tags: ``bar_1m_600000_sh`` for ``600000.SH``.

    Different tags never share a name. TDengine takes a dot in a name for the end of the database's name even within
    backticks, and stmt2 binds names without quotes, so that a hyphen breaks them: a symbol that is no plain
    ``CODE.EXCHANGE`` (a hyphen, Chinese, lower case) gives a digest behind two underscores, which no plain one has.
    All sub tables of a database share one name space, hence the super table's name in front.
    """
    match = _PLAIN.fullmatch(tags[0]) if len(tags) == 1 and isinstance(tags[0], str) else None
    if match is not None:
        name = f"{super_table}_{match[1]}_{match[2]}".lower()
        if len(name) <= LONGEST and super_table == super_table.lower():
            return name
    text = "\0".join(repr(tag) for tag in tags)
    return f"{super_table.lower()}__{blake2s(f'{super_table}|{text}'.encode(), digest_size=16).hexdigest()}"


def quoted(*names: str) -> str:
    """``database``.``table`` in TDengine's quotes. The names come from the validated YAML."""
    return ".".join("`" + name.replace("`", "") + "`" for name in names)


def literal(value: str | float | bool | None) -> str:  # noqa: FBT001 - a value, not a switch
    """A value as SQL text."""
    match value:
        case None:
            return "NULL"
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case _:
            return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def listed(names: Sequence[str]) -> str:
    """Quoted names with commas."""
    return ", ".join(quoted(n) for n in names)
