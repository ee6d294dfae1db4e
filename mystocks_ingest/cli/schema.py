"""``schema``: the structure of every table in every database, from the one file that describes them."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Sequence
from datetime import date, datetime
from datetime import time as clock_time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from zoneinfo import ZoneInfo

import click

from mystocks_ingest.cli import as_typed
from mystocks_ingest.cli.arguments import Day, as_json
from mystocks_ingest.cli.endings import Exit
from mystocks_ingest.cli.printing import document, table

if TYPE_CHECKING:
    from mystocks_ingest.flow.migrate import Loss, SchemaManager, Step
    from mystocks_ingest.ports import Recorded
    from mystocks_ingest.schema.tables import Table

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])


def tables_file(command: F) -> F:
    """The ``--tables`` option every command here has."""
    return click.option(
        "--tables",
        "file",
        type=click.Path(dir_okay=False, path_type=Path),
        help="The file that describes the tables. Default: tables.yaml of MYSTOCKS_CONFIG_DIR.",
    )(command)


@click.group()
def schema() -> None:
    """Plan, apply, check and export the structure of every table.

    Exit codes: 0 everything is as described, 4 something differs, 3 a change failed.
    """


@schema.command()
@click.option("--sql", is_flag=True, help="Show the statements.")
@tables_file
@as_json
def plan(file: Path | None, *, sql: bool, json: bool) -> int:
    """Show what separates the databases from the file; nothing is changed. Exit code 4 where something does."""
    from mystocks_ingest.cli import differences

    async def work(manager: SchemaManager) -> tuple[list[Step], list[differences.Line]]:
        steps = await manager.plan()
        return steps, [differences.line(step, manager.ddl(step)) for step in steps]

    steps, lines = _managed(work, file, recorded=False)
    if json:
        document(lines)
    elif sql:
        differences.statements(lines)
    else:
        differences.show(steps)
    return Exit.DIFFERENT if steps else Exit.COMPLETE


@schema.command()
@click.option(
    "--allow-unsafe",
    "unsafe",
    multiple=True,
    metavar="TABLE[.COLUMN]",
    help="Make the unsafe changes of this table or column too. May be repeated.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@tables_file
@as_json
def apply(file: Path | None, unsafe: tuple[str, ...], *, yes: bool, json: bool) -> int:
    """Create and change tables until they are as the file describes them.

    What may lose data (a dropped or narrower column, another key) is only made where --allow-unsafe names it, and
    how many rows stand behind it is said before. Exit code 4 where something unsafe is left.
    """
    from mystocks_ingest.cli import differences
    from mystocks_ingest.flow.migrate import names

    if json and not yes:
        raise click.UsageError("--json cannot ask; add --yes")

    async def work(manager: SchemaManager) -> int:
        steps = await manager.plan()
        if unsafe:
            manager.check_names(unsafe, steps)
        meant = {name.lower() for name in unsafe}
        chosen = [s for s in steps if not s.hazard or meant & names(s)]
        losses = await manager.losses(s for s in chosen if s.hazard)
        if not json:
            differences.show(steps)
            for loss in losses:
                click.echo(click.style(_lost(loss), fg="red"))
        if chosen and not yes:
            _ask(f"make {len(chosen)} of {len(steps)} changes?" if len(chosen) < len(steps) else "make these changes?")
        results = await manager.apply(allow_unsafe=unsafe) if chosen else []
        failed = [r for r in results if r.error is not None]
        left = [s for s in steps if s not in chosen]
        if json:
            document(
                {
                    "tables": [differences.outcome(r) for r in results if r.made or not r],
                    "lost": [{"table": str(x.step.table), "what": x.step.change.words, "rows": x.rows} for x in losses],
                    "left": [differences.line(s, []) for s in left],
                }
            )
        else:
            differences.done(results, left)
        return Exit.PARTIAL if failed else Exit.DIFFERENT if left else Exit.COMPLETE

    return _managed(work, file)


@schema.command()
@tables_file
@as_json
def validate(file: Path | None, *, json: bool) -> int:
    """Hold each table against the file and say what is missing, extra or different. Exit code 4 where something is."""
    from mystocks_ingest.cli import differences

    compared = _managed(lambda manager: manager.validate(), file)
    if json:
        document(
            [
                {
                    "table": str(c.table),
                    "passed": c.passed,
                    "issues": [{"kind": i.kind, "part": i.part, "issue": i.words} for i in c.issues],
                }
                for c in compared
            ]
        )
    else:
        differences.report(compared)
    return Exit.COMPLETE if all(c.passed for c in compared) else Exit.DIFFERENT


@schema.command()
@click.argument("name", metavar="TABLE")
@click.option("--yes", is_flag=True, help="Do not ask.")
@tables_file
@as_json
def drop(name: str, file: Path | None, *, yes: bool, json: bool) -> None:
    """Drop a table of the file and all its rows, after saying how many there are and asking for its name.

    TABLE is its name in the file, with its database in full (MySQL.quant_research.instrument) where several share it.
    """
    if json and not yes:
        raise click.UsageError("--json cannot ask; add --yes")

    async def work(manager: SchemaManager) -> tuple[Table, int]:
        wanted = manager.named(name)
        rows = await manager.count(wanted)
        if rows is not None and not yes:
            click.echo(f"{wanted} holds {rows:,} rows")
            _ask_for(wanted.name)
        return wanted, await manager.drop_table(wanted)

    dropped, rows = _managed(work, file)
    if json:
        document({"dropped": str(dropped), "rows": rows})
    else:
        click.echo(f"dropped {dropped} with {rows:,} rows")


@schema.command()
@click.argument("name", metavar="[TABLE]", default="")
@click.option("--since", type=Day(), help="Only from this day on.")
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="At most so many.")
@as_json
def history(name: str, since: date | None, limit: int, *, json: bool) -> None:
    """Show what was done to tables, newest first, from the monitor log."""
    from mystocks_ingest import service
    from mystocks_ingest.cli import process

    first = datetime.combine(since, clock_time.min, ZoneInfo("Asia/Shanghai")) if since is not None else None

    async def work() -> Sequence[Recorded]:
        async with service.monitored(process.settings(), now=process.clock) as log:
            return await log.operations(table=name, since=first, limit=limit)

    found = process.run(work())
    if json:
        document(
            [
                {
                    "id": r.id,
                    "at": r.operation.at,
                    "operation": r.operation.kind,
                    "database_type": r.operation.database_type,
                    "database": r.operation.database,
                    "table": r.operation.table,
                    "status": r.status,
                    "details": r.operation.details,
                    "ddl": r.operation.ddl,
                    "error": r.error,
                }
                for r in found
            ]
        )
        return
    if not found:
        click.echo("nothing was done to a table yet" if not name else f"nothing was done to {name} yet")
        return
    table(
        ("at", "operation", "table", "status", "what", "error"),
        [
            (
                r.operation.at,
                r.operation.kind,
                ".".join(p for p in (r.operation.database_type.value, r.operation.database, r.operation.table) if p),
                r.status,
                " ".join(str(r.operation.details[k]) for k in ("verb", "change") if k in r.operation.details),
                r.error,
            )
            for r in found
        ],
    )


@schema.command()
@click.option("--to", "target", type=click.Path(dir_okay=False, path_type=Path), help="File to write. Default: stdout.")
@click.option("--database", multiple=True, help="Only of this database; default: those that the file names.")
@tables_file
@as_json
def export(file: Path | None, target: Path | None, database: tuple[str, ...], *, json: bool) -> None:
    """Write the live tables as a file of the same form, from which they can be made elsewhere."""
    from mystocks_ingest.errors import ConfigError
    from mystocks_ingest.schema.writing import written

    found = _managed(lambda manager: manager.export(database), file)
    text = written(found)
    if target is not None:
        try:
            target.write_text(text, encoding="utf-8")
        except OSError as exc:
            raise ConfigError(f"cannot write {target}: {exc.strerror}") from exc
    if json:
        document({"tables": [str(t) for t in found], "file": target, **({"yaml": text} if target is None else {})})
    elif target is None:
        click.echo(text, nl=False)
    else:
        click.echo(f"wrote {len(found)} tables to {target}")


@schema.command("init-monitor")
@click.option("--drop-existing", is_flag=True, help="Make the log's tables anew: what they hold is lost.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@as_json
def init_monitor(*, drop_existing: bool, yes: bool, json: bool) -> None:
    """Make the monitor log's tables where they are missing; what they hold stays, unless --drop-existing is given."""
    from mystocks_ingest import service
    from mystocks_ingest.cli import process

    if drop_existing and not yes:
        if json:
            raise click.UsageError("--json cannot ask; add --yes")
        _ask("drop the monitor log with all it holds?")

    async def work() -> Any:
        async with service.monitored(process.settings(), now=process.clock) as log:
            return await log.initialise(drop_existing=drop_existing)

    done = process.run(work())
    if json:
        document(done)
        return
    click.echo(f"the monitor log is in {done.place}; made: {', '.join(done.made) or 'nothing, all was there'}")
    for name, rows in done.dropped.items():
        click.echo(f"dropped {name} with {rows:,} rows")
    for name, rows in done.kept.items():
        click.echo(f"kept {name} with {rows:,} rows")


