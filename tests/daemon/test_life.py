"""The service starts, works, stops in order, and loses nothing that was acknowledged, however it ends."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import duckdb
import pytest
from daemon_place import CLOCKED, DAILY, QUOTES, Place, Service, until

from mystocks_ingest.daemon import directory
from mystocks_ingest.errors import ConfigError

pytestmark = pytest.mark.timeout(400)  # each starts several processes, on a machine that may be busy
FULL = Path("/dev/full")


async def test_it_says_when_it_is_ready_collects_quotes_and_ends_with_0_on_sigterm(place: Place) -> None:
    place.jobs(QUOTES, DAILY)
    async with place.service("14:50:00") as service:
        assert (service.ready["event"], service.ready["jobs"]) == ("ready", ["quotes", "daily"])
        found = await service.jobs()
        assert found["daily"]["next"] == f"{place.sim.market.last_day} 07:30:00+00:00"
        await service.says("batch.taken")
        assert await service.stop() == 0
    truth = set(place.sim.market.quotes()["symbol"].to_pylist())
    stored = set((await place.stored("quote"))["symbol"].to_pylist())
    assert len(stored) > 10
    assert stored <= truth
    assert not (place.state / "service.sock").exists()


async def test_a_second_one_on_the_same_state_directory_is_told_who_has_it(place: Place) -> None:
    place.jobs(QUOTES)
    async with place.service("08:00:00") as service:
        code, out, err = await place.command("run")
        assert (code, out) == (2, "")
        assert f"is in use by process {service.process.pid}" in err
        assert len(err.splitlines()) == 1
        assert await service.stop() == 0
    async with place.service("08:00:00") as service:
        assert await service.stop() == 0


async def checkpointed(place: Place) -> set[tuple[str, date, date]]:
    with duckdb.connect(str(place.state / "mystocks.duckdb"), read_only=True) as store:
        rows = store.execute(
            "SELECT symbol, start, \"end\" FROM journal.checkpoint WHERE dataset = 'bar_1d'"
        ).fetchall()
    return set(rows)


async def test_sigterm_amid_a_backfill_keeps_what_was_acknowledged_and_the_next_run_completes_it(
    place: Place,
) -> None:
    place.jobs(DAILY.replace("sources: tushare", "sources: baostock"))
    async with place.service("20:00:00") as service:
        asked = await _amid_a_backfill(place, service)
        assert await service.stop() == 0
        assert (await asked)[0] == 2, "who asked for it is told"
    await _everything_acknowledged_is_stored(place)
    await _completed(place, "20:01:00")


async def test_kill_9_amid_a_backfill_loses_nothing_acknowledged_and_the_next_run_completes_it(place: Place) -> None:
    place.jobs(DAILY.replace("sources: tushare", "sources: baostock"))
    async with place.service("20:00:00") as service:
        asked = await _amid_a_backfill(place, service)
        service.process.kill()
        assert await service.ended() == -signal.SIGKILL
        assert (await asked)[0] == 2, "who asked for it is told"
    await _everything_acknowledged_is_stored(place)
    await _completed(place, "20:01:00")


async def _amid_a_backfill(place: Place, service: Service) -> asyncio.Task[tuple[int, str, str]]:
    """Ask for the job, and return amid its rows: of a vendor that takes its time, so that most of them are to come."""
    calls = "query_history_k_data_plus"
    await place.sim.fault("baostock", "delay", times=None, match=calls, seconds=0.4)
    asked = asyncio.create_task(place.command("jobs", "run", "daily"))

    async def some() -> bool:
        return (await place.sim.calls())["baostock"].get(calls, 0) >= 8

    await until(some, seconds=90)
    return asked


async def _everything_acknowledged_is_stored(place: Place) -> None:
    done = await checkpointed(place)
    stored = await place.stored("bar_1d")
    have = set(zip(stored["symbol"].to_pylist(), stored["trade_date"].to_pylist(), strict=True))
    assert len(have) == stored.num_rows, "nothing stands twice"
    truth = place.sim.market.bars_1d()
    for symbol, day in zip(truth["symbol"].to_pylist(), truth["trade_date"].to_pylist(), strict=True):
        if any(symbol == s and start <= day < end for s, start, end in done):
            assert (symbol, day) in have


async def _completed(place: Place, clock: str) -> None:
    await place.sim.clear("baostock")
    async with place.service(clock) as service:
        code, out, err = await place.command("jobs", "run", "daily")
        assert (code, out) == (0, "daily: complete\n"), (out, err)
        assert await service.stop() == 0
    stored = await place.stored("bar_1d")
    have = {
        (s, d): c for s, d, c in zip(*(stored[n].to_pylist() for n in ("symbol", "trade_date", "close")), strict=True)
    }
    truth = place.sim.market.bars_1d()
    first = min(day for _, day in have)
    for symbol, day, close in zip(*(truth[n].to_pylist() for n in ("symbol", "trade_date", "close")), strict=True):
        if day >= first and not symbol.endswith("BJ"):
            assert have[symbol, day] == close


async def test_jobs_are_run_paused_and_resumed_while_the_service_runs_and_remembered_when_it_does_not(
    place: Place,
) -> None:
    place.jobs(DAILY)
    async with place.service("08:00:00") as service:
        code, out, err = await place.command("jobs", "run", "daily", "--json")
        assert (code, json.loads(out)["status"]) == (0, "complete"), (out, err)
        assert (await place.command("jobs", "pause", "daily"))[0] == 0
        assert (await service.jobs())["daily"]["paused"] is True
        code, _, err = await place.command("jobs", "run", "nightly")
        assert (code, err) == (2, "error: no job nightly; there are daily\n")
        assert await service.stop() == 0
    code, out, _ = await place.command("jobs", "list", "--json")
    found = json.loads(out)
    assert (found["running"], found["jobs"][0]["paused"], found["jobs"][0]["status"]) == (False, True, "complete")
    assert (await place.command("jobs", "resume", "daily"))[0] == 0
    assert json.loads((await place.command("jobs", "list", "--json"))[1])["jobs"][0]["paused"] is False
    code, out, err = await place.command("jobs", "run", "daily", clock="08:00:00")
    assert (code, out) == (0, "daily: complete\n"), err


async def names(service: Service, *wanted: str) -> None:
    async def there() -> bool:
        return list(await service.jobs()) == list(wanted)

    await until(there)


async def test_a_changed_file_of_jobs_is_taken_over_and_a_wrong_one_is_said_and_left(place: Place) -> None:
    place.jobs(DAILY)
    async with place.service("08:00:00") as service:
        place.jobs(DAILY, DAILY.replace("daily", "again"))
        await names(service, "daily", "again")
        place.jobs(DAILY.replace("bar_1d", "bar_1x"))
        service.process.send_signal(signal.SIGHUP)
        await service.says("jobs.refused")
        assert sorted(await service.jobs()) == ["again", "daily"]
        code, out, _ = await place.command("jobs", "list")
        assert code == 0
        assert "jobs.yaml as it stands is not in force" in out
        assert "bar_1x" in out
        place.jobs(DAILY.replace("daily", "mended"))
        await names(service, "mended")
        assert await service.stop() == 0


async def heard(notified: socket.socket, *wanted: str) -> list[dict[str, str]]:
    """Messages to systemd, up to the first that has all of ``wanted``."""
    found: list[dict[str, str]] = []
    while not found or not set(wanted) <= set(found[-1]):
        lines = (await asyncio.to_thread(notified.recv, 4096)).decode().splitlines()
        found.append(dict(line.split("=", 1) for line in lines))
    return found


async def test_systemd_is_told_that_it_starts_is_ready_alive_reloading_and_stopping(
    place: Place, tmp_path: Path
) -> None:
    place.jobs(DAILY)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
        address = "\0mystocks-test-" + tmp_path.name
        notified.bind(address)
        notified.settimeout(60)
        async with place.service("08:00:00", NOTIFY_SOCKET="@" + address[1:], WATCHDOG_USEC="400000") as service:
            began = await heard(notified, "READY")
            assert "EXTEND_TIMEOUT_USEC" in began[0], "a long start is no failed one"
            assert began[-1]["STATUS"].startswith("1 jobs, 127.0.0.1:")
            await heard(notified, "WATCHDOG")
            await heard(notified, "WATCHDOG")

            place.jobs(DAILY.replace("bar_1d", "bar_1x"))
            before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
            service.process.send_signal(signal.SIGHUP)
            (*_, asked) = await heard(notified, "RELOADING")
            assert int(asked["MONOTONIC_USEC"]) >= before
            (*_, done) = await heard(notified, "READY")
            assert "bar_1x" in done["STATUS"], "what was refused is shown by `systemctl status`"
            place.jobs(DAILY)
            service.process.send_signal(signal.SIGHUP)
            await heard(notified, "RELOADING")
            (*_, done) = await heard(notified, "READY")
            assert done["STATUS"].startswith("1 jobs, ")
            assert await service.stop() == 0
            await heard(notified, "STOPPING")
        notified.setblocking(False)
        while True:
            try:
                assert b"READY" not in notified.recv(4096)
            except BlockingIOError:
                break


LOGGING = """
from mystocks_ingest import logs
logs.configure(level="info")
for number in range(3):
    logs.get("part").info("something.happened", number=number)
