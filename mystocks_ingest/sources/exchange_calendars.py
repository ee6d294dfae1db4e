"""The second opinion on trading days: the exchange_calendars package, asked in a lane because it brings pandas.

It computes without a network. Its days come from the exchange's announcements, so it ends on a 31 December.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING

from mystocks_ingest.errors import Unsupported
from mystocks_ingest.market.datasets import CALENDAR
from mystocks_ingest.market.frames import Frame, Request
from mystocks_ingest.market.layout import Column, Layout, Read, normalize, within
from mystocks_ingest.ports import Offer, Rate

if TYPE_CHECKING:
    import pandas as pd

_DAYS = "mystocks_ingest.sources.exchange_calendars:days"
_DEADLINE_SECONDS = 60.0
LAYOUT = Layout(
    "exchange_calendars XSHG",
    CALENDAR,
    {"trade_date": Column(("day",), Read.DAY), "is_open": Column(("is_open",), Read.FLAG)},
    signature=frozenset({"day", "is_open"}),
    constants={"exchange": "SH"},
)


def days(*, first: str, last: str) -> pd.DataFrame:
    """Every day from ``first`` to ``last`` that the package knows, and whether Shanghai trades on it."""
    import exchange_calendars  # noqa: PLC0415  # only in the lane
    import pandas as pd  # noqa: PLC0415
    from exchange_calendars.exchange_calendar_xshg import XSHGExchangeCalendar as Xshg  # noqa: PLC0415

    start = max(filter(None, (pd.Timestamp(first), Xshg.bound_min())))
    end = min(filter(None, (pd.Timestamp(last), Xshg.bound_max())))
    known = pd.date_range(start, end, freq="D")
    calendar = exchange_calendars.get_calendar("XSHG", start=start, end=end)
    return pd.DataFrame({"day": known.strftime("%Y-%m-%d"), "is_open": known.isin(calendar.sessions)})


class ExchangeCalendars:
    """See ports.Source."""

    name = "exchange_calendars"
    family = "exchange_calendars"
    offers: Mapping[str, Offer] = {"calendar": Offer(by_symbol=False, asset_types=frozenset({"stock", "index", "etf"}))}
    rates: Sequence[Rate] = ()
    concurrency = 1

    def __init__(self, *, clock: Callable[[], datetime]) -> None:
        from mystocks_ingest.sources.lane import Lane  # noqa: PLC0415  # the child imports this file as well

        self._clock = clock
        self._lane = Lane(self.name, idle_seconds=5.0)

    async def fetch(self, request: Request) -> AsyncIterator[Frame]:
        """As Source.fetch."""
        if request.dataset is not CALENDAR:
            raise Unsupported(f"{self.name} has no {request.dataset}")
        arguments = {"first": str(request.window.start), "last": str(request.window.last)}
        answer = await self._lane.call(_DAYS, arguments, deadline=_DEADLINE_SECONDS)
        for frame in normalize(LAYOUT, answer.rows, source=self.name, fetched_at=self._clock()):
            yield within(frame, request.window)

    def calls(self, request: Request) -> int:  # noqa: ARG002  # it costs nobody's budget
        """As Source.calls."""
        return 0

    async def probe(self) -> None:
        """As Source.probe."""
        arguments = {"first": str(date(2025, 2, 3)), "last": str(date(2025, 2, 7))}
        await self._lane.call(_DAYS, arguments, deadline=_DEADLINE_SECONDS)

    async def aclose(self) -> None:
        """As Source.aclose."""
        await self._lane.aclose()