@schema.command()
@tables_file
@as_json
def grants(file: Path | None, *, json: bool) -> None:
    """Print the statements that make users with no more rights than they need: writer, reader, migrator.

    Run them as each server's administrator, with passwords of your own; nothing is connected to.
    """
    from mystocks_ingest import service
    from mystocks_ingest.cli import process

    found = service.grants(process.settings(), file)
    if json:
        document(found)
        return
    if not found:
        click.echo("no database server is in use (MYSTOCKS_STORES), and the embedded store knows no users")
    for store, lines in found.items():
        click.echo(f"-- {store}")
        for line in lines:
            last = line.rstrip().rpartition("\n")[2]
            whole = store == "redis" or last.endswith((";", "\\gexec")) or last[:1] == "\\"  # psql's own end here
            click.echo(line if whole else f"{line};")
        click.echo()


def _managed(work: Callable[[SchemaManager], Awaitable[T]], file: Path | None, *, recorded: bool = True) -> T:
    """What ``work`` makes of the schema manager that the settings in force describe."""
    from mystocks_ingest import service
    from mystocks_ingest.cli import process

    async def opened() -> T:
        async with service.managed(process.settings(), now=process.clock, file=file, recorded=recorded) as manager:
            return await work(manager)

    return process.run(opened())


def _ask(question: str) -> None:
    if not sys.stdin.isatty():
        raise click.UsageError("there is no terminal to ask at; add --yes")
    click.confirm(question, abort=True)


def _ask_for(name: str) -> None:
    if not sys.stdin.isatty():
        raise click.UsageError("there is no terminal to ask at; add --yes")
    if click.prompt(f"type {name} to drop it with all its rows", default="", show_default=False) != name:
        raise click.UsageError(f"that is not {name}; nothing was dropped ({as_typed()} schema drop {name})")


def _lost(loss: Loss) -> str:
    return f"{loss.step.table}: {loss.step.change.verb} {loss.step.change.words} concerns {loss.rows:,} rows"
