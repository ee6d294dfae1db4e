"""Pacing: every call takes a turn first, so that no window of a vendor's budget is overdrawn.

Budgets, learnt limits, bans and the breaker survive a restart (``pacing_store.py``). A short wait is slept; one
longer than ``patience`` is not: Limited or Banned says until when, and the caller asks somebody else. Live collection
(``ports.pressing``) goes first: while it uses a source, all other calls leave it the room it needs (``pacing_room.py``).
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol, TypeVar

import stamina
from stamina.instrumentation import RetryDetails, set_on_retry_hooks

from mystocks_ingest import logs
from mystocks_ingest.errors import Banned, IngestError, Limited, Outcome, Retryable, Unavailable, outcome_of
from mystocks_ingest.ports import Rate, is_pressing
from mystocks_ingest.schema.paces import Calls, Pace
from mystocks_ingest.sources.pacing_store import ALL, Closed, PacingStore, Used

log = logs.get("pacing")

PATIENCE_SECONDS = 75.0  # a minute's quota is waited for, an hour's is not
_NOTE_SECONDS = 5.0  # how often a success is written down
_STRIKES, _REST_SECONDS = 2, 1800.0  # of a breaker that the file gives a source without one
_SAFE_SHARE = 0.8  # of a limit the vendor named: its clock and ours differ


T = TypeVar("T")


def utc_now() -> datetime:
    """The clock of the running program; tests pass another."""
    return datetime.now(UTC)


class Told(Protocol):
    """Who hears of each call as it ends: how, after how long, and whether it was a repetition."""

    def __call__(self, outcome: Outcome, seconds: float, *, again: bool) -> None: ...


@dataclass(frozen=True, slots=True)
class Breaker:
    """After ``strikes`` failures in a row whose text ``matches``, no call for ``seconds``, doubling each time."""

    strikes: int
    seconds: float
    matches: str = ""
    longest_seconds: float = 86_400.0


@dataclass(frozen=True)
class Budget:
    """A vendor's windows. ``rates`` hold for all calls together, ``each_api`` for every API on its own."""

    rates: Sequence[Rate] = ()
    each_api: Sequence[Rate] = ()
    by_api: Mapping[str, Sequence[Rate]] = field(default_factory=dict)
    spacing_seconds: float = 0.0  # least time between two calls; up to half as much again is added at random
    breaker: Breaker | None = None

    def over(self, pace: Pace) -> Budget:
        """This one, with what the file of paces says in its place."""
        breaker = self.breaker
        if pace.strikes is not None or pace.rest_seconds is not None:
            usual = breaker or Breaker(_STRIKES, _REST_SECONDS)
            breaker = replace(usual, strikes=pace.strikes or usual.strikes, seconds=pace.rest_seconds or usual.seconds)
        by_api = self.by_api if pace.by_api is None else {api: _rates(calls) for api, calls in pace.by_api.items()}
        return Budget(
            self.rates if pace.calls is None else _rates(pace.calls),
            self.each_api if pace.each_api is None else _rates(pace.each_api),
            by_api,
            self.spacing_seconds if pace.spacing_seconds is None else pace.spacing_seconds,
            breaker,
        )


UNPACED = Budget()
"""Of a source at a replaced endpoint, by MYSTOCKS_PACING=none: no file of paces changes it."""


def _rates(calls: Sequence[Calls]) -> tuple[Rate, ...]:
    return tuple(Rate(c.most, c.seconds) for c in calls)


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """A source's budget as the ``sources`` command shows it."""

    source: str
    used: tuple[Used, ...]
    closed: tuple[Closed, ...]
    last_success: datetime | None
    last_failure: datetime | None
    last_error: str


