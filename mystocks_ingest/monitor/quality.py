"""How good a source is: a score from 0 to 100 out of its latest runs. Pure.

score = 100 x answered x accepted x delivered, where
  answered   of its calls, the share that gave an answer: rows, or a valid "there is none"; calls put off by a quota are
             left out, since they say nothing of the data
  accepted   of the rows it gave, the share that passed every check
  delivered  of the rows that were wanted of it, the share that came: rows / (rows + sessions it was asked for in vain and
             that are missing still)
A share of nothing is 1. The latest ``RUNS`` runs in which it was called count, each ``FADING`` times its successor.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

RUNS = 10
FADING = 0.8


@dataclass(frozen=True, slots=True)
class Figures:
    """One source's part of one run. Calls by how they ended: ``good``, ``failed``, ``limited``; the others are rows."""

    source: str
    run_id: str
    at: datetime
    good: int
    failed: int
    limited: int
    rows: int
    refused: int
    missing: int


@dataclass(frozen=True, slots=True)
class Quality:
    """All in percent, to one decimal; ``runs``: how many the score rests on."""

    score: float
    answered: float
    accepted: float
    delivered: float
    runs: int


def quality(latest: Sequence[Figures]) -> Quality | None:
    """Of one source's runs, newest first; None when none of them tells anything."""
    telling = [f for f in latest if f.good + f.failed + f.rows + f.refused][:RUNS]
    if not telling:
        return None
    weights = [FADING**age for age in range(len(telling))]

    def share(of: str, against: str) -> float:
        good = sum(w * getattr(f, of) for w, f in zip(weights, telling, strict=True))
        bad = sum(w * getattr(f, against) for w, f in zip(weights, telling, strict=True))
        return float(good / (good + bad)) if good + bad else 1.0

    answered, accepted, delivered = share("good", "failed"), share("rows", "refused"), share("rows", "missing")
    return Quality(
        round(100 * answered * accepted * delivered, 1),
        round(100 * answered, 1),
        round(100 * accepted, 1),
        round(100 * delivered, 1),
        len(telling),
    )
