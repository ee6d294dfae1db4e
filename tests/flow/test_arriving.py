"""Databases are opened all at once; a mistake in the settings of one ends the start, and closes the others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from mystocks_ingest.errors import ConfigError
from mystocks_ingest.flow.arriving import Arriving, together
from mystocks_ingest.ports import Sink
from mystocks_ingest.sinks.embedded import EmbeddedDatabase, EmbeddedSink


class Openings:
    """Embedded stores that open when as many are being opened as ``needed``."""

    def __init__(self, folder: Path, needed: int) -> None:
        self._folder = folder
        self._all_there = asyncio.Barrier(needed)
        self.closed: list[str] = []

    @asynccontextmanager
    async def store(self, name: str) -> AsyncIterator[Sink]:
        await self._all_there.wait()
        async with EmbeddedDatabase(self._folder / name) as database:
            yield await EmbeddedSink.opened(database, [])
        self.closed.append(name)

    @asynccontextmanager
    async def wrong(self, name: str) -> AsyncIterator[Sink]:
        await self._all_there.wait()
        raise ConfigError(f"{name}: no such user")
        yield  # type: ignore[unreachable]


async def test_databases_are_opened_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mystocks_ingest.flow.arriving._FIRST_LOOK_SECONDS", 60.0)
    openings = Openings(tmp_path, 3)
    sinks = [Arriving(name, lambda name=name: openings.store(name)) for name in "abc"]
    async with asyncio.timeout(50), AsyncExitStack() as stack:  # one after the other they would wait for ever
        await together(sinks, stack)
        assert [sink.away for sink in sinks] == ["", "", ""]
    assert sorted(openings.closed) == ["a", "b", "c"]


async def test_wrong_settings_of_one_end_the_start_and_close_the_others(tmp_path: Path) -> None:
    openings = Openings(tmp_path, 2)
    good, bad = (
        Arriving("good", lambda: openings.store("good")),
        Arriving("bad", lambda: openings.wrong("bad")),
    )
    with pytest.raises(ConfigError, match="bad: no such user"):
        async with AsyncExitStack() as stack:
            await together([good, bad], stack)
    assert not [t for t in asyncio.all_tasks() if t.get_name().startswith("sink:")], "something was left open"