class Pacer:
    """The turns of one source. ``path`` None keeps the counts in memory."""

    def __init__(
        self,
        source: str,
        budget: Budget,
        *,
        path: Path | None,
        clock: Callable[[], datetime] = utc_now,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self.source = source
        self.budget = self._usual = budget
        self._clock = clock
        self._patience = patience_seconds
        self._store = PacingStore(source, path)
        self._last = self._store.last()
        self._noted = 0.0
        self._next_start = 0.0
        self.told: Told | None = None
        self._changed = asyncio.Event()  # the budget is another one

    def close(self) -> None:
        """Close the file; counts stay. Never raises: how the last call went is told, not vital."""
        try:
            self._store.note(self._last)
        except Unavailable as exc:
            log.warning("pacing.unsaved", source=self.source, reason=str(exc))
        self._store.close()

    def pace(self, pace: Pace) -> None:
        """As Paced.pace."""
        if self._usual != UNPACED:
            self.budget = self._usual.over(pace)
            self._changed.set()
            self._changed = asyncio.Event()

    async def take(self, cost: int = 1, *, api: str = ALL) -> None:
        """Return when ``cost`` calls may start. Raises Limited or Banned when that is too far away."""
        self._refuse(api)
        for bucket, _ in self._windows(api):
            await self._fit(bucket, api, cost)
        await self._wait_if_closed(api)  # last: a door may have closed while we waited for room
        await self._space()

    @asynccontextmanager
    async def turn(self, *, api: str = ALL) -> AsyncIterator[None]:
        """One call without repetition: wait for its turn, then remember how it ended."""
        await self.take(api=api)
        try:
            yield
        except IngestError as exc:
            self.failed(exc, api=api)
            raise
        self.succeeded()

    async def run(self, call: Callable[[], Awaitable[T]], *, api: str = ALL, within: float, attempts: int = 3) -> T:
        """The call's answer; failures that may pass are repeated, each time with a turn of its own.

        No attempt starts later than ``within`` seconds after the first; a short Limited is waited for once.
        """
        waited = False

        def again(exc: Exception) -> bool | float:
            nonlocal waited
            match exc:
                case Retryable(after=float(after)):
                    return after if after <= self._patience else False
                case Retryable():
                    return True
                case Limited() if not isinstance(exc, Banned) and not waited:
                    waited = True  # the turn of the next attempt waits for the door
                    return 0.0 if self._seconds_to(exc.until) <= self._patience else False
                case _:
                    return False

        await self.take(api=api)  # what this costs in time is no part of ``within``
        retry = stamina.retry_context(
            on=again, attempts=attempts, timeout=within, wait_initial=0.3, wait_max=5.0, wait_jitter=0.7
        )
        async for attempt in retry:
            with attempt:
                if attempt.num > 1:
                    await self.take(api=api)
                return await self._watched(call, api, again=attempt.num > 1)
        raise AssertionError("stamina ends with an answer or an exception")

    async def _watched(self, call: Callable[[], Awaitable[T]], api: str, *, again: bool) -> T:
        began, outcome = time.monotonic(), Outcome.OK
        try:
            answer = await call()
        except IngestError as exc:
            outcome = outcome_of(exc)
            self.failed(exc, api=api)
            raise
        except asyncio.CancelledError:
            outcome = Outcome.UNREACHABLE  # whoever asked does not wait any longer
            raise
        finally:
            if self.told is not None:
                self.told(outcome, time.monotonic() - began, again=again)
        self.succeeded()
        return answer

    def charge(self, calls: int, *, api: str = ALL) -> None:
        """Count calls that were made without a turn: further pages, a login."""
        for bucket, rates in self._windows(api):
            self._store.charge(bucket, rates, now=self._clock(), calls=calls, live=is_pressing())

    def learn(self, api: str, rate: Rate) -> None:
        """Keep to a limit that the vendor named for ``api``, now and after restarts."""
        calls = max(1, int(rate.calls * _SAFE_SHARE)) if rate.calls > 2 else rate.calls
        self._store.learn(api, Rate(calls, rate.seconds))
        log.info("limit.learnt", source=self.source, api=api, calls=calls, seconds=rate.seconds)

    def status(self) -> SourceStatus:
        """What is used, left and closed at this moment."""
        now, last = self._clock(), self._last
        used = self._store.used(ALL, self.budget.rates, now=now)
        closed = tuple(self._store.closed(now=now))
        return SourceStatus(self.source, used, closed, last.success, last.failure, last.reason)

    def reopen(self) -> None:
        """Forget bans, limits in force and the breaker."""
        self._store.reopen()
        self._last = replace(self._last, strikes=0, opened=0)

    def succeeded(self) -> None:
        """An answer came: failures in a row are over."""
        was_failing = bool(self._last.strikes or self._last.opened)
        self._last = replace(self._last, success=self._clock(), strikes=0, opened=0)
        if was_failing or time.monotonic() - self._noted > _NOTE_SECONDS:
            self._note()

    def failed(self, error: IngestError, *, api: str = ALL) -> None:
        """Remember the failure, and close the door where the vendor did."""
        now, reason = self._clock(), logs.redact(str(error))[:500]
        self._last = replace(self._last, failure=now, reason=reason)
        match error:
            case Banned():
                self._store.shut(ALL, until=error.until, banned=True, reason=reason)
            case Limited():
                self._store.shut(api, until=error.until, banned=False, reason=reason)
            case Retryable() if self.budget.breaker is not None:
                self._strike(self.budget.breaker, reason, now)
        self._note()

    def _strike(self, breaker: Breaker, reason: str, now: datetime) -> None:
        if not re.search(breaker.matches, reason):
            return
        self._last = replace(self._last, strikes=self._last.strikes + 1)
        if self._last.strikes >= breaker.strikes:
            seconds = min(breaker.seconds * 2**self._last.opened, breaker.longest_seconds)
            self._store.shut(ALL, until=now + timedelta(seconds=seconds), banned=True, reason=reason)
            log.warning("breaker.opened", source=self.source, seconds=seconds, reason=reason)
            self._last = replace(self._last, strikes=0, opened=self._last.opened + 1)

    def _note(self) -> None:
        self._store.note(self._last)
        self._noted = time.monotonic()

    # -- waiting ----------------------------------------------------------------------------------------------

    def _windows(self, api: str) -> list[tuple[str, tuple[Rate, ...]]]:
        """The buckets that a call of ``api`` counts in, the narrower first."""
        windows = [(ALL, tuple(self.budget.rates))]
        if api != ALL:
            own = (*self.budget.each_api, *self.budget.by_api.get(api, ()), *self._store.learnt(api))
            windows.insert(0, (api, own))
        return [(bucket, rates) for bucket, rates in windows if rates]

    async def _fit(self, bucket: str, api: str, cost: int) -> None:
        """Wait for room in the windows of ``bucket``, as they are by then."""
        left = cost
        while left > 0:
            rates = dict(self._windows(api)).get(bucket, ())
            part = min((r.calls for r in rates if r.calls < left), default=left)
            wait = self._store.take(bucket, rates, now=self._clock(), cost=part, live=is_pressing())
            if wait <= 0:
                left -= part
                continue
            if wait > self._patience:
                until = self._clock() + timedelta(seconds=wait)
                name = self.source if bucket == ALL else f"{self.source} {bucket}"
                raise Limited(f"{name}: the budget is used up until {until:%Y-%m-%d %H:%M:%S} UTC", until=until)
            log.info("turn.awaited", source=self.source, api=bucket, seconds=round(wait, 1))
            with suppress(TimeoutError):
                async with asyncio.timeout(wait + random.uniform(0, 0.05)):  # noqa: S311  # jitter, no secret
                    await self._changed.wait()  # another budget: look again at once

    def _closed(self, api: str) -> Closed | None:
        closed = [c for c in self._store.closed(now=self._clock()) if c.api in (ALL, api)]
        return max(closed, key=lambda c: c.until, default=None)

    def _refuse(self, api: str) -> None:
        """Raise for a door closed for longer than we wait, before any budget is spent on it."""
        door = self._closed(api)
        if door is None or (not door.banned and self._seconds_to(door.until) <= self._patience):
            return
        message = f"{self.source}: closed until {door.until:%Y-%m-%d %H:%M:%S} UTC ({door.reason})"
        raise (Banned if door.banned else Limited)(message, until=door.until)

    async def _wait_if_closed(self, api: str) -> None:
        while (door := self._closed(api)) is not None:
            self._refuse(api)
            wait = self._seconds_to(door.until)
            log.info("turn.awaited", source=self.source, api=api, seconds=round(wait, 1), why=door.reason)
            await asyncio.sleep(max(wait, 0.001) + random.uniform(0, 0.05))  # noqa: S311

    def _seconds_to(self, moment: datetime) -> float:
        return (moment - self._clock()).total_seconds()

    async def _space(self) -> None:
        """Keep starts apart; the place in the row is taken before sleeping, so callers do not bunch."""
        if self.budget.spacing_seconds <= 0:
            return
        now = time.monotonic()
        start = max(now, self._next_start)
        gap = self.budget.spacing_seconds * random.uniform(1.0, 1.5)  # noqa: S311
        self._next_start = start + gap
        if start > now:
            await asyncio.sleep(start - now)


def _log_retry(details: RetryDetails) -> None:
    log.info("call.repeated", attempt=details.retry_num, wait=round(details.wait_for, 2), reason=str(details.caused_by))


set_on_retry_hooks([_log_retry])
