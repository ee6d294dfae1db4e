"""Stored rows as an answer: JSON, CSV or an Arrow stream, written piece by piece."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Iterator, Mapping
from datetime import date, datetime
from typing import Literal

import pyarrow as pa
from pyarrow import csv, ipc
from starlette.responses import Response, StreamingResponse

from mystocks_ingest.market.datasets import Dataset
from mystocks_ingest.market.frames import Window
from mystocks_ingest.web.refusals import Refusal

Form = Literal["json", "csv", "arrow"]
MEDIA: Mapping[Form, str] = {
    "json": "application/json",
    "csv": "text/csv",
    "arrow": "application/vnd.apache.arrow.stream",
}
_PIECE = 2_000  # rows turned into text at once
_MARKET = 6_000  # symbols, where none is named
_A_DAY = {"1m": 240, "5m": 48, "15m": 16, "30m": 8, "60m": 4}  # bars of a session
_LIVE_A_DAY = 5_000  # rows of a symbol and session of ticks, quotes and books
_SESSIONS = 0.7  # of calendar days


def bounded(wanted: Dataset, window: Window, symbols: int, most: int) -> None:
    """Raises Refusal where so wide a question would read more than ``most`` rows."""
    if wanted.time is None:
        return
    live = wanted.name in ("tick", "quote", "depth")
    each = _LIVE_A_DAY if live else _A_DAY.get(wanted.interval or "", 1)
    days = max(1.0, (window.end - window.start).days * _SESSIONS)
    rows = int((symbols or _MARKET) * days * each)
    if rows > most:
        raise Refusal(
            413, f"that is about {rows:,} rows of {wanted.name}, more than {most:,}: name symbols, or a shorter time"
        )


def form_of(accept: str) -> Form:
    """The first form that the client takes; JSON where it names none of ours."""
    for word in accept.lower().split(","):
        media = word.partition(";")[0].strip()
        match media:
            case "text/csv":
                return "csv"
            case "application/vnd.apache.arrow.stream":
                return "arrow"
            case "application/json" | "*/*" | "application/*":
                return "json"
    return "json"


def answered(rows: pa.Table, form: Form, *, about: Mapping[str, object], limit: int) -> Response:
    """The first ``limit`` of ``rows``; ``about`` opens the JSON answer, and each answer says if there were more."""
    truncated = rows.num_rows > limit
    rows = rows.slice(0, limit)
    headers = {"X-Rows": str(rows.num_rows), "X-Truncated": "true" if truncated else "false", "Vary": "Accept"}
    match form:
        case "json":
            head = {**about, "count": rows.num_rows, "truncated": truncated}
            pieces = _json(rows, head)
        case "csv":
            pieces = _csv(rows)
        case "arrow":
            pieces = _arrow(rows)
    return StreamingResponse(pieces, media_type=MEDIA[form], headers=headers)


def _json(rows: pa.Table, head: Mapping[str, object]) -> Iterator[bytes]:
    yield json.dumps(head, default=plain, ensure_ascii=False)[:-1].encode() + b', "rows": ['
    before = "\n"
    for piece in rows.to_batches(max_chunksize=_PIECE):
        lines = [json.dumps(_finite(row), default=plain, ensure_ascii=False) for row in piece.to_pylist()]
        yield (before + ",\n".join(lines)).encode()
        before = ",\n"
    yield b"\n]}\n"


def _finite(row: dict[str, object]) -> dict[str, object]:
    """JSON has no word for NaN and the infinities."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}


def _csv(rows: pa.Table) -> Iterator[bytes]:
    head = True
    for piece in rows.to_batches(max_chunksize=_PIECE) or [pa.RecordBatch.from_pylist([], schema=rows.schema)]:
        out = io.BytesIO()
        csv.write_csv(piece, out, csv.WriteOptions(include_header=head, quoting_style="needed"))
        head = False
        yield out.getvalue()


def _arrow(rows: pa.Table) -> Iterator[bytes]:
    out = io.BytesIO()
    with ipc.new_stream(out, rows.schema) as writer:
        for piece in rows.to_batches(max_chunksize=50_000):
            writer.write_batch(piece)
            yield out.getvalue()
            out.seek(0)
            out.truncate()
    yield out.getvalue()


def plain(value: object) -> object:
    """What ``json.dumps`` does not know by itself."""
    if isinstance(value, date | datetime):
        return value.isoformat()
    return str(value)
