"""Structured logs with secrets removed, by key and by value, and the ids that tell which lines belong together."""

from __future__ import annotations

import io
import logging
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from datetime import date, time
from math import isfinite
from typing import Any, TextIO, cast
from urllib.parse import quote

import structlog

REDACTED = "***"
_NAMES = r"token|password|passwd|secret|api_?key|authorization|credential"
_SECRET_KEY = re.compile(_NAMES, re.IGNORECASE)
_SECRET_PAIR = re.compile(
    rf"""\b(\w*(?:{_NAMES})["']?\s*[=:]\s*)(?:"[^"]*"|'[^']*'|(?:bearer\s+|basic\s+)?[^\s"'&;,)}}\]]+)""", re.IGNORECASE
)
_BEARER = re.compile(r"\b(bearer|basic)\s+(?=\S*[\d.=_-])[\w.~+/=-]{8,}", re.IGNORECASE)
_LOGIN = re.compile(r"\b(\w+://[^/\s:@]*):[^/\s@]+@")  # of a URL; without \b a long word would take its length squared
_SIGNED = re.compile(r"""([?&](?:key|sign|signature|auth)=)[^\s"'&]+""", re.IGNORECASE)  # of an address
_PLAIN = (bool, int, float, type(None), date, time)
_DEEPEST = 6  # what is nested deeper is shown as text
_secrets: set[str] = set()


def hide(values: Iterable[str | None]) -> None:
    """Remember secret values; from now on no log line or error text shows them, nor as they stand in an address."""
    _secrets.update(spelt for v in values if v and len(v) >= 4 for spelt in (v, quote(v, safe="")))


def redact(text: str) -> str:
    """``text`` with every known secret, and every password inside a URL, replaced."""
    for secret in _secrets:
        text = text.replace(secret, REDACTED)
    return _LOGIN.sub(rf"\1:{REDACTED}@", text)


@contextmanager
def traced(**ids: str) -> Iterator[None]:
    """While inside, each log line of this task and of those it starts carries ``ids`` (request, job, run)."""
    with structlog.contextvars.bound_contextvars(**ids):
        yield


def trace(*names: str) -> str:
    """The id of the run, else of the request, that this task works for; empty where there is none.

    ``names``: only of these.
    """
    bound = structlog.contextvars.get_contextvars()
    return next((str(bound[name]) for name in names or ("run", "request") if bound.get(name)), "")


def _shown(value: object, depth: int = 0) -> object:
    """``value`` without secrets, whatever it is made of."""
    if isinstance(value, str):
        text = _SECRET_PAIR.sub(rf"\1{REDACTED}", redact(value))
        return _SIGNED.sub(rf"\1{REDACTED}", _BEARER.sub(rf"\1 {REDACTED}", text))
    if isinstance(value, float) and not isfinite(value):
        return str(value)  # JSON has no word for it
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, Mapping) and depth < _DEEPEST:
        return {
            name if isinstance(name, str) else _shown(_text(name)): _named(_text(name), inner, depth + 1)
            for name, inner in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset) and depth < _DEEPEST:
        return [_shown(inner, depth + 1) for inner in value]
    return _shown(_text(value))


def _text(value: object) -> str:
    try:
        return str(value)
    except Exception:  # noqa: BLE001 - a line of the log stops nobody's work
        return f"a {type(value).__name__} that cannot be shown"


def _named(name: str, value: object, depth: int) -> object:
    return REDACTED if _SECRET_KEY.search(name) and not isinstance(value, bool) else _shown(value, depth)


def _redact_event(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key, value in event.items():
        event[key] = _shown(value) if key == "event" else _named(key, value, 0)
    return event


class _Libraries(logging.Handler):
    """What libraries say by the standard library's logging, as events of ours: else it would stand there as it is."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = record.getMessage()
        except Exception:  # noqa: BLE001 - likewise
            text = str(record.msg)
        get(record.name).log(record.levelno, "library.said", text=text, exc_info=record.exc_info or None)


class _Lasting(io.TextIOBase):
    """A stream for log lines that outlives what it writes to.

    A line that cannot be written (the disk is full, the terminal or the reader of a pipe has gone) is left out: nobody
    ends for his log. How many those were is said by the first that can be written again.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._lost = 0

    def write(self, text: str) -> int:
        try:
            missing = (
                f"\n{self._lost} lines of this log may be missing: they could not be written\n" if self._lost else ""
            )
            self._out.write(missing + text)
        except (OSError, ValueError):  # ValueError: it was closed
            self._lost += text.count("\n")
        else:
            self._lost = 0
        return len(text)

    def flush(self) -> None:
        """A line's end flushes, where this is standard error."""


def configure(*, form: str = "console", level: str = "warning") -> None:
    """Send structlog events to stderr as ``console`` or ``json`` lines."""
    render: structlog.typing.Processor
    if form == "json":
        render = structlog.processors.JSONRenderer(ensure_ascii=False)
    else:
        render = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _redact_event,
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(cast("TextIO", _Lasting(sys.stderr))),
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    for handler in [h for h in root.handlers if isinstance(h, _Libraries)]:
        root.removeHandler(handler)
    root.addHandler(_Libraries(logging.WARNING))
    if form == "json":
        logging.captureWarnings(capture=True)


def get(name: str) -> structlog.typing.FilteringBoundLogger:
    """A logger whose events carry ``part=name``."""
    return structlog.get_logger(part=name)  # type: ignore[no-any-return]
