"""The closing words of a backfill: rows, refusals, gaps, and what to type next."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import click

from mystocks_ingest.cli import as_typed
from mystocks_ingest.cli.gaps import values
from mystocks_ingest.cli.printing import dumps, duration, table

if TYPE_CHECKING:
    from mystocks_ingest.flow.report import Report

SHOWN = 10  # gaps listed; the rest is counted


def show(report: Report, *, json: bool) -> int:
    """Print the report and return the exit code it asks for."""
    if json:
        click.echo(dumps({"event": "done", **as_values(report)}))
    else:
        rows(report)
        troubles(report)
        advice(report)
    return report.exit_code


def as_values(report: Report) -> dict[str, object]:
    """The report in JSON's terms."""
    return {
        "status": report.status,
        "exit_code": report.exit_code,
        "seconds": round(report.seconds, 3),
        "requests": report.requests,
        "rows": [
            {"dataset": d, "source": s, "rows": report.rows[d, s], "calls": report.calls[d, s]}
            for d, s in dict.fromkeys((*report.rows, *report.calls))
        ],
        "refused": [{"dataset": d, "source": s, "rule": r, "rows": n} for (d, s, r), n in report.refused.items()],
        "outcomes": [{"source": s, "outcome": o, "requests": n} for (s, o), n in report.outcomes.items()],
        "failures": report.failures,
        "missing": [values(m) for m in report.missing],
        "absent": report.absent,
        "warnings": report.warnings,
        "stopped": report.stopped,
        "provisional": report.provisional,
    }


def rows(report: Report) -> None:
    """The table dataset x source, and how each source's requests ended."""
    if not report.requests and not report.stopped:
        click.echo("nothing to fetch: everything asked for is stored already")
        return
    refused: Counter[tuple[str, str]] = Counter()
    for (dataset, source, _), count in report.refused.items():
        refused[dataset, source] += count
    pairs = dict.fromkeys((*report.rows, *report.calls, *refused))
    table(
        ("dataset", "source", "rows stored", "calls", "refused"),
        [(d, s, report.rows[d, s], report.calls[d, s], refused[d, s] or "") for d, s in pairs],
        title=f"{report.status} in {duration(report.seconds)}",
        right=("rows stored", "calls", "refused"),
    )


def troubles(report: Report) -> None:
    """Refusals by rule, failed requests by source, gaps with their reasons."""
    for (dataset, source, rule), count in report.refused.items():
        click.echo(f"refused: {count:,} {'row' if count == 1 else 'rows'} of {dataset} from {source} by rule {rule}")
    for source, reason in report.failures.items():
        ended = ", ".join(
            f"{count:,} {outcome.value}"
            for (name, outcome), count in report.outcomes.items()
            if name == source and outcome.value not in ("ok", "empty")
        )
        click.echo(f"failed: {source}: {ended}; last: {reason}")
    for line in report.absent:
        click.echo(f"not fetched: {line}")
    if report.stopped:
        click.echo(f"stopped early: {report.stopped}; what is stored stays stored")
    for gap in report.missing[:SHOWN]:
        windows = ", ".join(str(w) for w in gap.windows[:3]) + (", ..." if len(gap.windows) > 3 else "")
        click.echo(f"missing: {gap.dataset} {gap.symbol}: {gap.sessions:,} sessions ({windows}); {gap.why}")
    if len(report.missing) > SHOWN:
        rest = report.missing[SHOWN:]
        click.echo(f"missing: {sum(g.sessions for g in rest):,} more sessions of {len(rest):,} symbols; see `gaps`")
    if report.provisional:
        click.echo(f"provisional: {report.provisional:,} rows of a session that has not closed; fetched again after it")
    for line in report.warnings:
        click.echo(f"warning: {line}")


def advice(report: Report) -> None:
    """What to type next."""
    if report.refused:
        click.echo(f"next: {as_typed()} dead-letters list   # the refused rows, each with its reason")
    if report.status == "partial":
        click.echo(
            f"next: the same command again fetches only what is missing; {as_typed()} sources   # budgets, states"
        )
    stored = next((d for (d, _), n in report.rows.items() if n and d.startswith("bar_")), None)
    if stored is not None:
        click.echo(f"next: {as_typed()} read {stored} 600000.SH --adjust back   # or any symbol you fetched")
