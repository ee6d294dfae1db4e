"""An older state of an order never replaces a newer one, whichever way and in whichever order they come."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from conftest import Bars
from contract import ALL, Subject
from redis_subject import RedisSubject
from servers.mariadb import MariaDB
from servers.postgresql import PostgreSQL
from servers.redis import Redis
from test_embedded_contract import EmbeddedSubject
from test_mysql import DATABASE, MySQLSubject
from test_timescale_contract import PostgreSQLSubject

from mystocks_ingest.flow.writer import Limits, Writer
from mystocks_ingest.market.datasets import BAR_1D, ORDER, SHANGHAI, dataset
from mystocks_ingest.ports import Sink
from mystocks_ingest.schema.tables import Column, Database, Table, load

SHIPPED = load(Path(__file__).parents[2] / "config" / "tables.yaml")
PLACED = SHIPPED.holder(ORDER)
TEN = datetime(2024, 6, 3, 2, 0, tzinfo=UTC)
SCHEMA = pa.schema([(f.name, f.type) for f in ORDER.fields])
BY = ("updated_at", "ts", "status", "filled_volume")
RANK = {"new": 0, "filled": 2, "cancelled": 2, "rejected": 2}
_numbers = itertools.count()
Row = dict[str, Any]


@pytest.fixture(params=["embedded", "postgresql", "mysql"])
def subject(
    request: pytest.FixtureRequest, tmp_path: Path, postgresql_server: PostgreSQL, mariadb_server: MariaDB
) -> Subject:
    match request.param:
        case "embedded":
            return EmbeddedSubject(tmp_path)
        case "postgresql":
            return PostgreSQLSubject(postgresql_server)
    return MySQLSubject(mariadb_server)


def fresh(subject: Subject, like: Table = PLACED) -> Table:
    """The shipped table of orders, in the subject's database and under a name of its own."""
    made = subject.table(f"newest_{next(_numbers)}")
    columns = like.columns
    if made.database_type is Database.MYSQL:
        columns = tuple(replace(c, type="DATETIME", length=3) if c.type == "TIMESTAMPTZ" else c for c in columns)
    return replace(
        like,
        name=made.name,
        database_type=made.database_type,
        database_name=DATABASE if made.database_type is Database.MYSQL else made.database_name,
        columns=columns,
        indexes=(),
    )


def state(status: str, *, at: int | None, filled: int | None = None, order: str = "7", ts: int = 0) -> Row:
    """A state of an order; times are seconds after ten."""
    return {
        "account": "a1",
        "order_id": order,
        "ts": TEN + timedelta(seconds=ts),
        "symbol": "600519.SH",
        "side": "B",
        "price": 10.0 + (at or 0),
        "volume": 500,
        "filled_volume": filled,
        "status": status,
        "updated_at": None if at is None else TEN + timedelta(seconds=at),
    }


def batch(*rows: Row) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(list(rows), schema=SCHEMA)


async def stored(sink: Sink, table: Table) -> dict[str, Row]:
    """By order; times in the zone in which they were given."""
    found = (await sink.read(table, ALL)).to_pylist()
    return {row["order_id"]: {**row, "ts": _utc(row["ts"]), "updated_at": _utc(row["updated_at"])} for row in found}


def _utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.astimezone(UTC)


def whole(row: Row) -> Row:
    return {name: row.get(name) for name in SCHEMA.names}


def older(given: Mapping[str, Any], held: Mapping[str, Any]) -> bool:
    """What the program is to decide, said once more and row by row."""
    for name in BY:
        one, other = given[name], held[name]
        if name == "status":
            one, other = RANK.get(one, 1), RANK.get(other, 1)
        if one is not None and other is not None and one != other:
            return bool(one < other)
    return False


PAIRS = (
    (state("filled", at=60, filled=500), state("new", at=0, filled=0)),
    (state("filled", at=60, filled=500), state("new", at=None)),
    (state("cancelled", at=60), state("new", at=60)),
    (state("cancelled", at=None), state("new", at=None)),
    (state("cancelled", at=None), state("partial", at=None, filled=100)),
    (state("partial", at=60, filled=300), state("partial", at=60, filled=200)),
    (state("filled", at=None, ts=9), state("cancelled", at=None, ts=8)),
    (state("queued", at=60), state("new", at=60)),  # a word of the gateway's own lies between
    (state("rejected", at=60), state("queued", at=60)),
)
"""Of an order: a state, and one that is older."""


