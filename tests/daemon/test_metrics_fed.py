"""Every metric that is declared has a sample that moves while the service runs, or says here why it cannot in this run."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from itertools import count
from pathlib import Path

import promql_parser
import pytest
import yaml
from daemon_place import DAILY, QUOTES, Place, Service, until
from prometheus_client.parser import text_string_to_metric_families
from servers.redis import PASSWORD, Redis

from mystocks_ingest.monitor.metrics import FAMILIES

pytestmark = pytest.mark.timeout(400)
TOKEN = "a-token-of-this-test-9876543210"  # noqa: S105
STILL = {
    "mystocks_rows_outdated_total": "the simulated vendor's servers do not lag behind each other",
    "mystocks_late_seconds": "the service is not up for long enough to be late",
    "mystocks_checkpoint_late_seconds": "likewise",
    "mystocks_spool_dropped_rows_total": "the spool is not full",
    "mystocks_spool_quarantined_total": "no record of it is damaged",
    "mystocks_alert_notices_total": "what fires is over too soon to be told",
    "mystocks_monitor_waiting_entries": "its database does not go away",
    "mystocks_monitor_missed_entries_total": "likewise",
    "database_backup_size_bytes": "the service makes no backups",
}
NO_SAMPLE = {"mystocks_spool_dropped_rows_total", "database_backup_size_bytes"}
DEPLOY = Path(__file__).parents[2] / "deploy"


class Watched:
    """What the pages of metrics have shown so far: each sample's values."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.values: dict[tuple[str, tuple[tuple[str, str], ...]], set[float]] = {}
        self.page = ""

    async def look(self) -> None:
        self.page = await asked(self.service, "/metrics")
        for family in text_string_to_metric_families(self.page):
            for sample in family.samples:
                key = (sample.name, tuple(sorted(sample.labels.items())))
                self.values.setdefault(key, set()).add(sample.value)

    def shown(self, name: str) -> set[float]:
        ends = (name, f"{name}_count")
        return {value for (sample, _), values in self.values.items() if sample in ends for value in values}

    async def above(self, name: str, least: float = 0) -> bool:
        await self.look()
        return any(value > least for value in self.shown(name))


async def asked(service: Service, path: str, body: object = None) -> str:
    def ask() -> str:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
        request = urllib.request.Request(f"{service.ready['http']}{path}", data, headers)  # noqa: S310 - our own
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - likewise
                return str(answer.read().decode())
        except urllib.error.HTTPError as exc:
            with exc:
                return exc.read().decode()

    return await asyncio.to_thread(ask)


GOOD = {"symbol": "600000.SH", "ts": "2026-06-29T13:00:01+08:00", "last": 10.0, "open": 10.0, "high": 11.0, "low": 9.0,
        "pre_close": 10.0, "volume": 100, "amount": 1000.0}  # fmt: skip
BAD = {**GOOD, "high": 9.0, "low": 11.0}


@asynccontextmanager
async def meanwhile(work: Coroutine[object, object, None]) -> AsyncIterator[None]:
    """``work`` goes on as long as the block lasts."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def delivering(service: Service, minute: int) -> None:
    """A good row after the other, for ever."""
    for number in count():
        ts = f"2026-06-29T13:{minute:02}:{number // 1000 % 60:02}.{number % 1000:03}+08:00"
        await asked(service, "/api/v1/ingest/quote", {"rows": [{**GOOD, "ts": ts}]})


async def test_every_metric_is_fed_by_a_running_service_and_prometheus_and_grafana_use_no_other(
    place: Place, redis: Redis
) -> None:
    place.more = {
        "MYSTOCKS_STORES": "redis", "REDIS_PORT": str(redis.port), "REDIS_PASSWORD": PASSWORD,
        "MYSTOCKS_HTTP_TOKENS": "me:" + hashlib.sha256(TOKEN.encode()).hexdigest(),
    }  # fmt: skip
    place.jobs(QUOTES, DAILY.replace("sessions: 40", "sessions: 3"))
    async with place.service("12:59:55") as service:
        watched = Watched(service)
        await watched.look()
        await until(lambda: watched.above("mystocks_rows_unchanged_total"))
        refused = await asked(service, "/api/v1/ingest/quote", {"rows": [BAD]})
        assert "error" in refused
        assert (await place.command("jobs", "run", "daily"))[0] in (0, 3)
        await until(lambda: watched.above("mystocks_source_quality"))
        async with meanwhile(delivering(service, 0)):  # a row waits in memory for a moment only
            await until(lambda: watched.above("mystocks_queue_rows"))
        redis.stop()
        async with meanwhile(delivering(service, 1)):
            await until(lambda: watched.above("mystocks_spool_bytes"))
            await until(lambda: watched.above("mystocks_retries_total"))
        redis.start()

        async def in_step() -> bool:
            await watched.look()
            return 'database_sync_status{store="redis"} 1.0' in watched.page

        await until(in_step)
        assert await service.stop() == 0
    unmoved = {f.name for f in FAMILIES if not any(watched.shown(f.name))}
    assert unmoved - set(STILL) == set()
    absent = {f.name for f in FAMILIES if not watched.shown(f.name)}
    assert absent <= NO_SAMPLE
    labels = [dict(pairs) for _, pairs in watched.values]
    assert not any("symbol" in pairs for pairs in labels)
    assert not [v for pairs in labels for v in pairs.values() if re.search(r"\d{6}\.(SH|SZ|BJ)|push:", v)]
    assert not [name for name, _ in watched.values if name.endswith(("_ms", "_minutes", "_mb"))]
    shown = {name for name, _ in watched.values} | {"up"} | NO_SAMPLE
    assert used() - shown == set()
    figures = {(pairs["kind"], pairs["figure"]) for pairs in labels if "figure" in pairs}
    assert ("source", "banned") in figures
    assert {("disk", "used_percent"), ("calendar", "days_left"), ("sink", "away"), ("sink", "away_seconds")} <= figures


def used() -> set[str]:
    """The series that the rules and the dashboard ask for."""
    rules = yaml.safe_load((DEPLOY / "prometheus" / "rules.yml").read_text(encoding="utf-8"))
    board = json.loads((DEPLOY / "grafana" / "dashboard.json").read_text(encoding="utf-8"))
    asking = [rule["expr"] for group in rules["groups"] for rule in group["rules"]]
    asking += [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]
    found: list[object] = []
    for expression in asking:
        plain = expression.replace("$__rate_interval", "1m").replace("$instance", ".*")
        promql_parser.walk(promql_parser.parse(plain), found.append)
    return {n.name for n in found if isinstance(n, promql_parser.VectorSelector)}
