"""Live rows: which of a poll's quotes and trades are news. Pure, a column at a time.

Vendors answer a poll with the whole market, most of it unchanged; servers behind one address lag behind each other, so
that an older state may come after a newer one. A quote is news when something but its time differs from what is held,
its time is not older, and the session's volume has not shrunk. One whose volume has grown is newer whatever its time
says: some vendors stamp the last trade, of others only the time of receipt is known.

What is held may be wrong as well, and must not keep the truth out for the rest of the day: a time of the future was
stamped by a clock that was set back since; a volume that every answer of some minutes stays below, growing, was an error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mystocks_ingest.market.frames import Frame

Integers = npt.NDArray[np.int64]
Marks = npt.NDArray[np.bool_]
Number = TypeVar("Number", np.int64, np.float64)
_PRIME = np.uint64(0x100000001B3)
_UNTOLD = frozenset({"symbol", "ts", "source", "fetched_at"})  # what may differ without being news
NEVER: int = np.iinfo(np.int64).min
_DAY_MS = 24 * 3600 * 1000
_SHANGHAI_MS = 8 * 3600 * 1000
_FIRST_TRADE_MS = (9 * 3600 + 24 * 60 + 30) * 1000  # the auction's at 09:25, by a clock that may be slow
_AHEAD_MS = 5 * 60 * 1000  # no vendor's clock is so much before ours
_FAR_AHEAD_MS = 4 * 3600 * 1000  # nor ours so much behind: such a time of day is the day before's
_UNREAD = 0
_IN_ONE_TIME = 1 << 20  # more trades than any time stamp has
_ERROR_MS = 5 * 60 * 1000  # servers lag behind by less


@dataclass(frozen=True, slots=True)
class News:
    """``frame`` holds the rows that are news; the counts, those that are not, and why."""

    frame: Frame
    unchanged: int
    late: int  # the time is older than what is held
    stale: int  # the session's volume has shrunk: a server that lags behind; or it is the day before's


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
        self._held: dict[str, Integers] = {name: np.empty(0, np.int64) for name in _HELD}

    def news(self, frame: Frame) -> News:
        """What is new in ``frame``."""
        rows = frame.rows
        if not rows.num_rows:
            return News(frame, 0, 0, 0)
        place, looked = self._places(rows.column("symbol")), int(frame.fetched_at.timestamp() * 1000)
        now = {"ts": instants_of(rows.column("ts")), "volume": _volume(rows), "digest": _digest(rows)}
        held = {name: values[place] for name, values in self._held.items()}
        same_day = day_of(now["ts"]) == day_of(held["ts"])
        late = (now["ts"] < held["ts"]) & ~(same_day & (now["volume"] > held["volume"]))
        late &= held["ts"] <= looked + _AHEAD_MS
        same = (same_day | (now["volume"] > 0)) & (now["digest"] == held["digest"])  # no two days trade alike
        unchanged = ~late & (same | (now["digest"] == held["bad"]))
        shrunk = ~late & ~unchanged & same_day & (now["volume"] < held["volume"])
        stale = (shrunk & ~self._disproved(place, shrunk, now["volume"], looked)) | _of_the_day_before(now, looked)
        stale &= ~late & ~unchanged
        fresh = _each_once(rows, now, ~(late | unchanged | stale))
        kept = frame if fresh.all() else frame.take(pa.array(np.flatnonzero(fresh)))
        return News(kept, int(unchanged.sum()), int(late.sum()), int(stale.sum()))

    def _disproved(self, place: Integers, shrunk: Marks, volume: Integers, looked: int) -> Marks:
        """Whose volume has stayed below the one held in every answer for minutes, and has grown meanwhile.

        A page that is repeated does not grow.
        """
        held = self._held
        held["low_since"][place[~shrunk]] = NEVER
        first = shrunk & (held["low_since"][place] == NEVER)
        held["low_since"][place[first]], held["low_volume"][place[first]] = looked, volume[first]
        long = looked - _ERROR_MS >= np.maximum(held["low_since"][place], 0)
        grown: Marks = shrunk & long & (volume > held["low_volume"][place])
        return grown

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
        before, stamped = self._held["ts"][place], instants_of(rows.column("ts"))
        known = before <= int(stored.fetched_at.timestamp() * 1000) + _AHEAD_MS
        self._held["ts"][place] = np.where(known, np.maximum(stamped, before), stamped)
        self._held["volume"][place], self._held["digest"][place] = _volume(rows), _digest(rows)

    def _places(self, symbols: pa.Array) -> Integers:
        places = self._symbols.places(symbols)
        self._held = {name: wider(values, len(self._symbols), NEVER) for name, values in self._held.items()}
        return places


_HELD = ("ts", "volume", "digest", "bad", "low_since", "low_volume")


def _of_the_day_before(now: Mapping[str, Integers], looked: int) -> Marks:
    """Which rows cannot be of the day that they are stamped with.

    Vendors go on showing the last session until the next auction, some with the present time, some with a time of day
    that is still to come. Before the auction's end nothing has been traded.
    """
    of_day = (now["ts"] + _SHANGHAI_MS) % _DAY_MS
    older: Marks = (now["volume"] > 0) & (of_day < _FIRST_TRADE_MS) & (now["ts"] != _UNREAD)
    today: Marks = day_of(now["ts"]) == day_of(np.array([looked]))
    return older | (today & (now["ts"] > looked + _FAR_AHEAD_MS))


def _each_once(rows: pa.RecordBatch, now: Mapping[str, Integers], fresh: Marks) -> Marks:
    """``fresh``, of a symbol that an answer shows twice at one time only the row with the greater volume.

    A list that moves while its pages are read shows some symbols twice.
    """
    if len(rows.column("symbol").unique()) == rows.num_rows:
        return fresh
    codes = rows.column("symbol").dictionary_encode().indices.to_numpy()
    order = np.lexsort((now["volume"], fresh, now["ts"], codes))
    twice = (codes[order][1:] == codes[order][:-1]) & (now["ts"][order][1:] == now["ts"][order][:-1])
    once_only = fresh.copy()
    once_only[order[:-1][twice]] = False
    return once_only


class Trades:
    """The last trade of each symbol. A vendor answers each time with the session's trades so far, in their order."""

    def __init__(self) -> None:
        self._symbols = Symbols()
        self._last = np.empty(0, np.int64)

    def news(self, frame: Frame) -> News:
        """The trades after the last one held."""
        if not len(frame):
            return News(frame, 0, 0, 0)
        place, looked = self._places(frame.rows.column("symbol")), int(frame.fetched_at.timestamp() * 1000)
        if (future := self._last > (looked + _FAR_AHEAD_MS) * _IN_ONE_TIME).any():
            self._last[future] = NEVER  # our clock was set back
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
        self._last = wider(self._last, len(self._symbols), NEVER)
        return places


