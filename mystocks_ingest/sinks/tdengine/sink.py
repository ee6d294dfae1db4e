"""Tables in TDengine: super tables with a sub table per key tag, upserted through stmt2, read by SQL.

Inserts are not atomic: of a batch that is refused, parts may be stored. Since the same rows stored again are the same
rows, sending the batch again, whole or in halves, is right.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Self

import pyarrow as pa

from mystocks_ingest.errors import ConfigError, IngestError, Unavailable
from mystocks_ingest.flow.migrate import Ensure, ensured
from mystocks_ingest.ports import Query
from mystocks_ingest.schema.tables import Table, writable
from mystocks_ingest.sinks.tdengine.batches import BATCH_ROWS, Bounds, Slice, prepared, slices
from mystocks_ingest.sinks.tdengine.database import TDengineDatabase
from mystocks_ingest.sinks.tdengine.dialect import Place
from mystocks_ingest.sinks.tdengine.names import literal, quoted
from mystocks_ingest.sinks.tdengine.reading import answered, schema_of, statement
from mystocks_ingest.sinks.tdengine.shape import Shape, Stored, insert, shape
from mystocks_ingest.sinks.tdengine.target import TDengineTarget

STREAM_ROWS = 50_000
LEAST_ROWS = 12_500  # of a bind, so that one connection converts rows while the server takes another's


class TDengineSink:
    """Every table in TDengine. Open with ``await TDengineSink.opened(database, tables)``."""

    name = "tdengine"

    def __init__(self, database: TDengineDatabase, *, now: Callable[[], datetime] | None = None) -> None:
        self._database = database
        self._now = now or (lambda: datetime.now(UTC))
        self._places: dict[str, Place] = {}
        self._attributes: dict[str, dict[str, list[object]]] = {}  # of a table's sub tables, by their name
        self._turns: dict[str, asyncio.Lock] = {}

    @classmethod
    async def opened(
        cls,
        database: TDengineDatabase,
        tables: Iterable[Table],
        *,
        now: Callable[[], datetime] | None = None,
        ensure: Ensure = ensured,
    ) -> Self:
        """A sink whose databases and tables exist as described. Raises UnsafeChange when a stored one differs."""
        wanted = tuple(tables)
        await ensure(TDengineTarget(database, wanted), wanted)
        sink = cls(database, now=now)
        if not wanted:
            await sink.ping()
        return sink

    async def write(self, table: Table, rows: pa.RecordBatch) -> None:
        """Upsert by key; the rows hold each key once. Durable on return, as far as the database's WAL_LEVEL goes."""
        writable(table)
        if not rows.num_rows:
            return
        place = await self._place(table)
        made = shape(table, place.precision)
        bounds = Bounds.of(place.precision, place.keep_days, self._now())
        lanes = self._database.options.connections
        step = max(LEAST_ROWS, min(BATCH_ROWS, rows.num_rows // (4 * lanes)))
        parts = await asyncio.to_thread(lambda: list(slices(made, prepared(made, rows, bounds), step=step)))
        call = _insert_call(made, rows.schema.names)
        if any(name in rows.schema.names for name in made.attributes):
            await self._write_attributes(made, call, parts)
            return
        room = asyncio.Semaphore(lanes)
        await _together([self._send(room, call, part) for part in parts])

    async def read(self, table: Table, query: Query) -> pa.Table:
        """Rows in key order, with the names and types of the table's Arrow schema."""
        parts = [part async for part in self.stream(table, query)]
        return await asyncio.to_thread(pa.Table.from_batches(parts, schema_of(table, query)).combine_chunks)

    async def stream(
        self, table: Table, query: Query, *, batch_rows: int = STREAM_ROWS
    ) -> AsyncGenerator[pa.RecordBatch, None]:
        """As ``read``, in batches; holds a connection until it is read to the end or closed."""
        made = shape(table, (await self._place(table)).precision)
        sql, columns = statement(made, query)
        words = [[c.name, c.sql] for c in columns]
        schema = schema_of(table, query)
        async with self._database.line() as line:
            answer = await line.ask({"do": "read", "sql": sql, "columns": words, "rows": batch_rows})
            try:
                while answer["rows"]:
                    raw = await line.rows(answer)
                    yield await asyncio.to_thread(answered, raw, columns, schema)
                    answer = await line.ask({"do": "next", "rows": batch_rows}, resend=False)
            finally:
                if answer["rows"] and line.pid is not None:
                    with suppress(IngestError):  # the connection has failed: nothing is left to give back
                        await line.ask({"do": "leave"}, resend=False)

    @property
    def pool(self) -> tuple[int, int]:
        """Connections in use, and how many there may be."""
        return self._database.pool

    async def ping(self) -> None:
        """Returns when the server answers that it is well; raises Unavailable."""
        found = await self._database.query("SELECT server_status()")
        if not found or found[0][0] != 1:
            raise Unavailable(f"TDengine at {self._database.options.place} says it is not ready")

    async def _send(self, room: asyncio.Semaphore, call: dict[str, object], part: Slice) -> None:
        async with room:
            extra = {"cuts": part.cuts, "names": part.names, "tags": part.tags}
            await self._database.ask(call | extra, rows=part.rows)

    async def _write_attributes(self, made: Shape, call: dict[str, object], parts: Sequence[Slice]) -> None:
        """As ``write`` of a table whose sub tables have tags beside the key's: a later row changes them.

        ``USING ... TAGS`` leaves the tags of a sub table that exists as they are, so changes are said by ALTER TABLE.
        """
        words = call["tag_names"]
        assert isinstance(words, list)  # noqa: S101 - _insert_call made it
        async with self._turns.setdefault(made.name, asyncio.Lock()):
            known = self._attributes.pop(made.name, None)  # kept only when all went well
            if known is None:
                listed = ", ".join(quoted(w) for w in words)
                found = await self._database.query(f"SELECT TAGS tbname, {listed} FROM {made.name}")  # noqa: S608
                known = {str(row[0]): row[1:] for row in found}
            for part in parts:
                changes = []
                for name, tags in zip(part.names, part.tags, strict=True):
                    held = known.get(str(name))
                    if held is not None and len(held) == len(tags) and held != tags:
                        changes += _changed(made, str(name), words, held, tags)
                extra = {"cuts": part.cuts, "names": part.names, "tags": part.tags, "changes": changes}
                await self._database.ask(call | extra, rows=part.rows)
                known |= dict(zip(map(str, part.names), part.tags, strict=True))
            self._attributes[made.name] = known

    async def _place(self, table: Table) -> Place:
        if table.database_name not in self._places:
            self._places = await TDengineTarget(self._database).places()
        if table.database_name not in self._places:
            raise ConfigError(
                f"TDengine at {self._database.options.place} has no database {table.database_name}: start again, "
                "and it is made"
            )
        return self._places[table.database_name]


async def _together(work: Sequence[object]) -> None:
    """Await all; the first error ends the others and is raised itself."""
    try:
        async with asyncio.TaskGroup() as group:
            for one in work:
                group.create_task(one)  # type: ignore[arg-type]
    except BaseExceptionGroup as exc:
        raise exc.exceptions[0] from None


def _insert_call(made: Shape, names: Sequence[str]) -> dict[str, object]:
    tags = [t for t in made.tags if t.name in names]
    return {
        "do": "insert",
        "database": made.table.database_name,
        "sql": insert(made, names),
        "words": [_word(c) for c in made.columns if c.name in names],
        "tag_words": [_word(t) for t in tags],
        "tag_names": [t.name for t in tags],
        "precision": made.precision,
        "changes": [],
    }


def _word(column: Stored) -> str:
    return column.sql if pa.types.is_decimal(column.arrow) else column.word


def _changed(made: Shape, name: str, words: Sequence[str], held: Sequence[object], tags: Sequence[object]) -> list[str]:
    """ALTER TABLE for the tags that differ, one each: older servers take no list."""
    table = quoted(made.table.database_name, name)
    return [
        f"ALTER TABLE {table} SET TAG {quoted(word)} = {literal(new)}"  # type: ignore[arg-type]
        for word, old, new in zip(words, held, tags, strict=True)
        if old != new
    ]
