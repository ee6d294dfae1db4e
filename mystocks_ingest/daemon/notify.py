"""systemd's notifications (sd_notify): ready, alive, stopping. Silent where nobody listens."""

from __future__ import annotations

import asyncio
import os
import socket

from mystocks_ingest.logs import get

log = get("notify")


def tell(state: str) -> None:
    """Send ``state`` ("READY=1") to the address in NOTIFY_SOCKET."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
            out.sendto(state.encode(), "\0" + address[1:] if address.startswith("@") else address)
    except OSError as exc:
        log.warning("notification.failed", state=state, reason=str(exc))


async def watchdog() -> None:
    """Say twice in WATCHDOG_USEC that the loop turns; returns at once where no watchdog is set for this process."""
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    if not microseconds.isdecimal() or os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return
    while True:
        tell("WATCHDOG=1")
        await asyncio.sleep(int(microseconds) / 2e6)
