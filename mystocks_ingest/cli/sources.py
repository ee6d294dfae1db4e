"""``sources``: who can be asked, what budget is left, who is shut out and until when; ``sources test`` calls one."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import click

from mystocks_ingest.cli.arguments import as_json
from mystocks_ingest.cli.printing import document, duration, table

if TYPE_CHECKING:
    from mystocks_ingest.ports import Source
    from mystocks_ingest.sources.pacing import SourceStatus
    from mystocks_ingest.sources.pacing_store import Closed, Used


@runtime_checkable
class Accountable(Protocol):
    """A source that keeps count of its calls; those built in do."""

    def status(self) -> SourceStatus: ...


@dataclass(frozen=True, slots=True)
class Entry:
    """One source as the command shows it; times are UTC."""

    source: str
    family: str = ""
    datasets: tuple[str, ...] = ()
    state: str = "ready"
    budget: tuple[Used, ...] = ()
    closed: tuple[Closed, ...] = ()
    last_success: datetime | None = None
    last_failure: datetime | None = None
    last_error: str = ""


@click.group(invoke_without_command=True)
@as_json
@click.pass_context
def sources(ctx: click.Context, *, json: bool) -> None:
    """Show each source's state and budget; `sources test NAME` calls one.

    Budgets are counted in the state directory, so they hold across restarts. Nothing is called.
    """
    if ctx.invoked_subcommand is not None:
        return
    from mystocks_ingest.cli import process

    entries = process.run(_entries())
    if json:
        document(entries)
        return
    now = process.clock()
    table(
        ("source", "family", "datasets", "budget left", "state", "last success", "last error"),
        [
            (
                e.source,
                e.family,
                ", ".join(e.datasets),
                "\n".join(f"{u.left:,} of {u.rate.calls:,} in {_span(u.rate.seconds)}" for u in e.budget),
                e.state,
                _ago(e.last_success, now),
                f"{e.last_error} ({_ago(e.last_failure, now)})" if e.last_failure else "",
            )
            for e in entries
        ],
    )


async def _entries() -> list[Entry]:
    from mystocks_ingest import sources as registry
    from mystocks_ingest.cli import process
    from mystocks_ingest.errors import ConfigError, Denied

    settings = process.settings()
    entries = []
    for name in registry.names():
        try:
            source = registry.open_source(name, settings, now=process.clock)
        except (ConfigError, Denied) as exc:
            entries.append(Entry(name, state=f"not set up: {exc}"))
            continue
        try:
            entries.append(_described(source, asked=name in registry.preferred(settings)))
        finally:
            await source.aclose()
    return entries


def _described(source: Source, *, asked: bool) -> Entry:
    """``asked``: whether ``--source auto`` asks it, which needs its account or folder to be set."""
    datasets = tuple(sorted(source.offers))
    ready = "ready" if asked else "not asked by auto"
    if not isinstance(source, Accountable):
        return Entry(source.name, source.family, datasets, ready)
    status = source.status()
    doors = [
        f"{'banned' if c.banned else 'limited'}{'' if c.api == '*' else ' ' + c.api} until {c.until:%m-%d %H:%M} UTC"
        for c in status.closed
    ]
    return Entry(
        source.name,
        source.family,
        datasets,
        "\n".join(doors) or ready,
        status.used,
        status.closed,
        status.last_success,
        status.last_failure,
        status.last_error,
    )


@sources.command()
@click.argument("name")
@as_json
def test(name: str, *, json: bool) -> int:
    """Call one source once, as cheaply as it can be, and say how that ended."""
    from mystocks_ingest.cli import process

    outcome, seconds, detail = process.run(_probe(name))
    if json:
        document({"source": name, "outcome": outcome, "seconds": round(seconds, 3), "detail": detail})
    else:
        click.echo(f"{name}: {outcome} after {duration(seconds)}" + (f"; {detail}" if detail else ""))
    return 0 if outcome == "ok" else 3


async def _probe(name: str) -> tuple[str, float, str]:
    from mystocks_ingest import sources as registry
    from mystocks_ingest.cli import process
    from mystocks_ingest.errors import ConfigError, IngestError, outcome_of
    from mystocks_ingest.logs import redact

    source = registry.open_source(name, process.settings(), now=process.clock)
    began = time.monotonic()
    try:
        await source.probe()
    except ConfigError:
        raise
    except IngestError as exc:
        return outcome_of(exc).value, time.monotonic() - began, redact(" ".join(str(exc).split()))
    else:
        return "ok", time.monotonic() - began, ""
    finally:
        await source.aclose()


def _span(seconds: float) -> str:
    names = {1: "a second", 60: "a minute", 3600: "an hour", 86400: "a day"}
    return names.get(int(seconds), duration(seconds)) if seconds == int(seconds) else duration(seconds)


def _ago(moment: datetime | None, now: datetime) -> str:
    return "" if moment is None else f"{duration(max((now - moment).total_seconds(), 0))} ago"