async def test_an_older_state_that_comes_later_changes_nothing_and_a_newer_one_does(subject: Subject) -> None:
    table = fresh(subject)
    newer = [{**row, "order_id": f"{n:02d}"} for n, (row, _) in enumerate(PAIRS)]
    stale = [{**row, "order_id": f"{n:02d}"} for n, (_, row) in enumerate(PAIRS)]
    expected = {row["order_id"]: whole(row) for row in newer}
    async with subject.opened(table) as sink:
        await sink.write(table, batch(*newer))
        await sink.write(table, batch(*stale))
        assert await stored(sink, table) == expected
    again = fresh(subject)
    async with subject.opened(again) as sink:
        await sink.write(again, batch(*stale))
        await sink.write(again, batch(*newer))
        assert await stored(sink, again) == expected


async def test_where_nothing_tells_two_states_apart_the_later_one_stands(subject: Subject) -> None:
    table = fresh(subject)
    async with subject.opened(table) as sink:
        for price in (10.0, 11.0, 12.0):
            await sink.write(table, batch({**state("partial", at=60, filled=100), "price": price}))
        assert (await stored(sink, table))["7"]["price"] == 12.0


async def test_of_a_large_batch_only_the_newer_states_are_taken(subject: Subject) -> None:
    """Large batches go another way into PostgreSQL and MySQL than small ones."""
    table, count = fresh(subject), 3_000
    first = [state("partial", at=60, filled=100, order=f"{n:05d}") for n in range(count)]
    second = [state("filled", at=n % 121, filled=500, order=f"{n:05d}") for n in range(count)]
    async with subject.opened(table) as sink:
        await sink.write(table, batch(*first))
        await sink.write(table, batch(*second))
        found = await stored(sink, table)
    for had, came in zip(first, second, strict=True):
        assert found[had["order_id"]] == whole(had if older(came, had) else came)


async def test_deliveries_in_any_order_and_in_any_batches_end_in_what_each_order_is_by_its_times(
    subject: Subject,
) -> None:
    chance = random.Random(5)
    table, limits = fresh(subject), Limits(linger_seconds=0.0)
    orders = [f"{n}" for n in range(8)]
    truth: dict[str, Row] = {}
    async with subject.opened(table) as sink, Writer(sink, table, limits) as writer:
        for _ in range(60):
            rows = [
                state(
                    chance.choice(("new", "queued", "partial", "filled", "cancelled")),
                    at=chance.choice((None, 1, 2, 3)),
                    filled=chance.choice((None, 0, 100, 200)),
                    order=chance.choice(orders),
                    ts=chance.choice((0, 0, 0, 1)),
                )
                for _ in range(2)
            ]
            # pairs, since of three states that contradict each other the order of looking decides
            await writer.write(batch(*rows))
            for row in rows if len({r["order_id"] for r in rows}) > 1 else [_later(*rows)]:
                held = truth.get(row["order_id"])
                truth[row["order_id"]] = row if held is None or not older(row, held) else held
        assert await stored(sink, table) == {order: whole(row) for order, row in truth.items()}


def _later(first: Row, second: Row) -> Row:
    return first if older(second, first) else second


async def test_the_states_of_an_order_that_come_in_one_batch_leave_its_newest_whatever_their_order(
    subject: Subject,
) -> None:
    states = [
        state("new", at=0, filled=0),
        state("partial", at=1, filled=100),
        state("partial", at=1, filled=200),
        state("filled", at=2, filled=500),
    ]
    table = fresh(subject)
    async with subject.opened(table) as sink, Writer(sink, table, Limits(linger_seconds=0.0)) as writer:
        mixed = [{**row, "order_id": str(n)} for n, turn in enumerate(itertools.permutations(states)) for row in turn]
        await writer.write(batch(*mixed))
        found = await stored(sink, table)
    assert len(found) == 24
    assert {(row["status"], row["filled_volume"]) for row in found.values()} == {("filled", 500)}


async def test_states_that_many_write_at_once_leave_the_newest(subject: Subject) -> None:
    table = fresh(subject)
    async with subject.opened(table, pool=4) as sink:
        turns = list(range(24))
        random.Random(7).shuffle(turns)
        await asyncio.gather(*(sink.write(table, batch(state("partial", at=n, filled=n))) for n in turns))
        assert (await stored(sink, table))["7"]["filled_volume"] == 23


