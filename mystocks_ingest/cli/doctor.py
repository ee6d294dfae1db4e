"""``doctor``: is everything in place? Settings and where each came from, packages, disk, stores, calendar, vendors."""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING

import click

from mystocks_ingest.cli.arguments import as_json, today
from mystocks_ingest.cli.printing import document, table

if TYPE_CHECKING:
    from mystocks_ingest.errors import Drifted, StoreBusy
    from mystocks_ingest.market.calendar import Calendar
    from mystocks_ingest.ports import Operations
    from mystocks_ingest.schema.tables import Table
    from mystocks_ingest.service import Service
    from mystocks_ingest.settings import Settings

PACKAGES = ("akshare", "baostock", "tushare", "duckdb", "pandas", "pyarrow")
FREE_BYTES = 2 * 10**9  # ten years of daily bars of the whole market take about 1 GB, and DuckDB needs room to write
HORIZON_DAYS = 30
STORE_SECONDS = 30.0  # after which a database is given up


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


_NO_CALENDAR = Finding("calendar", Health.NOTE, "none stored yet", "the first backfill fetches it")


@click.command()
@click.option("--online", is_flag=True, help="Call every source once; without this nothing leaves the machine.")
@as_json
def doctor(*, online: bool, json: bool) -> int:
    """Check settings, databases, store, calendar, disk and packages.

    Databases named in MYSTOCKS_STORES are opened as a backfill opens them: what is missing there is made.
    """
    from mystocks_ingest.cli import process
    from mystocks_ingest.settings import origins, strangers

    settings = process.settings()
    findings = [*_packages(), *_strange(strangers()), *_state_dir(settings)]
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


def _strange(names: Mapping[str, str]) -> Iterator[Finding]:
    for name, meant in names.items():
        yield Finding(name, Health.NOTE, "is no setting and has no effect", f"did you mean {meant}?" if meant else "")


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
    """Each named database by itself, whatever the others do; then what all of them together are needed for."""
    from mystocks_ingest import service, sources
    from mystocks_ingest.cli.process import clock
    from mystocks_ingest.errors import ConfigError

    try:
        _, homes = service.described(settings)
    except ConfigError as exc:
        return [Finding("tables", Health.WRONG, str(exc))]
    named = [name for name in settings.stores.split(",") if name]
    async with service.log_of(settings, None, now=clock) as log:  # what is made on the way is told there
        found = await asyncio.gather(*(_database(settings, name, homes[name], log) for name in named))
    findings = [finding for each in found for finding in each]
    if all(each[0].health is Health.OK for each in found):
        findings += await _together(settings)
    else:
        findings += [
            await _embedded(settings),
            Finding("calendar", Health.NOTE, "not looked at while a database is away"),
        ]
    if online:
        findings += [await _reach(settings, name) for name in sources.names()]
    return findings


async def _database(settings: Settings, store: str, tables: Sequence[Table], log: Operations) -> list[Finding]:
    """Version, latency and what should be different there; or the one sentence that a backfill would end with."""
    from mystocks_ingest.cli.process import clock
    from mystocks_ingest.errors import IngestError
    from mystocks_ingest.flow.migrate import Startup
    from mystocks_ingest.sinks.examination import examined

    start = Startup(apply=settings.schema_at_start == "apply", log_of=log, now=clock)
    try:
        well = await examined(store, settings, tables, now=clock, ensure=start, seconds=STORE_SECONDS)
    except IngestError as exc:
        return [Finding(store, Health.WRONG, " ".join(str(exc).split()))]
    answers = f"{well.server.version}, {well.tables} tables, answers in {well.latency_seconds * 1000:.1f} ms"
    return [
        Finding(store, Health.OK, answers),
        *(Finding(store, Health.WRONG, sentence) for sentence in _blocked(start.blocked)),
        *(Finding(store, Health.NOTE, *doubt.split("; ", 1)) for doubt in well.server.doubts),
    ]


def _blocked(blocked: Mapping[Table, Drifted]) -> Iterator[str]:
    """Why tables are not written to; what holds for many of them is said once."""
    reasons: dict[str, list[Table]] = {}
    for held, drifted in blocked.items():
        reasons.setdefault(str(drifted).removeprefix(f"{held.where or held}: "), []).append(held)
    for reason, tables in reasons.items():
        if len(tables) == 1:
            yield str(blocked[tables[0]])
        else:
            yield f"{reason} (until then {len(tables)} tables are not written to)"


