"""What health says of each part in each state, of the real service: what degrades, what is down, and what pages."""

from __future__ import annotations

from datetime import datetime

import pytest
from daemon_inside import Inside, inside, true
from daemon_place import DAILY, QUOTES, Place
from servers.redis import PASSWORD, Redis

from mystocks_ingest.monitor.health import Part
from mystocks_ingest.sources.pacing import Budget

pytestmark = pytest.mark.timeout(400)


def moment(place: Place, clock: str) -> datetime:
    return datetime.fromisoformat(place.at(clock))


async def shown(service: Inside, kind: str, name: str) -> Part:
    part = await service.part(kind, name)
    assert part is not None
    return part


async def ready(service: Inside) -> tuple[int, list[str]]:
    status, body = await service.ask("/health/ready")
    assert (await service.ask("/health/live"))[0] == 200
    return status, body["paging"]


def required(place: Place) -> None:
    """The tables of Redis are the only ones of their datasets, so that somebody must know when it is away."""
    file = place.folder / "config" / "tables.yaml"
    text = file.read_text(encoding="utf-8")
    assert "route: best_effort" in text
    file.write_text(text.replace("route: best_effort", "route: required"), encoding="utf-8")


async def test_a_database_of_required_tables_degrades_at_once_and_pages_when_it_is_away_for_too_long(
    place: Place, redis: Redis
) -> None:
    required(place)
    place.more = {"MYSTOCKS_STORES": "redis", "REDIS_PORT": str(redis.port), "REDIS_PASSWORD": PASSWORD}
    place.jobs(DAILY)
    async with inside(place, moment(place, "04:00:00")) as service:

        async def fresh() -> bool:
            return (await shown(service, "sink", "redis")).state == "fresh"

        await true(fresh)
        before = service.clock.now()
        redis.stop()

        async def degraded() -> bool:
            return (await shown(service, "sink", "redis")).state == "degraded"

        await true(degraded)  # at night, when nobody writes: it is pinged
        part = await shown(service, "sink", "redis")
        assert part.reason.startswith("away: ")
        assert part.since is not None
        assert before <= part.since <= service.clock.now()
        assert (await ready(service))[0] == 200

        service.clock.step(minutes=31)
        part = await shown(service, "sink", "redis")
        assert (part.state, part.pages) == ("down", True)
        assert part.figures["away_seconds"] > 1800
        status, paging = await ready(service)
        assert status == 503
        assert [line.split(": ")[:2] for line in paging] == [["sink redis", "away"]]

        redis.start()
        await true(fresh)
        assert (await ready(service)) == (200, [])


@pytest.mark.long
async def test_one_vendor_down_degrades_and_all_of_them_in_session_page(place: Place) -> None:
    place.jobs(QUOTES.replace("akshare-sina", "akshare"))
    async with inside(place, moment(place, "12:30:00")) as service:
        daemon = service.daemon
        daemon.live_sources["akshare"]._source._pacer.budget = Budget()  # type: ignore[attr-defined]
        await place.sim.fault("tushare", "bad_token", times=None)
        service.clock.step(minutes=30)
        daemon.schedule.replace_entries(daemon.schedule.entries)

        async def one_rests() -> bool:
            part = await service.part("source", "tushare")
            return part is not None and part.state == "degraded"

        await true(one_rests)
        await true(lambda: daemon.collector.figures["quote"].last_news)
        assert (await shown(service, "source", "akshare")).state == "fresh"
        assert (await shown(service, "dataset", "quote")).state == "fresh"
        assert (await ready(service)) == (200, [])

        await place.sim.fault("akshare", "http_502", times=None)

        async def both_rest() -> bool:
            part = await service.part("source", "akshare")
            return part is not None and part.state == "degraded"

        await true(both_rest)
        rest = daemon.collector.resting
        assert set(rest) == {"tushare", "akshare"}
        service.clock.step(seconds=1)
        quote = await shown(service, "dataset", "quote")
        assert quote.state != "down", "a moment without quotes wakes nobody"

        async def paging() -> bool:
            service.clock.step(seconds=20)
            return (await shown(service, "dataset", "quote")).pages

        await true(paging)
        status, said = await ready(service)
        assert status == 503
        assert said[0].startswith("dataset quote: nothing new for")

        service.clock.step(hours=3)
        assert (await shown(service, "dataset", "quote")).state == "fresh", "after the close nobody waits for quotes"


async def test_a_new_service_a_paused_job_and_a_missed_one_are_told_in_words_and_wake_nobody(place: Place) -> None:
    place.jobs(DAILY.replace("sources: tushare", "sources: tushare, catch_up: false"))
    async with inside(place, moment(place, "14:50:00")) as service:
        daemon = service.daemon
        await true(lambda: daemon.rounds.held is not None)
        new = await shown(service, "dataset", "bar_1d")
        assert (new.state, new.reason, new.figures["late_seconds"]) == ("fresh", "", 0)

        await daemon.schedule.pause("daily", paused=True)
        assert await service.part("dataset", "bar_1d") is None
        paused = await shown(service, "job", "daily")
        assert (paused.state, paused.reason) == ("fresh", "paused: `jobs resume daily` has it run again")
        await daemon.schedule.pause("daily", paused=False)

        service.clock.step(hours=2)
        daemon.schedule.replace_entries(daemon.schedule.entries)
        await true(lambda: daemon.schedule.known["daily"].status == "skipped")
        late = await shown(service, "dataset", "bar_1d")
        assert late.state == "degraded"
        assert late.reason.startswith("nothing is stored yet, and its first rows were due at ")
        assert "15:30 Shanghai; job daily ended skipped" in late.reason
        assert late.figures["late_seconds"] > 3600
        assert (await shown(service, "job", "daily")).state == "degraded"
        status, body = await service.ask("/health")
        assert (status, body["ready"], body["state"]) == (200, True, "degraded")
        assert set(body) >= {"parts", "queues", "runs", "version", "started_at", "at", "uptime_seconds", "paging"}
        assert (await ready(service)) == (200, [])
