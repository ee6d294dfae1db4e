"""A private PostgreSQL, with TimescaleDB where its files are installed beside the server."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from .private import PrivateServer, binary

BINARIES = "TEST_POSTGRESQL_BIN"
"""Environment variable: the folder of another PostgreSQL's programs, such as one that has TimescaleDB."""

FOLDERS = ("usr/lib/postgresql/*/bin", "usr/pgsql-*/bin", "usr/local/pgsql/bin", "opt/homebrew/opt/postgresql@*/bin")
USER = "ingest"
PASSWORD = "wr1te-only-secret"  # noqa: S105 - of a server that lives for one test run
DATABASE = "quant_research"


class PostgreSQL(PrivateServer):
    """``options`` are server settings (``{"fsync": "off"}``)."""

    name = "postgresql"

    def __init__(self, options: dict[str, str] | None = None) -> None:
        own = os.environ.get(BINARIES)
        self.tools = Path(own) if own else binary("initdb", "postgresql", *FOLDERS).parent
        super().__init__()
        self.user, self.password, self.database = USER, PASSWORD, DATABASE
        self.timescale = any((share / "extension" / "timescaledb.control").is_file() for share in self._shares())
        self.options = {"max_connections": "40", "shared_buffers": "128MB", **(options or {})}

    def _shares(self) -> tuple[Path, Path]:
        """Where extensions may lie: Debian's place, and the one beside the programs."""
        return self.tools.parents[3] / "share" / "postgresql" / self.tools.parent.name, self.tools.parent / "share"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def prepare(self) -> None:
        (self.folder / "secret").write_text(PASSWORD)
        (self.folder / "secret").chmod(0o644)
        self.run(
            self.tools / "initdb", "-D", self.data, "-U", "postgres", "-A", "scram-sha-256", "-E", "UTF8",
            "--pwfile", self.folder / "secret", "--no-sync", "--locale=C.UTF-8",
        )  # fmt: skip
        options = {
            "listen_addresses": "'127.0.0.1'",
            "unix_socket_directories": "''",
            "timezone": "'UTC'",
            **(
                {"shared_preload_libraries": "timescaledb", "timescaledb.telemetry_level": "off"}
                if self.timescale
                else {}
            ),
            **self.options,
        }
        with (self.data / "postgresql.auto.conf").open("a") as file:
            file.writelines(f"{name} = {value}\n" for name, value in options.items())

    def command(self) -> list[str]:
        return [str(self.tools / "postgres"), "-D", str(self.data), "-p", str(self.port)]

    def ready(self) -> bool:
        try:
            self.run(self.tools / "pg_isready", "-q", "-h", self.host, "-p", str(self.port), "-t", "1")
        except RuntimeError:
            return False
        return True

    def settle(self) -> None:
        self.psql(f"CREATE ROLE {USER} LOGIN PASSWORD '{PASSWORD}'", database="postgres")
        self.psql(f"CREATE DATABASE {DATABASE} OWNER {USER}", database="postgres")
        if self.timescale:
            self.psql("CREATE EXTENSION timescaledb")

    def psql(self, script: str, *, database: str = DATABASE) -> str:
        """What psql says to ``script``, run as the superuser; fields by ``|``."""
        command = (self.tools / "psql", "-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", self.url(database))
        return self.run(*command, stdin=script).strip()

    def url(self, database: str = DATABASE, *, user: str = "postgres") -> str:
        return f"postgresql://{user}:{PASSWORD}@{self.host}:{self.port}/{database}"

    def stop(self, *, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT is PostgreSQL's fast shutdown: sessions are ended, data is flushed."""
        super().stop(how=how)
