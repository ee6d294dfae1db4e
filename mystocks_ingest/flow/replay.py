"""Replay: dead letters go through today's checks again, and what passes is stored.

A letter keeps the canonical row as JSON. A rule may have been too strict, an instrument unknown or the calendar
too short when the row was refused; once that is mended the rows need no vendor to come back.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc

from mystocks_ingest.errors import ConfigError, Drifted, Unavailable
from mystocks_ingest.flow.witness import Witness
from mystocks_ingest.logs import get
from mystocks_ingest.market.checks import STATED_MOVE, Context, check
from mystocks_ingest.market.datasets import Dataset, dataset
from mystocks_ingest.market.frames import Frame, Symbol, Window
from mystocks_ingest.ports import NO_ROW, Checkpoint, DeadLetter, Query, Sink
from mystocks_ingest.schema.tables import Route, Table, Tables

log = get("replay")

PAGE = 20_000  # letters held in memory at a time
_NEVER = datetime.min.replace(tzinfo=UTC)
_LETTER = "letter"  # the column of a replayed frame's raw rows that says which letter a row came from


@dataclass(frozen=True, slots=True)
class Choice:
    """Which letters to replay; a field that is None leaves its question open."""

    ids: tuple[int, ...] = ()
    dataset: str | None = None
    rule: str | None = None
    source: str | None = None


class Buried(Protocol):
    """A dead letter as the journal keeps it."""

    @property
    def id(self) -> int: ...
    @property
    def letter(self) -> DeadLetter: ...


class Letters(Protocol):
    """What replay needs of the journal."""

    async def letter(self, number: int) -> Buried: ...
    async def letters(
        self, *, dataset: str | None, rule: str | None, source: str | None, limit: int, offset: int
    ) -> Sequence[Buried]: ...
    async def mark_replayed(self, numbers: Sequence[int], *, at: datetime) -> None: ...
    async def checkpoints(self, dataset: Dataset) -> Sequence[Checkpoint]: ...
    async def checkpoint(self, points: Iterable[Checkpoint]) -> None: ...


@dataclass
class Replayed:
    """What became of the letters, counted."""

    stored: Counter[str] = field(default_factory=Counter)  # by dataset
    superseded: Counter[str] = field(default_factory=Counter)  # by dataset: a newer row of the key is stored already
    refused: Counter[tuple[str, str]] = field(default_factory=Counter)  # by dataset and rule: refused again
    reasons: dict[tuple[str, str], str] = field(default_factory=dict)  # the last refusal in words


async def replay(choice: Choice, *, journal: Letters, context: Context, tables: Tables, sink: Sink) -> Replayed:
    """Check the chosen rows again and write those that pass, unless a newer row is stored.

    Raises ConfigError for an unknown id, Unavailable when the store takes no rows; what was written by then is
    marked as replayed.
    """
    done = Replayed()
    if choice.ids:
        named = [await journal.letter(number) for number in dict.fromkeys(choice.ids)]
        await _page(named, journal, context, tables, sink, done)
        return done
    kept = 0
    while True:
        page = await journal.letters(
            dataset=choice.dataset, rule=choice.rule, source=choice.source, limit=PAGE, offset=kept
        )
        kept += await _page(page, journal, context, tables, sink, done)
        if len(page) < PAGE:
            break
    log.info("letters.replayed", stored=done.stored.total(), refused=done.refused.total())
    return done


async def _page(
    page: Sequence[Buried], journal: Letters, context: Context, tables: Tables, sink: Sink, done: Replayed
) -> int:
    """Replay a page; the number of letters that stay."""
    groups: dict[tuple[str, str], dict[int, DeadLetter]] = {}
    stayed = 0
    for buried in page:
        letter = buried.letter
        if letter.row == NO_ROW:  # what could not be read then cannot be now
            done.refused[letter.dataset, letter.rule] += 1
            done.reasons[letter.dataset, letter.rule] = letter.reason
            stayed += 1
            continue
        groups.setdefault((buried.letter.dataset, buried.letter.source), {})[buried.id] = buried.letter
    for (name, source), group in sorted(groups.items()):
        newest, older = _newest(restored(dataset(name), source, group))
        overtaken, current = await _split(newest, tables, sink)
        checked = await asyncio.to_thread(check, current, context)
        accepted, denied = await Witness(sink, tables).heard(checked.accepted)
        for refused in (checked.refused, denied) if denied is not None else (checked.refused,):
            for rule, reason in zip(refused.rules, refused.reasons, strict=True):
                done.refused[name, rule] += 1
                done.reasons[name, rule] = reason
        for table in tables.routes(current.dataset) if len(accepted) else ():
            await _stored(sink, table, accepted.rows)
        good = _ids(accepted)
        others = [*_ids(overtaken), *(n for i in (*good, *_ids(overtaken)) for n in older[i])]
        done.stored[name] += len(good)
        done.superseded[name] += len(others)
        await journal.mark_replayed([*good, *others], at=context.now)
        await _settle(accepted, journal)
        stayed += len(group) - len(good) - len(others)
    return stayed


async def _stored(sink: Sink, table: Table, rows: pa.RecordBatch) -> None:
    """Written, where the table is required; else offered."""
    try:
        await sink.write(table, rows)
    except (Unavailable, Drifted) as exc:
        if table.route is Route.REQUIRED:
            raise
        log.warning("rows.skipped", table=table.name, rows=rows.num_rows, reason=str(exc))


async def _settle(frame: Frame, journal: Letters) -> None:
    """The sessions of stored rows are done: the next backfill need not ask for them again."""
    time = frame.dataset.time
    names = frame.rows.schema.names
    if time is None or "symbol" not in names or not pa.types.is_date(frame.rows.schema.field(time).type):
        return
    rows = frame.rows
    if "provisional" in names:
        rows = rows.filter(pc.invert(rows.column("provisional")))
    mine = set(rows.column("symbol").to_pylist())
    if not mine:
        return
    points = [p for p in await journal.checkpoints(frame.dataset) if p.symbol in mine]
    for symbol, day in zip(rows.column("symbol").to_pylist(), rows.column(time).to_pylist(), strict=True):
        window = Window(day, day + timedelta(days=1))
        points.append(Checkpoint(frame.dataset.name, Symbol(symbol), window, frame.source))
    await journal.checkpoint(sorted(points, key=lambda p: (p.symbol, p.window)))


def _ids(frame: Frame) -> list[int]:
    numbers: list[int] = frame.raw.column(_LETTER).to_pylist() if frame.raw is not None else []
    return numbers


def restored(wanted: Dataset, source: str, letters: Mapping[int, DeadLetter]) -> Frame:
    """The frame of the letters' canonical rows. Raises ConfigError for a letter that holds none."""
    rows: list[Mapping[str, object]] = []
    for ident, letter in letters.items():
        try:
            row = json.loads(letter.row)
        except json.JSONDecodeError as exc:
            raise ConfigError(f"dead letter {ident} holds no readable row; fetch the day again instead") from exc
        rows.append(row)
    schema = pa.schema([pa.field(f.name, f.type) for f in wanted.fields])
    arrays = [_column([row.get(f.name) for row in rows], f.type) for f in schema]
    ids = _origin(letters)
    batch = pa.RecordBatch.from_arrays(arrays, schema=schema)
    order = pc.sort_indices(batch, sort_keys=[(k, "ascending") for k in wanted.key])
    fetched = max((v for v in _fetched(batch) if v is not None), default=datetime.now(UTC))
    return Frame(wanted, source, fetched, batch, ids).take(order)


