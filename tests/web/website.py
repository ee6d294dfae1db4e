"""The application over a real service on the embedded store, behind a real loopback socket."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.client import HTTPConnection
from pathlib import Path

import pyarrow as pa
import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mystocks_ingest import service
from mystocks_ingest.errors import ConfigError
from mystocks_ingest.flow.ingest import Ingest, Taken
from mystocks_ingest.flow.report import Job, Missing
from mystocks_ingest.flow.witness import Witness
from mystocks_ingest.flow.writer import Writer
from mystocks_ingest.market.adjust import How
from mystocks_ingest.market.checks import Context
from mystocks_ingest.market.datasets import DATASETS, Dataset
from mystocks_ingest.market.frames import Frame, Symbol, Window
from mystocks_ingest.monitor.health import Health, Kind, Part
from mystocks_ingest.monitor.journal import Buried
from mystocks_ingest.monitor.metrics import Metrics
from mystocks_ingest.ports import Query, Run
from mystocks_ingest.schema.tables import Tables
from mystocks_ingest.service import Service
from mystocks_ingest.settings import Settings
from mystocks_ingest.web.app import made
from mystocks_ingest.web.desk import JobState
from mystocks_ingest.web.limits import Limits
from mystocks_ingest.web.server import serve
from mystocks_ingest.web.tokens import Tokens

ROOT = Path(__file__).parents[2]
NOW = datetime(2024, 6, 3, 12, tzinfo=UTC)  # a Monday evening in Shanghai
TOKEN = "a-token-of-the-tests"  # noqa: S105 - of these tests only
PATIENT = Limits(requests_per_second=100_000, burst=100_000, wrong_tokens=100_000)


accepted: ContextVar[list[int]] = ContextVar("accepted")  # rows, by the request under way


@dataclass
class Witnessed:
    """An ASGI application that remembers how each request ended, and how many rows it had stored."""

    app: ASGIApp
    ended: list[tuple[str, int, int]] = field(default_factory=list)  # path, status, rows

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        rows: list[int] = []
        accepted.set(rows)

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.ended.append((scope["path"], message["status"], sum(rows)))
            await send(message)

        await self.app(scope, receive, sending)


@dataclass
class RealDesk:
    """web.desk.Desk over a Service; jobs are the one thing a service without a daemon does not have."""

    service: Service
    ingest: Ingest
    metrics: Metrics = field(default_factory=Metrics)
    parts: tuple[Part, ...] = (Part("embedded", Kind.SINK),)
    paused: bool = False
    started: int = 0
    away: Exception | None = None
    took: int = 0  # rows accepted since the start

    @property
    def tables(self) -> Tables:
        return self.service.tables

    def now(self) -> datetime:
        return NOW

    async def health(self) -> Health:
        return Health(self.parts, "1", NOW, NOW)

    async def read(
        self, wanted: Dataset, symbols: tuple[Symbol, ...], window: Window, adjust: How, limit: int
    ) -> pa.Table:
        if self.away is not None:
            raise self.away
        return await self.service.read(wanted, symbols, window, adjust, limit)

    async def runs(self, *, limit: int) -> Sequence[Run]:
        return await self.service.journal.runs(limit=limit)

    async def gaps(self, job: Job) -> Sequence[Missing]:
        return await self.service.gaps(job)

    async def letters(
        self, *, dataset: str | None, rule: str | None, source: str | None, limit: int, offset: int
    ) -> Sequence[Buried]:
        return await self.service.journal.letters(dataset=dataset, rule=rule, source=source, limit=limit, offset=offset)

    async def jobs(self) -> Sequence[JobState]:
        return [JobState("close", "after close + 30 min", ("bar_1d",), self.paused, running=False, next_at=NOW)]

    async def start(self, job: str) -> None:
        self.started += 1
        if self.started > 1:
            raise ConfigError(f"job {job} is running already")

    async def pause(self, job: str, *, paused: bool) -> None:
        self.paused = paused

    async def take(self, frame: Frame) -> Taken:
        if self.away is not None:
            raise self.away
        taken = await self.ingest.take(frame, None, now=NOW)
        self.took += len(taken.accepted)
        accepted.get().append(len(taken.accepted))
        return taken


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes
    json: object


@dataclass
class Site:
    """A running server and what stands behind it."""

    desk: RealDesk
    port: int
    ended: list[tuple[str, int, int]]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def ask(
        self,
        method: str,
        path: str,
        *,
        token: str | None = TOKEN,
        headers: dict[str, str] | None = None,
        body: bytes | None = None,
    ) -> Reply:
        return await asyncio.to_thread(self._asked, method, path, token, dict(headers or {}), body)

    def _asked(self, method: str, path: str, token: str | None, headers: dict[str, str], body: bytes | None) -> Reply:
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        line = HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            line.request(method, path, body, headers)
            got = line.getresponse()
            content = got.read()
        finally:
            line.close()
        found = {k.lower(): v for k, v in got.headers.items()}
        is_json = found.get("content-type", "").startswith("application/json")
        return Reply(got.status, found, content, json.loads(content) if is_json and content else None)

    async def get(self, path: str, **options: object) -> Reply:
        return await self.ask("GET", path, **options)

    async def deliver(self, name: str, rows: object, **options: object) -> Reply:
        body = json.dumps({"rows": rows}).encode()
        headers = {"Content-Type": "application/json", **options.pop("headers", {})}
        return await self.ask("POST", f"/api/v1/ingest/{name}", headers=headers, body=body, **options)

    async def stored(self, name: str) -> list[dict[str, object]]:
        rows = await self.desk.service.sink.read(self.desk.tables.holder(DATASETS[name]), Query())
        return rows.to_pylist()

    async def stored_rows(self) -> int:
        """Of every table."""
        service = self.desk.service
        counts = [(await service.sink.read(t, Query())).num_rows for t in self.desk.tables.all if t.dataset and t.key]
        return sum(counts)


@asynccontextmanager
async def opened_site(folder: Path, limits: Limits = PATIENT, tokens: Tokens | None = None) -> AsyncIterator[Site]:
    settings = Settings(_env_file=None, MYSTOCKS_STATE_DIR=folder, MYSTOCKS_CONFIG_DIR=ROOT / "config")
    async with AsyncExitStack() as stack:
        real = await stack.enter_async_context(service.opened(settings, now=lambda: NOW))
        written = [t for t in real.tables.all if t.dataset is not None and t.key]
        writers = {t: await stack.enter_async_context(Writer(real.sink, t)) for t in written}
        witness = Witness(real.sink, real.tables)
        ingest = Ingest(real.tables, writers, real.journal, lambda: Context(NOW), "test", witness)
        desk = RealDesk(real, ingest)
        tokens = Tokens({"tests": hashlib.sha256(TOKEN.encode()).digest()}) if tokens is None else tokens
        bound: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        group = await stack.enter_async_context(asyncio.TaskGroup())
        app = Witnessed(made(desk, tokens, limits))
        serving = group.create_task(serve(app, "127.0.0.1", 0, bound=bound.set_result))
        try:
            yield Site(desk, await bound, app.ended)
        finally:
            serving.cancel()


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    async with opened_site(tmp_path) as opened:
        yield opened
