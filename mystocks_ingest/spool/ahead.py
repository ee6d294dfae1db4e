"""SQLite's write-ahead log after an end that nobody chose.

What stands behind a damaged frame of the log SQLite leaves out without a word, though it was acknowledged; so does it
where the log is gone. Here the first is made good as far as it goes, and both are said. The format is SQLite's own
("WAL-mode file format"): a head of 32 bytes, then frames of 24 bytes and a page, each with a sum over all before it.
"""

from __future__ import annotations

import struct
from pathlib import Path

_MAGIC = 0x377F0682  # sums of little-endian words; the other one has its last bit set
_HEAD, _FRAME = struct.Struct(">8I"), struct.Struct(">6I")
_USER_VERSION = 60  # its place in the database's first page
OPEN = 1
"""PRAGMA user_version while somebody has the file open."""


def made_good(path: Path) -> str:
    """Look at the log of the database ``path`` before it is opened; a sentence where something was found.

    The caller holds the state directory: nobody else has the file open.
    """
    wal = path.with_name(path.name + "-wal")
    size = wal.stat().st_size if wal.exists() else 0
    if not size:
        return "the log of its last changes is gone, and with it perhaps rows put before" if _was_open(path) else ""
    content = wal.read_bytes()
    page_bytes = _page_bytes(path) if len(content) >= _HEAD.size else 0
    frames = _frames(content, page_bytes) if page_bytes else []
    salts = _salts(content, frames)
    ours = [f for f in frames if _FRAME.unpack_from(f)[2:4] == salts]
    last = max((i for i, f in enumerate(ours) if _FRAME.unpack_from(f)[1]), default=-1)
    sound = _sound(content, frames)
    if last < 0 or (sound > last and ours[: last + 1] == frames[: last + 1]):
        return ""
    wal.with_name(f"{wal.name}-damaged").write_bytes(content)
    wal.write_bytes(_chained(content, salts, page_bytes, ours[: last + 1]))
    return f"the log of its last changes was damaged after {sound} of {len(frames)} pages; what could be read was kept"


def _database_head(path: Path) -> bytes:
    """The first bytes of the database; none where it is missing or no such file."""
    if not path.exists():
        return b""
    with path.open("rb") as file:
        head = file.read(100)
    return head if head.startswith(b"SQLite format 3") else b""


def _was_open(path: Path) -> bool:
    return _database_head(path)[_USER_VERSION : _USER_VERSION + 4] == struct.pack(">I", OPEN)


def _page_bytes(path: Path) -> int:
    head = _database_head(path)
    size = int.from_bytes(head[16:18], "big") if head else 4096
    return 65_536 if size == 1 else size


def _frames(content: bytes, page_bytes: int) -> list[bytes]:
    step = _FRAME.size + page_bytes
    return [content[at : at + step] for at in range(_HEAD.size, len(content) - step + 1, step)]


def _log_head(content: bytes) -> tuple[int, ...]:
    return _HEAD.unpack_from(content) if len(content) >= _HEAD.size else (0,) * 8


def _is_log(head: tuple[int, ...]) -> bool:
    return head[0] | 1 == _MAGIC | 1


def _salts(content: bytes, frames: list[bytes]) -> tuple[int, int]:
    """Of the head; where that is none, those of the first frame."""
    head = _log_head(content)
    if _is_log(head) or not frames:
        return head[4], head[5]
    return _FRAME.unpack_from(frames[0])[2:4]


def _sound(content: bytes, frames: list[bytes]) -> int:
    """How many frames bear their sums, from the first on: those that SQLite reads."""
    head = _log_head(content)
    order = ">" if head[0] & 1 else "<"
    if not _is_log(head) or _sum(content[:24], (0, 0), order) != head[6:8]:
        return 0
    sums: tuple[int, int] = (head[6], head[7])
    for number, frame in enumerate(frames):
        sums = _sum(frame[24:], _sum(frame[:8], sums, order), order)
        if _FRAME.unpack_from(frame)[2:] != (head[4], head[5], *sums):
            return number
    return len(frames)


def _chained(content: bytes, salts: tuple[int, int], page_bytes: int, frames: list[bytes]) -> bytes:
    """A log of these frames whose sums are right."""
    count = _HEAD.unpack_from(content)[3]
    bare = struct.pack(">6I", _MAGIC, 3_007_000, page_bytes, count, *salts)
    sums = _sum(bare, (0, 0), "<")
    out = [bare, struct.pack(">2I", *sums)]
    for frame in frames:
        sums = _sum(frame[24:], _sum(frame[:8], sums, "<"), "<")
        out += [frame[:8], struct.pack(">4I", *salts, *sums), frame[24:]]
    return b"".join(out)


def _sum(data: bytes, sums: tuple[int, int], order: str) -> tuple[int, int]:
    first, second = sums
    words = struct.unpack(f"{order}{len(data) // 4}I", data)
    for odd, even in zip(words[::2], words[1::2], strict=True):
        first = (first + odd + second) & 0xFFFFFFFF
        second = (second + even + first) & 0xFFFFFFFF
    return first, second
