"""The user's own rules refuse what they say and nothing else."""

from __future__ import annotations

from datetime import UTC, datetime

import pyarrow as pa
import pytest

from mystocks_ingest.market.checks import Context, Quality, check
from mystocks_ingest.market.checks.quality import unheard
from mystocks_ingest.market.datasets import DATASETS
from mystocks_ingest.market.frames import Frame

NOW = datetime(2024, 6, 3, 8, tzinfo=UTC)
AT = datetime(2024, 6, 3, 2, tzinfo=UTC)


def frame(name: str, rows: list[dict[str, object]]) -> Frame:
    wanted = DATASETS[name]
    schema = pa.schema([pa.field(f.name, f.type) for f in wanted.fields])
    whole = [{"source": "s", "fetched_at": NOW, **row} for row in rows]
    return Frame(wanted, "s", NOW, pa.RecordBatch.from_pylist(whole, schema=schema))


def refused(quality: Quality | None, part: Frame) -> list[tuple[str, str]]:
    found = check(part, Context(NOW, quality=quality)).refused
    return list(zip(found.rules, found.reasons, strict=True))


TICKS = [
    {"symbol": s, "ts": AT, "seq": n, "price": p, "volume": 100}
    for n, (s, p) in enumerate([("000001.SZ", 9.0), ("600519.SH", 20_000.0), ("000300.SH", 20_000.0)])
]


def test_a_range_of_prices_is_in_yuan_and_spares_an_index(capsys: pytest.CaptureFixture[str]) -> None:
    assert refused(None, frame("tick", TICKS)) == []
    assert refused(Quality(), frame("tick", TICKS)) == []
    ((rule, reason),) = refused(Quality(ranges=(("price", 0, 10_000),)), frame("tick", TICKS))
    assert (rule, reason) == ("out_of_range", "price 20000 is outside [0, 10000] of data_quality_rules.accuracy")


def test_an_open_end_bounds_nothing_and_null_is_in_every_range() -> None:
    rows = [{"account": "a", "ts": AT, "cash": cash} for cash in (-5.0,)]
    rows.append({"account": "b", "ts": AT, "cash": None})
    assert refused(Quality(ranges=(("cash", None, 10),)), frame("account", rows)) == []
    assert len(refused(Quality(ranges=(("cash", 0, None),)), frame("account", rows))) == 1


def test_a_required_column_is_never_empty_where_a_dataset_has_it() -> None:
    rows = [{"account": a, "ts": AT, "cash": c} for a, c in (("a", 1.0), ("b", None))]
    ((rule, reason),) = refused(Quality(required=("cash", "symbol")), frame("account", rows))
    assert (rule, "cash is empty" in reason) == ("missing", True)


def test_a_zero_in_a_quote_stands_for_none_so_far() -> None:
    quotes = [{"symbol": "600519.SH", "ts": AT, "last": 0.0, "open": 0.0}]
    assert refused(Quality(ranges=(("price", 0.01, 10_000),)), frame("quote", quotes)) == []


def test_columns_that_nothing_has_are_named() -> None:
    quality = Quality(("symbol", "prise"), (("price", 0, 1), ("volum", 0, 1)))
    assert unheard(quality) == ["prise", "volum"]
