"""``doctor``: is everything in place? Settings and where each came from, packages, disk, store, calendar, vendors."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING

import click

from mystocks_ingest.cli.arguments import as_json, today
from mystocks_ingest.cli.printing import document, table

if TYPE_CHECKING:
    from mystocks_ingest.service import Service
    from mystocks_ingest.settings import Settings

PACKAGES = ("akshare", "baostock", "tushare", "duckdb", "pandas", "pyarrow")
FREE_BYTES = 2 * 10**9  # ten years of daily bars of the whole market take about 1 GB, and DuckDB needs room to write
HORIZON_DAYS = 30


class Health(StrEnum):
    """What a finding means for the user."""

    OK = "ok"
    NOTE = "note"
    WRONG = "wrong"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. ``remedy`` is said where something should be done."""

    what: str
    health: Health
    found: str
    remedy: str = ""


@click.command()
@click.option("--online", is_flag=True, help="Call every source once; without this nothing leaves the machine.")
@as_json
def doctor(*, online: bool, json: bool) -> int:
    """Check settings, store, calendar, disk and packages."""
    from mystocks_ingest.cli import process
    from mystocks_ingest.settings import origins

    settings = process.settings()
    findings = [*_packages(), *_state_dir(settings)]
    if all(f.health is not Health.WRONG for f in findings):
        findings += process.run(_service(settings, online=online))
    values = origins(settings)
    if json:
        document({"settings": values, "findings": findings})
    else:
        table(("setting", "value", "from"), [(v.name, v.shown, v.origin) for v in values], title="Settings")
        table(
            ("", "what", "found", "what to do"),
            [(f.health.value, f.what, f.found, f.remedy) for f in findings],
            title="Findings",
        )
    wrong = sum(f.health is Health.WRONG for f in findings)
    if not json:
        click.echo("all is well" if not wrong else f"{wrong} of {len(findings)} things need attention")
    return 3 if wrong else 0


def _packages() -> Iterator[Finding]:
    yield Finding("python", Health.OK, sys.version.split()[0])
    for name in PACKAGES:
        try:
            yield Finding(name, Health.OK, metadata.version(name))
        except metadata.PackageNotFoundError:
            yield Finding(name, Health.WRONG, "not installed", "make the environment anew with `make`")


def _state_dir(settings: Settings) -> Iterator[Finding]:
    folder = settings.state_dir
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as exc:
        yield Finding("state directory", Health.WRONG, f"{folder}: {exc.strerror}", "set MYSTOCKS_STATE_DIR elsewhere")
        return
    yield Finding("state directory", Health.OK, f"{_shown(folder)}, writable")
    free = shutil.disk_usage(folder).free
    scarce = free < FREE_BYTES
    yield Finding(
        "free disk",
        Health.WRONG if scarce else Health.OK,
        f"{free / 1e9:.1f} GB",
        f"make room: {FREE_BYTES / 1e9:.0f} GB should be free" if scarce else "",
    )


def _shown(folder: Path) -> str:
    return str(folder.absolute())


async def _service(settings: Settings, *, online: bool) -> list[Finding]:
    from mystocks_ingest import service
    from mystocks_ingest.cli.process import clock
    from mystocks_ingest.errors import ConfigError, IngestError, StoreBusy

    try:
        async with service.opened(settings, now=clock) as opened:
            findings = [Finding("store", Health.OK, "opens"), await _calendar(opened)]
            if online:
                findings += [await _reach(opened, name) for name in opened.source_names]
            return findings
    except StoreBusy as exc:
        return [Finding("store", Health.NOTE, str(exc))]
    except ConfigError as exc:
        return [Finding("store", Health.WRONG, str(exc))]
    except IngestError as exc:
        return [Finding("store", Health.WRONG, str(exc), "look at the disk, then try again")]


async def _calendar(opened: Service) -> Finding:
    from mystocks_ingest.cli.process import clock
    from mystocks_ingest.errors import ConfigError

    try:
        calendar = await opened.calendar()
    except ConfigError:
        return Finding("calendar", Health.NOTE, "none stored yet", "the first backfill fetches it")
    left = calendar.days_left(today(clock()))
    if left >= HORIZON_DAYS:
        return Finding("calendar", Health.OK, f"known until {calendar.last}, {left} days ahead")
    return Finding(
        "calendar",
        Health.WRONG,
        f"known until {calendar.last} only, {max(left, 0)} days ahead",
        "fetch it with: mystocks-ingest backfill --dataset calendar",
    )


async def _reach(opened: Service, name: str) -> Finding:
    from mystocks_ingest.errors import ConfigError, Denied, IngestError, outcome_of

    try:
        await opened.source(name).probe()
    except ConfigError as exc:
        return Finding(name, Health.NOTE, f"not set up: {exc}")
    except IngestError as exc:
        remedy = "check its account and settings" if isinstance(exc, Denied) else "try again later"
        return Finding(name, Health.WRONG, f"{outcome_of(exc)}: {exc}", remedy)
    return Finding(name, Health.OK, "answers")