print("alive")
"""
ALWAYS_FULL = pytest.mark.skipif(not FULL.exists(), reason="this system has no file that is always full")


@ALWAYS_FULL
def test_a_log_line_that_cannot_be_written_is_left_out() -> None:
    with FULL.open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-c", LOGGING], stdout=subprocess.PIPE, stderr=full, check=False, timeout=60
        )
    assert done.stdout == b"alive\n"


@pytest.mark.long
@ALWAYS_FULL
async def test_a_log_that_cannot_be_written_does_not_end_it(place: Place) -> None:
    place.jobs(QUOTES)
    full = os.open(FULL, os.O_WRONLY)
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(CLOCKED), place.at("14:50:00"), "run", "--json",
        cwd=place.folder, env=place.environment, stdout=full, stderr=full,
    )  # fmt: skip
    os.close(full)
    try:

        async def polled() -> bool:
            calls = await place.sim.calls()
            return process.returncode is not None or sum(sum(each.values()) for each in calls.values()) > 4

        await until(polled, seconds=90)
        assert process.returncode is None
        process.terminate()
        assert await asyncio.wait_for(process.wait(), 60) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert len((await place.stored("quote"))["symbol"].to_pylist()) > 10


async def test_a_wrong_file_of_jobs_is_one_sentence_at_the_start(place: Place) -> None:
    place.jobs(DAILY.replace("after close", "some time after close"))
    code, out, err = await place.command("run")
    assert (code, out) == (2, "")
    assert "jobs.yaml" in err
    assert "cannot read" in err
    assert "Traceback" not in err


async def test_whoever_watches_the_state_directory_is_told_once_it_has_gone(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    (folder / "mystocks.duckdb").touch()
    watching = asyncio.create_task(directory.watch(folder))
    await asyncio.sleep(0)  # it has opened what is there
    folder.rename(tmp_path / "elsewhere")
    folder.mkdir()  # as somebody who starts anew beside it does
    (folder / "mystocks.duckdb").touch()
    with pytest.raises(ConfigError, match="was moved, deleted or replaced"):
        await asyncio.wait_for(watching, 60)


@pytest.mark.long
async def test_a_state_directory_taken_away_under_the_service_ends_it_instead_of_taking_rows_nobody_finds(
    place: Place,
) -> None:
    place.jobs(QUOTES)
    async with place.service("14:50:00") as service:
        await service.says("batch.taken")
        place.state.rename(place.folder / "elsewhere")
        assert await service.ended() == 1
        assert "was moved, deleted or replaced under the running service" in place.log
    assert not place.state.exists(), "nothing is left where nobody looks for it"
    (place.folder / "elsewhere").rename(place.state)
    assert (await place.stored("quote")).num_rows > 10