def wider(values: npt.NDArray[Number], count: int, fill: float) -> npt.NDArray[Number]:
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
    order = np.argsort(instants_of(rows.column("ts")), kind="stable")
    codes = rows.column("symbol").dictionary_encode().indices.to_numpy()[order]
    last = count - 1 - np.unique(codes[::-1], return_index=True)[1]
    return rows.take(pa.array(np.sort(order[last])))


def _trade(rows: pa.RecordBatch) -> Integers:
    """A number that grows with time and, within one time stamp, with the sequence."""
    sequence = pc.fill_null(rows.column("seq").cast(pa.int64()), 0).to_numpy()
    numbers: Integers = instants_of(rows.column("ts")) * _IN_ONE_TIME + sequence
    return numbers


def instants_of(column: pa.Array) -> Integers:
    """Milliseconds since 1970; ``_UNREAD`` for a time that nobody could read, which the check refuses."""
    values: Integers = pc.fill_null(column.cast(pa.timestamp("ms", tz="UTC")).cast(pa.int64()), _UNREAD).to_numpy()
    return values


def day_of(instants: Integers) -> Integers:
    """Shanghai's day of each instant, whichever its sign."""
    days: Integers = (np.abs(instants) + _SHANGHAI_MS) // _DAY_MS
    return days


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
