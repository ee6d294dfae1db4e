"""What polling a simulated session can show, from the moments of the vendor's answers: quotes, and bars made of them.

Written anew from what docs and ``market/minute_bars.py`` promise, one symbol after the other in plain Python, so that it
shares no line with what it judges.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time

import pyarrow as pa
import pyarrow.compute as pc

from mystocks_ingest.market.sessions import ZONE, label_of
from mystocks_ingest.sim.market import Market

_PAUSES = ((time(9, 15), time(9, 30)), (time(11, 30), time(13)), (time(14, 57), time(23)))  # nothing trades one by one
Row = dict[str, object]
Key = tuple[str, datetime]
OF_QUOTES = (
    "last",
    "open",
    "high",
    "low",
    "pre_close",
    "volume",
    "bid_price1",
    "bid_volume1",
    "ask_price1",
    "ask_volume1",
)
"""Of a quote, as tushare's rt_k tells it; its amount is in whole yuan."""
OF_BARS = ("open", "high", "low", "close", "volume", "amount")


def utc(value: object) -> datetime:
    assert isinstance(value, datetime)
    return value.astimezone(UTC)


def quotes_at(market: Market, moment: datetime) -> dict[str, Row]:
    """The stocks' states that an answer of ``moment`` shows, as rt_k rounds them."""
    stocks = pa.array([market.listing.symbols[n] for n in market.kind("stock")])
    table = market.quotes_at(moment)
    rows = table.filter(pc.is_in(table["symbol"], stocks)).to_pylist()
    return {str(r["symbol"]): {**r, "ts": utc(r["ts"]), "amount": float(int(r["amount"]))} for r in rows}


@dataclass(frozen=True)
class Look:
    """The moment that an answer shows, and the service's time when it had dealt with the answer, at the latest."""

    moment: datetime
    by: datetime


@dataclass
class Bar:
    """One bar as the looks showed it. ``sure``: its beginning and its end were seen beyond doubt."""

    open: float
    high: float
    low: float
    close: float
    before: tuple[int, float]  # the day's volume and amount when it began
    now: tuple[int, float]
    sure: bool

    @property
    def volume(self) -> int:
        return self.now[0] - self.before[0]

    @property
    def amount(self) -> float:
        return self.now[1] - self.before[1]


@dataclass
class _Symbol:
    day: date | None = None
    label: datetime | None = None
    total: tuple[int, float] = (0, 0.0)
    high: float = 0.0
    low: float = 0.0
    missed: bool = False  # it traded in a stretch in which nobody may have looked for longer than a bar


@dataclass
class Seen:
    """Every look at the market, in order. ``quotes`` and ``bars`` by symbol and time."""

    market: Market
    quotes: dict[Key, Row] = field(default_factory=dict)
    bars: dict[Key, Bar] = field(default_factory=dict)
    looks: int = 0
    _before: datetime | None = None
    _symbols: dict[str, _Symbol] = field(default_factory=dict)

    def all(self, looks: Sequence[Look]) -> Seen:
        for look in looks:
            self.look(look)
        return self

    def look(self, look: Look) -> None:
        self.looks += 1
        shown = quotes_at(self.market, look.moment)
        for symbol, row in shown.items():
            at = utc(row["ts"])
            self.quotes[symbol, at] = row
            self._count(symbol, row, doubt=_doubt(self._before, look.by, at.astimezone(ZONE).date()))
        clock = look.moment.astimezone(ZONE).time()
        newest = max((utc(row["ts"]) for row in shown.values()), default=look.moment)
        self._before = look.moment if any(a <= clock < b for a, b in _PAUSES) else min(newest, look.moment)

    def _count(self, symbol: str, row: Row, *, doubt: bool) -> None:
        own = self._symbols.setdefault(symbol, _Symbol())
        at, last = utc(row["ts"]), float(str(row["last"]))
        total, high, low = (
            (int(str(row["volume"])), float(str(row["amount"]))),
            float(str(row["high"])),
            float(str(row["low"])),
        )
        day = at.astimezone(ZONE).date()
        if day != own.day:
            own.day, own.total, own.high, own.low, own.label = day, (0, 0.0), 0.0, 0.0, None
        if total == own.total:
            return
        own.missed = own.missed or doubt
        label = utc(datetime.combine(day, label_of(at.astimezone(ZONE).time(), "1m"), ZONE))
        if label != own.label:
            first = own.label is None
            if own.missed and own.label is not None:
                self.bars[symbol, own.label].sure = False
            opened = float(str(row["open"])) if first else last
            self.bars[symbol, label] = Bar(opened, opened, opened, last, own.total, total, sure=not own.missed)
            own.label = label
        bar = self.bars[symbol, label]
        bar.high = max(bar.high, last, high if high > own.high else last)
        bar.low = min(bar.low, last, low if low < own.low or own.low == 0 else last)
        bar.close, bar.now = last, total
        own.total, own.high, own.low, own.missed = total, high, low, False


def _doubt(before: datetime | None, now: datetime, day: date) -> bool:
    """Whether more than a bar of ``day`` may have begun between two looks: the one as early, the other as late as can be."""
    later = now if now.astimezone(ZONE).date() == day else datetime.combine(day, time(23), ZONE)
    begun = _begun(before) if before is not None and before.astimezone(ZONE).date() == day else 0
    return _begun(later) - begun > 1


def _begun(moment: datetime) -> int:
    """How many of the day's minutes have begun."""
    local = moment.astimezone(ZONE)
    minute = local.hour * 60 + local.minute + (1 if local.second or local.microsecond else 0)
    return min(max(minute - 570, 0), 120) + min(max(minute - 780, 0), 120)
