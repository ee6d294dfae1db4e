"""``run``: the service that stays up."""

from __future__ import annotations

import sys
import traceback
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from mystocks_ingest.cli.arguments import as_json
from mystocks_ingest.cli.printing import dumps

if TYPE_CHECKING:
    from mystocks_ingest.daemon.parts import Daemon


@click.command()
@as_json
def run(*, json: bool) -> int:
    """Run the service: live quotes, the day's jobs, everything kept complete.

    It works until SIGTERM or Ctrl-C, which end it in order; a second one ends it at once, and nothing that was
    acknowledged is lost. SIGHUP, or a change of jobs.yaml, takes other jobs over. With --json the logs are JSON too.
    """
    import asyncio

    from mystocks_ingest.cli import process

    settings = process.settings()  # before the rest is imported: it keeps pandas out
    from mystocks_ingest.daemon import running
    from mystocks_ingest.daemon.parts import Wall
    from mystocks_ingest.logs import get, redact
    from mystocks_ingest.settings import strangers

    if json:
        process.prepare(settings.model_copy(update={"log_format": "json"}))
    for name, meant in strangers().items():
        get("settings").warning("setting.unknown", name=name, effect="none", like=meant)
    ready = False

    def told(daemon: Daemon) -> None:
        nonlocal ready
        ready = True
        try:
            _announce(daemon, json=json)
        except OSError as exc:  # a full disk behind standard output is no reason to end
            get("service").warning("ready.unsaid", reason=str(exc))

    try:
        asyncio.run(running.run(settings, clock=Wall(process.clock), told=told))
    except Exception as exc:
        if not ready:
            raise
        with suppress(OSError):  # nobody reads it
            click.echo(redact("".join(traceback.format_exception(exc))), err=True)
            click.echo("error: the service ended because a part of it crashed; its traceback is above", err=True)
        return 1
    return 0


def _announce(daemon: Daemon, *, json: bool) -> None:
    import os

    settings = daemon.service.settings
    stores, jobs = settings.stores or "embedded", [e.name for e in daemon.schedule.entries]
    address = f"http://{settings.http_host}:{daemon.http_port}"
    if json:
        ready = {"event": "ready", "pid": os.getpid(), "stores": stores.split(","), "jobs": jobs, "http": address}
        click.echo(dumps(ready))
    else:
        click.echo(f"ready: {len(jobs)} jobs ({', '.join(jobs) or 'none'}), stores {stores}, {address}/health")
    sys.stdout.flush()
