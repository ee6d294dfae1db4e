"""Minute bars laid beside the trades that they are made of: drawn markets, drawn looks, an oracle that knows the trades.

Nothing here is computed as ``minute_bars`` computes it: the oracle has every trade of the day, goes through them one by
one, and says of each minute what must hold of its bar, given only when somebody looked.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from mystocks_ingest.market.datasets import QUOTE
from mystocks_ingest.market.frames import Frame
from mystocks_ingest.market.live import Latest
from mystocks_ingest.market.minute_bars import MinuteBars, shown_until
from mystocks_ingest.market.sessions import ZONE

DAY = datetime(2024, 10, 8, tzinfo=ZONE)
SCHEMA = pa.schema([(f.name, f.type) for f in QUOTE.fields])
AUCTION, OPEN, NOON, AFTERNOON, CLOSE = (h * 3600 + m * 60 for h, m in ((9, 25), (9, 30), (11, 30), (13, 0), (15, 0)))
BUSY = "600000.SH"  # trades every few seconds, as some symbol of a market always does
OTHERS = ("000001.SZ", "300750.SZ", "688001.SH", "920001.BJ")


@dataclass(frozen=True)
class Trade:
    second: int  # of the day
    price: float
    shares: int


Market = dict[str, list[Trade]]
Bar = dict[str, float]


def end_of(second: int) -> int:
    """The end of the minute that a trade counts into: the auction into the first, a full minute's second into its own."""
    if second <= OPEN:
        return OPEN + 60
    if NOON < second <= AFTERNOON:
        return NOON
    return -(-second // 60) * 60


def label(second: int) -> str:
    return f"{second // 3600:02d}:{second % 3600 // 60:02d}"


@st.composite
def markets(draw: st.DrawFn) -> tuple[int, Market]:
    """Some minutes of a day, and what was traded in them."""
    begin = draw(st.sampled_from([AUCTION, OPEN, 10 * 3600, NOON - 240, AFTERNOON, CLOSE - 300]))
    market: Market = {}
    for symbol in (BUSY, *OTHERS):
        if symbol == BUSY:
            seconds = list(range(begin + 1, begin + 480, 5))
        else:
            seconds = sorted(draw(st.lists(st.integers(begin, begin + 480), max_size=12)))
        own = (s for s in seconds if s == AUCTION or OPEN < s <= NOON or AFTERNOON < s <= CLOSE)
        prices = st.integers(990, 1010)
        market[symbol] = [
            Trade(s, (1000 + s % 7 if symbol == BUSY else draw(prices)) / 100, 100 + s % 300) for s in own
        ]
    return begin, market


def quote(symbol: str, trades: list[Trade], second: int) -> dict[str, object] | None:
    """What a vendor shows of the symbol at that second."""
    so_far = [t for t in trades if t.second <= second]
    if not so_far:
        return None
    prices = [t.price for t in so_far]
    return {
        "symbol": symbol, "ts": DAY + timedelta(seconds=so_far[-1].second), "source": "x", "fetched_at": DAY,
        "last": prices[-1], "open": prices[0], "high": max(prices), "low": min(prices),
        "volume": sum(t.shares for t in so_far), "amount": sum(t.shares * t.price for t in so_far),
    }  # fmt: skip


@dataclass
class Life:
    """Bars made from looks, as the service makes them; what was given out last of each minute counts."""

    market: Market
    bars: MinuteBars
    latest: Latest
    given: dict[tuple[str, str], Bar]

    def look(self, second: int) -> None:
        now = (DAY + timedelta(seconds=second)).astimezone(UTC)
        rows = [q for s, trades in self.market.items() if (q := quote(s, trades, second)) is not None]
        frame = Frame(QUOTE, "x", now, pa.RecordBatch.from_pylist(rows, schema=SCHEMA))
        until = shown_until(frame.rows, now)
        news = self.latest.news(frame).frame
        self.latest.hold(news)
        self.bars.look(frame.rows, until)
        self._give(self.bars.take(news) if len(news) else None)
        self.bars.looked(until)

    def flush(self, second: int) -> None:
        self._give(self.bars.flush((DAY + timedelta(seconds=second)).astimezone(UTC)))

    def restart(self) -> None:
        self.bars, self.latest = MinuteBars.restored(self.bars.state), Latest()

    def _give(self, frame: Frame | None) -> None:
        for row in frame.rows.to_pylist() if frame is not None else []:
            self.given[row["symbol"], f"{row['bar_time'].astimezone(ZONE):%H:%M}"] = row


def lived(market: Market, looks: list[int], restarts: set[int]) -> dict[tuple[str, str], Bar]:
    life = Life(market, MinuteBars(), Latest(), {})
    for number, second in enumerate(looks):
        if number in restarts:
            life.restart()
        life.look(second)
        life.flush(second)
    return life.given


def minutes_of(trades: list[Trade]) -> dict[int, list[Trade]]:
    found: dict[int, list[Trade]] = {}
    for trade in trades:
        found.setdefault(end_of(trade.second), []).append(trade)
    return found


def looked_between(looks: list[int], first: int, last: int) -> bool:
    """Whether somebody looked at ``first`` or later, before ``last``."""
    return any(first <= s < last for s in looks)


FAR = 24 * 3600


@settings(max_examples=20)
@given(markets(), st.data())
def test_a_bar_is_the_exchanges_where_somebody_looked_after_its_last_trade_and_before_the_next_and_never_half_a_one(
    drawn: tuple[int, Market], data: st.DataObject
) -> None:
    begin, market = drawn
    steps = data.draw(st.lists(st.sampled_from([3, 5, 11, 30, 58, 90, 200]), min_size=3, max_size=30))
    looks = [begin + sum(steps[:n]) for n in range(len(steps) + 1)]
    restarts = data.draw(st.sets(st.integers(1, len(looks) - 1), max_size=4))
    given_out = lived(market, looks, restarts)
    for symbol, trades in market.items():
        minutes = minutes_of(trades)
        assert {key[1] for key in given_out if key[0] == symbol} <= {label(end) for end in minutes}, "nothing traded"
        ends = sorted(minutes)
        for place, end in enumerate(ends):
            own, bar = minutes[end], given_out.get((symbol, label(end)))
            before = minutes[ends[place - 1]][-1].second if place else None
            after = minutes[ends[place + 1]][0].second if place + 1 < len(ends) else FAR
            begun_clean = before is None or looked_between(looks, before, own[0].second)
            ended_clean = looked_between(looks, own[-1].second, after)
            if bar is None:
                continue
            seen = max(s for s in looks if own[0].second <= s < after)
            assert bar["volume"] >= sum(t.shares for t in own if t.second <= seen), "half a bar looks like a whole one"
            if not (begun_clean and ended_clean):
                continue
            assert bar["volume"] == sum(t.shares for t in own), (symbol, label(end))
            assert abs(bar["amount"] - sum(t.shares * t.price for t in own)) < 0.01
            assert bar["close"] == own[-1].price
            prices = [t.price for t in own]
            assert min(prices) <= bar["low"] <= min(bar["open"], bar["close"])
            assert max(bar["open"], bar["close"]) <= bar["high"] <= max(prices)


@settings(max_examples=10)
@given(markets(), st.data())
def test_looking_every_few_seconds_every_minute_with_a_trade_has_its_bar_exactly_whatever_restarts(
    drawn: tuple[int, Market], data: st.DataObject
) -> None:
    begin, market = drawn
    step = data.draw(st.integers(6, 20))
    looks = sorted({*range(begin - begin % 60, begin + 500, step), *range(begin - begin % 60, begin + 601, 60)})
    if begin not in (AUCTION, OPEN):
        looks = [begin - 120, *looks]  # the day's first minute under way is not seen whole
    given_out = lived(market, looks, data.draw(st.sets(st.integers(1, len(looks) - 1), max_size=4)))
    first = begin + 61 if begin not in (AUCTION, OPEN) else 0
    for symbol, trades in market.items():
        for end, own in minutes_of(trades).items():
            if end < first:
                continue
            bar = given_out[symbol, label(end)]
            assert (bar["volume"], bar["close"]) == (sum(t.shares for t in own), own[-1].price), (symbol, label(end))


@settings(max_examples=10)
@given(markets(), st.data())
def test_no_bar_is_given_out_of_a_minute_that_began_and_ended_while_nobody_looked(
    drawn: tuple[int, Market], data: st.DataObject
) -> None:
    begin, market = drawn
    hole = data.draw(st.integers(begin + 20, begin + 200))
    looks = [*range(begin - 60, hole, 8), *range(hole + data.draw(st.integers(130, 260)), begin + 600, 8)]
    back = next(s for s in looks if s >= hole)
    given_out = lived(market, looks, set())
    for symbol, trades in market.items():
        for end, own in minutes_of(trades).items():
            inside = all(hole - 8 <= t.second for t in own) and end - 60 > hole and end < back
            if inside and end - 60 >= OPEN and end not in (NOON, CLOSE):  # no further minute begins then
                assert (symbol, label(end)) not in given_out
