"""What every request passes first: tokens, rates, headers of the answer, and an end to whatever went wrong."""

from __future__ import annotations

import re
import time
import uuid
from collections import Counter

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mystocks_ingest.logs import get
from mystocks_ingest.monitor.metrics import Metrics
from mystocks_ingest.web.limits import Allowance, Limits
from mystocks_ingest.web.refusals import after, error, whole
from mystocks_ingest.web.tokens import Tokens
from mystocks_ingest.web.wellbeing import POLLED

log = get("http")

OPEN = frozenset({"/", "/openapi.json"}) | POLLED
"""Paths without a token: they tell nothing of the data."""
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_REQUEST_ID = re.compile(r"^[A-Za-z0-9_.-]{1,64}$")
_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY"}


class Gate:
    """An ASGI application around another one. The owner of the token stands in ``scope["owner"]``."""

    def __init__(self, app: ASGIApp, *, tokens: Tokens, limits: Limits, metrics: Metrics) -> None:
        self._app = app
        self._tokens = tokens
        self._metrics = metrics
        self._at_once = limits.requests_at_once
        self._under_way: Counter[str] = Counter()  # by the token's owner
        self._requests = Allowance(limits.requests_per_second, limits.burst)
        self._strangers = Allowance(limits.wrong_tokens / 60.0, limits.wrong_tokens)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        if scope["method"] == "HEAD" and scope["path"] in OPEN:  # pollers may ask so; the server leaves the body out
            scope = {**scope, "method": "GET"}
        began = time.perf_counter()
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request_id = given if _REQUEST_ID.match(given) else uuid.uuid4().hex[:12]
        status = 0

        async def answering(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = int(message["status"])
                outgoing = MutableHeaders(scope=message)
                outgoing["X-Request-Id"] = request_id
                for name, value in _HEADERS.items():
                    outgoing.setdefault(name, value)
            await send(message)

        with structlog.contextvars.bound_contextvars(request=request_id):
            owner = None
            try:
                refused = self._refused(scope, headers)
                if refused is None:
                    owner = str(scope.get("owner", ""))
                    self._under_way[owner] += 1
                await (self._app if refused is None else refused)(scope, receive, answering)
            except Exception:
                log.exception("request.failed", method=scope["method"], path=scope["path"])
                if not status:
                    await error(500, "something failed inside the service; its log has the details")(
                        scope, receive, answering
                    )
            finally:
                if owner is not None:
                    self._under_way[owner] -= 1
                method = scope["method"] if scope["method"] in _METHODS else "other"
                route = str(getattr(scope.get("route"), "path", "other"))
                self._metrics.answered(route, method, status, time.perf_counter() - began)

    def _refused(self, scope: Scope, headers: Headers) -> Response | None:
        client = scope.get("client")
        address = str(client[0]) if client else "?"
        if scope["path"] in POLLED:
            return None
        if scope["path"] in OPEN:
            return self._too_often(f"open {address}")
        if not self._tokens:
            return error(401, "no token is set up: put the SHA-256 of one into MYSTOCKS_HTTP_TOKENS", _BEARER)
        scheme, _, presented = headers.get("authorization", "").partition(" ")
        owner = self._tokens.owner(presented.strip()) if scheme.lower() == "bearer" else None
        if owner is None:
            wait = self._strangers.wait(address)
            if wait:
                return error(
                    429, f"too many requests without a valid token; come again in {whole(wait)} s", after(wait)
                )
            return error(401, "this needs a token: send `Authorization: Bearer TOKEN`", _BEARER)
        scope["owner"] = owner
        if self._under_way[owner] >= self._at_once:
            return error(
                429, f"{self._at_once} requests with this token are under way; wait for their answers", after(1)
            )
        return self._too_often(f"token {owner}")

    def _too_often(self, client: str) -> Response | None:
        wait = self._requests.wait(client)
        return error(429, f"too many requests; come again in {whole(wait)} s", after(wait)) if wait else None


_BEARER = {"WWW-Authenticate": "Bearer"}
