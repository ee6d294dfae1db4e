"""The TDengine sink and its processes on the stand-in: what taos-ws-py or the server does wrong, the service outlives."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from itertools import count
from pathlib import Path

import psutil
import pyarrow as pa
import pytest
from contract import loose, ordinary, same, until
from servers.tdengine import TaosServer

from mystocks_ingest.errors import ConfigError, Rejected, Unavailable, UnsafeChange
from mystocks_ingest.flow.writer import Limits, Writer
from mystocks_ingest.ports import Query
from mystocks_ingest.schema.tables import Column, Database, Table, load
from mystocks_ingest.sinks.tdengine import Options, TDengineDatabase, TDengineSink

_names = count()
SHIPPED = [
    t for t in load(Path(__file__).parents[2] / "config" / "tables.yaml").all if t.database_type is Database.TDENGINE
]


@pytest.fixture(scope="module")
def running() -> Iterator[TaosServer]:
    with TaosServer() as server:
        yield server


@pytest.fixture
def server(running: TaosServer) -> Iterator[TaosServer]:
    """The module's server, without faults before and after."""
    running.clear()
    yield running
    running.clear()


def bars(**change: object) -> Table:
    """A table of minute bars under a name not used before, with a tag beside the key's."""
    columns = (
        Column("at", "TIMESTAMP", nullable=False),
        Column("price", "DOUBLE"),
        Column("note", "NCHAR", 20),
        Column("symbol", "VARCHAR", 20, nullable=False, is_tag=True),
    )
    table = Table(
        f"bars_{next(_names)}", Database.TDENGINE, "market_data", columns, ("symbol", "at"), None, time_column="at",
        is_super_table=True,
    )  # fmt: skip
    return replace(table, **change)  # type: ignore[arg-type]


@asynccontextmanager
async def opened(
    server: TaosServer, *tables: Table, **options: object
) -> AsyncIterator[tuple[TDengineSink, TDengineDatabase]]:
    known = Options(
        server.host, server.port, server.user, server.password, connections=1, timeout_seconds=4, connect_seconds=10
    )
    async with TDengineDatabase(replace(known, **options)) as database:  # type: ignore[arg-type]
        yield await TDengineSink.opened(database, tables), database


async def longest_gap(work: asyncio.Future[object] | asyncio.Task[object]) -> float:
    """The longest time for which the loop did not turn while ``work`` was under way."""
    longest = 0.0
    while not work.done():
        began = time.perf_counter()
        await asyncio.sleep(0.002)
        longest = max(longest, time.perf_counter() - began)
    return longest


async def test_the_loop_turns_while_the_driver_holds_its_gil(server: TaosServer) -> None:
    table = bars()
    rows = ordinary(table, 500)
    async with opened(server, table) as (sink, _):
        await sink.write(table, rows)
        server.fault("delay", seconds=1.0)
        for call in (lambda: sink.write(table, rows), lambda: sink.read(table, Query()), sink.ping):
            gaps: list[float] = []
            while not gaps or (gaps[-1] >= 0.3 and len(gaps) < 5):  # others may keep the processors busy
                work = asyncio.ensure_future(call())
                gaps.append(await longest_gap(work))
                await work
            assert gaps[-1] < 0.3, gaps  # the call itself takes more than a second


@pytest.mark.parametrize("table", SHIPPED, ids=lambda t: t.name)
async def test_every_shipped_table_holds_its_rows(server: TaosServer, table: Table) -> None:
    rows = ordinary(table, 120)
    for i, column in enumerate(table.columns):  # a length is in bytes here
        if pa.types.is_string(column.arrow) and column.name != "symbol":
            texts = [f"t{n}"[: column.length] for n in range(rows.num_rows)]
            rows = rows.set_column(i, rows.schema.field(i), pa.array(texts))
    async with opened(server, table) as (sink, _):
        await sink.write(table, rows)
    async with opened(server, table) as (sink, _):
        await sink.write(table, rows)
        await same(sink, table, rows)


async def test_a_database_is_made_as_the_options_say(server: TaosServer) -> None:
    table = bars(database_name="made_here")
    async with opened(server, table, database_options="VGROUPS 2 BUFFER 96 KEEP 20000") as (_, database):
        found = await database.query(
            "SELECT vgroups, buffer, `keep` FROM information_schema.ins_databases WHERE name = 'made_here'"
        )
    assert found == [[2, 96, "20000d,20000d,20000d"]]


async def test_nan_is_stored_as_null(server: TaosServer) -> None:
    table = bars()
    rows = ordinary(table, 3)
    rows = rows.set_column(1, rows.schema.field(1), pa.array([float("nan"), 1.0, float("-inf")]))
    async with opened(server, table) as (sink, _):
        await sink.write(table, rows)
        assert (await sink.read(table, Query())).column("price").to_pylist() == [None, 1.0, float("-inf")]


