"""Each rule fires and recovers by what the real service reads of itself, is told once, and arrives at a webhook."""

from __future__ import annotations

import asyncio
import shutil
import urllib.request
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from datetime import date, datetime, time, timedelta
from time import monotonic
from typing import NamedTuple

import numpy as np
import pytest
from daemon_inside import PATIENT, Hook, Inside, alerting, hook, inside, true
from daemon_place import DAILY, QUOTES, Place
from servers.redis import PASSWORD, Redis

from mystocks_ingest.daemon import health
from mystocks_ingest.errors import IngestError
from mystocks_ingest.market.calendar import Calendar
from mystocks_ingest.market.datasets import CALENDAR, QUOTE
from mystocks_ingest.market.frames import Window
from mystocks_ingest.market.sessions import ZONE
from mystocks_ingest.monitor.alert_rules import Measure
from mystocks_ingest.monitor.alerts import Alerts
from mystocks_ingest.monitor.spool import FILE
from mystocks_ingest.ports import Doing, Operation, Query, Status, Validation
from mystocks_ingest.schema.tables import Database
from mystocks_ingest.sim.server import SimConfig, running

pytestmark = [
    pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning"),  # one of apprise's
    pytest.mark.timeout(400),
]
UNMISSED = (
    DAILY.replace("sources: tushare", "sources: [tushare, baostock], catch_up: false, retries: 0")
    .replace("sessions: 40", "sessions: 6")
    .replace("30 min", "3 h")
)


async def fires(alerts: Alerts, service: Inside, web: Hook, *rules: str, minutes: float) -> None:
    """They are bad now, and told after ``minutes``, each once."""
    await alerts.look()
    service.clock.step(minutes=minutes)
    await alerts.look()
    await alerts.look()
    await arrived(web, *rules)
    for rule in rules:
        subjects = [line.split(": ")[1] for line in web.told(rule)]
        assert len(subjects) == len(set(subjects)), web.lines


async def arrived(web: Hook, *rules: str, over: bool = False) -> None:
    def missing() -> list[str]:
        return [rule for rule in rules if not web.told(rule, over=over)]

    with suppress(TimeoutError):
        await true(lambda: not missing())
    assert missing() == [], web.lines


async def recovers(alerts: Alerts, service: Inside, web: Hook, *rules: str, minutes: float) -> None:
    await alerts.look()
    service.clock.step(minutes=minutes)
    await alerts.look()
    await alerts.look()
    await arrived(web, *rules, over=True)
    for rule in rules:
        with suppress(TimeoutError):  # each subject of it, maybe in another message
            await true(lambda rule=rule: len(web.told(rule, over=True)) >= len(web.told(rule)))  # type: ignore[misc]
        assert len(web.told(rule, over=True)) == len(web.told(rule)), (rule, web.lines)


class Usage(NamedTuple):
    total: int
    used: int
    free: int


