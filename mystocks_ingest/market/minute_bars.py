"""One-minute bars from quotes, for want of a vendor's: prices as they were seen, volume as the day's totals grew.

What polling cannot see is defined here, and nothing else is left out:

- A bar is what the looks at the market showed: trades after its last look count into the next bar where that one has a
  trade of its own by then. So the volumes of a day's bars add up to the day's, and a bar is exactly the exchange's where
  somebody looked between its last trade and the next bar's first.
- Its high and low are those of the prices seen and of the day's own extremes that are new; what lies between is not known.
- The auction counts into the bar 09:31.
- An answer for the whole market is a look at the moment of its newest trade: a server that stands still shows nothing.
- A bar whose beginning or end nobody looked at for longer than a bar is not given out: half a bar looks like a whole one.
  It is missing then, and a vendor's own can fill the gap.
"""

from __future__ import annotations

from datetime import datetime

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mystocks_ingest.market import sessions
from mystocks_ingest.market.datasets import DATASETS
from mystocks_ingest.market.frames import Frame
from mystocks_ingest.market.live import NEVER, Integers, Marks, Symbols, day_of, instants_of, once, wider

FROM_QUOTES = "quotes"
"""The ``source`` of bars that were built here; such bars are provisional: a vendor's own replaces them."""

_Prices = npt.NDArray[np.float64]
_WHOLE: dict[str, int] = {
    "label": 0,  # the end of the bar under way, ms; negative: it was given out; 0: none yet
    "whole": 0,  # whether its beginning was seen
    "seen": NEVER,  # when the symbol was last looked at, ms
    "blind": 0,  # whether it traded while nobody looked, which no quote was counted for yet
    "lost": NEVER,  # blind: when it was looked at before that
}
_REAL: dict[str, float] = {
    **dict.fromkeys(("open", "high", "low", "close"), np.nan),
    **dict.fromkeys(("volume_before", "amount_before"), 0.0),  # the day's totals where the bar began
    **dict.fromkeys(("volume", "amount"), 0.0),  # and now
    **dict.fromkeys(("day_high", "day_low"), 0.0),  # as last seen; 0: not known
}


