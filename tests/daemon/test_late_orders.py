"""Of an order the running service keeps the newest state: past an outage, over HTTP and over Redis streams."""

from __future__ import annotations

import asyncio
import json
import urllib.request

import pytest
from daemon_place import TOKEN, Place, Service, until
from servers.postgresql import DATABASE, PostgreSQL
from servers.redis import Redis

pytestmark = [pytest.mark.long, pytest.mark.timeout(240)]


async def posted(service: Service, *rows: dict[str, object]) -> int:
    def ask() -> int:
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
        url = f"{service.ready['http']}/api/v1/ingest/order?source=gateway"
        request = urllib.request.Request(url, json.dumps({"rows": rows}).encode(), headers, method="POST")  # noqa: S310 - our own address
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 - likewise
            return int(answer.status)

    return await asyncio.to_thread(ask)


async def test_older_states_that_waited_in_the_spool_or_come_by_the_stream_do_not_undo_the_newest(
    stores: Place, redis: Redis, postgresql_server: PostgreSQL
) -> None:
    day = stores.sim.market.last_day
    order = {"account": "a", "order_id": "1", "ts": f"{day}T10:00:00+08:00", "symbol": "600519.SH", "side": "B"}

    def state(status: str, filled: int, second: int, **more: object) -> dict[str, object]:
        moment = f"{day}T10:00:{second:02d}+08:00"
        return {**order, "volume": 500, "status": status, "filled_volume": filled, "updated_at": moment, **more}

    def states() -> str:
        select = "SELECT string_agg(order_id || status || filled_volume, ' ' ORDER BY order_id) FROM \"order\""
        return postgresql_server.psql(select, database=DATABASE).strip()

    async with stores.service("14:50:00") as service:
        assert await posted(service, state("partial", 100, 2), state("filled", 500, 9), state("partial", 200, 3)) == 200
        assert await posted(service, state("new", 0, 1)) == 200
        assert states() == "1filled500"
        postgresql_server.freeze()
        try:
            late = [
                state("partial", 100, 2),
                state("cancelled", 100, 3, order_id="2"),
                state("new", 0, 1, order_id="2"),
            ]
            for row in late:
                assert await posted(service, row) == 200, "it waits in the spool"
        finally:
            postgresql_server.thaw()

        async def home() -> bool:
            return states() == "1filled500 2cancelled100"

        await until(home)
        await service.says("rows.drained")
        fields = [str(word) for pair in state("new", 0, 1).items() for word in pair]
        redis.cli("XADD", "mystocks:ingest:order", "*", *fields)
        fields = [str(word) for pair in state("new", 0, 1, order_id="3").items() for word in pair]
        redis.cli("XADD", "mystocks:ingest:order", "*", *fields)

        async def read() -> bool:
            return states() == "1filled500 2cancelled100 3new0"

        await until(read)
        assert await service.stop() == 0
    assert states() == "1filled500 2cancelled100 3new0"