async def test_freshness_checkpoints_jobs_creations_disk_bans_and_the_calendar_are_alerted_about_and_recover(
    tmp_path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = SimConfig(seed=11, stocks=6, sessions=30, end=date(2026, 6, 30))
    (tmp_path / "config").mkdir()
    shutil.copy(Place.tables(), tmp_path / "config")
    async with running(config) as sim, hook() as web:
        place = Place(tmp_path, sim)
        place.jobs(UNMISSED)
        day = datetime.combine(sim.market.days[-3].item(), time(14, 50), ZONE)
        async with inside(place, day) as service, alerting(service, web) as alerts:
            daemon = service.daemon
            assert (ended := await daemon.schedule.now("daily")).status == "complete", ended
            await true(lambda: daemon.rounds.held)
            fresh = await service.part("dataset", "bar_1d")
            assert fresh is not None
            assert (fresh.state, fresh.figures["late_seconds"]) == ("fresh", 0)

            table = daemon.service.tables.holder(CALENDAR)
            operation = Operation(
                Doing.CREATE, table.database_type, table.database_name, table.name, service.clock.now(), made=table
            )
            await sim.fault("baostock", "blacklist", times=None)
            with pytest.raises(IngestError):
                await daemon.service.source("baostock").probe()
            number = await daemon.service.log.began(operation)
            await daemon.service.log.ended(number, Status.FAILED, "no vnodes left", of=operation)
            usage = shutil.disk_usage(tmp_path)
            monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(100, 85, 15))
            service.clock.step(days=2)  # a job that catches nothing up was missed for two sessions
            daemon.schedule.replace_entries(daemon.schedule.entries)  # it looks at the clock now and then only
            await true(lambda: daemon.schedule.known["daily"].status == "skipped")
            await daemon.knowledge.refresh()  # likewise
            await daemon.rounds.count()  # likewise
            assert await daemon.service.log.settled(30)
            await fires(
                alerts, service, web, "data_freshness", "checkpoint_stuck", "job_failed", "disk_usage", "source_banned",
                "table_creation_failure", minutes=6,
            )  # fmt: skip
            late = await service.part("dataset", "bar_1d")
            assert late is not None
            assert (late.state, (await service.health()).ready) == ("down", True)
            assert "should be stored since" in late.reason
            assert "job daily ended skipped" in late.reason
            assert "no vnodes left" in web.told("table_creation_failure")[0]
            assert "81" not in web.told("disk_usage")[0]
            assert "85 %" in web.told("disk_usage")[0]

            await sim.clear()
            daemon.service.source("baostock")._source._pacer.reopen()  # type: ignore[attr-defined]
            again = replace(operation, at=service.clock.now())
            await daemon.service.log.ended(await daemon.service.log.began(again), Status.SUCCESS, of=again)
            monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(100, 20, usage.free))
            assert (ended := await daemon.schedule.now("daily")).status == "complete", ended
            await daemon.rounds.count()
            assert await daemon.service.log.settled(30)
            await true(_known_to_be_open(service))
            await recovers(
                alerts, service, web, "data_freshness", "checkpoint_stuck", "job_failed", "disk_usage", "source_banned",
                "table_creation_failure", minutes=6,
            )  # fmt: skip
            await calendar_ends(alerts, service, web)


async def calendar_ends(alerts: Alerts, service: Inside, web: Hook) -> None:
    """In December, until the next year's is stored."""
    service.clock.at = datetime(2026, 12, 10, 12, tzinfo=ZONE)
    await fires(alerts, service, web, "calendar_ending", minutes=6)
    days = np.arange("2026-12-01", "2028-01-01", dtype="datetime64[D]")
    year = Calendar(days[np.is_busday(days)], date(2026, 12, 1), date(2027, 12, 31))
    rows = year.to_batch(source="test", fetched_at=service.clock.now())
    daemon = service.daemon
    await daemon.service.sink.write(daemon.service.tables.holder(CALENDAR), rows)
    await daemon.knowledge.refresh()
    await recovers(alerts, service, web, "calendar_ending", minutes=6)


def _known_to_be_open(service: Inside) -> Callable[[], Awaitable[bool]]:
    """Budgets and bans are read from their file every few seconds."""

    async def is_open() -> bool:
        part = await service.part("source", "baostock")
        return part is not None and part.state == "fresh"

    return is_open


