"""What chat robots really answered: DingTalk, WeCom and Feishu say 200 also when they take no message.

A wrong token, a missing keyword or signature, too many messages: all that is in the body only (``errcode``, ``code``),
which apprise does not look at. So the answer is kept on its way to apprise, and read here.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

_CODES = ("errcode", "code", "StatusCode")  # DingTalk and WeCom; Feishu, and its older robots
_WORDS = ("errmsg", "msg", "StatusMessage")
_PLACING = threading.Lock()


class _Heard(threading.local):
    answers: list[str] | None = None


_heard = _Heard()


class _Listening:
    """requests, as far as a plug-in of apprise uses it; the texts of answers are kept for the thread that asked."""

    def __init__(self, real: ModuleType) -> None:
        self._real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def post(self, *words: Any, **options: Any) -> Any:
        answer = self._real.post(*words, **options)
        if _heard.answers is not None:
            _heard.answers.append(answer.text[:2000])
        return answer


@contextmanager
def answers_of(plugin: object) -> Iterator[list[str]]:
    """While inside, the bodies that a plug-in is answered with in this thread."""
    module = sys.modules[type(plugin).__module__]
    with _PLACING:
        real = getattr(module, "requests", None)
        if isinstance(real, ModuleType):
            module.requests = _Listening(real)  # type: ignore[attr-defined]
    found: list[str] = []
    _heard.answers = found
    try:
        yield found
    finally:
        _heard.answers = None


def refusal(body: str) -> str:
    """Why a robot did not take the message; empty where it did, or where the body says nothing."""
    try:
        said = json.loads(body)
    except ValueError:
        return ""
    if not isinstance(said, dict):
        return ""
    code = next((said[name] for name in _CODES if name in said), 0)
    if code in (0, "0", None):
        return ""
    return f"it refused the message: {next((said[n] for n in _WORDS if said.get(n)), '')} ({code})"
