"""What commands and programs want of the opened stores: done here, or by the service that has them open.

One process at a time has the embedded store, and with it the checkpoints. While the service runs, that is the service: an
errand goes to it over its socket in the state directory, and the result comes back as if it had been had here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from mystocks_ingest import control
from mystocks_ingest.control import Answer, Line, Tell
from mystocks_ingest.errands.kinds import KINDS, Errand, Read
from mystocks_ingest.errands.travel import Teller, received, sent
from mystocks_ingest.errors import ConfigError, StoreBusy
from mystocks_ingest.flow.report import Silence, Watch
from mystocks_ingest.service import Clock, Service
from mystocks_ingest.settings import Settings

_BUSY_SECONDS, _BUSY_PAUSE_SECONDS = 5.0, 0.25  # for a service that starts, or a command that ends soon
T = TypeVar("T")
Run = Callable[[Coroutine[Any, Any, T]], T]


def done(
    errand: Errand[T], settings: Settings, *, now: Clock, run: Run[T] = asyncio.run, watch: Watch | None = None
) -> T:
    """The errand's result, from the stores that ``settings`` describe or from the service that has them open.

    Raises what the work raises; StoreBusy where neither the stores can be opened nor a service answers.
    """
    hearing = watch if watch is not None else Silence()
    until = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            return run(errand.alone(settings, now, hearing))
        except StoreBusy:
            first = control.connected(settings.state_dir)
            if first is not None:
                return errand.through(_dialling(settings, first), hearing)
            if time.monotonic() >= until:
                raise
        time.sleep(_BUSY_PAUSE_SECONDS)


def _dialling(settings: Settings, first: Line) -> Callable[[], Line]:
    """``first``, then lines of their own."""
    lines = iter([first])

    def dial() -> Line:
        line = next(lines, None) or control.connected(settings.state_dir)
        if line is None:
            raise ConfigError(f"the service in {settings.state_dir} has ended meanwhile: try again")
        return line

    return dial


async def answer(request: Mapping[str, object], opened: Service, tell: Tell) -> Answer:
    """An errand that came over the socket, done. Raises ConfigError for one that is not known, and what the work raises."""
    kind = KINDS.get(str(request.get("errand")))
    if kind is None:
        raise ConfigError(f"the service knows no errand {request.get('errand')!r}; is it an older version? Restart it")
    try:
        errand = received(kind, request.get("given"))
    except ValidationError as exc:
        raise ConfigError(
            f"the service cannot read the errand {kind.__name__}; is it another version? Restart it"
        ) from exc
    if isinstance(errand, Read):
        return Answer({"rows": "follow"}, errand.blocks(opened))
    return Answer({"result": sent(kind.gives(), await errand.of(opened, Teller(tell)))})
