"""What can be asked of the service with a token: datasets, rows, runs, gaps, dead letters, jobs."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import date, timedelta
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Header, Path, Query
from pydantic import AfterValidator
from starlette.responses import Response

from mystocks_ingest.errors import ConfigError
from mystocks_ingest.flow.reference import UNIVERSES
from mystocks_ingest.flow.report import Job
from mystocks_ingest.market import symbols as symbology
from mystocks_ingest.market.adjust import How
from mystocks_ingest.market.datasets import DATASETS, SHANGHAI, Dataset
from mystocks_ingest.market.frames import Symbol, Window
from mystocks_ingest.monitor.journal import Buried
from mystocks_ingest.ports import Run
from mystocks_ingest.web import delivery
from mystocks_ingest.web.desk import Desk, JobState
from mystocks_ingest.web.limits import Limits
from mystocks_ingest.web.reading import MEDIA, answered, bounded, form_of, plain
from mystocks_ingest.web.refusals import Refusal

HIDDEN = frozenset({"setting"})
"""Datasets that are not read over HTTP: their rows may be secrets."""
_DAY = re.compile(r"^\d{4}-\d{2}-\d{2}$")
_DEFAULT_DAYS = 30
_LONGEST_GAPS = 800  # days


def _day(text: str) -> str:
    if not _DAY.match(text):
        raise ValueError("write a day as 2024-01-31")
    date.fromisoformat(text)
    return text


Day = Annotated[str, AfterValidator(_day)]
From = Annotated[
    Day | None, Query(alias="from", description="First day, included.", json_schema_extra={"format": "date"})
]
To = Annotated[
    Day | None,
    Query(alias="to", description="Last day, included; default: today.", json_schema_extra={"format": "date"}),
]
Symbols = Annotated[
    list[str], Query(description="600519.SH; several with commas, or the parameter again; none: all.", max_length=8000)
]
Name = Annotated[str, Path(max_length=64, description="The dataset's name.")]
Rows = Annotated[int, Query(ge=1, le=1_000_000, description="At most so many, from the first on.")]
Some = Annotated[int, Query(ge=1, le=1000, description="At most so many.")]


def router(desk: Desk, limits: Limits) -> APIRouter:
    """The routes; the gate has seen to the token."""
    routes = APIRouter(prefix="/api/v1")
    places = asyncio.Semaphore(limits.reads_at_once)

    @asynccontextmanager
    async def turn() -> AsyncIterator[None]:
        """Reads wait for each other, so that they never take all the memory or all the time of the stores."""
        try:
            async with asyncio.timeout(limits.read_seconds), places:
                yield
        except TimeoutError:
            raise Refusal(503, f"it took longer than {limits.read_seconds:g} s; ask for less") from None

    @routes.get("/datasets", tags=["data"], summary="The datasets, their columns and tables")
    async def datasets() -> Response:
        return _json([_described(desk, d) for d in DATASETS.values()])

    @routes.get(
        "/read/{dataset}",
        tags=["data"],
        summary="Stored rows, as JSON, CSV or an Arrow stream by Accept",
        responses={200: {"content": {media: {} for media in MEDIA.values()}}},
    )
    async def read(
        dataset: Name,
        symbols: Symbols = [],  # noqa: B006 - FastAPI copies it
        first: From = None,
        last: To = None,
        adjust: How = "none",
        limit: Rows = 10_000,
        accept: Annotated[str, Header(include_in_schema=False)] = "",
    ) -> Response:
        wanted = _dataset(dataset)
        if wanted.name in HIDDEN:
            raise Refusal(404, f"{dataset} is not read over HTTP, for its rows may be secrets; use the command `read`")
        if adjust != "none" and wanted.interval is None:
            raise Refusal(400, f"adjust={adjust} is for bars, and {dataset} holds none")
        who, window = _whose(wanted, symbols), _window(desk, first, last)
        bounded(wanted, window, len(who), limits.read_rows)
        async with turn():
            rows = await desk.read(wanted, who, window, adjust, limit + 1)  # one more tells that there are more
        about = {"dataset": wanted.name, "from": window.start, "to": window.last, "adjust": adjust}
        return answered(rows, form_of(accept), about=about, limit=limit)

    @routes.get("/runs", tags=["work"], summary="The latest runs, newest first")
    async def runs(limit: Some = 20) -> Response:
        return _json([_run(r) for r in await desk.runs(limit=limit)])

    @routes.get("/gaps", tags=["work"], summary="What should be stored by now and is not")
    async def gaps(
        dataset: Annotated[list[str], Query(max_length=20)] = ["bar_1d"],  # noqa: B006 - FastAPI copies it
        symbols: Symbols = [],  # noqa: B006 - likewise
        universe: Annotated[Literal[*UNIVERSES], Query(description="Whose, where no symbol is named.")] = "all",  # type: ignore[valid-type]
        first: From = None,
        last: To = None,
        limit: Some = 100,
    ) -> Response:
        names = tuple(dict.fromkeys(_dataset(name).name for name in _parts(dataset)))
        window = _window(desk, first, last)
        if (window.end - window.start).days > _LONGEST_GAPS:
            raise Refusal(413, f"at most {_LONGEST_GAPS} days at once; the command `gaps` takes more")
        job = Job(names, window, _symbols(symbols) or None, str(universe))
        async with turn():
            found = await desk.gaps(job)
        about = {"from": window.start, "to": window.last, "count": len(found), "truncated": len(found) > limit}
        lines = [
            {
                "dataset": g.dataset,
                "symbol": g.symbol,
                "sessions": g.sessions,
                "windows": [{"from": w.start, "to": w.last} for w in g.windows],
                "why": g.why,
            }
            for g in found[:limit]
        ]
        return _json({**about, "gaps": lines})

    @routes.get("/dead-letters", tags=["work"], summary="Refused rows that were not replayed, oldest first")
    async def letters(
        dataset: Annotated[str | None, Query(max_length=64)] = None,
        rule: Annotated[str | None, Query(max_length=64)] = None,
        source: Annotated[str | None, Query(max_length=64)] = None,
        limit: Some = 50,
        offset: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
    ) -> Response:
        name = None if dataset is None else _dataset(dataset).name
        found = await desk.letters(dataset=name, rule=rule, source=source, limit=limit, offset=offset)
        return _json([_letter(b) for b in found])

    @routes.get("/jobs", tags=["work"], summary="The jobs, when they are due and how they ended")
    async def jobs() -> Response:
        return _json([_job(j) for j in await desk.jobs()])

    @routes.post(
        "/jobs/{job}/{doing}", tags=["work"], summary="Run a job now, pause it, or let it go on", status_code=202
    )
    async def tell(
        job: Annotated[str, Path(max_length=64)], doing: Annotated[Literal["run", "pause", "resume"], Path()]
    ) -> Response:
        known = [j.name for j in await desk.jobs()]
        if job not in known:
            raise Refusal(404, f"no such job; there are {', '.join(known) or 'none'}")
        try:
            if doing == "run":
                await desk.start(job)
            else:
                await desk.pause(job, paused=doing == "pause")
        except ConfigError as exc:
            raise Refusal(409, str(exc)) from exc
        return _json({"job": job, "done": {"run": "started", "pause": "paused", "resume": "resumed"}[doing]}, 202)

    return routes


def _json(value: object, status: int = 200) -> Response:
    return Response(json.dumps(value, default=plain, ensure_ascii=False), status, media_type="application/json")


def _dataset(name: str) -> Dataset:
    if name not in DATASETS:
        raise Refusal(404, f"no dataset {name!a}; there are {', '.join(DATASETS)}")
    return DATASETS[name]


def _parts(values: Sequence[str]) -> list[str]:
    return [item.strip() for value in values for item in value.split(",") if item.strip()]


def _symbols(values: Sequence[str]) -> tuple[Symbol, ...]:
    return tuple(dict.fromkeys(symbology.parse(text) for text in _parts(values)))


def _whose(wanted: Dataset, values: Sequence[str]) -> tuple[Symbol, ...]:
    who = _symbols(values)
    if who and "symbol" not in wanted.schema.names:
        raise Refusal(400, f"{wanted.name} is not kept by symbol; leave `symbols` out")
    return who


def _window(desk: Desk, first: str | None, last: str | None) -> Window:
    today = desk.now().astimezone(ZoneInfo(SHANGHAI)).date()
    final = date.fromisoformat(last) if last is not None else today
    if not 1990 <= final.year <= 2100:
        raise Refusal(400, f"to={final} lies outside 1990 to 2100")
    start = date.fromisoformat(first) if first is not None else final - timedelta(days=_DEFAULT_DAYS)
    if start > final:
        raise Refusal(400, f"from={start} is after to={final}; exchange the two")
    return Window(max(start, date(1990, 1, 1)), final + timedelta(days=1))


def _described(desk: Desk, wanted: Dataset) -> dict[str, object]:
    takes = wanted in delivery.deliverable()
    return {
        "name": wanted.name,
        "category": wanted.category,
        "key": wanted.key,
        "time": wanted.time,
        "interval": wanted.interval,
        "columns": [
            {"name": f.name, "type": str(f.type), "unit": f.unit, "required": f.required} for f in wanted.fields
        ],
        "tables": [
            {"name": t.name, "store": t.database_type.store, "route": t.route} for t in desk.tables.routes(wanted)
        ],
        "ingest": f"/api/v1/ingest/{wanted.name}" if takes else None,
    }


def _run(run: Run) -> dict[str, object]:
    return {
        "id": run.id,
        "command": run.command,
        "started_at": run.started_at,
        "ended_at": run.ended_at,
        "status": run.status,
        "detail": dict(run.detail),
    }


def _letter(buried: Buried) -> dict[str, object]:
    letter = buried.letter
    return {
        "id": buried.id,
        "dataset": letter.dataset,
        "source": letter.source,
        "symbol": letter.symbol,
        "time": letter.time,
        "rule": letter.rule,
        "reason": letter.reason,
        "raw": letter.raw,
        "row": letter.row,
        "at": letter.at,
        "run_id": letter.run_id,
        "seen": buried.seen,
    }


def _job(job: JobState) -> dict[str, object]:
    return {name: getattr(job, name) for name in JobState.__slots__}
