"""The service's calendar where the stored one is missing, ends, or has ended."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from mystocks_ingest import service
from mystocks_ingest.daemon.knowledge import Knowledge
from mystocks_ingest.market.calendar import Calendar
from mystocks_ingest.market.datasets import CALENDAR
from mystocks_ingest.market.sessions import ZONE
from mystocks_ingest.market.timetable import parse
from mystocks_ingest.settings import Settings

CONFIG = Path(__file__).parents[2] / "config"
EVE, HOLIDAY, AFTER = date(2025, 9, 30), date(2025, 10, 1), date(2025, 10, 9)


def at(day: date, clock: str = "08:00") -> datetime:
    return datetime.fromisoformat(f"{day} {clock}").replace(tzinfo=ZONE)


@asynccontextmanager
async def knowing(folder: Path, today: date, stored: Calendar | None) -> AsyncIterator[Knowledge]:
    settings = Settings(MYSTOCKS_STATE_DIR=folder, MYSTOCKS_CONFIG_DIR=CONFIG)
    async with service.opened(settings, now=lambda: at(today).astimezone(UTC)) as opened:
        if stored is not None:
            rows = stored.to_batch(source="tushare", fetched_at=at(today))
            await opened.sink.write(opened.tables.holder(CALENDAR), rows)
        knowledge = Knowledge(opened)
        await knowledge.refresh()
        yield knowledge


def weekdays(first: date, last: date) -> Calendar:
    days = [first + timedelta(n) for n in range((last - first).days + 1)]
    return Calendar([d for d in days if d.weekday() < 5], first, last)


@pytest.mark.parametrize("ended", [EVE, date(2025, 8, 29), date(2023, 12, 29), None], ids=str)
async def test_a_holiday_after_the_stored_calendar_is_known_all_the_same(tmp_path: Path, ended: date | None) -> None:
    stored = weekdays(date(2022, 1, 4), ended) if ended is not None else None
    async with knowing(tmp_path, EVE, stored) as knowledge:
        assert not knowledge.calendar.is_open(HOLIDAY)
        firing = parse("every 3 s in session").after(at(EVE, "15:01"), knowledge.calendar)
        assert (firing.at.astimezone(ZONE), firing.assumed) == (at(AFTER, "09:15"), False)
        assert not await knowledge.refresh(), "nothing new since"


async def test_the_stored_calendar_is_believed_where_it_knows_a_day(tmp_path: Path) -> None:
    other = weekdays(date(2025, 1, 2), HOLIDAY)  # an extraordinary session on the holiday
    async with knowing(tmp_path, EVE, other) as knowledge:
        assert knowledge.calendar.is_open(HOLIDAY)
        assert not knowledge.calendar.is_open(HOLIDAY + timedelta(days=1))


async def test_beyond_what_anybody_knows_weekdays_are_assumed(tmp_path: Path) -> None:
    last = date(2026, 12, 31)  # of the package that computes
    async with knowing(tmp_path, last, weekdays(date(2026, 1, 5), last)) as knowledge:
        firing = parse("after close + 30 min").after(at(last, "16:00"), knowledge.calendar)
        assert (firing.at.astimezone(ZONE), firing.assumed) == (at(date(2027, 1, 1), "15:30"), True)
