"""TDengine's error codes as this program's errors."""

from __future__ import annotations

import re

from mystocks_ingest.errors import ConfigError, IngestError, NoRight, Rejected, Unavailable
from mystocks_ingest.logs import redact

_ROWS = {
    0x060B: "a time is outside what the database keeps",
    0x2653: "a value is too long",
    0x267B: "the time is null",
    0x0216: "a value does not fit its column",
    0x0200: "a value does not fit its column",
    0x0236: "too many rows of one table",
}
_MISSING = frozenset({0x2603, 0x022B, 0x0362, 0x2662})
_STRANGER = frozenset({0x0351, 0x0357})  # no such user, or a wrong password
_RIGHTS = frozenset({0x0303, 0x2644})
_STRUCTURE = frozenset(
    {*range(0x0360, 0x0380), 0x0381, 0x0382, 0x0383, 0x0384, 0x0386}
)  # tables and databases, refused
_OURS = -1  # the child says so: no server was asked
_INNER = re.compile(r"Internal error: `(.*)`$", re.DOTALL)


class Broken(Exception):
    """The connection is of no more use, and the call may be sent again on a new one."""


class Refused(ConfigError):
    """A statement that the server does not take, and would not take again; ``code`` is TDengine's."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class Denied(Refused, NoRight):
    """The user lacks the right."""


def broken(code: int | None) -> bool:
    """Whether the fault is in the connection: refused, closed, timed out."""
    return code is None or code >> 12 == 0xE


def translated(code: int | None, text: str, place: str) -> IngestError:
    """The error for ``code``, with what to do; ``place`` is the server's host:port."""
    said = _said(text)
    if code == _OURS:
        return Rejected(f"TDengine: a value cannot be brought over: {said}")
    if code == 0x0200 and "db is not specified" in said:  # the next call enters it anew, or hears that it is gone
        return Unavailable(f"TDengine at {place}: the connection's database was dropped meanwhile")
    if code in _ROWS:
        return Rejected(f"TDengine: {_ROWS[code]}: {said}")
    if code is not None and code in _STRANGER:
        return ConfigError(
            f"TDengine at {place} refuses the user or password: check TDENGINE_USER and TDENGINE_PASSWORD"
        )
    if code is not None and code in _RIGHTS:
        return Denied(f"TDengine at {place} denies the right: {said}: grant it to TDENGINE_USER", code)
    if code == 0x0388:
        return Refused(
            f"TDengine at {place} has no such database any more ({said}): start again, and it is made anew", code
        )
    if code is not None and code in _MISSING:
        return Refused(
            f"TDengine at {place} has no such table any more ({said}): start again, and it is made anew", code
        )
    if code == 0x03BA:
        return ConfigError(
            f"TDengine at {place} has no vnodes left for another database: raise supportVnodes in taos.cfg, or lower "
            "VGROUPS in TDENGINE_DATABASE_OPTIONS"
        )
    if code is not None and (code >> 8 == 0x26 or code in _STRUCTURE):
        return Refused(f"TDengine at {place} does not take a statement: {said}", code)
    return Unavailable(f"TDengine at {place} cannot take the call: {said}")


def unreached(text: str, place: str) -> Unavailable:
    return Unavailable(f"TDengine at {place} cannot be reached: {_said(text)}")


def _said(text: str) -> str:
    """The server's own words, on one line."""
    found = _INNER.search(text)
    head = text.split(" ", 1)[0] if text.startswith("[0x") else ""
    return redact(" ".join(f"{head} {found[1]}".split() if found else text.split()))[:400]
