"""How long ago something was, by two clocks: the wall's may be set back, the monotonic one stands while a machine sleeps.

A moment that was an hour ago before the wall clock was set back by an hour lies "now"; judged by it alone everything
would look fresh until the clock has caught up. So each moment is remembered by both, and the longer age is believed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from time import monotonic

_DOUBT_SECONDS = 5.0  # the clocks drift apart by less than this within months of a moment


@dataclass(frozen=True, slots=True)
class Noted:
    """A moment: ``at`` (aware) by the wall clock, ``tick`` by the monotonic one, in seconds."""

    at: datetime
    tick: float

    @classmethod
    def at_once(cls, now: datetime) -> Noted:
        return cls(now, monotonic())

    def age(self, now: datetime) -> float:
        """Seconds since then, never negative."""
        return max((now - self.at).total_seconds(), monotonic() - self.tick)

    def set_back(self, now: datetime) -> float:
        """By how many seconds the wall clock was set back since then; 0 for what drifting explains."""
        behind = monotonic() - self.tick - (now - self.at).total_seconds()
        return behind if behind > _DOUBT_SECONDS else 0.0
