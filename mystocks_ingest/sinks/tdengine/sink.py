"""Tables in TDengine: super tables with a sub table per key tag, upserted through stmt2, read by SQL.

Inserts are not atomic: of a batch that is refused, parts may be stored. Since the same rows stored again are the same
rows, sending the batch again, whole or in halves, is right.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Self

import pyarrow as pa

from mystocks_ingest.errors import ConfigError, IngestError, Unavailable, UnsafeChange
from mystocks_ingest.logs import get
from mystocks_ingest.ports import Query
from mystocks_ingest.schema.tables import Table, writable
from mystocks_ingest.sinks.tdengine.batches import BATCH_ROWS, Bounds, Slice, prepared, slices
from mystocks_ingest.sinks.tdengine.database import TDengineDatabase
from mystocks_ingest.sinks.tdengine.names import literal, quoted
from mystocks_ingest.sinks.tdengine.reading import answered, schema_of, statement
from mystocks_ingest.sinks.tdengine.shape import (
    PRECISIONS,
    Precision,
    Shape,
    Stored,
    add,
    create_database,
    ddl,
    finest,
    insert,
    shape,
    widen,
)

log = get("tdengine")

STREAM_ROWS = 50_000
LEAST_ROWS = 12_500  # of a bind, so that one connection converts rows while the server takes another's
_MISSING = re.compile(r"\[0x(2603|0388)\]")


@dataclass(frozen=True, slots=True)
class Place:
    """What must be known of a database: ``keep_days`` is its KEEP."""

    precision: Precision
    keep_days: int


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
        cls, database: TDengineDatabase, tables: Iterable[Table], *, now: Callable[[], datetime] | None = None
    ) -> Self:
        """A sink whose databases and tables exist as described. Raises UnsafeChange when a stored one differs."""
        sink = cls(database, now=now)
        await sink.ensure(tables)
        return sink

    async def ensure(self, tables: Iterable[Table]) -> None:
        """Create what is missing, add columns, widen texts. Raises UnsafeChange for every other difference."""
        wanted = tuple(tables)
        for name in dict.fromkeys(t.database_name for t in wanted):
            here = [t for t in wanted if t.database_name == name]
            await self._ensure_database(name, here)
            for table in here:
                await self._ensure_table(shape(table, self._places[name].precision))
        if not wanted:
            await self.ping()

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
        return pa.Table.from_batches(parts, schema_of(table, query)).combine_chunks()

    async def stream(
        self, table: Table, query: Query, *, batch_rows: int = STREAM_ROWS
    ) -> AsyncIterator[pa.RecordBatch]:
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

    async def ping(self) -> None:
        """Returns when the server answers that it is well; raises Unavailable."""
        found = await self._database.query("SELECT server_status()")
        if not found or found[0][0] != 1:
            raise Unavailable(f"TDengine at {self._database.options.place} says it is not ready")

    async def inspect(self, table: Table) -> list[tuple[str, str, int, str]] | None:
        """Name, type, length and note (TAG, COMPOSITE KEY) of each column as it stands; None: no such table."""
        try:
            found = await self._database.query(f"DESCRIBE {quoted(table.database_name, table.name)}")
        except ConfigError as exc:
            if _MISSING.search(str(exc)):
                return None
            raise
        return [(str(r[0]), str(r[1]), int(str(r[2])), str(r[3] or "")) for r in found]

    async def execute(self, statement: str) -> None:
        """One statement of the schema manager."""
        await self._database.execute(statement)

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
            found = await self._find(table.database_name)
            if found is None:
                raise ConfigError(
                    f"TDengine at {self._database.options.place} has no database {table.database_name}: start again, "
                    "and it is made"
                )
            self._places[table.database_name] = found
        return self._places[table.database_name]

    async def _find(self, name: str) -> Place | None:
        found = await self._database.query(
            "SELECT name, `precision`, `keep` FROM information_schema.ins_databases "  # noqa: S608 - a literal
            f"WHERE name = {literal(name)}"
        )
        for row in found:
            precision = next((p for p in PRECISIONS if p == row[1]), PRECISIONS[0])
            return Place(precision, _days(str(row[2])))
        return None

    async def _ensure_database(self, name: str, tables: Sequence[Table]) -> None:
        wanted = finest(tables)
        found = await self._find(name)
        if found is None:
            await self._database.execute(create_database(name, wanted, self._database.options.database_options))
            log.info("database.created", database=name, precision=wanted)
            found = await self._find(name)
            if found is None:
                raise ConfigError(f"TDengine at {self._database.options.place}: database {name} cannot be made")
        if PRECISIONS.index(found.precision) < PRECISIONS.index(wanted):
            raise ConfigError(
                f"database {name} in TDengine counts time in {found.precision}, and the tables need {wanted}: give "
                "them another database_name, for a precision cannot be changed"
            )
        self._places[name] = found

    async def _ensure_table(self, made: Shape) -> None:
        table = made.table
        found = await self.inspect(table)
        if found is None:
            for line in ddl(table, made.precision):
                await self._database.execute(line)
            log.info("table.created", table=str(table))
            return
        stand = {name: (word, length, note) for name, word, length, note in found}
        for column in (*made.columns, *made.tags):
            if column.name not in stand:
                await self._database.execute(add(made, column))
                self._attributes.pop(made.name, None)
                log.info("table.widened", table=str(table), column=column.name)
                continue
            word, length, note = stand[column.name]
            if (
                word.replace(" ", "") != column.sql.replace(" ", "").partition("(")[0] + _decimals(column)
                or (note == "TAG") != (column in made.tags)
                or ("KEY" in note) != (column.name == made.second)
            ):
                raise UnsafeChange(
                    f"{table.where}: column {column.name} of {table} is stored as {word}{' ' + note if note else ''} and "
                    f"the file now wants {column.sql}: give the column another name, or move the table's data"
                )
            if column.length is not None and length < column.length:
                await self._database.execute(widen(made, column))
                log.info("column.widened", table=str(table), column=column.name, length=column.length)


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
        "sql": insert(made, names),
        "words": [_word(c) for c in made.columns if c.name in names],
        "tag_words": [_word(t) for t in tags],
        "tag_names": [t.name for t in tags],
        "precision": made.precision,
        "changes": [],
    }


def _word(column: Stored) -> str:
    return column.sql if pa.types.is_decimal(column.arrow) else column.word


def _decimals(column: Stored) -> str:
    return column.sql.replace(" ", "").removeprefix("DECIMAL") if pa.types.is_decimal(column.arrow) else ""


def _changed(made: Shape, name: str, words: Sequence[str], held: Sequence[object], tags: Sequence[object]) -> list[str]:
    """ALTER TABLE for the tags that differ, one each: older servers take no list."""
    table = quoted(made.table.database_name, name)
    return [
        f"ALTER TABLE {table} SET TAG {quoted(word)} = {literal(new)}"  # type: ignore[arg-type]
        for word, old, new in zip(words, held, tags, strict=True)
        if old != new
    ]


def _days(keep: str) -> int:
    """KEEP as the server tells it: ``36500d,36500d,36500d``, or in minutes or hours."""
    match = re.match(r"(\d+)([mhd]?)", keep.partition(",")[0])
    if match is None:
        return 3650
    return {"m": int(match[1]) // 1440, "h": int(match[1]) // 24}.get(match[2], int(match[1]))
