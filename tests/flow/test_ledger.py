from __future__ import annotations

from datetime import date

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from mystocks_ingest.flow.ledger import Ledger
from mystocks_ingest.market.frames import Symbol, Window
from mystocks_ingest.ports import Checkpoint

SESSIONS = np.array(
    ["2024-01-02", "2024-01-03", "2024-01-04", "2024-01-05", "2024-01-08", "2024-01-09"], "datetime64[D]"
)
A, B = Symbol("000001.SZ"), Symbol("600000.SH")


def blank() -> Ledger:
    return Ledger.blank("bar_1d", [A, B], SESSIONS)


def settle(ledger: Ledger, symbols: list[str], days: list[date]) -> None:
    ledger.settle(ledger.cells(pa.array(symbols), pa.array(days, pa.date32())))


def test_a_checkpoint_stops_before_the_first_hole() -> None:
    ledger = blank()
    settle(ledger, [A, A, A], [date(2024, 1, 2), date(2024, 1, 3), date(2024, 1, 5)])
    windows = [p.window for p in ledger.checkpoints("auto")]
    assert windows == [Window(date(2024, 1, 2), date(2024, 1, 4)), Window(date(2024, 1, 5), date(2024, 1, 6))]


def test_a_window_runs_over_the_weekend_but_not_to_the_next_session() -> None:
    ledger = blank()
    settle(ledger, [B, B], [date(2024, 1, 5), date(2024, 1, 8)])
    (point,) = ledger.checkpoints("auto")
    assert point.window == Window(date(2024, 1, 5), date(2024, 1, 9))
    assert date(2024, 1, 9) not in point.window


def test_only_changed_symbols_are_checkpointed_again() -> None:
    ledger = blank()
    settle(ledger, [A], [date(2024, 1, 2)])
    assert {p.symbol for p in ledger.checkpoints("auto")} == {A}
    assert ledger.checkpoints("auto") == []


def test_pairs_outside_the_ledger_are_left_out() -> None:
    ledger = blank()
    cells = ledger.cells(
        pa.array([A, "999999.SH", B, A]),
        pa.array([date(2024, 1, 2), date(2024, 1, 2), date(2024, 1, 6), date(2024, 1, 9)], pa.date32()),
    )
    assert cells.positions.tolist() == [0, 3]
    assert list(zip(cells.rows.tolist(), cells.columns.tolist(), strict=True)) == [(0, 0), (0, 5)]


@given(st.lists(st.booleans(), min_size=12, max_size=12))
def test_checkpoints_recalled_give_back_exactly_the_done_cells(cells: list[bool]) -> None:
    ledger = blank()
    ledger.settle_mask(np.array(cells).reshape(2, 6))
    again = blank()
    again.recall(ledger.checkpoints("auto"))
    assert (again.done == ledger.done).all()


def test_a_checkpoint_of_an_unknown_symbol_is_ignored() -> None:
    ledger = blank()
    ledger.recall([Checkpoint("bar_1d", Symbol("300750.SZ"), Window(date(2024, 1, 1), date(2025, 1, 1)), "auto")])
    assert not ledger.done.any()
