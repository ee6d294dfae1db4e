"""How differences of structure are printed: a line a change, a block a table, red where data may be lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import click

from mystocks_ingest.cli import as_typed

if TYPE_CHECKING:
    from mystocks_ingest.flow.migrate import Compared, Result, Step

_SIGNS = {"create": "+", "add": "+", "drop": "-", "change": "~", "comment": "~", "policy": "~"}
_COLOURS = {"+": "green", "-": "red", "~": "yellow"}


@dataclass(frozen=True, slots=True)
class Line:
    """One change as JSON shows it. ``hazard``: why it needs ``allow_unsafe`` with ``name``; empty: it does not."""

    store: str
    database: str
    table: str
    verb: str
    what: str
    hazard: str
    name: str
    sql: tuple[str, ...]


def line(step: Step, sql: Sequence[str]) -> Line:
    from mystocks_ingest.schema.drift import part

    table = step.table
    if table is None:
        raise ValueError(step.change.words)
    about = part(step.change)
    return Line(
        table.database_type.store,
        table.database_name,
        table.name if step.change.table is not None else "",
        step.change.verb,
        step.change.words,
        step.hazard,
        f"{table.name}.{about}" if about else table.name,
        tuple(sql),
    )


def outcome(result: Result) -> dict[str, object]:
    """One table's result as JSON shows it."""
    return {
        "table": str(result.table),
        "made": [f"{s.change.verb} {s.change.words}" for s in result.made],
        "error": str(result.error) if result.error is not None else None,
    }


def show(steps: Iterable[Step]) -> None:
    """Every change under its table, and the sum."""
    steps = list(steps)
    if not steps:
        click.echo("no difference: every table is as the file describes it")
        return
    for heading, group in groupby(steps, key=_heading):
        click.echo(click.style(heading, bold=True))
        for step in group:
            for text in _lines(step):
                click.echo(text)
    click.echo(_sum(steps))


def _heading(step: Step) -> str:
    table = step.table
    if table is None or step.change.table is None:
        return f"{table.database_type.value if table is not None else ''} databases".strip()
    return str(table)


def _lines(step: Step) -> Iterator[str]:
    sign = "-" if step.change.words.startswith("drop ") else _SIGNS.get(step.change.verb, "+")
    yield click.style(f"  {sign} {step.change.words}", fg=_COLOURS[sign])
    if step.hazard:
        yield click.style(f"      unsafe: {step.hazard}; only with --allow-unsafe {line(step, ()).name}", fg="red")


def _sum(steps: Sequence[Step]) -> str:
    verbs = Counter(step.change.verb for step in steps)
    unsafe = sum(bool(step.hazard) for step in steps)
    tables = len({step.table for step in steps})
    counted = ", ".join(f"{count} {verb}" for verb, count in verbs.items())
    ending = f"; {unsafe} unsafe" if unsafe else ""
    return f"{len(steps)} changes to {tables} tables: {counted}{ending}"


def statements(lines: Iterable[Line]) -> None:
    """The DDL as a script; what is unsafe stands in comments."""
    for change in lines:
        where = ".".join(p for p in (change.store, change.database, change.table) if p)
        click.echo(f"-- {where}: {change.verb} {change.what}")
        if change.hazard:
            click.echo(f"-- unsafe: {change.hazard}")
        text = "".join(f"{statement.rstrip(';')};\n" for statement in change.sql) or "-- no statement can do it\n"
        if change.hazard:
            text = "".join(f"-- {row}\n" for row in text.splitlines())
        click.echo(text)


def done(results: Sequence[Result], left: Sequence[Step]) -> None:
    """What was made, what failed and what is left."""
    for result in results:
        if result.error is not None:
            click.echo(click.style(f"failed {result.table}: {result.error}", fg="red"))
    made = sum(len(r.made) for r in results)
    failed = sum(r.error is not None for r in results)
    if made or failed:
        click.echo(f"{made} changes made" + (f", {failed} tables failed: run `schema apply` again" if failed else ""))
    if left:
        click.echo(f"{len(left)} unsafe changes left as they are; {as_typed()} schema apply --allow-unsafe NAME")


def report(compared: Sequence[Compared]) -> None:
    """A line a table, and its issues beneath."""
    for one in compared:
        state = click.style("ok       ", fg="green") if one.passed else click.style("different", fg="red")
        click.echo(f"{state}  {one.table}")
        for issue in one.issues:
            click.echo(f"             {issue}")
    passed = sum(c.passed for c in compared)
    failed = len(compared) - passed
    click.echo(f"{passed} tables as described" + (f", {failed} different" if failed else ""))
