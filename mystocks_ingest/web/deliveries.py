"""Rows that others deliver: strategies and gateways with their ticks, orders, fills, positions, accounts and signals."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Annotated

from fastapi import APIRouter, Header, Query
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from mystocks_ingest.flow.ingest import Taken
from mystocks_ingest.logs import get, redact
from mystocks_ingest.market.datasets import Dataset
from mystocks_ingest.web import delivery
from mystocks_ingest.web.delivery import Form
from mystocks_ingest.web.desk import Desk
from mystocks_ingest.web.limits import Limits
from mystocks_ingest.web.refusals import Refusal, after
from mystocks_ingest.web.repeats import Answers, Forgetful, Repeats

log = get("ingest")

_SHOWN = 100  # refused rows named in one answer

Sender = Annotated[
    str, Query(pattern=r"^[a-z][a-z0-9_-]{0,14}$", description="Who delivers; the rows' source is push:NAME.")
]
Key = Annotated[
    str,
    Header(
        alias="Idempotency-Key",
        pattern=r"^[\x21-\x7e]{0,200}$",
        description="The same key with the same body is carried out once, and answered alike.",
    ),
]


def router(desk: Desk, limits: Limits, answers: Answers | None = None) -> APIRouter:
    """One route a dataset, so that the description says what each one takes. ``answers`` are those given before."""
    routes = APIRouter(prefix="/api/v1", tags=["ingest"])
    repeats = Repeats(answers if answers is not None else Forgetful())
    large = asyncio.Semaphore(limits.large_bodies_at_once)
    for wanted in delivery.deliverable():
        form = delivery.form(wanted, desk.tables)
        schema = delivery.body_schema(form, limits.delivered_rows)
        routes.add_api_route(
            f"/ingest/{wanted.name}",
            _taking(form, desk, limits, repeats, large),
            methods=["POST"],
            name=f"ingest_{wanted.name}",
            summary=f"Deliver rows of {wanted.name}",
            description="All rows are refused (4xx) where one has a wrong cell; those that fail a check are named.",
            openapi_extra={"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}},
            responses={409: {"description": "Conflict"}, 408: {"description": "Timeout"}, 415: {"description": "Type"}},
        )

    @routes.post("/ingest/{dataset}", include_in_schema=False)
    async def unknown(dataset: str) -> Response:
        names = ", ".join(d.name for d in delivery.deliverable())
        raise Refusal(404, f"{dataset[:64]!a} is not delivered over HTTP; these are: {names}")

    return routes


def _taking(
    form: Form, desk: Desk, limits: Limits, repeats: Repeats, large: asyncio.Semaphore
) -> Callable[..., Awaitable[Response]]:
    wanted = form.wanted

    async def take(request: Request, source: Sender = "client", key: Key = "") -> Response:
        kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
        coding = request.headers.get("content-encoding", "identity").lower()
        if kind != "application/json" or coding != "identity":
            raise Refusal(415, "rows are delivered with Content-Type: application/json, and not compressed")
        async with AsyncExitStack() as stack:
            stated = _stated(request)
            if stated is None or limits.large_body_bytes <= stated <= limits.body_bytes:
                await stack.enter_async_context(_turn(large, limits))
            return await carried_out(request, source, key)

    async def carried_out(request: Request, source: str, key: str) -> Response:
        body = await _body(request, limits)
        owner = str(request.scope.get("owner", ""))
        async with repeats.of((owner, wanted.name), key, source.encode() + b"\0" + body) as known:
            if known.body is None:
                sender = f"push:{source}"
                frame = await asyncio.to_thread(
                    delivery.frame, form, body, source=sender, at=desk.now(), most_rows=limits.delivered_rows
                )
                taken = await desk.take(frame)
                # clients choose their names, so the metrics know them as one
                desk.metrics.received(wanted.name, "push", len(frame))
                known.status, known.body = _told(wanted, taken, len(frame))
                log.info("rows.delivered", dataset=wanted.name, source=sender, owner=owner, rows=len(taken.accepted))
            return JSONResponse(dict(known.body), known.status)

    return take


def _told(wanted: Dataset, taken: Taken, sent: int) -> tuple[int, dict[str, object]]:
    refused = [
        {"row": row, "rule": rule, "reason": redact(reason)}
        for verdict in taken.verdicts
        for row, rule, reason in zip(delivery.numbers(verdict.frame), verdict.rules, verdict.reasons, strict=True)
    ]
    refused.sort(key=lambda line: str(line["row"]).zfill(9))
    count, accepted = len(refused), len(taken.accepted)
    body: dict[str, object] = {
        "dataset": wanted.name,
        "received": sent,
        "accepted": accepted,
        "refused": count,
        "rows": refused[:_SHOWN],
    }
    if count and not accepted:
        body["error"] = f"every row was refused; the first one: {refused[0]['reason']}"
        return 422, body
    return 200, body


def _stated(request: Request) -> int | None:
    """The body's length, as its head says."""
    stated = request.headers.get("content-length", "")
    return int(stated[:20]) if stated.isdecimal() else None


@asynccontextmanager
async def _turn(places: asyncio.Semaphore, limits: Limits) -> AsyncIterator[None]:
    """One of the places, as soon as there is one; nothing of the body is read before, so that the sender waits."""
    try:
        async with asyncio.timeout(limits.body_seconds):
            await places.acquire()
    except TimeoutError:
        raise Refusal(503, "too many large deliveries are under way; come again", headers=after(5)) from None
    try:
        yield
    finally:
        places.release()


async def _body(request: Request, limits: Limits) -> bytes:
    """Read while it is small enough and comes fast enough."""
    stated, most = _stated(request), limits.body_bytes
    if stated is not None and stated > most:
        raise Refusal(413, f"the body is larger than {most:,} bytes", headers={"Connection": "close"})
    pieces, size = [], 0
    try:
        async with asyncio.timeout(limits.body_seconds):
            async for piece in request.stream():
                pieces.append(piece)
                size += len(piece)
                if size > most:
                    raise Refusal(413, f"the body is larger than {most:,} bytes", headers={"Connection": "close"})
    except TimeoutError:
        raise Refusal(408, f"the body did not come within {limits.body_seconds:g} s") from None
    except ClientDisconnect:
        raise Refusal(400, "the connection ended before the body did") from None
    return b"".join(pieces)
