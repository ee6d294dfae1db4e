"""A process that tells the monitor log one thing after the other and prints what was acknowledged, until it is killed.

``teller.py FOLDER FIRST (embedded | HOST PORT USER PASSWORD DATABASE)``
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path

from mystocks_ingest.monitor.embedded_log import EmbeddedLog
from mystocks_ingest.monitor.log import Limits, MonitorLog, Store
from mystocks_ingest.monitor.server_log import ServerLog
from mystocks_ingest.monitor.spool import FILE, Spool
from mystocks_ingest.ports import Doing, Operation, Status, Validation
from mystocks_ingest.schema.tables import Column, Database, Table
from mystocks_ingest.sinks.embedded import EmbeddedDatabase
from mystocks_ingest.sinks.mysql import Access, MySQLDatabase


def now() -> datetime:
    return datetime.now(UTC)


async def main(folder: Path, first: int, where: list[str]) -> None:
    columns = (Column("a", "INT"), Column("b", "INT"))
    async with AsyncExitStack() as stack:
        if where[0] == "embedded":
            store: Store = EmbeddedLog(await stack.enter_async_context(EmbeddedDatabase(folder)))
        else:
            host, port, user, password, database = where
            store = ServerLog(MySQLDatabase(Access(host, int(port), user, password)), database)
        log = await stack.enter_async_context(
            MonitorLog(Spool(folder / FILE), store, now=now, limits=Limits(batch=3, idle_seconds=0.05))
        )
        for n in range(first, first + 100_000):
            table = Table(f"t{n}", Database.MYSQL, "db", columns, ("a",))
            create = Operation(Doing.CREATE, Database.MYSQL, "db", f"t{n}", now(), made=table)
            ident = await log.began(create)
            sys.stdout.write(f"began {n}\n")
            sys.stdout.flush()
            await log.validated([Validation(Database.MYSQL, "db", f"v{n}", now(), ("x",))])
            await log.ended(ident, Status.SUCCESS)
            sys.stdout.write(f"ended {n}\n")
            sys.stdout.flush()
            if n % 7 == 0:
                await asyncio.sleep(0.01)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]))
