"""What calls did lately: how long they took, how many failed, and how long those still under way have taken. Pure.

Times are of one monotonic clock, in seconds; whoever asks says what time it is.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from math import ceil

WINDOW_SECONDS = 300.0
_FEW = 10  # of fewer calls a share says nothing: one failure in the night is no error rate


@dataclass(frozen=True, slots=True)
class Lately:
    """Calls of the last five minutes. ``p50`` and ``p99`` are of those that were answered; ``slowest`` of all.

    ``error_ratio`` is 0 to 1, and 0 while there were fewer than ten calls.
    """

    calls: int = 0
    failed: int = 0
    p50: float | None = None
    p99: float | None = None
    slowest: float = 0.0

    @property
    def error_ratio(self) -> float:
        return self.failed / self.calls if self.calls >= _FEW else 0.0


@dataclass
class Recent:
    """A rolling window over calls of several kinds (``write``, ``read``)."""

    window: float = WINDOW_SECONDS
    most: int = 4096
    _ended: deque[tuple[float, float, bool, str]] = field(default_factory=deque)  # when, seconds, failed, kind
    _under_way: dict[int, tuple[float, str]] = field(default_factory=dict)
    _number: int = 0

    def began(self, kind: str, at: float) -> int:
        """The number by which ``ended`` knows the call."""
        self._number += 1
        self._under_way[self._number] = (at, kind)
        return self._number

    def ended(self, number: int, at: float, *, failed: bool) -> float:
        """How long it took."""
        began, kind = self._under_way.pop(number)
        self.add(kind, at, at - began, failed=failed)
        return at - began

    def add(self, kind: str, at: float, seconds: float, *, failed: bool) -> None:
        """A call that ended ``at`` after ``seconds``."""
        self._ended.append((at, seconds, failed, kind))
        self._forget(at)

    @property
    def under_way(self) -> int:
        return len(self._under_way)

    def lately(self, now: float, kind: str = "") -> Lately:
        """``kind`` empty: calls of every kind."""
        self._forget(now)
        mine = [(seconds, failed) for _, seconds, failed, of in self._ended if kind in ("", of)]
        hung = [now - began for began, of in self._under_way.values() if kind in ("", of)]
        good = sorted(seconds for seconds, failed in mine if not failed)
        return Lately(
            len(mine),
            sum(failed for _, failed in mine),
            _quantile(good, 0.5),
            _quantile(good, 0.99),
            max((seconds for seconds, _ in mine), default=0.0) if not hung else max(*hung, *(s for s, _ in mine), 0.0),
        )

    def _forget(self, now: float) -> None:
        while self._ended and (len(self._ended) > self.most or self._ended[0][0] < now - self.window):
            self._ended.popleft()


def _quantile(ordered: list[float], share: float) -> float | None:
    return ordered[max(ceil(share * len(ordered)) - 1, 0)] if ordered else None
