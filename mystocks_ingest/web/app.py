"""The application: FastAPI around a ``Desk``, behind the gate. Every error is ``{"error": "one sentence"}``."""

from __future__ import annotations

import asyncio
from http import HTTPStatus

from fastapi import Depends, FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPBearer
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from mystocks_ingest import __version__
from mystocks_ingest.errors import IngestError
from mystocks_ingest.web import deliveries, questions, wellbeing
from mystocks_ingest.web.desk import Desk
from mystocks_ingest.web.gate import Gate
from mystocks_ingest.web.limits import Limits
from mystocks_ingest.web.refusals import Refusal, answer, error
from mystocks_ingest.web.repeats import Answers
from mystocks_ingest.web.tokens import Tokens

_BEARER = HTTPBearer(auto_error=False, description="A token whose SHA-256 stands in MYSTOCKS_HTTP_TOKENS.")
_TEXT = (
    "Everything under /api/v1 needs a token: `Authorization: Bearer TOKEN`. Health and metrics need none. "
    'An error is `{"error": "one sentence"}`.'
)


class Error(BaseModel):
    """What every refused request is answered with."""

    error: str
    rows: list[dict[str, object]] = []


def _documented(*statuses: int) -> dict[int | str, dict[str, object]]:
    return {s: {"model": Error, "description": HTTPStatus(s).phrase} for s in statuses}


def made(desk: Desk, tokens: Tokens, limits: Limits | None = None, answers: Answers | None = None) -> ASGIApp:
    """The application. Without a token in ``tokens`` nobody may use /api/v1.

    ``answers``: those given to deliveries with a key, where they outlive this process.
    """
    limits = limits or Limits()
    app = FastAPI(
        title="mystocks-ingest",
        version=__version__,
        description=_TEXT,
        docs_url=None,  # its page would load scripts from elsewhere
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,  # a redirect would name the address that the client states
    )

    @app.get("/openapi.json", include_in_schema=False)
    async def description() -> Response:
        return JSONResponse(await asyncio.to_thread(app.openapi))  # made at first use, which takes a while

    app.include_router(wellbeing.router(desk, limits), responses=_documented(429, 503))
    guarded: list[object] = [Depends(_BEARER), Depends(_known_parameters)]
    for part in (questions.router(desk, limits), deliveries.router(desk, limits, answers)):
        app.include_router(
            part,
            dependencies=guarded,  # type: ignore[arg-type]
            responses=_documented(400, 401, 404, 413, 422, 429, 503),
        )
    for known in (IngestError, Refusal):
        app.add_exception_handler(known, _ours)
    for refused in (RequestValidationError, HTTPException):
        app.add_exception_handler(refused, _malformed)
    app.add_exception_handler(Exception, _defect)
    return Gate(app, tokens=tokens, limits=limits, metrics=desk.metrics)


async def _known_parameters(request: Request) -> None:
    """``symbol`` in place of ``symbols`` would be answered with the whole market."""
    route = request.scope["route"]
    known = [parameter.alias for parameter in route.dependant.query_params]
    for name in request.query_params:
        if name not in known:
            there = f"there are {', '.join(known)}" if known else "there is none"
            raise Refusal(422, f"no parameter {name[:60]!a} here; {there}")


async def _ours(_: Request, exc: Exception) -> Response:
    return answer(exc)


async def _defect(_: Request, __: Exception) -> Response:
    """The gate hears of it as well, and logs it."""
    return error(500, "something failed inside the service; its log has the details")


async def _malformed(_: Request, exc: Exception) -> Response:
    if isinstance(exc, HTTPException):
        sentence = {404: "there is nothing at this address", 405: "this address does not take that method"}
        return error(exc.status_code, sentence.get(exc.status_code, str(exc.detail)), exc.headers)
    wrong = exc.errors() if isinstance(exc, RequestValidationError) else ()
    return error(422, "; ".join(f"{e['loc'][-1]}: {e['msg'].removeprefix('Value error, ')}" for e in wrong[:5]))
