"""A spool that is full makes whoever writes wait or lets best-effort rows go, and a crash leaves it as it was."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
import time
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import yaml
from daemon_place import QUOTES, ROOT, Place, Service, until
from servers.redis import PASSWORD, Redis

HASTENED = ROOT / "tests" / "chaos" / "hastened.py"
TOKEN = "a-token-of-this-test-0123456789"  # noqa: S105
ROWS = 400
"""Of one delivery: some 20 kB in the spool."""


def in_redis(place: Place, redis: Redis, *, route: str) -> None:
    """Accounts live in Redis only, required or not; a megabyte may wait for it."""
    path = place.folder / "config" / "tables.yaml"
    document = yaml.safe_load(path.read_text())
    kept = [t for t in document["tables"] if t["table_name"] != "account"]
    for table in kept:
        if table["table_name"] == "account_latest":
            table["route"] = route
    path.write_text(yaml.safe_dump(document | {"tables": kept}, allow_unicode=True, sort_keys=False))
    place.jobs(QUOTES.replace("}", ", paused: true}"))
    place.more = {
        "MYSTOCKS_STORES": "redis", "REDIS_PORT": str(redis.port), "REDIS_PASSWORD": PASSWORD,
        "MYSTOCKS_SPOOL_MB": "1", "MYSTOCKS_HTTP_TOKENS": hashlib.sha256(TOKEN.encode()).hexdigest(),
    }  # fmt: skip


async def delivered(service: Service, first: int, *, seconds: float, rows: int = ROWS) -> bool:
    """Whether accounts ``first`` and so on were acknowledged in that time."""
    names = [hashlib.blake2b(str(n).encode(), digest_size=24).hexdigest() for n in range(first, first + rows)]
    content = [{"account": n, "ts": "2024-06-03T10:00:00+08:00", "cash": float(len(n)), "equity": 1.0} for n in names]
    body = json.dumps({"rows": content}).encode()

    def send() -> bool:
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
        address = f"{service.ready['http']}/api/v1/ingest/account"
        request = urllib.request.Request(address, data=body, headers=headers)  # noqa: S310 - our own address
        try:
            with urllib.request.urlopen(request, timeout=seconds) as answer:  # noqa: S310 - likewise
                return answer.status == 200
        except OSError:
            return False

    return await asyncio.to_thread(send)


async def waiting(service: Service) -> dict[str, float]:
    """The spool's figures in /health."""

    def ask() -> dict[str, float]:
        with urllib.request.urlopen(f"{service.ready['http']}/health", timeout=20) as answer:  # noqa: S310 - likewise
            parts = json.loads(answer.read())["parts"]["spool"]
        return dict(parts[0]["figures"], down=float(parts[0]["state"] == "down"))

    return await asyncio.to_thread(ask)


@pytest.mark.timeout(400)
async def test_a_full_spool_makes_deliveries_wait_and_a_crash_amid_that_leaves_it_whole(
    place: Place, redis: Redis
) -> None:
    in_redis(place, redis, route="required")
    redis.stop()
    async with serving(place) as service:
        taken, figures = 0, await waiting(service)
        while figures["used_percent"] <= 95:
            assert await delivered(service, taken, seconds=60)
            taken += ROWS
            figures = await waiting(service)
        assert (figures["dropped_rows"], figures["waiting_rows"]) == (0, taken)
        assert figures["down"], "a full spool is worth waking somebody"
        waits = asyncio.create_task(delivered(service, taken, seconds=90, rows=4 * ROWS))
        await service.says("sink.unavailable")
        assert not waits.done()
        set_clock(place, defect="the clock is broken")
        assert await service.ended(seconds=60) == 1
        assert not await waits, "it was not acknowledged"
    said = place.log.rstrip().splitlines()
    assert said[-1] == "error: the service ended because a part of it crashed; its traceback is above"
    assert any("RuntimeError: the clock is broken" in line for line in said)
    redis.start()
    async with serving(place) as service:
        await emptied(service)
        assert await delivered(service, taken, seconds=60, rows=4 * ROWS), "rows are taken again"
        assert await service.stop(seconds=60) == 0
    assert int(redis.cli("HLEN", "account:cash")) == taken + 4 * ROWS


async def emptied(service: Service) -> None:
    async def home() -> bool:
        return (await waiting(service))["waiting_rows"] == 0

    await until(home, seconds=120)


@pytest.mark.long
@pytest.mark.timeout(400)
async def test_a_full_spool_drops_the_oldest_rows_of_a_best_effort_table_and_counts_each(
    place: Place, redis: Redis
) -> None:
    in_redis(place, redis, route="best_effort")
    redis.stop()
    async with serving(place) as service:
        count, figures = 0, await waiting(service)
        while not figures["dropped_rows"]:
            assert await delivered(service, count, seconds=30)
            count += ROWS
            figures = await waiting(service)
        assert figures["dropped_rows"] + figures["waiting_rows"] == count
        redis.start()
        await emptied(service)
        assert await service.stop(seconds=60) == 0
    assert int(redis.cli("HLEN", "account:cash")) == count - figures["dropped_rows"]


def set_clock(place: Place, **more: str) -> None:
    """The time of ``serving``'s service; with a ``defect`` whoever asks for it meets that."""
    told = {"moment": place.at("20:00:00"), "monotonic": time.monotonic(), "speed": 1.0, **more}
    path = place.folder / "time.new"
    path.write_text(json.dumps(told))
    path.rename(place.folder / "time.json")


@asynccontextmanager
async def serving(place: Place) -> AsyncIterator[Service]:
    """A running service whose clock can be broken."""
    set_clock(place)
    with (place.folder / "log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(HASTENED), str(place.folder / "time.json"), "run", "--json",
            cwd=place.folder, env=place.environment, stdout=asyncio.subprocess.PIPE, stderr=log,
        )  # fmt: skip
    try:
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), 180)
        assert line, place.log
        yield Service(place, process, json.loads(line))
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
