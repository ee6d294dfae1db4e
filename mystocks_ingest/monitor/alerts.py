"""The sidecar that looks at health every few seconds, and tells people what their rules say is worth telling.

    async with Alerts(rules, health, channels, now=clock, folder=settings.state_dir) as alerts: ...

Nothing waits for it: channels have bounded queues of their own, and whatever fails in it is logged and counted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from mystocks_ingest.logs import get, redact
from mystocks_ingest.monitor import standings
from mystocks_ingest.monitor.alert_rules import Rule
from mystocks_ingest.monitor.channels import Channel
from mystocks_ingest.monitor.firing import Key, Notice, Standing, evaluate
from mystocks_ingest.monitor.health import Health
from mystocks_ingest.monitor.outbox import Count, Outbox, Patience
from mystocks_ingest.monitor.questions import HISTORY, Question
from mystocks_ingest.monitor.readings import Logged, measured

log = get("alerts")

_CREATIONS_OF = timedelta(days=7)
_SAVED_SECONDS = 60.0  # at least so often, so that a reader of the file sees that somebody looks
_PATIENCE = Patience()


class Log(Protocol):
    """The monitor log, as far as alerts ask it."""

    async def ask(
        self, question: Question, *, since: datetime | None = None, limit: int = 100
    ) -> Sequence[Mapping[str, object]]: ...


@dataclass(frozen=True, slots=True)
class Limits:
    """``every_seconds`` the rules are looked at; the monitor log is asked every ``log_seconds``."""

    every_seconds: float = 15.0
    health_seconds: float = 10.0
    log_seconds: float = 60.0
    drain_seconds: float = 3.0


@dataclass
class Looks:
    """What became of the looks at health; ``failed``: those that did not come to an end, ``error``: why the last."""

    made: int = 0
    failed: int = 0
    error: str = ""


class Alerts:
    """``health`` is asked again and again; ``monitor_log`` None: failed creations are not alerted about."""

    def __init__(
        self,
        rules: Sequence[Rule],
        health: Callable[[], Awaitable[Health]],
        channels: Sequence[Channel],
        *,
        now: Callable[[], datetime],
        folder: Path,
        monitor_log: Log | None = None,
        limits: Limits | None = None,
        patience: Patience = _PATIENCE,
        service: str = "mystocks",
    ) -> None:
        self.rules = tuple(rules)
        self.looks = Looks()
        self._health = health
        self._now = now
        self._file = folder / standings.FILE
        self._log = monitor_log
        self._limits = limits or Limits()
        self._boxes = [Outbox(c, now=now, patience=patience, service=service) for c in channels]
        self._standings: dict[Key, Standing] = {}
        self._measured: frozenset[str] = frozenset()
        self._logged: Logged | None = None
        self._asked = float("-inf")  # on the loop's clock
        self._saved = float("-inf")
        self._memory = standings.Memory()
        self._ending = asyncio.Event()
        self._tasks: tuple[asyncio.Task[None], ...] = ()

    async def __aenter__(self) -> Self:
        self._memory = await asyncio.to_thread(standings.read, self._file)
        self._standings = {(s.rule, s.subject): s for s in self._memory.standings}
        for box in self._boxes:
            box.put(self._memory.waiting.get(box.channel.name, ()))
        watch = asyncio.create_task(self._watch(), name="alerts:watch")
        senders = (asyncio.create_task(b.run(), name=f"alerts:{b.channel.name}") for b in self._boxes)
        self._tasks = (watch, *senders)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Send what waits, under a deadline; the rest is remembered for the next start."""
        self._ending.set()
        try:
            await asyncio.gather(*(box.settled(self._limits.drain_seconds) for box in self._boxes))
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(self._tasks)
            await self._save(self._memory.at)
        for task in self._tasks:
            if error is None and not task.cancelled():
                task.result()  # a defect of ours is not kept quiet

    @property
    def firing(self) -> list[Standing]:
        """What fires now."""
        return [s for s in self._standings.values() if s.firing]

    @property
    def counts(self) -> dict[str, Count]:
        """What became of each channel's notices, by its name."""
        return {box.channel.name: replace(box.count) for box in self._boxes}

    async def look(self) -> list[Notice]:
        """Look at health once and queue what is to be told."""
        async with asyncio.timeout(self._limits.health_seconds):
            health = await self._health()
            logged = await self._log_figures()
        now = self._now()
        self._standings, notices = evaluate(self.rules, health, self._standings, now, logged=logged)
        self._measured = measured(health, logged)
        for box in self._boxes:
            box.put(n for n in notices if self._goes_to(n, box.channel))
        self.looks.made += 1
        await self._save(now)
        return notices

    def replace_rules(self, rules: Sequence[Rule]) -> None:
        """From the next look on, these; what fires by a rule that is gone is told as over."""
        self.rules = tuple(rules)

    async def _watch(self) -> None:
        while not self._ending.is_set():
            try:
                await self.look()
                self.looks.error = ""
            except Exception as exc:  # noqa: BLE001 - alerts must outlive whatever they watch
                self.looks.failed += 1
                reason = redact(str(exc)) or type(exc).__name__
                if reason != self.looks.error:
                    log.warning("health.unseen", reason=reason)
                self.looks.error = reason
            with suppress(TimeoutError):
                async with asyncio.timeout(self._limits.every_seconds):
                    await self._ending.wait()

    async def _log_figures(self) -> Logged | None:
        """What the monitor log says; what it said last, between two questions; None while it cannot be asked."""
        loop = asyncio.get_running_loop()
        if self._log is None or loop.time() - self._asked < self._limits.log_seconds:
            return self._logged
        self._asked = loop.time()
        try:
            async with asyncio.timeout(self._limits.health_seconds / 2):
                rows = await self._log.ask(HISTORY, since=self._now() - _CREATIONS_OF, limit=10_000)
            self._logged = Logged.of(rows)
        except Exception as exc:  # noqa: BLE001 - likewise; what is unknown changes no alert
            if self._logged is not None:
                log.info("log.unread", reason=redact(str(exc)) or type(exc).__name__)
            self._logged = None
        return self._logged

    def _goes_to(self, notice: Notice, channel: Channel) -> bool:
        """The log is told everything. An action that names a kind of channel goes there, if there is one; else to all."""
        if channel.kind == "log":
            return True
        kinds = {box.channel.kind for box in self._boxes}
        action = notice.action.lower()
        if action in ("log", "log_only"):
            return False
        asked = {kind for kind in kinds if kind in action} - {"log"}
        return channel.kind in asked if asked else True

    async def _save(self, at: datetime | None) -> None:
        waiting = {box.channel.name: box.waiting for box in self._boxes if box.waiting}
        memory = standings.Memory(at, tuple(self._standings.values()), waiting, self._measured)
        loop = asyncio.get_running_loop()
        same = replace(memory, at=self._memory.at) == self._memory
        if at is None or (same and loop.time() - self._saved < _SAVED_SECONDS and not self._ending.is_set()):
            return
        self._memory, self._saved = memory, loop.time()
        try:
            await asyncio.to_thread(partial(standings.write, self._file, memory))
        except OSError as exc:
            log.warning("memory.unwritable", file=self._file.name, reason=exc.strerror or type(exc).__name__)
