"""Deliveries that come twice: the same key gets the first one's answer, and nothing is done again."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from mystocks_ingest.web.refusals import Refusal

_KEPT = 10_000


@dataclass
class Answer:
    """What was said to a delivery; ``body`` None while it is under way."""

    digest: bytes
    status: int = 0
    body: Mapping[str, object] | None = None


class Repeats:
    """The latest deliveries with a key, since the start of the service.

    After a restart a repeated delivery is carried out again; as rows are upserted by key, it changes nothing then.
    """

    def __init__(self) -> None:
        self._answers: OrderedDict[tuple[str, ...], Answer] = OrderedDict()

    @contextmanager
    def of(self, who: tuple[str, ...], key: str, content: bytes) -> Iterator[Answer]:
        """The answer given before, or an empty one to fill; left empty, it is forgotten.

        Raises Refusal where the key came with another content, or its delivery is under way.
        """
        if not key:
            yield Answer(b"")
            return
        digest = hashlib.blake2b(content, digest_size=16).digest()
        known = self._answers.get((*who, key))
        if known is not None:
            if known.digest != digest:
                raise Refusal(409, "this Idempotency-Key came before with another body; take a new key for new rows")
            if known.body is None:
                raise Refusal(409, "the delivery with this Idempotency-Key is under way; ask again later")
            yield known
            return
        answer = self._answers[(*who, key)] = Answer(digest)
        try:
            yield answer
        finally:
            if answer.body is None:
                self._answers.pop((*who, key), None)
            while len(self._answers) > _KEPT:
                self._answers.popitem(last=False)
