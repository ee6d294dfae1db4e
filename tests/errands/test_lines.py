"""A command's line to the service: told meanwhile that it is alive, and never waiting for one that says nothing."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Mapping
from pathlib import Path

import pytest

from mystocks_ingest import control
from mystocks_ingest.control import Answer, Tell
from mystocks_ingest.errors import ConfigError


async def test_whoever_asks_is_told_at_once_that_the_service_is_alive_however_long_the_answer_takes(
    tmp_path: Path,
) -> None:
    go = asyncio.Event()

    async def answer(_: Mapping[str, object], tell: Tell) -> Answer:
        tell({"told": "fetched", "rows": 3})
        await go.wait()
        return Answer({"result": 7})

    serving = asyncio.create_task(control.serve(tmp_path, answer))
    async with asyncio.timeout(30):
        while not control.answers(tmp_path):  # noqa: ASYNC110 - it is the socket that is waited for
            await asyncio.sleep(0.01)
        incoming, out = await asyncio.open_unix_connection(tmp_path / control.FILE)
        out.write(b'{"do": "something"}\n')
        told = [json.loads(await incoming.readline()) for _ in range(2)]
        assert {"told": "alive"} in told
        go.set()
        while (line := json.loads(await incoming.readline())) == {"told": "alive"}:
            pass  # a machine may be so busy that it is told again
        assert line == {"result": 7}
        out.close()
        heard: list[Mapping[str, object]] = []

        def ask() -> dict[str, object]:
            line = control.connected(tmp_path)
            assert line is not None
            with line:
                return line.ask({"do": "something"}, heard.append)

        assert await asyncio.to_thread(ask) == {"result": 7}
        assert heard == [{"told": "fetched", "rows": 3}], "that it is alive is between the two of them"
    serving.cancel()
    await asyncio.wait({serving})
    assert not control.answers(tmp_path)


def test_a_service_that_hangs_is_said_to(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as hung:
        hung.bind(str(tmp_path / control.FILE))
        hung.listen()
        with pytest.raises(ConfigError, match=r"does not answer .*: look at its log, or restart it"):
            control.ask(tmp_path, {"do": "errand"}, seconds=0.2)
        assert control.answers(tmp_path), "it has the stores all the same"
