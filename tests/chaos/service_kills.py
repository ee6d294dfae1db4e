"""The service under load, killed; and the count of what it had acknowledged against what is stored in the end."""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from servers.redis import PASSWORD, Redis
from servers.tdengine import TaosServer

from mystocks_ingest import service
from mystocks_ingest.market.datasets import dataset
from mystocks_ingest.ports import Query
from mystocks_ingest.settings import Settings

ROOT = Path(__file__).parents[2]
LOADED = Path(__file__).with_name("loaded.py")
MORNING = datetime.fromisoformat("2026-11-20T09:40:00+08:00")  # a Friday
TOKEN = "a-token-of-these-kills-0123456789"  # noqa: S105
LOAD = {"symbols": 60, "answer": 60, "rate": 1_200.0, "seconds": 0.0}
DELIVERED = 20  # rows
START_SECONDS = 60.0


@dataclass
class Deliveries:
    """A gateway: it delivers orders, and the same body under the same key again until it has its answer."""

    sent: dict[str, bytes] = field(default_factory=dict)  # by key
    told: set[str] = field(default_factory=set)  # keys with a 2xx
    refused: list[str] = field(default_factory=list)

    def run(self, address: str, stop: threading.Event, *, fresh: bool = True) -> None:
        """Until ``stop``; with no ``fresh`` ones until each has its answer."""
        while not stop.is_set():
            late = next((k for k in self.sent if k not in self.told), None)
            if late is None and not fresh:
                return
            key = late or f"delivery-{len(self.sent)}"
            body = self.sent.setdefault(key, orders(key))
            headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json", "Idempotency-Key": key}
            request = urllib.request.Request(f"{address}/api/v1/ingest/order", body, headers)  # noqa: S310 - ours
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - ours
                    if json.load(answer)["accepted"] == DELIVERED:
                        self.told.add(key)
            except urllib.error.HTTPError as exc:
                with exc:
                    if exc.code not in (409, 429, 503):  # asked to come again
                        self.refused.append(f"{exc.code} {exc.read()[:300]!r}")
                        return
                time.sleep(0.05)
            except (OSError, http.client.HTTPException):  # it was killed, if need be amid its answer
                time.sleep(0.02)


def orders(key: str) -> bytes:
    rows = [
        {"account": "main", "order_id": f"{key}-{n}", "ts": "2026-11-20T09:40:00+08:00", "symbol": "600000.SH",
         "side": "buy", "price": 10.5, "volume": 100 * (n + 1), "status": "new"}
        for n in range(DELIVERED)
    ]  # fmt: skip
    return json.dumps({"rows": rows}).encode()


@dataclass
class Stage:
    """A state directory, Redis and TDengine; everything else lives in the embedded store."""

    folder: Path
    redis: Redis
    taos: TaosServer
    began: float = field(default_factory=time.monotonic)

    @property
    def told(self) -> Path:
        return self.folder / "told"

    @property
    def environment(self) -> dict[str, str]:
        return {
            "MYSTOCKS_STATE_DIR": str(self.folder / "state"),
            "MYSTOCKS_CONFIG_DIR": str(self.folder / "config"),
            "MYSTOCKS_STORES": "redis,tdengine",
            "MYSTOCKS_HTTP_PORT": "0",
            "MYSTOCKS_HTTP_TOKENS": "me:" + hashlib.sha256(TOKEN.encode()).hexdigest(),
            "MYSTOCKS_LOG_LEVEL": "info",
            "REDIS_PORT": str(self.redis.port),
            "REDIS_PASSWORD": PASSWORD,
            "TDENGINE_PORT": str(self.taos.port),
        }

    def prepare(self) -> None:
        (self.folder / "config").mkdir()
        tables = (ROOT / "config" / "tables.yaml").read_text(encoding="utf-8")
        (self.folder / "config" / "tables.yaml").write_text(tables, encoding="utf-8")
        (self.folder / "config" / "jobs.yaml").write_text("jobs: []\n")

    @contextmanager
    def process(self, *words: str) -> Iterator[Running]:
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, *words], cwd=self.folder, env={**os.environ, **self.environment},
                stdout=subprocess.PIPE, stderr=log,
            )  # fmt: skip
        try:
            yield Running(process, self.folder / "log")
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()

    def under_load(self) -> list[str]:
        """The market's time goes on from life to life: no two answers bear the same time."""
        at = MORNING + timedelta(seconds=time.monotonic() - self.began)
        return [str(LOADED), json.dumps({**LOAD, "at": at.isoformat(), "told": str(self.told)})]