class MinuteBars:
    """Bars under way, by symbol. A bar that was given out and for which a quote comes after all is given out again."""

    def __init__(self) -> None:
        self._dataset = DATASETS["bar_1m"]
        self._symbols = Symbols()
        self._whole: dict[str, Integers] = {name: np.empty(0, np.int64) for name in _WHOLE}
        self._real: dict[str, _Prices] = {name: np.empty(0) for name in _REAL}
        self._seen_all = NEVER

    def look(self, rows: pa.RecordBatch, at: datetime) -> None:
        """``rows`` (quotes, changed or not) were shown at ``at`` (aware): to be told before they are taken."""
        if not rows.num_rows:
            return
        place, now, held = self._places(rows.column("symbol")), _ms(at), self._whole
        before, stamps = np.maximum(held["seen"][place], self._seen_all), instants_of(rows.column("ts"))
        counted = np.where(day_of(held["label"][place]) == day_of(stamps), self._real["volume"][place], 0.0)
        grown = _numbers(rows, "volume") != counted
        held["blind"][place[~grown]] = 0
        blind = _bars_begun(before, _until(stamps, now)) & grown & (held["blind"][place] == 0)
        held["lost"][place[blind]] = before[blind]
        held["blind"][place[blind]] = 1
        held["seen"][place] = now

    def looked(self, at: datetime) -> None:
        """The whole market was shown at ``at`` (aware): who was not among the rows has not traded by then."""
        self._seen_all = _ms(at)

    def take(self, frame: Frame) -> Frame | None:
        """Count ``frame`` (quotes) in; the bars that it completes."""
        rows = once(frame.rows.filter(pc.greater(pc.fill_null(frame.rows.column("last"), 0.0), 0.0)))
        if not rows.num_rows:
            return None
        place, held, real = self._places(rows.column("symbol")), self._whole, self._real
        label, before = labels_of(instants_of(rows.column("ts"))), held["label"][place]
        last = rows.column("last").to_numpy(zero_copy_only=False)
        volume, amount = _numbers(rows, "volume"), _numbers(rows, "amount")
        blind = held["blind"][place] == 1
        stepped = (label < np.abs(before) - _STEPPED_MS) & (volume > real["volume"][place])
        blind |= stepped  # a clock that was set back since gave the bar under way its minute
        newer, other_day = (label > np.abs(before)) | stepped, day_of(label) != day_of(before)
        torn = stepped | (blind & (held["lost"][place] < before))
        done = self._bars(place[newer & (before > 0) & ~torn], frame.fetched_at)
        for name in ("day_high", "day_low"):
            real[name][place[other_day]] = 0.0
        at, unseen = place[newer], blind[newer]
        stated = _numbers(rows, "open")[newer]
        opened = np.where(other_day[newer] & ~unseen & (stated > 0), stated, last[newer])
        real["open"][at] = opened
        real["high"][at], real["low"][at] = np.maximum(opened, last[newer]), np.minimum(opened, last[newer])
        for name, now in (("volume", volume), ("amount", amount)):
            so_far = np.where(other_day[newer], 0.0, real[name][at])
            real[f"{name}_before"][at] = np.where(unseen, now[newer], so_far)
        held["label"][at], held["whole"][at] = label[newer], ~unseen
        counts = label == np.abs(held["label"][place])  # a late quote of an older minute changes nothing
        at = place[counts]
        held["label"][at], held["blind"][at] = label[counts], 0
        high, low = self._new_extremes(rows, place, blind & newer)
        real["high"][at] = np.maximum(real["high"][at], np.fmax(last, high)[counts])
        real["low"][at] = np.minimum(real["low"][at], np.fmin(last, low)[counts])
        real["close"][at], real["volume"][at], real["amount"][at] = last[counts], volume[counts], amount[counts]
        return done

    def _new_extremes(self, rows: pa.RecordBatch, place: Integers, old: Marks) -> tuple[_Prices, _Prices]:
        """The day's high and low where they are new since the quote before, NaN elsewhere; they are known from now.

        ``old``: those that may be of an earlier minute count nowhere.
        """
        high, low = _numbers(rows, "high"), _numbers(rows, "low")
        known_high, known_low = self._real["day_high"][place], self._real["day_low"][place]
        higher, lower = high > known_high, (low > 0) & ((low < known_low) | (known_low == 0))
        self._real["day_high"][place] = np.maximum(high, known_high)
        self._real["day_low"][place] = np.where(lower, low, known_low)
        return np.where(higher & ~old, high, np.nan), np.where(lower & ~old, low, np.nan)

    def flush(self, before: datetime) -> Frame | None:
        """The bars under way that end at ``before`` (aware) or earlier, once their end was seen.

        So bars of quiet symbols are given out, and all of them at the session's end.
        """
        held = self._whole
        label = held["label"]
        over = (label > 0) & (label <= _ms(before)) & (np.maximum(held["seen"], self._seen_all) >= label)
        due = np.flatnonzero(over & ~((held["blind"] == 1) & (held["lost"] < label)))
        done = self._bars(due, before)
        label[due] = -label[due]  # its day is still known, and no second bar of it begins
        return done

    def _bars(self, place: Integers, fetched_at: datetime) -> Frame | None:
        real = self._real
        volume = real["volume"][place] - real["volume_before"][place]
        built = (volume > 0) & (self._whole["whole"][place] == 1)
        place, volume = place[built], volume[built]
        if not len(place):
            return None
        columns: dict[str, pa.Array] = {
            "symbol": self._symbols.at(place),
            "bar_time": pa.array(self._whole["label"][place], pa.timestamp("ms", tz="UTC")),
            **{name: pa.array(real[name][place]) for name in ("open", "high", "low", "close")},
            "volume": pa.array(volume.astype(np.int64)),
            "amount": pa.array(real["amount"][place] - real["amount_before"][place]),
            "provisional": pa.repeat(pa.scalar(True), len(place)),
            "source": pa.repeat(pa.scalar(FROM_QUOTES), len(place)),
            "fetched_at": pa.repeat(pa.scalar(fetched_at, pa.timestamp("ms", tz="UTC")), len(place)),
        }
        fields = self._dataset.fields
        schema = pa.schema([pa.field(f.name, f.type) for f in fields])
        rows = pa.RecordBatch.from_arrays([columns[f.name].cast(f.type) for f in fields], schema=schema)
        return Frame(self._dataset, FROM_QUOTES, fetched_at, rows.take(pc.sort_indices(rows.column("symbol"))))

    # -- across a restart -----------------------------------------------------------------------------------------
    @property
    def state(self) -> pa.Table:
        """All that is known as it is now, a row a symbol; ``restored`` goes on from it."""
        place = np.arange(len(self._symbols))
        held = {name: pa.array(values.copy()) for name, values in {**self._whole, **self._real}.items()}
        table = pa.table({"symbol": self._symbols.at(place), **held})
        return table.replace_schema_metadata({"seen_all": str(self._seen_all)})

    @classmethod
    def restored(cls, state: pa.Table) -> MinuteBars:
        """Bars that go on from ``state``. Raises ValueError or KeyError where it is of another version."""
        made = cls()
        made._places(state.column("symbol").combine_chunks())
        for held in (made._whole, made._real):
            for name, values in held.items():
                values[:] = state.column(name).to_numpy()
        made._seen_all = int((state.schema.metadata or {})[b"seen_all"])
        return made

    def _places(self, symbols: pa.Array) -> Integers:
        places, count = self._symbols.places(symbols), len(self._symbols)
        self._whole = {name: wider(values, count, _WHOLE[name]) for name, values in self._whole.items()}
        self._real = {name: wider(values, count, _REAL[name]) for name, values in self._real.items()}
        return places


