"""Rules for every dataset: required cells, unique keys, sessions, lives of instruments."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import time, timedelta
from functools import partial

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mystocks_ingest.market import sessions, symbols
from mystocks_ingest.market.calendar import Calendar
from mystocks_ingest.market.checks.verdict import Context, Mask, Rows, Rule, Verdict
from mystocks_ingest.market.datasets import Category
from mystocks_ingest.market.frames import Frame, Symbol
from mystocks_ingest.market.instruments import Instruments

Days = npt.NDArray[np.datetime64]
Types = npt.NDArray[np.object_]
_DAY_MS = 24 * 3600 * 1000
_SHANGHAI_MS = 8 * 3600 * 1000  # China has one zone; its summer time ended in 1991, before the first minute bar
_ORIGIN = frozenset({"source", "fetched_at"})
_WEEKDAYS_ONLY = np.datetime64("1997-01-01")  # the young exchanges opened on some weekends, last in May 1993
_THURSDAY = 4  # the weekday of 1970-01-01, counted from Sunday
_NEVER = np.datetime64("NaT", "D")
# Besides the market data: derived once a session, or dated by one. A factor or a report has days of its own.
_DAILY = frozenset({"daily_basic", "limit_price"})
_ON_SESSIONS = frozenset({"suspension"})
_HAPPENED = frozenset({Category.MARKET, Category.TRANSACTION})
AHEAD = timedelta(hours=4)
"""Of the service's clock, which may be set wrong by hours; less than Shanghai is ahead of UTC."""
_BY_RECEIPT = frozenset({"quote", "depth"})  # a snapshot fetched on Sunday is stamped with Sunday


