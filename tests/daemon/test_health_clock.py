"""Health tells the truth where the wall clock is set back, a job is resumed or new, or a vendor sends what is refused."""

from __future__ import annotations

import asyncio
import re
import shutil
import threading
from datetime import datetime
from time import monotonic
from types import SimpleNamespace

import pytest
from daemon_inside import Inside, inside, true
from daemon_place import DAILY, QUOTES, Place
from servers.redis import PASSWORD, Redis

from mystocks_ingest.daemon import ages, health_sinks, rounds
from mystocks_ingest.flow import live
from mystocks_ingest.monitor.health import Part

pytestmark = pytest.mark.timeout(400)
OF_TUSHARE = QUOTES.replace("[tushare, akshare-sina]", "tushare")


class Passing:
    """Time that passes by both clocks of a service, in no time."""

    def __init__(self, service: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
        self._service = service
        self._passed = 0.0
        for module in (ages, live, health_sinks, rounds):
            monkeypatch.setattr(module, "monotonic", lambda: monotonic() + self._passed)

    def passes(self, seconds: float) -> None:
        self._passed += seconds
        self._service.clock.step(seconds=seconds)


async def quote(service: Inside) -> Part:
    part = await service.part("dataset", "quote")
    assert part is not None
    return part


async def test_silence_is_told_where_every_row_is_refused_and_where_the_clock_was_set_back(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.jobs(OF_TUSHARE)
    await place.sim.fault("tushare", "volume_x100", times=None, match="rt_k")
    async with inside(place, datetime.fromisoformat(place.at("14:00:00"))) as service:
        time = Passing(service, monkeypatch)
        figures = service.daemon.collector.figures
        await true(lambda: "quote" in figures and figures["quote"].refused)
        assert figures["quote"].news == 0
        time.passes(400)
        part = await quote(service)
        assert (part.state, part.pages) == ("down", True)
        assert re.search(r"; \d+ rows came and were refused", part.reason)
        await place.sim.clear("tushare")
        await true(lambda: figures["quote"].last_news)
        assert (await quote(service)).state == "fresh"

        before = figures["quote"].failed
        await place.sim.fault("tushare", "bad_token", times=None)
        await true(lambda: figures["quote"].failed > before)  # no answer from before is on its way
        service.clock.step(minutes=-30)
        part = await quote(service)
        assert part.state == "fresh", "the clock alone makes nothing late"
        assert 0 <= part.figures["age_seconds"] < 300
        time.passes(400)
        part = await quote(service)
        assert (part.state, part.pages) == ("down", True)
        assert 400 < part.figures["age_seconds"] < 1000
        assert re.search(r"the clock was set back by 1[78]\d\d s", part.reason)
        status, body = await service.ask("/health/ready")
        assert (status, len(body["paging"])) == (503, 1)
        status, body = await service.ask("/health")
        assert body["uptime_seconds"] >= 400


@pytest.mark.long
async def test_an_outage_lasts_as_long_as_it_does_whatever_the_clock_says(
    place: Place, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.more = {"MYSTOCKS_STORES": "redis", "REDIS_PORT": str(redis.port), "REDIS_PASSWORD": PASSWORD}
    place.jobs(DAILY)
    async with inside(place, datetime.fromisoformat(place.at("04:00:00"))) as service:
        time = Passing(service, monkeypatch)
        redis.stop()

        async def away() -> Part | None:
            part = await service.part("sink", "redis")
            return part if part is not None and part.figures["away"] else None

        await true(away)
        service.clock.step(hours=-1)
        time.passes(100)
        part = await away()
        assert part is not None
        assert part.figures["away_seconds"] >= 100


async def test_a_disk_that_hangs_or_is_nearly_full_degrades_and_pages(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.jobs(DAILY)
    async with inside(place, datetime.fromisoformat(place.at("04:00:00"))) as service:
        await true(lambda: service.daemon.rounds.counted_at)
        assert await told(service, "sink", "journal") == ("fresh", "")
        time, disk, hangs = Passing(service, monkeypatch), threading.Event(), threading.Event()

        def read(_: object) -> None:
            hangs.set()
            disk.wait(200)

        reading = asyncio.create_task(service.daemon.service.database.run(read))
        try:
            assert await asyncio.to_thread(hangs.wait, 30)  # whoever reads from now on waits
            time.passes(400)
            state, reason = await told(service, "sink", "journal")
            assert state == "degraded"
            assert reason.startswith("away for 4")
            assert "is the disk of the state directory well?" in reason
            time.passes(1800)
            status, body = await service.ask("/health/ready")
            assert (status, len(body["paging"])) == (503, 1)
            assert (await service.ask("/health/live"))[0] == 200
        finally:
            disk.set()
            await reading
        service.daemon.rounds.memories.ended.set()  # it is asked each minute, and when a job has ended

        async def fresh() -> bool:
            return (await told(service, "sink", "journal"))[0] == "fresh"

        await true(fresh)
        for total, free, state, status in (
            (1e12, 300e9, "fresh", 200),
            (1e12, 150e9, "degraded", 200),
            (8e12, 100e9, "degraded", 200),
            (100e9, 4e9, "down", 503),
        ):
            usage = SimpleNamespace(total=int(total), free=int(free))
            monkeypatch.setattr(shutil, "disk_usage", lambda _, usage=usage: usage)
            assert (await told(service, "disk", "disk"))[0] == state
            assert (await service.ask("/health/ready"))[0] == status
        assert (await told(service, "disk", "disk"))[1] == "96 % of it is used, 4.0 GB are free: make room"


async def told(service: Inside, kind: str, name: str) -> tuple[str, str]:
    part = await service.part(kind, name)
    assert part is not None
    return part.state, part.reason


async def test_news_is_awaited_from_when_a_job_was_resumed_or_came_with_a_changed_file(place: Place) -> None:
    place.jobs(DAILY)
    async with inside(place, datetime.fromisoformat(place.at("13:00:00"))) as service:
        await place.sim.fault("tushare", "bad_token", times=None)
        service.clock.step(minutes=30)
        place.jobs(DAILY, OF_TUSHARE)
        service.daemon.reload.set()
        await true(lambda: [e for e in service.daemon.schedule.entries if e.live])
        assert (await quote(service)).state == "fresh"
        service.clock.step(minutes=20)
        assert (await quote(service)).state == "down"
        await service.daemon.schedule.pause("quotes", paused=True)
        assert await service.part("dataset", "quote") is None
        service.clock.step(minutes=20)
        await service.daemon.schedule.pause("quotes", paused=False)
        assert (await quote(service)).state == "fresh"
        assert (await service.ask("/health/ready"))[0] == 200
