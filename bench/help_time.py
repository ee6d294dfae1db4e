"""How long ``--help`` takes: no vendor package, no Arrow, no database on the way."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

from bench.measure import Measurement, median_seconds


def run() -> Iterator[Measurement]:
    def call(*words: str) -> None:
        subprocess.run([sys.executable, *words], check=True, capture_output=True)

    yield Measurement(
        "--help", median_seconds(lambda: call("-m", "mystocks_ingest", "--help"), times=7), "s", 0.4, at_most=True
    )
    yield Measurement("bare python", median_seconds(lambda: call("-c", ""), times=7), "s")
