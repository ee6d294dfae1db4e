"""What an account does, and moments that are still to come."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import made
import pytest

from mystocks_ingest.market.checks import Context, check
from mystocks_ingest.market.sessions import ZONE

AT = datetime(2024, 1, 2, 10, 0, tzinfo=ZONE)


def refused(dataset: str, rows: list[dict[str, object]], now: datetime = made.NOW) -> dict[object, str]:
    """The rule by which each row is refused, by the row's number."""
    columns = {name: [row.get(name) for row in rows] for name in {n for row in rows for n in row}}
    found = check(made.frame(columns, dataset), Context(now)).refused
    return dict(zip(found.frame.raw["row"].to_pylist(), found.rules, strict=True))


def test_an_order_is_for_something_and_no_more_of_it_is_filled() -> None:
    order = {
        "account": "a",
        "ts": AT,
        "symbol": "600000.SH",
        "side": "B",
        "status": "new",
        "volume": 100,
        "price": 10.0,
    }
    changes: list[dict[str, object]] = [
        {}, {"price": None}, {"price": 0.0}, {"filled_volume": 100}, {"price": -1.0}, {"volume": 0}, {"volume": -100},
        {"filled_volume": 101}, {"filled_volume": -1},
    ]  # fmt: skip
    rows = [{**order, "order_id": str(n), **change} for n, change in enumerate(changes)]
    assert refused("order", rows) == {
        4: "price_not_positive", 5: "negative_volume", 6: "negative_volume", 7: "inconsistent", 8: "inconsistent",
    }  # fmt: skip


def test_a_fill_has_a_price_and_a_volume_and_its_amount_is_their_product() -> None:
    fill = {"account": "a", "order_id": "1", "ts": AT, "side": "B", "symbol": "600000.SH", "price": 10.0, "volume": 300}
    changes: list[dict[str, object]] = [
        {}, {"amount": 3000.0}, {"amount": -3000.0}, {"price": 3.333, "amount": 1000.0}, {"price": 0.0},
        {"price": -10.0}, {"volume": 0}, {"amount": 30.0}, {"amount": 300_000.0},
        {"symbol": "IF2412.CFFEX", "price": 3900.0, "volume": 1, "amount": 1_170_000.0},
    ]  # fmt: skip
    rows = [{**fill, "fill_id": str(n), **change} for n, change in enumerate(changes)]
    assert refused("fill", rows) == {
        4: "price_not_positive", 5: "price_not_positive", 6: "negative_volume", 7: "unit", 8: "unit",
    }  # fmt: skip


@pytest.mark.parametrize("dataset", ["quote", "tick", "position", "account", "bar_1m"])
def test_a_moment_that_is_hours_ahead_is_refused_and_an_hour_of_a_wrong_clock_is_not(dataset: str) -> None:
    shanghai, now = datetime(2024, 1, 2, 10, 0, tzinfo=ZONE), datetime(2024, 1, 2, 2, 0, tzinfo=UTC)
    mistaken = shanghai.replace(tzinfo=UTC)  # Shanghai's clock said to be UTC
    rows: list[dict[str, object]] = []
    for at in (shanghai, shanghai + timedelta(hours=1), mistaken, shanghai.replace(year=2099)):
        row = {
            "symbol": "600000.SH",
            "account": "a",
            "volume": 0 if dataset == "bar_1m" else 100,
            "seq": 0,
            "price": 10.0,
        }
        bar = {"open": 10.0, "high": 10.0, "low": 10.0, "close": 10.0, "provisional": True, "cash": 1.0}
        rows.append({**row, **bar, "ts": at, "bar_time": at})
    names = set(made.DATASETS[dataset].schema.names)
    found = refused(dataset, [{k: v for k, v in row.items() if k in names} for row in rows], now=now)
    assert {n for n, rule in found.items() if rule == "in_the_future"} == {2, 3}


def test_a_signal_may_be_for_tomorrow() -> None:
    signal = {"strategy": "s", "symbol": "600000.SH", "side": "B", "ts": AT + timedelta(days=1)}
    assert refused("signal", [signal], now=AT.astimezone(UTC)) == {}
