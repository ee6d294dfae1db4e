"""Rows that follow a command's answer: what fails amid them is told to the command and ends nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path

import pytest

from mystocks_ingest import control
from mystocks_ingest.control import Answer, Tell
from mystocks_ingest.errors import ConfigError, IngestError, Unavailable


async def _listening(folder: Path) -> None:
    async with asyncio.timeout(30):
        while not await asyncio.to_thread(control.answers, folder):  # noqa: ASYNC110 - it is the socket that is waited for
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("failing", "raised", "sentence"),
    [
        (Unavailable("postgresql refuses connections"), IngestError, "postgresql refuses connections"),
        (ConfigError("no factors are stored"), ConfigError, "no factors are stored"),
        (ZeroDivisionError("by nothing"), IngestError, "unexpected ZeroDivisionError: by nothing; its traceback"),
    ],
)
async def test_what_fails_amid_the_rows_is_said_to_the_command_and_the_service_goes_on(
    tmp_path: Path, failing: Exception, raised: type[IngestError], sentence: str
) -> None:
    async def rows() -> AsyncGenerator[bytes, None]:
        yield b"one"
        raise failing

    async def answer(_: Mapping[str, object], __: Tell) -> Answer:
        return Answer({"rows": "follow"}, rows())

    def ask() -> None:
        line = control.connected(tmp_path)
        assert line is not None
        with line:
            assert line.ask({"do": "read"}) == {"rows": "follow"}
            assert line.block() == b"one"
            with pytest.raises(raised) as caught:
                line.block()
            assert str(caught.value).startswith(sentence)
            assert isinstance(caught.value, ConfigError) == (raised is ConfigError)

    serving = asyncio.create_task(control.serve(tmp_path, answer))
    await _listening(tmp_path)
    for _ in range(2):
        await asyncio.to_thread(ask)
    assert not serving.done()
    serving.cancel()
    await asyncio.wait({serving})


async def test_whoever_takes_no_rows_for_long_gives_its_database_connection_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "_TAKEN_SECONDS", 0.2)
    closed = asyncio.Event()

    async def rows() -> AsyncGenerator[bytes, None]:
        try:
            while True:
                yield bytes(1024 * 1024)
        finally:
            closed.set()

    async def answer(_: Mapping[str, object], __: Tell) -> Answer:
        return Answer({"rows": "follow"}, rows())

    serving = asyncio.create_task(control.serve(tmp_path, answer))
    await _listening(tmp_path)
    _, out = await asyncio.open_unix_connection(tmp_path / control.FILE, limit=1024)
    out.write(b'{"do": "read"}\n')
    async with asyncio.timeout(30):
        await closed.wait()
    out.close()
    assert not serving.done()
    serving.cancel()
    await asyncio.wait({serving})
