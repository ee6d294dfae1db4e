"""A request that is not carried out: its status, one sentence, and which rows or columns are meant."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from starlette.responses import JSONResponse, Response

from mystocks_ingest.errors import ConfigError, Drifted, Limited, Retryable, UnsafeChange
from mystocks_ingest.logs import redact


class Refusal(Exception):
    """Raised inside a request; ``rows`` say what is wrong where."""

    def __init__(
        self,
        status: int,
        sentence: str,
        *,
        rows: Sequence[Mapping[str, object]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(sentence)
        self.status = status
        self.rows = tuple(rows)
        self.headers = dict(headers or {})


def error(
    status: int, sentence: str, headers: Mapping[str, str] | None = None, rows: Sequence[Mapping[str, object]] = ()
) -> Response:
    """``{"error": sentence}`` without a secret in it."""
    body: dict[str, object] = {"error": redact(" ".join(sentence.split()))}
    if rows:
        body["rows"] = [{k: redact(v) if isinstance(v, str) else v for k, v in row.items()} for row in rows]
    return JSONResponse(body, status, headers=dict(headers or {}))


def whole(seconds: float) -> int:
    """As the header has it: whole seconds, one at least."""
    return max(1, math.ceil(seconds))


def after(seconds: float) -> dict[str, str]:
    """The header that says when to come again."""
    return {"Retry-After": str(whole(seconds))}


def answer(exc: Exception) -> Response:
    """The answer to a request that raised one of this program's errors."""
    match exc:
        case Refusal():
            return error(exc.status, str(exc), exc.headers, exc.rows)
        case ConfigError():
            return error(400, str(exc))
        case Retryable():
            return error(503, str(exc), after(exc.after or 5.0))
        case Drifted() | UnsafeChange() | Limited():
            return error(503, str(exc), after(60.0))
        case _:
            return error(502, str(exc))
