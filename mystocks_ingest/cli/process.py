"""What a command does to its process before and while it works: settings, secrets, logs, signals, the loop."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Coroutine
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import SecretStr

from mystocks_ingest import logs
from mystocks_ingest.arrow import give_memory_back, keep_pandas_out
from mystocks_ingest.settings import Settings, load

if TYPE_CHECKING:
    from mystocks_ingest.errands.kinds import Errand
    from mystocks_ingest.flow.report import Watch

T = TypeVar("T")


def clock() -> datetime:
    """Now, aware, UTC: the one place where the command line asks what time it is."""
    return datetime.now(UTC)


def settings() -> Settings:
    """The settings in force; from here on their secrets show up nowhere. Raises ConfigError."""
    found = load()
    prepare(found)
    return found


def prepare(found: Settings) -> None:
    """Hide the secrets of ``found``, write logs as it says, keep pandas out of this process."""
    values = (getattr(found, name) for name in type(found).model_fields)
    logs.hide(v.get_secret_value() for v in values if isinstance(v, SecretStr))
    logs.configure(form=found.log_format, level=found.log_level)
    keep_pandas_out()
    give_memory_back()


def done(errand: Errand[T], *, watch: Watch | None = None) -> T:
    """The errand's result, from the stores that the settings in force describe, or from the service that has them."""
    from mystocks_ingest import errands

    return errands.done(errand, settings(), now=clock, run=run, watch=watch)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run ``work`` to its end. SIGINT and SIGTERM cancel it, it cleans up, and KeyboardInterrupt is raised."""
    try:
        return asyncio.run(_stoppable(work))
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


async def _stoppable(work: Coroutine[Any, Any, T]) -> T:
    task = asyncio.current_task()
    if task is not None:
        with contextlib.suppress(NotImplementedError):  # a platform without signals for loops
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await work
