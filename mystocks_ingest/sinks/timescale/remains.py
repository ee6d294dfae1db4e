"""What is left on the server of connections that were cut amid a statement.

A server that hung, or a network that did, carries out later what it had been sent: an old row could so come after its
correction. Before another connection is used, the old one's process on the server is ended and seen to be gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import asyncpg
from asyncpg import exceptions as pg

from mystocks_ingest.errors import Unavailable
from mystocks_ingest.logs import get

log = get("postgresql")

APPLICATION = "mystocks-ingest"
_LOOK_SECONDS = 0.05
_WAIT_SECONDS = 2.0  # for them to end, before the caller is told to come again
_GIVE_UP_SECONDS = 60.0  # one that cannot be ended (a disk that hangs) must not stop the others for ever

# a process of the same number that is another's, or that is nobody's any more, is left alone
_THERE = """
SELECT pid FROM pg_stat_activity
WHERE pid = ANY ($1::int[]) AND pid <> pg_backend_pid() AND usename = current_user AND application_name = $2
"""
_END = f"SELECT pg_terminate_backend(pid) FROM ({_THERE}) AS left_behind"  # noqa: S608 - our own text


class Remains:
    """The processes of one database's connections that were cut, by number."""

    def __init__(self) -> None:
        self._since: dict[int, float | None] = {}  # when each was first seen to live on

    def __bool__(self) -> bool:
        return bool(self._since)

    def add(self, pid: int) -> None:
        self._since.setdefault(pid, None)

    def discard(self, pid: int) -> None:
        """It ended well, or a new connection has its number."""
        self._since.pop(pid, None)

    async def ended(self, connection: asyncpg.Connection) -> None:
        """End them by ``connection``, and return once they are gone. Raises Unavailable, and the driver's errors."""
        clock = asyncio.get_running_loop().time
        until = clock() + _WAIT_SECONDS
        asked = list(self._since)
        try:
            await connection.fetch(_END, asked, APPLICATION)
        except pg.InsufficientPrivilegeError as exc:
            log.warning("statements.unended", reason=str(exc), instead="an old statement may still be carried out")
            self._forget(asked)
            return
        while there := {row["pid"] for row in await connection.fetch(_THERE, asked, APPLICATION)}:
            self._forget(pid for pid in asked if pid not in there)
            begun = [self._since.get(pid) or self._seen(pid, clock()) for pid in there]
            if clock() - min(begun) > _GIVE_UP_SECONDS:
                log.warning("statements.unended", processes=sorted(there), reason="the server does not end them")
                self._forget(there)
                return
            if clock() > until:
                raise Unavailable("the server still carries out what it was sent before it fell silent", after=1.0)
            await asyncio.sleep(_LOOK_SECONDS)
        self._forget(asked)

    def _seen(self, pid: int, now: float) -> float:
        self._since[pid] = now
        return now

    def _forget(self, pids: Iterable[int]) -> None:
        for pid in tuple(pids):
            self.discard(pid)
