"""A private MariaDB, or MySQL where that is what is installed."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from .private import Missing, PrivateServer, binary

BINARIES = "TEST_MYSQL_BIN"
"""Environment variable: the folder of another server's programs (mariadbd or mysqld), such as MySQL 8's."""

USER = "ingest"
PASSWORD = "wr1te-only-sëcret"  # noqa: S105 - of a server that lives for one test run
ADMIN_PASSWORD = "adm1n-secret"  # noqa: S105 - likewise


class MariaDB(PrivateServer):
    """``options`` are server settings (``{"max_allowed_packet": "1M"}``)."""

    name = "mariadb"

    def __init__(self, options: dict[str, str] | None = None) -> None:
        own = os.environ.get(BINARIES)
        self.server = self._server(Path(own)) if own else self._found()
        super().__init__()
        self.mysql = self.server.name == "mysqld"
        self.user, self.password = USER, PASSWORD
        self.options = {
            "innodb_buffer_pool_size": "128M",
            "loose_innodb_log_file_size": "96M",  # MySQL 9 has it no more
            "local_infile": "1",
            "max_connections": "60",
            **(options or {}),
        }

    @staticmethod
    def _server(folder: Path) -> Path:
        for name in ("mariadbd", "mysqld"):
            if (folder / name).is_file():
                return folder / name
        raise Missing(f"{BINARIES}: neither mariadbd nor mysqld in {folder}")

    @staticmethod
    def _found() -> Path:
        try:
            return binary("mariadbd", "mariadb-server", "usr/sbin", "usr/local/sbin", "opt/homebrew/bin")
        except Missing as exc:
            try:
                return binary("mysqld", "mysql-server", "usr/sbin", "usr/local/mysql/bin")
            except Missing:
                raise exc from None

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def socket(self) -> Path:
        return self.folder / "server.sock"

    def _tool(self, *words: str) -> Path:
        """A program beside the server, or the system's."""
        for word in words:
            for folder in (self.server.parent, self.server.parent.parent / "bin"):
                if (folder / word).is_file():
                    return folder / word
        return binary(words[0], "mariadb-server")

    @property
    def client(self) -> Path:
        """The server's own command-line client."""
        return self._tool("mysql") if self.mysql else self._tool("mariadb", "mysql")

    def prepare(self) -> None:
        (self.folder / "tmp").mkdir()
        if self.owner is not None:
            os.chown(self.folder / "tmp", *self.owner)
        lines = [
            "[mysqld]",
            f"datadir={self.data}",
            f"socket={self.socket}",
            f"pid-file={self.folder / 'server.pid'}",
            f"tmpdir={self.folder / 'tmp'}",
            "bind-address=127.0.0.1",
            f"port={self.port}",
            "skip-name-resolve",
            "skip-log-bin",
            "character-set-server=utf8mb4",
            *(["mysqlx=0", "secure-file-priv=NULL"] if self.mysql else []),
            *(f"{name}={value}" for name, value in self.options.items()),
        ]
        (self.folder / "my.cnf").write_text("\n".join(lines) + "\n")
        (self.folder / "my.cnf").chmod(0o644)
        config = f"--defaults-file={self.folder / 'my.cnf'}"
        if self.mysql:
            self.run(self.server, config, "--initialize-insecure")
        else:
            self.run(
                self._tool("mariadb-install-db", "mysql_install_db"), config, "--auth-root-authentication-method=normal",
                "--skip-test-db",
            )  # fmt: skip

    def command(self) -> list[str]:
        return [str(self.server), f"--defaults-file={self.folder / 'my.cnf'}"]

    def ready(self) -> bool:
        asked = subprocess.run(
            [str(self._tool("mysqladmin") if self.mysql else self._tool("mariadb-admin", "mysqladmin")),
             "--no-defaults", f"--socket={self.socket}", "--connect-timeout=1", "-uping", "ping"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        return asked.returncode == 0 or "Access denied" in asked.stderr

    def settle(self) -> None:
        self.sql(
            f"ALTER USER root@localhost IDENTIFIED BY '{ADMIN_PASSWORD}';"
            f"CREATE USER {USER}@'127.0.0.1' IDENTIFIED BY '{PASSWORD}';"
            f"GRANT ALL ON *.* TO {USER}@'127.0.0.1';",
            password="",
        )

    def sql(self, script: str, *, password: str = ADMIN_PASSWORD) -> str:
        """What the client says to ``script``, run as root; fields by tabs."""
        return self.run(
            self.client, "--no-defaults", f"--socket={self.socket}", "-uroot", f"-p{password}" if password else "--skip-password",
            "--default-character-set=utf8mb4", "--batch", "--skip-column-names", stdin=script,
        ).strip()  # fmt: skip
