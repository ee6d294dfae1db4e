"""A column's type as the file writes it, ``decimal(10, 4)`` or ``int unsigned``, in the plain words of ``types``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from mystocks_ingest.schema.tables import Database
from mystocks_ingest.schema.types import SERIALS, SIZED, UNSIGNED, WORDS, Family

_SHAPE = re.compile(r"^(?P<word>[A-Za-z0-9_ ]+)(?:\((?P<inside>.*)\)(?P<after>[A-Za-z ]*))?$", re.DOTALL)
_NUMBERS = re.compile(r"^\s*(\d+)\s*(?:,\s*(\d+)\s*)?$")
_VALUE = re.compile(r"'((?:[^']|'')*)'|\"((?:[^\"]|\"\")*)\"|([^,'\"]+)")
_OTHER_WORDS: Mapping[str, str] = {
    "CHARACTER VARYING": "VARCHAR",
    "VARCHAR2": "VARCHAR",
    "STRING": "TEXT",
    "CHARACTER": "CHAR",
    "INT1": "TINYINT",
    "INT2": "SMALLINT",
    "INT4": "INTEGER",
    "INT8": "BIGINT",
    "SIGNED": "INTEGER",
    "DEC": "DECIMAL",
    "NUMBER": "NUMERIC",
    "TIMESTAMP WITH TIME ZONE": "TIMESTAMPTZ",
    "TIMESTAMP WITHOUT TIME ZONE": "TIMESTAMP",
    "DATETIME2": "DATETIME",
    "SERIAL2": "SMALLSERIAL",
    "SERIAL4": "SERIAL",
    "SERIAL8": "BIGSERIAL",
}
_TIMED = frozenset({"TIMESTAMP", "TIMESTAMPTZ", "DATETIME"})
_LENGTHENED = SIZED | _TIMED | {"TEXT", "BLOB"}
"""Words that take a number in brackets, or under ``length``: characters, bytes, or digits after the second."""


@dataclass(frozen=True, slots=True)
class Spelled:
    """What a type says. ``trouble`` is empty, or why it says nothing; then ``word`` is not in ``WORDS``."""

    word: str
    length: int | None = None
    precision: int | None = None
    scale: int | None = None
    values: tuple[str, ...] = ()
    numbered: bool = False
    trouble: str = ""


def spelled(text: str, database: Database) -> Spelled:
    """``text`` in plain words. A display width, as in ``INT(11)``, says nothing and is left out."""
    found = _SHAPE.match(text.strip())
    if found is None:
        return Spelled(text, trouble=_unknown(text, text))
    word = " ".join(f"{found['word']} {found['after'] or ''}".upper().split())
    word = _OTHER_WORDS.get(word, word)
    if word.endswith(" SIGNED"):
        word = word.removesuffix(" SIGNED")
    inside = found["inside"]
    if word in SERIALS:
        return _serial(word, database, inside)
    if word not in WORDS:
        return Spelled(word, trouble=_unknown(text.strip(), word))
    if word == "ENUM":
        return _enum(word, inside)
    if inside is None:
        return Spelled(word)
    numbers = _NUMBERS.match(inside)
    if numbers is None:
        return Spelled("", trouble=f"{text.strip()}: in the brackets of {word} stands a number")
    first, second = int(numbers[1]), int(numbers[2]) if numbers[2] is not None else None
    return _sized(word, first, second, database)


def _unknown(text: str, word: str) -> str:
    near = get_close_matches(word.split("(", maxsplit=1)[0].strip(), [*WORDS, *_OTHER_WORDS], n=1, cutoff=0.7)
    return f"unknown type {text!r}{f', is {near[0]} meant?' if near else ''}"


def _serial(word: str, database: Database, inside: str | None) -> Spelled:
    if inside is not None:
        return Spelled("", trouble=f"{word} takes no length")
    if database in (Database.MYSQL, Database.MARIADB):  # there SERIAL is short for this, and the others are unknown
        return Spelled("BIGINT UNSIGNED" if word == "SERIAL" else SERIALS[word], numbered=True)
    return Spelled(SERIALS[word], numbered=True)


def _enum(word: str, inside: str | None) -> Spelled:
    if inside is None:
        return Spelled(word)
    values = tuple(
        (found[1] or "").replace("''", "'") if found[1] is not None else (found[2] or found[3] or "").strip()
        for found in _VALUE.finditer(inside)
        if found[1] is not None or found[2] is not None or found[3].strip()
    )
    return Spelled(word, values=values)


def _sized(word: str, first: int, second: int | None, database: Database) -> Spelled:
    family = WORDS[word]
    if family is Family.DECIMAL:
        return Spelled(word, precision=first, scale=second)
    if second is not None:
        remedy = f"use DECIMAL({first}, {second})" if family is Family.REAL else "one number at most"
        return Spelled("", trouble=f"{word} takes no ({first}, {second}): {remedy}")
    if family is Family.INTEGER:
        mysql = database in (Database.MYSQL, Database.MARIADB)
        return Spelled("BOOLEAN" if word == "TINYINT" and first == 1 and mysql else word)
    if word == "FLOAT":  # SQL's FLOAT(p): up to 24 binary digits are four bytes
        return Spelled("REAL" if first <= 24 else "DOUBLE")
    if word in _LENGTHENED:
        return Spelled(word, length=first)
    return Spelled("", trouble=f"{word} takes no length")


def takes_length(word: str) -> bool:
    """Whether ``length`` may stand beside the word."""
    return word in _LENGTHENED


def is_timed(word: str) -> bool:
    """Whether the word's length is the digits after the second."""
    return word in _TIMED


def unsigned(word: str) -> str | None:
    """The word for the same whole number from 0 on, where there is one."""
    return word if word in UNSIGNED else next((w for w in UNSIGNED if w == f"{word} UNSIGNED"), None)
