"""Health and metrics: without a token, for pollers and people.

No poller is refused for what others ask from its address, which may be everybody's: asked too often, these answer what
they answered last, a moment ago.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from functools import partial

from fastapi import APIRouter
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response

from mystocks_ingest import __version__
from mystocks_ingest.errors import IngestError
from mystocks_ingest.logs import redact
from mystocks_ingest.monitor.health import Health, Part
from mystocks_ingest.monitor.metrics import CONTENT_TYPE
from mystocks_ingest.ports import Run
from mystocks_ingest.web.desk import Desk
from mystocks_ingest.web.limits import Allowance, Limits
from mystocks_ingest.web.refusals import Refusal

POLLED = frozenset({"/health", "/health/live", "/health/ready", "/metrics"})
_LOOK_SECONDS = 5.0
_KEPT_SECONDS = 1.0
_INDEX = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>mystocks-ingest</title></head><body>
<h1>mystocks-ingest {__version__}</h1>
<ul>
<li><a href="/health">/health</a>: how every part fares</li>
<li><a href="/health/ready">/health/ready</a>: 503 while monitoring should page</li>
<li><a href="/health/live">/health/live</a>: the process answers</li>
<li><a href="/metrics">/metrics</a>: for Prometheus</li>
<li><a href="/openapi.json">/openapi.json</a>: the API under /api/v1, which needs a token</li>
</ul>
</body></html>
"""


class _Answers:
    """The latest answer of each path, given again while it is asked for more often than ``limits`` allow."""

    def __init__(self, limits: Limits, *, now: Callable[[], float] = time.monotonic) -> None:
        self._often = Allowance(limits.requests_per_second, limits.burst)
        self._now = now
        self._kept: dict[str, tuple[float, Response]] = {}

    async def given(self, path: str, make: Callable[[], Awaitable[Response]]) -> Response:
        at, kept = self._kept.get(path, (float("-inf"), None))
        if kept is not None and self._often.wait(path) and self._now() - at < _KEPT_SECONDS:
            return Response(kept.body, kept.status_code, media_type=kept.media_type)
        made = await make()
        self._kept[path] = self._now(), made
        return made


def router(desk: Desk, limits: Limits) -> APIRouter:
    """The routes that the gate leaves open."""
    routes = APIRouter(tags=["health"])
    answers = _Answers(limits)

    @routes.get("/", response_class=HTMLResponse, summary="What there is")
    async def index() -> Response:
        return HTMLResponse(_INDEX)

    @routes.get("/health/live", summary="The process answers")
    async def live() -> Response:
        return JSONResponse({"status": "live", "version": __version__})

    @routes.get("/health/ready", summary="503 while monitoring should page")
    async def ready() -> Response:
        return await answers.given("ready", partial(_ready, desk))

    @routes.get("/health", summary="How every part fares, for people and pollers")
    async def health() -> Response:
        return await answers.given("health", partial(_health, desk))

    @routes.get("/metrics", response_class=PlainTextResponse, summary="For Prometheus")
    async def metrics() -> Response:
        return await answers.given("metrics", partial(_metrics, desk))

    return routes


async def _ready(desk: Desk) -> Response:
    health = await _look(desk)
    parts = [_part(p) for p in health.worst_first()]
    body = {"ready": health.ready, "state": health.state, "paging": _paging(health), "parts": parts}
    return JSONResponse(body, 200 if health.ready else 503)


async def _health(desk: Desk) -> Response:
    found = await _look(desk)
    kinds: dict[str, list[dict[str, object]]] = {}
    for part in found.worst_first():
        kinds.setdefault(part.kind, []).append(_part(part))
    body = {
        "state": found.state,
        "ready": found.ready,
        "paging": _paging(found),
        "version": found.version,
        "at": found.at.isoformat(),
        "started_at": found.started_at.isoformat(),
        "uptime_seconds": round(found.uptime_seconds, 1),
        "parts": kinds,
        "queues": [{"store": q.store, "table": q.table, "rows": q.rows, "bytes": q.bytes} for q in found.queues],
        "runs": [_run(run) for run in found.runs],
    }
    return JSONResponse(body)


async def _metrics(desk: Desk) -> Response:
    with contextlib.suppress(Refusal):  # the other figures are worth having all the same
        desk.metrics.looked(await _look(desk))
    return Response(desk.metrics.text(), media_type=CONTENT_TYPE)


async def _look(desk: Desk) -> Health:
    try:
        async with asyncio.timeout(_LOOK_SECONDS):
            return await desk.health()
    except TimeoutError:
        raise Refusal(503, f"the service did not tell how it fares within {_LOOK_SECONDS:g} s") from None
    except IngestError as exc:
        raise Refusal(503, f"the service cannot tell how it fares: {exc}") from exc


def _paging(health: Health) -> list[str]:
    return [redact(f"{p.kind} {p.name}: {p.reason or p.state}") for p in health.parts if p.pages]


def _run(run: Run) -> dict[str, object]:
    return {
        "id": run.id,
        "command": run.command,
        "started_at": run.started_at.isoformat(),
        "ended_at": None if run.ended_at is None else run.ended_at.isoformat(),
        "status": run.status,
        "rows": run.detail.get("rows"),
        "refused": run.detail.get("refused"),
        "missing": run.detail.get("missing"),
    }


def _part(part: Part) -> dict[str, object]:
    return {
        "name": part.name,
        "kind": part.kind,
        "state": part.state,
        "reason": redact(part.reason),
        "since": None if part.since is None else part.since.isoformat(),
        "pages": part.page,
        "figures": {name: _rounded(value) for name, value in part.figures.items()},
    }


def _rounded(value: float) -> float | int | None:
    """As people read it: six decimals at most, whole numbers without any; JSON has no word for the infinite."""
    if not abs(value) < 1e300:
        return None
    return int(value) if value == int(value) else round(value, 6)
