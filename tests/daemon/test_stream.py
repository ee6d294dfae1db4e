"""Rows delivered by Redis streams: stored once, acknowledged only then, and no entry holds up another."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Iterator
from datetime import datetime
from pathlib import Path
from typing import cast

import pyarrow as pa
import pytest
from servers.redis import Redis
from stream_place import ORDER, House, opened, until

from mystocks_ingest.daemon.stream import StreamConsumer
from mystocks_ingest.errors import ConfigError, Unavailable
from mystocks_ingest.flow.replay import Choice
from mystocks_ingest.monitor.health import State
from mystocks_ingest.ports import Query
from mystocks_ingest.settings import Settings
from mystocks_ingest.web.known import Known

TICK = {"symbol": "600519", "ts": "2024-06-03T10:00:00+08:00", "price": 10.0, "volume": 100}


@pytest.fixture
def redis(redis_server: Redis) -> Iterator[Redis]:
    """Running, with every right."""
    yield redis_server
    if not redis_server.running:
        redis_server.start()
    redis_server.cli("ACL", "SETUSER", "default", "+@all")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, redis_server: Redis) -> Path:
    """A state directory with every table, made once."""
    folder = tmp_path_factory.mktemp("made")

    async def make() -> None:
        async with opened(folder, redis_server):
            pass

    asyncio.run(make())
    return folder


@pytest.fixture
async def house(tmp_path: Path, made: Path, redis: Redis) -> AsyncIterator[House]:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    async with opened(tmp_path, redis) as one:
        yield one


async def test_a_row_as_fields_and_batches_as_json_or_arrow_are_stored_acknowledged_and_taken_from_the_stream(
    house: House,
) -> None:
    early = await house.add("order", ORDER, source="gateway")
    async with house.consuming() as consumer:
        await house.has_stored("order", 1)
        await house.batch("tick", [{**TICK, "seq": n} for n in range(3)])
        rows = [{**TICK, "symbol": "000001.SZ", "seq": n, "ts": datetime.fromisoformat(TICK["ts"])} for n in range(4)]
        last = await house.arrow("tick", pa.Table.from_pylist(rows))
        await house.has_stored("tick", 7)
        await house.everything_is_acknowledged("order", early)
        await house.everything_is_acknowledged("tick", last)

        async def trimmed() -> bool:
            return int(house.client.xlen(house.stream("tick"))) <= 1

        await until(trimmed)
        part = consumer.part()
    assert (part.state, part.figures["rows"], part.figures["refused_entries"]) == (State.FRESH, 8, 0)
    (order,) = await house.stored("order")
    assert (order["volume"], order["price"], order["status"]) == (100, None, "new")
    ticks = await house.stored("tick")
    assert {(t["symbol"], t["seq"]) for t in ticks} == {
        *(("600519.SH", n) for n in range(3)),
        *(("000001.SZ", n) for n in range(4)),
    }
    assert {t["source"] for t in ticks} == {"push:stream"}


MALFORMED: list[tuple[dict[str, str | bytes], str]] = [
    ({"nonsense": "1"}, "has no column"),
    ({**ORDER, "volume": "many"}, "column volume"),
    ({**ORDER, "volume": ""}, "it is missing"),
    ({**ORDER, "side": b"\xff\xfe"}, "no UTF-8"),
    ({**ORDER, "side": "hold"}, "not one of B, S"),
    ({**ORDER, "account": "x" * 51}, "1 to 50 characters"),
    ({**ORDER, "source": "NOT A NAME"}, "field `source`"),
    ({"rows": "[{"}, "no JSON text"),
    ({"rows": "[]"}, "holds no row"),
    ({"rows": "[" * 5000}, "nests too deep"),
    ({"rows": "[1]"}, "each row an object"),
    ({"rows": "[{}]", "more": "1"}, "only `source` may stand"),
    ({"arrow": b"no arrow"}, "no Arrow IPC stream"),
    ({"rows": b"x" * 9_000_000}, "at most 8,388,608 are taken"),
]


async def test_each_malformed_entry_becomes_a_dead_letter_with_its_reason_and_its_neighbours_are_stored(
    house: House,
) -> None:
    for number, (fields, _) in enumerate(MALFORMED):
        await house.add("order", {**ORDER, "order_id": str(number)})
        await house.add("order", fields)
    last = await house.add("order", {**ORDER, "order_id": "last"})
    async with house.consuming() as consumer:
        await house.has_stored("order", len(MALFORMED) + 1)
        await house.everything_is_acknowledged("order", last)
        assert consumer.part().figures["refused_entries"] == len(MALFORMED)
    letters = await house.desk.service.journal.letters(dataset="order")
    assert len(letters) == len(MALFORMED)
    for _, reason in MALFORMED:
        assert [b for b in letters if reason in b.letter.reason], reason
    assert {b.letter.rule for b in letters} == {"unreadable"}
    assert "many" in {json.loads(b.letter.raw)["fields"].get("volume") for b in letters}
    assert max(len(b.letter.raw) for b in letters) < 10_000


async def test_the_texts_of_an_arrow_table_are_held_to_the_same_rules(house: House) -> None:
    row = {**ORDER, "ts": datetime.fromisoformat(ORDER["ts"]), "volume": 100}
    for wrong in ({"side": "hold"}, {"account": "x" * 51}, {"account": " "}):
        await house.arrow("order", pa.Table.from_pylist([{**row, **wrong}]))
    last = await house.arrow("order", pa.Table.from_pylist([{**row, "side": "sell"}]))
    async with house.consuming():
        await house.everything_is_acknowledged("order", last)
    assert [r["side"] for r in await house.stored("order")] == ["S"]
    reasons = [b.letter.reason for b in await house.desk.service.journal.letters(dataset="order")]
    assert sorted(reasons) == [
        "row 0, column account: it is not a text of 1 to 50 characters",
        "row 0, column account: it is not a text of 1 to 50 characters",
        "row 0, column side: it is not one of B, S",
    ]


async def test_a_row_that_fails_a_check_is_a_dead_letter_as_over_http(house: House) -> None:
    last = await house.batch("tick", [{**TICK, "seq": n, "price": -1.0 if n == 1 else 10.0} for n in range(3)])
    async with house.consuming():
        await house.everything_is_acknowledged("tick", last)
    assert {t["seq"] for t in await house.stored("tick")} == {0, 2}
    (buried,) = await house.desk.service.journal.letters(dataset="tick")
    assert (buried.letter.rule, buried.letter.source) == ("price_not_positive", "push:stream")


async def test_of_entries_with_one_key_the_later_one_wins_also_within_one_read(house: House) -> None:
    for number in range(30):
        for status in ("new", "partial", "filled"):
            last = await house.add("order", {**ORDER, "order_id": str(number), "status": status})
    rows = [{**ORDER, "volume": 100, "order_id": str(n), "status": "cancelled"} for n in range(20, 30)]
    last = await house.batch("order", rows)
    async with house.consuming():
        await house.everything_is_acknowledged("order", last)
    stored = {str(o["order_id"]): o["status"] for o in await house.stored("order")}
    assert stored == {str(n): "filled" if n < 20 else "cancelled" for n in range(30)}
    assert await house.desk.service.journal.letters(dataset="order") == []


async def test_entries_that_a_dead_consumer_had_read_are_claimed(house: House) -> None:
    stream, group = house.stream("order"), house.settings.stream_group
    await house.add("order", ORDER)
    house.client.xgroup_create(stream, group, "0")
    assert house.client.xreadgroup(group, "dead", {stream: ">"})
    async with house.consuming():
        await house.has_stored("order", 1)

        async def settled() -> bool:
            return await house.pending("order") == 0

        await until(settled)


async def test_nothing_is_acknowledged_before_it_is_durable_and_another_dataset_goes_on_meanwhile(
    house: House,
) -> None:
    real, away = house.desk.take, Unavailable("the spool is full")

    async def take(frame):  # type: ignore[no-untyped-def]
        house.desk.fault = away if frame.dataset.name == "order" and blocked else None
        return await real(frame)

    blocked = True
    house.desk.take = take  # type: ignore[method-assign]
    last = await house.add("order", ORDER)
    async with house.consuming() as consumer:

        async def held() -> bool:
            return "the spool is full" in consumer.part().reason

        await until(held)
        tick = await house.batch("tick", [{**TICK, "seq": 0}])
        await house.everything_is_acknowledged("tick", tick)
        assert (await house.pending("order"), await house.stored("order")) == (1, [])
        blocked = False
        await house.everything_is_acknowledged("order", last)
    assert len(await house.stored("order")) == 1
    assert consumer.part().reason == ""


async def test_a_defect_met_while_storing_makes_dead_letters_and_does_not_end_the_service(house: House) -> None:
    house.desk.fault = ZeroDivisionError("a defect of ours")
    first = await house.add("order", ORDER)
    async with house.consuming():
        await house.everything_is_acknowledged("order", first)
        house.desk.fault = None
        last = await house.add("order", {**ORDER, "order_id": "2"})
        await house.everything_is_acknowledged("order", last)
        last = await house.add("order", {**ORDER, "volume": "many"})
        await house.everything_is_acknowledged("order", last)
    buried, unreadable = await house.desk.service.journal.letters(dataset="order")
    assert (buried.letter.rule, json.loads(buried.letter.row)["order_id"]) == ("defect", "1")
    assert [o["order_id"] for o in await house.stored("order")] == ["2"]
    done = await house.desk.service.replay(Choice())  # after an upgrade, say
    assert (done.stored, done.refused) == ({"order": 1}, {("order", "unreadable"): 1})
    assert [o["order_id"] for o in await house.stored("order")] == ["1", "2"]
    assert [b.id for b in await house.desk.service.journal.letters(dataset="order")] == [unreadable.id]


async def test_what_was_stored_and_not_acknowledged_is_acknowledged_and_not_stored_again(
    house: House, redis: Redis
) -> None:
    redis.cli("ACL", "SETUSER", "default", "-xack")
    await house.add("order", {**ORDER, "status": "new"})
    async with house.consuming() as consumer:
        await house.has_stored("order", 1)

        async def told() -> bool:
            return "xack" in consumer.part().reason

        await until(told)
    assert await house.pending("order") == 1
    redis.cli("ACL", "SETUSER", "default", "+@all")
    table = next(t for t in house.desk.service.written if t.name == "order")
    rows = await house.desk.service.sink.read(table, Query())
    newer = rows.set_column(rows.schema.get_field_index("status"), "status", pa.array(["filled"]))
    await house.desk.service.sink.write(table, newer.combine_chunks().to_batches()[0])  # by HTTP, say
    async with house.consuming():

        async def settled() -> bool:
            return await house.pending("order") == 0

        await until(settled)
    assert [o["status"] for o in await house.stored("order")] == ["filled"]


async def test_redis_stopped_started_and_emptied_ends_nothing(house: House, redis: Redis) -> None:
    async with house.consuming() as consumer:
        last = await house.add("order", ORDER)
        await house.everything_is_acknowledged("order", last)
        redis.stop()

        async def away() -> bool:
            return consumer.part().state is State.DEGRADED

        await until(away)
        redis.start()
        last = await house.add("order", {**ORDER, "order_id": "2"})
        await house.everything_is_acknowledged("order", last)
        redis.cli("FLUSHALL")
        await house.add("order", {**ORDER, "order_id": "3"})
        await house.has_stored("order", 3)

        async def well() -> bool:
            return consumer.part().state is State.FRESH

        await until(well)
    assert [o["order_id"] for o in await house.stored("order")] == ["1", "2", "3"]


async def test_something_else_under_a_streams_name_is_said_and_the_other_streams_are_read(house: House) -> None:
    house.client.set(house.stream("fill"), "a text")
    last = await house.add("order", ORDER)
    async with house.consuming() as consumer:
        await house.everything_is_acknowledged("order", last)
        assert consumer.part().reason == f"{house.stream('fill')} is no stream"
        house.client.delete(house.stream("fill"))
        fill = {k: v for k, v in ORDER.items() if k != "status"}
        last = await house.add("fill", fill, fill_id="1", price="1700")
        await house.everything_is_acknowledged("fill", last)
        assert consumer.part().reason == "", "it is read as soon as it is one"
    assert len(await house.stored("fill")) == 1


def test_streams_that_a_cluster_would_spread_over_its_nodes_are_one_sentence(house: House) -> None:
    spread = Settings(_env_file=None).model_copy(
        update={"redis_cluster": "127.0.0.1:1", "stream_prefix": "mystocks:ingest"}
    )
    with pytest.raises(ConfigError, match="braces"):
        StreamConsumer(spread, house.desk, cast(Known, None))
    together = spread.model_copy(update={"stream_prefix": "{mystocks}:ingest"})
    assert StreamConsumer(together, house.desk, cast(Known, None)).part().state is State.DEGRADED
