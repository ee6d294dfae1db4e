"""Prices are the doubles nearest to their decimal notation, however they were reckoned."""

from __future__ import annotations

from decimal import Decimal

import pyarrow as pa
import pyarrow.compute as pc
from hypothesis import given
from hypothesis import strategies as st

from mystocks_ingest.market.cells import decimals

ticks = st.integers(0, 10_000_000)


@given(st.lists(st.tuples(ticks, ticks), min_size=1, max_size=50))
def test_the_difference_of_two_prices_is_a_price(pairs: list[tuple[int, int]]) -> None:
    closes, changes = (pa.array([float(Decimal(t) / 100) for t in column]) for column in zip(*pairs, strict=True))
    exact = [float(Decimal(a - b) / 100) for a, b in pairs]
    assert decimals(pc.subtract(closes, changes), 4).to_pylist() == exact


def test_what_is_no_number_stays_so() -> None:
    assert decimals(pa.array([None, 15.88 - 0.6], pa.float64()), 4).to_pylist() == [None, 15.28]
