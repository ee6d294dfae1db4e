"""The sidecar: it tells real receivers on loopback, holds nobody up, and gives no address away."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from mystocks_ingest.errors import ConfigError, Unavailable
from mystocks_ingest.monitor import channels as channels_module
from mystocks_ingest.monitor import standings
from mystocks_ingest.monitor.alert_rules import Severity, rules
from mystocks_ingest.monitor.alerts import Alerts, Limits
from mystocks_ingest.monitor.channels import AppriseChannel, Channel, LogChannel, Message, channels
from mystocks_ingest.monitor.health import Health, Part
from mystocks_ingest.monitor.health import Kind as PartKind
from mystocks_ingest.monitor.outbox import Patience
from mystocks_ingest.monitor.questions import Question
from mystocks_ingest.schema.document.values import AlertRule, Template
from mystocks_ingest.schema.document.values import Channel as ChannelEntry

T0 = datetime(2026, 3, 2, 1, 30, tzinfo=UTC)
FAST = Limits(every_seconds=0.01, health_seconds=30.0, log_seconds=0.0, drain_seconds=20.0)
EAGER = Patience(shortest_rest=0.02, longest_rest=0.05)
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")  # one of apprise's
TOKEN = "qkzv7TokenOfTheHook"  # noqa: S105 - made up
PASSWORD = "pzx9PasswordOfMail"  # noqa: S105 - likewise


@dataclass
class Clock:
    at: datetime = T0

    def __call__(self) -> datetime:
        return self.at


@dataclass
class Patient:
    """Whose health is looked at."""

    parts: tuple[Part, ...] = ()
    error: Exception | None = None

    async def __call__(self) -> Health:
        if self.error is not None:
            raise self.error
        return Health(self.parts, "0", T0, T0)


def banned(*names: str) -> tuple[Part, ...]:
    return tuple(Part(name, PartKind.SOURCE, figures={"banned": 1.0}) for name in names)


@dataclass
class Hook:
    """A webhook's server: what it was sent, and the status it answers with; 0: it does not answer, until ``let_go``."""

    port: int = 0
    status: int = 200
    got: list[dict[str, str]] = field(default_factory=list)
    asked: int = 0
    let_go: asyncio.Event = field(default_factory=asyncio.Event)


