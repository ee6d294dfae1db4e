"""The service at another time that runs faster: ``python hurried.py 2024-06-28T09:24+08:00 60``.

A line ``MOMENT SPEED`` on standard input sets its clock, which it answers with a line. Ends with its standard input.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
import time
from datetime import UTC, datetime, timedelta

from mystocks_ingest.cli import process
from mystocks_ingest.daemon import running

_STANDING = 60.0  # how fast those who wait look again while the clock stands


class Hurried:
    """flow.schedule.Clock: ``speed`` seconds pass in one of ours; 0: it stands."""

    def __init__(self, moment: datetime, speed: float) -> None:
        self.set(moment, speed)

    def set(self, moment: datetime, speed: float) -> None:
        self._state = (moment.astimezone(UTC), speed, time.monotonic())

    def now(self) -> datetime:
        moment, speed, since = self._state
        return moment + timedelta(seconds=(time.monotonic() - since) * speed)

    def seconds(self, length: timedelta) -> float:
        return length.total_seconds() / (self._state[1] or _STANDING)


def _listen(clock: Hurried) -> None:
    for line in sys.stdin:
        moment, speed = line.split()
        clock.set(datetime.fromisoformat(moment), float(speed))
        _say({"event": "set"})
    os.kill(os.getpid(), signal.SIGKILL)  # nobody is there any more


def _say(what: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def main() -> None:
    clock = Hurried(datetime.fromisoformat(sys.argv[1]), float(sys.argv[2]))
    threading.Thread(target=_listen, args=(clock,), name="clock", daemon=True).start()
    asyncio.run(running.run(process.settings(), clock=clock, told=lambda _: _say({"event": "ready"})))


if __name__ == "__main__":
    main()
