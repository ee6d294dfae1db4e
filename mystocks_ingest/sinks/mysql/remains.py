"""The server's threads of connections that were dropped amid a statement: how MySQL tells of them, and ends them."""

from __future__ import annotations

from pymysql import err

from mystocks_ingest.errors import NoRight
from mystocks_ingest.sinks import remains
from mystocks_ingest.sinks.mysql.faults import code_of
from mystocks_ingest.sinks.mysql.wire import Wire

_GONE, _NOT_OURS = 1094, 1095
_MACHINE = "LEFT({0}.HOST, CHAR_LENGTH({0}.HOST) - LOCATE(':', REVERSE({0}.HOST)))"


class Remains(remains.Remains[Wire]):
    """By thread number. Those rise: where a new connection's is lower the server has been started anew."""

    async def living(self, connection: Wire, numbers: tuple[int, ...]) -> set[int]:
        listed = ", ".join(map(str, numbers))
        rows = await connection.run(
            "SELECT p.ID FROM information_schema.PROCESSLIST p JOIN information_schema.PROCESSLIST me "  # noqa: S608 - numbers
            f"ON me.ID = CONNECTION_ID() AND p.USER = me.USER AND {_MACHINE.format('p')} = {_MACHINE.format('me')} "
            f"WHERE p.ID IN ({listed}) AND p.ID <> CONNECTION_ID()"
        )
        return {int(str(number)) for (number,) in rows}

    async def end(self, connection: Wire, numbers: set[int]) -> None:
        for number in numbers:
            try:
                await connection.run(f"KILL {number}")
            except err.Error as exc:
                if code_of(exc) == _NOT_OURS:
                    raise NoRight(str(exc.args[-1])) from exc
                if code_of(exc) != _GONE:
                    raise

    def dropped(self, wire: Wire) -> None:
        """It was dropped amid a statement."""
        if wire.thread is not None:
            self.add(wire.thread)

    def followed(self, wire: Wire) -> None:
        """A new connection: those of its number and above are gone."""
        if wire.thread is not None:
            self.forget(n for n in tuple(self._since) if n >= wire.thread)
