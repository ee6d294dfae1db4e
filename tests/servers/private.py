"""A private server as a test sees it: start, stop, kill, freeze, thaw."""

from __future__ import annotations

import atexit
import json
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

START_SECONDS = 120.0
END_SECONDS = 60.0


class Missing(Exception):
    """A server's binary is not installed; the text says what to install."""


class _Keeper:
    """The one keeper process of this process, started at first use."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._turn = threading.Lock()

    def start(
        self,
        command: Sequence[str],
        folder: Path,
        log: Path,
        environment: Mapping[str, str],
        owner: tuple[int, int] | None,
    ) -> int:
        """The pid of the started command, which leads a session of its own."""
        uid, gid = owner or (None, None)
        request = {
            "command": [str(word) for word in command],
            "folder": str(folder),
            "log": str(log),
            "environment": dict(environment),
            "uid": uid,
            "gid": gid,
        }
        with self._turn:  # servers are started from several threads at once
            answer = self._asked(json.dumps(request))
        if "pid" not in answer:
            raise RuntimeError(f"{command[0]} did not start: {answer['error']}")
        return int(answer["pid"])

    def _asked(self, request: str) -> dict[str, str]:
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                [sys.executable, "-S", str(Path(__file__).with_name("keeper.py"))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
            atexit.register(self.close)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(request + "\n")
        self._process.stdin.flush()
        return dict(json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        """End the keeper and with it every server."""
        if self._process is None:
            return
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
        self._process = None


KEEPER = _Keeper()


def binary(name: str, package: str, *folders: str) -> Path:
    """The installed program ``name``, the newest of ``folders`` (globs under /) first. Raises Missing."""
    for pattern in folders:
        found = [p for p in Path("/").glob(pattern.lstrip("/")) if (p / name).is_file()]
        if found:
            return max(found, key=lambda p: [int(n) if n.isdigit() else 0 for n in p.parts]) / name
    path = shutil.which(name)
    if path is None:
        raise Missing(
            f"{name} is not installed: run `sh tests/servers/install.sh` as root, or install the package {package} "
            "(Debian's name); `pytest --allow-missing` skips what needs it"
        )
    return Path(path)


def free_port() -> int:
    """A loopback port that is this process's as long as it lives: nobody listens there, and no other test run takes it.

    A server binds it seconds later, and again after each restart. The port is therefore not one that the system gives
    to those who connect or listen just anywhere, and a UDP socket of the same number, which we keep, tells other test
    runs that it is taken.
    """
    for port in random.Random().sample(range(_FIRST_PORT, _ports_given_out()), 500):
        claim = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: a connection's end may linger
            try:
                claim.bind(("127.0.0.1", port))
                probe.bind(("127.0.0.1", port))
            except OSError:
                claim.close()
                continue
        _CLAIMS.append(claim)
        return port
    raise RuntimeError("no free port was found")


def _ports_given_out() -> int:
    """The first port that the system gives to whoever asks for any."""
    try:
        first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError):
        return 32_768  # not Linux: others begin later
    return first if first > _FIRST_PORT + 5_000 else 32_768


_FIRST_PORT = 15_000  # below are well-known ones
_CLAIMS: list[socket.socket] = []


@atexit.register
def _unclaim() -> None:
    for claim in _CLAIMS:
        claim.close()


def unprivileged() -> tuple[int, int] | None:
    """User and group that run the servers when we are root, for which most refuse to start; None: ourselves."""
    if os.geteuid() != 0:
        return None
    nobody = pwd.getpwnam("nobody")
    return nobody.pw_uid, nobody.pw_gid


class PrivateServer(ABC):
    """One server process in a directory of its own. ``with Server() as server: ...``.

    A subclass says how to prepare the directory, the command line, and when the server is ready.
    """

    name: str

    def __init__(self) -> None:
        self.host = "127.0.0.1"
        self.port = free_port()
        self.owner = unprivileged()
        self.folder = Path(tempfile.mkdtemp(prefix=f"{self.name}-"))
        if self.owner is not None:
            os.chown(self.folder, *self.owner)
        self.log = self.folder / "server.log"
        self.pid: int | None = None

    @abstractmethod
    def prepare(self) -> None:
        """Make the data directory; called once. Use ``run`` for the server's own tools."""

    @abstractmethod
    def command(self) -> list[str]:
        """The server's command line; it must stay in the foreground."""

    @abstractmethod
    def ready(self) -> bool:
        """Whether it answers (a real request, not only an open port)."""

    def settle(self) -> None:  # noqa: B027 - most need nothing
        """What is to be done once, when the server runs for the first time: databases, users."""

    def __enter__(self) -> Self:
        try:
            self.prepare()
            self.start()
            self.settle()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def environment(self) -> dict[str, str]:
        """What the server and its tools see: no setting of the developer's own."""
        return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8", "HOME": str(self.folder), "TZ": "UTC"}

    def run(self, *command: str | Path, stdin: str | None = None) -> str:
        """Run a tool to its end as the server's user; its output. Raises RuntimeError with what it said."""
        uid, gid = self.owner or (None, None)
        done = subprocess.run(
            [str(word) for word in command],
            cwd=self.folder,
            env=self.environment,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            check=False,
            user=uid,
            group=gid,
            extra_groups=[] if uid is not None else None,
        )
        if done.returncode:
            raise RuntimeError(f"{command[0]} failed: {done.stderr or done.stdout}")
        return done.stdout

    def start(self) -> None:
        """Start (again), on the same port and data; returns when it answers."""
        assert self.pid is None or not self.running, "it runs already"
        self.pid = KEEPER.start(self.command(), self.folder, self.log, self.environment, self.owner)
        deadline = time.monotonic() + START_SECONDS
        while not self.ready():
            if not self.running or time.monotonic() > deadline:
                said = self.log.read_text(errors="replace")[-2000:] if self.log.exists() else ""
                raise RuntimeError(f"{self.name} did not start:\n{said}")
            time.sleep(0.05)

    @property
    def running(self) -> bool:
        return bool(self._processes())

    def stop(self, *, how: signal.Signals = signal.SIGTERM) -> None:
        """The orderly end, as an administrator would."""
        processes = self._processes()
        if processes:
            processes[0].send_signal(how)
            self._gone(processes)

    def kill(self) -> None:
        """``kill -9`` of the whole server; returns when nothing of it is left."""
        processes = self._processes()
        for process in processes:
            try:
                process.kill()  # the main one first, so that it starts nothing new
            except psutil.NoSuchProcess:
                continue
        self._gone(processes)

    def freeze(self) -> None:
        """SIGSTOP to every process of the server: it keeps its connections and answers nothing."""
        for process in self._processes():
            process.suspend()

    def thaw(self) -> None:
        for process in self._processes():
            process.resume()

    def close(self) -> None:
        """End the server and remove its directory."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _processes(self) -> list[psutil.Process]:
        """Every live process of the server, the main one first."""
        if self.pid is None:
            return []
        found: list[psutil.Process] = []
        try:
            main = psutil.Process(self.pid)
            found = [main, *main.children(recursive=True)]
        except psutil.NoSuchProcess:
            pass  # it has ended; its session may still hold children
        known = {p.pid for p in found}
        for pid in psutil.pids():
            try:
                if pid not in known and os.getsid(pid) == self.pid:
                    found.append(psutil.Process(pid))
            except (psutil.Error, OSError):
                continue  # it ended meanwhile
        return _alive(found)

    def _gone(self, processes: Sequence[psutil.Process]) -> None:
        deadline = time.monotonic() + END_SECONDS
        while left := _alive(processes):
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.name} did not end: {left}")
            time.sleep(0.02)
        self.pid = None


def _alive(processes: Sequence[psutil.Process]) -> list[psutil.Process]:
    alive = []
    for process in processes:
        try:
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                alive.append(process)
        except psutil.Error:
            continue
    return alive
