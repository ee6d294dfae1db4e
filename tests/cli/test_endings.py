"""Whatever goes wrong, the program says one thing about it and ends with the right code."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest

from mystocks_ingest import cli, logs
from mystocks_ingest.cli import endings, process
from mystocks_ingest.errors import ConfigError, IngestError, Unavailable


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch):
    """A command ``fail`` that raises what it is given."""

    def put(error: BaseException) -> None:
        @click.command()
        def fail() -> None:
            raise error

        monkeypatch.setattr(cli.LazyGroup, "get_command", lambda *_: fail)

    return put


def test_a_wrong_setting_is_one_sentence_and_exit_2(command, failing) -> None:
    failing(ConfigError("tables.yaml line 3:\n no such type"))
    assert command("fail").sentence() == "tables.yaml line 3: no such type"


def test_a_store_that_is_away_is_one_sentence_and_exit_3(command, failing) -> None:
    failing(Unavailable("the disk is full"))
    assert command("fail").sentence(code=3) == "the disk is full"


def test_of_several_tasks_errors_the_users_own_mistake_is_told(command, failing) -> None:
    failing(ExceptionGroup("tasks", [IngestError("late"), ExceptionGroup("inner", [ConfigError("wrong token")])]))
    assert command("fail").sentence() == "wrong token"


def test_a_defect_among_several_errors_is_not_hidden(command, failing, state: Path) -> None:
    failing(ExceptionGroup("tasks", [ConfigError("wrong token"), KeyError("boom")]))
    sentence = command("fail").sentence(code=1)
    assert "unexpected KeyError" in sentence


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOSPC, errno.EDQUOT])
def test_the_machines_own_limits_are_one_sentence_with_a_remedy(command, failing, number: int) -> None:
    failing(OSError(number, os.strerror(number), "var/store.duckdb"))
    sentence = command("fail").sentence()
    assert "var/store.duckdb" in sentence
    assert "MYSTOCKS_STATE_DIR" in sentence


def test_a_defects_traceback_goes_to_a_file_without_secrets(command, failing, state: Path) -> None:
    logs.hide(["tok-9f8e7d6c"])
    failing(ZeroDivisionError("while calling with tok-9f8e7d6c"))
    sentence = command("fail").sentence(code=1)
    (file,) = (state / "log").glob("error-*.txt")
    assert str(file) in sentence
    text = file.read_text(encoding="utf-8")
    assert "ZeroDivisionError" in text
    assert "Traceback" in text
    assert "tok-9f8e7d6c" not in text + sentence


def test_a_defects_traceback_is_on_the_terminal_when_debugging(command, failing, state: Path) -> None:
    failing(ZeroDivisionError("boom"))
    ended = command("fail", env={"MYSTOCKS_DEBUG": "1"})
    assert ended.code == 1
    assert "Traceback" in ended.err
    assert not state.exists()


def test_an_interrupted_backfill_says_how_to_resume(monkeypatch: pytest.MonkeyPatch, command, failing) -> None:
    failing(KeyboardInterrupt())
    ended = command("backfill", env={})
    assert ended.code == 130
    assert ended.err.strip().endswith("mystocks-ingest backfill")


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_cancels_the_work_lets_it_clean_up_and_ends_with_130(stop: signal.Signals, state: Path) -> None:
    code = """
import asyncio, click, sys
from mystocks_ingest import cli
from mystocks_ingest.cli import process
from mystocks_ingest.cli.endings import end_well

async def work():
    print("working", flush=True)
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0.05)
        print("cleaned up", flush=True)

@click.command()
def fail():
    process.run(work())

cli.LazyGroup.get_command = lambda *_: fail
sys.exit(end_well(["fail"]))
"""
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "working\n"
    child.send_signal(stop)
    out, err = child.communicate(timeout=60)
    assert (child.returncode, out, err.strip()) == (130, "cleaned up\n", "interrupted")


def test_a_reader_that_leaves_early_gets_no_traceback(state: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-m", "mystocks_ingest", "completion", "bash"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert child.stdout is not None
    assert child.stderr is not None
    child.stdout.close()
    err = child.stderr.read()
    child.wait(timeout=60)
    child.stderr.close()
    assert err == b""


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["bakfill"], ["no such command 'bakfill'", "mystocks-ingest --help"]),
        (["backfill", "--form", "2024-01-01"], ["--form", "mystocks-ingest backfill --help"]),
        (["completion"], ["missing argument", "bash"]),
        (["backfill", "--from", "2024-13-01"], ["--from", "2024-13-01", "20240131"]),
        (["backfill", "--workers", "0"], ["--workers", "1<=x<=64"]),
        (["backfill", "--symbols", "600000", "--universe", "all"], ["--symbols", "--universe"]),
        (["read"], ["missing argument", "DATASET"]),
        (["read", "bar_1d", "--adjust", "qfq"], ["--adjust", "forward"]),
    ],
)
def test_a_mistyped_command_is_one_sentence_and_exit_2(command, argv: list[str], words: list[str]) -> None:
    sentence = command(*argv).sentence()
    for word in words:
        assert word in sentence


def test_settings_hide_their_secrets(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUSHARE_TOKEN", "0123456789abcdef-token")
    process.settings()
    assert logs.redact("token 0123456789abcdef-token") == f"token {logs.REDACTED}"


def test_the_exit_codes_are_those_of_the_manual() -> None:
    assert [e.value for e in endings.Exit] == [0, 1, 2, 3, 4, 130, 141]
