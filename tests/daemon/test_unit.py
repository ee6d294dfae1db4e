"""The systemd unit: what systemd itself says of it, and that it fits the program."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from mystocks_ingest import settings
from mystocks_ingest.cli import COMMANDS
from mystocks_ingest.daemon.running import STOP_SECONDS

UNIT = Path(__file__).parents[2] / "deploy" / "mystocks-ingest.service"


def told() -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in UNIT.read_text(encoding="utf-8").splitlines():
        name, is_setting, value = line.partition("=")
        if is_setting and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


def test_systemd_has_no_complaint_about_the_unit(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not on this machine")
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\n", encoding="utf-8")
    program.chmod(0o755)
    unit = tmp_path / UNIT.name
    text = UNIT.read_text(encoding="utf-8")  # the program itself is not installed here
    unit.write_text(text.replace("/opt/mystocks/.venv/bin/python", str(program)), encoding="utf-8")
    done = subprocess.run(
        [analyze, "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False, timeout=60
    )
    complaints = [line for line in (done.stdout + done.stderr).splitlines() if UNIT.name in line]
    assert complaints == []


def test_it_runs_the_command_there_is_and_waits_longer_than_the_service_takes_to_stop() -> None:
    unit = told()
    assert unit["ExecStart"][0].split()[-3:] == ["-m", "mystocks_ingest", "run"]
    assert "run" in COMMANDS
    assert unit["Type"] == ["notify"]
    assert int(unit["TimeoutStopSec"][0]) > STOP_SECONDS
    assert unit["RestartPreventExitStatus"] == ["2"]


def test_secrets_come_from_the_credentials_directory_and_give_way_to_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secrets_TUSHARE_TOKEN").write_text("a-token-from-a-file\n", encoding="utf-8")
    (tmp_path / "secrets_MYSQL_PASSWORD").write_text("from the file", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    monkeypatch.setenv("MYSQL_PASSWORD", "from the environment")
    found = settings.load()
    assert found.tushare_token is not None
    assert found.tushare_token.get_secret_value() == "a-token-from-a-file"
    assert found.mysql_password is not None
    assert found.mysql_password.get_secret_value() == "from the environment"
    shown = {o.name: o for o in settings.origins(found)}
    assert (shown["TUSHARE_TOKEN"].origin, shown["TUSHARE_TOKEN"].shown) == ("credential", "set, hidden")
    assert shown["MYSQL_PASSWORD"].origin == "environment"