async def test_a_columns_own_guard_holds_for_a_table_of_the_users_own_with_columns_that_rows_lack(
    subject: Subject,
) -> None:
    made = subject.table(f"newest_{next(_numbers)}")
    table = replace(made, newest_by=("whole",))
    row = {"symbol": "600000.SH", "day": date(2024, 1, 2), "volume": 1}

    def given(whole_: int, **more: object) -> pa.RecordBatch:
        one = {**row, "whole": whole_, **more}
        fields = [table.schema.field(n) for n in one]
        return pa.RecordBatch.from_pylist([one], schema=pa.schema(fields))

    async with subject.opened(table) as sink:
        await sink.write(table, given(5, note="kept", price=1.5))
        await sink.write(table, given(4, price=2.5))
        await sink.write(table, given(6, price=3.5))
        await sink.write(table, given(5, note="stale"))
        (found,) = (await sink.read(table, ALL)).to_pylist()
    assert (found["whole"], found["note"], found["price"]) == (6, "kept", 3.5)


async def test_a_vendors_bar_that_is_fetched_again_replaces_the_one_before(subject: Subject, bars: Bars) -> None:
    table = fresh(subject, replace(SHIPPED.holder(BAR_1D), is_timescale_hypertable=False, time_column="trade_date"))
    rows = bars(close=11.0)
    earlier = pa.array([TEN - timedelta(days=900)] * rows.num_rows, rows.schema.field("fetched_at").type)
    again = rows.set_column(rows.schema.get_field_index("fetched_at"), rows.schema.field("fetched_at"), earlier)
    async with subject.opened(table) as sink:
        await sink.write(table, bars(close=10.0))
        await sink.write(table, again)
        assert set((await sink.read(table, ALL))["close"].to_pylist()) == {11.0}


# Redis ------------------------------------------------------------------------------------------------------------


async def test_of_positions_in_one_batch_redis_shows_the_newest_and_not_the_last(redis_server: Redis) -> None:
    subject = RedisSubject(redis_server)
    (shipped,) = (t for t in SHIPPED.all if t.name == "position_latest")
    name = f"newest_{next(_numbers)}"
    assert shipped.key_space is not None
    table = replace(shipped, name=name, key_space=replace(shipped.key_space, pattern=f"{name}:{{symbol}}"))
    schema = pa.schema([(f.name, f.type) for f in dataset("position").fields])
    moments: Sequence[int] = (2, 9, 5)
    rows = [
        {"account": "a1", "symbol": "600519.SH", "ts": TEN + timedelta(seconds=n), "volume": n * 100} for n in moments
    ]
    async with subject.opened(table) as sink, Writer(sink, table, Limits(linger_seconds=0.0)) as writer:
        await writer.write(pa.RecordBatch.from_pylist(rows, schema=schema))
        (found,) = (await sink.read(table, ALL)).to_pylist()
    assert found["volume"] == 900


async def test_redis_knows_the_newer_of_two_days_too(redis_server: Redis) -> None:
    name = f"newest_{next(_numbers)}"
    columns = (
        Column("symbol", "VARCHAR", 20, nullable=False),
        Column("trade_date", "DATE", nullable=False),
        Column("close", "DOUBLE"),
    )
    table = Table(name, Database.REDIS, "market_data", columns, ("symbol",), time_column="trade_date")
    async with RedisSubject(redis_server).opened(table) as sink:
        for day, close in ((date(2024, 6, 4), 2.0), (date(2024, 6, 3), 1.0)):
            rows = [{"symbol": "600519.SH", "trade_date": day, "close": close}]
            await sink.write(table, pa.RecordBatch.from_pylist(rows, schema=table.schema))
        (found,) = (await sink.read(table, ALL)).to_pylist()
    assert found["close"] == 2.0


def test_the_shipped_tables_say_of_which_the_newest_row_stands() -> None:
    kept = {t.name: t.guards for t in SHIPPED.all if t.guards and t.database_type is not Database.REDIS}
    assert kept == {"order": BY, "strategy_param": ("updated_at",), "setting": ("updated_at",)}
    assert pa.types.is_timestamp(SCHEMA.field("updated_at").type)
    assert SCHEMA.field("updated_at").type.tz == SHANGHAI
