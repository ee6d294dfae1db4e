"""A budget that changes while calls wait for their turn: no call is lost, none is made too early, none waits for naught."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mystocks_ingest.errors import Limited
from mystocks_ingest.ports import Paced, Rate
from mystocks_ingest.schema.paces import Calls, Pace
from mystocks_ingest.settings import Settings
from mystocks_ingest.sources import BUILT_IN, open_source
from mystocks_ingest.sources.pacing import UNPACED, Budget, Pacer

BEGAN = datetime(2024, 6, 3, tzinfo=UTC)


async def test_calls_that_wait_for_a_narrow_budget_go_at_once_when_it_is_widened(tmp_path: Path) -> None:
    pacer = Pacer("v", Budget((Rate(5, 3600.0),)), path=tmp_path / "pacing.sqlite", patience_seconds=7200)
    made = 0

    async def call() -> None:
        nonlocal made
        await pacer.take()
        made += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(50):
            group.create_task(call())
        while made < 5:  # noqa: ASYNC110 - nobody announces it
            await asyncio.sleep(0.01)
        assert made == 5
        pacer.pace(Pace(calls=(Calls(50, 3600.0),)))  # all of them, and no more
    assert made == 50
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await pacer.take()
    assert pacer.status().used[0].calls == 50, "what was called before counts in the new window"
    pacer.close()


async def test_a_narrower_budget_holds_for_the_next_call_and_the_usual_one_comes_back(tmp_path: Path) -> None:
    now = BEGAN
    pacer = Pacer("v", Budget((Rate(100, 60.0),)), path=tmp_path / "pacing.sqlite", clock=lambda: now)
    for _ in range(10):
        await pacer.take()
    pacer.pace(Pace(calls=(Calls(10, 86_400.0),)))
    with pytest.raises(Limited):
        await pacer.take()
    pacer.pace(Pace())
    await pacer.take()
    now += timedelta(days=2)
    await pacer.take(cost=5)
    pacer.close()


def test_every_built_in_source_that_calls_somebody_can_be_told_its_pace(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "pacing.yaml").write_text("sources: {tushare: {calls: 7 / min}}", encoding="utf-8")
    given = {
        "MYSTOCKS_STATE_DIR": tmp_path,
        "MYSTOCKS_CONFIG_DIR": tmp_path / "config",
        "MYSTOCKS_ARCHIVE_DIR": tmp_path,
    }
    settings = Settings(_env_file=None, **given)
    paced = []
    for name in BUILT_IN:
        source = open_source(name, settings, now=lambda: BEGAN)
        if isinstance(source, Paced):
            paced.append(name)
            rate = source.rates[0]
            assert (rate == Rate(7, 60.0)) == (name == "tushare")
        asyncio.run(source.aclose())
    assert set(BUILT_IN) - set(paced) == {"files", "exchange_calendars"}


def test_a_source_left_unpaced_at_a_replaced_address_stays_so(tmp_path: Path) -> None:
    pacer = Pacer("v", UNPACED, path=None)
    pacer.pace(Pace(calls=(Calls(1, 60.0),)))
    assert pacer.budget == UNPACED
    pacer.close()


async def test_no_vendor_is_paced_at_a_replaced_address_where_the_setting_says_none_and_every_one_is_at_its_own(
    tmp_path: Path,
) -> None:
    replaced = {
        "TUSHARE_ENDPOINT": "http://127.0.0.1:1",
        "AKSHARE_ENDPOINT": "http://127.0.0.1:1",
        "BAOSTOCK_ENDPOINT": "127.0.0.1:1",
    }
    vendors = set(BUILT_IN) - {"files", "exchange_calendars"}
    for given, unpaced in ((replaced, vendors), ({}, set())):
        settings = Settings(_env_file=None, MYSTOCKS_STATE_DIR=tmp_path, MYSTOCKS_PACING="none", **given)
        found = set()
        for name in vendors:
            source = open_source(name, settings, now=lambda: BEGAN)
            found |= set() if source.rates else {name}
            await source.aclose()
        assert found == unpaced
