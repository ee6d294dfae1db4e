"""Tests of the command line call it as the console script does, in this process or in one of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from mystocks_ingest.cli.endings import end_well

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    def sentence(self, *, code: int = 2) -> str:
        """The one sentence of a mistake; fails unless it is the only thing said."""
        assert self.code == code, self
        assert self.out == "", self.out
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        assert lines[0].startswith("error: ")
        assert "Traceback" not in lines[0]
        return lines[0].removeprefix("error: ")


Command = Callable[..., Ended]


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty state directory that the command line uses; the working directory is empty too."""
    folder = tmp_path / "state"
    monkeypatch.setenv("MYSTOCKS_STATE_DIR", str(folder))
    monkeypatch.setenv("MYSTOCKS_CONFIG_DIR", str(ROOT / "config"))
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return folder


@pytest.fixture
def command(state: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs one command in this process."""

    def run(*argv: str, env: Mapping[str, str] | None = None) -> Ended:
        for name, value in (env or {}).items():
            monkeypatch.setenv(name, value)
        capfd.readouterr()
        code = end_well(argv)
        out, err = capfd.readouterr()
        return Ended(int(code), out, err)

    return run


@pytest.fixture
def program(state: Path) -> Command:
    """Runs one command in a process of its own."""

    def run(*argv: str, env: Mapping[str, str] | None = None, seconds: float = 110) -> Ended:
        done = subprocess.run(
            [sys.executable, "-m", "mystocks_ingest", *argv],
            env={**os.environ, **(env or {})},
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    return run
