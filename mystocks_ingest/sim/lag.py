"""Answers about now that are older than they should be: faults of a market that runs by a clock."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from mystocks_ingest.sim.clock import Clock
from mystocks_ingest.sim.faults import Fault
from mystocks_ingest.sim.web import HttpReply

_SECONDS = 30.0


@contextmanager
def lagging(clock: Clock, api: str, faults: Sequence[Fault]) -> Iterator[None]:
    """The answer made inside is as old as the faults want it; its moment is noted unless it is not of one."""
    late = next((f for f in faults if f.kind in ("stale", "out_of_order")), None)
    seconds = late.number("seconds", _SECONDS) if late is not None else 0.0
    half = late is not None and late.kind == "out_of_order"
    with clock.behind(seconds, half=half):
        if not half and not any(f.kind == "repeated" for f in faults):
            clock.note(api)
        yield


class Repeats:
    """The last answer to each request."""

    def __init__(self) -> None:
        self._given: dict[object, bytes] = {}

    def given(self, request: object, reply: HttpReply, faults: Sequence[Fault]) -> HttpReply:
        """``reply``, or the one before it where the fault ``repeated`` acts."""
        if any(f.kind == "repeated" for f in faults):
            return replace(reply, body=self._given.get(request, reply.body))
        if reply.status == 200:
            self._given[request] = reply.body
        return reply
