"""Rules for bars: order and sign of prices, the unit proof, adjusted series, ticks, limits, labels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mystocks_ingest.market import cells
from mystocks_ingest.market.checks import adjusted, limits, proof
from mystocks_ingest.market.checks.rows import Days, Keyed, among, finished, in_time, kinds, per_row
from mystocks_ingest.market.checks.verdict import Context, Mask, Rule, Verdict, number
from mystocks_ingest.market.sessions import label_mask
from mystocks_ingest.market.symbols import b_shares

Floats = npt.NDArray[np.float64]
PRICES = ("open", "high", "low", "close")
PROVEN = frozenset({"stock", "etf"})  # an index has no average price, a bond's amount may hold accrued interest
OFF = 0.0005  # CNY off the tick: single-precision vendors are off by less
STATED_MOVE = ("pct_chg", "pctChg", "涨跌幅")  # tushare, baostock, akshare: percent
_MOVE_ROUNDING = 0.011  # percentage points: eastmoney rounds to two decimals
_INDEX_ROUNDING = 1e-4  # relative: some index vendors round open and close, but not high and low


def check(keyed: Keyed, days: Days, context: Context, verdict: Verdict) -> None:
    """Judge bars of any interval. Adjusted series come first: the reason for all their rows is one."""
    values = {name: keyed.numbers(name) for name in (*PRICES, "volume", "amount")}
    types = kinds(keyed, context)
    proven = per_row(keyed, among(types, PROVEN))
    found = _prove(values, proven, days)
    off = _off_tick(keyed, values, types)
    negative = (values["low"] < 0) & proven
    with np.errstate(invalid="ignore", divide="ignore"):
        vwap = values["amount"] / values["volume"]
    marks = adjusted.marks(found, off, negative)
    adjusted.series(keyed, marks, (values["low"], values["high"], vwap), verdict)
    in_time(keyed, days, context, verdict)
    daily = "trade_date" in keyed.frame.dataset.key
    if daily:
        _traded(values, proven, verdict)
    _prices(keyed, values, types, verdict)
    _volume(values, proven, verdict)
    proof.units(found, values["low"], values["high"], values["volume"], verdict)
    if off is not None:
        verdict.refuse(
            Rule.OFF_TICK,
            off,
            lambda rows: (
                f"prices {', '.join(number(values[n][r]) for n in PRICES)} are not on the exchange's tick" for r in rows
            ),
        )
    if keyed.frame.dataset.interval == "1d":
        _moves(keyed, values["close"], verdict)
        finished(keyed, days, verdict)
        if context.calendar is not None:
            ends = {"pre_close": keyed.numbers("pre_close"), **values}
            limits.within(keyed, days, context.calendar, ends, verdict)
    elif not daily:
        _labels(keyed, verdict)


def _prove(values: dict[str, Floats], proven: Mask, days: Days) -> proof.Proof:
    volume = values["volume"] if proven.all() else np.where(proven, values["volume"], 0.0)
    return proof.prove(values["low"], values["high"], volume, values["amount"], days)


def _off_tick(keyed: Keyed, values: dict[str, Floats], types: npt.NDArray[np.object_]) -> Mask | None:
    """Rows with a price between ticks: 0.01 for A shares, 0.001 for B shares and funds; others have none here."""
    stocks, funds = types == "stock", types == "etf"
    thousandths = funds | (stocks & b_shares(keyed.symbols))
    ticks = np.where(thousandths, 1000, np.where(stocks, 100, 0))
    if not ticks.any():
        return None
    per_yuan = float(ticks[0]) if (ticks == ticks[0]).all() else ticks[keyed.group].astype(np.float64)
    off = np.zeros(len(keyed), dtype=np.bool_)
    scaled = np.empty(len(keyed))
    nearest = np.empty(len(keyed))
    for name in PRICES:
        np.multiply(values[name], per_yuan, out=scaled)
        np.rint(scaled, out=nearest)
        np.subtract(scaled, nearest, out=scaled)
        np.abs(scaled, out=scaled)
        off |= scaled > OFF * per_yuan
    mask: Mask = off & (ticks > 0)[keyed.group] if not ticks.all() else off
    return mask


def _traded(values: dict[str, Floats], proven: Mask, verdict: Verdict) -> None:
    """Vendors that show suspended sessions repeat the last close with no volume: that is no bar."""
    amount, high, low, close = (values[n] for n in ("amount", "high", "low", "close"))
    idle = proven & (values["volume"] == 0) & ~(amount > 0)
    if not idle.any():
        return
    flat = idle & ((high == low) | (high == 0))
    verdict.refuse(
        Rule.SUSPENDED,
        flat,
        lambda rows: (f"no volume and one price, {number(close[r])}: a suspended session, not a bar" for r in rows),
    )
    verdict.refuse(
        Rule.VWAP,
        idle & ~flat,
        lambda rows: (f"prices moved between {number(low[r])} and {number(high[r])} without volume" for r in rows),
    )


def _prices(keyed: Keyed, values: dict[str, Floats], types: npt.NDArray[np.object_], verdict: Verdict) -> None:
    opened, high, low, close = (values[n] for n in PRICES)
    lowest = np.fmin(np.fmin(opened, high), np.fmin(low, close))  # NaN (a minute bar without open) is passed over
    verdict.refuse(
        Rule.PRICE_NOT_POSITIVE,
        lowest <= 0,
        lambda rows: (
            f"open {number(opened[r])}, high {number(high[r])}, low {number(low[r])}, "
            f"close {number(close[r])}: a price must be positive"
            for r in rows
        ),
    )
    bodies = np.fmax(opened, close), np.fmin(opened, close)
    wrong = (bodies[0] > high) | (bodies[1] < low) | (low > high)
    if wrong.any():
        slack = per_row(keyed, types == "index") * _INDEX_ROUNDING * close
        wrong = (bodies[0] > high + slack) | (bodies[1] < low - slack) | (low > high)
    verdict.refuse(
        Rule.OHLC_ORDER,
        wrong,
        lambda rows: (
            f"open {number(opened[r])}, high {number(high[r])}, low {number(low[r])}, "
            f"close {number(close[r])}: high must be the highest and low the lowest"
            for r in rows
        ),
    )
    if "pre_close" in keyed.frame.rows.schema.names:
        reference = keyed.numbers("pre_close")
        verdict.refuse(
            Rule.PRICE_NOT_POSITIVE, reference < 0, lambda rows: (f"pre_close is {number(reference[r])}" for r in rows)
        )


def _moves(keyed: Keyed, close: Floats, verdict: Verdict) -> None:
    """The vendor's own percentage must follow from its close and its reference price: it says the price twice.

    A close that the next session's reference price confirms is believed all the same: then it is the percentage or
    this row's reference price that is wrong, as in one of 31,700 real rows.
    """
    raw = keyed.frame.raw
    name = next((n for n in STATED_MOVE if raw is not None and n in raw.schema.names), None)
    if raw is None or name is None:
        return
    stated = cells.to_number(raw.column(name)).to_numpy(zero_copy_only=False)
    reference = keyed.numbers("pre_close")
    with np.errstate(invalid="ignore", divide="ignore"):
        moved = (close / reference - 1.0) * 100.0
        wrong = np.abs(moved - stated) > _MOVE_ROUNDING  # NaN, a first day's, compares false
    if wrong.any():
        confirmed = (keyed.group[1:] == keyed.group[:-1]) & (np.abs(reference[1:] - close[:-1]) < OFF)
        wrong[:-1] &= ~confirmed
        wrong &= ~keyed.frame.rows.column("provisional").fill_null(False).to_numpy(
            zero_copy_only=False
        )  # not the last word
    verdict.refuse(
        Rule.INCONSISTENT,
        wrong,
        lambda rows: (
            f"close {number(close[r])} over pre_close {number(reference[r])} is {moved[r]:+.2f} %, "
            f"and the vendor's {name} says {stated[r]:+.2f} %"
            for r in rows
        ),
    )


def _volume(values: dict[str, Floats], proven: Mask, verdict: Verdict) -> None:
    volume, amount, high = values["volume"], values["amount"], values["high"]
    verdict.refuse(
        Rule.NEGATIVE_VOLUME,
        (volume < 0) | (amount < 0),
        lambda rows: (f"volume {number(volume[r])}, amount {number(amount[r])}: neither can be negative" for r in rows),
    )
    # whole lots round up to 50 odd shares away; more money than that has no volume
    unpaid = proven & (volume == 0) & (amount > 50 * high * (1 + proof.LOOSE) + 1)
    verdict.refuse(
        Rule.VWAP, unpaid, lambda rows: (f"amount {number(amount[r])} was traded without volume" for r in rows)
    )


def _labels(keyed: Keyed, verdict: Verdict) -> None:
    """A minute bar ends on a minute that its interval has."""
    interval = keyed.frame.dataset.interval or ""
    clock = keyed.clock()
    minute, rest = np.divmod(clock, 60_000)
    verdict.refuse(
        Rule.BAR_LABEL,
        ~label_mask(interval)[minute] | (rest != 0),
        lambda rows: (
            f"no {interval} bar ends at {int(minute[r]) // 60:02d}:{int(minute[r]) % 60:02d} "
            "(bars are labelled by their end)"
            for r in rows
        ),
    )