async def test_a_row_outside_keep_is_not_even_sent(server: TaosServer) -> None:
    table = bars()
    rows = ordinary(table, 3)
    bad = rows.set_column(0, rows.schema.field(0), pa.array([datetime(1900, 1, 1)] * 3, rows.schema.field(0).type))
    async with opened(server, table) as (sink, _):
        before = server.order(asked=True)["asked"].get("stmt2_bind", 0)
        with pytest.raises(Rejected, match="1900-01-01 is outside what database market_data keeps"):
            await sink.write(table, bad)
        assert server.order(asked=True)["asked"].get("stmt2_bind", 0) == before


async def test_a_batch_the_server_half_stored_is_whole_after_it_was_split(server: TaosServer) -> None:
    table = bars()
    rows = ordinary(table, 300)
    async with opened(server, table) as (sink, _), Writer(sink, table, Limits(linger_seconds=0)) as writer:
        server.fault("error", action="stmt2_exec", times=1, code=0x060B, message="Timestamp data out of range")
        assert await writer.write(rows) == ()
        await same(sink, table, rows)


async def test_a_row_the_server_alone_refuses_stands_alone(server: TaosServer) -> None:
    narrow = bars()
    wide = replace(narrow, columns=tuple(replace(c, length=40) if c.name == "note" else c for c in narrow.columns))
    rows = ordinary(narrow, 50)
    notes = rows.column("note").to_pylist()
    notes[7] = "长" * 30
    bad = rows.set_column(2, rows.schema.field(2), pa.array(notes))
    async with opened(server, narrow) as (sink, _), Writer(sink, wide, Limits(linger_seconds=0)) as writer:
        (refused,) = await writer.write(bad)  # the file has been widened, the server not yet
        assert refused.row == 7
        assert "too long" in refused.reason
        await same(
            sink, narrow, pa.Table.from_batches([rows.slice(0, 7), rows.slice(8)]).combine_chunks().to_batches()[0]
        )


async def test_a_lost_acknowledgement_stores_the_rows_once(server: TaosServer) -> None:
    table = bars()
    rows = ordinary(table, 400)
    async with opened(server, table) as (sink, _):
        server.fault("close_after", action="stmt2_exec", times=1)
        await sink.write(table, rows)
        await same(sink, table, rows)


@pytest.mark.parametrize("action", ["stmt2_init", "stmt2_prepare", "stmt2_bind", "stmt2_exec"])
@pytest.mark.parametrize("kind", ["close", "hang"])
async def test_a_connection_lost_at_any_step_is_opened_again_and_the_rows_sent_again(
    server: TaosServer, kind: str, action: str
) -> None:
    table = bars()
    rows = ordinary(table, 200)
    async with opened(server, table) as (sink, _):
        server.fault(kind, action=action, times=1)
        await sink.write(table, rows)
        await same(sink, table, rows)


async def test_a_process_that_was_killed_goes_unnoticed(server: TaosServer) -> None:
    table = bars()
    rows = ordinary(table, 200)
    async with opened(server, table) as (sink, database):
        await sink.write(table, rows.slice(0, 100))
        (pid,) = database.pids
        os.kill(pid, signal.SIGKILL)
        await sink.write(table, rows.slice(100))
        await same(sink, table, rows)
        assert database.pids != [pid]


async def test_a_process_that_hangs_is_ended_and_the_rows_sent_again(server: TaosServer) -> None:
    table = bars()
    rows = ordinary(table, 200)
    async with opened(server, table) as (sink, database):
        await sink.write(table, rows.slice(0, 100))
        (pid,) = database.pids
        os.kill(pid, signal.SIGSTOP)
        await asyncio.wait_for(sink.write(table, rows.slice(100)), 60)
        await same(sink, table, rows)
        await until(lambda: not psutil.pid_exists(pid))


