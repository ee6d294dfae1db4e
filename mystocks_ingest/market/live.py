"""Live rows: which of a poll's quotes and trades are news, and minute bars built from quotes. Pure, a column at a time.

Vendors answer a poll with the whole market, most of it unchanged; servers behind one address lag behind each other, so
that an older state may come after a newer one. A quote is news when something but its time differs from what is held,
its time is not older, and the session's volume has not shrunk. One whose volume has grown is newer whatever its time
says: some vendors stamp the last trade, of others only the time of receipt is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mystocks_ingest.market import sessions
from mystocks_ingest.market.datasets import DATASETS
from mystocks_ingest.market.frames import Frame

Integers = npt.NDArray[np.int64]
Prices = npt.NDArray[np.float64]
Marks = npt.NDArray[np.bool_]
Number = TypeVar("Number", np.int64, np.float64)
_PRIME = np.uint64(0x100000001B3)
_UNTOLD = frozenset({"symbol", "ts", "source", "fetched_at"})  # what may differ without being news
_NEVER = np.iinfo(np.int64).min
_DAY_MS = 24 * 3600 * 1000
_SHANGHAI_MS = 8 * 3600 * 1000
FROM_QUOTES = "quotes"
"""The ``source`` of bars that were built here; such bars are provisional: a vendor's own replaces them."""


@dataclass(frozen=True, slots=True)
class News:
    """``frame`` holds the rows that are news; the counts, those that are not, and why."""

    frame: Frame
    unchanged: int
    late: int  # the time is older than what is held
    stale: int  # the session's volume has shrunk: a server that lags behind


class Known(Protocol):
    """What was stored of a live dataset. Asking what is news changes nothing: only what was stored is held."""

    def news(self, frame: Frame) -> News: ...

    def hold(self, stored: Frame, turned_down: Sequence[Frame] = ()) -> None:
        """``stored`` is known from now on; rows of ``turned_down`` are no news while they come unchanged."""
        ...


class Symbols:
    """The symbols met so far, each with its place. Who holds arrays by place widens them when there are more."""

    def __init__(self) -> None:
        self._met: pa.Array = pa.array([], pa.string())

    def places(self, symbols: pa.Array) -> Integers:
        """Where each of ``symbols`` is; new ones get the next places."""
        found = pc.index_in(symbols, value_set=self._met)
        if found.null_count:
            self._met = pa.concat_arrays([self._met, symbols.filter(found.is_null()).unique()])
            found = pc.index_in(symbols, value_set=self._met)
        places: Integers = found.to_numpy().astype(np.int64)
        return places

    def at(self, places: Integers) -> pa.Array:
        """The symbols at ``places``."""
        return self._met.take(pa.array(places))

    def __len__(self) -> int:
        return len(self._met)


class Latest:
    """The newest state of each symbol: quotes or books. Not for two callers at once.

    A row that the checks refuse is not held: a volume a hundred times too large would make the right ones stale.
    """

    def __init__(self) -> None:
        self._symbols = Symbols()
        self._held: dict[str, Integers] = {name: np.empty(0, np.int64) for name in ("ts", "volume", "digest", "bad")}

    def news(self, frame: Frame) -> News:
        """What is new in ``frame``."""
        rows = frame.rows
        if not rows.num_rows:
            return News(frame, 0, 0, 0)
        place = self._places(rows.column("symbol"))
        now = {"ts": _instants(rows.column("ts")), "volume": _volume(rows), "digest": _digest(rows)}
        held = {name: values[place] for name, values in self._held.items()}
        same_day = _day(now["ts"]) == _day(held["ts"])
        late = (now["ts"] < held["ts"]) & ~(same_day & (now["volume"] > held["volume"]))
        unchanged = ~late & ((same_day & (now["digest"] == held["digest"])) | (now["digest"] == held["bad"]))
        stale = ~late & ~unchanged & same_day & (now["volume"] < held["volume"])
        fresh = ~(late | unchanged | stale)
        kept = frame if fresh.all() else frame.take(pa.array(np.flatnonzero(fresh)))
        return News(kept, int(unchanged.sum()), int(late.sum()), int(stale.sum()))

    def hold(self, stored: Frame, turned_down: Sequence[Frame] = ()) -> None:
        """As Known.hold."""
        for frame in turned_down:
            if len(frame):
                place = self._places(frame.rows.column("symbol"))
                self._held["bad"][place] = _digest(frame.rows)
        if not len(stored):
            return
        rows = once(stored.rows)
        place = self._places(rows.column("symbol"))
        self._held["ts"][place] = np.maximum(_instants(rows.column("ts")), self._held["ts"][place])
        self._held["volume"][place], self._held["digest"][place] = _volume(rows), _digest(rows)

    def _places(self, symbols: pa.Array) -> Integers:
        places = self._symbols.places(symbols)
        self._held = {name: _wider(values, len(self._symbols), _NEVER) for name, values in self._held.items()}
        return places


