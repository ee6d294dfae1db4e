"""A first start that meets databases away comes to a whole service by itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime

import pytest
from daemon_inside import PATIENT, true
from daemon_place import DAILY, Place
from hurried import Hurried
from servers.mariadb import MariaDB
from servers.proxy import Proxy

from mystocks_ingest.daemon import running
from mystocks_ingest.daemon.parts import Daemon
from mystocks_ingest.flow.schedule import Memory
from mystocks_ingest.settings import Settings

pytestmark = pytest.mark.timeout(400)
REFERENCE = "- {name: reference, when: before open - 45 min, datasets: [calendar, instrument], sources: tushare}"


@asynccontextmanager
async def serving(place: Place, clock: Hurried) -> AsyncIterator[Daemon]:
    """The service in this loop, by that clock; stopped in order at the end."""
    names = {str(info.alias or name) for name, info in Settings.model_fields.items()}
    values = {name: value for name, value in place.environment.items() if name in names}
    ready: asyncio.Future[Daemon] = asyncio.get_running_loop().create_future()
    settings = Settings(_env_file=None, **values)  # type: ignore[call-arg, arg-type]
    life = asyncio.create_task(running.run(settings, clock=clock, told=ready.set_result), name="service")
    await asyncio.wait({life, ready}, timeout=3 * PATIENT, return_when=asyncio.FIRST_COMPLETED)
    try:
        yield ready.result()
    finally:
        if ready.done():
            ready.result().stop.set()
        else:
            life.cancel()
        await asyncio.wait_for(life, 2 * PATIENT)


async def test_databases_away_at_the_first_start_get_their_calendar_when_they_come(
    place: Place, mariadb_server: MariaDB
) -> None:
    place.jobs(REFERENCE, DAILY)
    own = f"begun_{time.monotonic_ns()}"
    with Proxy(mariadb_server.host, mariadb_server.port) as wire:
        wire.refuse()
        place.more = {
            "MYSTOCKS_STORES": "mysql",
            "MYSTOCKS_MONITOR_DATABASE": f"{own}_log",
            "MYSQL_DATABASE": own,
            "MYSQL_PORT": str(wire.port),
            "MYSQL_USER": mariadb_server.user,
            "MYSQL_PASSWORD": mariadb_server.password,
        }
        clock = Hurried(datetime.fromisoformat(place.at("16:00:00")), 60)  # a minute's look is one of a second
        async with serving(place, clock) as daemon:
            assert "127.0.0.1" in daemon.knowledge.doubt
            assert "reference" not in daemon.schedule.known
            wire.accept()
            await true(lambda: daemon.schedule.known.get("reference", Memory()).status == "complete", seconds=120)
            assert daemon.knowledge.reference.calendar is not None
            assert daemon.knowledge.doubt == ""
