"""What is left on the server of connections that were dropped amid a statement.

A server that hung, or a network that did, carries out later what it had been sent; and one that is slow does not notice
that nobody waits any more. An old row could so come after its correction. Before another connection is used, the old one's
thread on the server is ended and seen to be gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from pymysql import err

from mystocks_ingest.errors import Unavailable
from mystocks_ingest.logs import get
from mystocks_ingest.sinks.mysql.faults import code_of
from mystocks_ingest.sinks.mysql.wire import Wire

log = get("mysql")

_LOOK_SECONDS = 0.05
_WAIT_SECONDS = 2.0  # for them to end, before the caller is told to come again
_GIVE_UP_SECONDS = 60.0  # one that cannot be ended (a disk that hangs) must not stop the others for ever
_GONE, _NOT_OURS = 1094, 1095

_MACHINE = "LEFT({0}.HOST, CHAR_LENGTH({0}.HOST) - LOCATE(':', REVERSE({0}.HOST)))"


class Remains:
    """The threads of connections that were dropped, by number."""

    def __init__(self) -> None:
        self._since: dict[int, float | None] = {}  # when each was first seen to live on

    def __bool__(self) -> bool:
        return bool(self._since)

    def add(self, wire: Wire) -> None:
        if wire.thread is not None:
            self._since.setdefault(wire.thread, None)

    def followed(self, wire: Wire) -> None:
        """A new connection. Numbers rise: where its own is lower the server has been started anew, and they are gone."""
        if wire.thread is not None:
            self._forget(n for n in tuple(self._since) if n >= wire.thread)

    async def ended(self, wire: Wire) -> None:
        """End them by ``wire``, and return once they are gone. Raises Unavailable, and the driver's errors."""
        clock = asyncio.get_running_loop().time
        until = clock() + _WAIT_SECONDS
        asked = tuple(self._since)
        killed: set[int] = set()
        while there := await _living(wire, asked):
            self._forget(n for n in asked if n not in there)
            for number in there - killed:
                try:
                    await wire.run(f"KILL {number}")
                except err.Error as exc:
                    if code_of(exc) == _NOT_OURS:
                        log.warning("statements.unended", reason=str(exc.args[-1]))
                        self._forget(there)
                        return
                    if code_of(exc) != _GONE:
                        raise
                killed.add(number)
            begun = [self._since.get(n) or self._seen(n, clock()) for n in there]
            if clock() - min(begun) > _GIVE_UP_SECONDS:
                log.warning("statements.unended", threads=sorted(there), reason="the server does not end them")
                self._forget(there)
                return
            if clock() > until:
                raise Unavailable("the server still carries out what it was sent before it fell silent", after=1.0)
            await asyncio.sleep(_LOOK_SECONDS)
        self._forget(asked)

    def _seen(self, number: int, now: float) -> float:
        self._since[number] = now
        return now

    def _forget(self, numbers: Iterable[int]) -> None:
        for number in tuple(numbers):
            self._since.pop(number, None)


async def _living(wire: Wire, numbers: Iterable[int]) -> set[int]:
    """Those that are there, and of the same user and machine: a number may be another's after a restart."""
    listed = ", ".join(str(n) for n in numbers)
    rows = await wire.run(
        "SELECT p.ID FROM information_schema.PROCESSLIST p JOIN information_schema.PROCESSLIST me "  # noqa: S608 - numbers
        f"ON me.ID = CONNECTION_ID() AND p.USER = me.USER AND {_MACHINE.format('p')} = {_MACHINE.format('me')} "
        f"WHERE p.ID IN ({listed}) AND p.ID <> CONNECTION_ID()"
    )
    return {int(str(number)) for (number,) in rows}
