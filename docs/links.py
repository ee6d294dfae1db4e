"""Finds dead links in the project's Markdown: files, headings, and paths named in code spans.

Run by ``make check``. Addresses of other sites are not followed: nothing here leaves the machine.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)
_PATH = re.compile(r"`((?:docs|config|deploy|tests|bench|mystocks_ingest)/[\w./-]*)`")


def pages() -> list[Path]:
    """The project's Markdown files."""
    folders = (ROOT.glob("*.md"), (ROOT / "docs").rglob("*.md"), (ROOT / "deploy").rglob("*.md"))
    return sorted(page for folder in folders for page in folder)


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives to the headings of ``text``."""
    found: set[str] = set()
    for heading in _HEADING.findall(_FENCE.sub("", text)):
        kept = re.sub(r"[^\w\- ]", "", heading.lower())
        found.add(kept.replace(" ", "-"))
    return found


def dead(page: Path) -> Iterator[str]:
    """One sentence per dead link of ``page``."""
    text = page.read_text(encoding="utf-8")
    where = page.relative_to(ROOT)
    prose = _FENCE.sub("", text)
    for target in _LINK.findall(prose):
        if re.match(r"\w+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        if not file.exists():
            yield f"{where}: {target} is not there"
        elif anchor and anchor not in anchors(file.read_text(encoding="utf-8")):
            yield f"{where}: {target} has no such heading"
    for path in _PATH.findall(prose):
        if not (ROOT / path).exists():
            yield f"{where}: names {path}, which is not there"


def main() -> int:
    found = [sentence for page in pages() for sentence in dead(page)]
    for sentence in found:
        print(sentence, file=sys.stderr)  # noqa: T201 - a command prints
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
