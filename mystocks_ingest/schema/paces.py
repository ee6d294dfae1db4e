"""How often a vendor is called, as a user says it; ``pacing`` reads it from the file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Calls:
    """At most ``most`` calls in any ``seconds``."""

    most: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Pace:
    """What the file says of one source; None: it says nothing, and what the program knows of the vendor holds."""

    calls: tuple[Calls, ...] | None = None
    each_api: tuple[Calls, ...] | None = None
    by_api: Mapping[str, tuple[Calls, ...]] | None = None
    spacing_seconds: float | None = None
    strikes: int | None = None
    rest_seconds: float | None = None
