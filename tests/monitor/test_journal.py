"""The journal remembers runs, checkpoints, dead letters and the sources' fortunes."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from mystocks_ingest.errors import ConfigError, Outcome
from mystocks_ingest.market.datasets import BAR_1D, TICK
from mystocks_ingest.market.frames import Symbol, Window
from mystocks_ingest.monitor.journal import EmbeddedJournal
from mystocks_ingest.ports import Checkpoint, DeadLetter, Run
from mystocks_ingest.sinks.embedded import EmbeddedDatabase

NOON = datetime(2026, 11, 20, 4, 0, 0, 123456, tzinfo=UTC)


class Clock:
    """A clock the test sets."""

    def __init__(self) -> None:
        self.time = NOON

    def __call__(self) -> datetime:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def journal(tmp_path: Path, clock: Callable[[], datetime]) -> AsyncIterator[EmbeddedJournal]:
    async with EmbeddedDatabase(tmp_path) as db:
        yield await EmbeddedJournal.opened(db, now=clock)


def point(symbol: str, first: int, end: int, *, dataset: str = "bar_1d", source: str = "tushare") -> Checkpoint:
    return Checkpoint(dataset, Symbol(symbol), Window(date(2024, 1, first), date(2024, 1, end)), source)


def letter(
    symbol: str = "000001.SZ", *, rule: str = "ohlc", run_id: str = "r1", raw: str = '{"最高": "1.0"}'
) -> DeadLetter:
    return DeadLetter(
        "bar_1d", "akshare", symbol, "2024-01-02", rule, "high 1.0 < low 2.0", raw, '{"high": 1.0}', NOON, run_id
    )


async def test_checkpoints_replace_all_windows_of_the_symbols_they_name_and_no_others(journal: EmbeddedJournal) -> None:
    await journal.checkpoint([point("000001.SZ", 2, 5), point("000001.SZ", 8, 10), point("600000.SH", 2, 4)])
    await journal.checkpoint([point("000001.SZ", 2, 5, dataset="tick")])
    merged = point("000001.SZ", 2, 10, source="baostock")
    await journal.checkpoint(iter([merged]))
    assert await journal.checkpoints(BAR_1D) == [merged, point("600000.SH", 2, 4)]
    assert await journal.checkpoints(TICK) == [point("000001.SZ", 2, 5, dataset="tick")]


async def test_no_points_change_nothing(journal: EmbeddedJournal) -> None:
    await journal.checkpoint([point("000001.SZ", 2, 5)])
    await journal.checkpoint([])
    assert len(await journal.checkpoints(BAR_1D)) == 1


async def test_forgotten_checkpoints_are_gone_for_those_symbols_or_all(journal: EmbeddedJournal) -> None:
    await journal.checkpoint([point("000001.SZ", 2, 5), point("000002.SZ", 2, 5), point("600000.SH", 2, 4)])
    await journal.forget(BAR_1D, [Symbol("000001.SZ"), Symbol("999999.SH")])
    assert [c.symbol for c in await journal.checkpoints(BAR_1D)] == ["000002.SZ", "600000.SH"]
    await journal.forget(BAR_1D)
    assert await journal.checkpoints(BAR_1D) == []


async def test_a_whole_market_is_checkpointed_in_one_transaction_and_read_back(journal: EmbeddedJournal) -> None:
    symbols = [f"{i:06d}.SZ" for i in range(5400)]
    began = time.perf_counter()
    for end in (3, 4, 5):
        await journal.checkpoint([point(s, 2, end) for s in symbols])
    assert await journal.checkpoints(BAR_1D) == [point(s, 2, 5) for s in symbols]
    assert time.perf_counter() - began < 30  # row by row it would be minutes


async def test_the_journal_outlives_its_process(tmp_path: Path, clock: Clock) -> None:
    for _ in range(2):
        async with EmbeddedDatabase(tmp_path) as db:
            journal = await EmbeddedJournal.opened(db, now=clock)
            await journal.checkpoint([point("000001.SZ", 2, 5)])
            await journal.bury([letter()])
    async with EmbeddedDatabase(tmp_path) as db:
        journal = await EmbeddedJournal.opened(db, now=clock)
        assert await journal.checkpoints(BAR_1D) == [point("000001.SZ", 2, 5)]
        assert [b.seen for b in await journal.letters()] == [2]


async def test_a_dead_letter_comes_back_as_it_was_buried(journal: EmbeddedJournal) -> None:
    nameless = replace(letter(), symbol=None, time=None, raw="'; DROP TABLE journal.run; -- 🧧", run_id="")
    await journal.bury([letter(), nameless])
    assert [b.letter for b in await journal.letters()] == [letter(), nameless]


async def test_the_same_row_refused_again_is_counted_and_not_kept_twice(journal: EmbeddedJournal) -> None:
    await journal.bury([letter(), letter()])
    await journal.bury([replace(letter(run_id="r2"), at=NOON + timedelta(days=1), reason="high 1.0 < open 3.0")])
    (buried,) = await journal.letters()
    assert (buried.seen, buried.letter.run_id, buried.letter.reason) == (2, "r2", "high 1.0 < open 3.0")
    await journal.bury([letter(rule="units"), letter(raw="{}")])
    assert len(await journal.letters()) == 3


async def test_letters_are_listed_by_page_and_by_what_they_are(journal: EmbeddedJournal) -> None:
    await journal.bury([letter(f"{i:06d}.SZ", rule="ohlc" if i % 2 else "units") for i in range(10)])
    page = await journal.letters(limit=3, offset=4)
    assert [b.letter.symbol for b in page] == ["000004.SZ", "000005.SZ", "000006.SZ"]
    assert len(await journal.letters(rule="units")) == 5
    assert len(await journal.letters(symbol="000003.SZ", dataset="bar_1d", source="akshare", run_id="r1")) == 1
    assert await journal.letters(source="tushare") == []
    assert await journal.letter_counts(run_id="r1") == {
        ("bar_1d", "akshare", "ohlc"): 5,
        ("bar_1d", "akshare", "units"): 5,
    }


async def test_a_replayed_letter_is_closed_until_the_row_is_refused_again(journal: EmbeddedJournal) -> None:
    await journal.bury([letter("000001.SZ"), letter("000002.SZ")])
    first, second = await journal.letters()
    later = NOON + timedelta(hours=1)
    await journal.mark_replayed([first.id], at=later)
    assert await journal.letters() == [second]
    assert (await journal.letter(first.id)).replayed_at == later
    assert [b.id for b in await journal.letters(replayed=True)] == [first.id]
    assert len(await journal.letters(replayed=None)) == 2
    await journal.bury([letter("000001.SZ")])
    assert [b.id for b in await journal.letters()] == [first.id, second.id]


async def test_an_unknown_letter_is_one_sentence(journal: EmbeddedJournal) -> None:
    with pytest.raises(ConfigError, match="no dead letter 7: `dead-letters list` shows"):
        await journal.letter(7)


async def test_runs_are_listed_newest_first_with_their_end(journal: EmbeddedJournal) -> None:
    first, second = Run("a", "backfill", NOON), Run("b", "backfill", NOON + timedelta(hours=1))
    await journal.begin(first)
    await journal.begin(second)
    ended = replace(first, ended_at=NOON + timedelta(minutes=5), status="partial", detail={"rows": 3, "缺": ["x"]})
    await journal.end(ended)
    assert await journal.runs() == [second, ended]
    assert await journal.runs(limit=1) == [second]


async def test_a_sources_fortunes_are_counted_by_outcome_with_the_latest_of_each_kind(
    journal: EmbeddedJournal, clock: Clock
) -> None:
    await journal.note("tushare", Outcome.OK, "")
    await journal.note("tushare", Outcome.EMPTY, "")
    clock.time += timedelta(minutes=1)
    for _ in range(3):
        await journal.note("tushare", Outcome.LIMITED, "500 calls a minute")
    clock.time += timedelta(minutes=1)
    await journal.note("baostock", Outcome.OK, "")
    baostock, tushare = await journal.statuses()
    assert (baostock.source, baostock.last_failure, baostock.last_success) == ("baostock", None, clock.time)
    assert (tushare.last_success, tushare.last_failure) == (NOON, NOON + timedelta(minutes=1))
    assert (tushare.last_outcome, tushare.detail) == (Outcome.LIMITED, "500 calls a minute")
    assert tushare.outcomes == {Outcome.OK: 1, Outcome.EMPTY: 1, Outcome.LIMITED: 3}


async def test_notes_reach_the_file_by_the_end_of_a_run(tmp_path: Path, clock: Clock) -> None:
    async with EmbeddedDatabase(tmp_path) as db:
        journal = await EmbeddedJournal.opened(db, now=clock)
        await journal.note("tushare", Outcome.OK, "")
        await journal.end(Run("a", "backfill", NOON, NOON, "complete"))
        other = await EmbeddedJournal.opened(db, now=clock)
        assert (await other.statuses())[0].outcomes == {Outcome.OK: 1}


async def test_of_one_kind_of_letters_only_so_many_are_kept_and_the_rest_are_counted(
    tmp_path: Path, clock: Clock
) -> None:
    def many(first: int, count: int, **more: str) -> list[DeadLetter]:
        return [replace(letter(raw=f'{{"n": {n}}}'), **more) for n in range(first, first + count)]  # type: ignore[arg-type]

    async with EmbeddedDatabase(tmp_path) as db:
        await EmbeddedJournal.opened(db, now=clock)
        journal = EmbeddedJournal(db, now=clock, most_letters=10)
        await journal.bury(many(0, 8))
        await journal.bury(many(4, 8))  # four of them are known
        await journal.bury(many(100, 3, rule="unit"))
        kind = ("bar_1d", "akshare", "ohlc")
        assert await journal.letter_counts() == {kind: 12, ("bar_1d", "akshare", "unit"): 3}
        kept = await journal.letters(rule="ohlc", limit=100)
        assert len(kept) == 10
        assert sorted(one.seen for one in kept) == [1] * 6 + [2] * 4
        await journal.bury(many(0, 20, source="push:gateway"))  # whoever delivered them was told that they are kept
        await journal.bury(many(0, 20, rule="store"))  # these waited in the spool
        assert len(await journal.letters(source="push:gateway", limit=100)) == 20
        assert len(await journal.letters(rule="store", limit=100)) == 20
        await journal.mark_replayed([one.id for one in kept[:5]], at=NOON)
        await journal.bury(many(200, 8))
        assert len(await journal.letters(rule="ohlc", source="akshare", limit=100)) == 10
        assert (await journal.letter_counts())[kind] == 10 + 2 + 3
