"""The service tells the truth about itself over HTTP, and lets only those with a token do more."""

from __future__ import annotations

import asyncio
import hashlib
import json
import urllib.error
import urllib.request

import pytest
from daemon_place import DAILY, QUOTES, Place, Service, until

pytestmark = pytest.mark.timeout(400)  # it starts the service, on a machine that may be busy
TOKEN = "a-token-of-this-test-0123456789"  # noqa: S105


async def fetched(service: Service, path: str, *, token: str = "", method: str = "GET") -> tuple[int, str]:
    def ask() -> tuple[int, str]:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        request = urllib.request.Request(f"{service.ready['http']}{path}", headers=headers, method=method)  # noqa: S310 - our own address
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - likewise
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as exc:
            with exc:
                return exc.code, exc.read().decode()

    return await asyncio.to_thread(ask)


async def test_health_metrics_and_jobs_are_those_of_the_running_service(place: Place) -> None:
    place.jobs(QUOTES, DAILY)
    place.more = {"MYSTOCKS_HTTP_TOKENS": "me:" + hashlib.sha256(TOKEN.encode()).hexdigest()}
    async with place.service("14:50:00") as service:

        async def collected() -> bool:
            return (
                'mystocks_rows_stored_total{store="embedded",table="quote"}' in (await fetched(service, "/metrics"))[1]
            )

        await until(collected)
        code, body = await fetched(service, "/health")
        parts = {f"{p['kind']} {p['name']}": p["state"] for kind in json.loads(body)["parts"].values() for p in kind}
        assert code == 200
        assert (parts["dataset quote"], parts["sink embedded"], parts["spool spool"]) == ("fresh", "fresh", "fresh")
        assert {"job daily", "loop loop", "disk disk", "calendar calendar", "source tushare"} <= set(parts)
        assert (await fetched(service, "/health/ready"))[0] == 200
        assert (await fetched(service, "/api/v1/jobs"))[0] == 401
        code, body = await fetched(service, "/api/v1/jobs", token=TOKEN)
        assert (code, "every 1 s in session" in body) == (200, True)
        place.jobs("nonsense")

        async def told() -> bool:
            return "jobs.yaml" in (await fetched(service, "/health"))[1]

        await until(told)
        assert await service.stop() == 0
