"""What is left on a server of connections that were dropped amid a statement.

A server that hung, or a network that did, carries out later what it had been sent; and one that is slow does not notice
that nobody waits any more. An old row could so come after its correction. Before another connection is used, what the
server keeps of the old one (a process, a thread) is ended and seen to be gone.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Generic, TypeVar

from mystocks_ingest.errors import NoRight, Unavailable
from mystocks_ingest.logs import get

Connection = TypeVar("Connection")

_LOOK_SECONDS = 0.05
_WAIT_SECONDS = 2.0  # for them to end, before the caller is told to come again
_GIVE_UP_SECONDS = 60.0  # one that cannot be ended (a disk that hangs) must not stop the others for ever


class Remains(ABC, Generic[Connection]):
    """The dropped connections by the number that the server gave them; ``store`` is the log's name for it."""

    def __init__(self, store: str) -> None:
        self._log = get(store)
        self._since: dict[int, float | None] = {}  # when each was first seen to live on

    def __bool__(self) -> bool:
        return bool(self._since)

    def add(self, number: int) -> None:
        """It was dropped, and may still carry out what it was sent."""
        self._since.setdefault(number, None)

    def forget(self, numbers: Iterable[int]) -> None:
        """They are gone: a new connection has the number, or the server was started anew."""
        for number in tuple(numbers):
            self._since.pop(number, None)

    @abstractmethod
    async def living(self, connection: Connection, numbers: tuple[int, ...]) -> set[int]:
        """Those that the server still has, and that are ours: a number may be another's after a restart."""

    @abstractmethod
    async def end(self, connection: Connection, numbers: set[int]) -> None:
        """Ask the server to end them. Raises NoRight."""

    async def ended(self, connection: Connection) -> None:
        """End them by ``connection``, and return once they are gone. Raises Unavailable, and the driver's errors."""
        clock = asyncio.get_running_loop().time
        until = clock() + _WAIT_SECONDS
        asked = tuple(self._since)
        told: set[int] = set()
        while there := await self.living(connection, asked):
            self.forget(number for number in asked if number not in there)
            try:
                if there - told:
                    await self.end(connection, there - told)
            except NoRight as exc:
                self._log.warning("statements.unended", reason=str(exc), instead="an old statement may be carried out")
                self.forget(there)
                return
            told |= there
            begun = [self._since.get(number) or self._seen(number, clock()) for number in there]
            if clock() - min(begun) > _GIVE_UP_SECONDS:
                self._log.warning("statements.unended", numbers=sorted(there), reason="the server does not end them")
                self.forget(there)
                return
            if clock() > until:
                raise Unavailable("the server still carries out what it was sent before it fell silent", after=1.0)
            await asyncio.sleep(_LOOK_SECONDS)
        self.forget(asked)

    def _seen(self, number: int, now: float) -> float:
        self._since[number] = now
        return now
