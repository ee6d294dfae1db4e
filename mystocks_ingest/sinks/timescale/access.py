"""Where a PostgreSQL server is and how to talk to it."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Self

from mystocks_ingest.errors import ConfigError
from mystocks_ingest.logs import hide
from mystocks_ingest.settings import Settings

TlsMode = Literal["off", "prefer", "require", "verify"]


@dataclass(frozen=True, slots=True)
class Access:
    """``database`` stands in place of the tables' own ``database_name``; ``timescale``: hypertables are wanted."""

    host: str = "127.0.0.1"
    port: int = 5432
    user: str = "postgres"
    password: str | None = field(default=None, repr=False)
    database: str | None = None
    timescale: bool = True
    pool_size: int = 4
    connect_seconds: float = 10.0
    statement_seconds: float = 60.0
    tls: TlsMode = "prefer"
    tls_ca: Path | None = None

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """What the settings say; the password is never shown from here on."""
        password = settings.postgresql_password
        secret = password.get_secret_value() if password is not None else None
        hide([secret])
        return cls(
            settings.postgresql_host,
            settings.postgresql_port,
            settings.postgresql_user,
            secret,
            settings.postgresql_database,
            timescale=settings.postgresql_timescale == "require",
            pool_size=settings.postgresql_pool_size,
            connect_seconds=settings.postgresql_connect_seconds,
            statement_seconds=settings.postgresql_statement_seconds,
            tls=settings.postgresql_tls,
            tls_ca=settings.postgresql_tls_ca,
        )

    def __str__(self) -> str:
        return f"PostgreSQL at {self.host}:{self.port}"

    @property
    def encryption(self) -> ssl.SSLContext | str | bool:
        """As the driver takes it. Raises ConfigError when the file of authorities cannot be used."""
        if self.tls == "off":
            return False
        if self.tls != "verify":
            return self.tls
        try:
            return ssl.create_default_context(cafile=None if self.tls_ca is None else str(self.tls_ca))
        except OSError as exc:
            raise ConfigError(f"POSTGRESQL_TLS_CA={self.tls_ca} cannot be used ({exc.strerror or exc})") from exc
