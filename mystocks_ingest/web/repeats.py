"""Deliveries that come twice: the same key gets the first one's answer, and nothing is done again."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from mystocks_ingest.web.known import Remembered
from mystocks_ingest.web.refusals import Refusal, after


class Answers(Protocol):
    """Answers that were given, as ``known.Known`` keeps them."""

    async def answer(self, who: tuple[str, ...]) -> Remembered | None: ...
    async def remember(self, who: tuple[str, ...], answer: Remembered) -> None: ...


@dataclass
class Answer:
    """What was said to a delivery; ``body`` None while nothing was."""

    status: int = 0
    body: Mapping[str, object] | None = None


class Repeats:
    """Deliveries with a key: those answered before, by ``answers``, and those under way."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._under_way: dict[tuple[str, ...], bytes] = {}

    @asynccontextmanager
    async def of(self, who: tuple[str, ...], key: str, content: bytes) -> AsyncIterator[Answer]:
        """The answer given before, or an empty one to fill; filled, it is durable when the block is left.

        Raises Refusal where the key came with another content, or its delivery is under way.
        """
        if not key:
            yield Answer()
            return
        name = (*who, key)
        digest = hashlib.blake2b(content, digest_size=16).digest()
        if name in self._under_way:
            _same(self._under_way[name], digest)
            raise Refusal(409, "the delivery with this Idempotency-Key is under way; ask again later", headers=after(1))
        self._under_way[name] = digest
        try:
            known = await self._answers.answer(name)
            if known is not None:
                _same(known.digest, digest)
                yield Answer(known.status, known.body)
                return
            answer = Answer()
            yield answer
            if answer.body is not None:
                await self._answers.remember(name, Remembered(digest, answer.status, answer.body))
        finally:
            del self._under_way[name]


def _same(before: bytes, now: bytes) -> None:
    if before != now:
        raise Refusal(409, "this Idempotency-Key came before with another body; take a new key for new rows")


class Forgetful:
    """Answers of this process only."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, ...], Remembered] = {}

    async def answer(self, who: tuple[str, ...]) -> Remembered | None:
        return self._known.get(who)

    async def remember(self, who: tuple[str, ...], answer: Remembered) -> None:
        while len(self._known) >= 10_000:
            del self._known[next(iter(self._known))]
        self._known[who] = answer
