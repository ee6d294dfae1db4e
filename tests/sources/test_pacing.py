"""Pacing: budgets hold, survive a restart, and nobody sleeps for hours."""

import asyncio
import time
from datetime import UTC, datetime, timedelta

import pytest

from mystocks_ingest.errors import Banned, ConfigError, Denied, Limited, Malformed, Unavailable, Unreachable
from mystocks_ingest.ports import Rate
from mystocks_ingest.sources.pacing import Breaker, Budget, Pacer
from mystocks_ingest.sources.pacing_store import binding

NOON = datetime(2026, 11, 20, 4, 0, tzinfo=UTC)


class Clock:
    def __init__(self):
        self.now = NOON

    def __call__(self):
        return self.now

    def go(self, **passed):
        self.now += timedelta(**passed)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def pacer_of(tmp_path, clock):
    """Pacers on one file, as restarts of the program see it."""
    opened = []

    def make(budget=None, *, source="tushare", real_time=False, patience=0.0):
        given = {} if real_time else {"clock": clock}
        pacer = Pacer(
            source, budget or Budget(), path=tmp_path / "state" / "pacing.sqlite", patience_seconds=patience, **given
        )
        opened.append(pacer)
        return pacer

    yield make
    for pacer in opened:
        pacer.close()


async def failing(*errors):
    """A call that fails with each of ``errors`` in turn and then answers."""
    left = list(errors)

    async def call():
        if left:
            raise left.pop(0)
        return "answer"

    return call


async def test_every_window_holds_at_once_and_says_until_when(pacer_of, clock):
    pacer = pacer_of(Budget(rates=[Rate(3, 60), Rate(5, 3600)]))
    for _ in range(3):
        await pacer.take()
    with pytest.raises(Limited) as minute:
        await pacer.take()
    assert timedelta(seconds=59) < minute.value.until - clock.now <= timedelta(seconds=61)
    clock.go(seconds=61)
    await pacer.take(2)
    clock.go(seconds=61)
    with pytest.raises(Limited) as hour:
        await pacer.take()
    assert hour.value.until - clock.now > timedelta(minutes=57)


async def test_calls_made_before_a_restart_count_after_it(pacer_of):
    budget = Budget(rates=[Rate(2, 86400)])
    await pacer_of(budget).take(2)
    with pytest.raises(Limited):
        await pacer_of(budget).take()
    await pacer_of(budget, source="baostock").take(2)


async def test_a_short_wait_is_slept(pacer_of):
    pacer = pacer_of(Budget(rates=[Rate(2, 0.5)]), real_time=True, patience=5)
    started = time.monotonic()
    for _ in range(5):
        await pacer.take()
    assert 0.9 < time.monotonic() - started < 30


async def test_a_window_is_never_overdrawn_by_callers_at_once(pacer_of):
    pacer = pacer_of(Budget(rates=[Rate(5, 1.0)]), real_time=True, patience=30)
    starts = []

    async def caller():
        for _ in range(4):
            await pacer.take()
            starts.append(time.time())

    await asyncio.gather(*(caller() for _ in range(5)))
    starts.sort()
    assert len(starts) == 20
    # a busy machine may write down a start some time after its turn
    assert all(b - a > 0.4 for a, b in zip(starts, starts[5:], strict=False))


async def test_starts_are_kept_apart_with_jitter(pacer_of):
    pacer = pacer_of(Budget(spacing_seconds=0.05), real_time=True)
    starts, began = [], time.monotonic()

    async def caller():
        await pacer.take()
        starts.append(time.monotonic())

    await asyncio.gather(*(caller() for _ in range(6)))
    slots = [start - began for start in starts]  # waking late on a busy machine is no claim
    assert all(slot >= 0.05 * n - 0.002 for n, slot in enumerate(slots))
    assert slots[-1] > 0.05 * 5 * 1.02, "no jitter was added"