def shown_until(rows: pa.RecordBatch, now: datetime) -> datetime:
    """Up to when ``rows`` (quotes of the whole market) show what happened, at ``now`` (aware) at the latest.

    While the exchange trades some symbol does every few seconds. It rests at lunch and from 14:57 until the closing
    auction gives its prices: then what shows the last minute before is up to date.
    """
    newest = instants_of(rows.column("ts")).max(initial=0)
    at = np.array([_ms(now)])
    if newest >= at[0] - _STANDS_STILL_MS:
        return now
    begun = 0
    for start, end in _CONTINUOUS:
        first, last = (int(_midnight(at)[0]) + minute * 60_000 for minute in (start, end))
        if first < at[0] <= last:
            return min(now, datetime.fromtimestamp(newest / 1000, now.tzinfo))
        begun = last if at[0] > last else begun
    return now if newest >= begun - 60_000 else datetime.fromtimestamp(newest / 1000, now.tzinfo)


_STANDS_STILL_MS = 10_000
_STEPPED_MS = 5 * 60_000  # more than servers lag behind each other
_CONTINUOUS = (sessions.MORNING, (sessions.AFTERNOON[0], sessions.AFTERNOON[1] - 3))


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def _until(stamps: Integers, now: int) -> Integers:
    """Up to when quotes of these instants show their day at ``now``, ms: one of an earlier day shows it to its close."""
    close = _midnight(stamps) + sessions.AFTERNOON[1] * 60_000
    until: Integers = np.where(day_of(stamps) < day_of(np.array([now])), close, now)
    return until


def _bars_begun(before: Integers, now: Integers) -> Marks:
    """Whether more than one bar of the day has begun since ``before``, ms; since the day's start if that was earlier."""
    same_day = day_of(np.maximum(before, 0)) == day_of(now)
    begun = np.where(same_day, _number(np.maximum(before, 0)), 0)
    passed: Marks = _number(now) - begun > 1
    return passed


def _number(instants: Integers) -> Integers:
    """How many one-minute bars of the day have begun: 0 until 09:30:00, 120 at lunch, 240 from 14:59:01."""
    seconds = (instants - _midnight(instants)) // 1000
    spans = (sessions.MORNING, sessions.AFTERNOON)
    passed = sum(np.clip(seconds - start * 60, 0, (end - start) * 60) for start, end in spans)
    number: Integers = -(-passed // 60)
    return number


def _midnight(instants: Integers) -> Integers:
    zone = 8 * 3600 * 1000
    midnight: Integers = (instants + zone) // 86_400_000 * 86_400_000 - zone
    return midnight


def labels_of(instants: Integers) -> Integers:
    """The end of the minute bar that each instant belongs to: of the session, lunch and auction at its nearest bar."""
    midnight = _midnight(instants)
    minute = -((midnight - instants) // 60_000)  # rounded up: 09:35:00 sharp is the bar 09:35
    found = _ENDS[np.minimum(np.searchsorted(_ENDS, minute), len(_ENDS) - 1)]
    lunch = (minute > sessions.MORNING[1]) & (minute <= sessions.AFTERNOON[0])
    labels: Integers = midnight + np.where(lunch, sessions.MORNING[1], found) * 60_000
    return labels


_ENDS = np.array([label.hour * 60 + label.minute for label in sessions.labels("1m")])


def _numbers(rows: pa.RecordBatch, name: str) -> _Prices:
    values: _Prices = pc.fill_null(rows.column(name).cast(pa.float64()), 0.0).to_numpy()
    return values
