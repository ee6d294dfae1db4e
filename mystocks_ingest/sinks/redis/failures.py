"""Redis' own errors in our words: try later, or correct the settings."""

from __future__ import annotations

import asyncio
import ssl

from redis import exceptions as redis_errors

from mystocks_ingest.errors import ConfigError, IngestError, NoRight, Rejected, Unavailable
from mystocks_ingest.logs import redact

_LATER = (  # Redis' error codes that pass by themselves or by an administrator's hand
    "OOM", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "MISCONF", "BUSY", "NOREPLICAS", "UNBLOCKED",
    "ERR max number of clients",
)  # fmt: skip
_REMEDIES = {
    "WRONGPASS": "it refuses the password: set REDIS_PASSWORD, and REDIS_USER where the user is not `default`",
    "NOAUTH": "it wants a password: set REDIS_PASSWORD",
    "NOPERM": "the user lacks a right ({text}): grant it with ACL SETUSER",
    "NOPROTO": "it is older than Redis 7: use Redis 7 or later",
    "CROSSSLOT": "it is a cluster: name its nodes in REDIS_CLUSTER",
    "MOVED": "it is a cluster: name its nodes in REDIS_CLUSTER",
}


class NoLibrary(Exception):
    """The server does not know our functions: it is new, was restarted empty, or they were flushed."""


class Lost(Unavailable):
    """The connection ended, or the server is no master any more: another try may find a better one at once."""


class Moved(Exception):
    """A cluster's slot lies elsewhere: for good, or for this one command at ``asking``."""

    def __init__(self, asking: tuple[str, int] | None = None) -> None:
        super().__init__("the slot lies elsewhere")
        self.asking = asking


def translated(exc: BaseException, where: str) -> IngestError | NoLibrary | Moved:
    """Ours for a driver's error; ``where`` is the server's host:port."""
    text = redact(str(exc))
    match exc:
        case redis_errors.MovedError():
            return Moved()
        case redis_errors.AskError():
            return Moved((exc.host, int(exc.port)))
        case redis_errors.AuthenticationError() | redis_errors.AuthenticationWrongNumberOfArgsError():
            remedy = _REMEDIES["NOAUTH" if "authenticated" in text or "required" in text else "WRONGPASS"]
            return ConfigError(f"Redis at {where}: {remedy}")
        case redis_errors.NoPermissionError():
            return NoRight(f"Redis at {where}: {_REMEDIES['NOPERM'].format(text=text)}")
        case ssl.SSLError():
            return ConfigError(f"Redis at {where}: no TLS with it ({text}): see REDIS_TLS and REDIS_TLS_CA")
        case redis_errors.ResponseError():
            return _replied(exc, text, where)
        case asyncio.TimeoutError() | redis_errors.TimeoutError():
            return Unavailable(f"Redis at {where} did not answer in time")
        case redis_errors.ConnectionError() if isinstance(
            exc.__cause__ or exc.__context__, ssl.SSLCertVerificationError
        ):
            return ConfigError(f"Redis at {where}: no TLS with it ({text}): see REDIS_TLS and REDIS_TLS_CA")
        case redis_errors.BusyLoadingError():
            return Unavailable(f"Redis at {where} takes no rows now: {text}")
        case redis_errors.RedisError() | OSError():
            return Lost(f"Redis at {where} cannot be reached: {text}")
        case _:
            raise exc


def _replied(exc: redis_errors.ResponseError, text: str, where: str) -> IngestError | NoLibrary | Moved:
    code = {  # redis-py takes the code off those it has a class for
        redis_errors.OutOfMemoryError: "OOM",
        redis_errors.ReadOnlyError: "READONLY",
        redis_errors.MasterDownError: "MASTERDOWN",
        redis_errors.ClusterDownError: "CLUSTERDOWN",
        redis_errors.TryAgainError: "TRYAGAIN",
        redis_errors.ClusterCrossSlotError: "CROSSSLOT",
    }.get(type(exc), text.split(" ", 1)[0])
    if "Function not found" in text:
        return NoLibrary()
    if code == "READONLY":
        return Lost(f"Redis at {where} is a replica and takes no rows")
    if code == "NOPERM":
        return NoRight(f"Redis at {where}: {_REMEDIES[code].format(text=text)}")
    if code in _REMEDIES:
        return ConfigError(f"Redis at {where}: {_REMEDIES[code].format(text=text)}")
    if "unknown command" in text.lower() or "unknown subcommand" in text.lower():
        return ConfigError(f"Redis at {where}: {_REMEDIES['NOPROTO']}")
    if "DB index is out of range" in text or "SELECT is not allowed" in text:
        return ConfigError(f"Redis at {where} has no such database: set REDIS_DB to one it has (0 in a cluster)")
    if "WRONGTYPE" in text:
        return Rejected(f"Redis at {where} holds something else under a row's key: {text}")
    if code in _LATER or text.startswith(_LATER) or any(word in text for word in ("OOM ", "MISCONF ")):
        return Unavailable(f"Redis at {where} takes no rows now: {text}")
    return Rejected(f"Redis at {where}: {text}")