def _fetched(rows: pa.RecordBatch) -> list[datetime | None]:
    """When each row was fetched; None of a dataset that does not say so."""
    if "fetched_at" not in rows.schema.names:
        return [None] * int(rows.num_rows)
    found: list[datetime | None] = rows.column("fetched_at").to_pylist()
    return found


def _origin(letters: Mapping[int, DeadLetter]) -> pa.RecordBatch:
    """The raw rows of a replayed frame: which letter each came from, and the move its vendor stated, a proof of its close."""
    columns: dict[str, pa.Array] = {_LETTER: pa.array(list(letters), pa.int64())}
    raws = [json.loads(letter.raw) for letter in letters.values()]
    for name in STATED_MOVE:
        if any(name in raw for raw in raws):
            columns[name] = pa.array([None if raw.get(name) is None else str(raw[name]) for raw in raws], pa.string())
    return pa.RecordBatch.from_pydict(columns)


def _newest(frame: Frame) -> tuple[Frame, dict[int, list[int]]]:
    """Of rows with the same key the one fetched last, and under its letter's id the ids of the others.

    A vendor that sent two faulty rows of a key on two days left two letters; only one can be stored.
    """
    key = frame.dataset.key
    rows, fetched = frame.rows.select(list(key)).to_pylist(), _fetched(frame.rows)
    by_key: dict[tuple[object, ...], list[int]] = {}
    for index, row in enumerate(rows):
        by_key.setdefault(tuple(row[k] for k in key), []).append(index)
    numbers = _ids(frame)
    keep: list[int] = []
    older: dict[int, list[int]] = {}
    for indices in by_key.values():
        *others, last = sorted(indices, key=lambda i: (fetched[i] or _NEVER, numbers[i]))
        keep.append(last)
        older[numbers[last]] = [numbers[i] for i in others]
    return frame.take(pa.array(sorted(keep), pa.int64())), older


