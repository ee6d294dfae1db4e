"""Where alerts go: the log, always, and the addresses of ``MYSTOCKS_ALERT_URLS`` and the table file, through apprise.

An address is a secret, for it holds passwords and tokens: it is shown nowhere, a channel is called by its kind and
number (``slack 1``). Apprise is imported when the first message is sent. It blocks, so each message has a thread of its
own that may be left behind: a server that answers one byte a minute must hold up neither the loop nor the end.
"""

from __future__ import annotations

import asyncio
import logging
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import parse_qsl, unquote, urlsplit

from mystocks_ingest.errors import ConfigError, Unavailable
from mystocks_ingest.logs import REDACTED, get, hide, redact
from mystocks_ingest.monitor.alert_rules import SEVERITIES, Severity
from mystocks_ingest.monitor.robots import answers_of, refusal
from mystocks_ingest.schema.document.values import Channel as ChannelEntry

log = get("alerts")

SEND_SECONDS = 30.0
_LOADING = threading.Lock()
_KINDS = {
    "mailto": "email", "mailtos": "email", "slack": "slack", "dingtalk": "dingtalk", "wecombot": "wecom",
    "wechat": "wecom", "feishu": "feishu", "lark": "feishu",
    **dict.fromkeys(("json", "jsons", "xml", "xmls", "form", "forms"), "webhook"),
}  # fmt: skip
_VENDORS = {"hooks.slack.com": "slack", "qyapi.weixin.qq.com": "wecom"}  # apprise knows these as they are
_ADDRESS = re.compile(r"^[a-z][a-z0-9+.-]*://\S+$", re.IGNORECASE)
_APART = re.compile(r"[\s;]+|,\s*(?=[A-Za-z][A-Za-z0-9+.-]*://)")  # a comma may also stand inside an address
_ROBOTS = frozenset({"dingtalk", "wecom", "feishu"})
_CAUSE = re.compile(r"\[Errno -?\d+\] [\w ,-]+|[\w ]*timed out|certificate verify failed[\w :,-]*")
_TYPES = {"info": "info", "warning": "warning", "error": "failure", "critical": "failure"}


@dataclass(frozen=True, slots=True)
class Message:
    """What one channel is sent at once. ``over``: it tells of recoveries only."""

    title: str
    body: str
    severity: Severity
    over: bool = False


class Channel(Protocol):
    """One way to people. ``send`` raises Unavailable when it did not arrive, ConfigError when it never can."""

    @property
    def name(self) -> str: ...

    @property
    def kind(self) -> str: ...

    @property
    def least(self) -> Severity:
        """What is less severe is not sent here."""
        ...

    async def send(self, message: Message) -> None: ...


LOG = "log"


@dataclass(frozen=True, slots=True)
class LogChannel:
    """The log of the service itself."""

    name: str = LOG
    kind: str = LOG
    least: Severity = "info"

    async def send(self, message: Message) -> None:
        level = "info" if message.over else message.severity
        log.log(logging.getLevelNamesMapping()[level.upper()], "alert.told", title=message.title, text=message.body)


@dataclass
class AppriseChannel:
    """One address. ``repr`` shows its name only."""

    name: str
    kind: str
    address: str = field(repr=False)
    least: Severity = "info"
    _busy: threading.Thread | None = field(default=None, init=False, repr=False)

    async def send(self, message: Message) -> None:
        if self._busy is not None and self._busy.is_alive():
            raise Unavailable(f"{self.name}: the last message is still under way")
        try:
            async with asyncio.timeout(SEND_SECONDS):
                said = await self._in_thread(lambda: self._sent(message))
        except TimeoutError:
            raise Unavailable(f"{self.name} did not answer within {SEND_SECONDS:.0f} s") from None
        if said:
            raise Unavailable(f"{self.name}: {said}")

    def _sent(self, message: Message) -> str:
        """Why it did not arrive; nothing when it did. Runs in a thread."""
        import apprise  # noqa: PLC0415 - 0.2 s, and only who sends alerts needs it

        with _overheard() as said:
            with _LOADING:  # it finds its plug-ins at the first address
                plugin = apprise.Apprise.instantiate(self.address, suppress_exceptions=True)
            if not plugin:
                raise ConfigError(
                    f"alerts: the address of {self.name} is not one that apprise can use; see its list of services, "
                    "https://appriseit.com/services/"
                )
            kind = apprise.NotifyType("success" if message.over else _TYPES[message.severity])
            with answers_of(plugin) as answers:
                arrived = plugin.notify(title=message.title, body=message.body, notify_type=kind)
        if arrived and self.kind in _ROBOTS:
            return self._clean("; ".join(filter(None, map(refusal, answers))))
        return "" if arrived else self._clean("; ".join(said)) or "it was not taken"

    def _clean(self, text: str) -> str:
        for secret in sorted(secrets_of(self.address), key=len, reverse=True):
            text = text.replace(secret, REDACTED)
        return redact(" ".join(text.split()))[:300]

    async def _in_thread(self, work: Callable[[], str]) -> str:
        """As ``asyncio.to_thread`` does, but the end of the process does not wait for the thread."""
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[str] = loop.create_future()

        def tell(said: str, error: Exception | None) -> None:
            if ended.done():
                return
            if error is None:
                ended.set_result(said)
            else:
                ended.set_exception(error)

        def run() -> None:
            said, error = "", None
            try:
                said = work()
            except ConfigError as exc:
                error = exc
            except Exception as exc:  # noqa: BLE001 - whatever a plug-in raises, the message did not arrive
                said = self._clean(f"{type(exc).__name__}: {exc}")
            with suppress(RuntimeError):  # the loop has ended meanwhile, and nobody waits
                loop.call_soon_threadsafe(tell, said, error)

        self._busy = threading.Thread(target=run, name=f"alerts-{self.name}", daemon=True)
        self._busy.start()
        return await ended


