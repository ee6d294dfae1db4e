"""The parent of every private server: starts what it is told, and ends all of it when its own parent goes.

A test may stop and start a server without a child of pytest's appearing, and a pytest that was killed leaves no
server behind: the keeper's standard input ends, and so does everything it started. One JSON request per line in,
one JSON answer per line out.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys


def _start(request: dict[str, object]) -> subprocess.Popen[bytes]:
    uid, gid = request["uid"], request["gid"]
    who = {} if uid is None else {"user": uid, "group": gid, "extra_groups": []}
    with open(str(request["log"]), "ab") as log:  # noqa: PTH123 - a plain script
        return subprocess.Popen(
            request["command"],  # type: ignore[arg-type]
            cwd=str(request["folder"]),
            env=request["environment"],  # type: ignore[arg-type]
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            **who,  # type: ignore[arg-type]
        )


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):  # it has ended already
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _answer(content: dict[str, object]) -> None:
    sys.stdout.write(json.dumps(content) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Serve requests until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl+C in a terminal is for the parent
    running: list[subprocess.Popen[bytes]] = []
    waiting = selectors.DefaultSelector()
    waiting.register(sys.stdin.fileno(), selectors.EVENT_READ)
    pending = b""
    while True:
        if waiting.select(timeout=0.05):
            read = os.read(sys.stdin.fileno(), 1 << 16)
            if not read:
                break
            *lines, pending = (pending + read).split(b"\n")
            for line in lines:
                try:
                    process = _start(json.loads(line))
                except OSError as exc:
                    _answer({"error": str(exc)})
                else:
                    running.append(process)
                    _answer({"pid": process.pid})
        running = [p for p in running if p.poll() is None]  # reaps those that have ended
    for process in running:
        _end(process)


if __name__ == "__main__":
    main()
