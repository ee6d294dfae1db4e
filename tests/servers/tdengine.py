"""A private TDengine for tests: the stand-in of ``servers.taos``, for no package index has the server itself."""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from .private import PrivateServer, free_port


class TaosServer(PrivateServer):
    """The stand-in. What it holds survives ``kill`` and ``start``, unless it ``keeps`` nothing.

    One that ``counts_only`` forgets the rows of prepared inserts, as fast as a server might take them: ``order()["rows"]``.
    """

    name = "taos"

    def __init__(
        self,
        *,
        user: str = "root",
        password: str = "taosdata",  # noqa: S107 - the vendor's default
        version: str | None = None,
        keeps: bool = True,
        counts_only: bool = False,
    ) -> None:
        super().__init__()
        self.owner = None  # it has no scruples about root
        self.control = free_port()
        self.user = user
        self.password = password
        self._version = version
        self._keeps = keeps
        self._counts_only = counts_only

    def prepare(self) -> None:
        """Nothing: its folder is made."""

    def command(self) -> list[str]:
        options = {"port": self.port, "control": self.control, "user": self.user, "password": self.password}
        words = [sys.executable, "-m", "servers.taos"]
        words += ["--folder", str(self.folder)] if self._keeps else []
        words += ["--counts-only"] if self._counts_only else []
        for option, value in options.items():
            words += [f"--{option}", str(value)]
        return words if self._version is None else [*words, "--version", self._version]

    @property
    def environment(self) -> dict[str, str]:
        return super().environment | {"PYTHONPATH": str(Path(__file__).parents[1])}

    def ready(self) -> bool:
        try:
            self.order(asked=True)
        except OSError:
            return False
        return True

    def order(self, **order: Any) -> dict[str, Any]:
        """Send an order to the control port; the counts it answers."""
        with socket.create_connection((self.host, self.control), timeout=30) as line:
            line.sendall(json.dumps(order).encode() + b"\n")
            with line.makefile() as answer:
                return json.loads(answer.readline())  # type: ignore[no-any-return]

    def fault(self, kind: str, **how: Any) -> None:
        """See ``servers.taos.faults.Fault``."""
        self.order(fault={"kind": kind, **how})

    def clear(self) -> None:
        """No more faults; connections are taken again."""
        self.order(clear=True)


class OwnServer:
    """The server that TDENGINE_HOST names, in the stand-in's place; what would harm it is skipped."""

    running = True

    def __init__(self, host: str, port: int, user: str, password: str) -> None:
        self.host, self.port, self.user, self.password = host, port, user, password

    def __getattr__(self, name: str) -> Any:
        pytest.skip(f"a server of one's own is not asked to {name}")

    def thaw(self) -> None:
        """It never froze."""
