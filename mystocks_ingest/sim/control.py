"""The loopback endpoint at which faults are armed and calls counted while the servers run."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from datetime import datetime

from mystocks_ingest.sim.clock import ZONE, Clock
from mystocks_ingest.sim.faults import KINDS, Fault, FaultBook
from mystocks_ingest.sim.transport import Listener
from mystocks_ingest.sim.web import HttpReply, HttpRequest


class Control:
    """POST /fault, POST /clear, POST /clock, /shown, /calls, /hits and /kinds; bodies and answers are JSON."""

    def __init__(self, book: FaultBook, vendors: Mapping[str, Listener], clock: Clock | None = None) -> None:
        self.book, self.vendors, self.clock = book, vendors, clock
        self._reopening: set[asyncio.Task[None]] = set()

    async def reply(self, request: HttpRequest) -> HttpReply:
        try:
            content = json.loads(request.body or b"{}")
            match request.path.strip("/"):
                case "fault":
                    await self._arm(content)
                    return _json({})
                case "clear":
                    return await self._clear(content.get("vendor"))
                case "clock":
                    return self._set(content.get("moment"), content.get("speed"), content.get("since"))
                case "shown":
                    return _json({} if self.clock is None else self.clock.shown)
                case "calls":
                    return _json(self.book.calls)
                case "hits":
                    return _json(self.book.hits)
                case "kinds":
                    return _json(KINDS)
            return _json({"error": f"no such path: {request.path}"}, 404)
        except (ValueError, KeyError, TypeError) as exc:
            return _json({"error": str(exc)}, 400)

    async def _arm(self, content: Mapping[str, object]) -> None:
        vendor, times = str(content["vendor"]), content.get("times")
        options = content.get("options")
        fault = Fault(
            str(content["kind"]), str(content.get("match") or "*"), dict(options) if isinstance(options, dict) else {}
        )
        if fault.kind == "refused" and vendor in self.vendors:
            await self.vendors[vendor].refuse()
            if seconds := fault.number("seconds", 0.0):
                task = asyncio.create_task(self._reopen(vendor, seconds), name=f"reopen {vendor}")
                self._reopening.add(task)
                task.add_done_callback(self._reopening.discard)
            return
        self.book.arm(vendor, fault, int(times) if isinstance(times, int | float) else None)

    def _set(self, moment: str | None, speed: float | None, since: float | None) -> HttpReply:
        if self.clock is None:
            raise ValueError("this simulated market has no clock: it must be started live")
        self.clock.set(
            datetime.fromisoformat(moment) if moment is not None else None,
            None if speed is None else float(speed),
            since=None if since is None else float(since),
        )
        return _json({"moment": self.clock.true.astimezone(ZONE).isoformat(), "speed": self.clock.speed})

    async def _clear(self, vendor: str | None) -> HttpReply:
        self.book.clear(vendor)
        for name, listener in self.vendors.items():
            if vendor in (None, name):
                await listener.open()
        return _json({})

    async def _reopen(self, vendor: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self.vendors[vendor].open()


def _json(content: Mapping[str, object], status: int = 200) -> HttpReply:
    return HttpReply(json.dumps(content, ensure_ascii=False).encode(), status)