@contextmanager
def _overheard() -> Iterator[list[str]]:
    """What apprise says of this thread's message, kept out of the terminal: its words may hold parts of an address."""
    said: list[str] = []
    me = threading.get_ident()

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.thread != me:
                return
            if record.levelno >= logging.WARNING:
                said.append(record.getMessage())
            elif "xception" in record.getMessage():  # why there is no connection; the rest may hold the address
                said.extend(_CAUSE.findall(record.getMessage())[-1:])

    ear, voice = Ear(logging.DEBUG), logging.getLogger("apprise")
    voice.setLevel(logging.DEBUG)
    voice.propagate = False
    voice.addHandler(ear)
    try:
        yield said
    finally:
        voice.removeHandler(ear)


def secrets_of(address: str) -> set[str]:
    """Whatever in the address could be a password or a token: all of it but the scheme, in every spelling."""
    parts = urlsplit(address)
    found = {address, parts.netloc, parts.path, parts.query, parts.hostname or "", parts.netloc.rpartition("@")[2]}
    found |= {
        parts.username or "",
        parts.password or "",
        *parts.path.split("/"),
        *(v for _, v in parse_qsl(parts.query)),
    }
    return {spelt for text in found for spelt in (text, unquote(text)) if len(spelt) >= 4}


def channels(addresses: str, entries: Sequence[ChannelEntry] = (), *, environment: Mapping[str, str]) -> list[Channel]:
    """The log, the addresses of the setting, and the channels of the table file that have a url. Raises ConfigError."""
    given: list[tuple[str, Severity]] = []
    for number, text in enumerate((t for t in _APART.split(addresses.strip()) if t), 1):
        if not _ADDRESS.match(text):
            raise ConfigError(
                f"MYSTOCKS_ALERT_URLS: address {number} has no scheme; write it as apprise does, such as "
                "mailtos://user:password@example.com or slack://..., several apart by spaces"
            )
        given.append((text, "info"))
    for entry in entries:
        address = entry.url.resolved(environment) if entry.url is not None else None
        if address and _ADDRESS.match(address):
            given.append((address, _least(entry.level)))
        elif entry.kind.lower() != "log":
            log.warning(
                "channel.unusable", kind=entry.kind, reason="no url, or a variable in it is not set",
                remedy="set MYSTOCKS_ALERT_URLS",
            )  # fmt: skip
    count: Counter[str] = Counter()
    found: list[Channel] = [LogChannel()]
    for address, least in given:
        kind, usable = _read(address)
        count[kind] += 1
        hide(
            [address, usable, urlsplit(address).password, *(t for t in re.split(r"[/?=&@:]", address) if len(t) >= 16)]
        )
        found.append(AppriseChannel(f"{kind} {count[kind]}", kind, usable, least))
    return found


def _least(level: str) -> Severity:
    return next((s for s in SEVERITIES if s == level.lower()), "info")


def _read(address: str) -> tuple[str, str]:
    """The kind of an address, and the address as apprise wants it; robots' web addresses may be given as they are."""
    parts = urlsplit(address)
    scheme, host = parts.scheme.lower(), parts.hostname or ""
    if scheme not in ("http", "https"):
        return _KINDS.get(scheme, scheme), address
    if host in _VENDORS:
        return _VENDORS[host], address
    last = parts.path.rstrip("/").rpartition("/")[2]
    if host == "oapi.dingtalk.com":
        return "dingtalk", f"dingtalk://{dict(parse_qsl(parts.query)).get('access_token', '')}"
    if host == "open.feishu.cn":
        return "feishu", f"feishu://{last}"
    if host == "open.larksuite.com":
        return "feishu", f"lark://{last}"
    return "webhook", address.replace("http", "json", 1)
