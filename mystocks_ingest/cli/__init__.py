"""The command line. Commands hold no logic of their own: they read arguments, call the service, print.

Each command's module is imported only when that command runs, and inside it the service only when its work
begins, so that ``--help`` and completion load click and nothing else.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import click

from mystocks_ingest import __version__

PROGRAM = "mystocks-ingest"


def as_typed() -> str:
    """How this program is called from the user's shell: by name where the shell finds it, else by its path."""
    if shutil.which(PROGRAM):
        return PROGRAM
    script = Path(sys.executable).with_name(PROGRAM)
    if not script.exists():
        return f"{sys.executable} -m mystocks_ingest"
    here = Path.cwd()
    return str(script.relative_to(here) if script.is_relative_to(here) else script)


class Entry(NamedTuple):
    """Where a command lives, and its line in ``--help`` (the first sentence of its own help)."""

    module: str
    attribute: str
    summary: str


COMMANDS: Mapping[str, Entry] = {
    "demo": Entry("demo", "demo", "Show the whole way of a row on a simulated market: no account, no network."),
    "run": Entry("run", "run", "Run the service: live quotes, the day's jobs, everything kept complete."),
    "jobs": Entry("jobs", "jobs", "Show the jobs of jobs.yaml, run one now, pause and resume them."),
    "backfill": Entry("backfill", "backfill", "Fetch history, fill what is missing, resume what was interrupted."),
    "read": Entry("read", "read", "Read stored rows as a table, CSV, Parquet, Arrow or JSON."),
    "gaps": Entry("gaps", "gaps", "Show what should be stored and is not."),
    "sources": Entry("sources", "sources", "Show each source's state and budget; `sources test NAME` calls one."),
    "dead-letters": Entry("dead_letters", "dead_letters", "List, show and replay refused rows."),
    "schema": Entry("schema", "schema", "Plan, apply, check and export the structure of every table."),
    "monitor": Entry("monitor", "monitor", "Show what was done to tables, what runs did, and how the sources fare."),
    "alerts": Entry("alerts", "alerts", "Show the alert rules and what fires now; send a test message."),
    "doctor": Entry("doctor", "doctor", "Check settings, databases, store, calendar, disk and packages."),
    "completion": Entry("completion", "completion", "Print the completion script for bash, zsh or fish."),
}


class LazyGroup(click.Group):
    """A group that knows its commands by name and imports one only when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  (click's signature)
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  (likewise)
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        command = getattr(import_module(f"{__name__}.{entry.module}"), entry.attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{entry.module}.{entry.attribute} is not a command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  (likewise)
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.summary) for name, entry in COMMANDS.items()])


@click.group(
    cls=LazyGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Start with `demo`, then `backfill --dry-run`. Exit codes: 0 complete, 3 partial, 4 the databases' "
    "structure differs (schema), 2 wrong usage or settings, 130 interrupted, 1 a defect of this program.",
)
@click.version_option(__version__, "-V", "--version", prog_name=PROGRAM, message="%(prog)s %(version)s")
@click.pass_context
def commands(ctx: click.Context) -> None:
    """Collect Chinese A-share data, prove every row, and keep it where it can be queried."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())
