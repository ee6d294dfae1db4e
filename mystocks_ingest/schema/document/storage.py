"""How the rows of a table are cut, compressed and let go, from the several places where a file says so."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Generic, TypeVar

from mystocks_ingest.schema.document.entries import CompressionEntry, TableEntry
from mystocks_ingest.schema.document.layout import Found, Layout
from mystocks_ingest.schema.document.places import Place
from mystocks_ingest.schema.tables import Database, Storage

_CODECS = frozenset({"lz4", "zlib", "zstd", "tsz", "xz", "disabled"})
_LEVELS = frozenset({"high", "medium", "low"})
_Value = TypeVar("_Value")


@dataclass(frozen=True)
class _Said(Generic[_Value]):
    """One thing that may be said in several places; the first counts."""

    name: str
    values: tuple[tuple[_Value, Place], ...]

    @property
    def value(self) -> _Value | None:
        return self.values[0][0] if self.values else None

    def differing(self) -> Found:
        for value, at in self.values[1:]:
            if value != self.values[0][0]:
                yield f"`{self.name}` is said in two places that differ: keep one of them", at

    def refused(self, text: str) -> Found:
        yield from ((text.format(self.name), at) for _, at in self.values)


@dataclass(frozen=True)
class _Sayings:
    """All that an entry says of storage."""

    chunk: _Said[timedelta]
    retention: _Said[timedelta]
    compress: _Said[bool]
    after: _Said[timedelta]
    segment_by: _Said[tuple[str, ...]]
    order_by: _Said[tuple[str, ...]]
    codec: _Said[str]
    level: _Said[str]

    @property
    def of_compression(self) -> tuple[_Said[timedelta] | _Said[tuple[str, ...]] | _Said[str], ...]:
        return self.after, self.segment_by, self.order_by, self.codec, self.level


def _sayings(entry: TableEntry) -> _Sayings:
    timescale, tdengine = entry.timescaledb, entry.tdengine
    blocks: list[tuple[CompressionEntry | None, Place]] = [
        (entry.compression, ("compression",)),
        (timescale.compression if timescale else None, ("timescaledb", "compression")),
        (tdengine.compression if tdengine else None, ("tdengine", "compression")),
    ]
    there = [(block, at) for block, at in blocks if block is not None]
    ts, td = ("timescaledb",), ("tdengine",)

    def said(name: str, *values: tuple[_Value | None, Place]) -> _Said[_Value]:
        return _Said(name, tuple((value, (*at, name)) for value, at in values if value))

    def flags() -> Iterator[tuple[bool, Place]]:
        yield from ((block.enabled, at) for block, at in there if "enabled" in block.model_fields_set)
        if timescale is not None and timescale.compress is not None:
            yield timescale.compress, ("timescaledb", "compress")

    return _Sayings(
        said("chunk_interval", (entry.chunk_interval, ()), (timescale.chunk_interval if timescale else None, ts)),
        said(
            "retention_days",
            (entry.retention_days, ()),
            (timescale.retention_days if timescale else None, ts),
            (tdengine.retention_days if tdengine else None, td),
        ),
        _Said("compression", tuple(flags())),
        said(
            "compress_after",
            *((b.compress_after, at) for b, at in there),
            (timescale.compress_after if timescale else None, ts),
        ),
        said("segment_by", *((b.segment_by, at) for b, at in there), (timescale.segment_by if timescale else None, ts)),
        said("order_by", *((b.order_by, at) for b, at in there), (timescale.order_by if timescale else None, ts)),
        said("codec", *((b.codec, at) for b, at in there)),
        said("level", *((b.level, at) for b, at in there), (tdengine.level if tdengine else None, td)),
    )


def stored(layout: Layout) -> Storage:
    """What is said of storage."""
    said = _sayings(layout.entry)
    if said.compress.value is False:
        return Storage(said.chunk.value, compress=False, retention=said.retention.value)
    return Storage(
        said.chunk.value,
        said.compress.value,
        said.after.value,
        said.segment_by.value or (),
        tuple(_normal(column) for column in said.order_by.value or ()),
        said.retention.value,
        said.codec.value,
        said.level.value,
    )


def complaints(layout: Layout) -> Found:
    """What is said twice differently, or cannot be done by this table's database."""
    said = _sayings(layout.entry)
    for one in (said.chunk, said.retention, said.compress, *said.of_compression):
        yield from one.differing()
    yield from _columns(layout, said)
    yield from _unable(layout, said)
    for one, known in ((said.codec, _CODECS), (said.level, _LEVELS)):
        for value, at in one.values:
            if value not in known:
                yield f"`{one.name}` of the compression is {value!r}; it must be {', '.join(sorted(known))}", at


def _columns(layout: Layout, said: _Sayings) -> Found:
    segments = [column.strip() for column in said.segment_by.value or ()]
    for one in (said.segment_by, said.order_by):
        for columns, at in one.values[:1]:
            plain = [column.split()[0] for column in columns if column.split()]
            for column in plain:
                if column not in layout.names:
                    yield f"`{one.name}` names {column!r}, which is not a column of it", at
            if one is said.segment_by and layout.time_column in plain:
                yield f"`segment_by` cannot hold the time column {layout.time_column}: order by it", at
            both = ", ".join(sorted(set(plain) & set(segments) - {layout.time_column}))
            if one is said.order_by and both:
                yield f"`order_by` and `segment_by` both name {both}: keep it in one of them", at


def _unable(layout: Layout, said: _Sayings) -> Found:
    kind = layout.database
    if layout.is_hypertable and kind is Database.POSTGRESQL:
        yield from said.codec.refused("TimescaleDB chooses its own `{}`: drop it")
        yield from said.level.refused("TimescaleDB chooses its own `{}`: drop it")
        return
    remedy = "add `is_timescale_hypertable: true`" if kind is Database.POSTGRESQL else "drop it"
    yield from said.chunk.refused(f"`{{}}`: only a hypertable of PostgreSQL is cut into chunks: {remedy}")
    if kind is Database.TDENGINE:
        for one in (said.after, said.segment_by, said.order_by):
            yield from one.refused("TDengine compresses all rows as they come, without `{}`: drop it")
    elif said.compress.value is not False:
        at: Sequence[Place] = [at for s in (said.compress, *said.of_compression) for _, at in s.values]
        yield from ((f"`compression`: {kind.value} compresses no rows of this table: {remedy}", a) for a in at[:1])


def only_kept_in_mind(layout: Layout) -> bool:
    """Whether ``retention_days`` is said where the database lets no rows go by itself."""
    able = layout.database is Database.TDENGINE or layout.is_hypertable
    return stored(layout).retention is not None and not able


def _normal(column: str) -> str:
    name, *order = column.split()
    return f"{name} DESC" if [o.upper() for o in order][:1] == ["DESC"] else name