def _column(values: Sequence[object], kind: pa.DataType) -> pa.Array:
    """Values as JSON kept them: temporal ones as text, the others as they are."""
    if not pa.types.is_temporal(kind):
        return pa.array(values, kind)
    text = pa.array([None if v is None else str(v) for v in values], pa.string())
    if pa.types.is_timestamp(kind):
        return text.cast(pa.timestamp("us", tz=kind.tz)).cast(kind, safe=False)
    return text.cast(kind)


async def _split(frame: Frame, tables: Tables, sink: Sink) -> tuple[Frame, Frame]:
    """Rows for which the store holds a newer one of the same key, and the others."""
    version = [name for name in ("fetched_at",) if name in frame.dataset.schema.names]
    columns = (*frame.dataset.key, *version)
    stored = await sink.read(tables.holder(frame.dataset), Query(symbols=_symbols(frame), columns=columns))
    newer = _newer(frame, stored)
    late = [i for i, is_late in enumerate(newer) if is_late]
    rest = [i for i, is_late in enumerate(newer) if not is_late]
    return frame.take(pa.array(late, pa.int64())), frame.take(pa.array(rest, pa.int64()))


def _symbols(frame: Frame) -> tuple[Symbol, ...]:
    if "symbol" not in frame.rows.schema.names:
        return ()
    return tuple(Symbol(s) for s in pc.unique(frame.rows.column("symbol")).to_pylist())


def _newer(frame: Frame, stored: pa.Table) -> list[bool]:
    """Whether the store holds a row of the same key that was fetched later, for each row.

    Of a dataset that does not say when a row was fetched, what is stored stands.
    """
    key = list(frame.dataset.key)
    rows = [tuple(row[k] for k in key) for row in frame.rows.select(key).to_pylist()]
    held = [tuple(row[k] for k in key) for row in stored.select(key).to_pylist()]
    if "fetched_at" not in frame.dataset.schema.names:
        there = set(held)
        return [row in there for row in rows]
    have = dict(zip(held, stored.column("fetched_at").to_pylist(), strict=True))
    return [
        (known := have.get(row)) is not None and at is not None and known > at
        for row, at in zip(rows, _fetched(frame.rows), strict=True)
    ]
