"""``completion``: the script that lets a shell complete commands, options and dataset names."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from mystocks_ingest.cli import PROGRAM
from mystocks_ingest.cli.arguments import as_json
from mystocks_ingest.cli.printing import document

_VARIABLE = f"_{PROGRAM.upper().replace('-', '_')}_COMPLETE"
_WHERE = {
    "bash": f'eval "$({PROGRAM} completion bash)"   # in ~/.bashrc',
    "zsh": f'eval "$({PROGRAM} completion zsh)"   # in ~/.zshrc',
    "fish": f"{PROGRAM} completion fish > ~/.config/fish/completions/{PROGRAM}.fish",
}


@click.command(epilog="Put it to use: " + "; ".join(_WHERE.values()))
@click.argument("shell", type=click.Choice(sorted(_WHERE)))
@as_json
@click.pass_context
def completion(ctx: click.Context, shell: str, *, json: bool) -> None:
    """Print the completion script for bash, zsh or fish."""
    found = get_completion_class(shell)
    if found is None:
        raise click.UsageError(f"no completion for {shell}")
    script = found(ctx.find_root().command, {}, PROGRAM, _VARIABLE)
    text = script.source_template % script.source_vars()
    if json:
        document({"shell": shell, "script": text, "install": _WHERE[shell]})
    else:
        click.echo(text)