async def _embedded(settings: Settings) -> Finding:
    from mystocks_ingest.errors import ConfigError, IngestError, StoreBusy
    from mystocks_ingest.sinks.embedded import EmbeddedDatabase

    try:
        async with EmbeddedDatabase(settings.state_dir):
            return Finding("store", Health.OK, "opens")
    except StoreBusy as exc:
        return _held(settings, exc)
    except ConfigError as exc:
        return Finding("store", Health.WRONG, str(exc))
    except IngestError as exc:
        return Finding("store", Health.WRONG, str(exc), "look at the disk, then try again")


async def _together(settings: Settings) -> list[Finding]:
    from mystocks_ingest import service
    from mystocks_ingest.cli.process import clock
    from mystocks_ingest.errors import ConfigError, IngestError, StoreBusy

    try:
        async with service.opened(settings, now=clock) as opened:
            return [Finding("store", Health.OK, "opens"), await _calendar(opened)]
    except StoreBusy as exc:
        held = _held(settings, exc)
        return [held, await asyncio.to_thread(_served, settings)] if held.health is Health.OK else [held]
    except ConfigError as exc:
        return [Finding("store", Health.WRONG, str(exc))]
    except IngestError as exc:
        return [Finding("store", Health.WRONG, str(exc), "look at the disk, then try again")]


async def _calendar(opened: Service) -> Finding:
    from mystocks_ingest.errors import ConfigError

    try:
        return _horizon(await opened.calendar())
    except ConfigError:
        return _NO_CALENDAR


def _held(settings: Settings, busy: StoreBusy) -> Finding:
    from mystocks_ingest import control

    if control.answers(settings.state_dir):
        return Finding("store", Health.OK, f"the running service, process {busy.owner_pid}, has it open")
    return Finding("store", Health.NOTE, str(busy))


def _served(settings: Settings) -> Finding:
    """The calendar as the running service has it."""
    from mystocks_ingest import errands
    from mystocks_ingest.cli.process import clock
    from mystocks_ingest.errands.kinds import Read
    from mystocks_ingest.errors import ConfigError, IngestError
    from mystocks_ingest.market.calendar import Calendar
    from mystocks_ingest.market.datasets import CALENDAR
    from mystocks_ingest.market.frames import Window

    try:
        rows = errands.done(Read(CALENDAR.name, (), Window(date(1990, 1, 1), date(2100, 1, 1))), settings, now=clock)
    except (ConfigError, IngestError) as exc:
        return Finding("service", Health.WRONG, str(exc))
    return _horizon(Calendar.from_table(rows)) if rows.num_rows else _NO_CALENDAR


def _horizon(calendar: Calendar) -> Finding:
    from mystocks_ingest.cli.process import clock

    left = calendar.days_left(today(clock()))
    if left >= HORIZON_DAYS:
        return Finding("calendar", Health.OK, f"known until {calendar.last}, {left} days ahead")
    return Finding(
        "calendar",
        Health.WRONG,
        f"known until {calendar.last} only, {max(left, 0)} days ahead",
        "fetch it with: mystocks-ingest backfill --dataset calendar",
    )


async def _reach(settings: Settings, name: str) -> Finding:
    from mystocks_ingest import sources
    from mystocks_ingest.cli.process import clock
    from mystocks_ingest.errors import ConfigError, Denied, IngestError, outcome_of

    try:
        source = sources.open_source(name, settings, now=clock)
    except ConfigError as exc:
        return Finding(name, Health.NOTE, f"not set up: {exc}")
    try:
        await source.probe()
    except ConfigError as exc:
        return Finding(name, Health.NOTE, f"not set up: {exc}")
    except IngestError as exc:
        remedy = "check its account and settings" if isinstance(exc, Denied) else "try again later"
        return Finding(name, Health.WRONG, f"{outcome_of(exc)}: {exc}", remedy)
    finally:
        await source.aclose()
    return Finding(name, Health.OK, "answers")
