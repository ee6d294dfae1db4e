"""What a default means, however the file writes it: ``False``, ``'0'``, ``NOW()``, ``'ACTIVE'`` with or without quotes."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal, InvalidOperation

from mystocks_ingest.schema.tables import Default, Expression, Moment
from mystocks_ingest.schema.types import WORDS, Family, whole_range

_NOW_WORDS = r"(?:CURRENT_TIMESTAMP|LOCALTIMESTAMP|LOCALTIME|NOW|SYSDATE|GETDATE|TRANSACTION_TIMESTAMP)"
_NOW = re.compile(rf"^\(?{_NOW_WORDS}\s*(?:\(\s*\d*\s*\))?\)?$", re.IGNORECASE)
_TODAY = re.compile(r"^\(?(?:CURRENT_DATE|CURDATE|TODAY)\s*(?:\(\s*\))?\)?$", re.IGNORECASE)
_UPDATED = re.compile(r"^(.*?)\s*\bON\s+UPDATE\s+(.+)$", re.IGNORECASE | re.DOTALL)
_CALL = re.compile(r"^[A-Za-z_][A-Za-z0-9_.]*\s*\(.*\)$", re.DOTALL)
_CAST = re.compile(r"^(.*)::\s*[A-Za-z_][A-Za-z0-9_ ]*(?:\([\d, ]*\))?(?:\[\])?$", re.DOTALL)
_QUOTED = re.compile(r"^[EeNn]?'((?:[^']|'')*)'$", re.DOTALL)
_DOUBLE_QUOTED = re.compile(r'^"((?:[^"]|"")*)"$', re.DOTALL)
_TRUE, _FALSE = (
    frozenset({"true", "t", "yes", "y", "on", "1", "b'1'"}),
    frozenset({"false", "f", "no", "n", "off", "0", "b'0'"}),
)
TODAY = Expression("CURRENT_DATE")


class Unfit(ValueError):
    """The default cannot be one of its column; the text says why and what to write."""


@dataclass(frozen=True, slots=True)
class Meaning:
    """``touched``: the value is also set to the time of each update."""

    default: Default = None
    touched: bool = False


def meaning(raw: object, word: str, *, length: int | None = None, values: tuple[str, ...] = ()) -> Meaning:
    """``raw`` as YAML gives it, for a column of type ``word``. Raises Unfit.

    ``{sql: ...}`` is an expression as it stands. A bare word is text on a column of text; a call, ``name(...)``, is
    an expression everywhere, unless it stands in quotes.
    """
    if raw is None:
        return Meaning()
    if isinstance(raw, dict) and set(raw) == {"sql"}:
        return Meaning(Expression(str(raw["sql"]).strip()))
    family = WORDS[word]
    if isinstance(raw, str):
        return _written(raw, word, family, length, values)
    if isinstance(raw, list | dict):
        if family is not Family.JSON:
            raise Unfit(f"a default of {word} is one value, or `{{sql: ...}}` for an expression")
        return Meaning(json.dumps(raw, ensure_ascii=False))
    return Meaning(_value(raw, word, family, length, values))


def _written(raw: str, word: str, family: Family, length: int | None, values: tuple[str, ...]) -> Meaning:
    text = raw.strip()
    bare = _uncast(text)
    quoted = _unquoted(bare, family)
    if quoted is not None:
        return Meaning(_value(quoted, word, family, length, values))
    if found := _UPDATED.match(text):
        if family is not Family.MOMENT or not _NOW.match(found[2].strip()):
            raise Unfit(f"ON UPDATE sets a time column to CURRENT_TIMESTAMP and nothing else, not {raw!r} on {word}")
        before = found[1].strip()
        start = _written(before, word, family, length, values).default if before else None
        return Meaning(start, touched=True)
    if text.upper() == "NULL":
        return Meaning()
    if family is Family.MOMENT and (_NOW.match(text) or _TODAY.match(text)):
        return Meaning(TODAY if _TODAY.match(text) else Moment.NOW)
    if family is Family.DAY and (_NOW.match(text) or _TODAY.match(text)):
        return Meaning(TODAY)
    if _CALL.match(text):
        return Meaning(Expression(text))
    plain = raw if family is Family.TEXT else bare
    return Meaning(_value(plain, word, family, length, values))


def _uncast(text: str) -> str:
    """Without PostgreSQL's ``::type``."""
    while (found := _CAST.match(text)) and not _QUOTED.match(text):
        text = found[1].strip()
    return text[1:-1].strip() if text.startswith("('") and text.endswith("')") else text


