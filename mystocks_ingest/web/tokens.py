"""Who may use the API: tokens, of which only the SHA-256 is kept."""

from __future__ import annotations

import hashlib
import hmac
import re
from pathlib import Path

from mystocks_ingest.errors import ConfigError

_ENTRY = re.compile(r"^(?:(?P<name>[A-Za-z0-9_.-]{1,32}):)?(?P<hash>[0-9a-fA-F]{64})$")
_LONGEST = 512  # characters of a token that are looked at


class Tokens:
    """The tokens that are let in; ``hashes`` maps a token's name to the SHA-256 of its text."""

    def __init__(self, hashes: dict[str, bytes]) -> None:
        self._hashes = hashes

    def __bool__(self) -> bool:
        return bool(self._hashes)

    def owner(self, presented: str) -> str | None:
        """The name of the token, None for one that is not let in. Takes as long either way."""
        found = None
        digest = hashlib.sha256(presented[:_LONGEST].encode(errors="replace")).digest()
        for name, known in self._hashes.items():
            if hmac.compare_digest(digest, known):
                found = name
        return found


def read(written: str | None) -> Tokens:
    """The tokens of MYSTOCKS_HTTP_TOKENS: hashes with commas, or the path of a file with one a line.

    A hash may have a name before it, ``gateway:9f86...``. Raises ConfigError, which never shows what was written.
    """
    if not written:
        return Tokens({})
    entries = [entry.strip() for entry in written.split(",") if entry.strip()]
    if not all(_ENTRY.match(entry) for entry in entries) and len(entries) == 1:
        entries = _lines(Path(entries[0]))
    hashes: dict[str, bytes] = {}
    for number, entry in enumerate(entries, 1):
        match = _ENTRY.match(entry)
        if match is None:
            raise ConfigError(
                f"MYSTOCKS_HTTP_TOKENS: entry {number} is no SHA-256 of a token (64 hex digits, `name:` before it if "
                "wanted); never put the token itself there"
            )
        name = match["name"] or f"token-{number}"
        if name in hashes:
            raise ConfigError(f"MYSTOCKS_HTTP_TOKENS: the name of entry {number} stands twice")
        hashes[name] = bytes.fromhex(match["hash"])
    return Tokens(hashes)


def _lines(file: Path) -> list[str]:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, ValueError):
        raise ConfigError(
            "MYSTOCKS_HTTP_TOKENS is neither SHA-256 hashes (64 hex digits each, with commas) nor a file that can be read"
        ) from None
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return [line for line in lines if line]
