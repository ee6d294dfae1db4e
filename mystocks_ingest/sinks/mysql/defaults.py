"""Defaults by meaning, in one spelling whichever way the file, MySQL or MariaDB writes them. Pure.

The spelling is what a statement could say: ``0``, ``'x'``, ``b'1'``, ``current_timestamp(3)``, ``(uuid())``. An
expression stands in brackets, lower case outside its texts, with no spaces but between words.
"""

from __future__ import annotations

import re
from datetime import date, datetime
from decimal import Decimal, InvalidOperation

from mystocks_ingest.schema.tables import Default, Expression, Moment
from mystocks_ingest.sinks.mysql.ddl import literal, unquoted
from mystocks_ingest.sinks.mysql.types import Kind

_MOMENTS = frozenset({"datetime", "timestamp"})
_QUOTED = re.compile(
    r"((?:_(?:utf8mb[34]|utf8|latin1|binary))?'(?:[^'\\]|''|\\.)*'|`[^`]*`)", re.DOTALL | re.IGNORECASE
)
_NOW = r"(?:current_timestamp|now|localtime|localtimestamp)"
_LITERALS = re.compile(r"('(?:[^'\\]|\\.)*')", re.DOTALL)
_SAME = (  # words of one meaning, and the one that is kept
    (re.compile(rf"\b{_NOW}\b(?!\()"), "current_timestamp()"),
    (re.compile(rf"\b{_NOW}\("), "current_timestamp("),
    (re.compile(r"\b(?:current_date|curdate)\b(?:\(\))?"), "curdate()"),
    (re.compile(r"\b(?:current_time|curtime)\b(?:\(\))?"), "curtime()"),
    (re.compile(r"\b(?:gen_random_uuid|uuid_generate_v4)\(\)"), "uuid()"),
    (re.compile(r"\bcurrent_timestamp\(0\)"), "current_timestamp()"),
    (re.compile(r"\bucase\("), "upper("),
    (re.compile(r"\blcase\("), "lower("),
    (re.compile(r"\b(?:substr|mid)\("), "substring("),
)


def spelled(kind: str, default: Default) -> str | None:
    """The normal spelling of a default of a column of type ``kind``; None: there is none."""
    of = Kind.of(kind)
    match default:
        case None:
            return None
        case Moment.NOW:
            return _now(of)
        case Expression(sql=sql):
            return _expressed(of, kind, sql)
        case bool() as flag:
            return _value(of, str(int(flag)))
        case int() | float() as number:
            return _value(of, str(number))
        case str() as text:
            return _value(of, text)


def meant(kind: str, text: str | None) -> Default:
    """The way back of ``spelled``."""
    if text is None:
        return None
    of = Kind.of(kind)
    if text == _now(of):
        return Moment.NOW
    if text.startswith("("):
        return Expression(text[1:-1])
    if text.startswith("'"):
        return unquoted(text)
    if of.word == "tinyint" and of.numbers and text in ("0", "1"):
        return text == "1"
    if of.whole:
        return int(text)
    return float(text) if of.word in ("float", "double") else text


def _now(of: Kind) -> str:
    match of.word:
        case "datetime" | "timestamp":
            return f"current_timestamp({of.length})" if of.length else "current_timestamp"
        case "date":
            return "(curdate())"
        case "time":
            return "(curtime())"
        case _:
            return "(current_timestamp())"


def _value(of: Kind, text: str) -> str:
    """A value of the type. One that is none of it stays as it is: the server says so."""
    number = _number({"true": "1", "false": "0"}.get(text.lower(), text))
    try:
        match of.word:
            case "bit":
                return f"b'{int(text[2:-1], 2) if text.startswith(('b', 'B')) else int(number or 0):b}'"
            case "float" if number is not None:
                return f"{float(number):.6g}"
            case "double" if number is not None:
                return repr(float(number))
            case "decimal" if number is not None:
                return f"{number.quantize(Decimal(1).scaleb(-of.numbers[1])):f}"
            case "date":
                return literal(date.fromisoformat(text).isoformat())
            case "datetime" | "timestamp":
                moment = datetime.fromisoformat(text).replace(tzinfo=None)
                fraction = f".{moment.microsecond:06d}"[: of.length + 1] if of.length else ""
                return literal(f"{moment:%Y-%m-%d %H:%M:%S}{fraction}")
            case _ if (of.whole or of.word == "year") and number is not None and number == int(number):
                return str(int(number))
    except (ValueError, InvalidOperation, OverflowError):
        pass
    return literal(text)


def _number(text: str) -> Decimal | None:
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    return number + 0 if number.is_finite() else None  # no minus before nought


def _expressed(of: Kind, kind: str, sql: str) -> str | None:
    text = expression(sql)
    if text == "null":
        return None
    if _LITERALS.fullmatch(text):
        return spelled(kind, unquoted(text))
    if text in ("true", "false") or _number(text) is not None or (of.word == "bit" and text.startswith("b'")):
        return spelled(kind, text)
    if of.word in _MOMENTS and text == f"current_timestamp({of.length or ''})":
        return _now(of)
    return f"({text})"


def expression(sql: str) -> str:
    """An expression with one spelling for its texts, names, words and spaces, and no brackets around the whole."""
    runs: list[str] = [""]  # words and literals in turn
    for number, part in enumerate(_QUOTED.split(sql.strip())):
        if number % 2 == 0:
            runs[-1] += part.lower()
        elif part.startswith("`"):
            runs[-1] += part[1:-1].lower()
        else:
            runs += [literal(unquoted(part)), ""]
    text = "".join(run if number % 2 else _one_word(run) for number, run in enumerate(runs))
    while text.startswith("(") and _closing(text) == len(text) - 1:
        text = text[1:-1]
    return text


def _one_word(text: str) -> str:
    text = re.sub(r"\s+", " ", text)
    text = re.sub(r" (?![\w@$])|(?<![\w@$]) ", "", text)
    for pattern, word in _SAME:
        text = pattern.sub(word, text)
    return text


def _closing(text: str) -> int:
    """Where the bracket that opens ``text`` closes; brackets in texts do not count."""
    depth, at = 0, 0
    while at < len(text):
        if text[at] == "'":
            at += 1
            while text[at] != "'":
                at += 2 if text[at] == "\\" else 1
        depth += {"(": 1, ")": -1}.get(text[at], 0)
        if depth == 0:
            return at
        at += 1
    return -1
