"""The service as systemd would run it: a process of its own, at a time of the simulated market's last day."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from mystocks_ingest.sim.server import Sim, SimConfig, running

ROOT = Path(__file__).parents[2]
CLOCKED = ROOT / "tests" / "chaos" / "clocked.py"
QUOTES = "- {name: quotes, when: every 1 s in session, datasets: quote, sources: [tushare, akshare-sina]}"
WEEKLY = "- {name: weekly, when: cron 0 6 * * 6, datasets: bar_1w, paused: true}"
DAILY = "- {name: daily, when: after close + 30 min, datasets: [adj_factor, bar_1d], sessions: 40, sources: tushare}"
TOKEN = "a-token-of-this-test-0123456789"  # noqa: S105


async def until(true: Callable[[], Awaitable[bool]], *, seconds: float = 90) -> None:
    """Wait for something that nobody announces."""
    async with asyncio.timeout(seconds):
        while not await true():  # noqa: ASYNC110 - it happens in another process
            await asyncio.sleep(0.1)


@dataclass
class Place:
    """A state directory, its configuration, and the vendors around it."""

    folder: Path
    sim: Sim
    more: Mapping[str, str] = field(default_factory=dict)

    @staticmethod
    def tables() -> Path:
        """The tables that come with the program."""
        return ROOT / "config" / "tables.yaml"

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def environment(self) -> dict[str, str]:
        own = {"MYSTOCKS_STATE_DIR": str(self.state), "MYSTOCKS_CONFIG_DIR": str(self.folder / "config")}
        return {
            **os.environ,
            **self.sim.environment,
            "TUSHARE_POINTS": "15000",
            "MYSTOCKS_LOG_LEVEL": "info",
            "MYSTOCKS_HTTP_PORT": "0",
            **own,
            **self.more,
        }

    def jobs(self, *lines: str) -> None:
        """What jobs.yaml holds from now on."""
        text = "jobs:\n" + "".join(f"  {line}\n" for line in lines)
        self.write("jobs.yaml", text)

    def write(self, name: str, text: str) -> None:
        """A file of the configuration, changed at once: the service may look at any moment."""
        new = self.folder / f"{name}.new"
        new.write_text(text, encoding="utf-8")
        new.replace(self.folder / "config" / name)

    def at(self, clock: str) -> str:
        """That time of the last day, as the service is to have it."""
        return f"{self.sim.market.last_day}T{clock}+08:00"

    @asynccontextmanager
    async def service(self, clock: str, **more: str) -> AsyncIterator[Service]:
        """A running service that said it is ready; it is killed where a test did not end it."""
        with (self.folder / "log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable, str(CLOCKED), self.at(clock), "run", "--json",
                cwd=self.folder, env={**self.environment, **more}, stdout=subprocess.PIPE, stderr=log,
            )  # fmt: skip
        try:
            assert process.stdout is not None
            line = await asyncio.wait_for(process.stdout.readline(), 180)
            assert line, self.log
            yield Service(self, process, json.loads(line))
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(encoding="utf-8")

    async def command(self, *argv: str, clock: str = "") -> tuple[int, str, str]:
        words = [str(CLOCKED), self.at(clock)] if clock else ["-m", "mystocks_ingest"]
        process = await asyncio.create_subprocess_exec(
            sys.executable, *words, *argv,
            cwd=ROOT, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        out, err = await process.communicate()
        return int(process.returncode or 0), out.decode(), err.decode()

    async def stored(self, dataset: str) -> pa.Table:
        """What `read` gives while no service runs."""
        file = self.folder / "read.arrow"
        code, _, err = await self.command("read", dataset, "--format", "arrow", "--output", str(file))
        assert code == 0, err
        return pa.ipc.open_stream(file.read_bytes()).read_all()


@dataclass
class Service:
    place: Place
    process: asyncio.subprocess.Process
    ready: dict[str, object]

    async def stop(self, *, seconds: float = 60) -> int:
        self.process.send_signal(signal.SIGTERM)
        return await self.ended(seconds=seconds)

    async def ended(self, *, seconds: float = 60) -> int:
        return await asyncio.wait_for(self.process.wait(), seconds)

    async def jobs(self) -> dict[str, dict[str, object]]:
        code, out, err = await self.place.command("jobs", "list", "--json")
        assert code == 0, err
        found = json.loads(out)
        assert found["running"] is True
        return {entry["name"]: entry for entry in found["jobs"]}

    async def health(self) -> dict[str, Any]:
        """What /health answers."""

        def ask() -> dict[str, Any]:
            with urllib.request.urlopen(f"{self.ready['http']}/health", timeout=60) as answer:  # noqa: S310 - our own address
                return dict(json.load(answer))

        return await asyncio.to_thread(ask)

    async def says(self, event: str, *, seconds: float = 90) -> None:
        """Wait until the log has ``event``."""

        async def said() -> bool:
            return f'"{event}"' in self.place.log

        await until(said, seconds=seconds)


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    (tmp_path / "config").mkdir()
    shutil.copy(ROOT / "config" / "tables.yaml", tmp_path / "config")
    async with running(SimConfig(seed=11, stocks=24, sessions=60)) as sim:
        yield Place(tmp_path, sim)
