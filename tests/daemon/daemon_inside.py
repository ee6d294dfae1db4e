"""The real service inside a test's own loop, its clock in the test's hand; a webhook that takes what alerts tell."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any

from daemon_place import Place

from mystocks_ingest.daemon import running
from mystocks_ingest.daemon.desk import ServiceDesk
from mystocks_ingest.daemon.health import health
from mystocks_ingest.daemon.parts import Daemon
from mystocks_ingest.flow.schedule import Clock
from mystocks_ingest.monitor.alert_setup import alert_setup
from mystocks_ingest.monitor.alerts import Alerts, Limits
from mystocks_ingest.monitor.health import Health, Kind, Part
from mystocks_ingest.settings import Settings

PATIENT = 60.0  # seconds that a busy machine may need for what takes one otherwise


@dataclass
class Stepped:
    """flow.schedule.Clock: runs as time does, and is set forward by the test."""

    at: datetime
    _began: float = field(default_factory=monotonic)

    def now(self) -> datetime:
        return self.at + timedelta(seconds=monotonic() - self._began)

    def seconds(self, length: timedelta) -> float:
        return length.total_seconds()

    def step(self, **length: float) -> None:
        self.at += timedelta(**length)


@dataclass
class Inside:
    """``daemon`` is the service's; ``clock`` its time."""

    daemon: Daemon
    clock: Stepped
    settings: Settings

    async def health(self) -> Health:
        return await health(self.daemon)

    async def part(self, kind: str, name: str) -> Part | None:
        return next((p for p in (await self.health()).of(Kind(kind)) if p.name == name), None)

    async def ask(self, path: str) -> tuple[int, Any]:
        """What the service answers over HTTP, as JSON."""
        status, body = await asyncio.to_thread(_get, f"http://127.0.0.1:{self.daemon.http_port}{path}")
        return status, json.loads(body)


def _get(url: str) -> tuple[int, bytes]:
    import http.client  # noqa: PLC0415
    from urllib.parse import urlsplit  # noqa: PLC0415

    parts = urlsplit(url)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=PATIENT)
    try:
        connection.request("GET", parts.path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


@asynccontextmanager
async def inside(place: Place, when: datetime, **more: str) -> AsyncIterator[Inside]:
    """The service, ready; stopped in order at the end."""
    values = {k: v for k, v in {**place.environment, **more}.items() if k in _NAMES}
    settings = Settings(_env_file=None, **values)  # type: ignore[call-arg, arg-type]
    clock = Stepped(when.astimezone(UTC))
    async with living(settings, clock) as daemon:
        yield Inside(daemon, clock, settings)


@asynccontextmanager
async def living(settings: Settings, clock: Clock, *, patience: float = PATIENT) -> AsyncIterator[Daemon]:
    """The service in this loop, ready within ``patience`` seconds; stopped in order at the end."""
    ready: asyncio.Future[Daemon] = asyncio.get_running_loop().create_future()
    life = asyncio.create_task(running.run(settings, clock=clock, told=ready.set_result), name="service")
    try:
        await asyncio.wait({life, ready}, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        if life.done():
            await life
        yield await asyncio.wait_for(ready, patience)
    finally:
        if ready.done():
            ready.result().stop.set()
        else:
            life.cancel()
        await asyncio.wait_for(life, 2 * PATIENT)


_NAMES = {str(info.alias or name) for name, info in Settings.model_fields.items()}


async def true(claim: Callable[[], Any], *, seconds: float = PATIENT) -> None:
    """Wait for what the service does by itself."""
    async with asyncio.timeout(seconds):
        while True:
            found = claim()
            if asyncio.iscoroutine(found):
                found = await found
            if found:
                return
            await asyncio.sleep(0.05)


@dataclass
class Hook:
    """A webhook on loopback, and the messages it was sent."""

    url: str = ""
    got: list[dict[str, str]] = field(default_factory=list)

    @property
    def lines(self) -> list[str]:
        return [line for message in self.got for line in message["message"].splitlines()]

    def told(self, rule: str, *, over: bool = False) -> list[str]:
        return [line for line in self.lines if f" {rule}: " in line and line.startswith("RECOVERED") == over]


@asynccontextmanager
async def hook() -> AsyncIterator[Hook]:
    made = Hook()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        size = next(int(x.split(":")[1]) for x in head.splitlines() if x.startswith("content-length"))
        made.got.append(json.loads(await reader.readexactly(size)))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        made.url = f"json://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        yield made


@asynccontextmanager
async def alerting(service: Inside, web: Hook) -> AsyncIterator[Alerts]:
    """The alerts as the service makes them, with its rules, health, monitor log and clock; looked at by the test."""
    settings = service.settings.model_copy(update={"alert_urls": type(service.settings.tdengine_password)(web.url)})
    setup = alert_setup(settings, service.daemon.service.tables.document)
    folder = settings.state_dir / "alerts-of-the-test"
    folder.mkdir()
    alerts = Alerts(
        setup.rules, ServiceDesk(service.daemon).health, setup.channels,
        now=service.clock.now, folder=folder, monitor_log=service.daemon.service.log,
        limits=Limits(every_seconds=3600, health_seconds=PATIENT, log_seconds=0.0),
    )  # fmt: skip
    async with alerts:
        await true(lambda: alerts.looks.made > 0)
        yield alerts
