from __future__ import annotations

import numpy as np
import pytest

from mystocks_ingest.flow import absence
from mystocks_ingest.flow.ledger import Ledger
from mystocks_ingest.market.frames import Symbol

DAYS = np.arange("2024-01-01", "2024-01-09", dtype="datetime64[D]")


def ledger() -> Ledger:
    return Ledger.blank("bar_1d", [Symbol("000001.SZ"), Symbol("600000.SH")], DAYS)


def bars(*entries: tuple[int, int, float, float]) -> absence.Bars:
    rows, columns, close, pre_close = zip(*entries, strict=True)
    return absence.Bars(np.array(rows), np.array(columns), np.array(close), np.array(pre_close))


def test_a_pause_is_bridged_when_the_price_goes_on_where_it_stopped() -> None:
    mask = absence.bridged(ledger(), bars((0, 1, 10.0, 9.9), (0, 4, 10.2, 10.0)))
    assert np.argwhere(mask).tolist() == [[0, 2], [0, 3]]


@pytest.mark.parametrize("pre_close", [10.01, 9.0, float("nan")])
def test_a_dropped_row_is_not_bridged(pre_close: float) -> None:
    assert not absence.bridged(ledger(), bars((0, 1, 10.0, 9.9), (0, 3, 10.2, pre_close))).any()


def test_bars_of_two_symbols_are_never_joined() -> None:
    assert not absence.bridged(ledger(), bars((0, 1, 10.0, 9.9), (1, 4, 10.2, 10.0))).any()


def test_days_before_the_first_bar_need_no_bar_only_when_nobody_knows_the_listing_date() -> None:
    mask = absence.unlisted(ledger(), bars((0, 2, 10.0, 9.9), (1, 3, 5.0, 5.0)), np.array([True, False]))
    assert np.argwhere(mask).tolist() == [[0, 0], [0, 1]]


def test_one_family_twice_is_not_two_opinions() -> None:
    book = ledger()
    book.answered_by("eastmoney")[0, 0] = True
    book.answered_by("eastmoney")[0, 0] = True
    book.answered_by("tushare")[0, 1] = True
    book.answered_by("baostock")[0, 1] = True
    assert np.argwhere(absence.agreed(book)).tolist() == [[0, 1]]