class Trades:
    """The last trade of each symbol. A vendor answers each time with the session's trades so far, in their order."""

    def __init__(self) -> None:
        self._symbols = Symbols()
        self._last = np.empty(0, np.int64)

    def news(self, frame: Frame) -> News:
        """The trades after the last one held."""
        if not len(frame):
            return News(frame, 0, 0, 0)
        place = self._places(frame.rows.column("symbol"))
        fresh = _trade(frame.rows) > self._last[place]
        kept = frame if fresh.all() else frame.take(pa.array(np.flatnonzero(fresh)))
        return News(kept, int((~fresh).sum()), 0, 0)

    def hold(self, stored: Frame, turned_down: Sequence[Frame] = ()) -> None:
        """As Known.hold."""
        for frame in (stored, *turned_down):
            if len(frame):
                place = self._places(frame.rows.column("symbol"))
                np.maximum.at(self._last, place, _trade(frame.rows))

    def _places(self, symbols: pa.Array) -> Integers:
        places = self._symbols.places(symbols)
        self._last = _wider(self._last, len(self._symbols), _NEVER)
        return places


class MinuteBars:
    """One-minute bars from quotes: prices as they were seen, volume and amount as the day's totals grew.

    A high or low of the day that is new since the quote before counts into the bar, seen or not. A bar that was given
    out and for which a quote comes in after all is given out again.
    """

    def __init__(self) -> None:
        self._dataset = DATASETS["bar_1m"]
        self._symbols = Symbols()
        self._label = np.empty(0, np.int64)  # the end of the bar under way, ms; negative: it was given out; 0: none yet
        self._prices = np.empty((4, 0))  # open, high, low, close
        self._totals = np.empty((4, 0))  # volume and amount: before the bar, and now
        self._range = np.empty((2, 0))  # the day's high and low as last seen; 0: not known
        self._heard = np.empty(0, np.int64)  # since which loss of sight the symbol was seen
        self._losses = 0
        self._lost_day = -1

    def lost(self, at: datetime) -> None:
        """Nobody looked until ``at`` (aware): what has grown meanwhile is no minute's, and counts into no bar."""
        self._losses += 1
        self._lost_day = int(_day(np.array([int(at.timestamp() * 1000)]))[0])

    def take(self, frame: Frame) -> Frame | None:
        """Count ``frame`` (quotes) in; the bars that it completes."""
        rows = once(frame.rows.filter(pc.greater(pc.fill_null(frame.rows.column("last"), 0.0), 0.0)))
        if not rows.num_rows:
            return None
        place = self._places(rows.column("symbol"))
        label = _labels(_instants(rows.column("ts")))
        last = rows.column("last").to_numpy(zero_copy_only=False)
        totals = np.stack([_numbers(rows, "volume"), _numbers(rows, "amount")])
        blind = (self._heard[place] != self._losses) & (_day(label) == self._lost_day)
        ended = (label > self._label[place]) & (self._label[place] > 0)
        done = self._bars(place[ended], frame.fetched_at)
        begins = label > np.abs(self._label[place])
        at, unseen = place[begins], blind[begins]
        of_new_day = (_day(label[begins]) != _day(self._label[at])) & ~unseen
        self._range[:, place[_day(label) != _day(self._label[place])]] = 0.0
        opened = np.where(
            of_new_day & (_numbers(rows, "open")[begins] > 0), _numbers(rows, "open")[begins], last[begins]
        )
        self._prices[0, at] = opened
        self._prices[1, at] = np.maximum(opened, last[begins])
        self._prices[2, at] = np.minimum(opened, last[begins])
        before = np.where(of_new_day, 0.0, self._totals[2:, at])
        self._totals[:2, at] = np.where(unseen, totals[:, begins], before)
        self._label[at] = label[begins]
        self._heard[at] = self._losses
        goes_on = label == np.abs(self._label[place])  # a late quote of an older minute changes nothing
        at = place[goes_on]
        self._label[at], self._heard[at] = label[goes_on], self._losses
        high, low = self._new_extremes(rows, place, blind)
        self._prices[1, at] = np.maximum(self._prices[1, at], np.fmax(last, high)[goes_on])
        self._prices[2, at] = np.minimum(self._prices[2, at], np.fmin(last, low)[goes_on])
        self._prices[3, at] = last[goes_on]
        self._totals[2:, at] = totals[:, goes_on]
        return done

    def _new_extremes(self, rows: pa.RecordBatch, place: Integers, blind: Marks) -> tuple[Prices, Prices]:
        """The day's high and low where they are new since the quote before, NaN elsewhere; they are known from now."""
        high, low = _numbers(rows, "high"), _numbers(rows, "low")
        known_high, known_low = self._range[:, place]
        higher = (high > known_high) & ~blind
        lower = (low > 0) & ((low < known_low) | (known_low == 0)) & ~blind
        self._range[0, place] = np.maximum(high, known_high)
        self._range[1, place] = np.where((low > 0) & ((low < known_low) | (known_low == 0)), low, known_low)
        return np.where(higher, high, np.nan), np.where(lower, low, np.nan)

    def flush(self, before: datetime) -> Frame | None:
        """The bars under way that end at ``before`` (aware) or earlier: at the session's end, and of quiet symbols."""
        limit = int(before.timestamp() * 1000)
        due = np.flatnonzero((self._label > 0) & (self._label <= limit))
        done = self._bars(due, before)
        self._label[due] = -self._label[due]  # its day is still known, and no second bar of it begins
        return done

    def _bars(self, place: Integers, fetched_at: datetime) -> Frame | None:
        volume = self._totals[2, place] - self._totals[0, place]
        traded = volume > 0
        place, volume = place[traded], volume[traded]
        if not len(place):
            return None
        columns: dict[str, pa.Array] = {
            "symbol": self._symbols.at(place),
            "bar_time": pa.array(self._label[place], pa.timestamp("ms", tz="UTC")),
            **{name: pa.array(self._prices[i, place]) for i, name in enumerate(("open", "high", "low", "close"))},
            "volume": pa.array(volume.astype(np.int64)),
            "amount": pa.array(self._totals[3, place] - self._totals[1, place]),
            "provisional": pa.repeat(pa.scalar(True), len(place)),
            "source": pa.repeat(pa.scalar(FROM_QUOTES), len(place)),
            "fetched_at": pa.repeat(pa.scalar(fetched_at, pa.timestamp("ms", tz="UTC")), len(place)),
        }
        fields = self._dataset.fields
        schema = pa.schema([pa.field(f.name, f.type) for f in fields])
        rows = pa.RecordBatch.from_arrays([columns[f.name].cast(f.type) for f in fields], schema=schema)
        order = pc.sort_indices(rows.column("symbol"))
        return Frame(self._dataset, FROM_QUOTES, fetched_at, rows.take(order))

    def _places(self, symbols: pa.Array) -> Integers:
        places, count = self._symbols.places(symbols), len(self._symbols)
        self._label, self._heard = _wider(self._label, count, 0), _wider(self._heard, count, -1)
        self._prices = _wider(self._prices, count, np.nan)
        self._totals, self._range = _wider(self._totals, count, 0.0), _wider(self._range, count, 0.0)
        return places


