"""Help, version and completion cost next to nothing and work in a shell."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from mystocks_ingest import __version__
from mystocks_ingest.cli import COMMANDS, PROGRAM, commands

HEAVY = ("pyarrow", "pandas", "numpy", "duckdb", "pydantic", "structlog", "rich", "tushare", "akshare", "baostock")
HEAVY += ("fastapi", "uvicorn", "prometheus_client")


@pytest.mark.parametrize("argv", [["--help"], ["--version"], *([name, "--help"] for name in COMMANDS)])
def test_help_imports_neither_arrow_nor_a_database_nor_a_vendor(argv: list[str]) -> None:
    code = (
        "import sys; from mystocks_ingest.cli.endings import end_well; "
        f"code = end_well({argv!r}); heavy = sorted(set({HEAVY!r}) & set(sys.modules)); "
        "print(heavy, file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.strip()) == (0, "[]")
    assert done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_loads_takes_json_and_opens_its_help_with_its_summary(name: str) -> None:
    context = click.Context(commands)
    found = commands.get_command(context, name)
    assert found is not None
    assert (found.help or "").splitlines()[0] == COMMANDS[name].summary
    leaves = found.commands.values() if isinstance(found, click.Group) else [found]
    for leaf in leaves:
        assert any("--json" in p.opts for p in leaf.params), leaf.name


def test_the_version_is_printed(program) -> None:
    ended = program("--version")
    assert (ended.code, ended.out) == (0, f"{PROGRAM} {__version__}\n")


def test_without_a_command_the_help_is_shown(program) -> None:
    assert program().out == program("--help").out


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_script_is_for_the_shell_asked_for(command, shell: str) -> None:
    ended = command("completion", shell)
    assert ended.code == 0
    assert f"_MYSTOCKS_INGEST_COMPLETE={shell}_complete" in ended.out
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=ended.out, text=True, check=True)


def _completed(words: str, state: Path) -> list[str]:
    count = len(words.split(" ")) - 1
    env = {**os.environ, "_MYSTOCKS_INGEST_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(count)}
    done = subprocess.run(
        [sys.executable, "-m", "mystocks_ingest"], env=env, capture_output=True, text=True, check=True
    )
    return [line.partition(",")[2] for line in done.stdout.splitlines()]


def test_a_shell_completes_commands_options_and_datasets(state: Path) -> None:
    assert _completed(f"{PROGRAM} back", state) == ["backfill"]
    assert "--dry-run" in _completed(f"{PROGRAM} backfill --d", state)
    assert _completed(f"{PROGRAM} backfill --dataset bar_1d,adj", state) == ["bar_1d,adj_factor"]
    assert "bar_1d" in _completed(f"{PROGRAM} read bar", state)
