"""The structure of TDengine's tables, on the stand-in or on the server that TDENGINE_HOST names."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pyarrow as pa
import pytest
from contract import ordinary
from servers.tdengine import OwnServer, TaosServer

from mystocks_ingest.errors import ConfigError, Unavailable, UnsafeChange
from mystocks_ingest.flow.migrate import ensured, made, planned
from mystocks_ingest.schema.changes import CreateTable
from mystocks_ingest.schema.tables import Column, Database, Index, Moment, Storage, Table, load
from mystocks_ingest.schema.types import SIZED, WORDS
from mystocks_ingest.sinks.tdengine import Options, TDengineDatabase, TDengineSink, TDengineTarget, lock
from mystocks_ingest.sinks.tdengine.faults import Denied, translated

Server = TaosServer | OwnServer
QUICK = lock.Patience(beat=0.2, silent=20.0, wait=60.0, look=0.05)
BRISK = replace(QUICK, silent=2.5)  # where somebody falls silent


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    host = os.environ.get("TDENGINE_HOST")
    if host:
        port = int(os.environ.get("TDENGINE_PORT", "6041"))
        user, password = os.environ.get("TDENGINE_USER", "root"), os.environ.get("TDENGINE_PASSWORD", "taosdata")
        yield OwnServer(host, port, user, password)
        return
    with TaosServer() as server:
        yield server


@asynccontextmanager
async def connected(server: Server, **options: object) -> AsyncIterator[TDengineDatabase]:
    known = Options(
        server.host, server.port, server.user, server.password, connections=2, timeout_seconds=30, connect_seconds=10
    )
    async with TDengineDatabase(replace(known, **options)) as database:  # type: ignore[arg-type]
        yield database


@pytest.fixture
async def database(running: Server) -> AsyncIterator[TDengineDatabase]:
    async with connected(running) as found:
        yield found


@pytest.fixture
async def name(database: TDengineDatabase) -> AsyncIterator[str]:
    """A database's name of the test's own."""
    chosen = f"schema_{uuid4().hex[:8]}"
    yield chosen
    await database.execute(f"DROP DATABASE IF EXISTS {chosen}")


def ticks(of: str, /, **change: object) -> Table:
    columns = (
        Column("ts", "TIMESTAMP", nullable=False),
        Column("price", "DOUBLE"),
        Column("seq", "INT", nullable=False),
        Column("note", "NCHAR", 8),
        Column("symbol", "VARCHAR", 16, nullable=False, is_tag=True),
        Column("name", "NCHAR", 8, is_tag=True),
    )
    table = Table(
        "tick", Database.TDENGINE, of, columns, ("symbol", "ts", "seq"), time_column="ts", is_super_table=True,
        comment="逐笔 it's `quoted`", where="tables.yaml:7",
    )  # fmt: skip
    return replace(table, **change)  # type: ignore[arg-type]


def changed(table: Table, column: str, **how: object) -> Table:
    columns = tuple(replace(c, **how) if c.name == column else c for c in table.columns)  # type: ignore[arg-type]
    return replace(table, columns=columns)


def alone(name: str) -> Table:
    columns = (Column("at", "TIMESTAMP", nullable=False), Column("value", "DECIMAL", precision=18, scale=4))
    return Table("alone", Database.TDENGINE, name, columns, ("at",), time_column="at", comment="单表")


def every_word(name: str) -> Table:
    """A column of every word the file knows."""
    columns = [
        Column(
            f"c{i}",
            word,
            32 if word in SIZED else None,
            values=("买", "卖") if word == "ENUM" else (),
            default=Moment.NOW if word == "TIMESTAMP" else None,
            comment=word,
            numbered=word == "INT",
            touched=word == "TIMESTAMP",
        )
        for i, word in enumerate(WORDS)
    ]
    columns += [Column("d38", "DECIMAL", precision=38, scale=10), Column("d1", "NUMERIC", precision=1)]
    tags = [
        Column(f"t{i}", word, 8 if word in SIZED else None, is_tag=True)
        for i, word in enumerate(("VARCHAR", "NCHAR", "INT", "BIGINT UNSIGNED", "DOUBLE", "BOOLEAN", "TIMESTAMP"))
    ]
    ts = Column("ts", "TIMESTAMP", nullable=False)
    return Table(
        "every_word", Database.TDENGINE, name, (ts, *columns, *tags), ("t0", "ts"), time_column="ts",
        is_super_table=True, indexes=(Index("by_c0", ("c0",)),), comment="x" * 2000,
    )  # fmt: skip


async def wants(target: TDengineTarget, *tables: Table) -> list[str]:
    """The plan in words."""
    return [step.change.words for step in await planned(target, tables)]


# there and back -----------------------------------------------------------------------------------------------------


async def test_what_is_made_is_found_to_be_what_was_wanted(database: TDengineDatabase, name: str) -> None:
    fast = changed(ticks(name, name="fast"), "ts", canonical=pa.timestamp("us", "UTC"))
    tables = [
        ticks(name, storage=Storage(retention=timedelta(days=400))),
        replace(fast, storage=Storage(retention=timedelta(days=365), codec="zstd", level="high")),
        replace(alone(name), storage=Storage(retention=timedelta(days=30), level="low")),
        replace(every_word(name), storage=Storage(retention=timedelta(days=30), codec="xz")),
    ]
    target = TDengineTarget(database, tables)
    await ensured(target, tables)
    found = await target.inspect([name])
    assert sorted(map(str, found)) == sorted(str(target.dialect.shape(t)) for t in tables)
    by_name = {shape.name: shape for shape in found}
    for table in tables:
        assert by_name[table.name] == target.dialect.shape(table)
    assert await planned(target, tables) == []
    assert by_name["tick"].settings == {"super table": "yes", "keep": "400d"}
    assert by_name["fast"].settings == {"super table": "yes", "precision": "us", "keep": "400d"}


async def test_exported_and_made_elsewhere_the_plan_is_empty(database: TDengineDatabase, name: str) -> None:
    tables = [ticks(name, storage=Storage(codec="zlib")), alone(name), every_word(name)]
    await ensured(TDengineTarget(database, tables), tables)
    anyone = TDengineTarget(database)  # export knows no file
    exported = [anyone.dialect.table(shape) for shape in await anyone.inspect([name])]
    elsewhere = [replace(t, database_name=f"{name}_copy") for t in exported]
    target = TDengineTarget(database, elsewhere)
    try:
        await ensured(target, elsewhere)
        assert await planned(target, elsewhere) == []
        assert len(await target.inspect([f"{name}_copy"])) == 3
    finally:
        await database.execute(f"DROP DATABASE IF EXISTS {name}_copy")


async def test_every_shipped_table_is_made_and_found(database: TDengineDatabase, name: str) -> None:
    shipped = load(Path(__file__).parents[2] / "config" / "tables.yaml").all
    ours = [replace(t, database_name=name) for t in shipped if t.database_type is Database.TDENGINE]
    target = TDengineTarget(database, ours)
    await ensured(target, ours)
    assert await planned(target, ours) == []


async def test_sub_tables_and_rows_are_no_difference(database: TDengineDatabase, name: str) -> None:
    tables = [ticks(name), alone(name)]
    sink = await TDengineSink.opened(database, tables)
    rows = ordinary(tables[0], 60)
    await sink.write(tables[0], rows)
    target = TDengineTarget(database, tables)
    assert await planned(target, tables) == []
    assert {s.name for s in await target.inspect([name])} == {"tick", "alone"}
    assert await target.count(target.dialect.shape(tables[0])) == 60
    assert await target.count(target.dialect.shape(tables[1])) == 0


# drift --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("by_hand", "words", "safe"),
    [
        ("ALTER STABLE {n}.tick ADD COLUMN colour INT", ["column colour INT"], False),
        ("ALTER STABLE {n}.tick ADD TAG board NCHAR(4)", ["column board NCHAR(4)"], False),
        ("ALTER STABLE {n}.tick DROP COLUMN price", ["column price DOUBLE"], True),
        ("ALTER STABLE {n}.tick DROP TAG name", ["tag name NCHAR(8)"], True),
        (
            "ALTER STABLE {n}.tick RENAME TAG name title",
            ["tag name NCHAR(8)", "column title NCHAR(8)"],
            False,
        ),
        ("ALTER STABLE {n}.tick MODIFY COLUMN note NCHAR(9)", ["column note: type NCHAR(9) -> NCHAR(8)"], False),
        (
            "ALTER STABLE {n}.tick MODIFY TAG symbol VARCHAR(20)",
            ["column symbol: type VARCHAR(20) -> VARCHAR(16)"],
            False,
        ),
        ("ALTER STABLE {n}.tick COMMENT 'mine'", ["comment 'mine' -> \"逐笔 it's `quoted`\""], True),
        (
            "ALTER TABLE {n}.tick MODIFY COLUMN price COMPRESS 'zstd' LEVEL 'high'",
            ["column price: type DOUBLE COMPRESS 'zstd' LEVEL 'high' -> DOUBLE"],
            True,
        ),
        ("DROP STABLE {n}.tick", ["table with 6 columns, key (ts, seq)"], True),
        ("DROP TABLE {n}.alone", ["table with 2 columns, key (at)"], True),
        ("ALTER TABLE {n}.alone COMMENT ''", ["comment '' -> '单表'"], True),
        ("ALTER TABLE {n}.alone ADD COLUMN more INT", ["column more INT"], False),
        ("ALTER DATABASE {n} KEEP 3650", [], True),  # of which the file says nothing
    ],
)
async def test_what_was_changed_by_hand_is_found_and_mended_where_that_is_safe(
    database: TDengineDatabase, name: str, by_hand: str, words: list[str], *, safe: bool
) -> None:
    tables = [ticks(name), alone(name)]
    target = TDengineTarget(database, tables, patience=QUICK)
    await ensured(target, tables)
    await database.execute(by_hand.format(n=name))
    assert await wants(target, *tables) == words
    steps = await planned(target, tables)
    assert all(not s.hazard for s in steps) is safe
    await made(target, [s for s in steps if not s.hazard])
    assert all(s.hazard for s in await planned(target, tables))


async def test_a_difference_that_cannot_be_mended_names_the_place_in_the_file_and_the_remedy(
    database: TDengineDatabase, name: str
) -> None:
    table = ticks(name)
    await ensured(TDengineTarget(database, [table], patience=QUICK), [table])
    for other, said in (
        (replace(table, key=("symbol", "ts")), r"tables.yaml:7: key \(ts, seq\) -> \(ts\): rows that share"),
        (changed(table, "price", type="FLOAT"), "tables.yaml:7: column price: type DOUBLE -> FLOAT"),
        (changed(table, "price", type="NCHAR", length=8), "not every DOUBLE fits into"),
        (changed(table, "note", length=4), "not every NCHAR"),
        (changed(table, "name", is_tag=False), "a tag cannot become a column"),
    ):
        target = TDengineTarget(database, [other], patience=QUICK)
        with pytest.raises(UnsafeChange, match=said):
            await ensured(target, [other])
    assert await planned(TDengineTarget(database, [table]), [table]) == []


async def test_keep_follows_the_file_longer_at_once_and_shorter_only_when_asked_for(
    database: TDengineDatabase, name: str
) -> None:
    def kept(days: int) -> tuple[TDengineTarget, list[Table]]:
        tables = [ticks(name, storage=Storage(retention=timedelta(days=days)))]
        return TDengineTarget(database, tables, patience=QUICK), tables

    target, tables = kept(400)
    await ensured(target, tables)
    target, tables = kept(800)
    assert await wants(target, *tables) == ["keep: 400d -> 800d"]
    await ensured(target, tables)
    assert (await target.places())[name].keep_days == 800
    target, tables = kept(600)
    with pytest.raises(UnsafeChange, match="keep: 800d -> 600d: every row of the database older than 600d"):
        await ensured(target, tables)
    await made(target, await planned(target, tables))
    assert await planned(target, tables) == []


@pytest.mark.parametrize("seed", range(6))
async def test_any_table_becomes_any_other_or_the_plan_names_what_it_cannot_do(
    database: TDengineDatabase, name: str, seed: int
) -> None:
    chance = random.Random(seed)
    words = [("INT", None), ("BIGINT", None), ("DOUBLE", None), ("VARCHAR", 8), ("VARCHAR", 16), ("NCHAR", 8)]

    def some_table(number: int) -> Table:
        values = [Column(c, *chance.choice(words)) for c in chance.sample("abcd", chance.randint(1, 4))]
        tags = [Column(c, "VARCHAR", chance.choice((8, 16)), is_tag=True) for c in chance.sample("stu", 2)]
        comment = chance.choice(("", "x", "逐笔"))
        storage = Storage(codec=chance.choice((None, "zstd", "xz")))
        key = (*(t.name for t in tags), "ts")
        columns = (Column("ts", "TIMESTAMP"), *values, *tags)
        return ticks(name, name=f"t{number}", columns=columns, key=key, comment=comment, storage=storage)

    ones, others = ([some_table(i) for i in range(15)] for _ in range(2))
    await ensured(TDengineTarget(database, ones, patience=QUICK), ones)
    target = TDengineTarget(database, others)
    refused = set()
    for step in await planned(target, others):
        try:
            await made(target, [step])
        except (UnsafeChange, ConfigError):  # what leaves no column, the server alone refuses
            assert step.hazard
            refused.add(step.table)
    left = await planned(target, others)
    assert {step.table for step in left} == refused
    assert len(refused) < len(others)


# queries, errors ----------------------------------------------------------------------------------------------------


async def test_three_hundred_tables_are_read_in_three_calls(database: TDengineDatabase, name: str) -> None:
    tables = [ticks(name, name=f"t{i:03d}") for i in range(300)]
    target = TDengineTarget(database, tables)
    for statement in target.dialect.ddl((await planned(target, tables[:1]))[0].change):
        await database.execute(statement)
    for start in range(0, 300, 100):  # in one call each, or this would take long
        some = [target.dialect.shape(t) for t in tables[start : start + 100]]
        await database.queries([target.dialect.ddl(CreateTable(shape))[0] for shape in some])
    calls = []
    asked = database.ask

    async def counted(call: dict[str, object], *, rows: pa.RecordBatch | None = None) -> dict[str, object]:
        calls.append(call["do"])
        return await asked(call, rows=rows)

    database.ask = counted  # type: ignore[method-assign] - it only counts
    began = time.perf_counter()
    assert await planned(target, tables) == []
    seconds = time.perf_counter() - began
    assert calls == ["query", "query", "queries", "queries"]  # databases, once more, lists, all of DESCRIBE
    assert seconds < 60  # about 0.5 on a machine with nothing else to do


async def test_a_database_that_is_missing_is_made_with_its_options(running: Server, name: str) -> None:
    async with connected(running, database_options="VGROUPS 1 BUFFER 32 KEEP 36500") as database:
        table = ticks(name)
        target = TDengineTarget(database, [table])
        assert await wants(target, table) == [f"database {name}", "table with 6 columns, key (ts, seq)"]
        await ensured(target, [table])
        found = await database.query(f"SELECT buffer FROM information_schema.ins_databases WHERE name = '{name}'")
        assert found == [[32]]
        assert name in await target.databases()
        assert not {"information_schema", lock.DATABASE} & await target.databases()


async def test_a_missing_right_is_named_with_its_grant(running: Server, name: str) -> None:
    async with connected(running) as database:
        target = TDengineTarget(database, [ticks(name)], patience=QUICK)
        await ensured(target, [ticks(name)])
        assert isinstance(translated(0x2644, "[0x2644] Permission denied", "nas:6041"), Denied)
        running.fault("error", action="query", sql="ALTER STABLE", code=0x2644, message="Permission denied or target")
        with pytest.raises(ConfigError, match=rf"as root: GRANT WRITE ON `{name}`\.\* TO root"):
            await target.execute(name, f"ALTER STABLE {name}.tick COMMENT 'x'")
        running.clear()
        running.fault("error", action="query", sql="CREATE DATABASE", code=0x0303, message="Insufficient privilege")
        with pytest.raises(ConfigError, match="as root: ALTER USER root CREATEDB 1"):
            await target.execute("", "CREATE DATABASE nowhere")
        running.clear()


async def test_a_server_too_old_for_decimals_is_told_with_the_remedy(running: Server, name: str) -> None:
    async with connected(running) as database:
        target = TDengineTarget(database, [ticks(name)], patience=QUICK)
        await ensured(target, [ticks(name)])
        running.fault("error", action="query", sql="DECIMAL", code=0x2600, message='syntax error near "decimal(18, 4)"')
        with pytest.raises(ConfigError, match=r"before 3\.3\.6 TDengine has no DECIMAL: make the column DOUBLE"):
            await ensured(target, [alone(name)])
        running.clear()


async def test_a_lock_that_may_not_be_made_is_told_with_its_grant() -> None:
    with TaosServer() as bare:  # nobody has changed anything here yet
        bare.fault("error", action="query", sql="CREATE DATABASE", code=0x0303, message="Insufficient privilege")
        async with connected(bare) as database:
            with pytest.raises(ConfigError, match=r"as root: ALTER USER root CREATEDB 1 .* mystocks_schema"):
                async with TDengineTarget(database, patience=QUICK).lock():
                    pass


async def test_a_statement_the_server_does_not_take_is_told(database: TDengineDatabase, name: str) -> None:
    target = TDengineTarget(database)
    with pytest.raises(ConfigError, match="does not take a statement"):
        await target.execute(name, "CREATE NONSENSE")
    with pytest.raises(ConfigError, match=r"does not take a statement: .*0x2619"):
        await target.execute("", f"CREATE DATABASE {name} KEEP 10 DURATION 10")


# the lock -----------------------------------------------------------------------------------------------------------


async def test_two_that_make_the_same_tables_at_once_make_them_once(running: Server, name: str) -> None:
    tables = [ticks(name), alone(name)]
    async with connected(running) as one, connected(running) as two, connected(running) as three:
        targets = [TDengineTarget(d, tables, patience=QUICK) for d in (one, two, three)]
        await asyncio.gather(*(ensured(t, tables) for t in targets))
        assert await planned(targets[0], tables) == []


async def test_never_two_hold_the_lock_however_many_want_it(running: Server) -> None:
    inside = 0

    async def hold(target: TDengineTarget) -> None:
        nonlocal inside
        for _ in range(3):
            async with target.lock():
                inside += 1
                assert inside == 1
                await asyncio.sleep(0.03)
                assert inside == 1
                inside -= 1

    async with connected(running) as one, connected(running, connections=1) as two, connected(running) as three:
        await asyncio.gather(*(hold(TDengineTarget(d, patience=QUICK)) for d in (one, two, three)))


async def test_a_second_holder_waits_and_then_names_the_first(running: Server) -> None:
    async with connected(running) as one, connected(running) as two:
        async with TDengineTarget(one, patience=BRISK).lock():
            began = time.monotonic()
            said = rf"being changed by process {os.getpid()} on .*: try again later"
            with pytest.raises(Unavailable, match=said):  # it beats, so it is never passed by
                async with TDengineTarget(two, patience=replace(BRISK, wait=4.0)).lock():
                    pass
            assert time.monotonic() - began >= 4
        async with TDengineTarget(two, patience=replace(QUICK, silent=90.0)).lock():  # free, and not passed by
            pass


_HOLDER = """
import asyncio, sys
from mystocks_ingest.sinks.tdengine import Options, TDengineDatabase, TDengineTarget
async def main():
    host, port, user, password = sys.argv[1:]
    async with TDengineDatabase(Options(host, int(port), user, password)) as database:
        async with TDengineTarget(database).lock():
            print("held", flush=True)
            await asyncio.sleep(60)
