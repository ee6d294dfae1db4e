"""The time that the simulated exchange has: it starts where it is told to, runs faster than ours, and can be set."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from mystocks_ingest.market.datasets import SHANGHAI

ZONE = ZoneInfo(SHANGHAI)


class Clock:
    """``speed`` seconds of the exchange pass in one of ours; 0: it stands still until it is set again."""

    def __init__(self, moment: datetime, speed: float, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._behind, self._half = timedelta(), False
        self._held: datetime | None = None
        self.shown: dict[str, list[str]] = {}
        """The moments of the answers made so far, by api, as ISO texts."""
        self.set(moment, speed)

    def set(self, moment: datetime | None = None, speed: float | None = None, *, since: float | None = None) -> None:
        """What is None stays as it is. A moment without a zone is Shanghai's. Raises ValueError for a negative speed.

        ``since``: the monotonic second at which it was that moment, so that two processes have one time; None: now.
        """
        if speed is not None and not 0 <= speed < float("inf"):
            raise ValueError(f"the clock cannot run at speed {speed}")
        at = self.true if moment is None else moment
        self._moment = (at if at.tzinfo is not None else at.replace(tzinfo=ZONE)).astimezone(UTC)
        self.speed = self.speed if speed is None else speed
        self._since = self._monotonic() if since is None else since

    speed: float = 1.0

    @property
    def true(self) -> datetime:
        """The exchange's time, aware UTC."""
        if self._held is not None:
            return self._held
        return self._moment + timedelta(seconds=(self._monotonic() - self._since) * self.speed)

    @property
    def moment(self) -> datetime:
        """The time of the answer being made: earlier than ``true`` where a fault makes a server lag behind."""
        return self.true - self._behind

    @property
    def leading(self) -> datetime | None:
        """Set while half of the symbols are to be shown at a later time than ``moment``."""
        return self.true if self._half else None

    @contextmanager
    def behind(self, seconds: float, *, half: bool = False) -> Iterator[None]:
        """The answer made inside is ``seconds`` old; or, by ``half``, that of every other symbol.

        It is of one moment, however long it takes to make.
        """
        self._held = self.true
        self._behind, self._half = timedelta(seconds=seconds), half
        try:
            yield
        finally:
            self._behind, self._half, self._held = timedelta(), False, None

    def note(self, api: str) -> None:
        """Remember that an answer of ``moment`` was made."""
        self.shown.setdefault(api, []).append(self.moment.isoformat())
