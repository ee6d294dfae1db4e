"""One changer of structure at a time, wherever it runs: TDengine has no locks, so its catalogue serves as one.

What TDengine does on one server only, and once only, is to make a super table: of two that make the same, one is told
that it is there. So the lock is a super table ``g1``, ``g2``, ... in a small database of its own; whoever makes the next
number holds it, and tells in the table's comment who he is, every few seconds anew. A free lock says so in its comment.
A holder that was killed falls silent, and after a while the next one passes him by. Numbers only rise, and the highest
counts: who makes an old number by mistake sees the higher one and lets go. A row would not do, since an insert never
fails; nor a file, since two managers may run on two machines.

No clock is compared with another machine's: each waiter watches whether the comment changes.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

from mystocks_ingest.errors import ConfigError, IngestError, Unavailable
from mystocks_ingest.logs import get
from mystocks_ingest.sinks.tdengine.database import Line, Options, TDengineDatabase
from mystocks_ingest.sinks.tdengine.faults import Denied, Refused
from mystocks_ingest.sinks.tdengine.names import literal, quoted

log = get("tdengine")

DATABASE = "mystocks_schema"
_OPTIONS = "VGROUPS 1 BUFFER 3 PAGES 64"  # the least TDengine takes
_FREE = "free"
_THERE = frozenset({0x0360, 0x0361})
_GENERATION = re.compile(r"g([1-9]\d*)")


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds: between a holder's signs of life, until a silent one is passed by, until a waiter gives up."""

    beat: float = 3.0
    silent: float = 12.0
    wait: float = 40.0
    look: float = 0.5


class Held:
    """A lock that is held; ``check`` before each change."""

    def __init__(self, line: Line, options: Options, patience: Patience) -> None:
        self._line = line
        self._place = options.place
        self._user = options.user
        self._patience = patience
        self._who = f"process {os.getpid()} on {socket.gethostname()}, {secrets.token_hex(4)}"
        self._number = 0
        self._beats = 0
        self._heard = 0.0
        self._taken = False

    def check(self) -> None:
        """Raises Unavailable when others may believe that this holder is dead."""
        if self._taken or asyncio.get_running_loop().time() - self._heard > self._patience.silent:
            raise Unavailable(
                f"the lock on TDengine's structure at {self._place} was lost, for its server was away or this process "
                "stood still: try again, and what is left to do is done"
            )

    async def take(self) -> None:
        """Returns when the lock is held. Raises Unavailable naming the holder."""
        clock = asyncio.get_running_loop().time
        until = clock() + self._patience.wait
        await self._prepare()
        watched: tuple[int, str] = (0, "")
        since = clock()
        while True:
            found = await self._found()
            newest = max(found, default=0)
            sign = found.get(newest, _FREE)
            if (newest, sign) != watched:
                watched, since = (newest, sign), clock()
            if sign != _FREE and clock() - since < self._patience.silent:
                if clock() > until:
                    raise Unavailable(
                        f"TDengine's structure at {self._place} is being changed by {_person(sign)}: try again later"
                    )
                await asyncio.sleep(self._patience.look)
                continue
            if sign != _FREE:
                log.warning("lock.overtaken", of=_person(sign), silent_seconds=round(clock() - since))
            if await self._made(newest + 1):
                self._heard = clock()
                for old in [n for n in found if n <= newest]:
                    await self._drop(old)
                return
            if clock() > until:
                raise Unavailable(f"TDengine at {self._place} gives its lock to others: try again later")
            await asyncio.sleep(self._patience.look / 5)

    async def beat(self) -> None:
        """Tell every few seconds that the holder lives, until cancelled."""
        clock = asyncio.get_running_loop().time
        while True:
            await asyncio.sleep(self._patience.beat)
            self._beats += 1
            began = clock()
            try:
                await self._say(f"{self._who} {self._beats}")
            except Refused:
                self._taken = True  # its table is gone: another has passed by
                return
            except IngestError as exc:
                log.warning("lock.unheard", reason=str(exc))
            else:
                self._heard = began

    async def free(self) -> None:
        """Let go. Should that fail, the next one waits until it is clear that nobody is there."""
        with suppress(IngestError, TimeoutError):
            async with asyncio.timeout(self._patience.silent):
                if self._number and not self._taken:
                    await self._say(_FREE)

    async def _prepare(self) -> None:
        there = await self._query(
            f"SELECT name FROM information_schema.ins_databases WHERE name = {literal(DATABASE)}"  # noqa: S608 - a literal
        )
        if there:
            return
        try:
            await self._execute(f"CREATE DATABASE IF NOT EXISTS {quoted(DATABASE)} {_OPTIONS}")
        except Denied as exc:
            raise ConfigError(
                f"{exc}; as root: ALTER USER {self._user} CREATEDB 1 (who changes structure keeps its lock in a database "
                f"of its own, {DATABASE})"
            ) from exc

    async def _found(self) -> dict[int, str]:
        rows = await self._query(
            "SELECT stable_name, table_comment FROM information_schema.ins_stables "  # noqa: S608 - a literal
            f"WHERE db_name = {literal(DATABASE)}"
        )
        return {int(m[1]): str(sign or "") for name, sign in rows if (m := _GENERATION.fullmatch(str(name)))}

    async def _made(self, number: int) -> bool:
        """Whether the lock of this number is ours now."""
        sign = f"{self._who} {self._beats}"
        try:
            await self._execute(
                f"CREATE STABLE {_table(number)} (`at` TIMESTAMP, `n` INT) TAGS (`t` INT) COMMENT {literal(sign)}"
            )
        except Refused as exc:
            if exc.code not in _THERE:
                raise
        except ConfigError:
            raise
        except Unavailable as exc:  # two make it at once: one of them is told of a conflict
            log.info("lock.contended", reason=str(exc))
        found = await self._found()
        if max(found, default=0) == number and found[number] == sign:
            self._number = number
            return True
        if found.get(number) == sign:
            await self._drop(number)
        return False

    async def _say(self, sign: str) -> None:
        await self._execute(f"ALTER STABLE {_table(self._number)} COMMENT {literal(sign)}")

    async def _drop(self, number: int) -> None:
        with suppress(IngestError):  # it is in nobody's way
            await self._execute(f"DROP STABLE IF EXISTS {_table(number)}")

    async def _execute(self, sql: str) -> None:
        await self._line.ask({"do": "execute", "sql": sql})

    async def _query(self, sql: str) -> list[list[object]]:
        rows: list[list[object]] = (await self._line.ask({"do": "query", "sql": sql}))["rows"]
        return rows


@asynccontextmanager
async def locked(database: TDengineDatabase, patience: Patience) -> AsyncIterator[Held]:
    """The lock, held for the block, on a connection of its own: signs of life must not wait for what is under way."""
    async with _line(database) as line:
        held = Held(line, database.options, patience)
        try:
            await held.take()
            beats = asyncio.create_task(held.beat(), name="tdengine:lock")
            try:
                yield held
            finally:
                beats.cancel()
                await asyncio.wait({beats})
        finally:
            await held.free()


@asynccontextmanager
async def _line(database: TDengineDatabase) -> AsyncIterator[Line]:
    if database.options.connections > 1:
        async with database.line() as line:
            yield line
        return
    line = Line(database.options)
    try:
        yield line
    finally:
        line.closed = True
        await line.end()


def _table(number: int) -> str:
    return quoted(DATABASE, f"g{number}")


def _person(sign: str) -> str:
    return sign.rpartition(",")[0] or sign
