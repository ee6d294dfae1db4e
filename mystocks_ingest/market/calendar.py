"""The trading calendar: which days are sessions, as far as anybody knows.

Known calendars end on 31 December; the exchanges announce the next year in December. What lies outside the known
range is unknown, not closed, so single-day questions about it raise instead of guessing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mystocks_ingest.errors import ConfigError
from mystocks_ingest.market.datasets import CALENDAR
from mystocks_ingest.market.frames import Window

Days = npt.NDArray[np.datetime64]
Mask = npt.NDArray[np.bool_]
HORIZON_DAYS = 30


@dataclass(frozen=True, eq=False)
class Calendar:
    """Sessions of the stock exchanges between ``first`` and ``last`` (both known days, inclusive)."""

    days: Sequence[date] | Days
    first: date
    last: date

    @cached_property
    def open_days(self) -> Days:
        """The sessions, ascending, datetime64[D]."""
        days = np.unique(np.asarray(self.days, dtype="datetime64[D]"))
        known: Days = days[(days >= np.datetime64(self.first)) & (days <= np.datetime64(self.last))]
        known.setflags(write=False)
        return known

    @cached_property
    def _bitmap(self) -> Mask:
        """One flag per calendar day from ``first`` to ``last``."""
        flags = np.zeros((self.last - self.first).days + 1, dtype=np.bool_)
        flags[(self.open_days - np.datetime64(self.first)).astype(np.int64)] = True
        return flags

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Calendar):
            return NotImplemented
        same_range = (self.first, self.last) == (other.first, other.last)
        return same_range and np.array_equal(self.open_days, other.open_days)

    def __hash__(self) -> int:
        return hash((self.first, self.last, len(self.open_days)))

    def covers(self, window: Window) -> bool:
        """Whether every day of the window is known."""
        return not window or (self.first <= window.start and window.last <= self.last)

    def sessions(self, window: Window) -> list[date]:
        """The sessions in the window, ascending; days outside ``first..last`` are unknown and not among them."""
        days: list[date] = self.open_days[self._slice(window)].tolist()
        return days

    def count(self, window: Window) -> int:
        """How many sessions the window holds, as far as it is known."""
        part = self._slice(window)
        return len(self.open_days[part])

    def _slice(self, window: Window) -> slice:
        ends = np.array([window.start, window.end], dtype="datetime64[D]")
        start, end = np.searchsorted(self.open_days, ends)
        return slice(int(start), int(end))

    def is_open(self, day: date) -> bool:
        """Whether the day is a session. Raises ConfigError for a day that the calendar does not know."""
        self._must_know(day)
        return bool(self._bitmap[(day - self.first).days])

    def next_session(self, day: date) -> date:
        """The first session after ``day``. Raises ConfigError beyond the horizon."""
        return self._nth(int(np.searchsorted(self.open_days, np.datetime64(day), side="right")), day)

    def previous_session(self, day: date) -> date:
        """The last session before ``day``. Raises ConfigError before the calendar's first session."""
        return self._nth(int(np.searchsorted(self.open_days, np.datetime64(day))) - 1, day)

    def _nth(self, index: int, day: date) -> date:
        self._must_know(day)
        if not 0 <= index < len(self.open_days):
            raise ConfigError(
                f"the trading calendar knows no session beyond {day}; it covers {self.first}..{self.last}"
            )
        found: date = self.open_days[index].item()
        return found

    def _must_know(self, day: date) -> None:
        if not self.first <= day <= self.last:
            raise ConfigError(f"{day} is outside the known trading calendar, {self.first}..{self.last}; refresh it")

    def known(self, days: Days) -> Mask:
        """Which of ``days`` lie in the known range; NaT does not."""
        mask: Mask = (days >= np.datetime64(self.first)) & (days <= np.datetime64(self.last))
        return mask

    def closed(self, days: Days) -> Mask:
        """Which of ``days`` are known to be no session."""
        known = self.known(days)
        place = np.where(known, (days - np.datetime64(self.first)).astype(np.int64), 0)
        mask: Mask = known & ~self._bitmap[place]
        return mask

    def ordinals(self, days: Days) -> npt.NDArray[np.int64]:
        """Each day's place among the sessions: consecutive sessions differ by one."""
        return np.searchsorted(self.open_days, days).astype(np.int64)

    def days_left(self, today: date) -> int:
        """How many days ahead of ``today`` the calendar is known."""
        return (self.last - today).days

    def alarm(self, today: date) -> str | None:
        """A sentence when the horizon is shorter than 30 days."""
        left = self.days_left(today)
        if left >= HORIZON_DAYS:
            return None
        return f"the trading calendar ends on {self.last}, {left} days from {today}: the next year is not known yet"

    @staticmethod
    def agree(a: Calendar, b: Calendar) -> tuple[Calendar, list[date]]:
        """The union of two calendars, and the days known to both on which they disagree.

        On those days ``a`` is believed. Raises ConfigError when a stretch between them is known to neither.
        """
        earlier, later = sorted((a, b), key=lambda c: c.first)
        if later.first > earlier.last + timedelta(days=1):
            raise ConfigError(f"two trading calendars leave {earlier.last}..{later.first} unknown")
        both = _every_day(later.first, min(a.last, b.last))
        differ: list[date] = both[a.closed(both) != b.closed(both)].tolist()
        days = np.concatenate([a.open_days, b.open_days[~a.known(b.open_days)]])
        return Calendar(days, min(a.first, b.first), max(a.last, b.last)), differ

    @classmethod
    def from_table(cls, table: pa.Table | pa.RecordBatch, exchange: str = "SH") -> Calendar:
        """Of canonical CALENDAR rows; the stock exchanges share their sessions. Raises ConfigError when empty."""
        rows = pa.table(table)
        rows = rows.filter(pc.equal(rows["exchange"], exchange))
        if not rows.num_rows:
            raise ConfigError(f"no trading calendar of {exchange} is stored yet; run backfill --dataset calendar")
        ends = pc.min_max(rows["trade_date"]).as_py()
        days = rows.filter(rows["is_open"])["trade_date"].to_numpy().astype("datetime64[D]")
        return cls(days, ends["min"], ends["max"])

    def to_batch(self, *, source: str, fetched_at: datetime, exchange: str = "SH") -> pa.RecordBatch:
        """Every known day as a CALENDAR row."""
        days = _every_day(self.first, self.last)
        at = fetched_at.astimezone(UTC)
        columns = {
            "exchange": pa.repeat(pa.scalar(exchange), len(days)),
            "trade_date": pa.array(days, pa.date32()),
            "is_open": pa.array(self._bitmap),
            "source": pa.repeat(pa.scalar(source), len(days)),
            "fetched_at": pa.repeat(pa.scalar(at, pa.timestamp("ms", tz="UTC")), len(days)),
        }
        return pa.RecordBatch.from_arrays([columns[name] for name in CALENDAR.schema.names], schema=CALENDAR.schema)


def _every_day(first: date, last: date) -> Days:
    days: Days = np.arange(np.datetime64(first, "D"), np.datetime64(last, "D") + 1)
    return days
