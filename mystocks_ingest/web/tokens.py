"""Who may use the API: tokens, of which only the SHA-256 is kept."""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from pathlib import Path

from mystocks_ingest.errors import ConfigError
from mystocks_ingest.logs import get
from mystocks_ingest.settings import stamp_of

log = get("http")

_ENTRY = re.compile(r"^(?:(?P<name>[A-Za-z0-9_.-]{1,32}):)?(?P<hash>[0-9a-fA-F]{64})$")
_LONGEST = 512  # characters of a token that are looked at
_LOOK_SECONDS = 1.0


class Tokens:
    """The tokens that are let in; ``hashes`` maps a token's name to the SHA-256 of its text.

    Those of a ``file`` are read again when it changes: a token that is taken out is not let in any more.
    """

    def __init__(self, hashes: dict[str, bytes], file: Path | None = None) -> None:
        self._hashes = hashes
        self._file = file
        self._seen = stamp_of(file) if file is not None else None
        self._looked = time.monotonic()

    def __bool__(self) -> bool:
        self._look()
        return bool(self._hashes)

    def owner(self, presented: str) -> str | None:
        """The name of the token, None for one that is not let in. Takes as long either way."""
        self._look()
        found = None
        digest = hashlib.sha256(presented[:_LONGEST].encode(errors="replace")).digest()
        for name, known in self._hashes.items():
            if hmac.compare_digest(digest, known):
                found = name
        return found

    def _look(self) -> None:
        """Take over a changed file, within a second. One that cannot be used is said, and the tokens stay as they were."""
        if self._file is None or time.monotonic() < self._looked + _LOOK_SECONDS:
            return
        self._looked = time.monotonic()
        before, self._seen = self._seen, stamp_of(self._file)
        if self._seen == before:
            return
        try:
            self._hashes = _hashes(_lines(self._file))
        except ConfigError as exc:
            log.warning("tokens.refused", reason=str(exc))
        else:
            log.warning("tokens.reloaded", tokens=len(self._hashes))


def read(written: str | None) -> Tokens:
    """The tokens of MYSTOCKS_HTTP_TOKENS: hashes with commas, or the path of a file with one a line.

    A hash may have a name before it, ``gateway:9f86...``. Raises ConfigError, which never shows what was written.
    """
    if not written:
        return Tokens({})
    entries = [entry.strip() for entry in written.split(",") if entry.strip()]
    if not all(_ENTRY.match(entry) for entry in entries) and len(entries) == 1:
        file = Path(entries[0])
        return Tokens(_hashes(_lines(file)), file)
    return Tokens(_hashes(entries))


def _hashes(entries: list[str]) -> dict[str, bytes]:
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
    return hashes


def _lines(file: Path) -> list[str]:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, ValueError):
        raise ConfigError(
            "MYSTOCKS_HTTP_TOKENS is neither SHA-256 hashes (64 hex digits each, with commas) nor a file that can be read"
        ) from None
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return [line for line in lines if line]
