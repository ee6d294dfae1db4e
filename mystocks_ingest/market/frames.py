"""What is asked of a source and what comes back: windows, requests, frames."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import NewType

import pyarrow as pa

from mystocks_ingest.market.datasets import Dataset

Symbol = NewType("Symbol", str)
"""A canonical symbol, ``600000.SH``. Made only by ``market.symbols``."""


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """A half-open range of calendar days, ``[start, end)``."""

    start: date
    end: date

    @property
    def last(self) -> date:
        """The last day inside, as vendors' inclusive ``end_date`` wants it."""
        return self.end - timedelta(days=1)

    def __contains__(self, day: object) -> bool:
        return isinstance(day, date) and self.start <= day < self.end

    def __bool__(self) -> bool:
        return self.start < self.end

    def __str__(self) -> str:
        return f"{self.start}..{self.last}"


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of a source. No symbols means the whole market of ``asset_type`` (the window is one session)."""

    dataset: Dataset
    window: Window
    symbols: tuple[Symbol, ...] = ()
    asset_type: str = "stock"

    def __str__(self) -> str:
        who = ",".join(self.symbols[:3]) + (f"+{len(self.symbols) - 3}" if len(self.symbols) > 3 else "")
        return f"{self.dataset.name} {who or 'whole market'} {self.window}"


@dataclass(frozen=True, slots=True)
class Frame:
    """Rows of one dataset from one source.

    ``rows`` has exactly the dataset's schema (nulls may still stand in required columns: the check refuses
    those rows). ``raw`` is the vendor's own table, row i of it being the origin of row i of ``rows``, so that
    a refused row can be shown as the vendor sent it.
    """

    dataset: Dataset
    source: str
    fetched_at: datetime
    rows: pa.RecordBatch
    raw: pa.RecordBatch | None = None

    def take(self, indices: pa.Array) -> Frame:
        """The frame reduced to (and ordered by) ``indices``, raw rows alike."""
        raw = self.raw.take(indices) if self.raw is not None else None
        return Frame(self.dataset, self.source, self.fetched_at, self.rows.take(indices), raw)

    def __len__(self) -> int:
        return int(self.rows.num_rows)
