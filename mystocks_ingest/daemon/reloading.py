"""What the running service takes over from its files: jobs, paces of the sources, the user's rules of quality.

A file is looked at when it changes, all of them at SIGHUP. One that is wrong is said, in the log, in `jobs list` and in
health, and the service goes on with what it had. Nothing under way is touched: the next call, frame or firing finds the
new rules.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mystocks_ingest import sources
from mystocks_ingest.daemon import jobs, notify
from mystocks_ingest.daemon.parts import Daemon
from mystocks_ingest.errors import ConfigError
from mystocks_ingest.logs import get
from mystocks_ingest.market.checks.quality import unheard
from mystocks_ingest.schema.tables import Tables
from mystocks_ingest.service import described, quality_of
from mystocks_ingest.settings import Stamp, stamp_of

log = get("settings")

_LOOK_SECONDS = 2.0


@dataclass
class _File:
    """One file; ``stamp`` is how it looked when it was last taken over or refused."""

    subject: str
    path: Path
    take_over: Callable[[], Awaitable[None]]
    stamp: Stamp = None

    def changed(self) -> bool:
        before, self.stamp = self.stamp, stamp_of(self.path)
        return self.stamp != before


async def watch(daemon: Daemon) -> None:
    """Take files over as they change, for ever. Called with the files as they were read at the start."""
    folder = daemon.service.settings.config_dir
    files = (
        _File("jobs", jobs.path(folder), partial(_jobs, daemon)),
        _File("pacing", folder / "pacing.yaml", partial(_paces, daemon)),
        _File("quality", folder / "tables.yaml", partial(_quality, daemon)),
    )
    for file in files:
        file.changed()
    while True:
        asked = True
        try:
            async with asyncio.timeout(_LOOK_SECONDS):
                await daemon.reload.wait()
        except TimeoutError:
            asked = False
        daemon.reload.clear()
        if asked:
            notify.reloading()
        looked = [file for file in files if file.changed() or asked]
        for file in looked:
            await _taken_over(daemon, file)
        if looked:  # READY=1 says that a reload has ended; else it changes nothing
            notify.tell("READY=1", notify.status(_said(daemon)))


def _said(daemon: Daemon) -> str:
    """What `systemctl status` is to show."""
    refused = "; ".join(daemon.refused.values())
    return f"goes on with what it had: {refused}" if refused else daemon.summary


async def _taken_over(daemon: Daemon, file: _File) -> None:
    name = file.path.name
    try:
        await file.take_over()
    except (ConfigError, OSError) as exc:
        daemon.refused[name] = str(exc)
        event, instead = f"{file.subject}.refused", "the service goes on with what it had"
        log.error(event, file=name, reason=str(exc), instead=instead)  # noqa: TRY400 - a user's mistake, no defect
    else:
        daemon.refused.pop(name, None)
        event = f"{file.subject}.reloaded"
        log.warning(event, file=name)


async def _jobs(daemon: Daemon) -> None:
    jobs.take_over(daemon, await asyncio.to_thread(jobs.read, daemon.service))


async def _paces(daemon: Daemon) -> None:
    folder = daemon.service.settings.config_dir
    if not await asyncio.to_thread((folder / "tables.yaml").exists):  # without a pacing.yaml the defaults hold
        raise ConfigError(f"{folder} is not there, or empty: put it back, the paces stay as they are meanwhile")
    daemon.service.pace(await asyncio.to_thread(sources.paces_of, daemon.service.settings))


async def _quality(daemon: Daemon) -> None:
    service = daemon.service
    found = await asyncio.to_thread(_read_tables, daemon)
    service.quality = quality_of(found)
    say_unheard(daemon)
    if found.all != service.tables.all:
        log.warning("tables.unchanged", why="the structure of tables is taken over when the service is started anew")


def _read_tables(daemon: Daemon) -> Tables:
    return described(daemon.service.settings)[0]


def say_unheard(daemon: Daemon) -> None:
    """Rules for columns that nothing has."""
    if strange := unheard(daemon.service.quality):
        log.warning(
            "quality.unheard", columns=strange, why="no dataset has them: look for a slip in data_quality_rules"
        )
