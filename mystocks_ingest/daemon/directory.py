"""The state directory, while the service runs: whether it is still the one that was opened.

Files that were moved or deleted go on taking rows that nobody will find again. So the service ends where that happened,
and whoever starts it anew works on what is there then.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from mystocks_ingest.errors import ConfigError
from mystocks_ingest.sinks.embedded.database import FILE

_LOOK_SECONDS = 2.0


async def watch(folder: Path) -> None:
    """Look at it for ever. Raises ConfigError once it, or the store in it, was not there at two looks in a row."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        missed = False
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            gone = await asyncio.to_thread(_gone, folder, opened)
            if gone and missed:
                raise ConfigError(
                    f"the state directory {folder} was moved, deleted or replaced under the running service, which ends, "
                    "for what it stores there would be lost: put it back, or start the service on what is there now"
                )
            missed = gone
    finally:
        os.close(opened)


def _gone(folder: Path, opened: int) -> bool:
    """Of the store's file only that it exists is asked: whoever opened and closed it would undo DuckDB's lock."""
    try:
        return not os.path.samestat(os.fstat(opened), folder.stat()) or not (folder / FILE).exists()
    except FileNotFoundError:
        return True
    except OSError:  # a disk that does not answer: the writers say so
        return False