async def test_an_api_has_its_own_budget_besides_the_common_one(pacer_of):
    pacer = pacer_of(Budget(rates=[Rate(10, 60)], each_api=[Rate(4, 86400)], by_api={"stock_basic": [Rate(1, 60)]}))
    await pacer.take(api="stock_basic")
    with pytest.raises(Limited, match="stock_basic"):
        await pacer.take(api="stock_basic")
    await pacer.take(4, api="daily")
    with pytest.raises(Limited, match="daily"):
        await pacer.take(api="daily")
    await pacer.take(4, api="trade_cal")
    with pytest.raises(Limited, match="tushare: the budget"):
        await pacer.take(2)


async def test_a_limit_the_vendor_named_is_kept_from_then_on_and_after_a_restart(pacer_of):
    pacer = pacer_of()
    pacer.learn("stk_mins", Rate(10, 60))
    for p in (pacer, pacer_of()):
        for _ in range(4):
            await p.take(api="stk_mins")
    with pytest.raises(Limited, match="stk_mins"):
        await pacer_of().take(api="stk_mins")
    await pacer.take(api="daily")


async def test_calls_made_without_a_turn_are_counted(pacer_of):
    pacer = pacer_of(Budget(rates=[Rate(10, 86400)]))
    await pacer.take()
    pacer.charge(9)
    with pytest.raises(Limited):
        await pacer.take()
    assert pacer.status().used[0].left == 0


async def test_a_ban_closes_the_source_until_its_end_through_restarts(pacer_of, clock):
    pacer = pacer_of()
    until = clock.now + timedelta(hours=6)
    with pytest.raises(Banned):
        await pacer.run(await failing(Banned("black list", until=until)), within=10)
    for p in (pacer, pacer_of()):
        with pytest.raises(Banned, match="black list") as caught:
            await p.take()
        assert caught.value.until == until
    clock.go(hours=6, seconds=1)
    await pacer_of().take()


async def test_a_limited_api_leaves_the_others_open(pacer_of, clock):
    pacer = pacer_of()
    until = clock.now + timedelta(hours=12)
    with pytest.raises(Limited):
        await pacer.run(await failing(Limited("a day's quota", until=until)), api="stk_mins", within=10)
    with pytest.raises(Limited) as caught:
        await pacer_of().take(api="stk_mins")
    assert caught.value.until == until
    await pacer_of().take(api="daily")


async def test_a_short_limit_is_waited_for_once(pacer_of):
    pacer = pacer_of(real_time=True, patience=5)
    started = time.monotonic()
    soon = datetime.now(UTC) + timedelta(seconds=0.5)
    assert await pacer.run(await failing(Limited("500 a minute", until=soon)), api="daily", within=10) == "answer"
    assert 0.4 < time.monotonic() - started < 30
    twice = [Limited("again", until=datetime.now(UTC) + timedelta(seconds=s)) for s in (0.1, 0.5)]
    with pytest.raises(Limited):
        await pacer.run(await failing(*twice), api="daily", within=10)


async def test_failures_that_may_pass_are_repeated_and_each_repetition_is_counted(pacer_of):
    pacer = pacer_of(Budget(rates=[Rate(100, 86400)]), real_time=True)
    call = await failing(Unreachable("reset"), Malformed("html"))
    assert await pacer.run(call, within=30) == "answer"
    assert pacer.status().used[0].calls == 3


async def test_repetition_ends_after_the_attempts_with_the_vendors_error(pacer_of):
    pacer = pacer_of(real_time=True)
    with pytest.raises(Unreachable, match="three"):
        await pacer.run(await failing(Unreachable("one"), Unreachable("two"), Unreachable("three")), within=30)


async def test_no_attempt_starts_after_the_deadline(pacer_of):
    pacer = pacer_of(Budget(rates=[Rate(100, 86400)]), real_time=True)

    async def slow():
        await asyncio.sleep(0.3)
        raise Unreachable("silence")

    with pytest.raises(Unreachable):
        await pacer.run(slow, within=0.2)
    assert pacer.status().used[0].calls == 1


async def test_a_denial_is_never_repeated(pacer_of):
    pacer = pacer_of(Budget(rates=[Rate(100, 86400)]))
    with pytest.raises(Denied):
        await pacer.run(await failing(Denied("token")), within=30)
    assert pacer.status().used[0].calls == 1