def _wider(values: npt.NDArray[Number], count: int, fill: float) -> npt.NDArray[Number]:
    """``values`` with ``count`` places along the last axis; new ones hold ``fill``."""
    missing = count - values.shape[-1]
    if not missing:
        return values
    new = np.full((*values.shape[:-1], missing), fill, values.dtype)
    return np.concatenate([values, new], axis=-1)


def once(rows: pa.RecordBatch) -> pa.RecordBatch:
    """Each symbol once, the newest: a list that moves while its pages are read shows some symbols twice."""
    count = rows.num_rows
    if len(rows.column("symbol").unique()) == count:
        return rows
    order = np.argsort(_instants(rows.column("ts")), kind="stable")
    codes = rows.column("symbol").dictionary_encode().indices.to_numpy()[order]
    last = count - 1 - np.unique(codes[::-1], return_index=True)[1]
    return rows.take(pa.array(np.sort(order[last])))


def _trade(rows: pa.RecordBatch) -> Integers:
    """A number that grows with time and, within one time stamp, with the sequence."""
    sequence = pc.fill_null(rows.column("seq").cast(pa.int64()), 0).to_numpy()
    numbers: Integers = _instants(rows.column("ts")) * (1 << 20) + sequence
    return numbers


def _instants(column: pa.Array) -> Integers:
    values: Integers = pc.fill_null(column.cast(pa.timestamp("ms", tz="UTC")).cast(pa.int64()), 0).to_numpy()
    return values


