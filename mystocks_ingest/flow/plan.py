"""Planning, pure: from what is still to be fetched to the requests that fetch it, and what they cost.

A source is asked the cheapest way it offers: one call for the whole market of a session, or one for a symbol's
whole window. Cells that the first source cannot serve (Beijing at Baostock, say) go to the next.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from mystocks_ingest.errors import ConfigError
from mystocks_ingest.flow.ledger import Block, Days, Ledger, Mask
from mystocks_ingest.market.datasets import SHANGHAI, Dataset
from mystocks_ingest.market.frames import Request, Symbol, Window
from mystocks_ingest.ports import Offer, Source

_OPENING = 9 * 60 + 30  # minutes of the day: from here on an intraday bar exists


class Cadence(StrEnum):
    """When a dataset has rows, which decides what counts as missing."""

    SESSION = "session"  # every session of every listed symbol
    PERIOD = "period"  # every complete week or month
    EVENT = "event"  # only when something happened: an answer settles its window
    SNAPSHOT = "snapshot"  # a list as of today, replaced by key


_CADENCES = {
    "bar_1w": Cadence.PERIOD,
    "bar_1mo": Cadence.PERIOD,
    "adj_factor": Cadence.EVENT,
    "suspension": Cadence.EVENT,
    "daily_basic": Cadence.SESSION,
    "bar_1d": Cadence.SESSION,
    **{f"bar_{i}": Cadence.SESSION for i in ("1m", "5m", "15m", "30m", "60m")},
    "tick": Cadence.SESSION,
    "instrument": Cadence.SNAPSHOT,
    "calendar": Cadence.SNAPSHOT,
    "industry": Cadence.SNAPSHOT,
    "index_weight": Cadence.SNAPSHOT,
}


def cadence(dataset: Dataset) -> Cadence:
    """The dataset's cadence. Raises ConfigError for datasets that have no history to fetch."""
    try:
        return _CADENCES[dataset.name]
    except KeyError:
        known = ", ".join(sorted(_CADENCES))
        raise ConfigError(f"dataset {dataset.name} cannot be backfilled; these can: {known}") from None


@dataclass(frozen=True, slots=True)
class Traits:
    """Exchange and asset type of each symbol of a ledger, in its row order."""

    exchange: npt.NDArray[np.str_]
    asset_type: npt.NDArray[np.str_]


_SUBJECTS = {"adj_factor": ("stock", "etf"), "daily_basic": ("stock",)}  # an index pays no dividend


def subjects(dataset: Dataset, traits: Traits) -> npt.NDArray[np.bool_]:
    """Which symbols of a ledger can have rows of ``dataset`` at all."""
    kinds = _SUBJECTS.get(dataset.name)
    return np.ones(len(traits.asset_type), bool) if kinds is None else np.isin(traits.asset_type, kinds)


@dataclass(frozen=True, slots=True)
class Task:
    """One request to one source, and its cost in calls of that source's budget."""

    source: str
    request: Request
    calls: int


@dataclass(frozen=True, slots=True)
class PlanLine:
    """What one source is asked of one dataset, and what that costs."""

    dataset: str
    source: str
    requests: int
    calls: int
    minutes: float
    symbols: int
    sessions: int


def columns_of(dataset: Dataset, sessions: Days) -> Days:
    """The ledger's columns: every session, or the last session of each complete week or month."""
    if cadence(dataset) is not Cadence.PERIOD or not len(sessions):
        return sessions
    if dataset.interval == "1w":
        period = (sessions.astype("datetime64[D]").astype(np.int64) + 3) // 7  # 1970-01-01 was a Thursday
    else:
        period = sessions.astype("datetime64[M]").astype(np.int64)
    return sessions[np.flatnonzero(np.append(period[1:] != period[:-1], False))]


def eligible(
    source: Source, dataset: Dataset, ledger: Ledger, traits: Traits, now: datetime, *, only_final: bool = False
) -> Mask:
    """Cells that ``source`` can serve at ``now``: its exchanges and asset types, history, and close gate.

    A source with intraday bars also serves the running session, unless ``only_final``.
    """
    offer = source.offers.get(dataset.name)
    if offer is None:
        return np.zeros(ledger.done.shape, bool)
    rows = np.isin(traits.exchange, list(offer.exchanges)) & np.isin(traits.asset_type, list(offer.asset_types))
    return rows[:, None] & served(offer, ledger.sessions, now, only_final=only_final)[None, :]


def served(offer: Offer, sessions: Days, now: datetime, *, only_final: bool) -> npt.NDArray[np.bool_]:
    """Sessions that a source with this offer can serve at ``now``."""
    columns = final(sessions, offer, now)
    if offer.intraday and not only_final:
        columns |= _running(sessions, now)
    if offer.since is not None:
        columns &= sessions >= np.datetime64(offer.since)
    if offer.latest_sessions is not None:
        newest = np.flatnonzero(columns)[-offer.latest_sessions :]
        columns = np.isin(np.arange(len(sessions)), newest)
    return columns


def final(sessions: Days, offer: Offer, now: datetime) -> npt.NDArray[np.bool_]:
    """Sessions whose rows this source no longer changes: past days, and today after its publication."""
    local = now.astimezone(ZoneInfo(SHANGHAI))
    last = local.date() if local.time() >= offer.published else local.date() - timedelta(days=1)
    return np.asarray(sessions <= np.datetime64(last))


