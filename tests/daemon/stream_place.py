"""A consumer of Redis streams over a real service on the embedded store, and a client that delivers by redis-cli."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
from redis import Redis as Client
from servers.redis import PASSWORD, Redis

from mystocks_ingest import service
from mystocks_ingest.daemon.stream import StreamConsumer
from mystocks_ingest.flow.ingest import Ingest, Taken
from mystocks_ingest.flow.witness import Witness
from mystocks_ingest.flow.writer import Writer
from mystocks_ingest.market.checks import Context
from mystocks_ingest.market.datasets import DATASETS
from mystocks_ingest.market.frames import Frame
from mystocks_ingest.monitor.metrics import Metrics
from mystocks_ingest.ports import DeadLetter, Query
from mystocks_ingest.schema.tables import Tables
from mystocks_ingest.settings import Settings
from mystocks_ingest.web.known import Known

ROOT = Path(__file__).parents[2]
NOW = datetime(2024, 6, 3, 8, tzinfo=UTC)
ORDER = {
    "account": "a", "order_id": "1", "ts": "2024-06-03T10:00:00+08:00", "symbol": "600519.SH", "side": "B",
    "volume": "100", "status": "new",
}  # fmt: skip


async def until(true: Callable[[], Awaitable[bool]], *, seconds: float = 30) -> None:
    async with asyncio.timeout(seconds):
        while not await true():  # noqa: ASYNC110 - it happens elsewhere
            await asyncio.sleep(0.02)


@dataclass
class Desk:
    """daemon.stream.Desk; ``fault`` is raised in place of storing."""

    service: service.Service
    ingest: Ingest
    metrics: Metrics
    fault: Exception | None = None

    @property
    def tables(self) -> Tables:
        return self.service.tables

    def now(self) -> datetime:
        return NOW

    async def take(self, frame: Frame) -> Taken:
        if self.fault is not None:
            raise self.fault
        return await self.ingest.take(frame, None, now=NOW)

    async def bury(self, letters: list[DeadLetter]) -> None:
        await self.service.journal.bury(letters)


@dataclass
class House:
    """The service, its consumer while one runs, and Redis."""

    desk: Desk
    settings: Settings
    client: Client
    consumer: StreamConsumer | None = None

    @asynccontextmanager
    async def consuming(self) -> AsyncIterator[StreamConsumer]:
        """A consumer that is connected; cancelled at the end, as the service does it."""
        async with Known(self.settings.state_dir, now=lambda: NOW) as known, asyncio.TaskGroup() as group:
            self.consumer = StreamConsumer(self.settings, self.desk, known, look_seconds=0.2)
            task = group.create_task(self.consumer.run())
            try:
                yield self.consumer
            finally:
                task.cancel()

    def stream(self, dataset: str) -> str:
        return f"{self.settings.stream_prefix}:{dataset}"

    async def add(self, dataset: str, fields: dict[str, str | bytes], **more: str | bytes) -> str:
        return self.client.xadd(self.stream(dataset), {**fields, **more}).decode()

    async def batch(self, dataset: str, rows: list[dict[str, object]]) -> str:
        return await self.add(dataset, {"rows": json.dumps(rows)})

    async def arrow(self, dataset: str, table: pa.Table) -> str:
        out = pa.BufferOutputStream()
        with pa.ipc.new_stream(out, table.schema) as writer:
            writer.write_table(table)
        return await self.add(dataset, {"arrow": out.getvalue().to_pybytes()})

    async def stored(self, dataset: str) -> list[dict[str, object]]:
        table = self.desk.service.tables.holder(DATASETS[dataset])
        return (await self.desk.service.sink.read(table, Query())).to_pylist()

    async def has_stored(self, dataset: str, rows: int) -> None:
        async def there() -> bool:
            return len(await self.stored(dataset)) >= rows

        await until(there)

    async def pending(self, dataset: str) -> int:
        return int(self.client.xpending(self.stream(dataset), self.settings.stream_group)["pending"])

    async def everything_is_acknowledged(self, dataset: str, last: str) -> None:
        """The group has read ``last`` and owes nothing."""

        async def settled() -> bool:
            groups = self.client.xinfo_groups(self.stream(dataset))
            if not groups:
                return False
            group = groups[0]
            read = [int(n) for n in group["last-delivered-id"].decode().split("-")]
            return read >= [int(n) for n in last.split("-")] and group["pending"] == 0

        await until(settled)


@asynccontextmanager
async def opened(folder: Path, redis: Redis, **more: object) -> AsyncIterator[House]:
    settings = Settings(
        _env_file=None, MYSTOCKS_STATE_DIR=folder, MYSTOCKS_CONFIG_DIR=ROOT / "config", MYSTOCKS_STREAM="on",
        MYSTOCKS_STREAM_PREFIX=f"test:{folder.name}", MYSTOCKS_STREAM_CLAIM_SECONDS=1,
        REDIS_PORT=redis.port, REDIS_PASSWORD=PASSWORD, REDIS_CONNECT_SECONDS=20, REDIS_SECONDS=30, **more,
    )  # fmt: skip
    async with AsyncExitStack() as stack:
        real = await stack.enter_async_context(service.opened(settings, now=lambda: NOW))
        writers = {t: await stack.enter_async_context(Writer(real.sink, t)) for t in real.written}
        witness = Witness(real.sink, real.tables)
        ingest = Ingest(real.tables, writers, real.journal, lambda: Context(NOW), "test", witness)
        client = stack.enter_context(Client(port=redis.port, password=PASSWORD))
        yield House(Desk(real, ingest, Metrics(process=False)), settings, client)
