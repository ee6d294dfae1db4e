"""What the service knows of the market: the stored calendar and instrument list, kept while their database is away."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, timedelta

import pyarrow as pa

from mystocks_ingest.errors import IngestError
from mystocks_ingest.flow.reference import Reference
from mystocks_ingest.logs import get
from mystocks_ingest.market import sessions
from mystocks_ingest.market.calendar import Calendar
from mystocks_ingest.market.datasets import CALENDAR
from mystocks_ingest.market.frames import Request, Window
from mystocks_ingest.service import Service
from mystocks_ingest.sources import SECOND_OPINION

log = get("calendar")

_UNKNOWN = Calendar([], date(1990, 12, 1), date(1990, 12, 1))  # beyond it weekdays are taken for trading days
_BACK, _AHEAD = timedelta(days=400), timedelta(days=400)


@dataclass
class Knowledge:
    """``reference`` is what checks lean on; ``calendar`` is never absent. ``doubt``: why it is not the stored one."""

    service: Service
    reference: Reference = field(init=False)
    calendar: Calendar = _UNKNOWN
    doubt: str = "none is stored yet"

    def __post_init__(self) -> None:
        service = self.service
        self.reference = Reference(service.sink, service.journal, service.tables, service.now)

    async def refresh(self) -> bool:
        """Read again what is stored; whether the calendar is another one now. Never raises for an outage."""
        before = self.calendar
        try:
            await self.reference.recall()
        except IngestError as exc:
            self.doubt = self.doubt and str(exc)
            log.warning("calendar.unread", reason=str(exc))
        if self.reference.calendar is not None:
            self.calendar, self.doubt = self.reference.calendar, ""
        elif self.calendar is _UNKNOWN:
            await self._second_opinion()
        return self.calendar != before

    async def _second_opinion(self) -> None:
        """Computed on this machine; holidays are known by it before the vendor's calendar is stored."""
        today = sessions.today(self.service.now())
        source = self.service.source(SECOND_OPINION)
        try:
            rows = [f.rows async for f in source.fetch(Request(CALENDAR, Window(today - _BACK, today + _AHEAD)))]
        except IngestError as exc:
            log.warning("calendar.assumed", reason=str(exc), instead="weekdays are taken for trading days")
            return
        if rows:
            self.calendar = Calendar.from_table(pa.Table.from_batches(rows))
            log.warning("calendar.computed", until=self.calendar.last.isoformat(), why=self.doubt)

    def window(self, day: date, count: int) -> Window:
        """The last ``count`` sessions up to ``day``, and all days since."""
        today = sessions.today(self.service.now())
        known = self.calendar.sessions(Window(self.calendar.first, day + timedelta(days=1)))
        if day <= self.calendar.last and len(known) >= count:
            return Window(known[-count], today + timedelta(days=1))
        return Window(day - timedelta(days=2 * count + 10), today + timedelta(days=1))  # the backfill knows better
