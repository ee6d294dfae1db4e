"""What commands print: one JSON document, or tables by rich (imported only when there is one to print)."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from enum import Enum
from pathlib import PurePath
from typing import TextIO

import click

WIDE = 200  # columns of a table that no terminal limits


def plain(value: object) -> object:
    """``value`` in JSON's terms; dates and times in ISO 8601, sets sorted, dataclasses as objects."""
    match value:
        case Enum():
            return value.value
        case datetime() | date():
            return value.isoformat()
        case PurePath():
            return str(value)
        case set() | frozenset():
            return sorted(value)
        case Mapping():
            return {str(k): v for k, v in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    return str(value)


def dumps(value: object) -> str:
    """``value`` as one line of JSON."""
    return json.dumps(value, ensure_ascii=False, default=plain)


def document(value: object) -> None:
    """Print ``value`` as one JSON document on stdout."""
    click.echo(json.dumps(value, ensure_ascii=False, default=plain, indent=2))


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    title: str | None = None,
    right: Iterable[str] = (),
    file: TextIO | None = None,
) -> None:
    """Print a table; the columns named in ``right`` are set flush right. Cells are text, never markup."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    out = file if file is not None else sys.stdout
    flush_right = set(right)
    shown = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        shown.add_column(name, justify="right" if name in flush_right else "left", overflow="fold")
    for row in rows:
        shown.add_row(*(Text(cell(value)) for value in row))
    Console(file=out, width=None if out.isatty() else WIDE, highlight=False).print(shown)


def cell(value: object) -> str:
    """One table cell: thousands grouped, nothing for None."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case float():
            return f"{value:,.4f}".rstrip("0").rstrip(".")
        case datetime():
            return value.isoformat(sep=" ", timespec="seconds")
        case Enum():
            return str(value.value)
    return str(value)


def duration(seconds: float) -> str:
    """A length of time as people say it: 40 s, 12 min, 3 h 20 min, 2 days 4 h."""
    if seconds < 90:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} days {hours} h" if hours else f"{days} days"
