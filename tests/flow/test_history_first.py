"""What the history of an account refuses is not shown as its latest state."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import yaml
from servers.postgresql import PostgreSQL
from servers.redis import PASSWORD, Redis

from mystocks_ingest.flow.ingest import Ingest, Taken
from mystocks_ingest.flow.witness import Witness
from mystocks_ingest.flow.writer import Writer
from mystocks_ingest.market.checks import Context
from mystocks_ingest.market.datasets import DATASETS
from mystocks_ingest.market.frames import Frame
from mystocks_ingest.monitor.journal import EmbeddedJournal
from mystocks_ingest.ports import Query
from mystocks_ingest.schema.tables import Database, Route, load
from mystocks_ingest.sinks import timescale
from mystocks_ingest.sinks.embedded import EmbeddedDatabase
from mystocks_ingest.sinks.redis import Access, Place, RedisDatabase, RedisSink
from mystocks_ingest.sinks.timescale import TimescaleDatabase, TimescaleSink

ROOT = Path(__file__).parents[2]
AT = datetime(2024, 3, 1, 2, 0, tzinfo=UTC)
ACCOUNT = DATASETS["account"]


def accounts(**cash: float) -> Frame:
    rows = [
        {"account": name, "ts": AT, "cash": value, "source": "broker", "fetched_at": AT} for name, value in cash.items()
    ]
    schema = pa.schema([(f.name, f.type) for f in ACCOUNT.fields])
    return Frame(ACCOUNT, "broker", AT, pa.RecordBatch.from_pylist(rows, schema=schema))


async def taken(
    folder: Path, server: Redis, postgresql: PostgreSQL, frame: Frame, change: Callable[[dict[str, object]], None]
) -> tuple[Taken, set[str], set[str]]:
    """What became of the frame, and whose cash the history and Redis have; ``change`` is made to the history's table."""
    document = yaml.safe_load((ROOT / "config" / "tables.yaml").read_text())
    history, latest = (t for t in document["tables"] if t.get("dataset") == "account")
    history["table_name"], latest["redis"]["pattern"] = folder.name, f"{folder.name}:cash"
    change(history)
    path = folder / "tables.yaml"
    path.write_text(yaml.safe_dump(document, allow_unicode=True, sort_keys=False))
    tables = load(path)
    required, shown = sorted(tables.routes(ACCOUNT), key=lambda t: t.route is not Route.REQUIRED)
    assert shown.database_type is Database.REDIS
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(EmbeddedDatabase(folder))
        place = Place(((server.host, server.port),))
        redis = await stack.enter_async_context(RedisDatabase(place, Access(password=PASSWORD)))
        access = timescale.Access(
            postgresql.host,
            postgresql.port,
            postgresql.user,
            postgresql.password,
            timescale=False,
            tls="off",
        )
        history_database = await stack.enter_async_context(TimescaleDatabase(access))
        sinks = {
            required: await TimescaleSink.opened(history_database, [required]),
            shown: await RedisSink.opened(redis, [shown]),
        }
        writers = {t: await stack.enter_async_context(Writer(sink, t)) for t, sink in sinks.items()}
        journal = await EmbeddedJournal.opened(database, now=lambda: AT)
        witness = Witness(sinks[required], tables)
        ingest = Ingest(tables, writers, journal, lambda: Context(AT), "test", witness)
        found = await ingest.take(frame, None, now=AT)
        kept = [await sinks[t].read(t, Query()) for t in (required, shown)]
    return found, *(set(rows["account"].to_pylist()) for rows in kept)


async def test_an_account_that_its_history_refuses_is_not_shown(
    tmp_path: Path, redis_server: Redis, postgresql_server: PostgreSQL
) -> None:
    def narrow(history: dict[str, object]) -> None:
        for column in history["columns"]:  # type: ignore[attr-defined]
            if column["name"] == "account":
                column["length"] = 5

    frame = accounts(small=12.5, longest=2.0, other=3.25)
    found, history, shown = await taken(tmp_path, redis_server, postgresql_server, frame, narrow)
    assert history == shown == {"small", "other"}
    assert found.refused == {"store": 1}
    assert set(found.accepted.rows.column("account").to_pylist()) == history


async def test_accounts_of_which_none_is_refused_are_in_both(
    tmp_path: Path, redis_server: Redis, postgresql_server: PostgreSQL
) -> None:
    found, history, shown = await taken(
        tmp_path, redis_server, postgresql_server, accounts(a=1.0, b=2.0), lambda _: None
    )
    assert history == shown == {"a", "b"}
    assert not found.refused
