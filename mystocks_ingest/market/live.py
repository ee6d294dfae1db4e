"""Live rows: which of a poll's quotes and trades are news. Pure, a column at a time.

Vendors answer a poll with the whole market, most of it unchanged; servers behind one address lag behind each other, so
that an older state may come after a newer one. A quote is news when something but its time differs from what is held,
its time is not older, and the session's volume has not shrunk. One whose volume has grown is newer whatever its time
says: some vendors stamp the last trade, of others only the time of receipt is known.
"""

from __future__ import annotations

from collections.abc import Sequence
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
        now = {"ts": instants_of(rows.column("ts")), "volume": _volume(rows), "digest": _digest(rows)}
        held = {name: values[place] for name, values in self._held.items()}
        same_day = day_of(now["ts"]) == day_of(held["ts"])
        late = (now["ts"] < held["ts"]) & ~(same_day & (now["volume"] > held["volume"]))
        same = (same_day | (now["volume"] > 0)) & (now["digest"] == held["digest"])  # no two days trade alike
        unchanged = ~late & (same | (now["digest"] == held["bad"]))
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
        self._held["ts"][place] = np.maximum(instants_of(rows.column("ts")), self._held["ts"][place])
        self._held["volume"][place], self._held["digest"][place] = _volume(rows), _digest(rows)

    def _places(self, symbols: pa.Array) -> Integers:
        places = self._symbols.places(symbols)
        self._held = {name: wider(values, len(self._symbols), NEVER) for name, values in self._held.items()}
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
    numbers: Integers = instants_of(rows.column("ts")) * (1 << 20) + sequence
    return numbers


def instants_of(column: pa.Array) -> Integers:
    values: Integers = pc.fill_null(column.cast(pa.timestamp("ms", tz="UTC")).cast(pa.int64()), 0).to_numpy()
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
