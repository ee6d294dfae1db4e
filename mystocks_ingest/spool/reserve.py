"""Room on disk kept free for the day the disk is full: to take a record out, SQLite has to write first."""

from __future__ import annotations

import os
from pathlib import Path


class Reserve:
    """A file of nothing beside the spool's. One thread uses it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._held: int | None = None  # not looked yet

    def hold(self, size: int) -> None:
        """Have at least ``size`` bytes. Raises OSError where the disk has no room for them."""
        if self._held is None:
            self._held = self._path.stat().st_size if self._path.exists() else 0
        if size <= self._held:
            return
        with self._path.open("ab") as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            else:  # macOS: as much as bytes that no file system saves itself
                while file.tell() < size:
                    file.write(os.urandom(min(size - file.tell(), 1 << 20)))
        self._held = size

    def release(self) -> bool:
        """Give the room back; whether there was any."""
        there = self._path.exists()
        self._path.unlink(missing_ok=True)
        self._held = 0
        return there
