"""Rules for what is not a bar: quotes, ticks, daily ratios, factors, instruments, calendar days."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from mystocks_ingest.market.checks.rows import Days, Keyed, among, kinds, on_weekend, per_row
from mystocks_ingest.market.checks.verdict import Context, Mask, Rows, Rule, Verdict, number

Floats = npt.NDArray[np.float64]
LOOSE = 0.05
FAR = 10  # of small volumes, whose amount may be rounded: lots are a hundred off
MANY_TRADES = 0.25  # one vendor tick sums the trades of three seconds; a cheap stock moves by large ticks


def check_quote(keyed: Keyed, context: Context, verdict: Verdict) -> None:
    """Zeros stand for "not yet" (before the open, no order on a side); contradictions and wrong units do not pass."""
    check_depth(keyed, verdict)
    last, high, low = keyed.numbers("last"), keyed.numbers("high"), keyed.numbers("low")
    _not_negative(keyed, ("last", "open", "high", "low", "pre_close", "volume", "amount"), verdict)
    traded = (high > 0) & (low > 0)
    verdict.refuse(
        Rule.OHLC_ORDER,
        traded & ((low > high) | ((last > 0) & ((last > high * 1.0001) | (last < low * 0.9999)))),
        lambda rows: (
            f"last {number(last[r])} and the day's range [{number(low[r])}, {number(high[r])}] disagree" for r in rows
        ),
    )
    volume, amount = keyed.numbers("volume"), keyed.numbers("amount")
    priced = per_row(keyed, among(kinds(keyed, context), ("stock", "etf")))
    with np.errstate(divide="ignore", invalid="ignore"):
        vwap = amount / volume
        wrong = (vwap > high * (1 + LOOSE)) | (vwap < low * (1 - LOOSE))
        far = (vwap > high * FAR) | (vwap < low / FAR)
    verdict.refuse(
        Rule.UNIT,
        priced & traded & (amount > 0) & (wrong & (volume > 1000) | far & (volume > 0)),
        lambda rows: (
            f"amount/volume is {vwap[r]:.6g}, outside the day's range [{number(low[r])}, {number(high[r])}]"
            for r in rows
        ),
    )


def check_depth(keyed: Keyed, verdict: Verdict) -> None:
    """Bids fall, asks rise, and no bid exceeds an ask (in an auction they are equal)."""
    names = keyed.frame.rows.schema.names
    sides: dict[str, list[Floats]] = {}
    for side in ("bid", "ask"):
        levels = [f"{side}_price{level}" for level in range(1, 11) if f"{side}_price{level}" in names]
        sides[side] = [keyed.numbers(name) for name in levels]
        _not_negative(keyed, levels, verdict)
        _not_negative(keyed, [name.replace("price", "volume") for name in levels], verdict)
    wrong = np.zeros(len(keyed), dtype=np.bool_)
    for side, sign in (("bid", 1), ("ask", -1)):
        for better, worse in zip(sides[side], sides[side][1:], strict=False):
            wrong |= (better > 0) & (worse > 0) & (sign * (worse - better) > 0)
    if sides["bid"] and sides["ask"]:
        bid, ask = sides["bid"][0], sides["ask"][0]
        wrong |= (bid > 0) & (ask > 0) & (bid > ask)
    verdict.refuse(Rule.INCONSISTENT, wrong, lambda rows: ["the levels of the order book are out of order"] * len(rows))


def check_tick(keyed: Keyed, context: Context, verdict: Verdict) -> None:
    """A trade has a price and a volume; its amount is their product, within what whole lots allow."""
    price, volume, amount = (keyed.numbers(n) for n in ("price", "volume", "amount"))
    verdict.refuse(Rule.PRICE_NOT_POSITIVE, price <= 0, lambda rows: (f"price is {number(price[r])}" for r in rows))
    _not_negative(keyed, ("volume", "amount"), verdict, rule=Rule.NEGATIVE_VOLUME)
    priced = per_row(keyed, among(kinds(keyed, context), ("stock", "etf")))
    off = np.abs(amount - price * volume) > MANY_TRADES * price * volume + 50 * price + 1
    verdict.refuse(
        Rule.UNIT,
        priced & (volume > 0) & (amount > 0) & off,
        lambda rows: (
            f"amount {number(amount[r])} is not price {number(price[r])} x volume {number(volume[r])}" for r in rows
        ),
    )


def check_daily_basic(keyed: Keyed, verdict: Verdict) -> None:
    """Value over shares is the close, for all shares and for the floating ones; ratios are percent."""
    total, floating = keyed.numbers("total_shares"), keyed.numbers("float_shares")
    value, float_value = keyed.numbers("total_value"), keyed.numbers("float_value")
    _not_negative(keyed, ("turnover", "turnover_free", "volume_ratio", "dividend_yield", "dividend_yield_ttm"), verdict)
    _not_negative(keyed, ("total_shares", "float_shares", "free_shares", "total_value", "float_value"), verdict)
    with np.errstate(divide="ignore", invalid="ignore"):
        close, float_close = value / total, float_value / floating
        apart = np.abs(float_close / close - 1) > LOOSE
    verdict.refuse(
        Rule.UNIT,
        (close < 0.01) | (close > 20_000),
        lambda rows: (f"total value over total shares is {close[r]:.6g} CNY, no price of a share" for r in rows),
    )
    verdict.refuse(
        Rule.UNIT,
        (total < 2e6) & (total > 0),
        lambda rows: (f"{number(total[r])} shares in total is no listed company: ten thousands?" for r in rows),
    )
    verdict.refuse(
        Rule.INCONSISTENT,
        (floating > 0) & (total > 0) & (apart | (floating > total * 1.001)),
        lambda rows: (
            f"close by total value {close[r]:.6g}, by float value {float_close[r]:.6g}; "
            f"{number(floating[r])} of {number(total[r])} shares float"
            for r in rows
        ),
    )
    turnover = keyed.numbers("turnover")
    verdict.refuse(
        Rule.OUT_OF_RANGE, turnover > 110, lambda rows: (f"turnover {number(turnover[r])} % in a day" for r in rows)
    )


def check_factor(keyed: Keyed, context: Context, verdict: Verdict) -> None:
    """Positive; and a stock's back-adjustment factor starts at 1 and grows, a forward one ends at 1."""
    factor = keyed.numbers("factor")
    verdict.refuse(
        Rule.OUT_OF_RANGE,
        ~((factor > 0) & (factor < 1e6)),
        lambda rows: (f"factor {number(factor[r])} is not a positive number" for r in rows),
    )
    if not len(keyed):
        return
    highest = np.maximum.reduceat(factor, keyed.starts)
    first = factor[keyed.starts]
    newest = factor[np.append(keyed.starts[1:], len(keyed)) - 1]
    stock = kinds(keyed, context) == "stock"
    forward = stock & (np.abs(newest - 1) < 1e-6) & (highest < 1 + 1e-6) & (first < 0.999)
    verdict.refuse(
        Rule.FORWARD_ADJUSTED,
        forward[keyed.group],
        lambda rows: (
            f"factors rise from {number(first[keyed.group[r]])} to 1: forward factors, which change with the next "
            "distribution; back-adjustment factors are stored"
            for r in rows
        ),
    )


