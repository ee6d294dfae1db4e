"""What every sink promises, as claims; each database's test module runs them all against itself.

A module says how its database is reached (``Subject``) and inherits the claims::

    class TestPostgreSQL(ServerContract):
        @pytest.fixture
        def subject(self, postgresql_server): return PostgreSQLSubject(postgresql_server)

``StoreContract`` is about rows; ``ServerContract`` adds what happens when the server or the wire fails.
A claim that a database cannot hold by its nature is overridden there, under the same name, with what holds instead.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import psutil
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from servers.private import PrivateServer
from servers.proxy import Proxy

from mystocks_ingest.errors import ConfigError, Rejected, Unavailable
from mystocks_ingest.flow.writer import Limits, Writer
from mystocks_ingest.market.frames import Symbol, Window
from mystocks_ingest.ports import Query, Sink
from mystocks_ingest.schema.tables import Column, Table

ALL = Query()
HUNG_SECONDS = 3.0
_numbers = itertools.count()
Row = dict[str, Any]


class Subject(ABC):
    """A sink under test. Defaults are what PostgreSQL and DuckDB hold; a database that holds less says so here."""

    nan = True  # stored and read back; where False, `bad` shows what happens instead
    infinity = True
    first_day, last_day = date(1, 1, 1), date(9999, 12, 31)
    first_moment = datetime(1, 1, 1, tzinfo=UTC)
    last_moment = datetime(9999, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC)
    streams = True  # has `stream(table, query)`, an async iterator of record batches
    keeps_absent_columns = True  # a column the rows do not have keeps its value in the store
    seconds = 30.0  # that one statement may take; a test of a server that hangs sets ``HUNG_SECONDS``
    prompt_seconds = 60.0  # within which a hung or absent server is told as Unavailable
    many = 24_000  # rows of a large batch

    bad: Mapping[str, tuple[str, object]] = {}
    """What is refused: for each name a column and a value that must not be stored, nor sink its batch."""

    server: PrivateServer | None = None

    @abstractmethod
    def table(self, name: str) -> Table:
        """A table under this name with a column of every type the database has. It has a column ``symbol`` in its
        key, a REAL ``price``, a nullable text ``note``, and a time column where the database orders by time."""

    @abstractmethod
    def opened(
        self, *tables: Table, port: int | None = None, pool: int | None = None
    ) -> AbstractAsyncContextManager[Sink]:
        """A sink with the tables in place; ``port``: of the wire to use in the server's place; ``pool``: connections.

        A statement may take ``seconds``.
        """

    def fresh(self) -> Table:
        """``table`` under a name not used before in this run."""
        return self.table(f"contract_{next(_numbers)}")

    def values(self, column: Column) -> st.SearchStrategy[Any]:
        """Every value the column can hold, NULL aside."""
        kind = column.arrow
        if column.type in ("JSON", "JSONB"):
            leaves = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | self._texts(20)
            trees = st.recursive(
                leaves, lambda t: st.lists(t, max_size=3) | st.dictionaries(self._texts(5), t, max_size=3)
            )
            return trees.map(lambda tree: json.dumps(tree, ensure_ascii=False))
        if pa.types.is_string(kind):
            return self._texts(column.length or 60)
        if pa.types.is_boolean(kind):
            return st.booleans()
        if pa.types.is_integer(kind):
            top = 2 ** (kind.bit_width - 1)
            return st.integers(-top, top - 1) | st.sampled_from([-top, top - 1, 0])
        if pa.types.is_floating(kind):
            prices = st.integers(0, 10**9).map(lambda n: n / 10_000)
            return prices | st.floats(allow_nan=self.nan, allow_infinity=self.infinity)
        if pa.types.is_decimal(kind):
            top = 10**kind.precision - 1
            whole = st.integers(-top, top) | st.sampled_from([-top, top, 0])
            return whole.map(lambda n: Decimal(n).scaleb(-kind.scale))
        if pa.types.is_date(kind):
            return st.dates(self.first_day, self.last_day) | st.sampled_from([self.first_day, self.last_day])
        if pa.types.is_timestamp(kind):
            return self._moments().map(lambda m: m if kind.tz is not None else m.replace(tzinfo=None))
        if pa.types.is_binary(kind):
            return st.binary(max_size=column.length or 60)
        raise AssertionError(f"no strategy for {column}")

    def _texts(self, longest: int) -> st.SearchStrategy[str]:
        plain = st.characters(codec="utf-8", exclude_characters="\0")
        return st.text(plain | st.sampled_from("平安银行涨停🚀'\"\\\n\t%_;-"), max_size=longest)

    def _moments(self) -> st.SearchStrategy[datetime]:
        span = (self.last_moment - self.first_moment) // timedelta(milliseconds=1)
        edges = st.sampled_from([self.first_moment, self.last_moment, datetime(1970, 1, 1, tzinfo=UTC)])
        return edges | st.integers(0, span).map(lambda ms: self.first_moment + timedelta(milliseconds=ms))


# rows ------------------------------------------------------------------------------------------------------------


def some(column: Column, number: int, version: int) -> object:
    """An ordinary value of the column, another one for each version; times grow with the version."""
    kind = column.arrow
    if column.type in ("JSON", "JSONB"):
        return json.dumps({"序": number, "v": version}, ensure_ascii=False)
    if pa.types.is_string(kind):
        return f"注{number}.{version}"[: column.length or 60]
    if pa.types.is_boolean(kind):
        return (number + version) % 2 == 0
    if pa.types.is_integer(kind):
        return (number * 7 + version) % 100
    if pa.types.is_floating(kind):
        return round(10 + number * 0.0001 + version, 4)
    if pa.types.is_decimal(kind):
        return Decimal(number % 10 + version).scaleb(-kind.scale)
    if pa.types.is_date(kind):
        return date(2024, 1, 2) + timedelta(version)
    if pa.types.is_timestamp(kind):
        moment = datetime(2024, 1, 2, 1, 30, tzinfo=UTC) + timedelta(days=version, milliseconds=number)
        return moment if kind.tz is not None else moment.replace(tzinfo=None)
    if pa.types.is_binary(kind):
        return bytes([number % 256, 0, version % 256])
    raise AssertionError(f"no value for {column}")


def key_part(column: Column, number: int) -> object:
    """The value of a key column other than the symbol: row ``number``'s own."""
    kind = column.arrow
    if pa.types.is_date(kind):
        return date(2020, 1, 1) + timedelta(number)
    if pa.types.is_timestamp(kind):
        moment = datetime(2020, 1, 1, 1, 30, tzinfo=UTC) + timedelta(minutes=number)
        return moment if kind.tz is not None else moment.replace(tzinfo=None)
    if pa.types.is_integer(kind):
        return number % 100
    return f"k{number}"


