"""What the service answers to commands that come over its socket."""

from __future__ import annotations

from collections.abc import Mapping

from mystocks_ingest import errands
from mystocks_ingest.control import Answer, Tell
from mystocks_ingest.daemon import jobs
from mystocks_ingest.daemon.parts import Daemon


async def answer(daemon: Daemon, request: Mapping[str, object], tell: Tell) -> Answer:
    """Errands, or what `jobs` asks. Raises ConfigError for what is not known, and what the work raises."""
    if request.get("do") == "errand":
        return await errands.answer(request, daemon.service, tell)
    return Answer(await jobs.answer(daemon, request))
