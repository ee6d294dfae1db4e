"""What a check says: the context it judges in, the rules it knows, the rows it accepts and refuses."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mystocks_ingest.market.calendar import Calendar
from mystocks_ingest.market.frames import Frame
from mystocks_ingest.market.instruments import Instruments

Mask = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.int64]
Explain = Callable[[Rows], Iterable[str]]


class Rule(StrEnum):
    """Why a row is refused. Users filter dead letters by these words."""

    MISSING = "missing"  # a required cell is empty or unreadable
    DUPLICATE_KEY = "duplicate_key"  # rows of one key that differ
    NOT_A_SESSION = "not_a_session"
    IN_THE_FUTURE = "in_the_future"
    BEFORE_LISTING = "before_listing"
    AFTER_DELISTING = "after_delisting"
    BAR_LABEL = "bar_label"  # no bar of this interval ends at that time
    UNFINISHED = "unfinished"  # fetched before the close and not marked provisional
    FORWARD_ADJUSTED = "forward_adjusted"
    BACK_ADJUSTED = "back_adjusted"
    SUSPENDED = "suspended"  # a placeholder of a session without trading
    PRICE_NOT_POSITIVE = "price_not_positive"
    OHLC_ORDER = "ohlc_order"
    NEGATIVE_VOLUME = "negative_volume"
    UNIT = "unit"  # amount/volume is a power of ten away from the prices
    VWAP = "vwap"  # amount/volume lies outside [low, high]
    OFF_TICK = "off_tick"  # no order can have this price
    PRICE_LIMIT = "price_limit"
    OUT_OF_RANGE = "out_of_range"
    INCONSISTENT = "inconsistent"  # two columns of a row contradict each other


@dataclass(frozen=True, slots=True)
class Quality:
    """The user's own rules: columns never empty; of each word (a column, or ``price``) the least and the greatest."""

    required: tuple[str, ...] = ()
    ranges: tuple[tuple[str, float | None, float | None], ...] = ()


@dataclass(frozen=True, slots=True)
class Context:
    """What a check may lean on. ``now`` is aware; what is None is not known, and its rules are silent."""

    now: datetime
    calendar: Calendar | None = None
    instruments: Instruments | None = None
    quality: Quality | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """Refused rows (raw rows aligned) with, for each, the rule's name and a sentence holding the numbers."""

    frame: Frame
    rules: list[str]
    reasons: list[str]

    def __len__(self) -> int:
        return len(self.rules)


@dataclass(frozen=True, slots=True)
class Checked:
    """A frame judged. Exact repetitions of a row are in neither part."""

    accepted: Frame
    refused: Refused


class Verdict:
    """Collects refusals of the rows of one frame; the first rule that refuses a row keeps it."""

    def __init__(self, rows: int) -> None:
        self._open = np.ones(rows, dtype=np.bool_)
        self._found: list[tuple[Rows, Rule, list[str]]] = []

    def refuse(self, rule: Rule, mask: Mask, explain: Explain) -> None:
        """Refuse the rows of ``mask`` still standing; ``explain`` gives one sentence per row number."""
        if not mask.any():
            return
        rows = np.flatnonzero(mask & self._open)
        if len(rows):
            self._found.append((rows, rule, list(explain(rows))))
            self._open[rows] = False

    def refuse_rows(self, rule: Rule, rows: Rows, explain: Explain) -> None:
        """``refuse`` for row numbers."""
        rows = rows[self._open[rows]]
        if len(rows):
            self._found.append((rows, rule, list(explain(rows))))
            self._open[rows] = False

    def drop(self, rows: Rows) -> None:
        """Leave out rows that only repeat another one."""
        self._open[rows] = False

    @property
    def standing(self) -> Mask:
        """The rows that no rule has refused yet."""
        return self._open

    def split(self, frame: Frame) -> Checked:
        """The frame's accepted and refused rows, each in the frame's order."""
        accepted = frame if self._open.all() else frame.take(pa.array(np.flatnonzero(self._open)))
        if not self._found:
            return Checked(accepted, Refused(frame.take(pa.array([], pa.int64())), [], []))
        rows = np.concatenate([found[0] for found in self._found])
        rules = [str(rule) for found, rule, _ in self._found for _ in range(len(found))]
        reasons = [reason for _, _, given in self._found for reason in given]
        order = np.argsort(rows, kind="stable")
        refused = Refused(frame.take(pa.array(rows[order])), [rules[i] for i in order], [reasons[i] for i in order])
        return Checked(accepted, refused)


def number(value: float) -> str:
    """A number as a person writes it: 10.2, 52454816."""
    return f"{value:.12g}"
