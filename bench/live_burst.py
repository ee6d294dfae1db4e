"""Fifty times the usual rate: 90,000 rows a second, delivered to the service in answers of 5,400 rows.

Each is delivered on time, whether or not the ones before are stored, as gateways do; who delivers is told when its rows
are durable. What must hold: every row is stored in the end, and within sixty seconds nothing waits any more. What
/health says meanwhile is printed. ``BENCH_BURST_SECONDS`` (60) is how long.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from bench.live_load import IdleLoop
from bench.live_stage import staged
from bench.measure import Measurement

SECONDS = float(os.environ.get("BENCH_BURST_SECONDS", "60"))
RATE = float(os.environ.get("BENCH_BURST_RATE", "90000"))


def run() -> Iterator[Measurement]:
    with (
        staged() as stage,
        IdleLoop() as beside,
        stage.service(rate=RATE, answer=5_400, seconds=SECONDS, push=True) as service,
    ):
        ready = service.said("ready")
        service.said("begun")
        looking = service.watched(ready["http"])
        found = service.said("loaded")
        looking.set()
        kept = stage.taos.order()["rows"].get("quote", 0)
        shown = int(stage.redis.cli("DBSIZE"))
    print("  /health during and after it:")
    before = ""
    for line in service.health:
        if line[8:] != before:
            print(f"  {line}")
        before = line[8:]
    name = f"burst, {RATE:,.0f} rows/s for {SECONDS:g} s"
    offered, at_end = found["offered"], found["at_end"]
    print(f"  {offered:,} rows offered, {kept:,} in TDengine, {shown:,} symbols in Redis")
    yield Measurement(f"{name}: rows offered", found["rate"], "rows/s")
    yield Measurement(f"{name}: rows durable while it lasted", at_end["stored"] / found["wall"], "rows/s")
    yield Measurement(f"{name}: rows lost", offered - min(kept, found["stored"]), "rows", 0, at_most=True)
    yield Measurement(f"{name}: until nothing waited", found["settled"], "s", 60, at_most=True)
    yield Measurement(f"{name}: processor time of one core", 100 * found["cpu"] / found["wall"], "%")
    yield Measurement(f"{name}: memory at its end", found["after"]["rss"] / 1e6, "MB")
    yield Measurement(f"{name}: the loop's lag, p99", 1000 * found["lags"]["p99"], "ms", 20, at_most=True)
    yield Measurement(f"{name}: an idle loop's lag beside it, p99", 1000 * beside(), "ms")
