"""PostgreSQL's own claims, beyond the contract of all sinks."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import count
from pathlib import Path

import asyncpg
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from contract import ALL, ordinary, plain, replaced, same, until
from servers.fixtures import served
from servers.postgresql import DATABASE, PASSWORD, PostgreSQL

from mystocks_ingest.errors import ConfigError, Unavailable, UnsafeChange
from mystocks_ingest.flow.writer import Limits, Writer
from mystocks_ingest.market.datasets import BAR_1D
from mystocks_ingest.market.frames import Window
from mystocks_ingest.ports import Query
from mystocks_ingest.schema.tables import Column, Database, Table, load
from mystocks_ingest.sinks.timescale import Access, TimescaleDatabase, TimescaleSink, sink, structure
from mystocks_ingest.sinks.timescale.ddl import partition

ROOT = Path(__file__).parents[2]
_numbers = count()


def access(server: PostgreSQL, **changes: object) -> Access:
    usual = Access(server.host, server.port, server.user, server.password, timescale=server.timescale, tls="off")
    return replace(usual, **changes)


@asynccontextmanager
async def opened(where: Access, *tables: Table):
    async with TimescaleDatabase(where) as database:
        yield await TimescaleSink.opened(database, tables)


def small_table(**changes: object) -> Table:
    columns = (
        Column("symbol", "VARCHAR", 20, nullable=False),
        Column("day", "DATE", nullable=False),
        Column("price", "DOUBLE"),
        Column("note", "VARCHAR", 60),
    )
    table = Table(f"own_{next(_numbers)}", Database.POSTGRESQL, DATABASE, columns, ("symbol", "day"), time_column="day")
    return replace(table, **changes)


@pytest.fixture(scope="module")
def shipped() -> tuple[Table, ...]:
    """The tables that config/tables.yaml puts into PostgreSQL."""
    placed = load(ROOT / "config" / "tables.yaml").placed(("postgresql",))
    return tuple(t for t in placed.all if t.database_type is Database.POSTGRESQL)


def versions(server: PostgreSQL, table: Table) -> dict[str, str]:
    """Where each row lies and which transaction wrote it."""
    said = server.psql(f'SELECT symbol || day, tableoid || ctid::text || xmin FROM "{table.name}"')
    return dict(line.split("|") for line in said.splitlines())


@pytest.mark.parametrize("rows", [100, 3_000])
async def test_rows_that_have_not_changed_are_not_written_again(postgresql_server: PostgreSQL, rows: int) -> None:
    table = small_table()
    first = ordinary(table, rows)
    async with opened(access(postgresql_server), table) as store:
        await store.write(table, first)
        before = versions(postgresql_server, table)
        await store.write(table, replaced(first, "price", rows // 2, 99.5))
        after = versions(postgresql_server, table)
    assert len(after) == rows
    assert [key for key in before if before[key] != after[key]] == [
        first["symbol"][rows // 2].as_py() + str(first["day"][rows // 2].as_py())
    ]


async def test_a_stored_row_that_the_sample_of_keys_misses_is_replaced_all_the_same(
    postgresql_server: PostgreSQL,
) -> None:
    table = small_table()
    rows = ordinary(table, 5_000, version=1)
    async with opened(access(postgresql_server), table) as store:
        await store.write(table, ordinary(table, 5_000).slice(3_001, 1))
        await store.write(table, rows)
        await same(store, table, rows)


async def test_rows_are_read_whole_however_they_are_cut(
    postgresql_server: PostgreSQL, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = small_table()
    rows = replaced(ordinary(table, 20_000), "note", 5, 'two\nlines, "quoted", and \\.')
    async with opened(access(postgresql_server), table) as store:
        await store.write(table, rows)
        monkeypatch.setattr(sink, "_READ_BYTES", 1)
        parts = [part async for part in store.stream(table, ALL)]
    assert len(parts) > 3
    assert plain(table, pa.Table.from_batches(parts)) == plain(table, rows)


async def test_every_shipped_table_is_made_and_takes_bars(
    postgresql_server: PostgreSQL, shipped: tuple[Table, ...], bars: Callable[..., pa.RecordBatch]
) -> None:
    assert len(shipped) > 8
    daily = next(t for t in shipped if t.dataset == BAR_1D)
    rows = bars(symbols=300, sessions=3)
    for timescale in {False, postgresql_server.timescale}:
        where = access(postgresql_server, timescale=timescale, database=f"shipped_{timescale}".lower())
        postgresql_server.psql(f"ALTER ROLE {postgresql_server.user} CREATEDB")
        async with opened(where, *shipped) as store:
            await store.write(daily, rows)
        async with opened(where, *shipped) as store:  # and is found as it was made
            assert (await store.read(daily, ALL)).equals(pa.table(rows))
            assert (await store.read(daily, Query(window=Window(date(2024, 1, 3), date(2024, 1, 4))))).num_rows == 300


async def test_a_numeric_column_holds_prices_exactly_and_refuses_nan_alone(postgresql_server: PostgreSQL) -> None:
    price = Column("price", "NUMERIC", precision=10, scale=4, canonical=pa.float64())
    base = small_table()
    table = replace(base, columns=tuple(price if c.name == "price" else c for c in base.columns))
    rows = ordinary(table, 6_000)
    prices = [n / 10_000 for n in range(1, 60_000_001, 10_000)]
    rows = rows.set_column(2, rows.schema.field(2), pa.array(prices))
    async with opened(access(postgresql_server), table) as store:
        async with Writer(store, table, Limits(linger_seconds=0)) as writer:
            for size, bad in ((100, float("nan")), (2_000, float("inf")), (1_000, 1e9)):
                refused = await writer.write(replaced(rows.slice(0, size), "price", 7, bad))
                assert [r.row for r in refused] == [7]
        await store.write(table, rows)
        assert (await store.read(table, ALL)).column("price").to_pylist() == prices
    stored = postgresql_server.psql(f'SELECT sum(price) FROM "{table.name}"')
    assert stored == f"{sum(range(1, 60_000_001, 10_000)) / 10_000:.4f}"


async def test_a_window_of_moments_is_that_of_shanghai_days(postgresql_server: PostgreSQL) -> None:
    columns = (
        Column("symbol", "VARCHAR", 20, nullable=False),
        Column("at", "TIMESTAMPTZ", nullable=False, canonical=pa.timestamp("ms", "Asia/Shanghai")),
    )
    table = small_table(columns=columns, key=("symbol", "at"), time_column="at", is_timescale_hypertable=True)
    moments = [datetime(2024, 1, 1, hour, tzinfo=UTC) for hour in (15, 16, 17)]  # 23:00, 00:00 and 01:00 there
    rows = pa.RecordBatch.from_pylist([{"symbol": "600000.SH", "at": m} for m in moments], schema=table.schema)
    async with opened(access(postgresql_server), table) as store:
        await store.write(table, rows)
        read = await store.read(table, Query(window=Window(date(2024, 1, 2), date(2024, 1, 3))))
    assert read.schema.field("at").type == columns[1].arrow
    assert read.column("at").to_pylist() == moments[1:]


# structure ---------------------------------------------------------------------------------------------------------


async def test_native_partitions_are_made_as_rows_need_them(postgresql_server: PostgreSQL) -> None:
    table = small_table(is_timescale_hypertable=True)
    days = [date(1, 1, 1), date(1990, 12, 19), date(2023, 12, 31), date(2024, 1, 1), date(2100, 1, 1)]
    rows = pa.RecordBatch.from_pylist([{"symbol": "600000.SH", "day": d} for d in days], schema=table.schema)
    async with opened(access(postgresql_server, timescale=False), table) as store:
        await store.write(table, rows)
    said = postgresql_server.psql(f'SELECT tableoid::regclass, count(*) FROM "{table.name}" GROUP BY 1')
    assert sorted(said.splitlines()) == [f"{table.name}_{part}" for part in ("1990|1", "2023|1", "2024|1", "other|2")]


def test_partitions_of_a_year_and_of_a_month() -> None:
    days = small_table(name="d")
    assert partition(days, date(2024, 1, 1)) == (
        """CREATE TABLE IF NOT EXISTS "d_2024" PARTITION OF "d" FOR VALUES FROM ('2024-01-01') TO ('2025-01-01')"""
    )
    column = Column("day", "TIMESTAMPTZ", nullable=False)
    moments = replace(days, columns=(days.columns[0], column))
    assert partition(moments, date(2024, 12, 1)) == (
        """CREATE TABLE IF NOT EXISTS "d_202412" PARTITION OF "d" """
        """FOR VALUES FROM ('2024-12-01 00:00:00+00') TO ('2025-01-01 00:00:00+00')"""
    )


async def test_a_column_that_changed_its_type_is_refused_and_one_that_is_gone_is_kept(
    postgresql_server: PostgreSQL,
) -> None:
    table = small_table(where="tables.yaml:3:5")
    rows = ordinary(table, 3)
    text = replace(table, columns=(*table.columns[:2], Column("price", "VARCHAR", 9), table.columns[3]))
    where = access(postgresql_server)
    async with opened(where, table) as store:
        await store.write(table, rows)
    with pytest.raises(
        UnsafeChange, match=r"tables.yaml:3:5: column price: type double precision -> character varying\(9\): not every"
    ):
        async with opened(where, text):
            pass
    narrow = replace(table, columns=table.columns[:3])
    async with opened(where, narrow) as store:
        await store.write(narrow, ordinary(narrow, 3, version=1))
    async with opened(where, table) as store:
        assert (await store.read(table, ALL)).column("note").to_pylist() == rows.column("note").to_pylist()


async def test_a_database_that_is_missing_is_made(postgresql_server: PostgreSQL) -> None:
    postgresql_server.psql(f"ALTER ROLE {postgresql_server.user} CREATEDB")
    table = small_table(database_name="made here")
    async with opened(access(postgresql_server), table) as store:
        await store.write(table, ordinary(table, 3))
    assert postgresql_server.psql(f'SELECT count(*) FROM "{table.name}"', database="made%20here") == "3"


# errors ------------------------------------------------------------------------------------------------------------


async def said(where: Access, *tables: Table) -> str:
    with pytest.raises(ConfigError) as caught:
        async with opened(where, *tables):
            pass
    assert PASSWORD not in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


async def test_a_wrong_password_is_one_sentence(postgresql_server: PostgreSQL) -> None:
    found = await said(access(postgresql_server, password="guessed"), small_table())  # noqa: S106 - a wrong one
    place = f"PostgreSQL at 127.0.0.1:{postgresql_server.port}"
    assert found.startswith(f"{place} refuses user ingest (")
    assert found.endswith("check POSTGRESQL_USER and POSTGRESQL_PASSWORD")
    assert "guessed" not in found


async def test_a_missing_database_that_may_not_be_made_is_one_sentence(postgresql_server: PostgreSQL) -> None:
    postgresql_server.psql(f"ALTER ROLE {postgresql_server.user} NOCREATEDB")
    found = await said(access(postgresql_server), small_table(database_name="absent"))
    assert "has no database absent: create it" in found


async def test_a_missing_right_is_one_sentence(postgresql_server: PostgreSQL) -> None:
    postgresql_server.psql("CREATE DATABASE walled")
    found = await said(access(postgresql_server), small_table(database_name="walled"))
    assert "user ingest may not do this in walled" in found
    assert found.endswith('run GRANT USAGE, CREATE ON SCHEMA "public" TO "ingest" as its owner or a superuser')


async def test_a_missing_extension_is_one_sentence_with_both_remedies(postgresql_server: PostgreSQL) -> None:
    if postgresql_server.timescale:
        pytest.skip("TimescaleDB is installed here")
    found = await said(access(postgresql_server, timescale=True), small_table(is_timescale_hypertable=True))
    assert "has no TimescaleDB, which the hypertables need: install" in found
    assert "POSTGRESQL_TIMESCALE=off" in found
    async with opened(access(postgresql_server, timescale=True), small_table()):
        pass  # it is only asked for where a table wants it


async def test_a_server_too_old_is_one_sentence(postgresql_server: PostgreSQL, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(structure, "OLDEST", 99)
    assert "version 99 or newer is needed: upgrade the server" in await said(access(postgresql_server), small_table())


async def test_a_statement_that_waits_too_long_is_unavailable_and_passes(postgresql_server: PostgreSQL) -> None:
    table = small_table()
    rows = ordinary(table, 600)
    async with opened(access(postgresql_server), table) as patient:
        await patient.write(table, rows)
    async with opened(access(postgresql_server, statement_seconds=2), table) as store:
        other = await asyncpg.connect(postgresql_server.url(), ssl=False)
        async with other.transaction():
            await other.execute(f'LOCK TABLE "{table.name}"')
            for part in (rows.slice(0, 10), rows):
                with pytest.raises(Unavailable, match="took longer than 2 s"):
                    await asyncio.wait_for(store.write(table, part), 30)
        await other.close()
        await store.write(table, rows.slice(0, 10))


async def test_a_read_only_server_is_unavailable(postgresql_server: PostgreSQL) -> None:
    table = small_table()
    async with opened(access(postgresql_server), table) as store:
        postgresql_server.psql(f"ALTER ROLE {postgresql_server.user} SET default_transaction_read_only = on")
        async with TimescaleDatabase(access(postgresql_server)) as database:
            with pytest.raises(Unavailable, match="read-only transaction"):
                await TimescaleSink(database).write(table, ordinary(table, 3))
        postgresql_server.psql(f"ALTER ROLE {postgresql_server.user} RESET default_transaction_read_only")
        await store.write(table, ordinary(table, 3))


async def test_the_server_sees_who_we_are(postgresql_server: PostgreSQL) -> None:
    table = small_table()
    async with opened(access(postgresql_server), table):
        asked = "SELECT DISTINCT application_name FROM pg_stat_activity WHERE usename = 'ingest'"
        await until(lambda: postgresql_server.psql(asked) == "mystocks-ingest")  # others' may be about to end


# TLS ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def encrypted(pytestconfig: pytest.Config) -> Iterator[PostgreSQL]:
    """A server with a certificate of its own, which is in ``folder / server.crt``."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl, which makes the certificate, is not installed")

    class Encrypted(PostgreSQL):
        def prepare(self) -> None:
            super().prepare()
            self.run(
                "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test",
                "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "server.key", "-out", "server.crt",
            )  # fmt: skip
            (self.folder / "server.key").chmod(0o600)

    options = {"fsync": "off", "ssl": "on", "ssl_cert_file": "'../server.crt'", "ssl_key_file": "'../server.key'"}
    with served(pytestconfig, lambda: Encrypted(options)) as server:
        yield server


