"""Health and metrics: without a token, for pollers and people."""

from __future__ import annotations

import asyncio
import contextlib

from fastapi import APIRouter
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response

from mystocks_ingest import __version__
from mystocks_ingest.errors import IngestError
from mystocks_ingest.logs import redact
from mystocks_ingest.monitor.health import Health, Part
from mystocks_ingest.monitor.metrics import CONTENT_TYPE
from mystocks_ingest.ports import Run
from mystocks_ingest.web.desk import Desk
from mystocks_ingest.web.refusals import Refusal

_LOOK_SECONDS = 5.0
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


def router(desk: Desk) -> APIRouter:
    """The routes that the gate leaves open."""
    routes = APIRouter(tags=["health"])

    @routes.get("/", response_class=HTMLResponse, summary="What there is")
    async def index() -> Response:
        return HTMLResponse(_INDEX)

    @routes.get("/health/live", summary="The process answers")
    async def live() -> Response:
        return JSONResponse({"status": "live", "version": __version__})

    @routes.get("/health/ready", summary="503 while monitoring should page")
    async def ready() -> Response:
        health = await _look(desk)
        parts = [_part(p) for p in health.worst_first()]
        body = {"ready": health.ready, "state": health.state, "paging": _paging(health), "parts": parts}
        return JSONResponse(body, 200 if health.ready else 503)

    @routes.get("/health", summary="How every part fares, for people and pollers")
    async def health() -> Response:
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

    @routes.get("/metrics", response_class=PlainTextResponse, summary="For Prometheus")
    async def metrics() -> Response:
        with contextlib.suppress(Refusal):  # the other figures are worth having all the same
            desk.metrics.looked(await _look(desk))
        return Response(desk.metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    return routes


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
