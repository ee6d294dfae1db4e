"""From the start of ``run`` to its word that it is ready, on four databases that have every table, calendar and list."""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator

import psutil

from bench.live_stage import Stage, staged
from bench.measure import Measurement

STARTS = 7


def run() -> Iterator[Measurement]:
    with staged(counts_only=False) as stage:
        with stage.service(seconds=1, answer=600) as service:
            service.said("loaded")
        found = [_started(stage) for _ in range(STARTS)]
    seconds, cpu = (statistics.median(values) for values in zip(*found, strict=True))
    yield Measurement("run: ready, four databases that are up to date", seconds, "s", 3.0, at_most=True)
    yield Measurement("run: processor time of its own until then", cpu, "s", at_most=True)


def _started(stage: Stage) -> tuple[float, float]:
    """Wall seconds, and processor seconds of the service's process alone."""
    began = time.perf_counter()
    with (stage.folder / "log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mystocks_ingest", "run", "--json"],
            cwd=stage.folder, env={**os.environ, **stage.environment}, stdout=subprocess.PIPE, stderr=log,
        )  # fmt: skip
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        seconds = time.perf_counter() - began
        assert line, (stage.folder / "log").read_text()[-2000:]
        spent = psutil.Process(process.pid).cpu_times()
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        process.stdout.close()
    return seconds, spent.user + spent.system