@pytest.mark.long
async def test_a_database_that_is_away_is_told_as_down_failing_slow_and_with_rows_waiting_and_recovers(
    place: Place, redis: Redis
) -> None:
    place.more = {"MYSTOCKS_STORES": "redis", "REDIS_PORT": str(redis.port), "REDIS_PASSWORD": PASSWORD}
    place.jobs(QUOTES)
    when = datetime.fromisoformat(place.at("12:30:00"))
    async with hook() as web, inside(place, when) as service, alerting(service, web) as alerts:
        daemon = service.daemon
        meter = daemon.onlooker.stores["redis"]
        redis.freeze()
        service.clock.step(minutes=30)  # the afternoon begins, and with it quotes
        daemon.schedule.replace_entries(daemon.schedule.entries)
        await true(lambda: meter.recent.lately(asyncio.get_running_loop().time()).slowest > 5)
        await true(lambda: daemon.spool.bytes > 0)
        degraded = await service.part("sink", "redis")
        assert degraded is not None
        assert degraded.state == "degraded"
        assert "its rows wait in the spool" in degraded.reason
        redis.thaw()
        redis.stop()
        table = next(t for t in daemon.service.written if t.database_type is Database.REDIS and t.dataset is QUOTE)
        day = when.date()
        for _ in range(12):  # somebody reads, in vain
            with pytest.raises(IngestError):
                await daemon.service.sink.read(table, _query(day))
        await daemon.schedule.pause("quotes", paused=True)  # quotes that stand still are another story
        rules = ("part_down", "slow_query", "error_rate", "spool_growing")
        await fires(alerts, service, web, *rules, minutes=11)
        still = await service.part("sink", "redis")
        assert still is not None
        assert (still.state, still.pages) == ("degraded", False), "its tables are best effort: nobody is woken"

        redis.start()
        await true(lambda: not daemon.spool.bytes and not daemon.front.away)
        meter.recent.window = 0.5  # in place of five minutes

        async def well() -> bool:
            part = await service.part("sink", "redis")
            figures = part.figures if part is not None else {}
            return (figures["away"], figures["error_ratio"], figures["slowest_seconds"] < 1) == (0, 0, True)

        await true(well)
        await recovers(alerts, service, web, *rules, minutes=6)
        back = await service.part("sink", "redis")
        assert back is not None
        assert (back.state, back.reason) == ("fresh", "")


async def test_entries_that_the_monitor_log_loses_and_a_channel_that_is_away_are_in_health_and_the_metrics(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.jobs(DAILY)
    (place.state / FILE).mkdir(parents=True)  # so that its spool cannot be written
    away = {"MYSTOCKS_ALERT_URLS": "json://127.0.0.1:9/a-secret-path-1234567890"}
    async with hook() as web, inside(place, datetime.fromisoformat(place.at("04:00:00")), **away) as service:

        async def unreachable() -> bool:
            channel = await service.part("channel", "webhook 1")
            return channel is not None and channel.state == "degraded"

        await true(unreachable, seconds=3 * PATIENT)  # the service tells of it by itself, and nobody hears
        _, said = await service.ask("/health")
        (channel,) = said["parts"]["channel"]
        assert channel["reason"].startswith("alerts do not arrive: webhook 1: ")
        assert "secret-path" not in str(said)
        part = await service.part("log", "log")
        assert part is not None
        assert part.state == "degraded"
        assert "entries were lost" in part.reason
        lost = part.figures["lost_entries"]
        assert lost > 0
        async with alerting(service, web) as alerts:
            await fires(alerts, service, web, "log_losing", minutes=1)
            assert f"losing entries: {lost:.0f} entries were lost" in web.told("log_losing")[0]
            text = (await asyncio.to_thread(_page, service)).decode()
            assert f'mystocks_monitor_missed_entries_total{{why="lost"}} {lost}' in text
            assert 'mystocks_alert_notices_total{channel="webhook 1",outcome="failed"} ' in text
            assert (await service.ask("/health/ready"))[0] == 200
            (place.state / FILE).rmdir()
            log = service.daemon.service.log
            await log.validated([Validation(Database.MYSQL, "db", "t", service.clock.now())])
            assert await log.settled(30)
            assert (await log.waiting()).lost == lost, "the count is on the disk now"
            monkeypatch.setattr(health, "monotonic", lambda: monotonic() + 3601)
            await recovers(alerts, service, web, "log_losing", minutes=3)
            part = await service.part("log", "log")
            assert part is not None
            assert (part.state, part.reason) == ("fresh", "")


def _page(service: Inside) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{service.daemon.http_port}/metrics", timeout=30) as answer:
        return bytes(answer.read())


def _query(day: date) -> Query:
    return Query(window=Window(day, day + timedelta(days=1)))


def test_all_rules_of_the_operations_page_are_fired_by_these_tests() -> None:
    fired = {
        "data_freshness", "checkpoint_stuck", "job_failed", "disk_usage", "source_banned", "table_creation_failure",
        "calendar_ending", "part_down", "slow_query", "error_rate", "spool_growing", "log_losing",
    }  # fmt: skip
    assert {m.value for m in Measure} == fired
