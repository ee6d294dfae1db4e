"""Files: a user's own archive of vendors' exports, as a source like any other.

The folder is scanned once (``archive.py``); each file is recognised by its columns (``layouts.py``) and read a batch
at a time (``tables.py``). Adjusted prices are passed on whole, so that the checks refuse them with their reason.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from datetime import date, datetime, timedelta
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from mystocks_ingest.errors import ConfigError, Malformed, Unsupported
from mystocks_ingest.market import symbols
from mystocks_ingest.market.datasets import SUSPENSION
from mystocks_ingest.market.frames import Frame, Request
from mystocks_ingest.market.layout import Layout, where, within
from mystocks_ingest.ports import Offer, Rate
from mystocks_ingest.settings import Settings
from mystocks_ingest.sources.files import layouts as own
from mystocks_ingest.sources.files.archive import Entry, Part, frames_of, scan, ways
from mystocks_ingest.sources.files.tables import Unreadable, batches

__all__ = ["Files", "open_files"]

_AT_ONCE = 10_000  # symbols of a request: each file is then opened once
_SLACK = timedelta(days=15)  # the longest closure: an archive that ends so close to the window covers it
_VENDORS = ("akshare", "tushare", "baostock")  # where files overlap the later one's row stays: the fullest rows last


class Files:
    """The archive. A request costs one call per file that may hold rows of it; nothing is paced."""

    name = "files"
    family = "files"
    rates: Sequence[Rate] = ()
    concurrency = 1

    def __init__(self, root: Path, *, layouts: Sequence[Layout], index: Path, clock: Callable[[], datetime]) -> None:
        self._root = root
        self._layouts = (*layouts, *own.LAYOUTS)
        self._index = index
        self._clock = clock

    @cached_property
    def entries(self) -> list[Entry]:
        """The scanned files. Raises ConfigError when there is no such folder."""
        return scan(self._root, self._layouts, index=self._index, now=self._clock())

    @property
    def problems(self) -> list[tuple[Path, str]]:
        """Files that give no rows, and why."""
        return [(self._root / e.path, e.problem) for e in self.entries if e.problem]

    @cached_property
    def offers(self) -> Mapping[str, Offer]:
        """What the archive really holds."""
        held: dict[str, list[Part]] = {}
        for entry in self.entries:
            for part in entry.parts:
                held.setdefault(part.dataset, []).append(part)
                if part.dataset == "bar_1d" and part.layout.startswith("baostock"):
                    held.setdefault(SUSPENSION.name, []).append(part)
        return {name: _offer(parts) for name, parts in held.items()}

    async def fetch(self, request: Request) -> AsyncIterator[Frame]:
        """As Source.fetch. After the rows there are, Unsupported says for which symbols the archive ends too early."""
        chosen = self._chosen(request)
        if not chosen:
            raise Unsupported(f"the archive has no {request}")
        frames = self._frames(request, chosen)
        while (frame := await asyncio.to_thread(next, frames, None)) is not None:
            if len(frame):
                yield frame
        short = self._short(request, chosen)
        if short:
            shown = ", ".join(short[:3]) + (f" and {len(short) - 3} more" if len(short) > 3 else "")
            raise Unsupported(f"the archive holds less of {request.dataset} than {request.window}: {shown}")

    def calls(self, request: Request) -> int:
        """As Source.calls."""
        return len(self._chosen(request))

    async def probe(self) -> None:
        """As Source.probe."""
        if not any(e.parts for e in await asyncio.to_thread(lambda: self.entries)):
            raise ConfigError(f"no file under {self._root} is a known export; see the warnings above for each file")

    async def aclose(self) -> None:
        """As Source.aclose: nothing stays open."""

    def _chosen(self, request: Request) -> list[tuple[Entry, Part]]:
        found = [
            (entry, part)
            for entry in self.entries
            for part in entry.parts
            if _holds(part, request.dataset.name) and _may_hold(part, request)
        ]
        return sorted(found, key=lambda ep: (_rank(ep[1]), ep[0].path))

    def _frames(self, request: Request, chosen: Sequence[tuple[Entry, Part]]) -> Iterator[Frame]:
        for entry, wanted in chosen:
            path = self._root / entry.path
            try:
                for batch in batches(path):
                    for part, found in ways(entry, self._layouts, batch.schema.names, self._root):
                        if part is wanted:
                            for frame in frames_of(batch, found, source=self.name, fetched_at=self._clock()):
                                if frame.dataset.name in (request.dataset.name, SUSPENSION.name):
                                    yield _wanted(frame, request, part)
            except Unreadable as exc:
                raise Malformed(f"{path} could be read before and cannot now: {exc}") from exc

    def _short(self, request: Request, chosen: Sequence[tuple[Entry, Part]]) -> list[str]:
        """Symbols for which the archive's days do not reach over the window: their absent rows prove nothing."""
        if request.dataset.time is None:
            return []
        spans: dict[str, tuple[date, date]] = {}
        everyone: tuple[date, date] | None = None
        for _, part in chosen:
            if part.first is None or part.last is None or part.adjusted:
                continue
            span = date.fromisoformat(part.first), date.fromisoformat(part.last)
            if not part.symbols:
                everyone = _widened(everyone, span)
            for symbol in part.symbols:
                spans[symbol] = _widened(spans.get(symbol), span)
        held = {s: _both(spans.get(s), everyone) for s in request.symbols}
        return [
            f"{s} {span[0]}..{span[1]}" if span else f"{s} nothing raw"
            for s, span in held.items()
            if not _covers(span, request)
        ]


