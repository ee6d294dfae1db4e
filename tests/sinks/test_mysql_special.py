"""What is special to MySQL and MariaDB: their settings, limits, codes and ways of changing values in silence."""

from __future__ import annotations

import asyncio
import os
import struct
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from contract import ALL, HUNG_SECONDS, connections, ordinary, plain, replaced, same, until, without
from pymysql import err
from servers.fixtures import served
from servers.mariadb import BINARIES, MariaDB
from test_mysql import DATABASE, MySQLSubject

from mystocks_ingest.errors import ConfigError, IngestError, Rejected, Unavailable, UnsafeChange
from mystocks_ingest.flow.writer import Limits, Writer
from mystocks_ingest.market.frames import Window
from mystocks_ingest.ports import Query
from mystocks_ingest.schema.tables import Database, Table, load
from mystocks_ingest.settings import Settings
from mystocks_ingest.sinks.mysql import Access, MySQLDatabase, MySQLSink
from mystocks_ingest.sinks.mysql.database import version
from mystocks_ingest.sinks.mysql.ddl import COLLATION
from mystocks_ingest.sinks.mysql.sink import SMALL
from mystocks_ingest.sinks.mysql.wire import Wire

CONFIG = Path(__file__).parents[2] / "config" / "tables.yaml"
PLAIN = "plain-secret"  # of accounts that live for one test run
NASTY = [
    "",
    "\\N",
    "NULL",
    "\\",
    "\\\\'",
    "'); DROP TABLE x; --",
    "a\tb\nc\rd\0e\x1a",
    "\"quoted\", 'single'",
    "平安银行🚀𠮷",
    "100%_",
    " 前后 ",
    "x" * 60,
]


@pytest.fixture
def subject(mariadb_server: MariaDB) -> MySQLSubject:
    return MySQLSubject(mariadb_server)


@pytest.fixture(scope="module")
def narrow_server(pytestconfig: pytest.Config) -> Iterator[MariaDB]:
    """Takes no rows sent as a file, and small packets only."""
    options = {"max_allowed_packet": "64K", "local_infile": "0", "innodb_flush_log_at_trx_commit": "0"}
    with served(pytestconfig, lambda: MariaDB(options)) as server:
        yield server


