"""What the monitor log says of itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from time import monotonic


@dataclass(slots=True)
class Missed:
    """What will never be in the database, of what this process told. ``tick``: the last such, on the monotonic clock."""

    lost: int = 0
    refused: int = 0
    reason: str = ""
    tick: float = 0.0

    def more(self, reason: str, *, lost: int = 0, refused: int = 0) -> None:
        self.lost, self.refused = self.lost + lost, self.refused + refused
        self.reason, self.tick = reason, monotonic()


@dataclass(frozen=True, slots=True)
class Initialised:
    """What ``initialise`` found and did; ``kept`` and ``dropped`` count rows by table."""

    place: str
    made: tuple[str, ...]
    kept: Mapping[str, int]
    dropped: Mapping[str, int]
