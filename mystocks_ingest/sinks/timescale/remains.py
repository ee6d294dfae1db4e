"""The server's processes of connections that were cut amid a statement: how PostgreSQL tells of them, and ends them."""

from __future__ import annotations

import asyncpg
from asyncpg import exceptions as pg

from mystocks_ingest.errors import NoRight
from mystocks_ingest.sinks import remains

APPLICATION = "mystocks-ingest"

# a process of the same number that is another's, or that is nobody's any more, is left alone
_THERE = """
SELECT pid FROM pg_stat_activity
WHERE pid = ANY ($1::int[]) AND pid <> pg_backend_pid() AND usename = current_user AND application_name = $2
"""
_END = f"SELECT pg_terminate_backend(pid) FROM ({_THERE}) AS left_behind"  # noqa: S608 - our own text


class Remains(remains.Remains[asyncpg.Connection]):
    """Of one database, by process number."""

    async def living(self, connection: asyncpg.Connection, numbers: tuple[int, ...]) -> set[int]:
        return {row["pid"] for row in await connection.fetch(_THERE, list(numbers), APPLICATION)}

    async def end(self, connection: asyncpg.Connection, numbers: set[int]) -> None:
        try:
            await connection.fetch(_END, list(numbers), APPLICATION)
        except pg.InsufficientPrivilegeError as exc:
            raise NoRight(str(exc)) from exc
