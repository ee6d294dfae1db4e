from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from mystocks_ingest.market.datasets import BAR_1D
from mystocks_ingest.schema.tables import Table, Tables, load

pytest.register_assert_rewrite("contract")

Bars = Callable[..., pa.RecordBatch]
FETCHED = datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.fixture(scope="session")
def tables() -> Tables:
    """The shipped tables with everything in the embedded store."""
    return load(Path(__file__).parents[2] / "config" / "tables.yaml").placed(())


@pytest.fixture(scope="session")
def bar_table(tables: Tables) -> Table:
    return tables.holder(BAR_1D)


def make_bars(
    *, symbols: int = 3, sessions: int = 2, close: float = 10.0, first: date = date(2024, 1, 2), noise: bool = False
) -> pa.RecordBatch:
    """Daily bars of ``symbols`` x ``sessions``, ascending by key; ``noise`` makes them hard to compress."""
    n = symbols * sessions
    days = [first + timedelta(i) for i in range(sessions)]
    columns = {
        "symbol": pa.array(np.repeat([f"{i:06d}.SZ" for i in range(symbols)], sessions)),
        "trade_date": pa.array(days * symbols, pa.date32()),
        **{name: pa.array(np.full(n, close)) for name in ("open", "high", "low", "close", "amount")},
        "volume": pa.array(np.full(n, 100)),
        "provisional": pa.array(np.zeros(n, bool)),
        "source": pa.array(["tushare"] * n),
        "fetched_at": pa.array([FETCHED] * n, pa.timestamp("ms", "UTC")),
    }
    if noise:
        columns |= {name: pa.array(np.random.default_rng(1).random(n)) for name in ("pre_close", "amount", "turnover")}
    arrays = [columns[f.name] if f.name in columns else pa.nulls(n, f.type) for f in BAR_1D.schema]
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema([pa.field(f.name, f.type) for f in BAR_1D.schema]))


@pytest.fixture(scope="session")
def bars() -> Bars:
    return make_bars
