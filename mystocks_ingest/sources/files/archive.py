"""The archive's index: which file holds what, for which symbols and days. Files that did not change are not reread."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import date, datetime
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mystocks_ingest import logs
from mystocks_ingest.errors import ConfigError, IngestError
from mystocks_ingest.market.checks import Context, Rule, check
from mystocks_ingest.market.datasets import BAR_1D, DATASETS, Dataset
from mystocks_ingest.market.frames import Frame, Symbol
from mystocks_ingest.market.layout import Layout, days_of, normalize
from mystocks_ingest.market.symbols import asset_type_of, exchange_of
from mystocks_ingest.sources.files.layouts import Match, group_of, match, of_interval
from mystocks_ingest.sources.files.tables import Unreadable, batches

log = logs.get("files")

_FORM = 1  # of the index file; another number makes it be written anew
_FEW = 64  # symbols of a file up to which they are listed one by one
_READERS = 2
_ADJUSTED = (Rule.FORWARD_ADJUSTED, Rule.BACK_ADJUSTED)


@dataclass(frozen=True, slots=True)
class Part:
    """One dataset in one file. ``symbols`` empty: more than a few. Days are None for lists without time."""

    dataset: str
    layout: str
    rows: int
    symbols: tuple[str, ...]
    kinds: tuple[str, ...]  # asset types and exchanges met, as "stock.SH"
    first: str | None
    last: str | None
    adjusted: bool = False  # not raw prices: the checks must see the whole series to refuse it


@dataclass(frozen=True, slots=True)
class Entry:
    """One file as it was when read."""

    path: str
    size: int
    changed: int
    parts: tuple[Part, ...]
    problem: str = ""


def scan(root: Path, layouts: Sequence[Layout], *, index: Path, now: datetime) -> list[Entry]:
    """Every file under ``root``, in path order. A problem is logged when it is found. Raises ConfigError."""
    if not root.is_dir():
        raise ConfigError(f"the archive {root} is not a folder; set MYSTOCKS_ARCHIVE_DIR to the folder of your files")
    print_of = hashlib.sha256(repr([(la.name, la.dataset.name, sorted(la.signature)) for la in layouts]).encode())
    mark = f"{_FORM} {root.resolve()} {print_of.hexdigest()}"
    known = _load(index, mark)
    files = sorted(_files(root))
    with ThreadPoolExecutor(_READERS, thread_name_prefix="archive") as readers:
        entries = list(readers.map(lambda path: _entry(root, path, layouts, known, now), files))
    if entries != list(known.values()):
        _save(index, mark, entries)
    return entries


def ways(entry: Entry, layouts: Sequence[Layout], names: Sequence[str], root: Path) -> list[tuple[Part, Match]]:
    """How each part of the file is read, as its scan decided."""
    found = match(layouts, names, PurePath(root.name) / entry.path)
    out = []
    for part in entry.parts:
        dataset = DATASETS[part.dataset]
        same = [m for m in found if group_of(m.layout.dataset) == group_of(dataset)]
        out += [(part, of_interval(layouts, m, dataset)) for m in same]
    return out


def frames_of(batch: pa.RecordBatch, found: Match, *, source: str, fetched_at: datetime) -> list[Frame]:
    """A batch of the file as canonical frames. Raises Malformed."""
    renamed = batch.rename_columns([found.renamed.get(n, n) for n in batch.schema.names])
    return normalize(found.layout, renamed, source=source, fetched_at=fetched_at, symbol=found.symbol)


def _files(root: Path) -> Iterator[Path]:
    for folder, inner, names in os.walk(root):
        inner[:] = [n for n in inner if not n.startswith((".", "__"))]
        yield from (Path(folder, n) for n in names if not n.startswith((".", "~")))


def _entry(root: Path, path: Path, layouts: Sequence[Layout], known: dict[str, Entry], now: datetime) -> Entry:
    name = path.relative_to(root).as_posix()
    try:
        stat = path.stat()
    except OSError as exc:
        return _problem(Entry(name, 0, 0, ()), str(exc.strerror))
    before = known.get(name)
    if before is not None and (before.size, before.changed) == (stat.st_size, stat.st_mtime_ns):
        return before
    entry = Entry(name, stat.st_size, stat.st_mtime_ns, ())
    try:
        return _read(root, path, entry, layouts, now)
    except (Unreadable, IngestError) as exc:
        return _problem(entry, str(exc))


def _problem(entry: Entry, reason: str) -> Entry:
    log.warning("file.unusable", path=entry.path, reason=reason)
    return replace(entry, problem=reason)


def _read(root: Path, path: Path, entry: Entry, layouts: Sequence[Layout], now: datetime) -> Entry:
    skipped: list[int] = []
    stream = batches(path, skipped=skipped.append)
    first = next(stream, None)
    if first is None:
        raise Unreadable("the file has no rows")
    found = match(layouts, first.schema.names, PurePath(root.name) / entry.path)
    if not found:
        shown = ", ".join(first.schema.names[:12])
        raise Unreadable(f"its columns fit no known export: {shown}")
    told = [(m, _interval(m, first, now)) for m in found]
    tallies = [_Tally(of_interval(layouts, m, dataset), m.layout.name, now) for m, dataset in told if dataset]
    if not tallies:
        raise Unreadable("the interval of its bars cannot be told from their times")
    for batch in itertools.chain([first], stream):
        for tally in tallies:
            tally.add(batch)
    if skipped:
        log.warning("file.rows_unreadable", path=entry.path, rows=sum(skipped), reason="too many or too few cells")
    return replace(entry, parts=tuple(t.part() for t in tallies))


class _Tally:
    """What one part of a file holds, counted batch by batch."""

    def __init__(self, found: Match, layout: str, now: datetime) -> None:
        self.found = found
        self.layout = layout
        self._now = now
        self._rows = 0
        self._symbols: set[str] = set()
        self._days: list[date] = []
        self._frames: list[Frame] = []

    def add(self, batch: pa.RecordBatch) -> None:
        frames = frames_of(batch, self.found, source="files", fetched_at=self._now)
        self._rows += sum(len(f) for f in frames)
        for frame in frames:
            if "symbol" in frame.rows.schema.names:
                self._symbols.update(s for s in pc.unique(frame.rows.column("symbol")).to_pylist() if s is not None)
            self._days += _ends(frame)
        if frames[0].dataset is BAR_1D and len(self._symbols) <= _FEW:
            self._frames.append(frames[0])

    def part(self) -> Part:
        symbols = tuple(sorted(self._symbols))
        days = sorted(self._days)
        kinds = sorted({f"{asset_type_of(Symbol(s))}.{exchange_of(Symbol(s))}" for s in symbols})
        return Part(
            self.found.layout.dataset.name,
            self.layout,
            self._rows,
            symbols if len(symbols) <= _FEW else (),
            tuple(kinds),
            days[0].isoformat() if days else None,
            days[-1].isoformat() if days else None,
            adjusted=len(symbols) <= _FEW and any(self._adjusted(f) for f in self._frames),
        )

    def _adjusted(self, frame: Frame) -> bool:
        return any(rule in _ADJUSTED for rule in set(check(frame, Context(now=self._now)).refused.rules))


def _ends(frame: Frame) -> list[date]:
    """First and last day of a frame."""
    days = days_of(frame)
    found = pc.min_max(days).as_py() if days is not None and len(days) else {"min": None, "max": None}
    return [d for d in found.values() if d is not None]


def _interval(found: Match, batch: pa.RecordBatch, now: datetime) -> Dataset | None:
    """The bar dataset whose interval the times of the first rows show, None when they show none.

    The match's own for anything but bars.
    """
    ours = found.layout.dataset
    if ours.interval is None:
        return ours
    frame = frames_of(batch, found, source="files", fetched_at=now)[0]
    if not len(frame):
        return ours
    symbol = frame.rows.column("symbol")[0]
    mine = frame.rows.filter(pc.equal(frame.rows.column("symbol"), symbol)).column(ours.time)
    if ours.time == "bar_time":
        steps = np.diff(mine.drop_null().cast(pa.int64()).to_numpy()) // 60_000
        steps = steps[(steps > 0) & (steps <= 60)]
        return DATASETS.get(f"bar_{int(np.median(steps))}m") if len(steps) else None
    steps = np.diff(mine.drop_null().cast(pa.int32()).to_numpy())
    usual = float(np.median(steps)) if len(steps) >= 4 else 1.0
    weekly, monthly = 5 <= usual <= 10, 25 <= usual <= 35
    return DATASETS["bar_1w" if weekly else "bar_1mo" if monthly else "bar_1d"]


def _load(index: Path, mark: str) -> dict[str, Entry]:
    """The entries of the last scan of the same folder; none when there are none to trust."""
    try:
        stored = json.loads(index.read_text(encoding="utf-8"))
        if stored["mark"] != mark:
            return {}
        entries = (Entry(**{**e, "parts": tuple(_part(p) for p in e["parts"])}) for e in stored["entries"])
        return {e.path: e for e in entries}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _part(stored: dict[str, Any]) -> Part:
    return Part(**{**stored, "symbols": tuple(stored["symbols"]), "kinds": tuple(stored["kinds"])})


def _save(index: Path, mark: str, entries: Sequence[Entry]) -> None:
    """Keep the scan; where the folder cannot be written, the next run scans again."""
    draft = index.with_suffix(f".{os.getpid()}.tmp")
    try:
        index.parent.mkdir(parents=True, exist_ok=True)
        draft.write_text(json.dumps({"mark": mark, "entries": [asdict(e) for e in entries]}), encoding="utf-8")
        draft.replace(index)
    except OSError as exc:
        log.warning("index.not_kept", path=str(index), reason=str(exc))