def ordinary(table: Table, count: int, *, version: int = 0, first: int = 0) -> pa.RecordBatch:
    """``count`` rows of distinct keys, ascending by key; the same keys for every version."""
    rows: list[Row] = []
    for number in range(first, first + count):
        row: Row = {"symbol": f"{number // 50:06d}.SZ" if len(table.key) > 1 else f"{number:06d}.SZ"}
        for column in table.columns:
            if column.name not in row:
                key = column.name in table.key
                row[column.name] = key_part(column, number) if key else some(column, number, version)
        rows.append(row)
    return pa.RecordBatch.from_pylist(rows, schema=loose(table))


def loose(table: Table) -> pa.Schema:
    """The table's schema with every column nullable, as rows arrive."""
    return pa.schema([pa.field(f.name, f.type) for f in table.schema])


def plain(table: Table, rows: pa.Table | pa.RecordBatch) -> list[Row]:
    """Rows as values that compare: JSON parsed, NaN made equal to itself."""
    jsons = {c.name for c in table.columns if c.type in ("JSON", "JSONB")}

    def value(name: str, cell: object) -> object:
        if name in jsons and isinstance(cell, str):
            return json.loads(cell)
        return "NaN" if isinstance(cell, float) and math.isnan(cell) else cell

    return [{name: value(name, cell) for name, cell in row.items()} for row in rows.to_pylist()]


