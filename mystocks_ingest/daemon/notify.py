"""systemd's notifications (sd_notify): starting, ready, alive, reloading, stopping. Silent where nobody listens."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from mystocks_ingest.logs import get, redact

log = get("notify")

_EXTEND_SECONDS = 60.0  # asked for while the start goes on, so that a long one is no failed one
_EXTEND_EVERY = 15.0
_STATUS_CHARS = 300


def tell(*states: str) -> None:
    """Send ``states`` ("READY=1", "STATUS=...") as one message to the address in NOTIFY_SOCKET."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
            out.settimeout(1.0)  # a manager that hangs must not hang us
            out.sendto("\n".join(states).encode(), "\0" + address[1:] if address.startswith("@") else address)
    except OSError as exc:
        log.warning("notification.failed", state=states[0], reason=str(exc))


def status(text: str) -> str:
    """``text`` as `systemctl status` is to show it: one line, no secret in it."""
    return "STATUS=" + " ".join(redact(text).split())[:_STATUS_CHARS]


def reloading() -> None:
    """Files are being looked at again; READY=1 ends it. systemd wants the monotonic clock's time with it."""
    tell("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")


@asynccontextmanager
async def starting(ready: asyncio.Event) -> AsyncIterator[None]:
    """Until ``ready`` systemd grants the start more time as long as the loop turns: a damaged spool is mended in minutes."""
    task = asyncio.create_task(_extend(ready), name="start")
    try:
        yield
    finally:
        task.cancel()


async def watchdog() -> None:
    """Say twice in WATCHDOG_USEC that the loop turns; returns at once where no watchdog is set for this process."""
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    if not microseconds.isdecimal() or os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return
    while True:
        tell("WATCHDOG=1")
        await asyncio.sleep(int(microseconds) / 2e6)


async def _extend(ready: asyncio.Event) -> None:
    while not ready.is_set():
        tell(f"EXTEND_TIMEOUT_USEC={_EXTEND_SECONDS * 1e6:.0f}")
        with suppress(TimeoutError):
            async with asyncio.timeout(_EXTEND_EVERY):
                await ready.wait()
