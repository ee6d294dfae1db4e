"""From the entries of one read to frames: what cannot be read stands aside with its reason, the rest goes on in order."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mystocks_ingest.logs import get, redact
from mystocks_ingest.market.datasets import Dataset
from mystocks_ingest.market.frames import Frame
from mystocks_ingest.ports import NO_ROW, DeadLetter
from mystocks_ingest.sinks.redis.streams import Entry
from mystocks_ingest.web import delivery, entries
from mystocks_ingest.web.delivery import Form
from mystocks_ingest.web.entries import Delivered
from mystocks_ingest.web.limits import Limits
from mystocks_ingest.web.refusals import Refusal

T = TypeVar("T")
log = get("stream")

RULE = "unreadable"
_KEPT_CELL = 2_000  # characters of a field that a dead letter shows


@dataclass(frozen=True, slots=True)
class Refused:
    """An entry of which nothing is stored, and why."""

    entry: Entry
    source: str
    reason: str


@dataclass(frozen=True, slots=True)
class Read:
    """``frames`` in the entries' order, each with no key of two entries in it: of equal keys the later entry wins."""

    frames: list[Frame] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)


def read(asked: Form, found: Iterable[Entry], limits: Limits, at: datetime) -> Read:
    """What the entries hold. Never raises for what is in them."""
    done = Read()
    run: list[tuple[Entry, Delivered]] = []
    for entry in found:
        told = _guarded(entry, partial(entries.read, asked, entry.fields or {}, limits), done)
        if told is None:
            continue
        if run and (told.table is not None or told.source != run[0][1].source):
            _frame(asked, run, at, done)
            run = []
        if told.table is None:
            run.append((entry, told))
        else:
            whole = partial(entries.table_frame, asked, told.table, source=told.source, at=at)
            frame = _guarded(entry, whole, done)
            done.frames.extend([frame] if frame is not None else [])
    _frame(asked, run, at, done)
    return done


def _frame(asked: Form, run: Sequence[tuple[Entry, Delivered]], at: datetime, done: Read) -> None:
    """The frames of entries of one sender: together where all can be read, else each by itself."""
    if not run:
        return
    rows: list[Mapping[str, object]] = [row for _, told in run for row in told.rows]
    framed = partial(delivery.framed, asked, rows, source=run[0][1].source, at=at)
    if len(run) == 1:
        whole = _guarded(run[0][0], framed, done)
        done.frames.extend([whole] if whole is not None else [])
        return
    try:
        together = framed()
    except Exception:  # noqa: BLE001 - one entry's mistake, or what it sets off, is told of that entry alone
        for pair in run:
            _frame(asked, [pair], at, done)
    else:
        done.frames.extend(_parted(together, [len(told.rows) for _, told in run]))


def _parted(frame: Frame, lengths: Sequence[int]) -> Iterator[Frame]:
    """The rows whose key comes for the first time, then those of the keys' second entries, and so on."""
    entries = np.repeat(np.arange(len(lengths)), lengths).tolist()
    keys = zip(*(_plain(frame.rows.column(name)) for name in frame.dataset.key), strict=True)
    latest: dict[object, tuple[int, int]] = {}  # by key: the entry that had it last, and how many had it before
    turns = np.zeros(len(entries), np.int64)
    for row, (key, entry) in enumerate(zip(keys, entries, strict=True)):
        before, turn = latest.get(key, (entry, 0))
        turns[row] = turn if before == entry else turn + 1
        latest[key] = entry, int(turns[row])
    for turn in range(int(turns.max()) + 1):
        yield frame.take(pa.array(np.flatnonzero(turns == turn))) if turns.any() else frame


def _plain(column: pa.Array) -> list[object]:
    values: list[object] = (pc.cast(column, pa.int64()) if pa.types.is_timestamp(column.type) else column).to_pylist()
    return values


def _guarded(entry: Entry, work: Callable[[], T], done: Read) -> T | None:
    """What ``work`` gives; None where the entry is refused. Nothing that a client writes may end the service."""
    sender = (entry.fields or {}).get(b"source", b"").decode(errors="replace")[:15] or "stream"
    try:
        return work()
    except Refusal as exc:
        reason = str(exc)
    except Exception as exc:  # a defect of ours: the log has it, and the entry does not come again
        log.exception("entry.defective", entry=entry.id)
        reason = f"it cannot be read ({type(exc).__name__})"
    done.refused.append(Refused(entry, f"push:{sender}", reason))
    return None


def letter(wanted: Dataset, refused: Refused, *, stream: str, at: datetime) -> DeadLetter:
    """The dead letter of an entry, which holds its fields as they came."""
    cells = {k.decode(errors="replace")[:64]: _shown(v) for k, v in list((refused.entry.fields or {}).items())[:100]}
    raw = json.dumps({"stream": stream, "entry": refused.entry.id, "fields": cells}, ensure_ascii=False)
    symbol = cells.get("symbol")
    return DeadLetter(
        dataset=wanted.name, source=refused.source, symbol=symbol, time=cells.get(wanted.time or ""), rule=RULE,
        reason=redact(refused.reason), raw=raw, row=NO_ROW, at=at, run_id="stream",
    )  # fmt: skip


def _shown(cell: bytes) -> str:
    text = cell.decode(errors="replace").replace("\0", "�")
    return text if len(text) <= _KEPT_CELL else f"{text[:_KEPT_CELL]}… ({len(cell):,} bytes)"
