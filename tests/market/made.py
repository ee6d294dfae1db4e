"""Made bars: a quiet raw series that every rule accepts, to be spoilt cell by cell."""

from __future__ import annotations

from datetime import UTC, date, datetime

import numpy as np
import pyarrow as pa

from mystocks_ingest.market.calendar import Calendar
from mystocks_ingest.market.checks import Context
from mystocks_ingest.market.datasets import DATASETS
from mystocks_ingest.market.frames import Frame
from mystocks_ingest.market.instruments import Instruments

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def weekdays(start: str, count: int) -> np.ndarray:
    days = np.arange(np.datetime64(start), np.datetime64(start) + 2 * count + 10)
    return days[np.is_busday(days)][:count]


def calendar(start: str = "2018-01-01", count: int = 1500) -> Calendar:
    days = weekdays(start, count)
    return Calendar(days, days[0].item(), days[-1].item())


def bars(symbol: str = "600000.SH", count: int = 120, *, start: str = "2020-01-01", seed: int = 1) -> dict[str, list]:
    """Columns of a raw daily series: changes below 2 %, ranges of 1-2 %, the average price inside."""
    rng = np.random.default_rng(seed)
    close = np.round(20 * np.exp(rng.normal(0, 0.006, count).clip(-0.018, 0.018).cumsum()), 2)
    pre_close = np.append(20.0, close[:-1])
    opened = np.round((pre_close + close) / 2, 2)
    high = np.round(np.maximum(opened, close) + 0.1, 2)
    low = np.round(np.minimum(opened, close) - 0.1, 2)
    volume = rng.integers(1_000_000, 9_000_000, count)
    amount = np.round(volume * np.round(low + (high - low) * rng.random(count), 4), 2)
    return {
        "symbol": [symbol] * count,
        "trade_date": weekdays(start, count).tolist(),
        "open": opened.tolist(),
        "high": high.tolist(),
        "low": low.tolist(),
        "close": close.tolist(),
        "pre_close": pre_close.tolist(),
        "volume": volume.tolist(),
        "amount": amount.tolist(),
    }


def frame(
    columns: dict[str, list],
    dataset: str = "bar_1d",
    *,
    fetched_at: datetime = NOW,
    raw: dict[str, list] | None = None,
) -> Frame:
    kind = DATASETS[dataset]
    count = len(next(iter(columns.values())))
    filled = {"source": ["made"] * count, "fetched_at": [fetched_at] * count, "provisional": [False] * count} | columns
    arrays = [pa.array(filled[f.name], f.type) if f.name in filled else pa.nulls(count, f.type) for f in kind.fields]
    rows = pa.RecordBatch.from_arrays(arrays, names=[f.name for f in kind.fields])
    original = pa.RecordBatch.from_pydict(raw if raw is not None else {"row": list(range(count))})
    return Frame(kind, "made", fetched_at, rows, original)


def instruments(**listings: tuple[date | None, date | None]) -> Instruments:
    """``SH600000=(list_date, delist_date)``."""
    names = [f"{key[2:]}.{key[:2]}" for key in listings]
    count = len(names)
    return Instruments(
        pa.table(
            {
                "symbol": names,
                "name": pa.nulls(count, pa.string()),
                "asset_type": ["stock"] * count,
                "status": ["L"] * count,
                "list_date": pa.array([v[0] for v in listings.values()], pa.date32()),
                "delist_date": pa.array([v[1] for v in listings.values()], pa.date32()),
            }
        )
    )


def context(**known: object) -> Context:
    return Context(now=NOW, **known)
