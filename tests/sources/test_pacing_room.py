"""Live collection beside a backfill within one budget: it keeps its pace, and no window is overdrawn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mystocks_ingest.errors import Limited
from mystocks_ingest.ports import Rate, pressing
from mystocks_ingest.sources.pacing import Budget, Pacer

NOON = datetime(2026, 11, 20, 4, 0, tzinfo=UTC)
MINUTE = Budget(rates=[Rate(40, 60)])
DAY = Budget(rates=[Rate(1000, 86_400)])


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now

    def go(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


Made = Callable[[Budget], Pacer]


@pytest.fixture
def pacer_of(tmp_path: Path, clock: Clock) -> Iterator[Made]:
    """Pacers that never wait, each as a process of its own has it."""
    opened = []

    def made(budget: Budget) -> Pacer:
        opened.append(Pacer("tushare", budget, path=tmp_path / "pacing.sqlite", clock=clock, patience_seconds=0))
        return opened[-1]

    yield made
    for pacer in opened:
        pacer.close()


async def taken(pacer: Pacer, *, most: int = 1) -> int:
    """How many calls may start now."""
    for number in range(most):
        try:
            await pacer.take()
        except Limited:
            return number
    return most


async def lived(clock: Clock, live: Pacer, other: Pacer, seconds: int) -> tuple[list[float], list[datetime]]:
    """A poll every three seconds beside somebody who takes all there is: how late each came, and every call made."""
    late, calls = [], []
    due = clock.now
    for _ in range(seconds):
        if clock.now >= due:
            with pressing():
                if await taken(live):
                    calls.append(clock.now)
                    late.append((clock.now - due).total_seconds())
                    due = clock.now + timedelta(seconds=3)
        calls += [clock.now] * await taken(other, most=100)
        clock.go(1)
    return late, calls


@pytest.mark.parametrize("processes", [1, 2])
async def test_polls_keep_their_pace_beside_a_backfill_that_takes_all_there_is(
    pacer_of: Made, clock: Clock, processes: int
) -> None:
    live = pacer_of(MINUTE)
    other = live if processes == 1 else pacer_of(MINUTE)
    late, calls = await lived(clock, live, other, 900)
    assert max(late) <= 1, "a second is this test's smallest step"
    assert len(late) >= 290
    assert all(b - a >= timedelta(seconds=60) for a, b in zip(calls, calls[40:], strict=False)), "overdrawn"
    assert len(calls) - len(late) > 0.8 * 15 * (40 - 22), "the backfill has what polls do not need"


async def test_a_backfill_that_began_first_makes_room_within_a_minute_and_keeps_it_over_lunch(
    pacer_of: Made, clock: Clock
) -> None:
    pacer = pacer_of(MINUTE)
    assert await taken(pacer, most=100) == 40
    clock.go(1)
    late, _ = await lived(clock, pacer, pacer, 300)
    assert max(late) <= 60
    assert max(late[1:]) <= 1
    for _ in range(90 * 60):
        await taken(pacer, most=100)
        clock.go(1)
    late, _ = await lived(clock, pacer, pacer, 60)
    assert max(late) <= 1


async def test_nothing_is_left_free_where_nobody_polls(pacer_of: Made, clock: Clock) -> None:
    pacer = pacer_of(MINUTE)
    await lived(clock, pacer, pacer, 200)
    clock.go(3 * 3600)
    assert await taken(pacer, most=100) == 40


async def test_polls_that_would_use_all_of_a_budget_leave_a_quarter(pacer_of: Made, clock: Clock) -> None:
    pacer = pacer_of(Budget(rates=[Rate(16, 60)]))
    others = 0
    for _ in range(600):
        with pressing():
            await taken(pacer)
        others += await taken(pacer, most=100)
        clock.go(1)
    assert others > 0.5 * 4 * 10


async def test_of_a_days_budget_a_days_polls_stay_free(pacer_of: Made, clock: Clock) -> None:
    pacer = pacer_of(DAY)
    for _ in range(10):
        with pressing():
            await pacer.take()
        clock.go(30)
    others = await taken(pacer, most=1000)
    assert 480 < others < 500, "in 4 hours and a quarter of trading there are 510 polls"
    for _ in range(500):
        with pressing():
            await pacer.take()
        clock.go(30)