class Keyed:
    """A frame in key order, with its symbols as groups of neighbouring rows.

    ``group`` numbers the symbol of each row, ``starts`` the first row of each group and ``symbols`` its symbol (``?``
    where it is null). Frames come ascending, so that usually nothing is moved.
    """

    def __init__(self, frame: Frame) -> None:
        keys = [_codes(frame.rows.column(name)) for name in frame.dataset.key]
        combined = _combined(keys)
        step = np.diff(combined)
        if (step < 0).any():
            order = np.argsort(combined, kind="stable")
            frame, combined = frame.take(pa.array(order)), combined[order]
            keys = [key[order] for key in keys]
            step = np.diff(combined)
        self.frame = frame
        self.types: Types | None = None  # of the symbols, once ``kinds`` was asked
        self.repeats: Rows = np.flatnonzero(step == 0) + 1
        self.group: npt.NDArray[np.int64] = np.zeros(len(frame), np.int64)
        self.starts: Rows = np.zeros(1 if len(frame) else 0, np.int64)
        self.symbols: pa.Array = pa.array([], pa.string())
        if frame.dataset.key[0] == "symbol" and len(frame):
            turns = np.flatnonzero(np.diff(keys[0])) + 1
            self.starts = np.concatenate([[0], turns])
            self.group[turns] = 1
            np.cumsum(self.group, out=self.group)
            self.symbols = pc.fill_null(frame.rows.column("symbol").take(pa.array(self.starts)), "?")

    def __len__(self) -> int:
        return len(self.frame)

    def name(self, group: int) -> Symbol:
        """The symbol of a group."""
        return Symbol(self.symbols[group].as_py())

    def numbers(self, name: str) -> npt.NDArray[np.float64]:
        """A column as float64, NaN for null."""
        column = self.frame.rows.column(name)
        if column.type != pa.float64():
            column = column.cast(pa.float64())
        if column.null_count:
            column = pc.fill_null(column, np.nan)
        values: npt.NDArray[np.float64] = column.to_numpy()
        return values

    def days(self) -> Days | None:
        """The session of each row, NaT for null; None for a dataset outside time."""
        column = self.column_of_time()
        if column is None:
            return None
        if pa.types.is_date32(column.type):
            whole = pc.fill_null(column.cast(pa.int32()), np.iinfo(np.int32).min).to_numpy()
            days: Days = whole.astype("datetime64[D]")
        else:
            days = (_milliseconds(column) // _DAY_MS).astype("datetime64[D]")
        if column.null_count:
            days = np.where(pc.is_null(column).to_numpy(zero_copy_only=False), np.datetime64("NaT"), days)
        return days

    def clock(self) -> npt.NDArray[np.int64]:
        """Milliseconds since Shanghai's midnight, of a dataset placed by the moment."""
        return _milliseconds(self.frame.rows.column(self.frame.dataset.time)) % _DAY_MS

    def column_of_time(self) -> pa.Array | None:
        """The column that places a row in time; None for a dataset outside time."""
        name = self.frame.dataset.time
        column = None if name is None else self.frame.rows.column(name)
        placed = column is not None and (pa.types.is_date32(column.type) or pa.types.is_timestamp(column.type))
        return column if placed else None

    def text(self, row: int) -> str:
        """``600000.SH 2024-01-02``: how a reason names a row."""
        return " ".join(str(self.frame.rows.column(name)[row].as_py()) for name in self.frame.dataset.key)


def _milliseconds(column: pa.Array) -> npt.NDArray[np.int64]:
    """Shanghai's wall clock since 1970."""
    at = pc.fill_null(column.cast(pa.timestamp("ms", tz="UTC")).cast(pa.int64()), 0).to_numpy()
    shifted: npt.NDArray[np.int64] = at + _SHANGHAI_MS
    return shifted


def _codes(column: pa.Array) -> npt.NDArray[np.int64]:
    """Integers equal where the cells are; ascending with them for numbers and times, by first sight for text."""
    if pa.types.is_date32(column.type):
        column = column.cast(pa.int32())
    elif pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    if not pa.types.is_integer(column.type):
        column = column.dictionary_encode().indices
    if column.null_count:
        lowest = pc.min(column).as_py()
        column = pc.fill_null(column.cast(pa.int64()), (lowest or 0) - 1)
    codes: npt.NDArray[np.int64] = column.to_numpy().astype(np.int64)
    return codes - codes.min() if len(codes) else codes


def _combined(keys: list[npt.NDArray[np.int64]]) -> npt.NDArray[np.int64]:
    combined = keys[0]
    for key in keys[1:]:
        span = int(key.max()) + 1 if len(key) else 1
        if len(combined) and int(combined.max()) >= 2**62 // span:  # too wide: count the values that occur
            combined = np.unique(combined, return_inverse=True)[1].astype(np.int64)
        combined = combined * span + key
    return combined


def required_cells(keyed: Keyed, verdict: Verdict) -> None:
    """Every required column has a value, and a number is a number."""
    frame = keyed.frame
    for field in frame.dataset.fields:
        if not field.required:
            continue
        column = frame.rows.column(field.name)
        missing = pc.is_null(column, nan_is_null=True) if pa.types.is_floating(column.type) else None
        if missing is None:
            if not column.null_count:
                continue
            missing = pc.is_null(column)
        reason = f"{field.name} is missing or unreadable"
        verdict.refuse(Rule.MISSING, missing.to_numpy(zero_copy_only=False), partial(_same, reason))


def _same(reason: str, rows: Rows) -> list[str]:
    return [reason] * len(rows)


def unique_keys(keyed: Keyed, verdict: Verdict) -> None:
    """Rows of one key that differ are all refused: nothing says which is right. Repetitions are left out.

    Of an order they are its states, in the order in which they came: the newest of them will stand.
    """
    if not len(keyed.repeats):
        return
    later = keyed.repeats
    rows = keyed.frame.rows
    names = [n for n in rows.schema.names if n not in _ORIGIN]
    same = np.ones(len(later), dtype=np.bool_)
    for name in names:
        a, b = rows.column(name).take(pa.array(later)), rows.column(name).take(pa.array(later - 1))
        equal = pc.or_(pc.fill_null(pc.equal(a, b), False), pc.and_(pc.is_null(a), pc.is_null(b)))
        same &= equal.to_numpy(zero_copy_only=False)
    if keyed.frame.dataset.newest_by:
        verdict.drop(later[same])
        return
    run = np.zeros(len(keyed), np.int64)  # rows of one key share a number
    run[:] = 1
    run[later] = 0
    run = np.cumsum(run) - 1
    differs = np.bincount(run[later[~same]], minlength=int(run[-1]) + 1 if len(run) else 0) > 0
    sizes = np.bincount(run)

    def explain(found: Rows) -> Iterator[str]:
        for row in found:
            yield f"{sizes[run[row]]} rows of {keyed.text(int(row))} differ"

    verdict.refuse(Rule.DUPLICATE_KEY, differs[run], explain)
    verdict.drop(later[same & ~differs[run[later]]])


def in_time(keyed: Keyed, days: Days, context: Context, verdict: Verdict) -> None:
    """Not in the future, on a session, within the instrument's life."""
    dataset = keyed.frame.dataset
    _not_ahead(keyed, context, verdict)
    traded = dataset.interval not in ("1w", "1mo") and (dataset.category is Category.MARKET or dataset.name in _DAILY)
    if not (traded or dataset.name in _ON_SESSIONS):
        return
    if traded:
        today = np.datetime64(sessions.today(context.now), "D")
        verdict.refuse(
            Rule.IN_THE_FUTURE, days > today, lambda rows: (f"{days[r]} lies after today, {today}" for r in rows)
        )
    if dataset.name not in _BY_RECEIPT:
        verdict.refuse(
            Rule.NOT_A_SESSION,
            _closed(days, context.calendar),
            lambda rows: (f"{dataset.time} {days[r]} is no trading session" for r in rows),
        )
    if traded and context.instruments is not None and len(keyed.symbols):
        _in_its_life(keyed, days, context.instruments, kinds(keyed, context), verdict)


def _not_ahead(keyed: Keyed, context: Context, verdict: Verdict) -> None:
    """No moment that is still to come: it would stand as the latest until then. A signal may be for tomorrow."""
    column = keyed.column_of_time()
    if column is None or not pa.types.is_timestamp(column.type) or keyed.frame.dataset.category not in _HAPPENED:
        return
    limit = pa.scalar(context.now + AHEAD, column.type)
    verdict.refuse(
        Rule.IN_THE_FUTURE,
        pc.fill_null(pc.greater(column, limit), False).to_numpy(zero_copy_only=False),
        lambda rows: (
            f"{column[int(r)].as_py():%Y-%m-%d %H:%M:%S%z} lies {AHEAD.seconds // 3600} hours and more after now, "
            f"{context.now:%Y-%m-%d %H:%M:%S%z}: is its zone right?"
            for r in rows
        ),
    )


def _closed(days: Days, calendar: Calendar | None) -> Mask:
    if calendar is not None:
        closed = calendar.closed(days)
        if calendar.known(days).all():
            return closed
    else:
        closed = np.zeros(len(days), dtype=np.bool_)
    mask: Mask = closed | on_weekend(days)
    return mask


def on_weekend(days: Days) -> Mask:
    """Saturdays and Sundays, since the exchanges keep them."""
    mask: Mask = ((days.astype(np.int64) + _THURSDAY) % 7 % 6 == 0) & (days >= _WEEKDAYS_ONLY)  # Sunday 0, Saturday 6
    return mask


def _in_its_life(keyed: Keyed, days: Days, instruments: Instruments, types: Types, verdict: Verdict) -> None:
    born, died = instruments.lives(keyed.symbols)
    # An index has history before its launch, a Beijing stock before it moved up to the exchange.
    exempt = types == "index"
    early = exempt | pc.ends_with(keyed.symbols, ".BJ").to_numpy(zero_copy_only=False)
    born, died = np.where(early, _NEVER, born), np.where(exempt, _NEVER, died)
    if not np.isnat(born).all():
        first = born[keyed.group]
        verdict.refuse(
            Rule.BEFORE_LISTING,
            days < first,
            lambda rows: (f"{days[r]} is before the listing on {first[r]}" for r in rows),
        )
    if not np.isnat(died).all():
        last = died[keyed.group]
        verdict.refuse(
            Rule.AFTER_DELISTING,
            days > last,
            lambda rows: (f"{days[r]} is after the delisting on {last[r]}" for r in rows),
        )


def finished(keyed: Keyed, days: Days, verdict: Verdict) -> None:
    """A daily bar fetched before its session's close must be marked provisional."""
    fetched = keyed.frame.fetched_at.astimezone(sessions.ZONE)
    if fetched.time() >= time(15):
        return
    column = keyed.frame.rows.column("provisional")
    final = ~pc.fill_null(column, False).to_numpy(zero_copy_only=False)
    verdict.refuse(
        Rule.UNFINISHED,
        final & (days == np.datetime64(fetched.date())),
        lambda rows: [f"fetched at {fetched:%H:%M} Shanghai, before the close, and not marked provisional"] * len(rows),
    )


def kinds(keyed: Keyed, context: Context) -> Types:
    """The asset type of each group; looked up once a frame."""
    if keyed.types is None:
        keyed.types = types_of(keyed.symbols, context)
    return keyed.types


def types_of(wanted: pa.Array, context: Context) -> Types:
    """The asset type of each symbol: as the instruments say, where they are known, else by its code."""
    if context.instruments is not None:
        return context.instruments.asset_types(wanted)
    return np.array([symbols.asset_type_of(Symbol(s)) for s in wanted.to_pylist()], dtype=np.object_)


def among(types: Types, wanted: Collection[str]) -> Mask:
    """Which groups are of the ``wanted`` types."""
    mask = np.zeros(len(types), dtype=np.bool_)
    for kind in wanted:
        mask |= types == kind
    return mask


def per_row(keyed: Keyed, flags: Mask) -> Mask:
    """A flag per group as a flag per row."""
    if flags.all():
        return np.ones(len(keyed), dtype=np.bool_)
    if not flags.any():
        return np.zeros(len(keyed), dtype=np.bool_)
    mask: Mask = flags[keyed.group]
    return mask
