"""Group commit: what is acknowledged is stored, bad rows stand alone, outages are sat out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mystocks_ingest.errors import ConfigError, Rejected, Unavailable
from mystocks_ingest.flow.writer import Limits, Refusal, Writer, _merged
from mystocks_ingest.ports import Query
from mystocks_ingest.schema.tables import Column, Database, Table
from mystocks_ingest.sinks.embedded import EmbeddedDatabase, EmbeddedSink

SCHEMA = pa.schema([("symbol", pa.string()), ("day", pa.int64()), ("close", pa.float64())])
TABLE = Table(
    "bars",
    Database.EMBEDDED,
    "market_data",
    (
        Column("symbol", "VARCHAR", nullable=False),
        Column("day", "BIGINT", nullable=False),
        Column("close", "DOUBLE", nullable=False),
    ),
    ("symbol", "day"),
)


def rows(symbol: str, *days: int, close: float | None = 1.0) -> pa.RecordBatch:
    n = len(days)
    return pa.RecordBatch.from_arrays(
        [pa.array([symbol] * n, pa.string()), pa.array(days, pa.int64()), pa.array([close] * n, pa.float64())],
        schema=SCHEMA,
    )


class Gate:
    """A sink in front of another that can be away, slow, or of a mind to refuse; it counts the batches."""

    name = "gate"

    def __init__(self, behind: EmbeddedSink) -> None:
        self.behind = behind
        self.batches: list[int] = []
        self.away = 0  # so many calls meet an absent sink
        self.error: Exception | None = None
        self.once: Exception | None = None  # raised by the next call only
        self.open = asyncio.Event()
        self.open.set()
        self.entered = asyncio.Event()

    async def write(self, table: Table, batch: pa.RecordBatch) -> None:
        self.entered.set()
        self.batches.append(batch.num_rows)
        await self.open.wait()
        if self.away:
            self.away -= 1
            raise Unavailable("the disk is full", after=0.001)
        once, self.once = self.once, None
        if once or self.error:
            raise once or self.error  # type: ignore[misc]
        await self.behind.write(table, batch)

    async def read(self, table: Table, query: Query) -> pa.Table:
        return await self.behind.read(table, query)

    async def ping(self) -> None:
        await self.behind.ping()


@pytest.fixture
async def gate(tmp_path: Path) -> AsyncIterator[Gate]:
    async with EmbeddedDatabase(tmp_path) as db:
        yield Gate(await EmbeddedSink.opened(db, [TABLE]))


async def stored(gate: Gate) -> list[tuple[str, int, float]]:
    found = await gate.read(TABLE, Query())
    return [(r["symbol"], r["day"], r["close"]) for r in found.to_pylist()]


async def test_rows_are_stored_when_write_returns(gate: Gate) -> None:
    async with Writer(gate, TABLE) as writer:
        assert await writer.write(rows("a", 1, 2)) == ()
        assert await stored(gate) == [("a", 1, 1.0), ("a", 2, 1.0)]


async def test_many_callers_share_few_batches(gate: Gate) -> None:
    async with Writer(gate, TABLE) as writer:
        await asyncio.gather(*(writer.write(rows(f"s{i:03d}", 1, 2, 3)) for i in range(200)))
    assert len(await stored(gate)) == 600
    assert len(gate.batches) < 10


async def test_a_batch_never_exceeds_its_rows_or_bytes(gate: Gate) -> None:
    async with Writer(gate, TABLE, Limits(batch_rows=50)) as writer:
        await asyncio.gather(
            writer.write(rows("a", *range(333))), *(writer.write(rows(f"s{i}", *range(30))) for i in range(9))
        )
    assert max(gate.batches) <= 50
    gate.batches.clear()
    async with Writer(gate, TABLE, Limits(batch_bytes=rows("a", *range(20)).nbytes)) as writer:
        await writer.write(rows("b", *range(333)))
    assert max(gate.batches) <= 20
    assert len(await stored(gate)) == 333 + 270 + 333


async def test_of_equal_keys_in_one_batch_the_later_write_stands(gate: Gate) -> None:
    async with Writer(gate, TABLE, Limits(linger_seconds=0.2)) as writer:
        await asyncio.gather(*(writer.write(rows("a", 3, 1, 3, 2, close=float(i))) for i in range(5)))
    assert gate.batches == [3]
    assert await stored(gate) == [("a", d, 4.0) for d in (1, 2, 3)]


async def test_a_bad_row_stands_alone_and_is_told_to_the_caller_that_gave_it(gate: Gate) -> None:
    bad = pa.concat_batches([rows("b", 1, 2, 3), rows("b", 4, close=None), rows("b", 5)])
    async with Writer(gate, TABLE, Limits(linger_seconds=0.2)) as writer:
        good, mixed, late = await asyncio.gather(
            writer.write(rows("a", 1, 2)), writer.write(bad), writer.write(rows("c", 1, close=None))
        )
    assert good == ()
    assert [r.row for r in mixed] == [3]
    assert "close" in mixed[0].reason
    assert [r.row for r in late] == [0]
    assert [r[:2] for r in await stored(gate)] == [("a", 1), ("a", 2), ("b", 1), ("b", 2), ("b", 3), ("b", 5)]


async def test_refused_rows_keep_the_callers_numbering_across_pieces_and_dropped_duplicates(gate: Gate) -> None:
    given = pa.concat_batches([rows("a", 1, 2, 1, 3), rows("a", 9, close=None), rows("a", 4, 5)])
    async with Writer(gate, TABLE, Limits(batch_rows=5)) as writer:
        refused = await writer.write(given)
        assert [r.row for r in refused] == [4]
        refused = await writer.write(pa.concat_batches([rows("b", *range(12)), rows("b", 99, close=None)]))
        assert [r.row for r in refused] == [12]


async def test_a_fault_common_to_all_rows_is_found_without_trying_each(gate: Gate) -> None:
    gate.error = Rejected("no such column")
    async with Writer(gate, TABLE) as writer:
        refused = await writer.write(rows("a", *range(5000)))
    assert refused == tuple(Refusal(i, "no such column") for i in range(5000))
    assert len(gate.batches) < 500


async def test_an_outage_is_sat_out_and_nothing_is_lost(gate: Gate) -> None:
    gate.away = 5
    async with Writer(gate, TABLE) as writer:
        await writer.write(rows("a", 1))
    assert len(gate.batches) == 6
    assert await stored(gate) == [("a", 1, 1.0)]


async def test_an_outage_beyond_the_deadline_is_raised_to_those_who_wait_and_later_calls_fail_fast(gate: Gate) -> None:
    gate.away = 10**6
    async with Writer(gate, TABLE, Limits(retry_seconds=0.3)) as writer:
        results = await asyncio.gather(*(writer.write(rows("a", i)) for i in range(3)), return_exceptions=True)
        assert [str(r).partition(" (waited")[0] for r in results] == ["the disk is full"] * 3
        tried = len(gate.batches)
        with pytest.raises(Unavailable):
            await writer.write(rows("a", 9))
        assert len(gate.batches) == tried + 1
        gate.away = 0
        await writer.write(rows("a", 10))
    assert await stored(gate) == [("a", 10, 1.0)]


async def test_a_writer_whose_sink_is_known_to_be_away_closes_soon(gate: Gate) -> None:
    gate.away = 10**6
    began = asyncio.get_running_loop().time()
    async with Writer(gate, TABLE, Limits(drain_seconds=100)) as writer:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(writer.write(rows("a", 1)), 0.2)
    assert asyncio.get_running_loop().time() - began < 30


async def test_an_offer_to_an_absent_sink_is_one_attempt_and_then_it_is_left_alone(gate: Gate) -> None:
    gate.away = 10**6
    async with Writer(gate, TABLE, Limits(retry_seconds=0)) as writer:
        with pytest.raises(Unavailable, match="the disk is full"):
            await writer.offer(rows("a", 1))
        for day in range(2, 20):
            with pytest.raises(Unavailable, match="left alone for a while"):
                await writer.offer(rows("a", day))
        assert len(gate.batches) == 1
        gate.away = 0
        await asyncio.sleep(1.1)
        await writer.offer(rows("a", 20))
    assert await stored(gate) == [("a", 20, 1.0)]


async def test_an_offer_to_a_hung_sink_ends_in_time_and_the_next_ones_at_once(gate: Gate) -> None:
    gate.open.clear()
    async with Writer(gate, TABLE, Limits(retry_seconds=0, grace_seconds=0.2, linger_seconds=0)) as writer:
        with pytest.raises(Unavailable, match=r"did not take the rows within 0\.2 s"):
            await asyncio.wait_for(writer.offer(rows("a", 1)), 30)
        await asyncio.sleep(1.1)  # it hangs still: the time to rest is over, the batch is not
        for day in range(2, 20):
            with pytest.raises(Unavailable, match="left alone"):  # and not after the time that the first one waited
                await writer.offer(rows("a", day))
        gate.open.set()
        async with asyncio.timeout(60):
            while not await taken(writer, rows("a", 20)):  # noqa: ASYNC110 - a busy machine may be late once more
                await asyncio.sleep(0.01)
    assert await stored(gate) == [("a", 1, 1.0), ("a", 20, 1.0)]  # what was on its way arrived


async def taken(writer: Writer, offered: pa.RecordBatch) -> bool:
    try:
        await writer.offer(offered)
    except Unavailable:
        return False
    return True


async def test_an_error_reaches_exactly_the_callers_of_that_batch(gate: Gate) -> None:
    gate.open.clear()
    async with Writer(gate, TABLE, Limits(linger_seconds=0)) as writer:
        first = asyncio.create_task(writer.write(rows("a", 1)))
        await gate.entered.wait()
        second = asyncio.create_task(writer.write(rows("b", 1)))
        gate.once = ConfigError("the file is damaged")
        gate.open.set()
        with pytest.raises(ConfigError, match="damaged"):
            await first
        await second
    assert await stored(gate) == [("b", 1, 1.0)]


async def test_the_queue_is_bounded_and_a_full_one_holds_callers_back(gate: Gate) -> None:
    gate.open.clear()
    async with Writer(gate, TABLE, Limits(batch_rows=10, queue_rows=20, linger_seconds=0)) as writer:
        tasks = [asyncio.create_task(writer.write(rows(f"s{i}", *range(10)))) for i in range(6)]
        await gate.entered.wait()
        for _ in range(50):
            await asyncio.sleep(0)
        assert writer._held_rows == 20
        gate.open.set()
        await asyncio.gather(*tasks)
        assert writer._held_rows == writer._held_bytes == 0
    assert len(await stored(gate)) == 60


async def test_rows_larger_than_the_whole_queue_still_pass(gate: Gate) -> None:
    async with Writer(gate, TABLE, Limits(batch_rows=1000, queue_rows=10, queue_bytes=10)) as writer:
        await writer.write(rows("a", *range(2500)))
    assert len(await stored(gate)) == 2500


async def test_leaving_drains_what_is_queued(gate: Gate) -> None:
    async with Writer(gate, TABLE, Limits(linger_seconds=60)) as writer:
        task = asyncio.create_task(writer.write(rows("a", 1)))
        await asyncio.sleep(0.05)
        assert gate.batches == []
    assert task.done()
    assert await stored(gate) == [("a", 1, 1.0)]


async def test_a_drain_that_takes_too_long_ends_and_tells_who_waits(gate: Gate) -> None:
    gate.open.clear()
    async with Writer(gate, TABLE, Limits(drain_seconds=0.1, linger_seconds=0)) as writer:
        task = asyncio.create_task(writer.write(rows("a", 1)))
        queued = asyncio.create_task(writer.write(rows("b", 1)))
        await gate.entered.wait()
    for waiting in (task, queued):
        with pytest.raises(Unavailable, match="had to stop before these rows were stored"):
            await waiting
    with pytest.raises(Unavailable, match="is closed"):
        await writer.write(rows("c", 1))


async def test_cancelling_a_caller_harms_no_other(gate: Gate) -> None:
    gate.open.clear()
    async with Writer(gate, TABLE, Limits(batch_rows=2, queue_rows=4, linger_seconds=0)) as writer:
        tasks = [asyncio.create_task(writer.write(rows(f"s{i}", 1, 2))) for i in range(5)]
        await gate.entered.wait()
        for number in (0, 1, 3):  # under way, queued, held back
            tasks[number].cancel()
        await asyncio.sleep(0)
        gate.open.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [isinstance(r, asyncio.CancelledError) for r in results] == [True, True, False, True, False]
    symbols = {s for s, _, _ in await stored(gate)}
    assert {"s2", "s4"} <= symbols
    assert "s3" not in symbols


async def test_cancelling_the_owner_still_drains(gate: Gate) -> None:
    started = asyncio.Event()

    async def work() -> None:
        async with Writer(gate, TABLE, Limits(linger_seconds=60)) as writer, asyncio.TaskGroup() as group:
            group.create_task(writer.write(rows("a", 1)))
            started.set()
            await asyncio.sleep(60)

    task = asyncio.create_task(work())
    await started.wait()
    await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await stored(gate) == [("a", 1, 1.0)]
    assert not [t for t in asyncio.all_tasks() if t.get_name().startswith("writer:")]


async def test_nothing_to_write_is_nothing_to_do(gate: Gate) -> None:
    async with Writer(gate, TABLE) as writer:
        assert await writer.write(rows("a")) == ()
    assert gate.batches == []


async def test_a_table_without_a_key_has_no_writer(gate: Gate) -> None:
    with pytest.raises(ConfigError, match="has no key"):
        Writer(gate, Table("t", Database.EMBEDDED, "d", TABLE.columns))


_ROW = st.tuples(st.sampled_from("abc"), st.integers(0, 4), st.floats(0, 9))


@settings(deadline=None)
@given(st.lists(st.lists(_ROW, min_size=1, max_size=8), min_size=1, max_size=4))
def test_merging_keeps_the_last_row_of_each_key_and_its_place(parts: list[list[tuple[str, int, float]]]) -> None:
    batches = [
        pa.RecordBatch.from_arrays(
            [pa.array(c, f.type) for c, f in zip(zip(*p, strict=True), SCHEMA, strict=True)], schema=SCHEMA
        )
        for p in parts
    ]
    flat = [row for part in parts for row in part]
    merged, kept = _merged(batches, ("symbol", "day"))
    found = [tuple(r.values()) for r in merged.to_pylist()]
    last = {row[:2]: i for i, row in enumerate(flat)}
    assert found == [flat[i] for i in sorted(last.values())]
    assert (list(kept) if kept is not None else list(range(len(flat)))) == sorted(last.values())


async def test_rows_behind_others_wait_after_a_rest_and_not_while_there_is_work(gate: Gate) -> None:
    behind = Limits(linger_seconds=0.0, behind_seconds=3_600, batch_rows=4)
    async with Writer(gate, TABLE, behind) as late:
        writing = asyncio.create_task(late.write(rows("a", 1)))
        async with Writer(gate, TABLE, Limits(linger_seconds=0.0)) as first:
            await first.write(rows("b", 1))
        assert await stored(gate) == [("b", 1, 1.0)]
        assert not writing.done()
        await late.write(rows("a", 2, 3, 4))  # a full batch waits for nothing
        await writing
        await late.write(rows("c", 1))  # and what comes right after it waits for nothing either
    assert ("c", 1, 1.0) in await stored(gate)