def _unquoted(text: str, family: Family) -> str | None:
    """What stands between the quotes; None for a text that has none around it. In JSON double quotes are a part of it."""
    if found := _QUOTED.match(text):
        return found[1].replace("''", "'")
    if family is not Family.JSON and (found := _DOUBLE_QUOTED.match(text)):
        return found[1].replace('""', '"')
    return None


def _value(raw: object, word: str, family: Family, length: int | None, values: tuple[str, ...]) -> Default:
    match family:
        case Family.TEXT:
            return _text(raw, word, length, values)
        case Family.BYTES:
            return str(raw)
        case Family.BOOLEAN:
            return _flag(raw, word)
        case Family.INTEGER:
            return _whole(raw, word)
        case Family.REAL | Family.DECIMAL:
            return _number(raw, word)
        case Family.DAY | Family.MOMENT:
            return _time(raw, word)
        case Family.JSON:
            return _json(raw, word)


def _text(raw: object, word: str, length: int | None, values: tuple[str, ...]) -> str:
    text = str(raw).lower() if isinstance(raw, bool) else str(raw)
    if word == "ENUM" and values and text not in values:
        raise Unfit(f"default {text!r} is none of the values of the ENUM: {', '.join(values)}")
    if length is not None and word not in ("TEXT", "UUID") and len(text) > length:
        raise Unfit(f"default {text!r} is longer than {word}({length})")
    return text


def _flag(raw: object, word: str) -> bool:
    text = str(raw).strip().lower()
    if text in _TRUE or text == "1.0":
        return True
    if text in _FALSE or text == "0.0":
        return False
    raise Unfit(f"default {raw!r} is no {word}: write true or false")


def _whole(raw: object, word: str) -> int:
    if isinstance(raw, bool):
        return int(raw)
    try:
        number = Decimal(str(raw).strip())
    except InvalidOperation:
        if str(raw).strip().lower() in ("true", "false"):
            return int(str(raw).strip().lower() == "true")
        raise Unfit(f"default {raw!r} is no whole number, which {word} needs") from None
    if not number.is_finite() or number != number.to_integral_value():
        raise Unfit(f"default {raw!r} is no whole number, which {word} needs")
    least, greatest = whole_range(word)
    if not least <= number <= greatest:
        raise Unfit(f"default {raw!r} does not fit into {word}, which holds {least} to {greatest}")
    return int(number)


def _number(raw: object, word: str) -> int | float | str:
    """An int or a float where that is exact, else the decimal digits."""
    if isinstance(raw, bool):
        return int(raw)
    try:
        number = Decimal(str(raw).strip())
    except InvalidOperation:
        raise Unfit(f"default {raw!r} is no number, which {word} needs") from None
    if not number.is_finite() or abs(number.adjusted()) > 400:
        raise Unfit(f"default {raw!r} is no number that {word} could hold")
    if number == number.to_integral_value() and abs(number) < 2**63:
        return int(number)
    return float(number) if Decimal(repr(float(number))) == number else format(number.normalize(), "f")


def _time(raw: object, word: str) -> str:
    text = str(raw).strip()
    try:
        found = datetime.fromisoformat(text) if word != "DATE" else date.fromisoformat(text)
    except ValueError:
        how = "YYYY-MM-DD, CURRENT_DATE" if word == "DATE" else "YYYY-MM-DD HH:MM:SS, CURRENT_TIMESTAMP"
        raise Unfit(f"default {text!r} is no time that {word} could hold: write {how}, or {{sql: ...}}") from None
    return found.isoformat(" ") if isinstance(found, datetime) else found.isoformat()


def _json(raw: object, word: str) -> str:
    text = raw if isinstance(raw, str) else json.dumps(raw)
    try:
        json.loads(text)
    except ValueError:
        raise Unfit(f"default {text!r} is not JSON, which {word} needs") from None
    return text


def written(default: Default, word: str) -> object:
    """The default as the file would say it, so that ``meaning`` gives it back."""
    match default:
        case Moment.NOW:
            return "CURRENT_TIMESTAMP"
        case Expression(sql):
            return "CURRENT_DATE" if default == TODAY and WORDS[word] in (Family.DAY, Family.MOMENT) else {"sql": sql}
        case str() as text if WORDS[word] in (Family.TEXT, Family.BYTES, Family.JSON):
            return text if _reads_back(text, word) else "'" + text.replace("'", "''") + "'"
        case value:
            return value


def _reads_back(text: str, word: str) -> bool:
    try:
        return meaning(text, word) == Meaning(text)
    except Unfit:
        return False
