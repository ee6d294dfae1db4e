"""``mystocks_ingest.read``: one dataset's rows wherever they live, merged, adjusted on read, in the form asked for."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
import yaml
from servers.mariadb import MariaDB
from servers.postgresql import PostgreSQL
from servers.redis import PASSWORD, Redis
from servers.tdengine import TaosServer

import mystocks_ingest
from mystocks_ingest import service
from mystocks_ingest.errors import ConfigError
from mystocks_ingest.market.datasets import ADJ_FACTOR, dataset
from mystocks_ingest.schema.tables import Database
from mystocks_ingest.settings import Settings

ROOT = Path(__file__).parents[2]
BARS = dataset("bar_5m")
DAY = date(2024, 6, 3)
NOW = datetime(2024, 6, 10, 12, tzinfo=UTC)
HOT, RECENT, HISTORY = Database.REDIS, Database.TDENGINE, Database.POSTGRESQL


@pytest.fixture(scope="module")
def taos(redis_server: Redis) -> Iterator[TaosServer]:
    with TaosServer() as server:
        yield server


@pytest.fixture(scope="module")
def settings(
    tmp_path_factory: pytest.TempPathFactory,
    postgresql_server: PostgreSQL,
    mariadb_server: MariaDB,
    redis_server: Redis,
    taos: TaosServer,
) -> Settings:
    """Five-minute bars in three databases: hot in Redis, recent in TDengine, history in PostgreSQL."""
    tmp_path = tmp_path_factory.mktemp("reading")
    document = yaml.safe_load((ROOT / "config" / "tables.yaml").read_text())
    (recent,) = [t for t in document["tables"] if t.get("dataset") == "bar_5m"]
    for database_type, name in (("PostgreSQL", "bar_5m_history"), ("Redis", "bar_5m_hot")):
        columns = [
            {k: v for k, v in column.items() if k != "is_tag"}
            | ({"type": "TIMESTAMPTZ"} if column["type"] == "TIMESTAMP" else {})
            for column in recent["columns"]
        ]
        table = {
            "database_type": database_type, "database_name": "market_data", "table_name": name, "dataset": "bar_5m",
            "key": ["symbol", "bar_time"], "route": "best_effort", "columns": columns,
        }  # fmt: skip
        if database_type == "Redis":
            table["redis"] = {"pattern": f"{tmp_path.name}:{{symbol}}", "kind": "map"}
        document["tables"].append(table)
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "tables.yaml").write_text(yaml.safe_dump(document, allow_unicode=True, sort_keys=False))
    database = f"reading_{time.monotonic_ns()}"
    postgresql_server.psql(f"CREATE DATABASE {database} OWNER {postgresql_server.user}", database="postgres")
    return Settings(
        MYSTOCKS_STATE_DIR=tmp_path / "state",
        MYSTOCKS_CONFIG_DIR=tmp_path / "config",
        MYSTOCKS_STORES="postgresql,redis,tdengine",
        POSTGRESQL_PORT=postgresql_server.port,
        POSTGRESQL_USER=postgresql_server.user,
        POSTGRESQL_PASSWORD=postgresql_server.password,
        POSTGRESQL_DATABASE=database,
        POSTGRESQL_TIMESCALE="off",
        REDIS_PORT=redis_server.port,
        REDIS_PASSWORD=PASSWORD,
        TDENGINE_PORT=taos.port,
    )


def bars(symbol: str, *rows: tuple[int, float, int], day: date = DAY) -> pa.RecordBatch:
    """Bars of (number in the session, close, second of fetching)."""
    opened = datetime(day.year, day.month, day.day, 1, 30, tzinfo=UTC)
    return pa.RecordBatch.from_pylist(
        [
            {
                "symbol": symbol, "bar_time": opened + timedelta(minutes=5 * n), "open": close, "high": close,
                "low": close, "close": close, "volume": 100, "amount": close * 100, "provisional": False,
                "source": "test", "fetched_at": NOW + timedelta(seconds=fetched),
            }
            for n, close, fetched in rows
        ],
        schema=BARS.schema,
    )  # fmt: skip


def factors(symbol: str, *rows: tuple[date, float]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(
        [
            {"symbol": symbol, "trade_date": day, "factor": factor, "source": "test", "fetched_at": NOW}
            for day, factor in rows
        ],
        schema=ADJ_FACTOR.schema,
    )


@pytest.fixture(scope="module")
def filled(settings: Settings) -> Settings:
    asyncio.run(fill(settings))
    return settings


async def fill(settings: Settings) -> None:
    async with service.opened(settings, now=lambda: NOW) as opened:
        home = {table.database_type: table for table in opened.tables.routes(BARS)}
        assert set(home) == {HOT, RECENT, HISTORY}
        before = DAY - timedelta(days=20)
        await opened.sink.write(home[HISTORY], bars("600000.SH", (1, 8.0, 0), (2, 8.1, 0), day=before))
        await opened.sink.write(home[HISTORY], bars("600000.SH", (1, 10.0, 0)))
        await opened.sink.write(home[RECENT], bars("600000.SH", (1, 10.0, 1), (2, 10.1, 1), (3, 10.2, 1)))
        await opened.sink.write(home[RECENT], bars("000001.SZ", (1, 5.0, 1)))
        await opened.sink.write(home[HOT], bars("600000.SH", (3, 10.3, 2), (4, 10.4, 2)))
        holder = opened.tables.holder(ADJ_FACTOR)
        await opened.sink.write(holder, factors("600000.SH", (before, 2.0), (DAY, 4.0)))


def test_rows_of_three_databases_are_one_table_without_doubles(filled: Settings) -> None:
    rows = mystocks_ingest.read("bar_5m", settings=filled)
    assert rows.schema.names == BARS.schema.names
    assert [(r["symbol"], r["close"]) for r in rows.to_pylist()] == [
        ("000001.SZ", 5.0),
        ("600000.SH", 8.0),
        ("600000.SH", 8.1),
        ("600000.SH", 10.0),
        ("600000.SH", 10.1),
        ("600000.SH", 10.3),  # the one fetched last
        ("600000.SH", 10.4),
    ]


def test_symbols_days_and_columns_choose(filled: Settings) -> None:
    rows = mystocks_ingest.read("bar_5m", "sh600000", first="2024-06-01", last=DAY, columns=("close",), settings=filled)
    assert rows.to_pydict() == {"close": [10.0, 10.1, 10.3, 10.4]}
    assert mystocks_ingest.read("bar_5m", ["000001", "600000"], last="2024-05-31", settings=filled).num_rows == 2


def test_prices_are_adjusted_on_read(filled: Settings) -> None:
    def closes(adjust: str) -> list[float]:
        return mystocks_ingest.read("bar_5m", "600000", adjust=adjust, settings=filled)["close"].to_pylist()

    assert closes("back") == [16.0, 16.2, 40.0, 40.4, 41.2, 41.6]
    assert closes("forward") == [4.0, 4.05, 10.0, 10.1, 10.3, 10.4]


def test_pandas_and_polars_give_the_same_rows(filled: Settings) -> None:
    arrow = mystocks_ingest.read("bar_5m", settings=filled)
    polars = mystocks_ingest.read("bar_5m", form="polars", settings=filled)
    assert polars["close"].to_list() == arrow["close"].to_pylist()
    assert polars.columns == arrow.column_names
    pandas = mystocks_ingest.read("bar_5m", form="pandas", settings=filled)
    assert pandas["close"].tolist() == arrow["close"].to_pylist()
    assert list(pandas.columns) == arrow.column_names


async def test_it_works_where_an_event_loop_runs_as_in_a_notebook(filled: Settings) -> None:
    assert mystocks_ingest.read("bar_5m", settings=filled).num_rows == 7


def test_the_command_line_merges_likewise(filled: Settings) -> None:
    environment = {
        "PATH": "", "PYTHONPATH": ":".join(p for p in sys.path if p),
        **{
            str(info.alias): getattr(value, "get_secret_value", lambda v=value: str(v))()
            for name, info in Settings.model_fields.items()
            if (value := getattr(filled, name)) not in (None, "")
        },
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "mystocks_ingest", "read", "bar_5m", "600000", "--json", "--adjust", "back"],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert [row["close"] for row in json.loads(done.stdout)] == [16.0, 16.2, 40.0, 40.4, 41.2, 41.6]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"name": "bar_7d"}, "bar_7d"),
        ({"name": "bar_1d", "symbols": "Kweichow"}, "Kweichow"),
        ({"name": "bar_1d", "columns": ("clsoe",)}, "has no column 'clsoe'"),
        ({"name": "instrument", "adjust": "back"}, "holds no bars"),
        ({"name": "bar_1d", "first": "1 June"}, "is not a day; write 2024-01-31"),
        ({"name": "bar_1d", "first": "2024-02-01", "last": "2024-01-01"}, "exchange the two"),
        ({"name": "bar_1d", "form": "excel"}, "known: arrow, pandas, polars"),
    ],
)
def test_a_mistake_is_one_sentence(tmp_path: Path, arguments: dict[str, object], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        mystocks_ingest.read(**arguments, settings=Settings(MYSTOCKS_STATE_DIR=tmp_path))  # type: ignore[arg-type]
    assert sentence in str(caught.value)


def test_a_form_that_is_not_installed_is_told_with_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mystocks_ingest.reading.find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"pip install polars .*form='arrow'"):
        mystocks_ingest.read("bar_1d", form="polars", settings=Settings(MYSTOCKS_STATE_DIR=tmp_path))


def test_neither_pandas_nor_polars_is_imported_by_the_import(tmp_path: Path) -> None:
    code = "import sys, mystocks_ingest; mystocks_ingest.read; print({'pandas', 'polars'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "set()"
