"""What users may type: days, windows, lists of datasets and symbols. A mistake becomes one sentence with its remedy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar
from zoneinfo import ZoneInfo

import click
from click.shell_completion import CompletionItem

from mystocks_ingest.errors import ConfigError

if TYPE_CHECKING:
    from mystocks_ingest.market.datasets import Dataset
    from mystocks_ingest.market.frames import Symbol, Window

F = TypeVar("F", bound=Callable[..., Any])


def as_json(command: F) -> F:
    """The ``--json`` option every command has."""
    return click.option("--json", "json", is_flag=True, help="Print JSON for machines instead of tables.")(command)


class Day(click.ParamType[date]):
    """A calendar day, 2024-01-02 or 20240102."""

    name = "date"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> date:
        if isinstance(value, date):
            return value
        text = str(value).strip()
        try:
            if len(text) == 8 and text.isdecimal():
                return date(int(text[:4]), int(text[4:6]), int(text[6:]))
            if len(text) == 10:
                return date.fromisoformat(text)
        except ValueError:
            pass  # falls through to the one sentence below
        raise click.BadParameter(f"{text!r} is not a day; write 2024-01-31 or 20240131", ctx, param)


class DatasetName(click.ParamType[str]):
    """The name of a dataset, or several with commas; which exist is looked up when the command runs."""

    name = "name,..."

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:  # noqa: ARG002  (click's signature)
        return str(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG002  (likewise)
        from mystocks_ingest.market.datasets import DATASETS

        before, comma, last = incomplete.rpartition(",")
        return [CompletionItem(f"{before}{comma}{name}") for name in sorted(DATASETS) if name.startswith(last)]


def parts(values: Sequence[str]) -> tuple[str, ...]:
    """The items of a repeatable, comma-separated option, in the order given, each once."""
    items = (item.strip() for value in values for item in value.replace("，", ",").split(","))
    return tuple(dict.fromkeys(item for item in items if item))


def datasets(values: Sequence[str]) -> tuple[Dataset, ...]:
    """The datasets so named. Raises ConfigError naming the known ones."""
    from mystocks_ingest.market.datasets import dataset

    return tuple(dataset(name) for name in parts(values))


def symbols(values: Sequence[str]) -> tuple[Symbol, ...]:
    """The symbols so written. Raises ConfigError for the first unreadable one."""
    from mystocks_ingest.market.symbols import parse

    return tuple(dict.fromkeys(parse(text) for text in parts(values)))


def members(written: Sequence[str], universe: str | None) -> tuple[tuple[Symbol, ...] | None, str]:
    """Whose data: symbols, or None and the name of a universe. A universe that is a file is read here.

    A file holds one symbol a line; what follows a comma, a blank or # on the line is left out. Raises ConfigError
    with file and line for an unreadable symbol.
    """
    if written and universe is not None:
        raise click.UsageError("--symbols and --universe exclude each other; give one")
    if universe is None:
        return symbols(written) or None, "all"
    from mystocks_ingest.flow.universe import members as members_of

    return members_of(universe)


def today(now: datetime) -> date:
    """The day it is in Shanghai."""
    return now.astimezone(ZoneInfo("Asia/Shanghai")).date()


def window(first: date | None, last: date | None, *, now: datetime) -> Window:
    """From ``first`` to ``last``, both included; by default the year that ends today.

    Raises ConfigError for reversed and future days.
    """
    from mystocks_ingest.market.frames import Window

    latest = today(now)
    for option, day in (("--from", first), ("--to", last)):
        if day is not None and day > latest:
            raise ConfigError(f"{option} {day} lies in the future; the latest possible day is today, {latest}")
    end = last if last is not None else latest
    start = first if first is not None else end - timedelta(days=365)
    if start > end:
        raise ConfigError(f"--from {start} is after --to {end}; exchange the two")
    return Window(start, end + timedelta(days=1))
