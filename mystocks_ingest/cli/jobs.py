"""``jobs``: what runs when, and the hand on it. The service is asked where one runs, else the state directory is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mystocks_ingest.cli.arguments import as_json
from mystocks_ingest.cli.printing import document, table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mystocks_ingest.flow.schedule import Memory
    from mystocks_ingest.schema.jobs import JobEntry
    from mystocks_ingest.settings import Settings


@click.group()
def jobs() -> None:
    """Show the jobs of jobs.yaml, run one now, pause and resume them."""


@jobs.command("list")
@as_json
def list_jobs(*, json: bool) -> int:
    """Show each job, when it comes next, and how it last ended."""
    from mystocks_ingest import control
    from mystocks_ingest.cli import process

    settings = process.settings()
    told = control.ask(settings.state_dir, {"do": "list"})
    found: Mapping[str, object] = told if told is not None else process.run(_remembered(settings))
    found = {"running": told is not None, **found}
    if json:
        document(found)
        return 0
    lines = found["jobs"]
    table(
        ("job", "when", "datasets", "state", "next (UTC)", "last due (UTC)", "ended", "why"),
        [_row(entry) for entry in (lines if isinstance(lines, list) else [])],
    )
    if told is None:
        click.echo("no service runs on this state directory: start it with `run`")
    if found.get("refused"):
        click.echo(f"jobs.yaml as it stands is not in force: {found['refused']}")
    return 0


@jobs.command("run")
@click.argument("name")
@as_json
def run_job(name: str, *, json: bool) -> int:
    """Run a job now, due or not, and wait for its end. Exit codes: 0 complete, 3 something is missing."""
    from mystocks_ingest import control
    from mystocks_ingest.cli import process

    settings = process.settings()
    found = control.ask(settings.state_dir, {"do": "run", "name": name}, seconds=None)
    if found is None:
        found = process.run(_run_here(settings, name))
    if json:
        document(found)
    else:
        click.echo(f"{name}: {found['status']}" + (f": {found['reason']}" if found["reason"] else ""))
    return 0 if found["status"] == "complete" else 3


@jobs.command()
@click.argument("name")
@as_json
def pause(name: str, *, json: bool) -> int:
    """Let a job rest until `jobs resume NAME`. What runs goes on to its end."""
    return _pause(name, paused=True, json=json)


@jobs.command()
@click.argument("name")
@as_json
def resume(name: str, *, json: bool) -> int:
    """Let a paused job run again, whether a command paused it or jobs.yaml."""
    return _pause(name, paused=False, json=json)


def _pause(name: str, *, paused: bool, json: bool) -> int:
    from mystocks_ingest import control
    from mystocks_ingest.cli import process

    settings = process.settings()
    found = control.ask(settings.state_dir, {"do": "pause" if paused else "resume", "name": name})
    if found is None:
        found = process.run(_pause_here(settings, name, paused=paused))
    if json:
        document(found)
    else:
        click.echo(f"{name} {'is paused' if paused else 'runs when it is due'}")
    return 0


def _row(entry: Mapping[str, object]) -> tuple[object, ...]:
    state = "running" if entry["running"] else "paused" if entry["paused"] else entry["status"] or "waiting"
    datasets = entry["datasets"]
    names = ", ".join(datasets) if isinstance(datasets, list) else ""
    moments = (str(entry[key] or "").replace("T", " ")[:19] for key in ("next", "last_due", "ended"))
    return (entry["name"], entry["when"], names, state, *moments, entry["reason"])


def _entry(settings: Settings, name: str) -> JobEntry:
    from mystocks_ingest.daemon.jobs import path
    from mystocks_ingest.errors import ConfigError
    from mystocks_ingest.schema.jobs import read

    entries = read(path(settings.config_dir))
    found = next((e for e in entries if e.name == name), None)
    if found is None:
        raise ConfigError(f"no job {name}; there are {', '.join(e.name for e in entries) or 'none'}")
    return found


async def _remembered(settings: Settings) -> dict[str, object]:
    """Without a service: the file, and what the journal remembers."""
    from mystocks_ingest.daemon.jobs import line, path
    from mystocks_ingest.flow.schedule import Memory
    from mystocks_ingest.monitor.memories import JobMemories
    from mystocks_ingest.schema.jobs import read
    from mystocks_ingest.sinks.embedded import EmbeddedDatabase

    entries = read(path(settings.config_dir))
    async with EmbeddedDatabase(settings.state_dir) as database:
        known = await (await JobMemories.opened(database)).jobs()
    lines = []
    for entry in entries:
        memory = known.get(entry.name, Memory())
        paused = entry.paused if memory.paused is None else memory.paused
        lines.append(line(entry, memory, paused=paused, running=False))
    return {"jobs": lines, "refused": ""}


async def _pause_here(settings: Settings, name: str, *, paused: bool) -> dict[str, object]:
    from dataclasses import replace

    from mystocks_ingest.flow.schedule import Memory
    from mystocks_ingest.monitor.memories import JobMemories
    from mystocks_ingest.sinks.embedded import EmbeddedDatabase

    _entry(settings, name)
    async with EmbeddedDatabase(settings.state_dir) as database:
        memories = await JobMemories.opened(database)
        known: Memory = (await memories.jobs()).get(name, Memory())
        await memories.remember(name, replace(known, paused=paused))
    return {"name": name, "paused": paused}


async def _run_here(settings: Settings, name: str) -> dict[str, object]:
    """Without a service: in this process, once."""
    from mystocks_ingest import service
    from mystocks_ingest.cli.process import clock
    from mystocks_ingest.daemon.knowledge import Knowledge
    from mystocks_ingest.daemon.work import Work

    entry = _entry(settings, name)
    async with service.opened(settings, now=clock) as opened:
        knowledge = Knowledge(opened)
        await knowledge.refresh()
        ended = await Work(opened, knowledge)(entry, clock())
    return {"name": name, "status": ended.status, "reason": ended.reason}