@asynccontextmanager
async def hook(status: int = 200) -> AsyncIterator[Hook]:
    made = Hook(status=status)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        size = next(int(x.split(":")[1]) for x in head.splitlines() if x.lower().startswith("content-length"))
        body = await reader.readexactly(size)
        made.asked += 1
        if not made.status:
            await made.let_go.wait()
        else:
            if made.status == 200:
                made.got.append(json.loads(body))
            writer.write(f"HTTP/1.1 {made.status} X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    async with server:
        yield made


@asynccontextmanager
async def post() -> AsyncIterator[tuple[int, list[str]]]:
    """A mail server that speaks as much SMTP as a client needs, and the letters it took."""
    letters: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 loopback ESMTP\r\n")
        while line := (await reader.readline()).decode().strip():
            match line.split()[0].upper():
                case "EHLO":
                    writer.write(b"250-loopback\r\n250 AUTH PLAIN\r\n")
                case "AUTH":
                    writer.write(b"235 ok\r\n")
                case "DATA":
                    writer.write(b"354 go on\r\n")
                    letters.append((await reader.readuntil(b"\r\n.\r\n")).decode())
                    writer.write(b"250 taken\r\n")
                case "QUIT":
                    writer.write(b"221 bye\r\n")
                    break
                case _:
                    writer.write(b"250 ok\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], letters


async def until(true: Callable[[], bool], seconds: float = 30.0) -> None:
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110 - what is awaited has no event of its own
            await asyncio.sleep(0.01)


def of(addresses: str, *entries: ChannelEntry) -> list[Channel]:
    return channels(addresses, entries, environment={})


def sidecar(patient: Callable[[], Awaitable[Health]], to: Sequence[Channel], folder: Path, clock: Clock) -> Alerts:
    return Alerts(rules(())[0], patient, to, now=clock, folder=folder, limits=FAST, patience=EAGER)


async def test_a_webhook_and_a_mailbox_are_told_that_it_began_and_that_it_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("socket.getfqdn", lambda: "nas.localhost")  # smtplib would ask the network for our name
    clock, patient = Clock(), Patient(banned("akshare"))
    async with hook() as web, post() as (smtp, letters):
        addresses = (
            f"json://127.0.0.1:{web.port}/{TOKEN}, "
            f"mailto://user:{PASSWORD}@127.0.0.1:{smtp}?from=nas@example.com&to=me@example.com,you@example.com&mode=insecure"
        )
        async with sidecar(patient, of(addresses), tmp_path, clock) as alerts:
            await until(lambda: len(web.got) == 1 and len(letters) == 2)
            patient.parts = (Part("akshare", PartKind.SOURCE, figures={"banned": 0.0}),)
            looks = alerts.looks.made
            await until(lambda: alerts.looks.made > looks + 1)
            clock.at += timedelta(minutes=3)
            both = {"log": 2, "webhook 1": 2, "email 1": 2}  # counted when the server has said that it took the message
            await until(lambda: {name: count.sent for name, count in alerts.counts.items()} == both)
            assert (len(web.got), len(letters)) == (2, 4)
            assert alerts.firing == []
    assert [m["type"] for m in web.got] == ["warning", "success"]
    assert web.got[0]["title"] == "[mystocks] source_banned, source akshare"
    assert "RECOVERED source_banned: source akshare" in web.got[1]["message"]
    assert "source_banned" in letters[0]


async def test_what_fires_at_once_arrives_as_one_message_the_gravest_first_named(tmp_path: Path) -> None:
    async with hook() as web:
        patient = Patient(banned(*(f"source{n}" for n in range(20))))
        async with sidecar(patient, of(f"json://127.0.0.1:{web.port}/"), tmp_path, Clock()) as alerts:
            await until(lambda: alerts.counts["webhook 1"].sent == 20)
    assert [m["title"] for m in web.got] == ["[mystocks] 20 alerts"]
    assert len(web.got[0]["message"].splitlines()) == 20


async def test_a_channel_that_is_away_is_tried_again_and_counted_and_holds_up_no_other(tmp_path: Path) -> None:
    patient = Patient(banned("akshare"))
    async with hook(status=503) as web, hook() as other:
        addresses = f"json://127.0.0.1:{web.port}/{TOKEN} json://127.0.0.1:{other.port}/"
        with capture_logs() as logged:
            async with sidecar(patient, of(addresses), tmp_path, Clock()) as alerts:
                await until(lambda: len(other.got) == 1 and web.asked >= 3)
                count = alerts.counts["webhook 1"]
                assert (count.sent, count.failed >= 2, bool(count.away)) == (0, True, True)
                web.status = 200
                await until(lambda: len(web.got) == 1)
                await until(lambda: (told := alerts.counts["webhook 1"]).sent == 1 and told.away == "")
    events = [e["event"] for e in logged]
    assert (events.count("channel.away"), events.count("channel.back")) == (1, 1)
    assert TOKEN not in str(logged)


async def test_a_receiver_that_never_answers_delays_neither_the_looks_nor_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channels_module, "SEND_SECONDS", 0.2)
    loop = asyncio.get_running_loop()
    async with hook(status=0) as web:
        to = of(f"json://127.0.0.1:{web.port}/?rto=100")  # apprise itself would give it up after so many seconds
        alerts = sidecar(Patient(banned("akshare")), to, tmp_path, Clock())
        alerts._limits = replace(FAST, drain_seconds=0.3)
        async with alerts:
            await until(lambda: alerts.counts["webhook 1"].failed >= 2)
            looks = alerts.looks.made
            await until(lambda: alerts.looks.made > looks + 5)
            began = loop.time()
        assert loop.time() - began < 30
        memory = standings.read(tmp_path / standings.FILE)
        assert [n.subject for n in memory.waiting["webhook 1"]] == ["source akshare"]
        assert memory.measured == {"source_banned"}
        assert web.asked == 1  # no second thread while the first hangs
        thread = to[1]._busy  # type: ignore[attr-defined]
        assert thread.is_alive()
        web.let_go.set()
    await until(lambda: not thread.is_alive())


@dataclass
class Slow:
    """A channel that is away until it is told otherwise."""

    name: str = "slow 1"
    kind: str = "slow"
    least: Severity = "info"
    away: bool = True
    got: list[Message] = field(default_factory=list)

    async def send(self, message: Message) -> None:
        if self.away:
            raise Unavailable("slow 1: not now")
        self.got.append(message)


async def test_the_queue_is_bounded_the_oldest_give_way_and_are_counted(tmp_path: Path) -> None:
    slow, clock, patient = Slow(), Clock(), Patient()
    alerts = Alerts(
        rules(())[0], patient, [slow], now=clock, folder=tmp_path, limits=FAST, patience=replace(EAGER, most=10)
    )
    async with alerts:
        for n in range(25):
            patient.parts = banned(*(f"s{i:02}" for i in range(n + 1)))
            looks = alerts.looks.made
            await until(lambda looks=looks: alerts.looks.made > looks + 1)  # type: ignore[misc]
        assert alerts.counts["slow 1"].dropped == 15
        slow.away = False
        await until(lambda: bool(slow.got))
    assert sum(m.body.count("source_banned") for m in slow.got) == 10
    assert "source s24" in slow.got[0].body


async def test_news_that_is_a_day_old_is_not_sent_any_more(tmp_path: Path) -> None:
    slow, clock = Slow(), Clock()
    async with sidecar(Patient(banned("akshare")), [slow], tmp_path, clock) as alerts:
        await until(lambda: alerts.counts["slow 1"].failed >= 1)
        alerts._ending.set()  # no further look: no reminder
        clock.at += timedelta(hours=25)
        await until(lambda: alerts.counts["slow 1"].dropped == 1)
    assert slow.got == []


async def test_a_restart_repeats_nothing_sends_what_waited_and_tells_what_ended_meanwhile(tmp_path: Path) -> None:
    clock, slow = Clock(), Slow()
    async with sidecar(Patient(banned("akshare")), [slow], tmp_path, clock) as alerts:
        alerts._limits = replace(FAST, drain_seconds=0.05)
        await until(lambda: alerts.counts["slow 1"].failed >= 1)
    slow.away = False
    async with sidecar(Patient(banned("akshare")), [slow], tmp_path, clock) as alerts:
        await until(lambda: alerts.looks.made >= 3 and len(slow.got) >= 1)
        assert [s.subject for s in alerts.firing] == ["source akshare"]
    assert len(slow.got) == 1
    clock.at += timedelta(minutes=1)
    async with sidecar(Patient(), [slow], tmp_path, clock) as alerts:
        await until(lambda: alerts.looks.made >= 2)
        clock.at += timedelta(minutes=3)
        await until(lambda: len(slow.got) == 2)
    assert slow.got[1].over


@pytest.mark.parametrize("content", ["", "{", "[]", '{"at": "x"}', '{"at": "2026-01-01T00:00", "standings": [{}]}'])
async def test_a_torn_memory_is_said_and_begun_anew(tmp_path: Path, content: str) -> None:
    (tmp_path / standings.FILE).write_text(content)
    slow = Slow(away=False)
    with capture_logs() as logged:
        async with sidecar(Patient(banned("akshare")), [slow], tmp_path, Clock()):
            await until(lambda: bool(slow.got))
    assert "memory.unreadable" in [e["event"] for e in logged]


async def test_health_that_cannot_be_had_changes_no_alert_and_is_logged_once(tmp_path: Path) -> None:
    patient, slow = Patient(banned("akshare")), Slow(away=False)
    with capture_logs() as logged:
        async with sidecar(patient, [slow], tmp_path, Clock()) as alerts:
            await until(lambda: bool(slow.got))
            patient.error = RuntimeError("no health today")
            await until(lambda: alerts.looks.failed >= 5)
            assert alerts.looks.error == "no health today"
            assert [s.subject for s in alerts.firing] == ["source akshare"]
            patient.error = None
            await until(lambda: alerts.looks.error == "")
    assert [e["event"] for e in logged].count("health.unseen") == 1
    assert len(slow.got) == 1


class Log:
    """A monitor log that has one failed creation, or is away."""

    away = False

    async def ask(
        self, question: Question, *, since: datetime | None = None, limit: int = 100
    ) -> Sequence[Mapping[str, object]]:
        if self.away:
            raise Unavailable("the log is away")
        values = ("ticks", "TDengine", "market_data", T0, "failed", "no vnodes left")
        return [dict(zip(question.columns, values, strict=True))]


async def test_a_failed_creation_in_the_monitor_log_is_told_and_stays_while_the_log_is_away(tmp_path: Path) -> None:
    slow, journal = Slow(away=False), Log()
    alerts = Alerts(
        rules(())[0], Patient(), [slow], now=Clock(), folder=tmp_path, monitor_log=journal, limits=FAST, patience=EAGER
    )
    async with alerts:
        await until(lambda: bool(slow.got))
        journal.away = True
        looks = alerts.looks.made
        await until(lambda: alerts.looks.made > looks + 3)
        assert [s.rule for s in alerts.firing] == ["table_creation_failure"]
    assert "no vnodes left" in slow.got[0].body


async def test_an_action_of_the_file_names_the_channel_and_a_level_keeps_the_rest_away(tmp_path: Path) -> None:
    mail, slack, grave = Slow("email 1", "email", away=False), Slow("slack 1", "slack", away=False), Slow(least="error")
    entries = (
        AlertRule("source_banned", 1, "count", "send_email_alert"),
        AlertRule("disk_usage", 80, "percent", "log"),
        AlertRule("calendar_ending", 30, "days", "send_disk_alert"),
    )
    patient = Patient(
        (
            *banned("akshare"),
            Part("calendar", PartKind.CALENDAR, figures={"days_left": 3.0}),
            Part("state", PartKind.DISK, figures={"used_percent": 99.0}),
        )
    )
    in_force = [replace(r, hold=timedelta(0)) for r in rules(entries)[0]]
    alerts = Alerts(
        in_force, patient, [LogChannel(), mail, slack, grave], now=Clock(), folder=tmp_path, limits=FAST, patience=EAGER
    )
    with capture_logs() as logged:
        async with alerts:
            await until(lambda: alerts.looks.made >= 3 and len(mail.got) == len(slack.got) == 1)
            await until(lambda: alerts.counts["log"].sent == 3)
    assert sorted(line.split(":")[0] for line in mail.got[0].body.splitlines()) == [
        "WARNING calendar_ending", "WARNING source_banned",
    ]  # fmt: skip
    assert [line.split(":")[0] for line in slack.got[0].body.splitlines()] == ["WARNING calendar_ending"]
    assert alerts.counts["slow 1"].failed == 0
    assert "WARNING disk_usage" in next(e["text"] for e in logged if e["event"] == "alert.told")


def test_addresses_become_channels_whose_every_showing_gives_nothing_away() -> None:
    robot = "0123456789abcdef" * 4
    found = of(
        f"mailtos://u:{PASSWORD}@example.com?to=a@example.com,b@example.com;slack://T1JJ3T3L2/A1BRTD4JD/{TOKEN}/#x\n"
        f"https://oapi.dingtalk.com/robot/send?access_token={robot} feishu://{TOKEN}, wecombot://{TOKEN} "
        f"https://open.feishu.cn/open-apis/bot/v2/hook/{TOKEN} https://example.com/{TOKEN}?a=b http://127.0.0.1:1/x",
        ChannelEntry("webhook", level="error", url=Template("https://example.org/${KEY:abc}", secret=True)),
        ChannelEntry("email", ("me@example.com",)),
    )
    assert [c.name for c in found] == [
        "log", "email 1", "slack 1", "dingtalk 1", "feishu 1", "wecom 1", "feishu 2", "webhook 1", "webhook 2",
        "webhook 3",
    ]  # fmt: skip
    assert [c.least for c in found][-1] == "error"
    addresses = [c.address for c in found if isinstance(c, AppriseChannel)]
    assert addresses[2] == f"dingtalk://{robot}"
    assert addresses[-3:] == [f"jsons://example.com/{TOKEN}?a=b", "json://127.0.0.1:1/x", "jsons://example.org/abc"]
    assert TOKEN not in repr(found)
    assert PASSWORD not in repr(found)


def test_every_kind_of_address_that_the_operations_page_names_is_one_that_apprise_takes() -> None:
    import apprise  # noqa: PLC0415

    robot = "0123456789abcdef" * 4
    found = of(
        "mailtos://user:password@example.com?to=me@example.com slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/ "
        "https://hooks.slack.com/services/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ "
        f"dingtalk://{robot} https://oapi.dingtalk.com/robot/send?access_token={robot} "
        "wecombot://12345678-1234-1234-1234-123456789012 "
        "https://qyapi.weixin.qq.com/cgi-bin/webhook/send?key=12345678-1234-1234-1234-123456789012 "
        "feishu://12345678-1234-1234-1234-123456789012 "
        "https://open.feishu.cn/open-apis/bot/v2/hook/12345678-1234-1234-1234-123456789012 "
        "https://example.com/hook"
    )
    for channel in found[1:]:
        assert isinstance(channel, AppriseChannel)
        assert apprise.Apprise.instantiate(channel.address), channel.name
    assert {c.kind for c in found} == {"log", "email", "slack", "dingtalk", "wecom", "feishu", "webhook"}


async def test_an_address_that_apprise_cannot_use_is_said_without_it_and_stops_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="MYSTOCKS_ALERT_URLS: address 2 has no scheme"):
        of(f"json://127.0.0.1/ {TOKEN}")
    found = of(f"slak://{TOKEN}")
    with pytest.raises(ConfigError, match="the address of slak 1 is not one") as caught:
        await found[1].send(Message("t", "b", "info"))
    assert TOKEN not in str(caught.value)
    async with sidecar(Patient(banned("akshare")), found, tmp_path, Clock()) as alerts:
        await until(lambda: alerts.counts["log"].sent == 1 and alerts.counts["slak 1"].unusable)
        assert alerts.counts["slak 1"].dropped == 1


async def test_why_a_message_did_not_arrive_is_said_without_the_address(capfd: pytest.CaptureFixture[str]) -> None:
    async with hook(status=403) as web:
        port = web.port
        (_, channel) = of(f"json://user:{PASSWORD}@127.0.0.1:{port}/{TOKEN}?+X-Key={TOKEN}")
        with pytest.raises(Unavailable) as caught:
            await channel.send(Message("t", "b", "info"))
    with pytest.raises(Unavailable) as gone:
        await channel.send(Message("t", "b", "info"))
    assert str(caught.value).startswith("webhook 1: ")
    said = f"{caught.value} {gone.value} {capfd.readouterr()}"
    assert TOKEN not in said
    assert PASSWORD not in said
