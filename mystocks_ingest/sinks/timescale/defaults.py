"""Defaults in one spelling, so that what a file means and what the catalogue shows compare: pure text.

The catalogue writes ``'x'::character varying`` for 'x', ``'-1'::integer`` for -1, ``CURRENT_TIMESTAMP`` or ``now()``.
The normal spelling is the constant alone, by the column's type, and ``now()`` for every word for this moment; any other
expression keeps its words, with the casts and brackets taken away that PostgreSQL adds.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from typing import assert_never

from mystocks_ingest.schema.tables import Default, Expression, Moment
from mystocks_ingest.sinks.timescale.spelling import literal, parted

NOW = "now()"

_CAST = r"(?:::(?:\"[^\"]+\"|[a-z_][a-z0-9_. ]*)(?:\([\d,]+\))?(?:\[\])?)*"
_TEXT = re.compile(rf"\(?'((?:[^']|'')*)'\)?{_CAST}", re.DOTALL)
_PLAIN = re.compile(rf"\(?(-?[\d.]+(?:e[-+]?\d+)?|true|false)\)?{_CAST}", re.IGNORECASE)
_NULL = re.compile(rf"null{_CAST}", re.IGNORECASE)
_MOMENT = re.compile(
    r"(now\(\)|current_timestamp|localtimestamp|transaction_timestamp\(\)|\('now'::text\))(\(\d\))?(::timestamp.*)?",
    re.IGNORECASE,
)


def spelled(default: Default, kind: str) -> str | None:
    """The file's default for a column of PostgreSQL's type ``kind``, in the normal spelling."""
    match default:
        case None:
            return None
        case Moment.NOW:
            return NOW
        case Expression(sql=sql):
            return normal(sql, kind)
        case bool():
            return _constant(str(default).lower(), kind)
        case int() | float() | str():
            return _constant(str(default), kind)
        case _:
            assert_never(default)


def normal(expression: str | None, kind: str) -> str | None:
    """What the catalogue shows as the default of a column of type ``kind``, in the normal spelling."""
    if expression is None or _NULL.fullmatch(expression):
        return None
    if _MOMENT.fullmatch(expression) or (kind == "date" and expression.lower() == "current_date"):
        return NOW
    if found := _TEXT.fullmatch(expression):
        return _constant(found[1].replace("''", "'"), kind)
    if found := _PLAIN.fullmatch(expression):
        return _constant(found[1].lower(), kind)
    return _rewritten(expression)


def meant(default: str | None) -> Default:
    """What a default in the normal spelling says in a file."""
    if default is None:
        return None
    if default == NOW:
        return Moment.NOW
    if found := _TEXT.fullmatch(default):
        return found[1].replace("''", "'")
    if default in ("true", "false"):
        return default == "true"
    if _PLAIN.fullmatch(default):
        return int(default) if re.fullmatch(r"-?\d+", default) else float(default)
    return Expression(default)


# constants ---------------------------------------------------------------------------------------------------------


def _number(text: str) -> str:
    number = Decimal({"true": "1", "false": "0"}.get(text.lower(), text))
    return f"{number.normalize() + 0:f}" if number.is_finite() else literal(text)


def _truth(text: str) -> str:
    said = text.lower()
    if said in ("t", "true", "y", "yes", "on", "1"):
        return "true"
    return "false" if said in ("f", "false", "n", "no", "off", "0") else literal(text)


def _moment(text: str) -> str:
    return literal(str(datetime.fromisoformat(text).replace(tzinfo=None)))


def _zoned(text: str) -> str:
    """Without a zone it is UTC, which every session of this program speaks."""
    at = datetime.fromisoformat(text)
    return literal(f"{(at.astimezone(UTC) if at.tzinfo else at).replace(tzinfo=None)}+00")


def _json(text: str) -> str:
    return literal(json.dumps(json.loads(text), ensure_ascii=False, sort_keys=True))


def _bytes(text: str) -> str:
    return literal(text.lower() if text.startswith("\\x") else "\\x" + text.encode().hex())


_CONSTANTS: Mapping[str, Callable[[str], str]] = {
    **dict.fromkeys(("smallint", "integer", "bigint", "numeric", "real", "double precision"), _number),
    "boolean": _truth,
    "date": lambda text: literal(str(date.fromisoformat(text))),
    "timestamp without time zone": _moment,
    "timestamp with time zone": _zoned,
    "json": _json,
    "jsonb": _json,
    "bytea": _bytes,
    "uuid": lambda text: literal(text.lower()),
}


def _constant(text: str, kind: str) -> str:
    spell = _CONSTANTS.get(parted(kind)[0], literal)
    try:
        return spell(text)
    except (ValueError, InvalidOperation):  # no such value: the server will say so
        return literal(text)


# expressions -------------------------------------------------------------------------------------------------------

_TOKEN = re.compile(r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|::|[\w$]+(?:\.\d+)?|[-+*/<>=~!@#%^&|?]+|[^\s]""")
_ADDED = frozenset({"text", "bpchar", "regclass", "unknown"})  # casts PostgreSQL puts beside a string by itself


def _rewritten(expression: str) -> str:
    """The expression's words in lower case, evenly spaced, without what PostgreSQL adds."""
    words = [w if w[0] in "'\"" else w.lower() for w in _TOKEN.findall(expression)]
    kept: list[str] = []
    at = 0
    while at < len(words):
        if words[at] == "::" and kept[-1:] and kept[-1][0] == "'":
            if words[at + 1 : at + 3] == ["character", "varying"]:
                at += 3
                continue
            if words[at + 1] in _ADDED:
                at += 2
                continue
        if words[at] == "interval" and words[at + 1 : at + 2] and words[at + 1][0] == "'":
            kept += [words[at + 1], "::", "interval"]
            at += 2
            continue
        kept.append(words[at])
        at += 1
    while kept[:1] == ["("] and _closes(kept) == len(kept) - 1:
        kept = kept[1:-1]
    return _joined(kept)


def _closes(words: list[str]) -> int:
    """Where the first bracket is closed."""
    depth = 0
    for at, word in enumerate(words):
        depth += (word == "(") - (word == ")")
        if depth == 0:
            return at
    return -1


def _joined(words: list[str]) -> str:
    text = ""
    for before, word in zip(["(", *words], words, strict=False):
        tight = before in ("(", "::", ".", "[") or word in (")", ",", "::", ".", "[", "]")
        call = word == "(" and re.fullmatch(r"[\w$]+", before) is not None
        text += word if tight or call else f" {word}"
    return text
