"""Both ways in, HTTP and Redis streams, through the running service with Redis and PostgreSQL behind it."""

from __future__ import annotations

import asyncio
import json
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from daemon_place import TOKEN, Place, Service, until
from servers.postgresql import DATABASE, PostgreSQL
from servers.redis import Redis

pytestmark = [pytest.mark.long, pytest.mark.timeout(240)]


@pytest.fixture
def redis(redis_server: Redis) -> Iterator[Redis]:
    """Empty, with every right."""
    redis_server.cli("FLUSHALL")
    yield redis_server
    redis_server.cli("ACL", "SETUSER", "default", "+@all")


async def posted(service: Service, dataset: str, row: dict[str, object], *, key: str = "") -> tuple[int, str]:
    def ask() -> tuple[int, str]:
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json", "Idempotency-Key": key}
        url = f"{service.ready['http']}/api/v1/ingest/{dataset}?source=gateway"
        body = json.dumps({"rows": [row]}).encode()
        request = urllib.request.Request(url, body, headers, method="POST")  # noqa: S310 - our own address
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - likewise
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as exc:
            with exc:
                return exc.code, exc.read().decode()

    return await asyncio.to_thread(ask)


def added(redis: Redis, dataset: str, **fields: object) -> str:
    pairs = [str(word) for pair in fields.items() for word in pair]
    return redis.cli("XADD", f"mystocks:ingest:{dataset}", "*", *pairs)


async def test_the_latest_position_and_cash_are_in_redis_and_their_history_in_postgresql_by_both_ways_in(
    stores: Place, redis: Redis, postgresql_server: PostgreSQL
) -> None:
    def count(table: str) -> str:
        return postgresql_server.psql(f"SELECT count(*) FROM {table}", database=DATABASE).strip()

    day = stores.sim.market.last_day
    async with stores.service("14:50:00") as service:
        first = {"account": "a", "symbol": "600519.SH", "ts": f"{day}T10:00:00+08:00", "volume": 100}
        assert (await posted(service, "position", first))[0] == 200
        cash = {"account": "a", "ts": f"{day}T10:00:00+08:00", "cash": 5000.5}
        assert (await posted(service, "account", cash, key="k1"))[0] == 200
        added(redis, "position", **{**first, "ts": f"{day}T10:01:00+08:00", "volume": 300})
        added(redis, "account", **{**cash, "ts": f"{day}T10:01:00+08:00", "cash": 4000.25})

        async def all_there() -> bool:
            return (count("position"), count("account")) == ("2", "2")

        await until(all_there)
        assert json.loads(redis.cli("HGET", "position:600519.SH", "a"))["volume"] == 300
        assert json.loads(redis.cli("HGET", "account:cash", "a"))["cash"] == 4000.25
        added(redis, "position", **first)  # late: an older one
        order = {"account": "a", "order_id": "1", "ts": f"{day}T10:00:00+08:00", "symbol": "600519", "side": "B"}
        added(redis, "order", **order, volume=100, status="new")
        added(redis, "fill", **order, fill_id="1", price=1700, volume=100)
        added(redis, "signal", strategy="s", symbol="600519", ts=f"{day}T10:00:00+08:00", side="B", strength=0.5)

        async def traded() -> bool:
            return [count(t) for t in ('"order"', "signal")] == ["1", "1"]

        await until(traded)
        assert json.loads(redis.cli("HGET", "position:600519.SH", "a"))["volume"] == 300, "the newest stays"
        service.process.kill()
        assert await service.ended() == -signal.SIGKILL
    async with stores.service("14:51:00") as service:
        newer = {**cash, "cash": 1.0}
        assert (await posted(service, "account", newer, key="k1"))[0] == 409, "the key is known after a restart"
        assert "accepted" in (await posted(service, "account", cash, key="k1"))[1]
        assert json.loads(redis.cli("HGET", "account:cash", "a"))["cash"] == 4000.25
        assert await service.stop() == 0
    assert (count("position"), count("account")) == ("2", "2")
    read = await stores.stored("position")  # of both databases, each state once
    assert sorted(read["volume"].to_pylist()) == [100, 300]
    assert sorted((await stores.stored("account"))["cash"].to_pylist()) == [4000.25, 5000.5]


async def test_a_kill_between_durable_and_acknowledged_doubles_nothing_and_undoes_nothing(
    stores: Place, redis: Redis, postgresql_server: PostgreSQL
) -> None:
    def statuses() -> list[str]:
        return postgresql_server.psql('SELECT status FROM "order" ORDER BY order_id', database=DATABASE).split()

    def pending() -> str:
        return redis.cli("XPENDING", "mystocks:ingest:order", "mystocks").split()[0]

    day = stores.sim.market.last_day
    order = {"account": "a", "ts": f"{day}T10:00:00+08:00", "symbol": "600519.SH", "side": "B", "volume": 100}
    redis.cli("ACL", "SETUSER", "default", "-xack")
    for number in range(5):
        added(redis, "order", **order, order_id=number, status="new")
    added(redis, "order", nonsense=1)
    async with stores.service("14:50:00") as service:
        await service.says("entries.stored")
        assert statuses() == ["new"] * 5
        service.process.kill()
        await service.ended()
    assert pending() == "6"
    redis.cli("ACL", "SETUSER", "default", "+@all")
    postgresql_server.psql("""UPDATE "order" SET status = 'filled' WHERE order_id = '0'""", database=DATABASE)
    async with stores.service("14:51:00") as service:

        async def settled() -> bool:
            return pending() == "0"

        await until(settled)
        added(redis, "order", **order, order_id=9, status="new")

        async def stored() -> bool:
            return len(statuses()) == 6

        await until(stored)
        assert await service.stop() == 0
    assert statuses() == ["filled", *["new"] * 5]
    code, out, err = await stores.command("dead-letters", "list", "--json")
    assert code == 0, err
    assert [(c["rule"], c["rows"]) for c in json.loads(out)["counts"]] == [("unreadable", 1)]
