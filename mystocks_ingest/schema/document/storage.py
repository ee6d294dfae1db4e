"""How the rows of a table are cut, compressed and let go, from the several places where a file says so."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta

from mystocks_ingest.schema.document.entries import CompressionEntry
from mystocks_ingest.schema.document.layout import Found, Layout
from mystocks_ingest.schema.document.places import Place
from mystocks_ingest.schema.tables import Database, Storage

_CODECS = frozenset({"lz4", "zlib", "zstd", "tsz", "xz", "disabled"})
_LEVELS = frozenset({"high", "medium", "low"})
_Said = tuple[object, Place]


def stored(layout: Layout) -> Storage:
    """What is said of storage; the first place counts where two disagree, which ``complaints`` tells."""
    blocks = list(_compressions(layout))
    flags = [bool(v) for v, _ in _flags(layout)]
    segments, order = _first(_said(blocks, "segment_by")), _first(_said(blocks, "order_by"))
    after, codec, level = (_first(_said(blocks, name)) for name in ("compress_after", "codec", "level"))
    compress = flags[0] if flags else (True if after or segments or order or codec else None)
    if compress is False:
        after, segments, order, codec, level = None, (), (), None, None
    return Storage(
        chunk=_first(_chunks(layout)),
        compress=compress,
        compress_after=after,
        segment_by=tuple(segments or ()),
        order_by=tuple(_normal(column) for column in order or ()),
        retention=_first(_retentions(layout)),
        codec=codec,
        level=level,
    )


def complaints(layout: Layout) -> Found:
    """What is said twice differently, or cannot be done by this table's database."""
    blocks = list(_compressions(layout))
    for name, said in (
        ("chunk_interval", _chunks(layout)),
        ("retention_days", _retentions(layout)),
        ("compression", [(bool(v), at) for v, at in _flags(layout)]),
        *((name, _said(blocks, name)) for name in ("compress_after", "segment_by", "order_by", "codec", "level")),
    ):
        for value, at in said[1:]:
            if value != said[0][0]:
                yield f"`{name}` is said in two places that differ: keep one of them", at
    storage = stored(layout)
    yield from _columns(layout, storage, blocks)
    yield from _unable(layout, storage, blocks)
    for name, known in (("codec", _CODECS), ("level", _LEVELS)):
        for value, at in _said(blocks, name):
            if value not in known:
                yield f"`{name}` of the compression is {value!r}; it must be one of {', '.join(sorted(known))}", at


def _columns(layout: Layout, storage: Storage, blocks: Sequence[_Said]) -> Found:
    for name in ("segment_by", "order_by"):
        for columns, at in _said(blocks, name)[:1]:
            plain = [column.split()[0] for column in columns if column.split()]
            for column in plain:
                if column not in layout.names:
                    yield f"`{name}` names {column!r}, which is not a column of it", at
            if name == "segment_by" and layout.time_column in plain:
                yield f"`segment_by` cannot hold the time column {layout.time_column}: order by it", at
            both = set(plain) & set(storage.segment_by) if name == "order_by" else ()
            for column in sorted(both):
                yield f"`order_by` and `segment_by` both name {column!r}: keep it in one of them", at


def _unable(layout: Layout, storage: Storage, blocks: Sequence[_Said]) -> Found:
    kind = layout.database
    if layout.is_hypertable and kind is Database.POSTGRESQL:
        for name in ("codec", "level"):
            for _, at in _said(blocks, name):
                yield f"TimescaleDB chooses its own `{name}`: drop it", at
        return
    remedy = "add `is_timescale_hypertable: true`" if kind is Database.POSTGRESQL else "drop it"
    for _, at in _chunks(layout)[:1]:
        yield f"`chunk_interval`: only a hypertable of PostgreSQL is cut into chunks: {remedy}", at
    if kind is Database.TDENGINE:
        for name in ("compress_after", "segment_by", "order_by"):
            for _, at in _said(blocks, name):
                yield f"TDengine compresses all rows as they come, without `{name}`: drop it", at
    elif storage.compress:
        at = _flags(layout)[0][1] if _flags(layout) else blocks[0][1]
        yield f"`compression`: {kind.value} compresses no rows of this table: {remedy}", at


def keeps_rows(layout: Layout) -> bool:
    """Whether ``retention_days`` is said where the database lets no rows go by itself."""
    able = layout.database is Database.TDENGINE or layout.is_hypertable
    return bool(_retentions(layout)) and not able


def _normal(column: str) -> str:
    name, *order = column.split()
    return f"{name} DESC" if [o.upper() for o in order][:1] == ["DESC"] else name


def _first(said: Sequence[tuple[object, Place]]) -> object:
    return said[0][0] if said else None


def _compressions(layout: Layout) -> Iterator[tuple[object, Place]]:
    """Every mapping that speaks of compression, with its place."""
    entry, timescale, tdengine = layout.entry, layout.entry.timescaledb, layout.entry.tdengine
    if entry.compression is not None:
        yield entry.compression, ("compression",)
    if timescale is not None:
        if timescale.compression is not None:
            yield timescale.compression, ("timescaledb", "compression")
        yield timescale, ("timescaledb",)
    if tdengine is not None:
        if tdengine.compression is not None:
            yield tdengine.compression, ("tdengine", "compression")
        yield tdengine, ("tdengine",)


def _flags(layout: Layout) -> list[tuple[object, Place]]:
    found: list[tuple[object, Place]] = [
        (block.enabled, at) for block, at in _compressions(layout) if isinstance(block, CompressionEntry)
    ]
    timescale = layout.entry.timescaledb
    if timescale is not None and timescale.compress is not None:
        found.append((timescale.compress, ("timescaledb", "compress")))
    return found


def _said(blocks: Sequence[tuple[object, Place]], name: str) -> list[tuple[object, Place]]:
    values = ((getattr(block, name, None), (*at, name)) for block, at in blocks)
    return [(value, at) for value, at in values if value]


def _chunks(layout: Layout) -> list[tuple[timedelta, Place]]:
    return list(_spans(layout, "chunk_interval", lambda block: getattr(block, "chunk_interval", None)))


def _retentions(layout: Layout) -> list[tuple[timedelta, Place]]:
    return list(_spans(layout, "retention_days", lambda block: getattr(block, "retention_days", None)))


def _spans(layout: Layout, name: str, get: Callable[[object], timedelta | None]) -> Iterator[tuple[timedelta, Place]]:
    entry = layout.entry
    for block, at in ((entry, ()), (entry.timescaledb, ("timescaledb",)), (entry.tdengine, ("tdengine",))):
        value = get(block) if block is not None else None
        if value is not None:
            yield value, (*at, name)
