"""A log line is valid JSON without secrets, whatever is logged and whoever says it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Any

import pytest

from mystocks_ingest import logs

SCRIPT = """
import asyncio, logging, sys, warnings
from mystocks_ingest import logs

class Silent:
    def __str__(self):
        raise RuntimeError

logs.configure(form="json", level="debug")
logs.configure(form="json", level="info")
logs.hide(["s3cr3t/W0rd"])
log = logs.get("test")
log.info("numbers.told", nan=float("nan"), infinite=[float("-inf")], fine=1.5)
log.info("nothing.shown", value=Silent(), inside={Silent(): [Silent()]})
log.info("headers.told", text="Bearer eyJhbGciOi.q9secret and basic dXNlcjpwYXNz= but a basic understanding")
log.info("address.told", text="https://host/send?key=q9secret&x=1&sign=q9secret", quoted="x?p=s3cr3t%2FW0rd")
log.info("document.told", text='{"token": "q9secret with q9secret words", "left": 5, \\'password\\': \\'q9 secret\\'}')
try:
    try:
        raise ValueError("password=q9secret s3cr3t/W0rd")
    except ValueError as exc:
        raise RuntimeError("mysql://root:q9secret@db/x") from exc
except RuntimeError:
    log.exception("work.failed", nested={"a": [{"api_key": "q9secret"}]})
logging.getLogger("some.library").warning("token=%s of %s", "q9secret", "s3cr3t/W0rd")
logging.getLogger("some.library").info("nobody asked")
logging.getLogger("some.library").error("%d", "no number")
warnings.warn("a warning with s3cr3t/W0rd", RuntimeWarning)

async def forgotten():
    async def fails():
        raise ValueError("password=q9secret")
    task = asyncio.create_task(fails())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    del task

asyncio.run(forgotten())
"""


def lines() -> list[dict[str, Any]]:
    """What a process says, each line read as strictly as any reader may."""

    def refuse(word: str) -> object:
        raise AssertionError(word)

    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == ""
    assert "q9secret" not in done.stderr
    assert "q9 secret" not in done.stderr
    assert "s3cr3t" not in done.stderr
    return [json.loads(line, parse_constant=refuse) for line in done.stderr.splitlines()]


def test_every_line_is_json_without_secrets_also_what_libraries_and_forgotten_tasks_say() -> None:
    said = lines()
    by = {line["event"]: line for line in said}
    assert (by["numbers.told"]["nan"], by["numbers.told"]["infinite"], by["numbers.told"]["fine"]) == (
        "nan",
        ["-inf"],
        1.5,
    )
    assert by["nothing.shown"]["value"] == "a Silent that cannot be shown"
    assert by["headers.told"]["text"] == "Bearer *** and basic *** but a basic understanding"
    assert by["address.told"]["text"] == "https://host/send?key=***&x=1&sign=***"
    assert by["document.told"]["text"] == '{"token": ***, "left": 5, \'password\': ***}'
    assert "RuntimeError: mysql://root:***@db/x" in by["work.failed"]["exception"]
    libraries = [line for line in said if line["event"] == "library.said"]
    assert [(line["part"], line["level"]) for line in libraries] == [
        ("some.library", "warning"), ("some.library", "error"), ("py.warnings", "warning"), ("asyncio", "error"),
    ]  # fmt: skip
    assert libraries[0]["text"] == "token=*** of ***"
    assert "ValueError: password=***" in libraries[-1]["exception"]


@pytest.mark.parametrize("long", ["长" * 400_000, "https://" + "a" * 400_000, "x://y:" + "z" * 400_000])
def test_a_long_word_takes_its_length_in_time_and_not_its_square(long: str) -> None:
    began = time.thread_time()
    assert logs.redact(f"{long} mysql://me:q9secret@host/") == f"{long} mysql://me:{logs.REDACTED}@host/"
    assert time.thread_time() - began < 10  # its square were minutes
