"""Who looks after the service is answered, however many ask from one address."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from website import opened_site

from mystocks_ingest.monitor.health import Kind, Part, State
from mystocks_ingest.web import wellbeing
from mystocks_ingest.web.limits import Limits

RARELY = Limits(requests_per_second=0.01, burst=2)


async def test_pollers_of_one_address_are_refused_neither_health_nor_metrics(tmp_path: Path) -> None:
    async with opened_site(tmp_path, RARELY) as site:
        for path in ("/health", "/health/live", "/health/ready", "/metrics"):
            got = [await site.get(path, token=None) for _ in range(8)]
            assert [answer.status for answer in got] == [200] * 8, path
            assert len({answer.headers["content-type"] for answer in got}) == 1
        assert [(await site.get("/", token=None)).status for _ in range(3)] == [200, 200, 429]


async def test_whoever_asks_too_often_hears_the_answer_of_a_moment_ago_and_the_new_one_soon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wellbeing, "_KEPT_SECONDS", float("inf"))
    down = Part("postgresql", Kind.SINK, State.DOWN, "away", page=True)
    async with opened_site(tmp_path, RARELY) as site:
        for _ in range(4):
            assert (await site.get("/health/ready", token=None)).status == 200
        site.desk.parts = (down,)
        got = await site.get("/health/ready", token=None)
        assert (got.status, got.json["ready"]) == (200, True), "the answer of a moment ago"
        monkeypatch.setattr(wellbeing, "_KEPT_SECONDS", 0.5)
        async with asyncio.timeout(30):
            while (got := await site.get("/health/ready", token=None)).status == 200:  # noqa: ASYNC110 - as a poller does
                await asyncio.sleep(0.05)
        assert (got.status, got.json["ready"]) == (503, False)
        again = await site.get("/health/ready", token=None)
        assert again.status == 503, "what is repeated keeps its status"
