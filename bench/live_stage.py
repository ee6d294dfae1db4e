"""Four private servers and the service on them under load, each a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from servers.mariadb import MariaDB
from servers.postgresql import PostgreSQL
from servers.redis import PASSWORD, Redis
from servers.tdengine import TaosServer

ROOT = Path(__file__).parents[1]
LOADED = ROOT / "tests" / "chaos" / "loaded.py"
JOBS = "jobs:\n  - {name: quotes, when: every 3 s in session, datasets: quote, sources: tushare, paused: true}\n"
MORNING = "2026-11-20T09:40:00+08:00"  # a Friday


@dataclass
class Stage:
    """``taos`` counts rows and keeps none, so that the stand-in is no slower than a server."""

    folder: Path
    environment: Mapping[str, str]
    redis: Redis
    taos: TaosServer

    @contextmanager
    def service(self, **load: object) -> Iterator[Loaded]:
        log = (self.folder / "log").open("ab")
        command = [sys.executable, str(LOADED), json.dumps({"at": MORNING, **load})]
        process = subprocess.Popen(
            command, cwd=self.folder, env={**os.environ, **self.environment}, stdout=subprocess.PIPE, stderr=log
        )
        service = Loaded(process, self.folder / "log")
        try:
            yield service
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(60)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
            assert process.stdout is not None
            process.stdout.close()
            log.close()


@dataclass
class Loaded:
    process: subprocess.Popen[bytes]
    log: Path
    health: list[str] = field(default_factory=list)

    def said(self, event: str) -> dict[str, Any]:
        """The line that says so; the lines before it are passed over."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            found: dict[str, Any] = json.loads(line)
            if found["event"] == event:
                return found
        raise RuntimeError(f"the service ended ({self.process.wait()}): {self.log.read_text()[-3000:]}")

    def watched(self, address: str, seconds: float = 1.0) -> threading.Event:
        """Ask /health every so often until the event is set; ``health`` gets what is not fresh, and since when."""
        stop, began = threading.Event(), time.monotonic()

        def look() -> None:
            while not stop.wait(seconds):
                try:
                    with urllib.request.urlopen(f"{address}/health", timeout=20) as answer:  # noqa: S310 - ours
                        parts = json.load(answer)["parts"]
                except OSError as exc:
                    self.health.append(f"{time.monotonic() - began:4.0f} s  no answer: {exc}")
                    continue
                bad = [
                    f"{p['kind']} {p['name']} {p['state']}: {p['reason']}"
                    for kind in parts.values()
                    for p in kind
                    if p["state"] != "fresh"
                ]
                self.health.append(f"{time.monotonic() - began:4.0f} s  {'; '.join(bad) or 'all fresh'}")

        threading.Thread(target=look, daemon=True).start()
        return stop


@contextmanager
def staged(*, counts_only: bool = True) -> Iterator[Stage]:
    """All four, private, on loopback; Redis without files, PostgreSQL without fsync: they are not what is measured."""
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="live-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        postgresql = stack.enter_context(PostgreSQL({"fsync": "off"}))
        mariadb = stack.enter_context(MariaDB({"innodb_flush_log_at_trx_commit": "2"}))
        redis = stack.enter_context(Redis(("appendonly no", "appendfsync no")))
        taos = stack.enter_context(TaosServer(counts_only=counts_only))
        (folder / "config").mkdir()
        shutil.copy(ROOT / "config" / "tables.yaml", folder / "config")
        (folder / "config" / "jobs.yaml").write_text(JOBS)
        environment = {
            "MYSTOCKS_STATE_DIR": str(folder / "state"),
            "MYSTOCKS_CONFIG_DIR": str(folder / "config"),
            "MYSTOCKS_STORES": "postgresql,mysql,redis,tdengine",
            "MYSTOCKS_HTTP_PORT": "0",
            "POSTGRESQL_PORT": str(postgresql.port),
            "POSTGRESQL_USER": postgresql.user,
            "POSTGRESQL_PASSWORD": postgresql.password,
            "POSTGRESQL_DATABASE": postgresql.database,
            "POSTGRESQL_TIMESCALE": "require" if postgresql.timescale else "off",
            "MYSQL_PORT": str(mariadb.port),
            "MYSQL_USER": mariadb.user,
            "MYSQL_PASSWORD": mariadb.password,
            "REDIS_PORT": str(redis.port),
            "REDIS_PASSWORD": PASSWORD,
            "TDENGINE_PORT": str(taos.port),
            "ARROW_DEFAULT_MEMORY_POOL": "system",  # as the program sets it; loaded.py has pyarrow before
        }
        yield Stage(folder, environment, redis, taos)