@pytest.mark.parametrize("mode", ["off", "prefer", "require", "verify"])
async def test_each_mode_of_encryption_is_what_it_says(encrypted: PostgreSQL, mode: str) -> None:
    ca = encrypted.folder / "server.crt"
    table = small_table()
    async with opened(access(encrypted, tls=mode, tls_ca=ca if mode == "verify" else None), table) as store:
        await store.write(table, ordinary(table, 600))
        asked = "SELECT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = 'ingest'"
        wanted = {"f" if mode == "off" else "t"}
        await until(lambda: set(encrypted.psql(asked).splitlines()) == wanted)  # others' may be about to end


async def test_a_certificate_nobody_vouches_for_is_one_sentence(encrypted: PostgreSQL) -> None:
    assert "no TLS connection with POSTGRESQL_TLS=verify" in await said(access(encrypted, tls="verify"), small_table())


async def test_a_server_without_encryption_is_one_sentence_where_it_is_required(postgresql_server: PostgreSQL) -> None:
    found = await said(access(postgresql_server, tls="require"), small_table())
    assert "no TLS connection with POSTGRESQL_TLS=require" in found


async def test_a_file_of_authorities_that_is_not_there_is_one_sentence(
    postgresql_server: PostgreSQL, tmp_path: Path
) -> None:
    found = await said(access(postgresql_server, tls="verify", tls_ca=tmp_path / "absent.pem"), small_table())
    assert "absent.pem cannot be used (No such file or directory)" in found