def only_mariadb(reason: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif((Path(os.environ.get(BINARIES, "/none")) / "mysqld").is_file(), reason=reason)


def kill_connections(server: MariaDB) -> None:
    """All of our user's; returns when they are gone."""
    listed = server.sql(f"SELECT id FROM information_schema.processlist WHERE user = '{server.user}'").split()
    for number in listed:
        try:
            server.sql(f"KILL {number}")
        except RuntimeError as exc:  # another test's has ended meanwhile
            if "1094" not in str(exc):
                raise
    ends = time.monotonic() + 30
    while listed and server.sql(f"SELECT id FROM information_schema.processlist WHERE id IN ({', '.join(listed)})"):
        assert time.monotonic() < ends, "the server does not end them"
        time.sleep(0.02)


@asynccontextmanager
async def opened(access: Access, *tables: Table) -> AsyncIterator[MySQLSink]:
    async with MySQLDatabase(access) as database:
        yield await MySQLSink.opened(database, tables)


def nasty(table: Table, count: int, *, version: int = 0) -> pa.RecordBatch:
    """Rows whose texts and bytes hold everything that means something to the server's parsers."""
    rows = ordinary(table, count, version=version)
    for name in ("note", "long"):
        index = rows.schema.get_field_index(name)
        texts = pa.array([NASTY[(i + version) % len(NASTY)] for i in range(count)])
        rows = rows.set_column(index, rows.schema.field(index), texts)
    index = rows.schema.get_field_index("raw")
    data = pa.array([bytes([i % 256, 92, 9, 10, 39, 0, 255 - i % 256]) for i in range(count)], pa.binary())
    return rows.set_column(index, rows.schema.field(index), data)


@pytest.mark.parametrize("count", [len(NASTY), SMALL + 300])
async def test_texts_that_mean_something_to_a_parser_are_data(subject: MySQLSubject, count: int) -> None:
    """The way of tuples, then of a load of new rows; then each of them over rows that are there."""
    table = subject.fresh()
    async with subject.opened(table) as sink:
        for turn in range(2):
            rows = nasty(table, count, version=turn)
            await sink.write(table, rows)
            await same(sink, table, rows)


async def test_a_load_merges_with_a_row_no_probe_has_seen(subject: MySQLSubject) -> None:
    table = subject.fresh()
    async with subject.opened(table) as sink:
        await sink.write(table, ordinary(table, 1, first=2_001))
        later = ordinary(table, 4_000, version=1)
        await sink.write(table, later.drop_columns(["note"]))
        notes = (await sink.read(table, ALL)).column("note").to_pylist()
        assert notes[2_001] == "注2001.0", "the column that was not written keeps its value"
        assert set(notes[:2_001] + notes[2_002:]) == {None}
        await sink.write(table, later)
        await same(sink, table, later)


async def test_no_row_is_deleted_on_the_way(subject: MySQLSubject, mariadb_server: MariaDB) -> None:
    """REPLACE would delete, and take the rows of a user's own table with it."""
    table = subject.fresh()
    rows = ordinary(table, SMALL + 500)
    child = f"{DATABASE}.{table.name}_child"
    collation = COLLATION[Database.MYSQL if mariadb_server.mysql else Database.MARIADB]
    async with subject.opened(table) as sink:
        await sink.write(table, rows)
        mariadb_server.sql(
            f"ALTER TABLE {DATABASE}.{table.name} ADD COLUMN mine INT DEFAULT 7; UPDATE {DATABASE}.{table.name} SET mine = 8;"
            f"CREATE TABLE {child} (symbol VARCHAR(20) COLLATE {collation}, day DATE, FOREIGN KEY (symbol, day) "
            f"REFERENCES {DATABASE}.{table.name} (symbol, day) ON DELETE CASCADE) DEFAULT CHARSET utf8mb4;"
            f"INSERT INTO {child} SELECT symbol, day FROM {DATABASE}.{table.name}"
        )
        await sink.write(table, ordinary(table, SMALL + 500, version=1))
    assert mariadb_server.sql(f"SELECT COUNT(*) FROM {child}") == str(SMALL + 500)
    assert mariadb_server.sql(f"SELECT DISTINCT mine FROM {DATABASE}.{table.name}") == "8"


@pytest.mark.parametrize("count", [300, SMALL + 2_000])
async def test_every_bad_row_of_a_batch_of_any_size_stands_alone(subject: MySQLSubject, count: int) -> None:
    table = subject.fresh()
    rows = ordinary(table, count)
    bad = dict(zip(range(7, count, count // len(subject.bad)), subject.bad.values(), strict=False))
    wrong = rows
    for at, (column, value) in bad.items():
        wrong = replaced(wrong, column, at, value)
    async with subject.opened(table) as sink, Writer(sink, table, Limits(linger_seconds=0)) as writer:
        refused = await writer.write(wrong)
        assert [r.row for r in refused] == list(bad)
        good = pa.array([i for i in range(count) if i not in bad])
        await same(sink, table, rows.take(good))


async def test_keys_are_equal_only_byte_for_byte(subject: MySQLSubject) -> None:
    table = subject.fresh()
    rows = ordinary(table, 6).set_column(0, "symbol", pa.array(["a", "A", "a ", "ä", "a\t", ""]))
    async with subject.opened(table) as sink:
        await sink.write(table, rows)
        await sink.write(table, rows)
        await same(sink, table, rows)


async def test_moments_are_stored_as_the_wall_clock_of_their_zone(
    subject: MySQLSubject, mariadb_server: MariaDB
) -> None:
    table = subject.fresh()
    moment = datetime(2041, 5, 6, 16, 30, 0, 123_000, tzinfo=UTC)
    rows = replaced(replaced(ordinary(table, 1), "at", 0, moment), "shanghai", 0, moment)
    async with subject.opened(table) as sink:
        await sink.write(table, rows)
        await same(sink, table, rows)
    stored = mariadb_server.sql(f"SELECT at, shanghai FROM {DATABASE}.{table.name}")
    assert stored == "2041-05-06 16:30:00.123\t2041-05-07 00:30:00.123"


@pytest.mark.parametrize("column", ["at", "shanghai", "local"])
async def test_a_window_on_moments_is_of_shanghai_days(subject: MySQLSubject, column: str) -> None:
    table = replace(subject.fresh(), time_column=column)
    rows = ordinary(table, 4)
    aware = [datetime(2024, 1, d, h, tzinfo=UTC) for d, h in ((1, 15), (1, 16), (2, 15), (2, 16))]
    naive = [datetime(2024, 1, d, h) for d, h in ((1, 23), (2, 0), (2, 23), (3, 0))]
    index = rows.schema.get_field_index(column)
    kind = rows.schema.field(index).type
    rows = rows.set_column(index, rows.schema.field(index), pa.array(naive if kind.tz is None else aware, kind))
    async with subject.opened(table) as sink:
        await sink.write(table, rows)
        await same(sink, table, rows.slice(1, 2), Query(window=Window(date(2024, 1, 2), date(2024, 1, 3))))


class TestNarrowServer:
    """No rows as a file, packets of 64 KB."""

    async def test_large_batches_are_written_and_merged(self, narrow_server: MariaDB) -> None:
        subject = MySQLSubject(narrow_server)
        table = subject.fresh()
        async with subject.opened(table) as sink:
            for turn in range(2):
                rows = nasty(table, 6_000, version=turn)
                await sink.write(table, rows)
                await same(sink, table, rows)

    async def test_a_row_larger_than_a_packet_stands_alone(self, narrow_server: MariaDB) -> None:
        subject = MySQLSubject(narrow_server)
        table = subject.fresh()
        rows = replaced(replaced(ordinary(table, 50), "long", 3, "长" * 20_000), "long", 7, "长" * 22_000)
        async with subject.opened(table) as sink, Writer(sink, table, Limits(linger_seconds=0)) as writer:
            (refused,) = await writer.write(rows)
            assert refused.row == 7
            assert "max_allowed_packet" in refused.reason or "too long" in refused.reason
            await same(sink, table, rows.take(pa.array([i for i in range(50) if i != 7])))

    async def test_a_file_longer_than_a_packet_is_loaded(self, narrow_server: MariaDB) -> None:
        subject = MySQLSubject(narrow_server)
        narrow_server.sql("SET GLOBAL local_infile = 1")
        try:
            table = subject.fresh()
            async with subject.opened(table) as sink:
                for turn in range(2):
                    rows = ordinary(table, 20_000, version=turn)
                    await sink.write(table, rows)
                    await same(sink, table, rows)
        finally:
            narrow_server.sql("SET GLOBAL local_infile = 0")

    async def test_bulk_that_is_switched_off_meanwhile_is_done_without(self, narrow_server: MariaDB) -> None:
        subject = MySQLSubject(narrow_server)
        narrow_server.sql("SET GLOBAL local_infile = 1")
        table = subject.fresh()
        async with subject.opened(table) as sink:
            narrow_server.sql("SET GLOBAL local_infile = 0")
            rows = ordinary(table, SMALL + 100)
            await sink.write(table, rows)
            await same(sink, table, rows)


async def test_an_account_without_temporary_tables_still_merges(subject: MySQLSubject, mariadb_server: MariaDB) -> None:
    mariadb_server.sql(
        f"CREATE DATABASE IF NOT EXISTS {DATABASE};"
        f"DROP USER IF EXISTS plain@'127.0.0.1'; CREATE USER plain@'127.0.0.1' IDENTIFIED BY '{PLAIN}';"
        f"GRANT SELECT, INSERT, UPDATE, CREATE, ALTER ON {DATABASE}.* TO plain@'127.0.0.1'"
    )
    table = subject.fresh()
    async with opened(subject.access(user="plain", password=PLAIN), table) as sink:
        for turn in range(2):
            rows = ordinary(table, SMALL + 100, version=turn)
            await sink.write(table, rows)
            await same(sink, table, rows)


# connections -----------------------------------------------------------------------------------------------------


async def test_connections_the_server_closed_for_idling_go_unnoticed(
    subject: MySQLSubject, mariadb_server: MariaDB
) -> None:
    table = subject.fresh()
    mariadb_server.sql("SET GLOBAL wait_timeout = 2")
    try:
        async with subject.opened(table, pool=3) as sink:
            rows = ordinary(table, 900)
            await asyncio.gather(*(sink.ping() for _ in range(3)))
            await until(lambda: not connections(mariadb_server.port))
            await asyncio.gather(sink.write(table, rows), sink.read(table, ALL), sink.ping())
            await same(sink, table, rows)
    finally:
        mariadb_server.sql("SET GLOBAL wait_timeout = 28800")


async def test_connections_an_administrator_killed_go_unnoticed(subject: MySQLSubject, mariadb_server: MariaDB) -> None:
    table = subject.fresh()
    async with subject.opened(table, pool=2) as sink:
        await asyncio.gather(sink.ping(), sink.ping())
        kill_connections(mariadb_server)
        rows = ordinary(table, 50)
        await sink.write(table, rows)
        await same(sink, table, rows)


async def test_a_statement_that_takes_too_long_is_ended(subject: MySQLSubject) -> None:
    async with MySQLDatabase(subject.access(statement_seconds=1.0)) as database:
        work = database.run(lambda wire: wire.run("SELECT BENCHMARK(10000000000, SHA2('x', 256))"))
        with pytest.raises(Unavailable, match=r"1 s"):
            await asyncio.wait_for(work, 60)


async def test_a_reader_may_take_longer_than_a_statement(subject: MySQLSubject) -> None:
    table = subject.fresh()
    rows = ordinary(table, 20_000)
    async with subject.opened(table) as sink:
        await sink.write(table, rows)
    async with opened(subject.access(statement_seconds=2.0), table) as sink:
        parts = []
        async for part in sink.stream(table, ALL):
            parts.append(part)
            await asyncio.sleep(1.5 / len(parts))  # in all more than two seconds
        assert len(parts) > 3
        assert plain(table, pa.Table.from_batches(parts)) == plain(table, rows)


async def test_rows_another_transaction_holds_are_unavailable_and_pass(
    subject: MySQLSubject, mariadb_server: MariaDB
) -> None:
    subject.seconds = HUNG_SECONDS
    table = subject.fresh()
    rows = ordinary(table, 20)
    async with subject.opened(table) as sink, MySQLDatabase(subject.access()) as other:
        await sink.write(table, rows)
        async with other.lent() as wire:
            await wire.transact("BEGIN")
            await wire.run(f"UPDATE {DATABASE}.{table.name} SET volume = 1")
            with pytest.raises(Unavailable):
                await sink.write(table, ordinary(table, 20, version=1))
            await wire.rollback()
        await sink.write(table, ordinary(table, 20, version=1))
        await same(sink, table, ordinary(table, 20, version=1))


async def test_a_deadlock_with_another_program_is_sat_out(subject: MySQLSubject) -> None:
    """Two sinks, as of two processes, take the same rows from both ends."""
    table = subject.fresh()
    rows = ordinary(table, 400)
    backwards = [rows.slice(i, 40) for i in range(360, -1, -40)]
    async with subject.opened(table) as one, subject.opened(table) as two:
        await one.write(table, rows)
        for turn in range(1, 6):
            later = ordinary(table, 400, version=turn)
            await asyncio.gather(
                one.write(table, later),
                *(two.write(table, later.slice(400 - 40 * (i + 1), 40)) for i in range(len(backwards))),
            )
            await same(one, table, later)


async def test_a_server_cannot_ask_for_a_file(tmp_path: Path) -> None:
    """One that answers a query by asking for a file, as hostile ones do, gets none."""
    secret = tmp_path / "id_rsa"
    secret.write_text("PRIVATE KEY")
    got = bytearray()

    async def hostile(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        def send(number: int, payload: bytes) -> None:
            writer.write(len(payload).to_bytes(3, "little") + bytes([number]) + payload)

        greeting = b"\x0a8.0.36\0" + struct.pack("<I", 1) + b"12345678\0" + struct.pack("<H", 0xF7FF) + b"\x2d"
        greeting += struct.pack("<HH", 2, 0x81FF) + b"\x15" + b"\0" * 10 + b"123456789012\0mysql_native_password\0"
        send(0, greeting)
        await reader.read(4096)
        send(2, b"\0\0\0\2\0\0\0")
        while await reader.read(4096):
            send(1, b"\xfb" + str(secret).encode())
            got.extend(await reader.read(4096))
        writer.close()

    server = await asyncio.start_server(hostile, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    access = Access("127.0.0.1", port, "ingest", "secret", connect_seconds=2, statement_seconds=2, tls="off")
    with pytest.raises(IngestError):
        async with MySQLDatabase(access):
            pass
    await asyncio.sleep(0.05)
    server.close()
    assert b"PRIVATE KEY" not in got


# doctor's sentences ----------------------------------------------------------------------------------------------


async def refusal(access: Access, *tables: Table) -> str:
    with pytest.raises(ConfigError) as caught:
        async with opened(access, *tables):
            pass
    text = str(caught.value)
    assert "\n" not in text
    assert access.password not in text
    return text


async def test_a_wrong_password_is_one_sentence(subject: MySQLSubject) -> None:
    said = await refusal(subject.access(password=PLAIN))
    assert "check MYSQL_USER and MYSQL_PASSWORD" in said


async def test_a_missing_database_is_created_or_asked_for(subject: MySQLSubject, mariadb_server: MariaDB) -> None:
    table = replace(subject.fresh(), database_name="made_at_first_need")
    async with subject.opened(table) as sink:
        await same(sink, table, ordinary(table, 0))
    mariadb_server.sql(f"DROP USER IF EXISTS guest@'127.0.0.1'; CREATE USER guest@'127.0.0.1' IDENTIFIED BY '{PLAIN}'")
    said = await refusal(subject.access(user="guest", password=PLAIN), table)
    assert "CREATE DATABASE `made_at_first_need`" in said
    mariadb_server.sql("GRANT SELECT ON made_at_first_need.* TO guest@'127.0.0.1'")
    said = await refusal(subject.access(user="guest", password=PLAIN), replace(table, name="other"))
    assert "lacks a right" in said
    assert "GRANT" in said


async def test_a_table_dropped_meanwhile_is_one_sentence(subject: MySQLSubject, mariadb_server: MariaDB) -> None:
    table = subject.fresh()
    async with subject.opened(table) as sink:
        mariadb_server.sql(f"DROP TABLE {DATABASE}.{table.name}")
        with pytest.raises(ConfigError, match="start the program anew"):
            await sink.write(table, ordinary(table, 5))


@pytest.mark.parametrize(("said", "numbers"), [("5.5.5-10.11.19-MariaDB-0+deb12u1", (10, 11, 19)), ("8.0.36", (8, 0, 36)),
                                               ("11.4.2-MariaDB", (11, 4, 2)), ("8.4.0-commercial", (8, 4, 0))])  # fmt: skip
def test_versions_are_read(said: str, numbers: tuple[int, ...]) -> None:
    assert version(said) == numbers


@only_mariadb("MySQL does not say another version than its own")
async def test_a_server_too_old_is_one_sentence(pytestconfig: pytest.Config) -> None:
    with served(pytestconfig, lambda: MariaDB({"version": "10.5.8-MariaDB"})) as server:
        said = await refusal(MySQLSubject(server).access())
    assert "is MariaDB 10.5.8-MariaDB" in said
    assert "MariaDB 10.6 or later is needed: upgrade it" in said


async def test_a_missing_server_is_unavailable(subject: MySQLSubject) -> None:
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1 cannot be reached"):
        async with MySQLDatabase(subject.access(port=1)):
            pass


# TLS -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a certificate for 127.0.0.1 that vouches for itself."""
    folder = tmp_path_factory.mktemp("tls")
    folder.chmod(0o755)
    folder.parent.chmod(0o755)
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "cert.pem",
         "-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True, cwd=folder, capture_output=True,
    )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def sealed_server(pytestconfig: pytest.Config, authority: Path) -> Iterator[MariaDB]:
    def made() -> MariaDB:
        server = MariaDB()
        for name in ("cert.pem", "key.pem"):
            (server.folder / name).write_bytes((authority / name).read_bytes())
            (server.folder / name).chmod(0o644)
        server.options |= {
            "ssl_cert": str(server.folder / "cert.pem"),
            "ssl_key": str(server.folder / "key.pem"),
        }
        return server

    with served(pytestconfig, made) as server:
        yield server


async def cipher(access: Access) -> str:
    async with MySQLDatabase(access) as database:
        ((_, value),) = await database.run(lambda wire: wire.run("SHOW STATUS LIKE 'Ssl_cipher'"))
    return str(value)


@pytest.mark.parametrize("tls", ["prefer", "require", "verify"])
async def test_a_wire_is_encrypted_where_the_server_can(sealed_server: MariaDB, authority: Path, tls: str) -> None:
    ca = authority / "cert.pem" if tls == "verify" else None
    subject = MySQLSubject(sealed_server)
    assert await cipher(subject.access(tls=tls, tls_ca=ca))
    table = subject.fresh()
    async with opened(subject.access(tls=tls, tls_ca=ca), table) as sink:
        rows = ordinary(table, SMALL + 500)
        await sink.write(table, rows)
        await same(sink, table, rows)


@only_mariadb("MySQL makes a certificate for itself")
async def test_a_wire_is_plain_only_where_that_is_allowed(
    subject: MySQLSubject, sealed_server: MariaDB, authority: Path
) -> None:
    assert not await cipher(subject.access(tls="prefer"))
    assert not await cipher(MySQLSubject(sealed_server).access(tls="off"))
    for tls in ("require", "verify"):
        assert "the server offers no TLS" in await refusal(subject.access(tls=tls))


async def test_a_login_refused_over_tls_leaves_no_connection_behind(sealed_server: MariaDB) -> None:
    access = MySQLSubject(sealed_server).access(password=PLAIN, tls="require")
    wire = Wire(access)
    with pytest.raises(err.OperationalError, match="1045"):
        await wire.opened()
    for _ in range(3):  # the socket is closed in the loop's next turn, without waiting for a farewell
        await asyncio.sleep(0)
    assert connections(sealed_server.port) == []


async def test_a_certificate_nobody_vouches_for_is_one_sentence(sealed_server: MariaDB, tmp_path: Path) -> None:
    subject = MySQLSubject(sealed_server)
    assert "check MYSQL_TLS and MYSQL_TLS_CA" in await refusal(subject.access(tls="verify"))
    assert "MYSQL_TLS_CA" in await refusal(subject.access(tls="verify", tls_ca=tmp_path / "none.pem"))


# tables ----------------------------------------------------------------------------------------------------------


async def test_every_table_of_the_file_is_made_once(subject: MySQLSubject, mariadb_server: MariaDB) -> None:
    tables = [t for t in load(CONFIG).all if t.database_type in (Database.MYSQL, Database.MARIADB)]
    assert tables
    access = subject.access(database="of_the_file")
    for _ in range(2):  # and found as it should be afterwards
        async with opened(access, *tables) as sink:
            for table in tables:
                rows = ordinary(table, 30) if "symbol" in table.key else None
                if rows is not None:
                    await sink.write(table, rows)
                    await same(sink, table, rows)
    count = mariadb_server.sql("SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = 'of_the_file'")
    assert count == str(len(tables))


async def test_a_table_that_lost_its_key_gets_it_back_unless_rows_are_doubled(
    subject: MySQLSubject, mariadb_server: MariaDB
) -> None:
    table = subject.fresh()
    place = f"{DATABASE}.{table.name}"
    rows = ordinary(table, 10)
    async with subject.opened(table) as sink:
        await sink.write(table, rows)
        mariadb_server.sql(f"ALTER TABLE {place} DROP PRIMARY KEY")
    async with subject.opened(table) as sink:
        await sink.write(table, rows)
        await same(sink, table, rows)
    mariadb_server.sql(f"ALTER TABLE {place} DROP PRIMARY KEY; INSERT INTO {place} SELECT * FROM {place} LIMIT 1")
    with pytest.raises(UnsafeChange, match=r"Duplicate entry.*make them differ"):
        async with subject.opened(table):
            pass
    assert mariadb_server.sql(f"SELECT COUNT(*) FROM {place}") == "11"


@pytest.mark.parametrize("key", ["PRIMARY KEY", "UNIQUE KEY mine"])
async def test_a_unique_index_on_the_key_serves_as_well(
    subject: MySQLSubject, mariadb_server: MariaDB, key: str
) -> None:
    table = subject.fresh()
    async with subject.opened(table):
        mariadb_server.sql(f"ALTER TABLE {DATABASE}.{table.name} DROP PRIMARY KEY, ADD {key} (day, symbol)")
    async with subject.opened(table) as sink:
        for _ in range(2):
            await sink.write(table, ordinary(table, 10))
        await same(sink, table, ordinary(table, 10))


@pytest.mark.parametrize("change", ["price FLOAT", "volume INT NOT NULL", "note VARCHAR(10)", "exact DECIMAL(9,2)"])
async def test_a_column_made_too_narrow_by_hand_is_widened_again(
    subject: MySQLSubject, mariadb_server: MariaDB, change: str
) -> None:
    table = subject.fresh()
    async with subject.opened(table):
        mariadb_server.sql(f"ALTER TABLE {DATABASE}.{table.name} MODIFY {change}")
    rows = ordinary(table, 20)
    async with subject.opened(table) as sink:
        await sink.write(table, rows)
        await same(sink, table, rows)


@pytest.mark.parametrize(
    "change", ["price DECIMAL(30,4)", "at TIMESTAMP(3) NULL", "volume VARCHAR(40)", "note LONGTEXT"]
)
async def test_a_column_that_would_lose_something_is_refused(
    subject: MySQLSubject, mariadb_server: MariaDB, change: str
) -> None:
    table = subject.fresh()
    async with subject.opened(table):
        mariadb_server.sql(f"ALTER TABLE {DATABASE}.{table.name} MODIFY {change}")
    with pytest.raises(UnsafeChange, match=change.split(maxsplit=1)[0]):
        async with subject.opened(table):
            pass


async def test_a_required_column_cannot_be_gained_by_rows_that_lack_it(subject: MySQLSubject) -> None:
    table = subject.fresh()
    async with subject.opened(without(table, "volume")):
        pass
    with pytest.raises(UnsafeChange, match="volume"):
        async with subject.opened(table):
            pass


async def test_one_database_may_hold_all_tables(subject: MySQLSubject) -> None:
    table = subject.fresh()
    async with opened(subject.access(database="all_in_one"), table) as sink:
        await sink.write(table, ordinary(table, 5))
        await same(sink, table, ordinary(table, 5))
        with pytest.raises(ConfigError, match="MYSQL_DATABASE"):
            await sink.ensure([table, replace(table, database_name="elsewhere")])


def test_settings_become_an_access_that_hides_its_password() -> None:
    settings = Settings(_env_file=None, MYSQL_HOST="db.lan", MYSQL_PASSWORD=PLAIN, MYSQL_TLS="require")
    access = Access.of(settings)
    assert (access.host, access.port, access.tls, access.password) == ("db.lan", 3306, "require", PLAIN)
    assert PLAIN not in repr(access) + str(access)


async def test_a_refused_batch_leaves_nothing_behind(subject: MySQLSubject) -> None:
    """A write is one transaction, however many statements it takes."""
    table = subject.fresh()
    rows = ordinary(table, SMALL + 4_000)
    async with subject.opened(table) as sink:
        with pytest.raises(Rejected, match="volume"):
            await sink.write(table, replaced(rows, "volume", SMALL + 3_990, None))
        await same(sink, table, rows.slice(0, 0))
