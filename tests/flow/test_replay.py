"""Dead letters go through today's checks again; nothing newer is overwritten, nothing is asked for twice."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from mystocks_ingest.errors import ConfigError
from mystocks_ingest.flow import replay as replaying
from mystocks_ingest.flow.ingest import letters
from mystocks_ingest.flow.replay import Choice, Replayed, replay, restored
from mystocks_ingest.market.checks import Context, check
from mystocks_ingest.market.datasets import BAR_1D, Dataset, dataset
from mystocks_ingest.market.frames import Frame, Symbol, Window
from mystocks_ingest.monitor.journal import EmbeddedJournal
from mystocks_ingest.ports import Checkpoint, DeadLetter, Query
from mystocks_ingest.schema import tables
from mystocks_ingest.sinks.embedded import EmbeddedDatabase, EmbeddedSink

TABLES = tables.load(Path(__file__).parents[2] / "config" / "tables.yaml").placed(())
AT = datetime(2024, 3, 1, 8, 0, tzinfo=UTC)
DAY = date(2024, 1, 4)
DAYS = [DAY + timedelta(days=i) for i in (0, 1, 4, 5, 6, 7, 8)]  # no week-end


def row(close: float = 10.2, *, day: date = DAY, fetched_at: datetime = AT, **changed: object) -> dict[str, object]:
    prices = {"open": 10.0, "high": 10.5, "low": 9.9, "close": close, "pre_close": 10.0}
    traded = {"volume": 1000, "amount": 10_200.0, "provisional": False}
    origin = {"source": "tushare", "fetched_at": fetched_at}
    return {"symbol": "600000.SH", "trade_date": day, **prices, **traded, **origin} | changed


def letter(values: dict[str, object], *, rule: str = "a rule", wanted: Dataset = BAR_1D) -> DeadLetter:
    whole = pa.RecordBatch.from_pylist([values], schema=pa.schema([(f.name, f.type) for f in wanted.fields]))
    text = json.dumps(whole.to_pylist()[0], default=str)
    return DeadLetter(wanted.name, "tushare", "600000.SH", str(DAY), rule, "a reason", f'{{"n": "{rule}"}}', text, AT)


@dataclass
class Desk:
    """An embedded store and its journal, and replay over both."""

    sink: EmbeddedSink
    journal: EmbeddedJournal

    async def bury(self, *buried: DeadLetter) -> list[int]:
        await self.journal.bury(buried)
        return [b.id for b in await self.journal.letters()]

    async def replay(self, choice: Choice | None = None) -> Replayed:
        context = Context(calendar=None, instruments=None, now=AT)
        return await replay(choice or Choice(), journal=self.journal, context=context, tables=TABLES, sink=self.sink)

    async def closes(self) -> list[float]:
        stored = await self.sink.read(TABLES.holder(BAR_1D), Query())
        return stored.column("close").to_pylist()

    async def open_rules(self) -> list[str]:
        return [b.letter.rule for b in await self.journal.letters()]


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with EmbeddedDatabase(tmp_path) as database:
        sink = await EmbeddedSink.opened(database, TABLES.all)
        yield Desk(sink, await EmbeddedJournal.opened(database, now=lambda: AT))


async def test_a_row_that_passes_now_is_stored_and_its_letter_is_done(desk: Desk) -> None:
    await desk.bury(letter(row()))
    done = await desk.replay()
    assert (done.stored["bar_1d"], done.refused.total()) == (1, 0)
    assert await desk.closes() == [10.2]
    assert await desk.open_rules() == []


async def test_a_row_that_is_still_wrong_stays_with_its_letter(desk: Desk) -> None:
    await desk.bury(letter(row(-1.0), rule="first"), letter(row(day=DAY + timedelta(days=1)), rule="second"))
    done = await desk.replay()
    assert (done.stored["bar_1d"], done.refused.total()) == (1, 1)
    assert await desk.open_rules() == ["first"]
    assert len(done.reasons) == 1


async def test_a_newer_stored_row_is_not_overwritten(desk: Desk) -> None:
    newer = pa.RecordBatch.from_pylist([row(10.3, fetched_at=AT + timedelta(hours=1))], schema=BAR_1D.schema)
    await desk.sink.write(TABLES.holder(BAR_1D), newer)
    await desk.bury(letter(row(10.2)))
    done = await desk.replay()
    assert (done.stored["bar_1d"], done.superseded["bar_1d"]) == (0, 1)
    assert await desk.closes() == [10.3]
    assert await desk.open_rules() == []


async def test_a_wrong_row_whose_right_one_came_since_is_settled(desk: Desk) -> None:
    right = pa.RecordBatch.from_pylist([row(10.3, fetched_at=AT + timedelta(hours=1))], schema=BAR_1D.schema)
    await desk.sink.write(TABLES.holder(BAR_1D), right)
    await desk.bury(letter(row(-1.0)))
    done = await desk.replay()
    assert (done.superseded["bar_1d"], done.refused.total()) == (1, 0)
    assert await desk.closes() == [10.3]
    assert await desk.open_rules() == []


async def test_of_two_letters_for_one_row_the_later_fetched_is_stored(desk: Desk) -> None:
    late = letter(row(10.3, fetched_at=AT + timedelta(hours=1)), rule="late")
    await desk.bury(late, letter(row(10.2), rule="early"))
    done = await desk.replay()
    assert (done.stored["bar_1d"], done.superseded["bar_1d"]) == (1, 1)
    assert await desk.closes() == [10.3]
    assert await desk.open_rules() == []


async def test_the_choice_decides_which_letters_are_tried(desk: Desk) -> None:
    numbers = await desk.bury(*(letter(row(day=d), rule=f"rule {i}") for i, d in enumerate(DAYS[:3])))
    assert (await desk.replay(Choice(rule="rule 1"))).stored.total() == 1
    assert (await desk.replay(Choice(dataset="adj_factor"))).stored.total() == 0
    assert (await desk.replay(Choice(source="baostock"))).stored.total() == 0
    assert await desk.open_rules() == ["rule 0", "rule 2"]
    assert (await desk.replay(Choice(ids=(numbers[2], numbers[2])))).stored.total() == 1
    assert await desk.open_rules() == ["rule 0"]


async def test_an_unknown_letter_is_the_users_mistake(desk: Desk) -> None:
    with pytest.raises(ConfigError, match="no dead letter 7"):
        await desk.replay(Choice(ids=(7,)))


async def test_letters_beyond_a_page_are_tried_too(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replaying, "PAGE", 2)
    await desk.bury(*(letter(row(-1.0 if i % 3 == 0 else 10.2, day=d), rule=str(i)) for i, d in enumerate(DAYS)))
    done = await desk.replay()
    assert (done.stored["bar_1d"], done.refused.total()) == (4, 3)
    assert await desk.open_rules() == ["0", "3", "6"]


async def test_a_stored_session_is_not_asked_for_again_and_known_windows_stay(desk: Desk) -> None:
    before = Checkpoint("bar_1d", Symbol("600000.SH"), Window(date(2024, 1, 2), DAY), "auto")
    await desk.journal.checkpoint([before])
    await desk.bury(letter(row()), letter(row(day=DAY + timedelta(days=1), provisional=True), rule="unfinished"))
    assert (await desk.replay()).stored["bar_1d"] == 2
    windows = [p.window for p in await desk.journal.checkpoints(BAR_1D)]
    assert windows == [before.window, Window(DAY, DAY + timedelta(days=1))]


def test_a_letter_gives_back_the_very_row_that_was_refused() -> None:
    def frame(wanted: Dataset, values: Sequence[dict[str, object]]) -> Frame:
        schema = pa.schema([(f.name, f.type) for f in wanted.fields])
        return Frame(wanted, "tushare", AT, pa.RecordBatch.from_pylist(list(values), schema=schema))

    moment = datetime(2024, 1, 4, 1, 31, tzinfo=UTC)
    minute = {k: v for k, v in row(-1.0).items() if k not in ("trade_date", "pre_close")} | {"bar_time": moment}
    for wanted, values in (
        (BAR_1D, [row(-1.0), row(-2.0, day=DAY + timedelta(days=1))]),
        (dataset("bar_1m"), [minute]),
    ):
        refused = check(frame(wanted, values), Context(calendar=None, instruments=None, now=AT)).refused
        buried = dict(enumerate(letters(refused, at=AT, run_id="")))
        assert len(buried) == len(values)
        again = restored(wanted, "tushare", buried)
        assert again.rows.equals(refused.frame.rows)


def test_a_letter_without_a_readable_row_says_what_to_do() -> None:
    damaged = DeadLetter("bar_1d", "tushare", None, None, "rule", "reason", "{}", "not json", AT)
    with pytest.raises(ConfigError, match=r"dead letter 5 .* fetch the day again"):
        restored(BAR_1D, "tushare", {5: damaged})


async def test_a_close_that_its_vendors_percentage_denied_is_denied_again(desk: Desk) -> None:
    wrong = letter(row(10.49), rule="inconsistent")
    await desk.bury(replace(wrong, raw='{"pct_chg": 2.0}'))
    done = await desk.replay()
    assert done.refused == {("bar_1d", "inconsistent"): 1}
    assert await desk.closes() == []


async def test_a_close_without_proof_of_its_own_is_held_against_the_next_stored_bar(desk: Desk) -> None:
    after = row(10.4, day=DAYS[1], pre_close=10.2)
    good, bad = letter(row(pre_close=None), rule="one"), letter(row(10.49, pre_close=None), rule="another")
    await desk.bury(letter(after, rule="later"))
    assert (await desk.replay()).stored == {"bar_1d": 1}
    await desk.bury(bad)
    assert (await desk.replay()).refused == {("bar_1d", "inconsistent"): 1}
    await desk.bury(good)
    await desk.replay(Choice(rule="one"))
    assert sorted(await desk.closes()) == [10.2, 10.4]
