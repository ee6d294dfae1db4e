"""What somebody new types by mistake is answered with a sentence, or with what there is."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import mystocks_ingest
from mystocks_ingest.errors import ConfigError


@pytest.mark.parametrize("group", ["jobs", "schema", "monitor", "dead-letters", "alerts"])
def test_a_group_without_a_command_shows_its_commands_line_by_line(command, group: str) -> None:
    shown = command(group)
    assert (shown.code, shown.out) == (2, "")
    lines = shown.err.splitlines()
    assert lines[0] == f"Usage: mystocks-ingest {group} [OPTIONS] COMMAND [ARGS]..."
    assert "Commands:" in lines
    assert len(lines) > 8


def test_symbols_for_a_dataset_without_them_are_one_sentence(command) -> None:
    said = command("read", "calendar", "600519").sentence()
    assert said.endswith("calendar is not kept by symbol; leave 600519 out")
    with pytest.raises(ConfigError, match="calendar is not kept by symbol; leave symbols out"):
        mystocks_ingest.read("calendar", "600519")
    with pytest.raises(ConfigError, match="limit=0 is no number of rows"):
        mystocks_ingest.read("bar_1d", limit=0)


@pytest.mark.parametrize("argv", [("--help",), ("completion", "bash"), ("read", "--help")])
def test_a_reader_of_the_output_that_has_gone_is_no_defect(argv: tuple[str, ...]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        ended = subprocess.run(
            [sys.executable, "-m", "mystocks_ingest", *argv], stdout=writing, stderr=subprocess.PIPE, check=False
        )
    finally:
        os.close(writing)
    assert (ended.returncode, ended.stderr) == (141, b"")