def in_key_order(table: Table, rows: Iterable[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: tuple(row[k] for k in table.key))


async def same(sink: Sink, table: Table, rows: pa.RecordBatch, query: Query = ALL) -> None:
    """The table holds exactly ``rows``, in key order, with the names and types of its schema."""
    read = await sink.read(table, query)
    assert read.schema.equals(loose(table)) or read.schema.equals(table.schema), read.schema
    assert plain(table, read) == in_key_order(table, plain(table, rows))


def replaced(rows: pa.RecordBatch, name: str, at: int, value: object) -> pa.RecordBatch:
    """``rows`` with one cell changed."""
    column = rows.column(name).to_pylist()
    column[at] = value
    index = rows.schema.get_field_index(name)
    return rows.set_column(index, rows.schema.field(index), pa.array(column, rows.schema.field(index).type))


def without(table: Table, *names: str) -> Table:
    return replace(table, columns=tuple(c for c in table.columns if c.name not in names))


class StoreContract:
    """Claims about rows."""

    @pytest.fixture
    def subject(self) -> Subject:
        raise NotImplementedError("the test module of the database gives it")

    async def test_writing_twice_is_writing_once(self, subject: Subject) -> None:
        table = subject.fresh()
        rows = ordinary(table, 60)
        async with subject.opened(table) as sink:
            await sink.write(table, rows)
            await sink.write(table, rows)
            await same(sink, table, rows)

    async def test_the_later_version_of_a_row_stands_in_every_column(self, subject: Subject) -> None:
        table = subject.fresh()
        async with subject.opened(table) as sink:
            await sink.write(table, ordinary(table, 60))
            later = ordinary(table, 60, version=3)
            await sink.write(table, later)
            await same(sink, table, later)

    async def test_a_later_null_takes_the_value_away(self, subject: Subject) -> None:
        table = subject.fresh()
        async with subject.opened(table) as sink:
            await sink.write(table, ordinary(table, 3))
            later = replaced(ordinary(table, 3, version=1), "note", 1, None)
            await sink.write(table, later)
            await same(sink, table, later)

    async def test_what_was_stored_outlives_the_sink(self, subject: Subject) -> None:
        table = subject.fresh()
        rows = ordinary(table, 20)
        async with subject.opened(table) as sink:
            await sink.write(table, rows)
        async with subject.opened(table) as sink:
            await same(sink, table, rows)

    @pytest.mark.parametrize("count", [0, 1, 2, 249, 250, 251, 1_000, 5_001])
    async def test_batches_of_any_size_are_stored_whole(self, subject: Subject, count: int) -> None:
        table = subject.fresh()
        rows = ordinary(table, count)
        async with subject.opened(table) as sink:
            await sink.write(table, rows)
            await same(sink, table, rows)
            later = ordinary(table, count, version=1)
            await sink.write(table, later)
            await same(sink, table, later)

    async def test_a_large_batch_partly_stored_before_is_whole_afterwards(self, subject: Subject) -> None:
        table = subject.fresh()
        async with subject.opened(table) as sink:
            await sink.write(table, ordinary(table, 700, first=subject.many // 2))
            rows = ordinary(table, subject.many, version=1)
            await sink.write(table, rows)
            await same(sink, table, rows)

    async def test_a_slice_of_a_batch_writes_just_its_rows(self, subject: Subject) -> None:
        table = subject.fresh()
        rows = ordinary(table, 2_000)
        async with subject.opened(table) as sink:
            for first, count in ((7, 13), (300, 900)):
                await sink.write(table, rows.slice(first, count))
            await same(
                sink,
                table,
                pa.Table.from_batches([rows.slice(7, 13), rows.slice(300, 900)]).combine_chunks().to_batches()[0],
            )

    async def test_rows_out_of_order_are_read_in_key_order(self, subject: Subject) -> None:
        table = subject.fresh()
        rows = ordinary(table, 400)
        async with subject.opened(table) as sink:
            await sink.write(table, rows.take(pa.array([(i * 37) % 400 for i in range(400)])))
            await same(sink, table, rows)

    def test_every_value_of_every_type_is_read_back_as_it_was_written(self, subject: Subject) -> None:
        table = subject.fresh()
        used = itertools.count()

        @st.composite
        def batches(draw: st.DrawFn) -> pa.RecordBatch:
            number = next(used)
            count = draw(st.integers(1, 5))
            rows: list[Row] = []
            for i in range(count):
                row: Row = {"symbol": f"{number:07d}{chr(65 + i)}.SZ"}
                for column in table.columns:
                    if column.name == "symbol":
                        continue
                    values = subject.values(column)
                    row[column.name] = draw(
                        st.none() | values if column.nullable and column.name not in table.key else values
                    )
                rows.append(row)
            return pa.RecordBatch.from_pylist(rows, schema=loose(table))

        with asyncio.Runner() as runner:
            opened = subject.opened(table)
            sink = runner.run(opened.__aenter__())
            try:

                @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), database=None)
                @given(batches())
                def check(rows: pa.RecordBatch) -> None:
                    runner.run(sink.write(table, rows))
                    symbols = tuple(Symbol(s) for s in rows.column("symbol").to_pylist())
                    runner.run(same(sink, table, rows, Query(symbols=symbols)))

                check()
            finally:
                runner.run(opened.__aexit__(None, None, None))

    async def test_prices_of_four_decimals_are_exact(self, subject: Subject) -> None:
        table = subject.fresh()
        rows = ordinary(table, 2_000)
        prices = pa.array([n / 10_000 for n in range(1, 40_000_000, 20_000)], pa.float64())
        assert len(prices) == 2_000
        index = rows.schema.get_field_index("price")
        rows = rows.set_column(index, rows.schema.field(index), prices)
        async with subject.opened(table) as sink:
            await sink.write(table, rows)
            await same(sink, table, rows)

    async def test_each_bad_row_stands_alone_with_the_databases_reason(self, subject: Subject) -> None:
        table = subject.fresh()
        assert subject.bad, "a database refuses something"
        async with subject.opened(table) as sink, Writer(sink, table, Limits(linger_seconds=0)) as writer:
            stored: list[pa.RecordBatch] = []
            for turn, (name, (column, value)) in enumerate(subject.bad.items()):
                rows = ordinary(table, 300, first=turn * 1_000)
                at = 17 + turn
                refused = await writer.write(replaced(rows, column, at, value))
                assert [r.row for r in refused] == [at], name
                assert refused[0].reason, name
                stored += [rows.slice(0, at), rows.slice(at + 1)]
            await same(sink, table, pa.Table.from_batches(stored).combine_chunks().to_batches()[0])

    async def test_a_null_in_the_key_is_refused(self, subject: Subject) -> None:
        table = subject.fresh()
        async with subject.opened(table) as sink:
            for name in table.key:
                with pytest.raises(Rejected):
                    await sink.write(table, replaced(ordinary(table, 5), name, 2, None))
            assert (await sink.read(table, ALL)).num_rows in range(5)

    async def test_a_table_without_a_key_is_not_written_to(self, subject: Subject) -> None:
        table = subject.fresh()
        async with subject.opened(table) as sink:
            with pytest.raises(ConfigError, match="has no key"):
                await sink.write(replace(table, key=()), ordinary(table, 1))

    async def test_reading_takes_symbols_a_window_and_columns(self, subject: Subject) -> None:
        table = subject.fresh()
        rows = ordinary(table, 200)
        async with subject.opened(table) as sink:
            await sink.write(table, rows)
            wanted = (Symbol("000001.SZ"), Symbol("000003.SZ"), Symbol("999999.SZ"))
            read = await sink.read(table, Query(symbols=wanted, columns=("price", "symbol")))
            assert read.schema.names == ["price", "symbol"]
            expected = in_key_order(table, [r for r in rows.to_pylist() if r["symbol"] in wanted])
            assert read.to_pylist() == [{"price": r["price"], "symbol": r["symbol"]} for r in expected]
            with pytest.raises(ConfigError, match="colour"):
                await sink.read(table, Query(columns=("colour",)))
            if table.time_column is None:
                return
            days = sorted({as_day(r[table.time_column]) for r in rows.to_pylist()})
            window = Window(days[len(days) // 4], days[len(days) // 2]) if len(days) > 3 else Window(days[0], days[-1])
            read = await sink.read(table, Query(window=window))
            inside = [r for r in rows.to_pylist() if as_day(r[table.time_column]) in window]
            assert plain(table, read) == in_key_order(
                table, plain(table, pa.RecordBatch.from_pylist(inside, schema=loose(table)))
            )

    async def test_a_limit_gives_the_first_rows_in_key_order(self, subject: Subject) -> None:
        table = subject.fresh()
        rows = ordinary(table, 200)
        async with subject.opened(table) as sink:
            await sink.write(table, rows)
            first = in_key_order(table, plain(table, rows))
            for limit in (1, 7, 200, 1_000):
                assert plain(table, await sink.read(table, Query(limit=limit))) == first[:limit]
            wanted = (Symbol("000003.SZ"),)
            whose = [r for r in first if r["symbol"] in wanted]
            assert plain(table, await sink.read(table, Query(symbols=wanted, limit=2))) == whose[:2]

    async def test_reading_in_batches_gives_the_same_rows(self, subject: Subject) -> None:
        if not subject.streams:
            pytest.skip("this sink reads whole tables only")
        table = subject.fresh()
        rows = ordinary(table, 3_000)
        async with subject.opened(table) as sink:
            await sink.write(table, rows)
            parts = [part async for part in stream(sink, table, ALL)]
            assert all(isinstance(part, pa.RecordBatch) for part in parts)
            assert plain(table, pa.Table.from_batches(parts)) == in_key_order(table, plain(table, rows))
            async for _ in stream(sink, table, ALL):
                break  # leaving early must not spoil the connection
            await same(sink, table, rows)

    async def test_a_widened_table_keeps_its_rows_and_takes_the_new_column(self, subject: Subject) -> None:
        wide = subject.fresh()
        narrow = without(wide, "note")
        old = ordinary(narrow, 20)
        async with subject.opened(narrow) as sink:
            await sink.write(narrow, old)
        async with subject.opened(wide) as sink:
            read = await sink.read(wide, ALL)
            assert read.column("note").to_pylist() == [None] * 20
            new = ordinary(wide, 20, version=1)
            await sink.write(wide, new)
            await same(sink, wide, new)

    async def test_a_column_that_the_rows_do_not_have_keeps_its_values(self, subject: Subject) -> None:
        if not subject.keeps_absent_columns:
            pytest.skip("this database replaces whole rows")
        table = subject.fresh()
        rows = ordinary(table, 600)
        for count in (5, 600):  # the small way and the large way
            async with subject.opened(table) as sink:
                await sink.write(table, rows.slice(0, count))
                later = ordinary(table, count, version=2)
                await sink.write(table, later.drop_columns(["note"]))
                expected = later.set_column(
                    later.schema.get_field_index("note"),
                    later.schema.field("note"),
                    rows.slice(0, count).column("note"),
                )
                await same(sink, table, expected)

    async def test_many_callers_at_once_are_all_served(self, subject: Subject) -> None:
        table = subject.fresh()
        rows = ordinary(table, 1_000)
        async with subject.opened(table, pool=2) as sink:
            parts = [rows.slice(i * 50, 50) for i in range(20)]
            await asyncio.gather(
                *(sink.write(table, part) for part in parts), *(sink.read(table, ALL) for _ in range(5)), sink.ping()
            )
            await same(sink, table, rows)

    async def test_two_writers_of_the_same_new_rows_store_them_once(self, subject: Subject) -> None:
        table = subject.fresh()
        rows = ordinary(table, 3_000)
        async with subject.opened(table, pool=4) as sink:
            await asyncio.gather(*(sink.write(table, rows) for _ in range(4)))
            await same(sink, table, rows)

    async def test_nothing_is_left_when_the_sink_is_closed(self, subject: Subject) -> None:
        table = subject.fresh()
        before = asyncio.all_tasks()
        async with subject.opened(table) as sink:
            await sink.write(table, ordinary(table, 1_000))
            await sink.read(table, ALL)
        await until(lambda: asyncio.all_tasks() == before)
        if subject.server is not None:
            port = subject.server.port
            await until(lambda: not connections(port))


def as_day(value: date | datetime) -> date:
    """The Shanghai day of a time column's value."""
    if not isinstance(value, datetime):
        return value
    return (value + timedelta(hours=8)).date() if value.tzinfo is not None else value.date()


def stream(sink: Sink, table: Table, query: Query) -> AsyncIterator[pa.RecordBatch]:
    return sink.stream(table, query)  # type: ignore[attr-defined,no-any-return]


def connections(*ports: int) -> list[str]:
    """Connections of this process and its children to these ports of loopback."""
    me = psutil.Process()
    found = []
    for process in (me, *me.children(recursive=True)):
        try:
            found += [
                f"{process.pid} {c.laddr} {c.raddr} {c.status}"
                for c in process.net_connections("inet")
                if c.raddr and c.raddr.port in ports and c.status == psutil.CONN_ESTABLISHED
            ]
        except psutil.Error:
            continue
    return found


@asynccontextmanager
async def prompt(subject: Subject) -> AsyncIterator[None]:
    """The block must end within the seconds in which an outage is to be told."""
    began = time.monotonic()
    async with asyncio.timeout(subject.prompt_seconds):
        yield
    assert time.monotonic() - began < subject.prompt_seconds, "the event loop was blocked"


async def until(condition: Any, seconds: float = 30.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - a file, a byte count: nothing there sets an event
            await asyncio.sleep(0.01)


class ServerContract(StoreContract):
    """Claims about a server that fails, and about the wire to it."""

    @pytest.fixture
    def server(self, subject: Subject) -> Iterable[PrivateServer]:
        """The server, brought back to life afterwards whatever the test did to it."""
        server = subject.server
        assert server is not None
        yield server
        if server.running:
            server.thaw()
        else:
            server.start()

    @pytest.fixture
    def wire(self, server: PrivateServer) -> Iterable[Proxy]:
        with Proxy(server.host, server.port) as wire:
            yield wire

    async def test_a_server_killed_amid_a_batch_is_unavailable_and_the_batch_can_be_sent_again(
        self, subject: Subject, server: PrivateServer, wire: Proxy
    ) -> None:
        table = subject.fresh()
        rows = ordinary(table, subject.many)
        async with subject.opened(table, port=wire.port) as sink:
            await sink.write(table, rows.slice(0, 100))
            wire.hang_after(200_000)
            writing = asyncio.create_task(sink.write(table, rows))
            await until(lambda: wire.reached)
            server.kill()
            wire.sever()
            with pytest.raises(Unavailable):
                async with prompt(subject):
                    await writing
            with pytest.raises(Unavailable):
                async with prompt(subject):
                    await sink.ping()
            server.start()
            await sink.write(table, rows)
            await same(sink, table, rows)

    @pytest.mark.parametrize("how", ["stop", "kill"])
    async def test_a_restart_between_two_batches_goes_unnoticed(
        self, subject: Subject, server: PrivateServer, how: str
    ) -> None:
        table = subject.fresh()
        rows = ordinary(table, 600)
        async with subject.opened(table) as sink:
            await sink.write(table, rows.slice(0, 300))
            server.stop() if how == "stop" else server.kill()
            server.start()
            await sink.write(table, rows.slice(300))
            await same(sink, table, rows)

    async def test_rows_wait_out_an_outage_in_the_writer(self, subject: Subject, server: PrivateServer) -> None:
        table = subject.fresh()
        rows = ordinary(table, 600)
        async with subject.opened(table) as sink, Writer(sink, table, Limits(linger_seconds=0)) as writer:
            await writer.write(rows.slice(0, 300))
            server.kill()
            writing = asyncio.create_task(writer.write(rows.slice(300)))
            await asyncio.sleep(0.5)
            assert not writing.done()
            server.start()
            assert await writing == ()
            await same(sink, table, rows)

    async def test_a_hung_server_is_unavailable_in_time_and_serves_again_when_it_wakes(
        self, subject: Subject, server: PrivateServer
    ) -> None:
        subject.seconds = HUNG_SECONDS
        table = subject.fresh()
        rows = ordinary(table, 600)
        async with subject.opened(table) as sink:
            await sink.write(table, rows.slice(0, 300))
            server.freeze()
            for call in (sink.write(table, rows), sink.read(table, ALL), sink.ping()):
                with pytest.raises(Unavailable):
                    async with prompt(subject):
                        await call
            server.thaw()
            await sink.write(table, rows)
            await same(sink, table, rows)

    async def test_a_wire_that_hangs_amid_a_batch_is_unavailable_in_time(self, subject: Subject, wire: Proxy) -> None:
        subject.seconds = HUNG_SECONDS
        table = subject.fresh()
        rows = ordinary(table, subject.many // 4)  # on a busy machine, too, it is written in these few seconds
        async with subject.opened(table, port=wire.port) as sink:
            await sink.write(table, rows.slice(0, 300))
            wire.hang_after(100_000)
            with pytest.raises(Unavailable):
                async with prompt(subject):
                    await sink.write(table, rows)
            wire.flow()
            await sink.write(table, rows)
            await same(sink, table, rows)

    async def test_a_refused_connection_is_unavailable_and_passes(self, subject: Subject, wire: Proxy) -> None:
        table = subject.fresh()
        rows = ordinary(table, 100)
        async with subject.opened(table, port=wire.port) as sink:
            wire.refuse()
            for call in (sink.write(table, rows), sink.read(table, ALL), sink.ping()):
                with pytest.raises(Unavailable, match=str(wire.port)):
                    async with prompt(subject):
                        await call
            wire.accept()
            await sink.write(table, rows)
            await same(sink, table, rows)

    async def test_opening_where_nobody_listens_is_unavailable_and_names_the_place(
        self, subject: Subject, wire: Proxy
    ) -> None:
        wire.refuse()
        with pytest.raises(Unavailable, match=str(wire.port)):
            async with prompt(subject), subject.opened(subject.fresh(), port=wire.port):
                pass

    async def test_idle_connections_dropped_by_the_network_go_unnoticed(self, subject: Subject, wire: Proxy) -> None:
        table = subject.fresh()
        rows = ordinary(table, 900)
        async with subject.opened(table, port=wire.port, pool=3) as sink:
            await asyncio.gather(*(sink.write(table, rows.slice(i * 100, 100)) for i in range(3)))
            idle = set(connections(wire.port))
            wire.sever()
            await until(lambda: not idle & set(connections(wire.port)))
            await asyncio.gather(*(sink.write(table, rows.slice(i * 100, 100)) for i in range(3, 9)))
            await same(sink, table, rows)

    async def test_a_pool_is_never_exceeded(self, subject: Subject, wire: Proxy) -> None:
        table = subject.fresh()
        rows = ordinary(table, 1_000)
        most = 0
        async with subject.opened(table, port=wire.port, pool=2) as sink:

            async def watch() -> None:
                nonlocal most
                while True:
                    most = max(most, len(connections(wire.port)))
                    await asyncio.sleep(0.05)  # looking costs more than a write

            watching = asyncio.create_task(watch())
            await asyncio.gather(*(sink.write(table, rows.slice(i * 25, 25)) for i in range(40)))
            watching.cancel()
            await asyncio.wait({watching})
            await same(sink, table, rows)
        assert 0 < most <= 2

    async def test_a_cancelled_write_ends_at_once_and_harms_nothing(self, subject: Subject, wire: Proxy) -> None:
        table = subject.fresh()
        rows = ordinary(table, subject.many)
        async with subject.opened(table, port=wire.port, pool=2) as sink:
            await sink.write(table, rows.slice(0, 300))
            wire.hang_after(100_000)
            writing = asyncio.create_task(sink.write(table, rows))
            await until(lambda: wire.reached)
            writing.cancel()
            with pytest.raises(asyncio.CancelledError):
                async with prompt(subject):
                    await writing
            wire.flow()
            await sink.write(table, rows)
            await same(sink, table, rows)
            await until(lambda: len(connections(wire.port)) <= 2)
        await until(lambda: not connections(wire.port))

    async def test_closing_is_prompt_while_the_server_hangs(self, subject: Subject, server: PrivateServer) -> None:
        subject.seconds = HUNG_SECONDS
        table = subject.fresh()
        async with prompt(subject), subject.opened(table) as sink:
            await sink.write(table, ordinary(table, 10))
            server.freeze()
        await until(lambda: not connections(server.port))