def _day(instants: Integers) -> Integers:
    """Shanghai's day of each instant, whichever its sign."""
    days: Integers = (np.abs(instants) + _SHANGHAI_MS) // _DAY_MS
    return days


def _labels(instants: Integers) -> Integers:
    """The end of the minute bar that each instant belongs to: of the session, lunch and auction at its nearest bar."""
    midnight = (instants + _SHANGHAI_MS) // _DAY_MS * _DAY_MS - _SHANGHAI_MS
    minute = -((midnight - instants) // 60_000)  # rounded up: 09:35:00 sharp is the bar 09:35
    ends = np.flatnonzero(_ENDS)
    found = ends[np.minimum(np.searchsorted(ends, minute), len(ends) - 1)]
    lunch = (minute > sessions.MORNING[1]) & (minute <= sessions.AFTERNOON[0])
    labels: Integers = midnight + np.where(lunch, sessions.MORNING[1], found) * 60_000
    return labels


_ENDS = np.zeros(24 * 60, dtype=np.bool_)
for _label in sessions.labels("1m"):
    _ENDS[_label.hour * 60 + _label.minute] = True


def _numbers(rows: pa.RecordBatch, name: str) -> npt.NDArray[np.float64]:
    values: npt.NDArray[np.float64] = pc.fill_null(rows.column(name).cast(pa.float64()), 0.0).to_numpy()
    return values


def _volume(rows: pa.RecordBatch) -> Integers:
    """The day's volume; books have none, and nothing to shrink."""
    if "volume" not in rows.schema.names:
        return np.zeros(rows.num_rows, np.int64)
    values: Integers = pc.fill_null(rows.column("volume").cast(pa.int64()), 0).to_numpy()
    return values


def _digest(rows: pa.RecordBatch) -> Integers:
    """A number that differs where the values do (FNV over the columns' bits)."""
    found = np.full(rows.num_rows, 0xCBF29CE484222325, np.uint64)
    for name in rows.schema.names:
        if name in _UNTOLD:
            continue
        column = rows.column(name)
        values = pc.fill_null(column.cast(pa.float64()), np.nan).to_numpy().view(np.uint64)
        found = (found ^ values ^ (values >> np.uint64(29))) * _PRIME
    return found.view(np.int64)
