"""``monitor``: what was done to tables, what runs did, how the sources fare; read from the monitor log."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from json import JSONDecodeError, loads
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import click

from mystocks_ingest.cli.arguments import as_json
from mystocks_ingest.cli.printing import document, table
from mystocks_ingest.errors import ConfigError

F = TypeVar("F", bound=Callable[..., Any])

_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_LONGEST = timedelta(days=36_500)


class Since(click.ParamType[datetime | timedelta]):
    """A day or moment of Shanghai, or how long ago: 2024-01-31, 2024-01-31T09:30, 7d, 24h, 30m, 2w."""

    name = "since"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime | timedelta:
        if isinstance(value, datetime | timedelta):
            return value
        text = str(value).strip()
        ago = re.fullmatch(r"(\d{1,5})([mhdw])", text.lower())
        if ago is not None:
            return timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            self.fail(f"{text!r} is not a time; write 2024-01-31, 2024-01-31T09:30, 7d or 24h", param, ctx)
        return moment if moment.tzinfo is not None else moment.replace(tzinfo=ZoneInfo("Asia/Shanghai"))


def since(default: str | None = None) -> Callable[[F], F]:
    """The ``--since`` option."""
    words = "Only from then on: a day (2024-01-31), a moment, or how long ago (7d, 24h)."
    return click.option("--since", type=Since(), default=default, show_default=default is not None, help=words)


def limit(default: int = 50) -> Callable[[F], F]:
    """The ``--limit`` option."""
    at_most = click.IntRange(min=1, max=1_000_000)
    return click.option("--limit", type=at_most, default=default, show_default=True, help="At most so many.")


@click.group()
def monitor() -> None:
    """Show what was done to tables, what runs did, and how the sources fare.

    The log is in MySQL or MariaDB (db_monitor) where that store is in use, else in the embedded store. Times are UTC.
    """


@monitor.command()
@since()
@limit()
@as_json
def history(since: datetime | timedelta | None, limit: int, *, json: bool) -> None:
    """List the tables that were created, newest first."""
    _show("history", since, limit, json=json, none="no table was created")


@monitor.command()
@click.option("--each", is_flag=True, help="List each operation, newest first, instead of counting them.")
@since("7d")
@limit()
@as_json
def operations(since: datetime | timedelta | None, limit: int, *, each: bool, json: bool) -> None:
    """Count what was done to tables, by database and kind."""
    _show("each operation" if each else "operations", since, limit, json=json, none="nothing was done to any table")


@monitor.command()
@since()
@limit()
@as_json
def failures(since: datetime | timedelta | None, limit: int, *, json: bool) -> None:
    """List the validations that found a table other than described, newest first."""
    _show("failures", since, limit, json=json, none="every table was found as described")


@monitor.command()
@since()
@limit()
@as_json
def runs(since: datetime | timedelta | None, limit: int, *, json: bool) -> None:
    """List the runs, newest first: when, how they ended, rows stored and refused, sessions missing."""
    _show("runs", since, limit, json=json, none="nothing ran")


@monitor.command()
@since()
@limit()
@as_json
def sources(since: datetime | timedelta | None, limit: int, *, json: bool) -> None:
    """Show each source's quality score and last success and failure, as of the end of its latest run."""
    _show("sources", since, limit, json=json, none="no source was asked")


def _show(name: str, since: datetime | timedelta | None, limit: int, *, json: bool, none: str) -> None:
    from mystocks_ingest.cli import process
    from mystocks_ingest.errands.kinds import Asked
    from mystocks_ingest.monitor.questions import NAMED

    first = _first(since, process.clock())
    question = NAMED[name]
    rows, waiting = process.done(Asked(name, first, limit))
    rows = [{n: _read(v) if n in question.documents else v for n, v in row.items()} for row in rows]
    if json:
        document(rows)
    elif rows:
        numbers = [n for n in question.columns if any(isinstance(row[n], int | float) for row in rows)]
        table(question.columns, [[_cell(row[n]) for n in question.columns] for row in rows], right=numbers)
    else:
        click.echo(none + ("" if first is None else f" since {first.isoformat(sep=' ', timespec='minutes')}"))
    if waiting.entries:
        why = f" ({waiting.reason})" if waiting.reason else ""
        click.echo(f"{waiting.entries:,} more entries wait to be written to the log{why}", err=True)
    if waiting.refused or waiting.lost:
        click.echo(f"not in the log: {waiting.refused:,} entries it refused, {waiting.lost:,} lost", err=True)


def _first(since: datetime | timedelta | None, now: datetime) -> datetime | None:
    """The moment meant. Raises ConfigError for one that has not come, or is older than any time there is."""
    if not isinstance(since, timedelta):
        if since is not None and since > now:
            raise ConfigError(f"--since {since.isoformat(sep=' ')} lies in the future")
        return since
    if since > _LONGEST:
        raise ConfigError(f"--since {since.days // 7}w lies before any record; write a day, such as 2024-01-31")
    return now - since


def _read(text: object) -> object:
    """A JSON document of the log as what it holds."""
    if not isinstance(text, str):
        return text
    try:
        return loads(text)
    except JSONDecodeError:
        return text


def _cell(value: object) -> object:
    if isinstance(value, Mapping):
        return "\n".join(f"{name}: {_cell(inner)}" for name, inner in value.items())
    if isinstance(value, list):
        return ", ".join(str(item) for item in value)
    return value
