"""A chat robot that answers 200 and takes no message is told apart from one that took it, by apprise's own plug-ins."""

from __future__ import annotations

import asyncio
import importlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from mystocks_ingest.errors import Unavailable
from mystocks_ingest.monitor.channels import AppriseChannel, Channel, Message, channels

TEXT = Message("title", "body", "warning")
TOKEN = "a1b2c3d4e5f67890abcdef0123456789"  # noqa: S105 - made up
ROBOTS = {
    "dingtalk": (f"dingtalk://{TOKEN}", "dingtalk", "NotifyDingTalk"),
    "wecom": (f"wecombot://{TOKEN}", "wecombot", "NotifyWeComBot"),
    "feishu": (f"feishu://{TOKEN}", "feishu", "NotifyFeishu"),
    "lark": (f"lark://{TOKEN}", "lark", "NotifyLark"),
}
TAKEN = {"errcode": 0, "errmsg": "ok"}
REFUSED = {"errcode": 310000, "errmsg": f"keywords not in content, token {TOKEN}"}
NOT_FOUND = {"code": 19001, "data": {}, "msg": "param invalid: incoming webhook access token invalid"}
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")  # one of apprise's


@asynccontextmanager
async def vendor(body: object, asked: list[str]) -> AsyncIterator[str]:
    """A server that answers every message with 200 and ``body``."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        size = next(int(x.split(":")[1]) for x in head.splitlines() if x.lower().startswith("content-length"))
        asked.append((await reader.readexactly(size)).decode())
        said = body if isinstance(body, bytes) else json.dumps(body).encode()
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(said)}\r\nConnection: close\r\n\r\n".encode() + said)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/{{token}}{{key}}"


def robot(kind: str, address: str, monkeypatch: pytest.MonkeyPatch) -> Channel:
    """The channel, whose vendor is at ``address``."""
    url, module, name = ROBOTS[kind]
    plugin = getattr(importlib.import_module(f"apprise.plugins.{module}"), name)
    monkeypatch.setattr(plugin, "notify_url", address.replace("{key}" if kind != "wecom" else "{token}", ""))
    monkeypatch.setattr(plugin, "request_rate_per_sec", 0)
    (channel,) = [c for c in channels(url, environment={}) if c.kind != "log"]
    return channel


@pytest.mark.parametrize("kind", ROBOTS)
async def test_a_robot_that_answers_200_and_refuses_the_message_did_not_take_it(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    said = REFUSED if kind in ("dingtalk", "wecom") else NOT_FOUND
    async with vendor(said, asked) as address:
        with pytest.raises(Unavailable) as met:
            await robot(kind, address, monkeypatch).send(TEXT)
    assert len(asked) == 1
    assert "it refused the message: " in str(met.value)
    assert ("keywords not in content" in str(met.value)) or ("access token invalid (19001)" in str(met.value))
    assert TOKEN not in str(met.value)


@pytest.mark.parametrize("kind", ROBOTS)
@pytest.mark.parametrize("body", [TAKEN, {"code": 0, "msg": "success"}, {"StatusCode": 0}, b"ok", b"[]"])
async def test_a_robot_that_takes_the_message_is_believed(
    kind: str, body: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    async with vendor(body, asked) as address:
        await robot(kind, address, monkeypatch).send(TEXT)
    assert len(asked) == 1


async def test_a_webhook_of_ones_own_may_answer_what_it_likes() -> None:
    asked: list[str] = []
    async with vendor({"code": 200, "msg": "stored"}, asked) as address:
        await AppriseChannel("webhook 1", "webhook", address.partition("{")[0].replace("http", "json")).send(TEXT)
    assert len(asked) == 1


async def test_why_there_is_no_connection_is_said() -> None:
    with pytest.raises(Unavailable, match=r"Connection refused"):
        await AppriseChannel("webhook 1", "webhook", "json://127.0.0.1:9/a-hidden-path").send(TEXT)
    with pytest.raises(Unavailable) as met:
        await AppriseChannel("webhook 1", "webhook", "json://127.0.0.1:9/a-hidden-path").send(TEXT)
    assert "a-hidden-path" not in str(met.value)
