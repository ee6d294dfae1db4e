"""A start that meets databases away, or a store that somebody else has, comes to a whole service by itself."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime

import pytest
from daemon_inside import PATIENT, living, true
from daemon_place import DAILY, Place, until
from hurried import Hurried
from servers.mariadb import MariaDB
from servers.proxy import Proxy

from mystocks_ingest.daemon.parts import Daemon
from mystocks_ingest.flow.schedule import Memory
from mystocks_ingest.settings import Settings

pytestmark = pytest.mark.timeout(400)
REFERENCE = "- {name: reference, when: before open - 45 min, datasets: [calendar, instrument], sources: tushare}"


HOLDER = """
import duckdb, sys
with duckdb.connect(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


@asynccontextmanager
async def serving(place: Place, clock: Hurried) -> AsyncIterator[Daemon]:
    """The service in this loop, by that clock; stopped in order at the end."""
    names = {str(info.alias or name) for name, info in Settings.model_fields.items()}
    values = {name: value for name, value in place.environment.items() if name in names}
    settings = Settings(_env_file=None, **values)  # type: ignore[call-arg, arg-type]
    async with living(settings, clock, patience=3 * PATIENT) as daemon:
        yield daemon


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
            await true(lambda: daemon.knowledge.reference.calendar is not None)  # read once the run has ended
            await true(lambda: daemon.knowledge.doubt == "")


async def test_a_store_that_a_command_has_is_waited_for_and_one_that_the_service_has_is_told_with_what_to_do(
    place: Place,
) -> None:
    place.jobs(DAILY)
    place.state.mkdir()
    holder = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOLDER, str(place.state / "mystocks.duckdb"),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert holder.stdout is not None
    await asyncio.wait_for(holder.stdout.readline(), PATIENT)
    async with asyncio.TaskGroup() as group:
        releasing = group.create_task(_released(place, holder))
        async with place.service("08:00:00") as service:
            assert releasing.done(), "it was not ready before"
            code, out, err = await place.command("schema", "plan")
            assert (code, out) == (2, "")
            assert f"the service (process {service.process.pid}) has the store" in err
            assert "stop the service, run the command" in err
            code, out, err = await place.command("doctor", "--json")
            found = {f["what"]: f for f in json.loads(out)["findings"]}
            assert found["store"]["health"] == "ok", err
            assert str(service.process.pid) in found["store"]["found"]
            assert found["calendar"]["found"] == "none stored yet"
            assert await service.stop() == 0


async def _released(place: Place, holder: asyncio.subprocess.Process) -> None:
    """End who holds the store once the service waits for it."""

    async def awaited() -> bool:
        return (place.folder / "log").exists() and '"store.awaited"' in place.log

    await until(awaited, seconds=80)
    assert str(holder.pid) in place.log
    await holder.communicate(b"")