async def test_the_process_ends_with_its_parent(server: TaosServer) -> None:
    script = (
        "import asyncio, sys\n"
        "from mystocks_ingest.sinks.tdengine import Options, TDengineDatabase\n"
        "async def main():\n"
        "    async with TDengineDatabase(Options('127.0.0.1', int(sys.argv[1]))) as database:\n"
        "        await database.query('SELECT server_status()')\n"
        "        print(database.pids[0], flush=True)\n"
        "        await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    words = [sys.executable, "-c", script, str(server.port)]
    with subprocess.Popen(  # noqa: ASYNC220 - it is killed below
        words, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
    ) as parent:
        assert parent.stdout is not None
        while not (line := await asyncio.to_thread(parent.stdout.readline)).strip().isdigit():
            assert line, "it ended early"
        child = psutil.Process(int(line))
        parent.kill()
    await asyncio.to_thread(psutil.wait_procs, [child], 30)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


async def test_the_server_saying_it_is_busy_is_unavailable(server: TaosServer) -> None:
    table = bars()
    async with opened(server, table) as (sink, _):
        server.fault("error", action="stmt2_exec", code=0x0106, message="System is busy")
        with pytest.raises(
            Unavailable, match=rf"127.0.0.1:{server.port} cannot take the call: \[0x0106\] System is busy"
        ):
            await sink.write(table, ordinary(table, 3))


async def test_tags_beside_the_keys_follow_the_later_row(server: TaosServer) -> None:
    table = bars()
    table = replace(table, columns=(*table.columns, Column("name", "NCHAR", 20, is_tag=True)))

    def named(name: str, symbols: int = 3) -> pa.RecordBatch:
        rows = ordinary(table, symbols * 50)
        return rows.set_column(4, rows.schema.field(4), pa.array([name] * rows.num_rows))

    for names in (("浦发", "浦发银行"), ("浦发银行", "ST'浦发")):  # within one sink, and by the next one
        async with opened(server, table) as (sink, _):
            for name in names:
                await sink.write(table, named(name))
                await same(sink, table, named(name))


async def test_a_table_that_stands_alone_is_upserted_by_its_time(server: TaosServer) -> None:
    table = Table(
        f"alone_{next(_names)}",
        Database.TDENGINE,
        "market_data",
        (Column("at", "TIMESTAMP", nullable=False), Column("value", "DOUBLE")),
        ("at",),
        time_column="at",
    )
    at = pa.array([datetime(2024, 1, d) for d in (1, 2, 3)], pa.timestamp("ms"))
    async with opened(server, table) as (sink, _):
        for values in ([1.0, 2.0, 3.0], [4.0, None, 6.0]):
            rows = pa.RecordBatch.from_arrays([at, pa.array(values)], schema=loose(table))
            await sink.write(table, rows)
            assert (await sink.read(table, Query())).to_batches()[0].equals(rows)


async def test_microseconds_need_a_database_that_counts_them(server: TaosServer) -> None:
    fine = Column("at", "TIMESTAMP", nullable=False, canonical=pa.timestamp("us", "UTC"))
    table = bars(database_name="fine")
    table = replace(table, columns=(fine, *table.columns[1:]))
    rows = ordinary(table, 2)
    exact = pa.array([1_704_159_000_123_456, 1_704_159_000_123_457], pa.timestamp("us", "UTC"))
    rows = rows.set_column(0, rows.schema.field(0), exact)
    async with opened(server, table) as (sink, _):
        await sink.write(table, rows)
        await same(sink, table, rows)
    async with opened(server, bars(database_name="coarse")):
        pass
    with pytest.raises(UnsafeChange, match="database coarse counts time in ms, and the table needs us"):
        async with opened(server, replace(table, database_name="coarse")):
            pass


async def test_a_text_grows_and_a_type_does_not_change(server: TaosServer) -> None:
    table = bars()

    def changed(name: str, **how: object) -> Table:
        columns = tuple(replace(c, **how) if c.name == name else c for c in table.columns)  # type: ignore[arg-type]
        return replace(table, columns=columns)

    async with opened(server, table):
        pass
    wide = changed("note", length=30)
    async with opened(server, wide) as (_, database):
        assert (await database.query(f"DESCRIBE market_data.{table.name}"))[2][:3] == ["note", "NCHAR", 30]
    with pytest.raises(UnsafeChange, match=r"column price: type DOUBLE -> BIGINT: .*DOUBLE"):
        async with opened(server, changed("price", type="BIGINT")):
            pass


async def test_a_wrong_password_is_one_sentence_without_it(server: TaosServer) -> None:
    with pytest.raises(ConfigError, match="check TDENGINE_USER and TDENGINE_PASSWORD") as caught:
        async with opened(server, bars(), password="hunter2-wrong"):  # noqa: S106 - no secret
            pass
    assert "hunter2" not in str(caught.value)


async def test_any_character_may_stand_in_user_and_password() -> None:
    server = TaosServer(user="行情@nas", password="p@ss:w/ö?d#%&= +x")  # noqa: S106 - no secret
    with server:
        async with opened(server, bars()) as (sink, _):
            await sink.ping()


async def test_a_server_too_old_is_told() -> None:
    said = r"version 3.2.3.0, and 3.3.2 or newer is needed: upgrade the server"
    with TaosServer(version="3.2.3.0") as server, pytest.raises(ConfigError, match=said):
        async with opened(server, bars()):
            pass


async def test_a_server_that_says_it_is_not_ready_is_unavailable(server: TaosServer) -> None:
    async with opened(server) as (sink, _):
        server.fault(
            "error", action="query", sql="server_status", code=0x000B, message="Unable to establish connection"
        )
        with pytest.raises(Unavailable, match="Unable to establish connection"):
            await sink.ping()


async def test_reading_half_a_stream_gives_the_connection_back(server: TaosServer) -> None:
    table = bars()
    rows = ordinary(table, 2_000)
    async with opened(server, table) as (sink, database):
        await sink.write(table, rows)
        (pid,) = database.pids
        stream = sink.stream(table, Query(), batch_rows=100)
        async for part in stream:
            assert part.num_rows == 100
            break
        await stream.aclose()  # type: ignore[attr-defined]
        await same(sink, table, rows)
        assert database.pids == [pid]


def test_the_parent_never_imports_the_driver() -> None:
    script = "import mystocks_ingest.sinks.tdengine, sys; print('taosws' in sys.modules, 'pandas' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
