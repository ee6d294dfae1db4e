"""kill -9 at any moment: no acknowledged entry is lost, and none is doubled."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from places import Place, rows, settled

KILLS = 10
TELLER = Path(__file__).with_name("teller.py")
pytestmark = pytest.mark.timeout(400)  # as many starts of a process, on a machine that may be busy


def killed_while_telling(place: Place, first: int, words: int, seconds: float) -> list[str]:
    """What a teller that was killed some ``seconds`` after so many words had been promised."""
    where = ["embedded"]
    if place.server is not None:
        server = place.server
        where = [server.host, str(server.port), server.user, server.password, place.database]
    process = subprocess.Popen(
        [sys.executable, str(TELLER), str(place.folder), str(first), *where], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    said = [process.stdout.readline() for _ in range(words)]
    assert said[0].startswith("began"), said
    time.sleep(seconds)
    os.kill(process.pid, signal.SIGKILL)
    said += process.stdout.readlines()
    process.stdout.close()
    assert process.wait() == -signal.SIGKILL
    return [line.strip() for line in said if line.endswith("\n")]


async def test_a_kill_at_any_moment_loses_and_doubles_nothing(place: Place) -> None:
    moments = random.Random(20)
    promised: list[str] = []
    for kill in range(KILLS):
        words = moments.randint(1, 8)  # of each operation that it begins and that it ended
        promised += killed_while_telling(place, kill * 1_000_000, words, moments.uniform(0.0, 0.3))
    began = {int(line.split()[1]) for line in promised if line.startswith("began")}
    ended = {int(line.split()[1]) for line in promised if line.startswith("ended")}
    assert len(ended) > KILLS, "the kills came before anything was done"  # by the words that were waited for
    async with place.log() as log:
        await settled(log)
        operations = await rows(log, "table_operation_log", "table_name", "operation_type", "operation_status")
        creations = await rows(log, "table_creation_log", "table_name", "id")
        columns = await rows(log, "column_definition_log", "table_log_id", "column_name")
        validations = await rows(log, "table_validation_log", "table_name")
        waiting = await log.waiting()
    told = [(name, how) for name, kind, how in operations if kind == "CREATE"]
    assert max(Counter(name for name, _ in told).values()) == 1
    assert {f"t{n}" for n in began} <= {name for name, _ in told}
    assert {(f"t{n}", "success") for n in ended} <= set(told)
    names = [name for name, _ in creations]
    assert len(set(names)) == len(names)
    assert set(names) == {name for name, how in told if how == "success"}
    expected = [(number, column) for _, number in creations for column in ("a", "b")]
    assert sorted(columns, key=str) == sorted(expected, key=str)
    assert max(Counter(validations).values()) == 1
    assert {f"v{n}" for n in ended} <= {str(name) for (name,) in validations}
    assert (waiting.entries, waiting.refused, waiting.lost) == (0, 0, 0)
