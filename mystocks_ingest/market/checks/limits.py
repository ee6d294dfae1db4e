"""Daily price limits by board, applied only where no exception can be at work.

The exchanges suspend the limit for new listings (the first session, or the first five on the boards under
registration: STAR 2019, ChiNext 2020-08-24, main boards 2023-04-10), for resumptions after the share reform of
2005-2006 or a restructuring, and on the first day of the delisting period. All of them follow a listing or a
suspension, so a row is judged only when its symbol also traded on the session before and has traded for a while.
What is left is refused only when it also contradicts its neighbours: a real move that no rule explains is the
closing price of the next day's reference, an invented one is not.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mystocks_ingest.market.calendar import Calendar
from mystocks_ingest.market.checks.rows import Days, Keyed
from mystocks_ingest.market.checks.verdict import Mask, Rule, Verdict, number
from mystocks_ingest.market.symbols import Board, board_of

Floats = npt.NDArray[np.float64]
SEASONED_ROWS = 30
ROUNDING = 0.011  # CNY: limits are rounded to a tick, and vendors' reference prices too
SAME = 0.006
# Each board's limit from a day on. Special-treatment stocks have a tighter one, which is not known here.
_LIMITS: dict[Board, tuple[tuple[str, float], ...]] = {
    Board.MAIN: (("1996-12-26", 0.10),),
    Board.STAR: (("2019-07-22", 0.20),),
    Board.CHINEXT: (("2009-10-30", 0.10), ("2020-08-24", 0.20)),
    Board.BEIJING: (("2021-11-15", 0.30),),
}


def within(keyed: Keyed, days: Days, calendar: Calendar, prices: dict[str, Floats], verdict: Verdict) -> None:
    """Refuse rows beyond the limit. ``prices`` holds high, low, close and pre_close."""
    high, low, close, reference = (prices[n] for n in ("high", "low", "close", "pre_close"))
    with np.errstate(invalid="ignore", divide="ignore"):
        widest = np.maximum(high / reference, 2 - low / reference) - 1  # the larger move, up or down
    suspects = np.flatnonzero((widest > 0.10) & (reference > 0) & verdict.standing)
    if not len(suspects):
        return
    suspects = suspects[_seasoned(keyed, days, calendar, suspects)]
    limit = _limit(keyed, days, suspects)
    top = reference[suspects] * (1 + limit) + ROUNDING
    bottom = reference[suspects] * (1 - limit) - ROUNDING
    beyond = (high[suspects] > top) | (low[suspects] < bottom)
    suspects, limit, top, bottom = suspects[beyond], limit[beyond], top[beyond], bottom[beyond]
    closes_beyond = (close[suspects] > top) | (close[suspects] < bottom)
    believed = closes_beyond & _believed(keyed, close, reference, suspects, close[suspects] > top)
    bad = np.zeros(len(keyed), dtype=np.bool_)
    bad[suspects[~believed]] = True
    of = dict(zip(suspects.tolist(), limit.tolist(), strict=True))
    verdict.refuse(
        Rule.PRICE_LIMIT,
        bad,
        lambda rows: (
            f"prices [{number(low[r])}, {number(high[r])}], close {number(close[r])} break the "
            f"{of[int(r)]:.0%} limit around {number(reference[r])}, and the next session does not confirm it"
            for r in rows
        ),
    )


def _seasoned(keyed: Keyed, days: Days, calendar: Calendar, rows: npt.NDArray[np.int64]) -> Mask:
    """At least 30 rows into the series, and directly after the session before."""
    position = rows - keyed.starts[keyed.group[rows]]
    old = position >= SEASONED_ROWS
    known = calendar.known(days[rows]) & calendar.known(days[rows - 1])
    step = calendar.ordinals(days[rows]) - calendar.ordinals(days[rows - 1])
    mask: Mask = old & known & (step == 1)
    return mask


def _limit(keyed: Keyed, days: Days, rows: npt.NDArray[np.int64]) -> Floats:
    """The limit as a fraction; infinite where there is none."""
    limit = np.full(len(rows), np.inf)
    for group in np.unique(keyed.group[rows]).tolist():
        mine = keyed.group[rows] == group
        for since, fraction in _LIMITS.get(board_of(keyed.name(group)), ()):
            limit[mine & (days[rows] >= np.datetime64(since))] = fraction
    return limit


def _believed(keyed: Keyed, close: Floats, reference: Floats, rows: npt.NDArray[np.int64], up: Mask) -> Mask:
    """Closes beyond the limit that their neighbours confirm, or may.

    Some vendors derive the reference from the close before even on ex-right days: a fall from it that the next
    session confirms, or that has no next session, may be a distribution.
    """
    chained = np.abs(reference[rows] - close[rows - 1]) < SAME
    last = rows + 1 >= len(keyed)
    after = np.where(last, rows, rows + 1)
    last |= keyed.group[after] != keyed.group[rows]
    confirmed = ~last & (np.abs(reference[after] - close[rows]) < SAME)
    mask: Mask = confirmed | (chained & last & ~up)
    return mask
