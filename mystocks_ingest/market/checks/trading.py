"""Rules for what an account does: orders and fills."""

from __future__ import annotations

import numpy as np

from mystocks_ingest.market.checks.rows import Keyed, among, types_of
from mystocks_ingest.market.checks.verdict import Context, Mask, Rule, Verdict, number

_ROUNDING = 0.01  # of a fill's amount: some brokers round its price, being an average, to the cent


def check_order(keyed: Keyed, verdict: Verdict) -> None:
    """Something is ordered, and no more is filled. A price of 0 is a market order, as some gateways have it."""
    price, volume, filled = (keyed.numbers(n) for n in ("price", "volume", "filled_volume"))
    verdict.refuse(
        Rule.NEGATIVE_VOLUME, volume <= 0, lambda rows: (f"an order of {number(volume[r])} shares" for r in rows)
    )
    verdict.refuse(Rule.PRICE_NOT_POSITIVE, price < 0, lambda rows: (f"price is {number(price[r])}" for r in rows))
    verdict.refuse(
        Rule.INCONSISTENT,
        (filled < 0) | (filled > volume),
        lambda rows: (f"{number(filled[r])} of {number(volume[r])} shares are filled" for r in rows),
    )


def check_fill(keyed: Keyed, context: Context, verdict: Verdict) -> None:
    """A fill has a price and a volume; its amount is their product (a future's is not, for its multiplier)."""
    price, volume, amount = (keyed.numbers(n) for n in ("price", "volume", "amount"))
    verdict.refuse(Rule.PRICE_NOT_POSITIVE, price <= 0, lambda rows: (f"price is {number(price[r])}" for r in rows))
    verdict.refuse(
        Rule.NEGATIVE_VOLUME, volume <= 0, lambda rows: (f"a fill of {number(volume[r])} shares" for r in rows)
    )
    priced = _priced(keyed, context)
    off = np.abs(np.abs(amount) - price * volume) > _ROUNDING * (price * volume + volume) + 1  # NaN compares false
    verdict.refuse(
        Rule.UNIT,
        priced & off,
        lambda rows: (
            f"amount {number(amount[r])} is not price {number(price[r])} x volume {number(volume[r])}" for r in rows
        ),
    )


def _priced(keyed: Keyed, context: Context) -> Mask:
    """The rows of stocks and funds: an order's rows stand by account, not by symbol."""
    coded = keyed.frame.rows.column("symbol").fill_null("?").dictionary_encode()
    mask: Mask = among(types_of(coded.dictionary, context), ("stock", "etf"))[coded.indices.to_numpy()]
    return mask
