"""What the service knows of the market: the stored calendar and instrument list, kept while their database is away.

Where the stored calendar ends within days, or has ended, the days after it are computed on this machine: who was down
over the turn of the year still knows a holiday. Beyond that too, weekdays are taken for trading days.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, timedelta

import pyarrow as pa

from mystocks_ingest.errors import ConfigError, IngestError
from mystocks_ingest.flow.reference import Reference
from mystocks_ingest.logs import get
from mystocks_ingest.market import sessions
from mystocks_ingest.market.calendar import Calendar
from mystocks_ingest.market.datasets import CALENDAR
from mystocks_ingest.market.frames import Request, Window
from mystocks_ingest.service import Service
from mystocks_ingest.sources import SECOND_OPINION

log = get("calendar")

_NONE_YET = "none is stored yet"
_UNKNOWN = Calendar([], date(1990, 12, 1), date(1990, 12, 1))  # beyond it weekdays are taken for trading days
_BACK, _AHEAD = timedelta(days=400), timedelta(days=400)
_SHORT = timedelta(days=14)  # longer than any closure of the exchange


@dataclass
class Knowledge:
    """``reference`` is what checks lean on; ``calendar`` is never absent. ``doubt``: why it is not the stored one."""

    service: Service
    reference: Reference = field(init=False)
    calendar: Calendar = _UNKNOWN
    doubt: str = _NONE_YET
    _computed: Calendar | None = None
    _computed_on: date | None = None

    def __post_init__(self) -> None:
        service = self.service
        self.reference = Reference(service.sink, service.journal, service.tables, service.now)

    @property
    def nothing_stored(self) -> bool:
        """The stores were read, and hold no calendar."""
        return self.doubt == _NONE_YET

    async def refresh(self) -> bool:
        """Read again what is stored; whether the calendar is another one now. Never raises for an outage."""
        before = self.calendar
        try:
            await self.reference.recall()
        except IngestError as exc:
            self.doubt = self.doubt and str(exc)
            log.warning("calendar.unread", reason=str(exc))
        else:
            self.doubt = _NONE_YET if self.reference.calendar is None else ""
        stored, today = self.reference.calendar, sessions.today(self.service.now())
        if stored is not None:
            self.calendar = stored
        if (stored is None and self.calendar is _UNKNOWN) or self.calendar.last < today + _SHORT:
            await self._second_opinion(today)
            self.calendar = self._joined()
        return self.calendar != before

    def _joined(self) -> Calendar:
        """The stored calendar, and what is computed of the days after it."""
        stored, computed = self.reference.calendar, self._computed
        if stored is None or computed is None:
            return computed or stored or self.calendar
        try:
            return Calendar.agree(stored, computed)[0]
        except ConfigError:  # it ended longer ago than anything is computed of
            return computed

    async def _second_opinion(self, today: date) -> None:
        """Computed on this machine, once a day; holidays are known by it before the vendor's calendar is stored."""
        if self._computed_on == today:
            return
        source = self.service.source(SECOND_OPINION)
        try:
            rows = [f.rows async for f in source.fetch(Request(CALENDAR, Window(today - _BACK, today + _AHEAD)))]
        except IngestError as exc:
            log.warning("calendar.assumed", reason=str(exc), instead="weekdays are taken for trading days")
            return
        if rows:
            self._computed, self._computed_on = Calendar.from_table(pa.Table.from_batches(rows)), today
            why = self.doubt or f"the stored one ends on {self.calendar.last}"
            log.warning("calendar.computed", until=self._computed.last.isoformat(), why=why)

    def window(self, day: date, count: int) -> Window:
        """The last ``count`` sessions up to ``day``, and all days since."""
        today = sessions.today(self.service.now())
        known = self.calendar.sessions(Window(self.calendar.first, day + timedelta(days=1)))
        if day <= self.calendar.last and len(known) >= count:
            return Window(known[-count], today + timedelta(days=1))
        return Window(day - timedelta(days=2 * count + 10), today + timedelta(days=1))  # the backfill knows better