def _running(sessions: Days, now: datetime) -> npt.NDArray[np.bool_]:
    local = now.astimezone(ZoneInfo(SHANGHAI))
    opened = local.hour * 60 + local.minute >= _OPENING
    return np.asarray(sessions == np.datetime64(local.date())) & opened


def market_day(now: datetime) -> date:
    """The day in Shanghai."""
    return now.astimezone(ZoneInfo(SHANGHAI)).date()


def block_of(dataset: Dataset, source: Source, ledger: Ledger, traits: Traits, request: Request) -> Block:
    """The cells that a request to ``source`` covers."""
    if request.symbols:
        rows = ledger.rows(request.symbols)
    else:
        exchanges = list(source.offers[dataset.name].exchanges)
        rows = np.flatnonzero((traits.asset_type == request.asset_type) & np.isin(traits.exchange, exchanges))
    columns = ledger.columns(request.window)
    return np.ix_(rows, np.arange(columns.start, columns.stop))


def minutes(source: Source, calls: int) -> float:
    """How long ``calls`` take when every window starts empty: a window's budget is free, what exceeds it waits."""
    waits = (max(0, calls - 1) // rate.calls * rate.seconds for rate in source.rates)
    return max(waits, default=0.0) / 60


def assign(dataset: Dataset, ledger: Ledger, traits: Traits, sources: Sequence[Source], *, now: datetime) -> list[Task]:
    """Requests for every cell to do, each cell with the first source that can serve it and was not asked yet.

    Sources are tried in the order of the minutes they would need, then in the order given.
    """
    offered: list[tuple[float, int, list[Task], Mask]] = []
    left = ledger.todo
    for order, source in enumerate(sources):
        mask = left & eligible(source, dataset, ledger, traits, now) & ~ledger.asked_of(source.name)
        if mask.any():
            tasks = list(requests(dataset, source, ledger, traits, mask))
            offered.append((round(minutes(source, sum(t.calls for t in tasks))), order, tasks, mask))
    chosen: list[Task] = []
    for _, order, tasks, mask in sorted(offered, key=lambda o: o[:2]):
        rest = mask & left
        if (rest == mask).all():
            chosen += tasks
        elif rest.any():
            chosen += requests(dataset, sources[order], ledger, traits, rest)
        left = left & ~mask
    return chosen


def requests(dataset: Dataset, source: Source, ledger: Ledger, traits: Traits, mask: Mask) -> Iterator[Task]:
    """The cheapest requests to ``source`` that cover ``mask``, oldest sessions first."""
    offer = source.offers[dataset.name]
    for asset_type in sorted(set(traits.asset_type[mask.any(axis=1)].tolist())):
        rows = np.flatnonzero(mask.any(axis=1) & (traits.asset_type == asset_type))
        wanted = mask[rows]
        by_symbol = list(_by_symbol(dataset, source, ledger, rows, wanted)) if offer.by_symbol else []
        by_session: list[Task] = []
        if asset_type in offer.whole_market:
            by_session = list(_by_session(dataset, source, ledger, wanted, asset_type))
        if by_session and (not by_symbol or _cost(by_session) < _cost(by_symbol)):
            yield from by_session
        else:
            yield from by_symbol


def _cost(tasks: Sequence[Task]) -> int:
    return sum(t.calls for t in tasks)


def _by_session(dataset: Dataset, source: Source, ledger: Ledger, wanted: Mask, asset_type: str) -> Iterator[Task]:
    for column in np.flatnonzero(wanted.any(axis=0)).tolist():
        yield _task(source, Request(dataset, window_of(dataset, ledger, column, column), (), asset_type))


def _by_symbol(
    dataset: Dataset, source: Source, ledger: Ledger, rows: npt.NDArray[np.intp], wanted: Mask
) -> Iterator[Task]:
    first = wanted.argmax(axis=1)
    last = wanted.shape[1] - 1 - wanted[:, ::-1].argmax(axis=1)
    size = source.offers[dataset.name].symbols_per_call
    for start in range(0, len(rows), size):
        group = slice(start, start + size)
        window = window_of(dataset, ledger, int(first[group].min()), int(last[group].max()))
        symbols: tuple[Symbol, ...] = tuple(ledger.symbols[r] for r in rows[group].tolist())
        yield _task(source, Request(dataset, window, symbols))


def _task(source: Source, request: Request) -> Task:
    return Task(source.name, request, source.calls(request))


def window_of(dataset: Dataset, ledger: Ledger, first: int, last: int) -> Window:
    """The days that columns ``first`` to ``last`` stand for; a period's column stands for the whole period."""
    start, end = _day(ledger.sessions, first), _day(ledger.sessions, last) + timedelta(days=1)
    if cadence(dataset) is Cadence.PERIOD:
        if dataset.interval == "1w":
            start -= timedelta(days=start.weekday())
        else:
            start = start.replace(day=1)
    return Window(start, end)


def _day(sessions: Days, column: int) -> date:
    day: date = sessions[column].astype("datetime64[D]").astype(object)
    return day


def lines(dataset: Dataset, tasks: Sequence[Task], sources: Sequence[Source]) -> list[PlanLine]:
    """The plan of one dataset, a line a source."""
    out = []
    for source in sources:
        mine = [t for t in tasks if t.source == source.name]
        if mine:
            calls = _cost(mine)
            symbols = {s for t in mine for s in t.request.symbols}
            days = {(t.request.window.start, t.request.window.end) for t in mine if not t.request.symbols}
            out.append(
                PlanLine(dataset.name, source.name, len(mine), calls, minutes(source, calls), len(symbols), len(days))
            )
    return out