asyncio.run(main())
"""


async def test_the_lock_of_a_manager_that_was_killed_is_overcome(running: Server, database: TDengineDatabase) -> None:
    words = [sys.executable, "-c", _HOLDER, running.host, str(running.port), running.user, running.password]
    with subprocess.Popen(words, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]) as holder:  # noqa: ASYNC220
        assert holder.stdout is not None
        while (line := await asyncio.to_thread(holder.stdout.readline)).strip() != b"held":
            assert line, "it ended early"
        holder.send_signal(signal.SIGKILL)
    began = time.monotonic()
    async with TDengineTarget(database, patience=BRISK).lock():
        assert time.monotonic() - began >= BRISK.silent
    async with TDengineTarget(database, patience=QUICK).lock():  # and it is as good as new
        pass


async def test_who_stood_still_too_long_changes_nothing_more(running: Server, name: str) -> None:
    table = ticks(name)
    async with connected(running) as one, connected(running) as two:
        slow = TDengineTarget(one, [table], patience=replace(BRISK, beat=60))  # as one that SIGSTOP held
        async with slow.lock():
            await slow.execute("", f"CREATE DATABASE {name}")
            async with TDengineTarget(two, patience=BRISK).lock():
                pass
            with pytest.raises(Unavailable, match=r"the lock on TDengine's structure .* was lost"):
                await slow.execute("", f"DROP DATABASE {name}")
        assert name in await slow.databases()
