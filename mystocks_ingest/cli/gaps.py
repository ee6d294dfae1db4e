"""``gaps``: what should be stored and is not. Nothing is fetched but the calendar and the instrument list."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING

import click

from mystocks_ingest.cli import arguments, as_typed
from mystocks_ingest.cli.arguments import DatasetName, Day, as_json
from mystocks_ingest.cli.printing import document, table

if TYPE_CHECKING:
    from mystocks_ingest.flow.report import Missing


@click.command()
@click.option("--dataset", type=DatasetName(), multiple=True, default=("bar_1d",), show_default=True)
@click.option("--from", "first", type=Day(), help="First day, included. Default: a year before the last.")
@click.option("--to", "last", type=Day(), help="Last day, included. Default: today in Shanghai.")
@click.option("--symbols", multiple=True, metavar="A,B", help="Symbols, separated by commas. Default: the universe.")
@click.option("--universe", metavar="all|hs300|index|etf|FILE", help="Whose gaps; every stock by default.")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="At most so many lines.")
@as_json
def gaps(
    dataset: tuple[str, ...],
    first: date | None,
    last: date | None,
    symbols: tuple[str, ...],
    universe: str | None,
    limit: int,
    *,
    json: bool,
) -> int:
    """Show what should be stored and is not."""
    from mystocks_ingest.cli.process import clock, done
    from mystocks_ingest.errands.kinds import Gaps
    from mystocks_ingest.flow.report import Job

    who, whose = arguments.members(symbols, universe)
    names = tuple(d.name for d in arguments.datasets(dataset))
    job = Job(names, arguments.window(first, last, now=clock()), who, whose)
    found = done(Gaps(job))
    if json:
        document({"window": {"from": job.window.start, "to": job.window.last}, "gaps": [values(g) for g in found]})
        return 3 if found else 0
    if not found:
        click.echo(f"no gaps: {', '.join(names)} is complete for {job.window}")
        return 0
    table(
        ("dataset", "symbol", "sessions", "windows", "why"),
        [(g.dataset, g.symbol, g.sessions, _windows(g), g.why) for g in found[:limit]],
        right=("sessions",),
    )
    sessions = sum(g.sessions for g in found)
    click.echo(f"{sessions:,} sessions of {len(found):,} symbols and datasets are missing")
    click.echo(
        f"next: {as_typed()} backfill --dataset {','.join(names)} --from {job.window.start} --to {job.window.last}"
    )
    return 3


def values(gap: Missing) -> dict[str, object]:
    """A gap in JSON's terms."""
    windows = [{"from": w.start, "to": w.last} for w in gap.windows]
    return {
        "dataset": gap.dataset,
        "symbol": gap.symbol,
        "sessions": gap.sessions,
        "windows": windows,
        "why": gap.why,
    }


def _windows(gap: Missing) -> str:
    shown = ", ".join(str(w) for w in gap.windows[:2])
    return f"{shown}, {len(gap.windows) - 2} more" if len(gap.windows) > 2 else shown
