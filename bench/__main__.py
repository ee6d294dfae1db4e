"""``python -m bench [WORD]``: every benchmark whose name has the word, each in a process of its own.

Prints a table of ratios, our part and its peers having run on the same frame in the same run, and keeps it in
``bench/last.json``. Ends with 1 when a target is missed.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from concurrent.futures import ProcessPoolExecutor

from bench.measure import Measurement, keep, measured, show

MODULES = (
    "help_time",
    "embedded_write",
    "daily_bars",
    "backfill_13m",
    "mysql_write",
    "tdengine_write",
    "postgresql_write",
    "redis_write",
    "sink_growth",
    "schema_plan",
    "ready_time",
    "live_load",
    "live_burst",
)
_SWITCHES = {"RUNTIME__DLTHUB_TELEMETRY": "false", "DO_NOT_TRACK": "1"}


def main(word: str) -> int:
    chosen = [m for m in MODULES if word.replace("-", "_") in m]
    if not chosen:
        print(f"no benchmark has {word!r} in its name; there are {', '.join(MODULES)}")
        return 2
    os.environ.update(_SWITCHES)
    found: list[Measurement] = []
    for module in chosen:
        print(f"{module} ...", file=sys.stderr, flush=True)
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as alone:
            found += alone.submit(measured, module).result()
    show(found)
    keep(found)
    return 1 if any(m.met is False for m in found) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else ""))
