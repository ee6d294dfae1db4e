"""Every error this program raises on purpose. Each one says what can be done next.

Vendors' and drivers' own exceptions are translated into these once, at the adapter that knows them
(``raise ... from exc``), with secrets already removed from the text.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from enum import StrEnum


class Outcome(StrEnum):
    """How one call to a source ended. "No data" and "failed" are different answers."""

    OK = "ok"
    EMPTY = "empty"
    DENIED = "denied"
    LIMITED = "limited"
    BANNED = "banned"
    UNREACHABLE = "unreachable"
    MALFORMED = "malformed"


class IngestError(Exception):
    """Root of this program's errors."""


class ConfigError(IngestError):
    """The user's settings, files or arguments are wrong; the text says what, where, and the remedy."""


class NoRight(ConfigError):
    """A database does not let this user do what is needed; the text names the right, which may be given at any time."""


class StoreBusy(ConfigError):
    """The embedded store's file is open in another process."""

    def __init__(self, message: str, *, owner_pid: int | None) -> None:
        super().__init__(message)
        self.owner_pid = owner_pid


class Retryable(IngestError):
    """The same call may work later. ``after`` is the number of seconds to wait, where it is known."""

    def __init__(self, message: str, *, after: float | None = None) -> None:
        super().__init__(message)
        self.after = after


class Unreachable(Retryable):
    """No usable answer arrived: refused, reset, timed out, or the lane had to be killed."""


class Malformed(Retryable):
    """An answer arrived and cannot be trusted: HTML, missing columns, a page lost, a row cap reached."""


class Limited(IngestError):
    """A quota is used up until ``until`` (aware, UTC)."""

    def __init__(self, message: str, *, until: datetime) -> None:
        super().__init__(message)
        self.until = until


class Banned(Limited):
    """The vendor shuts this address or account out; nothing of its family should be called before ``until``."""


class Denied(IngestError):
    """The vendor refuses for good: a wrong token, a missing right, a client too old. A retry cannot help."""


class Unsupported(IngestError):
    """This source does not offer what was asked (dataset, exchange, interval). Another one may."""


class Rejected(IngestError):
    """A sink refuses rows for what is in them; the batch must be split."""


class Unavailable(Retryable):
    """A sink cannot take rows at the moment: stopped, full, read-only."""


class Full(Unavailable):
    """The spool, or the disk it lies on, takes no more."""


class UnsafeChange(IngestError):
    """A schema change that may lose data and was not asked for by name."""


class Drifted(IngestError):
    """A table is not as the file describes it, and was not mended: nothing is written to it.

    ``readable``: what the file describes is all there, so that rows can be read.
    """

    def __init__(self, message: str, *, readable: bool = True) -> None:
        super().__init__(message)
        self.readable = readable


def outcome_of(error: BaseException | None, *, rows: int = 0) -> Outcome:
    """The typed outcome of a source call that raised ``error``, or returned ``rows`` rows."""
    match error:
        case None:
            return Outcome.OK if rows else Outcome.EMPTY
        case Banned():
            return Outcome.BANNED
        case Limited():
            return Outcome.LIMITED
        case Denied() | Unsupported():
            return Outcome.DENIED
        case Malformed():
            return Outcome.MALFORMED
        case Unreachable():
            return Outcome.UNREACHABLE
        case _:
            raise error


def leaves(error: BaseException) -> Iterator[BaseException]:
    """What went wrong, one by one, where several things did at once."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error
