"""What one channel is still to be sent: a bounded queue; a channel that is away is tried again, ever more rarely."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

from mystocks_ingest.errors import ConfigError, Unavailable
from mystocks_ingest.logs import get, redact
from mystocks_ingest.monitor.alert_rules import SEVERITIES, Severity
from mystocks_ingest.monitor.channels import Channel, Message
from mystocks_ingest.monitor.firing import Kind, Notice

log = get("alerts")
_LINES = 30  # of one message; some services refuse long ones
_WIDE = 300  # characters of one line


@dataclass(frozen=True, slots=True)
class Patience:
    """``most``: notices that wait at most, the oldest give way. ``keep``: after which one is news no longer."""

    most: int = 200
    shortest_rest: float = 2.0
    longest_rest: float = 300.0
    keep: timedelta = timedelta(days=1)


@dataclass
class Count:
    """What became of a channel's notices; ``failed`` counts attempts. ``away``: why the last one failed."""

    sent: int = 0
    failed: int = 0
    dropped: int = 0
    away: str = ""
    unusable: bool = False


class Outbox:
    """``run`` sends for ever; ``put`` never waits."""

    def __init__(self, channel: Channel, *, now: Callable[[], datetime], patience: Patience, service: str) -> None:
        self.channel = channel
        self.count = Count()
        self._now = now
        self._patience = patience
        self._service = service
        self._waiting: deque[Notice] = deque()
        self._stirred = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def waiting(self) -> Sequence[Notice]:
        return tuple(self._waiting)

    def put(self, notices: Iterable[Notice]) -> None:
        """Queue what is severe enough for the channel; when it is full the oldest are dropped, and counted."""
        full = 0
        for notice in notices:
            if SEVERITIES.index(notice.severity) < SEVERITIES.index(self.channel.least) or self.count.unusable:
                continue
            if len(self._waiting) >= self._patience.most:
                self._waiting.popleft()
                full += 1
            self._waiting.append(notice)
            self._empty.clear()
            self._stirred.set()
        if full:
            self._dropped(full, "too many wait")

    async def run(self) -> None:
        rest = 0.0
        while True:
            await self._stirred.wait()
            while self._waiting and not self.count.unusable:
                rest = await self._attempt(rest)
                if rest:
                    await asyncio.sleep(rest)
            self._stirred.clear()
            self._empty.set()

    async def settled(self, seconds: float) -> bool:
        """Whether everything was sent, after at most ``seconds``."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._empty.wait()
        return self._empty.is_set()

    async def _attempt(self, rest: float) -> float:
        """Send what waits as one message; how long to wait before the next attempt."""
        old = [n for n in self._waiting if self._now() - n.at > self._patience.keep]
        for notice in old:
            self._waiting.remove(notice)
        if old:
            self._dropped(len(old), "too old")
        batch = tuple(self._waiting)[:_LINES]
        if not batch:
            return 0.0
        try:
            await self.channel.send(message(batch, self._service))
        except ConfigError as exc:
            self.count.unusable, self.count.away = True, str(exc)
            log.error("channel.unusable", channel=self.channel.name, reason=str(exc))  # noqa: TRY400 - a setting
            self._dropped(len(self._waiting), "the channel cannot be used")
            self._waiting.clear()
            return 0.0
        except Exception as exc:  # noqa: BLE001 - whatever ails a channel, the others and the service go on
            reason = str(exc) if isinstance(exc, Unavailable) else redact(f"{type(exc).__name__}: {exc}")
            if not self.count.away:
                log.warning("channel.away", channel=self.channel.name, reason=reason)
            self.count.away = reason
            self.count.failed += 1
            return min(max(2 * rest, self._patience.shortest_rest), self._patience.longest_rest)
        if self.count.away:
            log.warning("channel.back", channel=self.channel.name)
        self.count.away = ""
        self.count.sent += len(batch)
        for notice in batch:
            with suppress(ValueError):  # it was dropped meanwhile, for room
                self._waiting.remove(notice)
        return 0.0

    def _dropped(self, number: int, reason: str) -> None:
        self.count.dropped += number
        log.warning("notices.dropped", channel=self.channel.name, notices=number, reason=reason)


def message(notices: Sequence[Notice], service: str) -> Message:
    """One message of several notices; its severity is that of the gravest which is not over."""
    bad = [n for n in notices if n.kind is not Kind.RECOVERED]
    gravest: Severity = max((n.severity for n in bad), key=SEVERITIES.index, default="info")
    over = not bad
    what = f"{len(bad)} alerts" if len(bad) > 1 else f"{bad[0].rule}, {bad[0].subject}" if bad else "recovered"
    if over and len(notices) == 1:
        what = f"recovered: {notices[0].rule}, {notices[0].subject}"
    lines = (line if len(line) <= _WIDE else line[: _WIDE - 1] + "…" for line in (n.line() for n in notices))
    return Message(redact(f"[{service}] {what}"[:120]), redact("\n".join(lines)), gravest, over=over)
