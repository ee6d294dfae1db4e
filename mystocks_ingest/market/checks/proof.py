"""The unit proof: amount / volume is the average price of a bar, so it must lie between its low and its high.

Volume may be rounded to lots (akshare: whole lots, 50 shares either way) and amount to a yuan (tushare), which
matters for small rows only. Measured on 32,000 raw daily bars of 1999-2025: not one lies outside by more than that.
Rows of 1991-1996 contradict themselves now and then, so they are judged coarsely.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mystocks_ingest.market.checks.verdict import Mask, Rows, Rule, Verdict, number

Floats = npt.NDArray[np.float64]
TIGHT = 0.0003  # what real rows keep to
LOOSE = 0.05  # beyond it the row itself is refused
YOUNG = 0.30  # for rows before 1997
YOUNG_UNTIL = np.datetime64("1997-01-01")
_POWERS = (2, -2, 1, -1, 3, -3, 4, -4)  # lots for shares first: the usual error


@dataclass(frozen=True, slots=True)
class Proof:
    """The rows that fail the tight proof, and how. All arrays run along ``rows``."""

    rows: Rows
    vwap: Floats
    power: npt.NDArray[np.int8]  # vwap is 10**power times the prices; 0: no power of ten explains it
    exact: Mask  # the power of ten explains it within the tight tolerance
    above: Mask  # the average price lies above the high
    gross: Mask  # outside the loose tolerance too


def prove(low: Floats, high: Floats, volume: Floats, amount: Floats, days: npt.NDArray[np.datetime64]) -> Proof:
    """Which rows' average price lies outside [low, high]. Rows without volume or amount prove nothing."""
    with np.errstate(divide="ignore", invalid="ignore"):
        vwap = amount / volume
        rows = np.flatnonzero(((vwap > high * (1 + TIGHT)) | (vwap < low * (1 - TIGHT))) & (volume > 0) & (high > 0))
        young = days[rows] < YOUNG_UNTIL
        rows = rows[~(young & (amount[rows] == 0))]  # the early rows of some vendors have no amounts
        young = days[rows] < YOUNG_UNTIL
        shares, cny, bottom, top = volume[rows], amount[rows], low[rows], high[rows]
        half_lot = np.where(shares % 100 == 0, 50.0, 0.5)
        least = np.maximum(cny - 1.0, 0) / (shares + half_lot)
        most = (cny + 1.0) / np.maximum(shares - half_lot, 0.5)
        tight = np.where(young, LOOSE, TIGHT)
        fails = ~_within(least, most, bottom, top, tight)
        rows, least, most, bottom, top, tight, young = (
            a[fails] for a in (rows, least, most, bottom, top, tight, young)
        )
        power, exact = _power(least, most, bottom, top, tight)
        gross = ~_within(least, most, bottom, top, np.where(young, YOUNG, LOOSE))
    return Proof(rows, vwap[rows], power, exact, least > top, gross)


def _within(least: Floats, most: Floats, low: Floats, high: Floats, tolerance: Floats) -> Mask:
    mask: Mask = (most >= low * (1 - tolerance)) & (least <= high * (1 + tolerance))
    return mask


def _power(least: Floats, most: Floats, low: Floats, high: Floats, tight: Floats) -> tuple[npt.NDArray[np.int8], Mask]:
    power = np.zeros(len(least), dtype=np.int8)
    exact = np.zeros(len(least), dtype=np.bool_)
    for tolerance in (tight, np.full(len(least), LOOSE)):
        for exponent in _POWERS:
            scale = 10.0**exponent
            fits = (power == 0) & _within(least / scale, most / scale, low, high, tolerance)
            power[fits] = exponent
            if tolerance is tight:
                exact |= fits
    return power, exact


def units(proof: Proof, low: Floats, high: Floats, volume: Floats, verdict: Verdict) -> None:
    """Refuse what cannot be a bar's average price; a power of ten is named as the unit error that it is."""
    place = {int(row): i for i, row in enumerate(proof.rows[proof.gross])}
    vwap, power = proof.vwap[proof.gross], proof.power[proof.gross]

    def sentence(row: int) -> str:
        at = place[row]
        span = f"[{number(low[row])}, {number(high[row])}]"
        found = f"amount/volume is {vwap[at]:.6g}"
        if exponent := int(power[at]):
            times = f"{10**exponent} times" if exponent > 0 else f"1/{10**-exponent} of"
            return f"{found}, {times} the prices {span}: a unit error ({_GUESS.get(exponent, 'wrong scale')})"
        return f"{found}, outside the prices {span} (volume {number(volume[row])})"

    rows = proof.rows[proof.gross]
    verdict.refuse_rows(Rule.UNIT, rows[power != 0], lambda found: (sentence(int(r)) for r in found))
    verdict.refuse_rows(Rule.VWAP, rows[power == 0], lambda found: (sentence(int(r)) for r in found))


_GUESS = {
    2: "volume in lots, not shares",
    -2: "volume 100 times too large",
    3: "volume in thousands, or amount 1000 times too large",
    -3: "amount in thousands of yuan",
    -1: "volume in lots and amount in thousands of yuan",
    4: "volume or amount 10,000 times off",
    -4: "amount in ten thousands of yuan",
}
