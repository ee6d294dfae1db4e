"""Where the rows of a Redis table lie: the pattern of their keys, and what Redis keeps under each key."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

_PLACE = re.compile(r"\{([^{}]*)\}")


class Kind(StrEnum):
    """What lies under one Redis key."""

    HASH = "hash"  # one row: a field per column
    MAP = "map"  # several rows: a field per row, its value the row as JSON
    SET = "set"  # several rows: a member per row


@dataclass(frozen=True, slots=True)
class KeySpace:
    """``pattern`` is text with ``{column}`` places, such as ``quote:{symbol}``.

    The key columns the pattern does not name tell the rows under one key apart: a map's field, a set's member.
    ``expire_seconds``: None leaves it to the settings, 0 keeps for ever. One message per batch goes to ``channel``,
    one entry to ``stream``, which keeps about its newest ``stream_length`` entries.
    """

    pattern: str
    kind: Kind = Kind.HASH
    expire_seconds: int | None = None
    channel: str | None = None
    stream: str | None = None
    stream_length: int = 10_000

    @property
    def places(self) -> tuple[str, ...]:
        """The columns the pattern names, in its order."""
        return tuple(_PLACE.findall(self.pattern))

    @property
    def texts(self) -> tuple[str, ...]:
        """The fixed texts around the places: one more than there are places."""
        return tuple(_PLACE.split(self.pattern)[::2])

    def rest(self, key: Sequence[str]) -> tuple[str, ...]:
        """The key columns that the pattern does not name."""
        return tuple(k for k in key if k not in self.places)

    def complaints(self, key: Sequence[str]) -> Iterator[str]:
        """Why rows of a table with this ``key`` cannot be kept so, with the remedy."""
        strange = [p for p in self.places if p not in key]
        if strange:
            yield f"the pattern {self.pattern!r} names {strange[0]!r}, which is not a column of the key"
        if len(set(self.places)) < len(self.places):
            yield f"the pattern {self.pattern!r} names a column twice"
        if any("{" in text or "}" in text for text in self.texts):
            yield f"the pattern {self.pattern!r} has a single brace: a place is written {{column}}"
        if "" in self.texts[1:-1]:
            yield f"the pattern {self.pattern!r} has two places with nothing between them: put a colon there"
        rest = self.rest(key)
        match self.kind:
            case Kind.HASH if rest:
                yield (
                    f"rows that differ in {rest[0]!r} only would share a hash: name {{{rest[0]}}} in the pattern "
                    f"{self.pattern!r}, or use `kind: map`"
                )
            case Kind.MAP if not rest:
                yield f"a map needs a column of the key that is not in its pattern {self.pattern!r}: use `kind: hash`"
            case Kind.SET if len(rest) != 1:
                yield f"a set's members are one column of the key that is not in its pattern {self.pattern!r}"
            case _:
                pass


def default(table_name: str, key: Sequence[str]) -> KeySpace:
    """A hash per row under ``table:value``, for a table that says nothing else."""
    return KeySpace(":".join([table_name, *(f"{{{k}}}" for k in key)]))
