"""Several states of one order in one delivery are states, not a contradiction."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from mystocks_ingest.market.checks import Context, check
from mystocks_ingest.market.datasets import ORDER, dataset
from mystocks_ingest.market.frames import Frame

AT = datetime(2024, 6, 3, 2, 0, tzinfo=UTC)


def frame(name: str, *rows: dict[str, Any]) -> Frame:
    wanted = dataset(name)
    schema = pa.schema([(f.name, f.type) for f in wanted.fields])
    return Frame(wanted, "push:gateway", AT, pa.RecordBatch.from_pylist(list(rows), schema=schema))


def order(status: str, filled: int, **more: object) -> dict[str, Any]:
    fixed = {"account": "a1", "order_id": "7", "ts": AT, "symbol": "600519.SH", "side": "B", "volume": 500}
    return {**fixed, "status": status, "filled_volume": filled, **more}


def test_the_states_of_an_order_all_pass_in_the_order_in_which_they_came_each_once() -> None:
    states = [order("new", 0), order("partial", 100), order("partial", 100), order("filled", 500)]
    checked = check(frame("order", states[0], order("new", 0, order_id="8"), *states[1:]), Context(AT))
    assert not len(checked.refused)
    rows = [r for r in checked.accepted.rows.to_pylist() if r["order_id"] == "7"]
    assert [(r["status"], r["filled_volume"]) for r in rows] == [("new", 0), ("partial", 100), ("filled", 500)]
    assert len(checked.accepted) == 4


def test_a_state_that_cannot_be_is_refused_and_not_the_others() -> None:
    checked = check(frame("order", order("new", 0), order("filled", 900)), Context(AT))
    assert [r["status"] for r in checked.accepted.rows.to_pylist()] == ["new"]
    assert checked.refused.rules == ["inconsistent"]


def test_positions_of_one_moment_that_differ_are_refused_as_before() -> None:
    position = {"account": "a1", "symbol": "600519.SH", "ts": AT + timedelta(seconds=1), "volume": 100}
    checked = check(frame("position", position, {**position, "volume": 200}), Context(AT))
    assert checked.refused.rules == ["duplicate_key", "duplicate_key"]
    assert ORDER.newest_by
