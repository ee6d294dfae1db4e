"""Private Redis servers: one, a master with a replica and three Sentinels, a cluster of three masters."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from .private import PrivateServer, binary, free_port

PASSWORD = "wr1te-only-secret"  # noqa: S105 - of a server that lives for one test run
USER = "ingest"
MASTER = "market"
_WAIT_SECONDS = 60.0


class Redis(PrivateServer):
    """``options`` are configuration directives. Rows survive even a kill: every write is on disk before its answer."""

    name = "redis"
    package = "redis-server"

    def __init__(self, options: Sequence[str] = (), *, password: str | None = PASSWORD) -> None:
        self.program = binary(self.package, self.package)
        self.client = binary("redis-cli", "redis-tools")
        super().__init__()
        self.password = password
        self.options = options

    def prepare(self) -> None:
        lines = [
            f"port {self.port}",
            "bind 127.0.0.1",
            f"dir {self.folder}",
            "daemonize no",
            "appendonly yes",
            "appendfsync always",
            'save ""',
            *([f"requirepass {self.password}", f"masterauth {self.password}"] if self.password else ()),
            *self.options,
        ]
        self._write(lines)

    def _write(self, lines: Sequence[str]) -> None:
        path = self.folder / "server.conf"
        path.write_text("\n".join(lines) + "\n")
        path.chmod(0o666)  # Sentinel and failovers write their own file

    def command(self) -> list[str]:
        return [str(self.program), str(self.folder / "server.conf")]

    def ready(self) -> bool:
        try:
            return self.cli("PING") == "PONG"
        except RuntimeError:
            return False

    def cli(self, *words: str | int) -> str:
        """What redis-cli says, without its last line's end."""
        access = ["-a", self.password, "--no-auth-warning"] if self.password else []
        command = (self.client, "-h", self.host, "-p", str(self.port), *access, *map(str, words))
        return self.run(*command).strip()


class RedisWithTLS(Redis):
    """A server that speaks TLS only, with a certificate for 127.0.0.1 that ``authority`` vouches for."""

    name = "redis-tls"

    def __init__(self) -> None:
        self.openssl = binary("openssl", "openssl")
        super().__init__()
        self.authority = self.folder / "cert.pem"
        self.options = (
            "port 0",
            f"tls-port {self.port}",
            f"tls-cert-file {self.authority}",
            f"tls-key-file {self.folder / 'key.pem'}",
            f"tls-ca-cert-file {self.authority}",
            "tls-auth-clients no",
        )

    def prepare(self) -> None:
        self.run(
            self.openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test",
            "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", self.folder / "key.pem", "-out", self.authority,
        )  # fmt: skip
        super().prepare()

    def cli(self, *words: str | int) -> str:
        return super().cli("--tls", "--cacert", str(self.authority), *words)


class Sentinel(Redis):
    """One Sentinel that watches the master at ``port``."""

    name = "sentinel"
    package = "redis-sentinel"

    def __init__(self, watched: int) -> None:
        super().__init__(password=None)
        self.watched = watched

    def prepare(self) -> None:
        self._write(
            [
                f"port {self.port}",
                "bind 127.0.0.1",
                f"dir {self.folder}",
                f"sentinel monitor {MASTER} 127.0.0.1 {self.watched} 2",
                f"sentinel auth-pass {MASTER} {PASSWORD}",
                f"sentinel down-after-milliseconds {MASTER} 2000",
                f"sentinel failover-timeout {MASTER} 4000",
            ]
        )


class _Group:
    """Several servers that live and die together."""

    servers: tuple[Redis, ...]

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for server in self.servers:
                stack.enter_context(server)
            self.settle()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def settle(self) -> None:
        """Make the group of them."""

    def mend(self) -> None:
        """Start and thaw whatever a test left otherwise, and wait until the group is whole."""
        for server in self.servers:
            if server.running:
                server.thaw()
            else:
                server.start()
        self.settled()

    def settled(self) -> None:
        """Returns when the group is whole."""


class RedisUnderSentinel(_Group):
    """A master, a replica, three Sentinels. Who is master changes."""

    def __init__(self) -> None:
        first = Redis()
        self.data = (first, Redis([f"replicaof 127.0.0.1 {first.port}"]))
        self.sentinels = tuple(Sentinel(first.port) for _ in range(3))
        self.servers = (*self.data, *self.sentinels)

    @property
    def master(self) -> Redis:
        """The server that the Sentinels name."""
        for sentinel in self.sentinels:
            if sentinel.running:
                port = int(sentinel.cli("SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER).split()[1])
                return next(s for s in self.data if s.port == port)
        raise RuntimeError("no Sentinel runs")

    def settle(self) -> None:
        self.settled()

    def settled(self) -> None:
        def whole() -> bool:
            masters = [s for s in self.data if s.cli("ROLE").startswith("master")]
            if len(masters) != 1 or masters[0] is not self.master:
                return False
            state = masters[0].cli("INFO", "replication")
            knows = all(
                "num-other-sentinels\n2" in (said := s.cli("SENTINEL", "MASTER", MASTER))
                and "num-slaves\n1" in said
                and "flags\nmaster\n" in said
                for s in self.sentinels
            )
            return "connected_slaves:1" in state and "state=online" in state and knows

        _until(whole, "the Sentinels' group")


class RedisCluster(_Group):
    """Three masters, without replicas."""

    def __init__(self) -> None:
        self.servers = tuple(
            Redis(
                [
                    "cluster-enabled yes",
                    f"cluster-port {free_port()}",
                    "cluster-node-timeout 5000",
                    "cluster-require-full-coverage no",
                ]
            )
            for _ in range(3)
        )

    def settle(self) -> None:
        first = self.servers[0]
        nodes = [f"{s.host}:{s.port}" for s in self.servers]
        first.cli("--cluster", "create", *nodes, "--cluster-replicas", 0, "--cluster-yes")
        self.settled()

    def settled(self) -> None:
        def whole() -> bool:
            states = [s.cli("CLUSTER", "INFO") for s in self.servers]
            if not all("cluster_state:ok" in s and "cluster_slots_ok:16384" in s for s in states):
                return False
            nodes = [[line.split() for line in s.cli("CLUSTER", "NODES").splitlines()] for s in self.servers]
            return len({frozenset((words[0], *words[8:]) for words in view) for view in nodes}) == 1

        _until(whole, "the cluster")


def _until(condition, what: str) -> None:  # type: ignore[no-untyped-def]
    deadline = time.monotonic() + _WAIT_SECONDS
    while True:
        try:
            if condition():
                return
        except RuntimeError:
            pass  # one of them is not back yet
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what} did not become whole in {_WAIT_SECONDS} s")
        time.sleep(0.05)
