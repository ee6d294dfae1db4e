"""Kinds of single values in a table file: spans of time, times of day, lists on one line, places to be filled."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import time, timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

from mystocks_ingest.schema.document.values import VARIABLE

NAME = r"^[A-Za-z_][A-Za-z0-9_]{0,62}$"
DATABASE_NAME = r"^[A-Za-z0-9_]{1,63}$"
_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]+)")
_UNITS: Mapping[str, timedelta] = {
    "second": timedelta(seconds=1),
    "minute": timedelta(minutes=1),
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
    "week": timedelta(weeks=1),
    "month": timedelta(days=30),
    "year": timedelta(days=365),
}
_SHORT = {"s": "second", "sec": "second", "min": "minute", "m": "minute", "h": "hour", "d": "day", "w": "week"}
_SHORT |= {"mon": "month", "y": "year"}
_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_CRON = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
_CRON_PART = re.compile(r"^(?:\*|(\d+)(?:-(\d+))?)(?:/(\d+))?$")


def text(value: object) -> object:
    """What is left empty is the empty text; a number is its digits."""
    if value is None:
        return ""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _listed(value: object) -> object:
    """``a, b`` for ``[a, b]``."""
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


def span(value: object) -> timedelta:
    """``7 days``, ``90d``, ``INTERVAL '1 month'`` (30 days), or a number of days. Raises ValueError."""
    if isinstance(value, timedelta):
        return value
    written = re.sub(r"^interval\s*'(.*)'$", r"\1", str(value).strip(), flags=re.IGNORECASE)
    number = re.fullmatch(r"\d{1,9}(?:\.\d+)?", written)
    parts = [(written, "day")] if number else _SPAN.findall(written)
    lengths = [_UNITS.get(_SHORT.get(unit.lower(), unit.lower().removesuffix("s"))) for _, unit in parts]
    rest = "" if number else _SPAN.sub("", written).strip(" ,")
    try:
        total = sum((float(n) * u for (n, _), u in zip(parts, lengths, strict=True) if u is not None), timedelta())
    except OverflowError:
        total = timedelta()
    if rest or None in lengths or total <= timedelta():
        raise ValueError(f"{value!r} is no span of time: write a number of days, or '7 days', '1 month', '5 years'")
    return total


def _template(value: object) -> object:
    given = str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value
    if isinstance(given, str) and "${" in VARIABLE.sub("", given):
        raise ValueError("a place is written ${NAME} or ${NAME:default}")
    return given


def _plain(value: object) -> object:
    """A text, a number or a flag, or a list of these, which becomes a tuple."""
    if isinstance(value, list) and all(isinstance(v, str | int | float) for v in value):
        return tuple(value)
    if value is None or isinstance(value, str | int | float):
        return value
    raise ValueError("a text, a number, true or false, or a list of these must stand here")


def _clock(value: object) -> time:
    found = re.fullmatch(r"(\d{1,2}):(\d{2})(?::(\d{2}))?", str(value).strip())
    if found is None or int(found[1]) > 23 or int(found[2]) > 59 or int(found[3] or 0) > 59:
        raise ValueError(f"{value!r} is no time of day: write '01:00'")
    return time(int(found[1]), int(found[2]), int(found[3] or 0))


def _weekday(value: object) -> int:
    text = str(value).strip().lower()
    found = [i for i, day in enumerate(_DAYS) if len(text) >= 3 and day.startswith(text)]
    if not found:
        raise ValueError(f"{value!r} is no day of the week: write monday to sunday")
    return found[0]


def cron(text: str) -> str:
    fields = text.split()
    if len(fields) != 5:
        raise ValueError(f"{text!r} is no cron expression: it has five fields, minute hour day month weekday")
    for field, (least, most) in zip(fields, _CRON, strict=True):
        for part in field.split(","):
            found = _CRON_PART.match(part)
            numbers = [int(n) for n in found.groups()[:2] if n] if found is not None else []
            if found is None or any(not least <= n <= most for n in numbers) or found[3] == "0":
                raise ValueError(f"{part!r} in the cron expression {text!r} must be * or {least} to {most}")
    return text


SHORT: dict[str, Any] = {"type": "string", "minLength": 1}
_NAME_SCHEMA = WithJsonSchema({"type": "string", "pattern": NAME})
Name = Annotated[str, _NAME_SCHEMA]  # its letters are looked at in `checks`, so that all else is looked at as well
Text = Annotated[str, BeforeValidator(text), WithJsonSchema({"type": ["string", "number", "null"]})]
Names = Annotated[
    tuple[str, ...],
    BeforeValidator(_listed),
    WithJsonSchema({"oneOf": [SHORT, {"type": "array", "items": {"type": "string"}}]}),
]
Span = Annotated[
    timedelta,
    BeforeValidator(span),
    WithJsonSchema({"oneOf": [{"type": "integer", "minimum": 1}, {"type": "string", "pattern": r"\d"}]}),
]


Plain = Annotated[Any, BeforeValidator(_plain)]
Filled = Annotated[str, BeforeValidator(_template), WithJsonSchema({"type": ["string", "number"]})]
Clock = Annotated[time, BeforeValidator(_clock), WithJsonSchema({"type": "string"})]
Weekday = Annotated[int, BeforeValidator(_weekday), WithJsonSchema({"enum": list(_DAYS)})]
