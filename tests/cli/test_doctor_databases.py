"""``doctor`` and the databases: one sentence for each thing that is wrong with one, and what to do; the others go on."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml
from servers.fixtures import served
from servers.mariadb import MariaDB
from servers.postgresql import PostgreSQL
from servers.private import PrivateServer
from servers.proxy import Proxy
from servers.redis import PASSWORD, Redis
from servers.tdengine import TaosServer

ROOT = Path(__file__).parents[2]
STORES = ("postgresql", "mysql", "redis", "tdengine")
PREFIX = {store: store.upper() for store in STORES}
HASTE = {  # enough for a busy machine's first connection, and short enough to wait for those who say nothing
    "POSTGRESQL_CONNECT_SECONDS": "6", "MYSQL_CONNECT_SECONDS": "6", "REDIS_CONNECT_SECONDS": "4",
    "REDIS_SECONDS": "6", "TDENGINE_CONNECT_SECONDS": "8",
}  # fmt: skip
PATIENCE = dict.fromkeys(HASTE, "25")  # where everybody answers, or refuses
pytestmark = pytest.mark.timeout(300)
GUEST_PASSWORD = "guest-0815"  # noqa: S105 - of an account without rights
WRONG_PASSWORD = "open-sesame-0815"  # noqa: S105 - it opens nothing


@pytest.fixture(scope="module")
def taos(redis_server: Redis) -> Iterator[TaosServer]:
    with TaosServer() as server:
        yield server


@pytest.fixture(scope="module")
def old_taos(redis_server: Redis) -> Iterator[TaosServer]:
    with TaosServer(version="3.2.3.0") as server:
        yield server


@pytest.fixture(scope="module")
def old_mariadb(pytestconfig: pytest.Config) -> Iterator[MariaDB]:
    with served(pytestconfig, lambda: MariaDB({"version": "10.5.8-MariaDB"})) as server:
        yield server


@pytest.fixture(scope="module")
def forgetful_redis(pytestconfig: pytest.Config) -> Iterator[Redis]:
    with served(pytestconfig, lambda: Redis(["appendonly no"])) as server:
        yield server


@dataclass(frozen=True)
class Four:
    """The four servers, as settings name them."""

    servers: Mapping[str, PrivateServer]
    environment: Mapping[str, str]

    def but(self, **changes: object) -> dict[str, str]:
        return {**self.environment, **{name: str(value) for name, value in changes.items()}}


@pytest.fixture
def four(
    postgresql_server: PostgreSQL, mariadb_server: MariaDB, redis_server: Redis, taos: TaosServer
) -> Four:  # fmt: skip
    servers = dict(zip(STORES, (postgresql_server, mariadb_server, redis_server, taos), strict=True))
    ports = {f"{PREFIX[store]}_PORT": str(server.port) for store, server in servers.items()}
    database = f"doctor_{time.monotonic_ns()}"
    postgresql_server.psql(f"CREATE DATABASE {database} OWNER {postgresql_server.user}", database="postgres")
    access = {
        "MYSTOCKS_STORES": ",".join(STORES),
        "POSTGRESQL_USER": postgresql_server.user,
        "POSTGRESQL_PASSWORD": postgresql_server.password,
        "POSTGRESQL_DATABASE": database,
        "POSTGRESQL_TIMESCALE": "off",
        "MYSQL_USER": mariadb_server.user,
        "MYSQL_PASSWORD": mariadb_server.password,
        "REDIS_PASSWORD": PASSWORD,
    }
    return Four(servers, {**ports, **access, **PATIENCE})


@dataclass(frozen=True)
class Seen:
    """What doctor found of each store: health, and the words."""

    code: int
    found: Mapping[str, list[tuple[str, str]]]
    text: str

    def wrong(self, store: str) -> str:
        """The one sentence about a store that is not well."""
        (sentence,) = [words for health, words in self.found[store] if health == "wrong"]
        assert "\n" not in sentence
        return sentence


@pytest.fixture
def doctor(command) -> Callable[[Mapping[str, str]], Seen]:
    def run(environment: Mapping[str, str]) -> Seen:
        ended = command("doctor", "--json", env=environment)
        findings = json.loads(ended.out)["findings"]
        found: dict[str, list[tuple[str, str]]] = {}
        for finding in findings:
            found.setdefault(finding["what"], []).append(
                (finding["health"], " ".join(filter(None, (finding["found"], finding["remedy"]))))
            )
        return Seen(ended.code, found, ended.out + ended.err)

    return run


def test_servers_that_are_well_tell_their_version_and_answer_in_milliseconds(doctor, four: Four) -> None:
    seen = doctor(four.environment)
    for store, kind in zip(STORES, ("PostgreSQL 1", "MariaDB 1", "Redis ", "TDengine 3."), strict=True):
        health, words = seen.found[store][0]
        assert (health, words.startswith(kind)) == ("ok", True), words
        assert " ms" in words
    assert seen.found["store"] == [("ok", "opens")]
    assert seen.code == 0
    for secret in (PASSWORD, four.environment["MYSQL_PASSWORD"], four.environment["POSTGRESQL_PASSWORD"]):
        assert secret not in seen.text


def test_a_missing_server_is_named_with_its_settings(doctor, four: Four) -> None:
    seen = doctor(four.but(**{f"{p}_PORT": 1 for p in PREFIX.values()}))
    assert seen.code == 3
    for store in STORES:
        assert "127.0.0.1:1" in seen.wrong(store)
        assert f"{PREFIX[store]}_HOST" in seen.wrong(store)
        assert f"{PREFIX[store]}_PORT" in seen.wrong(store)


@pytest.mark.parametrize("store", STORES)
def test_one_that_is_away_does_not_keep_the_others_from_being_looked_at(doctor, four: Four, store: str) -> None:
    seen = doctor(four.but(**{f"{PREFIX[store]}_PORT": 1}))
    assert {name: seen.found[name][0][0] for name in STORES} == {n: "wrong" if n == store else "ok" for n in STORES}
    assert seen.found["store"] == [("ok", "opens")]


def test_a_wrong_password_is_told_and_never_shown(doctor, four: Four) -> None:
    seen = doctor(four.but(**{f"{p}_PASSWORD": WRONG_PASSWORD for p in PREFIX.values()}))
    for store in STORES:
        assert "refuses" in seen.wrong(store)
        assert f"{PREFIX[store]}_PASSWORD" in seen.wrong(store)
    assert WRONG_PASSWORD not in seen.text


def test_a_missing_extension_is_told_with_both_ways_out(doctor, four: Four, postgresql_server: PostgreSQL) -> None:
    if postgresql_server.timescale:
        pytest.skip("this server has TimescaleDB")
    seen = doctor(four.but(POSTGRESQL_TIMESCALE="require"))
    assert "has no TimescaleDB" in seen.wrong("postgresql")
    assert "POSTGRESQL_TIMESCALE=off" in seen.wrong("postgresql")


def test_a_missing_database_that_may_not_be_made_is_told_with_the_statement_to_run(
    doctor, four: Four, mariadb_server: MariaDB
) -> None:
    mariadb_server.sql(f"CREATE OR REPLACE USER doctor_guest@'127.0.0.1' IDENTIFIED BY '{GUEST_PASSWORD}'")
    seen = doctor(
        four.but(POSTGRESQL_DATABASE="nowhere", MYSQL_USER="doctor_guest", MYSQL_PASSWORD=GUEST_PASSWORD, REDIS_DB=99)
    )
    assert "CREATE DATABASE" in seen.wrong("postgresql")
    assert "nowhere" in seen.wrong("postgresql")
    assert "CREATE DATABASE" in seen.wrong("mysql")
    assert "GRANT" in seen.wrong("mysql")
    assert "REDIS_DB" in seen.wrong("redis")
    assert GUEST_PASSWORD not in seen.text


def test_a_server_that_is_too_old_is_told_what_is_needed(
    doctor, four: Four, old_mariadb: MariaDB, old_taos: TaosServer
) -> None:
    postgresql, redis = four.servers["postgresql"], four.servers["redis"]
    with (
        Proxy(postgresql.host, postgresql.port, instead={b"server_version\x0015": b"server_version\x0012"}) as older,
        Proxy(redis.host, redis.port, instead={b"FUNCTION": b"FUNCTI0N"}) as ancient,
    ):
        seen = doctor(
            four.but(
                POSTGRESQL_PORT=older.port,
                MYSQL_PORT=old_mariadb.port,
                REDIS_PORT=ancient.port,
                TDENGINE_PORT=old_taos.port,
            )
        )
    if "server_version" in seen.text or "version 12" in seen.text:  # the private server is a 15
        assert "version 13 or newer is needed: upgrade the server" in seen.wrong("postgresql")
    assert "MariaDB 10.6 or later is needed: upgrade it" in seen.wrong("mysql")
    assert "use Redis 7 or later" in seen.wrong("redis")
    assert "3.3.2 or newer is needed: upgrade the server" in seen.wrong("tdengine")


def test_a_server_that_hangs_is_given_up_within_a_deadline(doctor, four: Four) -> None:
    for server in four.servers.values():
        server.freeze()
    try:
        began = time.monotonic()
        seen = doctor(four.but(**HASTE))
        spent = time.monotonic() - began
    finally:
        for server in four.servers.values():
            server.thaw()
    assert spent < 120  # four servers for ever, else
    for store in STORES:
        assert "answer" in seen.wrong(store)
        assert f"{PREFIX[store]}_HOST" in seen.wrong(store)


class Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_error(404)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def website() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_website_on_the_port_is_no_database(doctor, four: Four, website: int) -> None:
    seen = doctor(four.but(**{f"{p}_PORT": website for p in PREFIX.values()}, **HASTE))
    for store, kind in zip(STORES, ("PostgreSQL", "MySQL or MariaDB", "Redis", "taosAdapter"), strict=True):
        assert f"is that {kind}?" in seen.wrong(store)


def test_another_database_on_the_port_is_told_apart(doctor, four: Four) -> None:
    around = dict(zip(STORES, STORES[1:] + STORES[:1], strict=True))
    ports = {f"{PREFIX[store]}_PORT": four.servers[other].port for store, other in around.items()}
    seen = doctor(four.but(**ports, **HASTE))
    for store, kind in zip(STORES, ("PostgreSQL", "MySQL or MariaDB", "Redis", "taosAdapter"), strict=True):
        assert f"is that {kind}?" in seen.wrong(store)


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("fault", ["PORT", "PASSWORD"])
def test_a_backfill_ends_with_the_same_sentence(doctor, command, four: Four, store: str, fault: str) -> None:
    environment = four.but(**{f"{PREFIX[store]}_{fault}": "1", "MYSTOCKS_STORES": store})
    sentence = doctor(environment).wrong(store)
    ended = command("backfill", env=environment)
    assert ended.code in (2, 3)
    assert ended.err.splitlines()[-1] == f"error: {sentence}"


def test_settings_under_which_acknowledged_rows_may_be_lost_are_told(
    doctor, four: Four, forgetful_redis: Redis, mariadb_server: MariaDB, tmp_path: Path
) -> None:
    document = yaml.safe_load((ROOT / "config" / "tables.yaml").read_text())
    for table in document["tables"]:
        if table["table_name"] == "quote_latest":
            del table["route"]
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "tables.yaml").write_text(yaml.safe_dump(document, allow_unicode=True))
    mariadb_server.sql("SET GLOBAL innodb_flush_log_at_trx_commit = 0")
    try:
        seen = doctor(four.but(REDIS_PORT=forgetful_redis.port, MYSTOCKS_CONFIG_DIR=tmp_path / "config"))
    finally:
        mariadb_server.sql("SET GLOBAL innodb_flush_log_at_trx_commit = 1")
    assert [health for health, _ in seen.found["redis"]] == ["ok", "note"]
    assert "quote_latest must be stored here" in seen.found["redis"][1][1]
    assert "appendfsync always" in seen.found["redis"][1][1]
    assert "innodb_flush_log_at_trx_commit is 0" in seen.found["mysql"][1][1]
    assert "fsync is off" in seen.found["postgresql"][1][1]
    assert seen.code == 0


def test_best_effort_tables_in_redis_need_no_log(doctor, four: Four, forgetful_redis: Redis) -> None:
    seen = doctor(four.but(REDIS_PORT=forgetful_redis.port))
    assert [health for health, _ in seen.found["redis"]] == ["ok"]
