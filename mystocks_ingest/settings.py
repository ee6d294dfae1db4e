"""Settings: one place, typed, read from the environment and ``.env``; where each came from is known.

Order, first wins: real environment, ``.env`` in the working directory, a file in systemd's ``CREDENTIALS_DIRECTORY``
(``LoadCredential=``), default. Names are the users' own
(``MYSTOCKS_*``, ``TUSHARE_*``, ``POSTGRESQL_*`` ...).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

from dotenv import dotenv_values
from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from mystocks_ingest.errors import ConfigError

_OTHERS = {"MYSTOCKS_DEBUG", "MYSTOCKS_PUBLISH_ADDRESS"}  # of cli/endings.py and docker-compose.yml
_ALIKE = 0.8  # of difflib's ratio
LOG_LEVELS = ("debug", "info", "warning", "error", "critical")
KNOWN_STORES = ("tdengine", "postgresql", "redis", "mysql")


def _config_dir() -> Path:
    """``./config`` where it exists, else the files that came with the package (installed, or in its tree)."""
    package = Path(__file__).parent
    shipped = (Path("config"), package / "config", package.parent / "config")
    return next((folder for folder in shipped if (folder / "tables.yaml").is_file()), Path("config"))


class Settings(BaseSettings):
    """All settings. Build with ``load()``."""

    model_config = SettingsConfigDict(
        env_file=".env",
        env_file_encoding="utf-8",
        env_ignore_empty=True,  # TUSHARE_TOKEN= in a copied .env.example or a compose file means: not set
        extra="ignore",
        frozen=True,
        populate_by_name=True,
    )

    state_dir: Path = Field(Path("var"), alias="MYSTOCKS_STATE_DIR")
    config_dir: Path = Field(default_factory=_config_dir, alias="MYSTOCKS_CONFIG_DIR")
    stores: str = Field("", alias="MYSTOCKS_STORES")
    schema_at_start: Literal["apply", "report"] = Field("apply", alias="MYSTOCKS_SCHEMA")
    log_format: str = Field("console", alias="MYSTOCKS_LOG_FORMAT")
    log_level: str = Field("warning", alias="MYSTOCKS_LOG_LEVEL")
    sink_patience_seconds: float = Field(
        600.0, alias="MYSTOCKS_SINK_PATIENCE", ge=0
    )  # how long a backfill waits for one
    spool_megabytes: int = Field(2048, alias="MYSTOCKS_SPOOL_MB", ge=1)  # of rows that wait for databases, at most
    http_host: str = Field("127.0.0.1", alias="MYSTOCKS_HTTP_HOST")
    http_port: int = Field(8480, alias="MYSTOCKS_HTTP_PORT", ge=0, le=65535)  # 0: one that is free
    http_tokens: SecretStr | None = Field(None, alias="MYSTOCKS_HTTP_TOKENS")  # SHA-256 of each, or a file of them
    stream: Literal["off", "on"] = Field("off", alias="MYSTOCKS_STREAM")  # deliveries by Redis streams, at REDIS_*
    stream_prefix: str = Field("mystocks:ingest", alias="MYSTOCKS_STREAM_PREFIX", min_length=1)  # then :dataset
    stream_group: str = Field("mystocks", alias="MYSTOCKS_STREAM_GROUP", min_length=1)
    stream_claim_seconds: float = Field(60.0, alias="MYSTOCKS_STREAM_CLAIM_SECONDS", ge=1)  # idle: their reader is dead
    monitor_database: str = Field("db_monitor", alias="MYSTOCKS_MONITOR_DATABASE", pattern=r"^[A-Za-z0-9_]{1,64}$")
    page_away_seconds: float = Field(1800.0, alias="MYSTOCKS_PAGE_AWAY_SECONDS", ge=0)  # of a required database
    page_spool_percent: float = Field(50.0, alias="MYSTOCKS_PAGE_SPOOL_PERCENT", ge=0, le=100)  # of its rows alone
    alert_urls: SecretStr | None = Field(None, alias="MYSTOCKS_ALERT_URLS")  # of apprise, apart by spaces
    archive_dir: Path | None = Field(None, alias="MYSTOCKS_ARCHIVE_DIR")  # what the `files` source reads
    call_deadline_seconds: float = Field(60.0, alias="MYSTOCKS_CALL_DEADLINE", gt=0)
    pacing: Literal["vendor", "none"] = Field("vendor", alias="MYSTOCKS_PACING")  # none: only at replaced endpoints
    tushare_token: SecretStr | None = Field(None, alias="TUSHARE_TOKEN")
    tushare_points: int = Field(2000, alias="TUSHARE_POINTS", ge=0)
    tushare_endpoint: str | None = Field(None, alias="TUSHARE_ENDPOINT")
    baostock_endpoint: str | None = Field(None, alias="BAOSTOCK_ENDPOINT")
    baostock_api_key: SecretStr | None = Field(None, alias="BAOSTOCK_API_KEY")
    akshare_endpoint: str | None = Field(None, alias="AKSHARE_ENDPOINT")
    tdengine_host: str = Field("127.0.0.1", alias="TDENGINE_HOST")  # several: host:port with commas
    tdengine_port: int = Field(6041, alias="TDENGINE_PORT", ge=1, le=65535)  # of taosAdapter
    tdengine_user: str = Field("root", alias="TDENGINE_USER")
    tdengine_password: SecretStr = Field(SecretStr("taosdata"), alias="TDENGINE_PASSWORD")
    tdengine_pool_size: int = Field(2, alias="TDENGINE_POOL_SIZE", ge=1, le=16)  # each is a process
    tdengine_connect_seconds: float = Field(5.0, alias="TDENGINE_CONNECT_SECONDS", ge=1)
    tdengine_statement_seconds: float = Field(30.0, alias="TDENGINE_STATEMENT_SECONDS", ge=1)
    tdengine_tls: Literal["off", "require", "verify"] = Field("off", alias="TDENGINE_TLS")
    tdengine_tls_ca: Path | None = Field(None, alias="TDENGINE_TLS_CA")
    tdengine_database_options: str = Field(
        "VGROUPS 1 BUFFER 64 KEEP 36500 DURATION 90 WAL_LEVEL 2 WAL_FSYNC_PERIOD 0",
        alias="TDENGINE_DATABASE_OPTIONS",
        pattern=r"^[A-Za-z0-9_ ',]*$",
    )
    postgresql_host: str = Field("127.0.0.1", alias="POSTGRESQL_HOST")  # PostgreSQL 13 or later
    postgresql_port: int = Field(5432, alias="POSTGRESQL_PORT", ge=1, le=65535)
    postgresql_user: str = Field("postgres", alias="POSTGRESQL_USER")
    postgresql_password: SecretStr | None = Field(None, alias="POSTGRESQL_PASSWORD")
    postgresql_database: str | None = Field(None, alias="POSTGRESQL_DATABASE")  # in place of tables.yaml's
    postgresql_timescale: Literal["require", "off"] = Field("require", alias="POSTGRESQL_TIMESCALE")
    postgresql_pool_size: int = Field(4, alias="POSTGRESQL_POOL_SIZE", ge=1, le=64)
    postgresql_connect_seconds: float = Field(10.0, alias="POSTGRESQL_CONNECT_SECONDS", gt=0)
    postgresql_statement_seconds: float = Field(60.0, alias="POSTGRESQL_STATEMENT_SECONDS", gt=0)
    postgresql_tls: Literal["off", "prefer", "require", "verify"] = Field("prefer", alias="POSTGRESQL_TLS")
    postgresql_tls_ca: Path | None = Field(None, alias="POSTGRESQL_TLS_CA")  # in place of the system's authorities
    mysql_host: str = Field("127.0.0.1", alias="MYSQL_HOST")  # MySQL 8.0 or later, or MariaDB 10.6 or later
    mysql_port: int = Field(3306, alias="MYSQL_PORT", ge=1, le=65535)
    mysql_user: str = Field("root", alias="MYSQL_USER")
    mysql_password: SecretStr | None = Field(None, alias="MYSQL_PASSWORD")
    mysql_database: str | None = Field(None, alias="MYSQL_DATABASE")  # in place of those named in tables.yaml
    mysql_pool_size: int = Field(4, alias="MYSQL_POOL_SIZE", ge=1, le=64)
    mysql_connect_seconds: float = Field(10.0, alias="MYSQL_CONNECT_SECONDS", gt=0)
    mysql_statement_seconds: float = Field(60.0, alias="MYSQL_STATEMENT_SECONDS", gt=0)
    mysql_tls: Literal["off", "prefer", "require", "verify"] = Field("prefer", alias="MYSQL_TLS")
    mysql_tls_ca: Path | None = Field(None, alias="MYSQL_TLS_CA")  # in place of the system's authorities
    redis_host: str = Field("127.0.0.1", alias="REDIS_HOST")  # Redis 7 or later, or Valkey
    redis_port: int = Field(6379, alias="REDIS_PORT", ge=1, le=65535)
    redis_user: str | None = Field(None, alias="REDIS_USER")  # an ACL user; None: default
    redis_password: SecretStr | None = Field(None, alias="REDIS_PASSWORD")
    redis_db: int = Field(0, alias="REDIS_DB", ge=0)
    redis_sentinels: str = Field("", alias="REDIS_SENTINELS")  # host:port with commas; they name the server
    redis_sentinel_master: str = Field("mymaster", alias="REDIS_SENTINEL_MASTER")
    redis_sentinel_user: str | None = Field(None, alias="REDIS_SENTINEL_USER")
    redis_sentinel_password: SecretStr | None = Field(None, alias="REDIS_SENTINEL_PASSWORD")
    redis_cluster: str = Field("", alias="REDIS_CLUSTER")  # host:port with commas: some of its nodes
    redis_pool_size: int = Field(4, alias="REDIS_POOL_SIZE", ge=1, le=64)  # connections to each server
    redis_connect_seconds: float = Field(3.0, alias="REDIS_CONNECT_SECONDS", gt=0)
    redis_seconds: float = Field(10.0, alias="REDIS_SECONDS", gt=0)  # for the answers to one batch
    redis_expire_seconds: int = Field(0, alias="REDIS_EXPIRE_SECONDS", ge=0)  # of tables that do not say; 0: never
    redis_tls: Literal["off", "require", "verify"] = Field("off", alias="REDIS_TLS")
    redis_tls_ca: Path | None = Field(None, alias="REDIS_TLS_CA")  # in place of the system's authorities
    redis_tls_certificate: Path | None = Field(None, alias="REDIS_TLS_CERTIFICATE")  # ours, where Redis wants one
    redis_tls_key: Path | None = Field(None, alias="REDIS_TLS_KEY")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - pydantic's signature; credentials() instead
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The first that has a value wins."""
        return init_settings, env_settings, dotenv_settings, InitSettingsSource(settings_cls, dict(credentials()))

    @field_validator("stores")
    @classmethod
    def _known_stores(cls, value: str) -> str:
        names = [n.strip() for n in value.split(",") if n.strip()]
        unknown = sorted(set(names) - set(KNOWN_STORES))
        if unknown:
            raise ValueError(f"unknown store {', '.join(unknown)}; known: {', '.join(KNOWN_STORES)}")
        return ",".join(names)

    @field_validator("log_level")
    @classmethod
    def _known_level(cls, value: str) -> str:
        if value.lower() not in LOG_LEVELS:
            raise ValueError(f"must be one of {', '.join(LOG_LEVELS)}")
        return value.lower()

    @field_validator("log_format")
    @classmethod
    def _known_format(cls, value: str) -> str:
        if value not in ("console", "json"):
            raise ValueError("must be console or json")
        return value


