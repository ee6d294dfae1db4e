"""Whose data a job wants: the name of a universe, or a file with one symbol a line."""

from __future__ import annotations

from pathlib import Path

from mystocks_ingest.errors import ConfigError
from mystocks_ingest.flow.reference import UNIVERSES
from mystocks_ingest.market.frames import Symbol
from mystocks_ingest.market.symbols import parse


def members(universe: str, *, folder: Path = Path()) -> tuple[tuple[Symbol, ...] | None, str]:
    """The symbols of a file, or None and the name of a universe. A relative file lies in ``folder``.

    Raises ConfigError for an unknown name, a file that is not there, and with file and line for an unreadable symbol.
    """
    file = folder / universe
    if file.is_file():
        return symbols_in(file), "all"
    if "/" in universe or file.suffix:
        raise ConfigError(f"no such file for --universe: {universe}; it should hold one symbol a line")
    if universe not in UNIVERSES:
        known = ", ".join(UNIVERSES)
        raise ConfigError(f"unknown universe {universe!r}; known: {known}, or a file with one symbol a line")
    return None, universe


def symbols_in(file: Path) -> tuple[Symbol, ...]:
    """One symbol a line; what follows a comma, a blank or # on the line is left out. Raises ConfigError."""
    found: dict[Symbol, None] = {}
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"{file} cannot be read: it should be UTF-8 text with one symbol a line") from exc
    for number, line in enumerate(text.splitlines(), 1):
        word = (line.partition("#")[0].replace(",", " ").split() or [""])[0]
        if not word:
            continue
        try:
            found[parse(word)] = None
        except ConfigError as exc:
            raise ConfigError(f"{file}, line {number}: {exc}") from exc
    if not found:
        raise ConfigError(f"{file} holds no symbol; write one a line")
    return tuple(found)
