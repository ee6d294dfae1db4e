"""Where the server is, who we are there, and how long we wait for it."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Self

from mystocks_ingest.errors import ConfigError
from mystocks_ingest.logs import hide
from mystocks_ingest.settings import Settings

APPLICATION = "mystocks_ingest"


@dataclass(frozen=True, slots=True)
class Access:
    """``database``: in place of those the tables name. ``idle_seconds``: after so long a connection is tried first."""

    host: str = "127.0.0.1"
    port: int = 3306
    user: str = "root"
    password: str = field(default="", repr=False)
    database: str | None = None
    pool_size: int = 4
    connect_seconds: float = 10.0
    statement_seconds: float = 60.0
    idle_seconds: float = 20.0
    recycle_seconds: float = 1800.0
    tls: Literal["off", "prefer", "require", "verify"] = "prefer"
    tls_ca: Path | None = None

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """What the settings say; the password is never shown from here on."""
        password = settings.mysql_password.get_secret_value() if settings.mysql_password is not None else ""
        hide([password])
        return cls(
            settings.mysql_host,
            settings.mysql_port,
            settings.mysql_user,
            password,
            settings.mysql_database,
            settings.mysql_pool_size,
            settings.mysql_connect_seconds,
            settings.mysql_statement_seconds,
            tls=settings.mysql_tls,
            tls_ca=settings.mysql_tls_ca,
        )

    def __str__(self) -> str:
        return f"MySQL at {self.host}:{self.port}"

    def context(self) -> ssl.SSLContext | None:
        """How to encrypt; None: not at all. Raises ConfigError when the authorities' file cannot be read."""
        if self.tls == "off":
            return None
        try:
            context = ssl.create_default_context(cafile=self.tls_ca)
        except (OSError, ssl.SSLError) as exc:
            raise ConfigError(
                f"MYSQL_TLS_CA: cannot read certificates from {self.tls_ca} ({exc}): name a PEM file"
            ) from exc
        if self.tls != "verify":  # as the server's own client does: encrypted, and not proven to be the right server
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context