def _offer(parts: Sequence[Part]) -> Offer:
    kinds = {tuple(kind.split(".")) for part in parts for kind in part.kinds}
    firsts = [date.fromisoformat(p.first) for p in parts if p.first is not None]
    return Offer(
        symbols_per_call=_AT_ONCE,
        exchanges=frozenset(k[1] for k in kinds) or frozenset({"SH", "SZ", "BJ"}),
        asset_types=frozenset(k[0] for k in kinds) or frozenset({"stock"}),
        since=min(firsts, default=None),
        reports_suspensions=all(p.layout.startswith("baostock") for p in parts),
    )


def _holds(part: Part, dataset: str) -> bool:
    return part.dataset == dataset or (
        dataset == SUSPENSION.name and part.dataset == "bar_1d" and part.layout.startswith("baostock")
    )


def _may_hold(part: Part, request: Request) -> bool:
    if part.first is not None and part.last is not None:
        outside = part.last < request.window.start.isoformat() or part.first >= request.window.end.isoformat()
        if outside:
            return False
    return not request.symbols or not part.symbols or not set(part.symbols).isdisjoint(request.symbols)


def _rank(part: Part) -> int:
    vendor = part.layout.split()[0]
    return _VENDORS.index(vendor) if vendor in _VENDORS else -1


def _wanted(frame: Frame, request: Request, part: Part) -> Frame:
    if not part.adjusted:
        frame = within(frame, request.window)
    if "symbol" not in frame.rows.schema.names or not len(frame):
        return frame
    column = frame.rows.column("symbol")
    if request.symbols:
        asked = pa.array([str(s) for s in request.symbols])
    elif frame.dataset.time is not None:
        of_kind = [s for s in pc.unique(column).to_pylist() if s and symbols.asset_type_of(s) == request.asset_type]
        asked = pa.array(of_kind, pa.string())
    else:
        return frame
    return where(frame, pc.or_(pc.is_in(column, value_set=asked), pc.is_null(column)))


def _widened(span: tuple[date, date] | None, other: tuple[date, date]) -> tuple[date, date]:
    return other if span is None else (min(span[0], other[0]), max(span[1], other[1]))


def _both(span: tuple[date, date] | None, other: tuple[date, date] | None) -> tuple[date, date] | None:
    return span if other is None else _widened(span, other)


def _covers(span: tuple[date, date] | None, request: Request) -> bool:
    if span is None:
        return False
    return span[0] - _SLACK <= request.window.start and request.window.last <= span[1] + _SLACK


def open_files(settings: Settings, *, clock: Callable[[], datetime], layouts: Sequence[Layout]) -> Files:
    """The archive that MYSTOCKS_ARCHIVE_DIR names. Raises ConfigError when it names none."""
    if settings.archive_dir is None:
        raise ConfigError("the source files needs MYSTOCKS_ARCHIVE_DIR: the folder that holds your exports")
    index = settings.state_dir / "archive-index.json"
    return Files(settings.archive_dir, layouts=layouts, index=index, clock=clock)