async def test_the_breaker_opens_after_its_strikes_doubles_and_closes_on_success(pacer_of, clock):
    budget = Budget(breaker=Breaker(strikes=2, seconds=1800, matches="RemoteDisconnected"))

    async def fail_once(text):
        with pytest.raises(Unreachable):
            async with pacer_of(budget).turn():
                raise Unreachable(text)

    await fail_once("ConnectionError: RemoteDisconnected")
    await fail_once("a time-out is no ban")
    await fail_once("ConnectionError: RemoteDisconnected")
    with pytest.raises(Banned) as first:
        await pacer_of(budget).take()
    assert first.value.until - clock.now == timedelta(minutes=30)
    clock.go(minutes=31)
    await fail_once("RemoteDisconnected")
    await fail_once("RemoteDisconnected")
    with pytest.raises(Banned) as second:
        await pacer_of(budget).take()
    assert second.value.until - clock.now == timedelta(minutes=60)
    clock.go(minutes=61)
    async with pacer_of(budget).turn():
        pass
    await fail_once("RemoteDisconnected")
    await pacer_of(budget).take()


async def test_the_status_tells_what_is_left_closed_and_last(pacer_of, clock):
    budget = Budget(rates=[Rate(10, 60), Rate(100, 86400)])
    pacer = pacer_of(budget)
    async with pacer.turn():
        pass
    clock.go(minutes=2)
    with pytest.raises(Limited):
        async with pacer.turn(api="stk_mins"):
            raise Limited("too many", until=clock.now + timedelta(minutes=1))
    status = pacer_of(budget).status()
    assert [(u.calls, u.left) for u in status.used] == [(1, 9), (2, 98)]
    assert [(c.api, c.reason) for c in status.closed] == [("stk_mins", "too many")]
    assert status.last_success == NOON
    assert status.last_failure == clock.now
    assert status.last_error == "too many"


async def test_a_user_can_reopen_a_closed_source(pacer_of, clock):
    pacer = pacer_of()
    pacer.failed(Banned("black list", until=clock.now + timedelta(hours=6)))
    pacer.reopen()
    await pacer.take()


def test_only_the_rates_that_bind_are_counted():
    assert binding([Rate(500, 60), Rate(500, 3600)]) == (Rate(500, 3600),)
    assert binding([Rate(10, 60), Rate(1000, 3600)]) == (Rate(10, 60),)
    assert binding([Rate(100, 3600), Rate(10, 60)]) == (Rate(10, 60), Rate(100, 3600))
    assert binding([Rate(5, 60), Rate(3, 60)]) == (Rate(3, 60),)


async def test_a_damaged_file_is_set_aside_and_counting_goes_on(tmp_path):
    path = tmp_path / "pacing.sqlite"
    path.write_bytes(b"this is no database at all" * 100)
    pacer = Pacer("tushare", Budget(rates=[Rate(1, 60)]), path=path)
    await pacer.take()
    pacer.close()
    assert path.with_suffix(".damaged").exists()


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigError, match="MYSTOCKS_STATE_DIR"):
        Pacer("tushare", Budget(), path=tmp_path / "file" / "pacing.sqlite")


async def test_a_full_disk_is_one_sentence_and_closing_is_quiet(tmp_path):
    pacer = Pacer("v", Budget((Rate(5, 60.0),)), path=tmp_path / "pacing.sqlite")
    await pacer.take()
    pacer._store._db.execute("PRAGMA max_page_count = 1")
    with pytest.raises(Unavailable, match=r"cannot be counted in pacing\.sqlite .*full.*: free space"):
        pacer.charge(20_000)
    pacer.close()


async def test_a_call_that_nobody_waits_for_any_longer_is_not_told_as_answered(pacer_of):
    pacer, heard = pacer_of(), []
    pacer.told = lambda *told, **_: heard.append(str(told[0]))
    under_way = asyncio.Event()

    async def silent():
        under_way.set()
        await asyncio.Event().wait()

    asking = asyncio.create_task(pacer.run(silent, within=60.0))
    await under_way.wait()
    asking.cancel()
    await asyncio.wait([asking])
    assert heard == ["unreachable"]
