"""Files changed while the service works: right ones are taken over, wrong ones are said, and no row is dropped by it."""

from __future__ import annotations

import asyncio
import hashlib
import json
import signal
import urllib.error
import urllib.request

import duckdb
import pytest
from daemon_place import Place, Service, until

TOKEN = "a-token-of-this-test-0123456789"  # noqa: S105
WEEKLY = "- {name: weekly, when: cron 0 6 * * 6, datasets: bar_1w, paused: true}"
RULES = "\ndata_quality_rules: {accuracy: {cash_range: {max: 1000}}}\n"


async def posted(service: Service, number: int, cash: float, day: str) -> int:
    """The status of a delivery of one row."""

    def ask() -> int:
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
        row = {"account": f"a{number}", "ts": f"{day}T10:00:00+08:00", "cash": cash}
        url = f"{service.ready['http']}/api/v1/ingest/account"
        request = urllib.request.Request(url, json.dumps({"rows": [row]}).encode(), headers, method="POST")  # noqa: S310 - our own address
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - likewise
                return int(answer.status)
        except urllib.error.HTTPError as exc:
            with exc:
                return exc.code

    return await asyncio.to_thread(ask)


async def reasons(service: Service) -> dict[str, str]:
    def ask() -> dict[str, str]:
        with urllib.request.urlopen(f"{service.ready['http']}/health", timeout=30) as answer:  # noqa: S310 - our own address
            parts = json.load(answer)["parts"]
        return {part["name"]: part["reason"] for part in parts["job"]}

    return await asyncio.to_thread(ask)


@pytest.mark.timeout(400)
async def test_quality_and_pacing_change_under_load_and_a_wrong_file_leaves_the_old_rules_in_force(
    place: Place,
) -> None:
    place.jobs(WEEKLY)
    place.more = {"MYSTOCKS_HTTP_TOKENS": hashlib.sha256(TOKEN.encode()).hexdigest()}
    shipped, day = place.tables().read_text(encoding="utf-8"), str(place.sim.market.last_day)
    statuses: list[int] = []
    async with place.service("14:50:00") as service:
        done = asyncio.Event()

        async def load() -> None:
            while not done.is_set():
                statuses.append(await posted(service, len(statuses), 5000.0 if len(statuses) % 2 else 5.0, day))
                await asyncio.sleep(0.02)

        async def all_stored() -> bool:
            return len(statuses) >= 10

        async def refusing() -> bool:
            return 422 in statuses[-2:]

        async with asyncio.TaskGroup() as group:
            group.create_task(load())
            await until(all_stored)
            assert set(statuses) == {200}
            place.write("tables.yaml", shipped + RULES)
            await service.says("quality.reloaded")
            await until(refusing)
            place.write("tables.yaml", shipped + RULES.replace("max: 1000", "max: many"))
            service.process.send_signal(signal.SIGHUP)
            await service.says("quality.refused")
            line = len((shipped + RULES).splitlines())
            assert f"tables.yaml:{line}:" in (await reasons(service))["tables.yaml"]
            before = len(statuses)

            async def more() -> bool:
                return len(statuses) >= before + 4

            await until(more)
            assert set(statuses[before:]) == {200, 422}, "the rules it had stay in force"
            place.write("pacing.yaml", "sources:\n  tushare: {calls: often}\n")
            service.process.send_signal(signal.SIGHUP)
            await service.says("pacing.refused")
            assert "pacing.yaml:2:20:" in (await reasons(service))["pacing.yaml"]
            place.write("pacing.yaml", "sources:\n  tushare: {calls: 100 / min}\n")
            place.write("tables.yaml", shipped)
            service.process.send_signal(signal.SIGHUP)
            await service.says("pacing.reloaded")

            async def well() -> bool:
                return set(await reasons(service)) == {"weekly"}

            await until(well)
            before = len(statuses)
            await until(more)
            assert set(statuses[before + 1 :]) == {200}
            done.set()
        assert await service.stop() == 0
    assert set(statuses) == {200, 422}
    with duckdb.connect(str(place.state / "mystocks.duckdb"), read_only=True) as store:
        stored = {n for (n,) in store.execute("SELECT account FROM account").fetchall()}
        refused = store.execute("SELECT count(*) FROM journal.dead_letter").fetchone()
    assert stored == {f"a{n}" for n, status in enumerate(statuses) if status == 200}
    assert refused == (statuses.count(422),)
