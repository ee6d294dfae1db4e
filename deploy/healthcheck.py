# ruff: noqa: INP001 - a script of the image, of no package
"""The image's health check: does the service answer? A container that runs another command is well while it runs."""

from __future__ import annotations

import http.client
import os
import sys
from pathlib import Path

SECONDS = 5.0


def main(first: Path) -> int:
    """``first``: the command line of the container's first process. 0: well, 1: not."""
    if b"run" not in first.read_bytes().split(b"\0"):
        return 0
    host = os.environ.get("MYSTOCKS_HTTP_HOST") or "127.0.0.1"
    if host in ("0.0.0.0", "::"):  # noqa: S104 - it listens everywhere, also here
        host = "127.0.0.1"
    connection = http.client.HTTPConnection(host, int(os.environ.get("MYSTOCKS_HTTP_PORT") or 8480), timeout=SECONDS)
    try:
        connection.request("GET", "/health/live")
        return 0 if connection.getresponse().status == http.HTTPStatus.OK else 1
    except (OSError, http.client.HTTPException):
        return 1
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "/proc/1/cmdline")))