def check_limit_price(keyed: Keyed, verdict: Verdict) -> None:
    """The upper limit lies above the lower one."""
    up, down = keyed.numbers("up_limit"), keyed.numbers("down_limit")
    verdict.refuse(
        Rule.INCONSISTENT,
        (up < down) | (up <= 0) | (down < 0),
        lambda rows: (f"limits {number(down[r])}..{number(up[r])}" for r in rows),
    )


def check_instrument(keyed: Keyed, verdict: Verdict) -> None:
    """The exchange is the symbol's, and nothing is delisted before it is listed."""
    rows = keyed.frame.rows
    suffix = pc.replace_substring_regex(rows.column("symbol"), r"^.*\.", "")
    foreign = _mask(pc.not_equal(suffix, rows.column("exchange")))
    verdict.refuse(
        Rule.INCONSISTENT,
        foreign,
        lambda found: (f"{rows['symbol'][int(r)]} does not trade on {rows['exchange'][int(r)]}" for r in found),
    )
    verdict.refuse(
        Rule.INCONSISTENT,
        _mask(pc.less(rows.column("delist_date"), rows.column("list_date"))),
        lambda found: (
            f"delisted on {rows['delist_date'][int(r)]}, before the listing on {rows['list_date'][int(r)]}"
            for r in found
        ),
    )


def check_calendar(keyed: Keyed, days: Days, verdict: Verdict) -> None:
    """No session on a weekend, since the exchanges settled in."""
    opened = _mask(keyed.frame.rows.column("is_open"))
    verdict.refuse(
        Rule.INCONSISTENT,
        on_weekend(days) & opened,
        lambda rows: (f"{days[r]} is a weekend and cannot be a session" for r in rows),
    )


def _mask(column: object) -> Mask:
    mask: Mask = pc.fill_null(column, False).to_numpy(zero_copy_only=False)
    return mask


def _not_negative(keyed: Keyed, names: Sequence[str], verdict: Verdict, rule: Rule = Rule.OUT_OF_RANGE) -> None:
    for name in names:
        if name in keyed.frame.rows.schema.names:
            values = keyed.numbers(name)
            verdict.refuse(rule, values < 0, partial(_negative, name, values))


def _negative(name: str, values: Floats, rows: Rows) -> list[str]:
    return [f"{name} is {number(values[row])}" for row in rows]
