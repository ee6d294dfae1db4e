"""``backfill``: fetch history, fill what is missing, resume what was interrupted."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING

import click

from mystocks_ingest.cli import arguments
from mystocks_ingest.cli.arguments import DatasetName, Day, as_json
from mystocks_ingest.cli.printing import document, duration, table

if TYPE_CHECKING:
    from mystocks_ingest.flow.plan import PlanLine
    from mystocks_ingest.flow.report import Job

DEFAULT_DATASETS = ("instrument", "calendar", "bar_1d", "adj_factor")


@click.command()
@click.option(
    "--dataset",
    "dataset",
    type=DatasetName(),
    multiple=True,
    help=f"What to fetch, separated by commas or repeated. Default: {','.join(DEFAULT_DATASETS)}.",
)
@click.option("--from", "first", type=Day(), help="First day, included. Default: a year before the last.")
@click.option("--to", "last", type=Day(), help="Last day, included. Default: today in Shanghai.")
@click.option("--symbols", multiple=True, metavar="A,B", help="Symbols like 600000.SH, separated by commas.")
@click.option(
    "--universe",
    metavar="all|hs300|index|etf|FILE",
    help="Whose history: every stock, delisted ones too (default), an index' members, or a file of symbols.",
)
@click.option("--source", default="auto", show_default=True, help="One source, or auto: the cheapest that answers.")
@click.option("--workers", type=click.IntRange(1, 64), default=8, show_default=True, help="Requests at once.")
@click.option("--dry-run", is_flag=True, help="Print the plan and its cost in calls and minutes; fetch no history.")
@click.option("--force", is_flag=True, help="Fetch again what is already stored.")
@as_json
def backfill(
    dataset: tuple[str, ...],
    first: date | None,
    last: date | None,
    symbols: tuple[str, ...],
    universe: str | None,
    source: str,
    workers: int,
    *,
    dry_run: bool,
    force: bool,
    json: bool,
) -> int:
    """Fetch history, fill what is missing, resume what was interrupted.

    It can be stopped or killed at any moment: typed again, it fetches only what is missing. Exit codes: 0 complete,
    3 partial (what is missing is said), 2 wrong usage or settings, 130 interrupted.
    """
    from mystocks_ingest.cli.process import clock
    from mystocks_ingest.flow.report import Job

    who, whose = arguments.members(symbols, universe)
    job = Job(
        datasets=tuple(d.name for d in arguments.datasets(dataset or DEFAULT_DATASETS)),
        window=arguments.window(first, last, now=clock()),
        symbols=who,
        universe=whose,
        source=source,
        workers=workers,
        force=force,
    )
    if dry_run:
        _show_plan(job, json=json)
        return 0
    return _run(job, json=json)


def _run(job: Job, *, json: bool) -> int:
    from mystocks_ingest.cli import process
    from mystocks_ingest.cli.progress import watching
    from mystocks_ingest.cli.summary import show
    from mystocks_ingest.errands.kinds import Fetch

    settings = process.settings()
    with watching(json=json, relog=lambda: process.prepare(settings)) as watch:
        report = process.done(Fetch(job), watch=watch)
    return show(report, json=json)


def _show_plan(job: Job, *, json: bool) -> None:
    from mystocks_ingest.cli.process import done
    from mystocks_ingest.errands.kinds import Plan

    lines = done(Plan(job))
    if json:
        document(
            {
                "window": {"from": job.window.start, "to": job.window.last},
                "plan": lines,
                "minutes": _minutes(lines),
            }
        )
        return
    if not lines:
        click.echo(f"nothing to fetch for {job.window}: everything is stored; --force fetches it again")
        return
    table(
        ("dataset", "source", "requests", "calls", "time", "symbols", "sessions"),
        [
            (r.dataset, r.source, r.requests, r.calls, duration(r.minutes * 60), r.symbols or "all", r.sessions or "")
            for r in lines
        ],
        title=f"Plan for {job.window}",
        right=("requests", "calls", "time", "symbols", "sessions"),
    )
    click.echo(
        f"about {duration(_minutes(lines) * 60)} at the sources' pace; start it with the same command without --dry-run"
    )


def _minutes(rows: Sequence[PlanLine]) -> float:
    """Sources work side by side, so the busiest decides."""
    busy: dict[str, float] = {}
    for row in rows:
        busy[row.source] = busy.get(row.source, 0.0) + row.minutes
    return max(busy.values(), default=0.0)
