"""A backfill in this process against a simulated market, and its store laid beside the truth."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from time import monotonic
from zoneinfo import ZoneInfo

import pyarrow as pa

from mystocks_ingest import service
from mystocks_ingest.flow.report import Job, Report, Silence
from mystocks_ingest.market.datasets import BAR_1D, Dataset
from mystocks_ingest.market.frames import Symbol, Window
from mystocks_ingest.ports import Query
from mystocks_ingest.service import Service
from mystocks_ingest.settings import Settings
from mystocks_ingest.sim.server import Sim, SimConfig, running

ROOT = Path(__file__).parents[2]
COMPARED = ("symbol", "trade_date", "open", "high", "low", "close", "pre_close")


@dataclass(frozen=True)
class Stage:
    """A running simulator and a state directory of its own."""

    sim: Sim
    settings: Settings

    @property
    def window(self) -> Window:
        return Window(self.sim.market.first_day, self.sim.market.last_day + timedelta(days=1))

    def at(self, hour: int, minute: int = 0, day: date | None = None) -> datetime:
        """A moment of the market's last day (or ``day``), Shanghai time."""
        local = datetime.combine(day or self.sim.market.last_day, time(hour, minute), ZoneInfo("Asia/Shanghai"))
        return local.astimezone(UTC)

    def job(self, *datasets: str, **changes: object) -> Job:
        return replace(Job(datasets or ("bar_1d",), self.window), **changes)  # type: ignore[arg-type]

    @asynccontextmanager
    async def service(self, now: datetime | None = None) -> AsyncIterator[Service]:
        moment = now or self.at(22)
        began = monotonic()  # pacing waits on this clock, so it must go on
        clock = lambda: moment + timedelta(seconds=monotonic() - began)  # noqa: E731
        async with service.opened(self.settings, now=clock) as opened:
            yield opened

    async def backfill(self, job: Job, *, now: datetime | None = None) -> Report:
        async with self.service(now) as opened:
            return await opened.backfill(job, Silence())

    async def stored(self, wanted: Dataset = BAR_1D) -> pa.Table:
        async with self.service() as opened:
            return await opened.sink.read(opened.tables.holder(wanted), Query())

    def truth(self, symbols: tuple[Symbol, ...] = ()) -> pa.Table:
        return (
            self.sim.market.bars_1d(symbols=symbols or None)
            .select(list(COMPARED))
            .sort_by([("symbol", "ascending"), ("trade_date", "ascending")])
        )


@asynccontextmanager
async def staged(folder: Path, **market: object) -> AsyncIterator[Stage]:
    config = SimConfig(**{"seed": 11, "stocks": 24, "sessions": 60, **market})  # type: ignore[arg-type]
    async with running(config) as sim:
        settings = Settings(
            MYSTOCKS_STATE_DIR=folder,
            MYSTOCKS_CONFIG_DIR=ROOT / "config",
            MYSTOCKS_CALL_DEADLINE=30.0,  # a busy machine is no silent vendor
            TUSHARE_POINTS=5000,
            **sim.environment,
        )
        yield Stage(sim, settings)


def assert_equal_to_truth(stored: pa.Table, truth: pa.Table) -> None:
    """Same rows, each once, prices to the last decimal."""
    rows = stored.select(list(COMPARED)).cast(truth.schema)
    assert rows.num_rows == truth.num_rows
    for name in COMPARED:
        assert rows.column(name).combine_chunks().equals(truth.column(name).combine_chunks()), name
