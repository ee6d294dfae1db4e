"""The service at another time that runs faster: ``python hurried.py 2024-06-28T09:24+08:00 60``.

A line ``MOMENT SPEED SINCE`` on standard input sets its clock: it was that moment at the second ``SINCE`` of this
machine's monotonic clock. ``stand``: it stands. Either is answered with the time it shows. Ends with its standard input.
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
        self.set(moment, speed, time.monotonic())

    def set(self, moment: datetime, speed: float, since: float) -> None:
        self._state = (moment.astimezone(UTC), speed, since)

    def stand(self) -> None:
        self.set(self.now(), 0.0, 0.0)

    def now(self) -> datetime:
        moment, speed, since = self._state
        return moment + timedelta(seconds=(time.monotonic() - since) * speed)

    def seconds(self, length: timedelta) -> float:
        return length.total_seconds() / (self._state[1] or _STANDING)


def _listen(clock: Hurried) -> None:
    for line in sys.stdin:
        if line.strip() == "stand":
            clock.stand()
        else:
            moment, speed, since = line.split()
            clock.set(datetime.fromisoformat(moment), float(speed), float(since))
        _say({"event": "set", "now": clock.now().isoformat()})
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
