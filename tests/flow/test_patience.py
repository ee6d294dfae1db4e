from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, field

import pytest

from mystocks_ingest.errors import Rejected, Unavailable
from mystocks_ingest.flow.patience import Patience
from mystocks_ingest.flow.report import Silence


@dataclass
class Told(Silence):
    """What a watch was told of absent stores."""

    events: list[tuple[str, str, float]] = field(default_factory=list)

    def waiting(self, store: str, seconds: float, reason: str) -> None:
        self.events.append(("waiting", store, seconds))

    def returned(self, store: str, seconds: float) -> None:
        self.events.append(("returned", store, seconds))


@dataclass
class Server:
    """Away for so many calls."""

    away: float
    calls: int = 0

    async def call(self) -> str:
        self.calls += 1
        if self.calls <= self.away:
            raise Unavailable("it refuses connections", after=0.02)
        return "stored"


async def test_an_absent_store_is_waited_for_and_both_its_going_and_coming_are_told() -> None:
    told, server = Told(), Server(away=4)
    patience = Patience(math.inf, told)
    assert await patience.through("postgresql", "bar_1d", server.call) == "stored"
    assert [(what, store) for what, store, _ in told.events] == [("waiting", "postgresql")] * 4 + [
        ("returned", "postgresql")
    ]
    seconds = [s for _, _, s in told.events]
    assert seconds == sorted(seconds)
    assert seconds[-1] >= 0.06
    assert not patience.waits_for("postgresql", "bar_1d")


async def test_patience_ends_with_the_stores_own_words_and_each_later_call_is_one_attempt() -> None:
    server = Server(away=math.inf)
    patience = Patience(1.1)
    with pytest.raises(Unavailable, match=r"^it refuses connections \(waited for [1-9]\d* s\)$"):
        await patience.through("mysql", "instrument", server.call)
    assert patience.waits_for("mysql", "instrument")
    tried = server.calls
    with pytest.raises(Unavailable, match="it refuses connections"):
        await patience.through("mysql", "instrument", server.call)
    assert server.calls == tried + 1


async def test_a_store_may_have_a_time_of_its_own() -> None:
    server = Server(away=math.inf)
    with pytest.raises(Unavailable):
        await Patience(math.inf, own={"embedded": 0.0}).through("embedded", "bar_1d", server.call)
    assert server.calls == 1


async def test_an_outage_is_over_when_every_table_of_the_store_is_served_again() -> None:
    told = Told()
    patience = Patience(math.inf, told)
    slow, quick = Server(away=8), Server(away=2)
    await asyncio.gather(
        patience.through("mysql", "calendar", slow.call), patience.through("mysql", "instrument", quick.call)
    )
    assert [what for what, _, _ in told.events].count("returned") == 1
    assert told.events[-1][0] == "returned"


async def test_other_errors_pass_at_once() -> None:
    async def refuse() -> None:
        raise Rejected("a value is too long")

    with pytest.raises(Rejected):
        await Patience(math.inf).through("mysql", "instrument", refuse)


async def test_cancelling_ends_the_waiting_at_once() -> None:
    server = Server(away=math.inf)
    waiting = asyncio.create_task(Patience(math.inf).through("redis", "quote", server.call))
    await asyncio.sleep(0.1)
    waiting.cancel()
    tried = server.calls
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert server.calls == tried
