"""Streams read as a consumer group: what others add to Redis, entry by entry, until it is acknowledged.

No command is repeated here: an XREADGROUP whose answer was lost has handed its entries out, so whoever reads begins anew
with what is pending.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mystocks_ingest.errors import IngestError, Rejected, Unavailable
from mystocks_ingest.sinks.redis.database import RedisDatabase
from mystocks_ingest.sinks.redis.encoding import command, slot_of

NEW, PENDING = ">", "0"
_ACKNOWLEDGED_AT_ONCE = 1_000


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry. ``fields`` None: it was taken from the stream before it was acknowledged (XTRIM, XDEL)."""

    id: str
    fields: Mapping[bytes, bytes] | None

    @property
    def size(self) -> int:
        """Bytes of its fields."""
        return sum(len(k) + len(v) for k, v in (self.fields or {}).items())


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a group is in a stream. ``waiting`` entries were not read yet (-1: Redis cannot tell)."""

    waiting: int
    pending: int


class Streams:
    """The commands of one consumer of one group. Raises Unavailable, ConfigError, Rejected (Redis' own words).

    All streams lie on the server that holds ``tag``: in a cluster each name has it in braces.
    """

    def __init__(self, database: RedisDatabase, group: str, consumer: str, *, tag: str = "") -> None:
        self._database = database
        self._slot = slot_of(tag.encode())
        self._group = group
        self._consumer = consumer

    async def join(self, stream: str) -> None:
        """Make the stream and the group where they are missing; a new group begins with the stream's first entry."""
        try:
            await self._tell("XGROUP", "CREATE", stream, self._group, "0", "MKSTREAM")
        except IngestError as exc:
            if "BUSYGROUP" not in str(exc):  # it is there
                raise

    async def read(self, after: Mapping[str, str], *, count: int, block_ms: int) -> dict[str, list[Entry]]:
        """Up to ``count`` entries of each stream: ``NEW`` ones, or those that are ``PENDING`` with us.

        Waits at most ``block_ms`` for new ones, and not at all where pending ones were asked for too.
        """
        words: list[str | int] = ["XREADGROUP", "GROUP", self._group, self._consumer, "COUNT", count, "BLOCK", block_ms]
        found = await self._tell(*words, "STREAMS", *after, *after.values())
        pairs: Iterable[Any] = found.items() if isinstance(found, dict) else (found or ())
        return {
            stream.decode(): [Entry(_text(ident), _paired(fields)) for ident, fields in entries]
            for stream, entries in pairs
        }

    async def acknowledge(self, stream: str, ids: Sequence[str]) -> None:
        """These are durable here: nobody is to have them again."""
        for first in range(0, len(ids), _ACKNOWLEDGED_AT_ONCE):
            await self._tell("XACK", stream, self._group, *ids[first : first + _ACKNOWLEDGED_AT_ONCE])

    async def claim(self, stream: str, *, idle_ms: int, count: int) -> int:
        """Make pending with us what others read ``idle_ms`` ago and did not acknowledge; how many entries that are."""
        words = ("XAUTOCLAIM", stream, self._group, self._consumer, idle_ms, "0-0", "COUNT", count, "JUSTID")
        return len((await self._tell(*words))[1])

    async def progress(self, stream: str) -> Progress:
        """As this group stands. Raises Rejected where there is no such group."""
        for group in await self._groups(stream):
            if group["name"] == self._group:
                lag = group.get("lag")
                return Progress(-1 if lag is None else int(lag), int(group["pending"]))
        raise Rejected(f"NOGROUP {self._group} of {stream}")

    async def trim(self, stream: str) -> int:
        """Take out what every group of the stream has acknowledged; how many entries that were."""
        oldest: list[tuple[int, int]] = []
        for group in await self._groups(stream):
            needed = str(group["last-delivered-id"])
            if int(group["pending"]):
                needed = _text((await self._tell("XPENDING", stream, group["name"]))[1])
            oldest.append(_order(needed))
        if not oldest or min(oldest) == (0, 0):
            return 0
        return int(await self._tell("XTRIM", stream, "MINID", "=", "{}-{}".format(*min(oldest))))

    async def _groups(self, stream: str) -> list[dict[str, Any]]:
        found = []
        for group in await self._tell("XINFO", "GROUPS", stream):
            pairs = group.items() if isinstance(group, dict) else zip(group[::2], group[1::2], strict=True)
            found.append({_text(k): _text(v) if isinstance(v, bytes) else v for k, v in pairs})
        return found

    async def _tell(self, *words: str | int) -> Any:
        """One answer, asked for once."""
        server = self._database.holder(self._slot)
        async with server.borrowed() as exchange:
            await exchange.send([command(*words)], 1)
            (answer,) = await exchange.answers()
        if isinstance(answer, IngestError):
            raise answer
        if isinstance(answer, Exception):
            raise Unavailable(f"Redis at {server.where} is being changed: {answer}") from answer
        return answer


def _order(ident: str) -> tuple[int, int]:
    milliseconds, _, number = ident.partition("-")
    return int(milliseconds), int(number or 0)


def _text(value: bytes | str) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _paired(fields: Sequence[bytes] | None) -> dict[bytes, bytes] | None:
    """Of a field that stands twice the later value counts."""
    return None if fields is None else dict(zip(fields[::2], fields[1::2], strict=True))
