"""The room in a budget that live collection needs, and that all other calls of the source leave to it.

Without it a backfill takes each place that falls free, and quotes come once a minute: what happened between is lost,
while a backfill that waits loses nothing. What is needed is what live calls were made of late; they are told from others
in the file of the counts, so that every process that counts there leaves the same room.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Sequence

from mystocks_ingest.ports import Rate

CALL, LIVE = "call", "live"
SCHEMA = "CREATE TABLE IF NOT EXISTS live (bucket TEXT, minute INTEGER, calls INTEGER, PRIMARY KEY (bucket, minute));"
_MINUTE = 60_000  # all times here are milliseconds
_REMEMBERED = 120  # minutes; longer than the lunch break: the afternoon's first call waits for nobody
_SETTLED = 2  # minutes; before, what was seen is too little to reckon with, and half of the budget is left free
_TRADING = 255 * _MINUTE  # of a day
_SLACK = 2  # calls; polls do not come like a clock's ticks
_MOST = 0.75  # of a window: live collection that could use all of it must not end everything else


class Room:
    """What is left for the calls of ``table`` that can wait."""

    def __init__(self, db: sqlite3.Connection, table: str, rates: Sequence[Rate]) -> None:
        self._db = db
        self._table = table
        self._rates = tuple(rates)

    def wait(self, at: int, cost: int) -> int:
        """0 when ``cost`` calls leave the room that is needed, else the milliseconds until they may."""
        needed = self._needed(at)
        if needed == 0:
            return 0
        return max(self._wait(rate, needed, at, cost) for rate in self._rates)

    def _wait(self, rate: Rate, needed: float | None, at: int, cost: int) -> int:
        window = int(rate.seconds * 1000)
        need = rate.calls // 2 if needed is None else math.ceil(needed * min(window, _TRADING)) + _SLACK
        need = min(need, int(rate.calls * _MOST))
        made, live = self._db.execute(
            f"SELECT COUNT(*), COALESCE(SUM(name = ?), 0) FROM '{self._table}' WHERE item_timestamp >= ?",  # noqa: S608
            (LIVE, at - window),
        ).fetchone()
        over = made + cost - max(rate.calls - max(need - live, 0), cost)
        if over <= 0:
            return 0
        ends = self._db.execute(
            f"SELECT item_timestamp FROM '{self._table}' WHERE item_timestamp >= ? ORDER BY item_timestamp "  # noqa: S608
            "LIMIT 1 OFFSET ?",
            (at - window, over - 1),
        ).fetchone()
        return max(int(ends[0]) + window - at, 1) + 1

    def count(self, at: int, calls: int) -> None:
        """Live calls are made at that time; the caller commits."""
        minute = at // _MINUTE
        self._db.execute("DELETE FROM live WHERE bucket = ? AND minute < ?", (self._table, minute - _REMEMBERED))
        self._db.execute(
            "INSERT INTO live VALUES (?, ?, ?) ON CONFLICT (bucket, minute) DO UPDATE SET calls = calls + excluded.calls",
            (self._table, minute, calls),
        )

    def _needed(self, at: int) -> float | None:
        """Live calls in a millisecond, as in the busiest minute of late; None: they have only just begun."""
        minute = at // _MINUTE
        first, most = self._db.execute(
            "SELECT MIN(minute), MAX(calls) FROM live WHERE bucket = ? AND minute BETWEEN ? AND ?",
            (self._table, minute - _REMEMBERED, minute),
        ).fetchone()
        if first is None:
            return 0.0
        return None if minute - first < _SETTLED else most / _MINUTE
