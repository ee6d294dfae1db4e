"""Rows whose database is away wait in the spool and follow in order; nothing is lost, nothing stands twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from mystocks_ingest.errors import ConfigError, Drifted, Rejected, Unavailable
from mystocks_ingest.flow.spooled import Pace, SpooledSink
from mystocks_ingest.market.datasets import BAR_1D, dataset
from mystocks_ingest.ports import Query, Sink
from mystocks_ingest.schema import tables
from mystocks_ingest.schema.tables import Route, Table
from mystocks_ingest.sinks.embedded import EmbeddedDatabase, EmbeddedSink
from mystocks_ingest.spool import Full, Spool

TABLES = tables.load(Path(__file__).parents[2] / "config" / "tables.yaml").placed(())
BARS, TICKS = TABLES.holder(BAR_1D), TABLES.holder(dataset("tick"))
AT = datetime(2024, 3, 1, 8, 0, tzinfo=UTC)
CALM = Pace(write_seconds=30, drain_seconds=30, first_pause=0.02, longest_pause=0.05)
QUICK = replace(CALM, write_seconds=0.2, drain_seconds=0.5)  # where it is the database that is slow


@dataclass
class Gate:
    """The embedded store behind a door that can be shut, or hang; it refuses rows that close at 13."""

    sink: Sink
    shut: bool = False
    opening: bool = False  # the next knock with bars is the last one in vain
    hang: bool = False
    row_seconds: float = 0.0  # that each row takes
    barred: Exception | None = None  # what is said of bars, while ticks are taken
    locked: bool = False  # the table of bars
    order: list[tuple[str, int]] = field(default_factory=list)
    name: str = "gate"

    async def write(self, table: Table, rows: pa.RecordBatch) -> None:
        if self.hang:
            await asyncio.sleep(60)
        if self.shut:
            self.shut = not (self.opening and table is BARS)
            raise Unavailable("the door is shut")
        await asyncio.sleep(self.row_seconds * rows.num_rows)
        if self.barred is not None and table is BARS:
            raise self.barred
        if self.locked and table is BARS:
            await asyncio.Event().wait()
        if table is BARS and 13.0 in rows.column("close").to_pylist():
            raise Rejected("nothing closes at 13")
        await self.sink.write(table, rows)
        self.order += [(table.name, n) for n in rows.column("volume").to_pylist()]

    async def read(self, table: Table, query: Query) -> pa.Table:
        return await self.sink.read(table, query)

    async def ping(self) -> None:
        await self.sink.ping()


@dataclass
class House:
    gate: Gate
    spool: Spool
    sink: SpooledSink
    buried: list[str]

    async def closes(self) -> list[tuple[date, float]]:
        rows = await self.gate.read(BARS, Query())
        return list(zip(rows["trade_date"].to_pylist(), rows["close"].to_pylist(), strict=True))

    async def emptied(self) -> None:
        async with asyncio.timeout(60):
            while self.spool.bytes or self.sink.away:  # noqa: ASYNC110 - nobody tells of the spool's end
                await asyncio.sleep(0.01)


@asynccontextmanager
async def house(
    folder: Path, *, bars: Table = BARS, ticks: Table = TICKS, most_bytes: int = 1 << 30, pace: Pace = CALM
) -> AsyncIterator[House]:
    buried: list[str] = []

    async def bury(table: Table, rows: pa.RecordBatch, reasons: Sequence[str]) -> None:
        assert rows.num_rows == len(reasons)
        buried.extend(f"{table.name}: {reason}" for reason in reasons)

    async with EmbeddedDatabase(folder) as database, Spool(folder, most_bytes=most_bytes) as spool:
        gate = Gate(await EmbeddedSink.opened(database, [BARS, ticks]))
        sink = SpooledSink(gate, spool, [bars, ticks], bury, pace)
        draining = asyncio.create_task(sink.drain())
        yield House(gate, spool, sink, buried)
        draining.cancel()
        with suppress(asyncio.CancelledError):
            await draining


def bars(day: int, close: float, volume: int = 1000) -> pa.RecordBatch:
    prices = dict.fromkeys(("open", "high", "low", "close"), close) | {"pre_close": 10.0}
    row = {"symbol": "600000.SH", "trade_date": date(2024, 1, 1) + timedelta(day), "volume": volume, "amount": 1.0}
    whole = {**row, **prices, "provisional": False, "source": "tushare", "fetched_at": AT}
    return pa.RecordBatch.from_pylist([whole], schema=pa.schema([(f.name, f.type) for f in BAR_1D.fields]))


def tick(number: int, price: float = 10.0) -> pa.RecordBatch:
    row = {"symbol": "600000.SH", "ts": AT + timedelta(seconds=number), "seq": 0, "price": price, "volume": number}
    fields = [(f.name, f.type) for f in dataset("tick").fields]
    return pa.RecordBatch.from_pylist(
        [{**row, "amount": 1.0, "source": "x", "fetched_at": AT}], schema=pa.schema(fields)
    )


async def test_an_outage_costs_no_row_and_the_later_write_wins(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await h.sink.write(BARS, bars(0, 10.0))
        h.gate.shut = True
        for close in (11.0, 12.0):
            await h.sink.write(BARS, bars(1, close))
        assert h.sink.away == {"embedded": "the door is shut"}
        await h.sink.write(BARS, bars(2, 12.5))
        h.gate.shut = False
        await h.emptied()
        assert await h.closes() == [(date(2024, 1, 1), 10.0), (date(2024, 1, 2), 12.0), (date(2024, 1, 3), 12.5)]


async def test_a_correction_queues_behind_what_it_corrects_and_trades_go_past(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        h.gate.shut = True
        await h.sink.write(BARS, bars(1, 11.0, 1))
        await h.sink.write(TICKS, tick(2))
        h.gate.hang, h.gate.shut = False, False
        await asyncio.gather(h.sink.write(BARS, bars(1, 12.0, 3)), h.sink.write(TICKS, tick(4)))
        await h.emptied()
        assert await h.closes() == [(date(2024, 1, 2), 12.0)]
        assert (await h.gate.read(TICKS, Query())).num_rows == 2


async def test_a_database_that_hangs_is_left_after_a_while(tmp_path: Path) -> None:
    async with house(tmp_path, pace=QUICK) as h:
        h.gate.hang = True
        async with asyncio.timeout(30):
            for day in range(20):
                await h.sink.write(BARS, bars(day, 10.0))
        assert "no answer" in h.sink.away["embedded"]
        h.gate.hang = False
        await h.emptied()
        assert len(await h.closes()) == 20


async def test_what_was_spooled_before_a_restart_is_brought_home_after_it(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        h.gate.shut = True
        for day in range(5):
            await h.sink.write(BARS, bars(day, 10.0))
    async with house(tmp_path) as h:
        await h.emptied()
        assert len(await h.closes()) == 5


async def test_a_row_that_is_refused_on_the_way_home_becomes_a_dead_letter_and_holds_up_nothing(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        h.gate.shut = True
        for day, close in enumerate((10.0, 13.0, 11.0)):
            await h.sink.write(BARS, bars(day, close))
        h.gate.shut = False
        await h.emptied()
        assert [close for _, close in await h.closes()] == [10.0, 11.0]
        assert h.buried == ["bar_1d: nothing closes at 13"]


async def test_a_full_spool_stops_required_rows_and_lets_the_oldest_best_effort_rows_go(tmp_path: Path) -> None:
    async with house(tmp_path, most_bytes=20_000) as h:
        h.gate.shut = True
        kept = 0
        while h.spool.bytes < 18_000:
            await h.sink.write(BARS, bars(kept, 10.0))
            kept += 1
        large = pa.concat_batches([bars(n, 10.0 + n / 100, n) for n in range(500, 900)])
        with pytest.raises(Full):
            await h.sink.write(BARS, large)
        h.gate.shut = False
        await h.emptied()
        assert len(await h.closes()) == kept
    easy = replace(BARS, route=Route.BEST_EFFORT)
    async with house(tmp_path / "easy", bars=easy, most_bytes=20_000) as h:
        h.gate.shut = True
        for day in range(50):
            await h.sink.write(easy, bars(day, 10.0))
        dropped = h.spool.levels[str(easy)].dropped_rows
        h.gate.shut = False
        await h.emptied()
        days = [day for day, _ in await h.closes()]
        assert 0 < dropped < 50
        assert days == [date(2024, 1, 1) + timedelta(n) for n in range(dropped, 50)], "the oldest were dropped"


async def test_rows_of_a_table_that_lacks_a_right_wait_and_follow_once_it_is_granted(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        h.gate.barred = ConfigError("the user may not INSERT")
        for day in range(3):
            await h.sink.write(BARS, bars(day, 10.0))
        await h.sink.write(TICKS, tick(1))
        assert h.gate.order == [("tick", 1)], "other tables of the store are served"
        assert list(h.sink.away.values()) == ["the user may not INSERT"]
        h.gate.barred = None
        await h.emptied()
        assert len(await h.closes()) == 3


async def test_spooled_rows_of_a_table_that_drifted_meanwhile_are_held_and_go_home_once_it_is_mended(
    tmp_path: Path,
) -> None:
    async with house(tmp_path) as h:
        h.gate.shut = True
        await h.sink.write(BARS, bars(0, 10.0))
        await h.sink.write(TICKS, tick(1))
        h.gate.barred = Drifted("bar_1d has no column volume")
        h.gate.shut = False
        async with asyncio.timeout(30):
            while h.spool.holds(str(TICKS)) or "volume" not in "".join(h.sink.away.values()):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert h.spool.levels[str(BARS)].rows == 1, "they wait, and hold up nobody else's"
        h.gate.barred = None
        await h.emptied()
        assert await h.closes() == [(date(2024, 1, 1), 10.0)]
    assert h.buried == []


async def test_in_a_full_spool_best_effort_rows_make_room_for_those_of_a_required_table(tmp_path: Path) -> None:
    easy = replace(TICKS, route=Route.BEST_EFFORT)
    async with house(tmp_path, ticks=easy, most_bytes=20_000) as h:
        h.gate.shut = True
        number = 0
        while h.spool.bytes < 18_000:
            await h.sink.write(easy, tick(number))
            number += 1
        for day in range(8):
            await h.sink.write(BARS, bars(day, 10.0))
        dropped = h.spool.levels[str(easy)].dropped_rows
        assert dropped > 0
        h.gate.shut = False
        await h.emptied()
        assert len(await h.closes()) == 8
        kept = sorted(n for name, n in h.gate.order if name == "tick")
        assert kept == list(range(dropped, number)), "the oldest went, and each is counted"


async def test_a_database_that_is_back_and_slow_gets_what_waits_in_steps_that_it_takes_in_time(tmp_path: Path) -> None:
    async with house(tmp_path, pace=QUICK) as h:
        h.gate.shut = True
        for first in range(0, 400, 100):
            await h.sink.write(BARS, pa.concat_batches([bars(day, 10.0) for day in range(first, first + 100)]))
        h.gate.row_seconds = 0.005  # 2 s for all, and half a second is what a batch may take
        h.gate.shut = False
        await h.emptied()
        assert len(await h.closes()) == 400


async def test_of_trades_newer_ones_go_past_and_a_correction_of_one_that_waits_does_not(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        h.gate.shut = True
        for number in (1, 2):
            await h.sink.write(TICKS, tick(number))
    async with house(tmp_path, pace=replace(CALM, first_pause=60.0, longest_pause=60.0)) as h:  # after a restart, too
        h.gate.shut = True
        async with asyncio.timeout(30):
            while not h.sink.away:  # noqa: ASYNC110 - the first look, the only one for a while
                await asyncio.sleep(0.01)
        h.gate.shut = False
        h.sink._why.clear()  # as one that answered a fresh write would
        await h.sink.write(TICKS, pa.concat_batches([tick(2, 12.0), tick(3)]))
        assert h.gate.order == [("tick", 3)], "newer than all that wait"
    async with house(tmp_path) as h:
        await h.emptied()
        rows = await h.gate.read(TICKS, Query())
        assert list(zip(rows["volume"].to_pylist(), rows["price"].to_pylist(), strict=True)) == [
            (1, 10.0),
            (2, 12.0),
            (3, 10.0),
        ]


async def test_quotes_keyed_by_symbol_alone_queue_behind_older_ones_but_in_redis(tmp_path: Path) -> None:
    newest = replace(TICKS, name="tick_latest", key=("symbol",))
    async with house(tmp_path, ticks=newest) as h:
        h.gate.shut = True
        await h.sink.write(newest, tick(1))
    async with house(tmp_path, ticks=newest, pace=replace(CALM, first_pause=60.0, longest_pause=60.0)) as h:
        h.gate.shut = True
        async with asyncio.timeout(30):
            while not h.sink.away:  # noqa: ASYNC110 - the first look, the only one for a while
                await asyncio.sleep(0.01)
        h.gate.shut = False
        h.sink._why.clear()
        await h.sink.write(newest, tick(2))
        assert h.spool.levels[str(newest)].records == 2
    async with house(tmp_path, ticks=newest) as h:
        await h.emptied()
        assert (await h.gate.read(newest, Query()))["volume"].to_pylist() == [2]


def recast(name: str, values: pa.Array) -> pa.RecordBatch:
    rows = bars(1, 10.0)
    return rows.set_column(rows.schema.get_field_index(name), name, values)


def renamed(name: str, other: str) -> pa.RecordBatch:
    rows = bars(1, 10.0)
    return rows.rename_columns([other if n == name else n for n in rows.schema.names])


OTHER_VERSIONS = {
    "a column more": (pa.RecordBatch.from_pydict({n: bars(1, 10.0)[n] for n in BARS.schema.names} | {"x": [1]}), ""),
    "a column less": (bars(1, 10.0).select([n for n in BARS.schema.names if n != "amount"]), ""),
    "a narrower type": (recast("volume", pa.array([1000], pa.int32())), ""),
    "numbers as text": (recast("volume", pa.array(["1000"])), ""),
    "text for numbers": (recast("volume", pa.array(["many"])), "other types"),
    "numbers for days": (recast("trade_date", pa.array([7])), "other types"),
    "another name in the key": (renamed("symbol", "code"), "without symbol"),
}


@pytest.mark.parametrize("version", OTHER_VERSIONS)
async def test_rows_that_another_version_of_the_file_left_fit_or_become_dead_letters(
    tmp_path: Path, version: str
) -> None:
    rows, why = OTHER_VERSIONS[version]
    async with Spool(tmp_path) as spool:
        await spool.put(str(BARS), rows)
        await spool.put(str(BARS), bars(2, 11.0))
    async with house(tmp_path) as h:
        await h.emptied()
        assert (await h.closes())[-1] == (date(2024, 1, 3), 11.0), "those behind them go home"
        assert len(await h.closes()) == (1 if why else 2)
        assert [why in letter for letter in h.buried] == [True] * bool(why)


async def test_a_defect_that_rows_meet_on_the_way_home_holds_that_table_and_ends_nothing(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        h.gate.shut = True
        await h.sink.write(BARS, bars(0, 10.0))
        await h.sink.write(TICKS, tick(1))
        h.gate.barred = ValueError("a defect")
        h.gate.shut = False
        async with asyncio.timeout(30):
            while h.spool.holds(str(TICKS)) or list(h.sink.away.values()) != ["a defect"]:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert h.spool.levels[str(BARS)].rows == 1
        h.gate.barred = None
        await h.emptied()
        assert len(await h.closes()) == 1


async def test_a_table_that_somebody_has_locked_holds_up_no_other_of_its_database(tmp_path: Path) -> None:
    async with house(tmp_path, pace=replace(QUICK, stuck_seconds=0.2)) as h:
        h.gate.locked = True
        for day in range(3):
            await h.sink.write(BARS, bars(day, 10.0))
        await h.sink.write(TICKS, tick(1))
        async with asyncio.timeout(30):
            while h.spool.holds(str(TICKS)) or h.sink._why:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await h.sink.write(TICKS, tick(2))
        assert h.gate.order[-1] == ("tick", 2), "it is there for other tables, so fresh rows go to it at once"
        assert not h.spool.holds(str(TICKS))
        async with asyncio.timeout(30):
            while "no answer" not in h.sink.away.get("embedded", ""):  # noqa: ASYNC110 - and it says whose rows wait
                await asyncio.sleep(0.01)
        h.gate.locked = False
        await h.emptied()
        assert len(await h.closes()) == 3


async def test_a_database_that_returns_while_its_tables_are_tried_has_none_of_them_left_alone(tmp_path: Path) -> None:
    async with house(tmp_path, pace=replace(CALM, stuck_seconds=3600)) as h:
        h.gate.shut = True
        await h.sink.write(BARS, bars(0, 10.0))
        await h.sink.write(TICKS, tick(1))
        h.gate.opening = True  # bars are tried first: in vain, and the ticks after them get home
        await h.emptied()
        assert len(await h.closes()) == 1


async def test_rows_whose_table_was_taken_out_stay_and_are_named(tmp_path: Path) -> None:
    async with Spool(tmp_path) as spool:
        await spool.put("PostgreSQL.quant_research.gone", bars(1, 10.0))
        await spool.put(str(BARS), bars(2, 11.0))
    async with house(tmp_path) as h:
        async with asyncio.timeout(30):
            while h.spool.holds(str(BARS)):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert h.sink.stranded == ("PostgreSQL.quant_research.gone",)
        assert h.spool.levels["PostgreSQL.quant_research.gone"].rows == 1