def credentials() -> Mapping[str, str]:
    """What systemd's ``LoadCredential=`` handed over, by name; of a directory loaded as ``secrets`` each file.

    Raises ConfigError for one that is no text.
    """
    named = os.environ.get("CREDENTIALS_DIRECTORY")
    folder = Path(named) if named else None  # and no other in its place: any folder may exist, with anything in it
    files = sorted(folder.iterdir()) if folder is not None and folder.is_dir() else []
    return {f.name.removeprefix("secrets_"): _secret(f) for f in files if f.is_file()}


def _secret(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as exc:
        why = exc.strerror if isinstance(exc, OSError) else "it is not UTF-8 text"
        raise ConfigError(f"the credential {file} cannot be read: {why}; write it anew, or take it out") from None


def load() -> Settings:
    """The settings now in force. Raises ConfigError naming every wrong variable, never its value."""
    try:
        return Settings()
    except ValidationError as exc:
        wrong = "; ".join(f"{e['loc'][0] if e['loc'] else 'settings'}: {e['msg']}" for e in exc.errors())
        raise ConfigError(f"wrong settings: {wrong}") from None


Stamp = tuple[int, int, int] | None


def stamp_of(file: Path) -> Stamp:
    """How a file looks, so that a change of it is noticed; None where it is not there."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def strangers() -> dict[str, str]:
    """Names that look like settings and are none, with the setting that is most like each: a slip has no effect.

    What is like none is told only where it begins with MYSTOCKS_ and stands in ``.env``, with nothing for the setting;
    MYSQL_ROOT_PASSWORD and its like are somebody else's.
    """
    known = {str(info.alias or name) for name, info in Settings.model_fields.items()}
    file = set(dotenv_values(".env"))
    found = {}
    for name in sorted({*os.environ, *file, *credentials()} - known - _OTHERS):
        prefix = name.partition("_")[0] + "_"
        endings = [k.removeprefix(prefix) for k in known if k.startswith(prefix)]
        like = get_close_matches(name.removeprefix(prefix), endings, 1, _ALIKE)
        if like or (name in file and prefix == "MYSTOCKS_"):
            found[name] = prefix + like[0] if like else ""
    return found


@dataclass(frozen=True, slots=True)
class Origin:
    """One setting as it may be shown, and where it came from."""

    name: str
    shown: str
    origin: str  # "environment", ".env", "credential", "default"


def origins(settings: Settings) -> list[Origin]:
    """Every setting of ``settings`` with its origin; a secret is shown as set or not set, never its value."""
    environment = {name.upper() for name, value in os.environ.items() if value}
    handed = credentials()
    file = {name.upper() for name, value in dotenv_values(".env").items() if value}
    found = []
    for field, info in type(settings).model_fields.items():
        name = str(info.alias or field)
        value: object = getattr(settings, field)
        origin = "environment" if name in environment else ".env" if name in file else "default"
        if origin == "default" and name in handed:
            origin = "credential"
        secret = "SecretStr" in str(info.annotation)
        shown = ("not set" if value is None else "set, hidden") if secret else "" if value is None else str(value)
        found.append(Origin(name, shown, origin))
    return found
