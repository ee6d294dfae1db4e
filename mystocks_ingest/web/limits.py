"""How much a client may ask, and who has asked too much."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

_CLIENTS = 4096  # of whom is known how much they asked


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of the API. ``wrong_tokens`` a minute from one address are answered 401, more of them 429."""

    requests_per_second: float = 50.0
    burst: int = 200
    requests_at_once: int = 64  # of one token
    wrong_tokens: int = 20
    body_bytes: int = 8 * 1024 * 1024
    body_seconds: float = 30.0
    delivered_rows: int = 20_000
    large_body_bytes: int = 256 * 1024  # from here on, and where the length is not stated,
    large_bodies_at_once: int = 4  # so many are read and judged at once: each takes its size in memory a dozen times
    read_rows: int = 5_000_000  # an estimate of what a question makes the stores read
    reads_at_once: int = 2
    read_seconds: float = 120.0


class Allowance:
    """``burst`` at once for each client, then ``per_second``."""

    def __init__(self, per_second: float, burst: int, *, now: Callable[[], float] = time.monotonic) -> None:
        self._rate = per_second
        self._burst = float(burst)
        self._now = now
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()  # client -> what was left, and when

    def wait(self, client: str) -> float:
        """Spend one; 0, or after how many seconds there is one again (then none was spent)."""
        now = self._now()
        left, at = self._left.pop(client, (self._burst, now))
        left = min(self._burst, left + (now - at) * self._rate)
        short = max(0.0, (1.0 - left) / self._rate)
        self._left[client] = (left if short else left - 1.0, now)
        if len(self._left) > _CLIENTS:
            self._left.popitem(last=False)
        return short