# TimescaleDB -------------------------------------------------------------------------------------------------------


@pytest.fixture
def timescale_server(postgresql_server: PostgreSQL) -> PostgreSQL:
    if not postgresql_server.timescale:
        pytest.skip("TimescaleDB is not installed beside this PostgreSQL")
    return postgresql_server


async def test_a_hypertable_is_cut_by_time_and_compresses_what_is_old(timescale_server: PostgreSQL) -> None:
    table = small_table(is_timescale_hypertable=True)
    for _ in range(2):  # the second time it is there
        async with opened(access(timescale_server), table) as store:
            await store.write(table, ordinary(table, 1_000))
    cut = "SELECT time_interval FROM timescaledb_information.dimensions WHERE hypertable_name = "
    assert timescale_server.psql(f"{cut} '{table.name}'") == "180 days"
    policy = "SELECT config ->> 'compress_after' FROM timescaledb_information.jobs WHERE hypertable_name = "
    assert timescale_server.psql(f"{policy} '{table.name}'") == "400 days"


async def test_rows_in_compressed_chunks_are_corrected_past_the_servers_own_limit(timescale_server: PostgreSQL) -> None:
    table = small_table(is_timescale_hypertable=True)
    many = 130_000  # more than the 100,000 rows a statement may unpack by default
    days = pa.array([date(2020, 1, 1) + timedelta(i) for i in range(100)])
    rows = pa.RecordBatch.from_arrays(
        [
            pa.array([f"{i // 100:06d}.SZ" for i in range(many)]),
            days.take(pa.array([i % 100 for i in range(many)])),
            pa.array([i / 10_000 for i in range(many)]),
            pa.nulls(many, pa.string()),
        ],
        schema=pa.schema([pa.field(f.name, f.type) for f in table.schema]),
    )
    corrected = rows.set_column(2, rows.schema.field(2), pc.add(rows.column("price"), 1.0))
    async with opened(access(timescale_server), table) as store:
        await store.write(table, rows)
        timescale_server.psql(f"SELECT compress_chunk(c) FROM show_chunks('{table.name}') c")
        await store.write(table, rows)
        await store.write(table, corrected)
        read = await store.read(table, Query(columns=("price",)))
        extra = ordinary(table, 10, first=many)
        await store.write(table, extra)
        assert (await store.read(table, Query(columns=("symbol",)))).num_rows == many + 10
    assert read.column("price").to_pylist() == corrected.column("price").to_pylist()