@dataclass
class Running:
    process: subprocess.Popen[bytes]
    log: Path

    def said(self, event: str) -> Mapping[str, object]:
        """The line that says so; waits for it."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            found: Mapping[str, object] = json.loads(line)
            if found["event"] == event:
                return found
        raise AssertionError(f"it ended with {self.process.wait()}: {self.log.read_text()[-3000:]}")

    def stop(self, seconds: float = 60.0) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)


def killed(stage: Stage, deliveries: Deliveries, *, after: float, from_start: bool) -> None:
    """One service under load, ``kill -9`` so many seconds after its start, or after its first answer."""
    with stage.process(*stage.under_load()) as running:
        if from_start:
            time.sleep(after)
            running.process.kill()
            return
        ready = running.said("ready")
        stop = threading.Event()
        client = threading.Thread(target=deliveries.run, args=(str(ready["http"]), stop), daemon=True)
        client.start()
        try:
            taken(stage, 1)
            time.sleep(after)
        finally:
            running.process.kill()
            running.process.wait()
            stop.set()
            client.join(60)


def taken(stage: Stage, answers: int, seconds: float = 60.0) -> None:
    """Wait for that many more answers to be acknowledged."""

    def so_far() -> int:
        return stage.told.read_text().count("taken") if stage.told.exists() else 0

    first, deadline = so_far(), time.monotonic() + seconds
    while so_far() < first + answers:
        assert time.monotonic() < deadline, f"only {so_far() - first} answers were taken"
        time.sleep(0.05)


def drained(stage: Stage, deliveries: Deliveries, seconds: float = 120.0) -> int:
    """The service once more, without a load, until nothing waits and every delivery has its answer; its exit code."""
    with stage.process("-m", "mystocks_ingest", "run", "--json") as running:
        address = str(running.said("ready")["http"])
        stop = threading.Event()
        client = threading.Thread(target=deliveries.run, args=(address, stop), kwargs={"fresh": False}, daemon=True)
        client.start()
        deadline = time.monotonic() + seconds
        try:
            while waiting(address) or deliveries.told != set(deliveries.sent):
                assert time.monotonic() < deadline, f"{waiting(address)} rows wait still; {deliveries.refused}"
                time.sleep(0.2)
        finally:
            stop.set()
            client.join(60)
        return running.stop()


def waiting(address: str) -> float:
    """Rows in the spool."""
    with urllib.request.urlopen(f"{address}/health", timeout=30) as answer:  # noqa: S310 - ours
        parts = json.load(answer)["parts"]
    (spool,) = parts["spool"]
    return float(spool["figures"]["waiting_rows"])


@dataclass(frozen=True)
class Count:
    """Rows. ``offered``: that the service had begun to take, ``acknowledged``: of them told to be durable."""

    offered: int
    acknowledged: int
    stored: int
    lost: int
    doubled: int
    wrong: int

    def __str__(self) -> str:
        return (
            f"{self.acknowledged:,} acknowledged ({self.offered:,} offered), {self.stored:,} stored, {self.lost} lost, "
            f"{self.doubled} doubled, {self.wrong} wrong"
        )

    @property
    def faultless(self) -> bool:
        return not (self.lost or self.doubled or self.wrong)


def read(stage: Stage, name: str, columns: tuple[str, ...], *, store: str = "") -> pa.Table:
    """What the required table of a dataset holds, or the one in ``store``; no service runs."""
    environment = {
        k: v for k, v in stage.environment.items() if k in {str(f.alias) for f in Settings.model_fields.values()}
    }

    async def rows() -> pa.Table:
        async with service.opened(Settings(**environment), now=lambda: datetime.now(UTC)) as opened:
            routes = opened.tables.routes(dataset(name))
            table = next(t for t in routes if t.database_type.store == store) if store else routes[0]
            return await opened.sink.read(table, Query(columns=columns))

    return asyncio.run(rows())


def quotes_counted(stage: Stage, rows: pa.Table, *, of: str = "taken") -> Count:
    """The history of quotes against what was noted; ``of`` "offered": all of that must be there."""
    notes: dict[str, dict[int, tuple[int, int]]] = {"offered": {}, "taken": {}}
    for line in stage.told.read_text().splitlines():
        what, at, count, volume = line.split()
        notes[what][int(at)] = (int(count), int(volume))
    at = rows.column("ts").cast(pa.int64())
    distinct = rows.select(["symbol", "ts"]).group_by(["symbol", "ts"]).aggregate([]).num_rows
    table = pa.table({"at": at, "volume": rows.column("volume")})
    found = table.group_by("at").aggregate([("volume", "count"), ("volume", "min"), ("volume", "max")]).to_pylist()
    stored = {r["at"]: (r["volume_count"], r["volume_min"], r["volume_max"]) for r in found}
    lost = wrong = 0
    for moment, (count, volume) in notes[of].items():
        have, low, high = stored.get(moment, (0, volume, volume))
        lost += max(count - have, 0)
        wrong += have * ((low, high) != (volume, volume))
    wrong += sum(have for moment, (have, _, _) in stored.items() if moment not in notes["offered"])
    told, begun = (sum(count for count, _ in notes[what].values()) for what in ("taken", "offered"))
    return Count(begun, told, rows.num_rows, lost, rows.num_rows - distinct, wrong)


def orders_counted(deliveries: Deliveries, rows: pa.Table) -> Count:
    """Orders in the embedded store against the deliveries that had their 2xx."""
    ids = rows.column("order_id").to_pylist()
    have = dict(zip(ids, rows.column("volume").to_pylist(), strict=True))
    wanted = {f"{key}-{n}": 100 * (n + 1) for key in deliveries.told for n in range(DELIVERED)}
    lost = sum(i not in have for i in wanted)
    wrong = sum(i in have and have[i] != volume for i, volume in wanted.items())
    return Count(DELIVERED * len(deliveries.sent), len(wanted), len(ids), lost, len(ids) - len(have), wrong)


def newest(stage: Stage) -> int:
    """The time stamp of the last answer that was acknowledged."""
    lines = (line.split() for line in stage.told.read_text().splitlines())
    return max(int(at) for what, at, _, _ in lines if what == "taken")


def oldest_shown(rows: pa.Table) -> int:
    """Of the newest quotes in Redis."""
    return int(pc.min(rows.column("ts").cast(pa.int64())).as_py())
