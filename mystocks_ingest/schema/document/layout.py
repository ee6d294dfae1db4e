"""An entry by its meaning: columns in plain words, the key, indexes, storage, each with its place in the file."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from mystocks_ingest.market.datasets import DATASETS, Dataset
from mystocks_ingest.schema.document.defaults import Meaning, Unfit, meaning
from mystocks_ingest.schema.document.entries import ColumnEntry, TableEntry
from mystocks_ingest.schema.document.places import Place
from mystocks_ingest.schema.document.words import Spelled, spelled, unsigned
from mystocks_ingest.schema.tables import Column, Database, Expression, Index
from mystocks_ingest.schema.types import WORDS, Family

Found = Iterator[tuple[str, Place]]
"""Complaints: what to say, and the place in the table's entry."""

_PART = re.compile(r"^([A-Za-z_][A-Za-z0-9_]*)(?:\s+(ASC|DESC))?$", re.IGNORECASE)
_KINDS = {"UNIQUE": True, "UNIQUE INDEX": True, "UNIQUE KEY": True, "INDEX": False, "KEY": False, "BTREE": False}
_PRIMARY = frozenset({"PRIMARY", "PRIMARY KEY", "PRIMARY_KEY"})


_NONE = Meaning()


@dataclass(frozen=True)
class Laid:
    """One column. ``said`` is its type as far as it could be read; ``troubles`` are what is wrong with it."""

    entry: ColumnEntry
    at: Place
    is_tag: bool
    said: Spelled
    meaning: Meaning = _NONE
    troubles: tuple[tuple[str, Place], ...] = ()

    @property
    def name(self) -> str:
        return self.entry.name

    @property
    def word(self) -> str:
        return self.said.word

    @property
    def family(self) -> Family | None:
        return WORDS.get(self.said.word)

    @property
    def numbered(self) -> bool:
        return self.entry.auto_increment or self.said.numbered


@dataclass(frozen=True)
class Layout:
    """One table. ``key_at``: where its key is said."""

    entry: TableEntry
    columns: tuple[Laid, ...]
    dataset: Dataset | None
    is_super_table: bool
    is_hypertable: bool
    time_column: str | None
    key: tuple[str, ...] = ()
    key_at: Place = ("key",)
    indexes: tuple[tuple[Index, Place], ...] = ()
    troubles: tuple[tuple[str, Place], ...] = field(default=())

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(c.name for c in self.columns)

    @property
    def database(self) -> Database:
        return self.entry.database_type

    def column(self, name: str) -> Laid | None:
        return next((c for c in self.columns if c.name == name), None)


def laid_out(entry: TableEntry) -> Layout:
    """What the entry means; what cannot be understood of it is in ``troubles``, its own and its columns'."""
    tdengine, timescale = entry.tdengine, entry.timescaledb
    tagged: list[tuple[ColumnEntry, Place]] = [(c, ("tags", i)) for i, c in enumerate(entry.tags)]
    tagged += [(c, ("tdengine", "tags", i)) for i, c in enumerate(tdengine.tags if tdengine else ())]
    columns = [_laid(c, ("columns", i), entry.database_type, is_tag=c.is_tag) for i, c in enumerate(entry.columns)]
    columns += [_laid(c, at, entry.database_type, is_tag=True) for c, at in tagged]
    dataset = DATASETS.get(entry.dataset) if entry.dataset is not None else None
    by_name = [c.name for c in columns]
    time_column = (
        entry.time_column
        or (timescale.time_column if timescale else None)
        or (dataset.time if dataset is not None and dataset.time in by_name else None)
    )
    implied_super = bool(tagged) or (tdengine is not None and tdengine.is_super_table)
    implied_hyper = timescale is not None and timescale.enabled and timescale.is_hypertable
    layout = Layout(
        entry,
        tuple(columns),
        dataset,
        is_super_table=implied_super if entry.is_super_table is None else entry.is_super_table,
        is_hypertable=implied_hyper if entry.is_timescale_hypertable is None else entry.is_timescale_hypertable,
        time_column=time_column,
    )
    return _keyed(layout)


def _laid(entry: ColumnEntry, at: Place, database: Database, *, is_tag: bool) -> Laid:
    said, troubles = spelled(entry.type, database), []
    known = said.word in WORDS
    if said.trouble:
        troubles.append((f"{said.trouble} (column {entry.name})", (*at, "type")))
    for what in ("length", "precision", "scale"):
        given, inside = getattr(entry, what), getattr(said, what)
        if given is not None and inside is not None and given != inside:
            troubles.append((f"`{what}` is {given}, but the type of column {entry.name} says {inside}", (*at, what)))
        if inside is None and known:
            said = replace(said, **{what: given})
    if entry.values and known:
        if said.word != "ENUM":
            troubles.append((f"{said.word} takes no `values` (column {entry.name})", (*at, "values")))
        said = replace(said, values=entry.values)
    if entry.unsigned and known:
        word = unsigned(said.word)
        if word is None:
            troubles.append((f"{said.word} cannot be unsigned (column {entry.name})", (*at, "unsigned")))
        said = replace(said, word=word or said.word)
    found = Meaning()
    if known and not said.trouble:
        try:
            found = meaning(entry.default, said.word, length=said.length, values=said.values)
        except Unfit as exc:
            troubles.append((f"{exc} (column {entry.name})", (*at, "default")))
        try:
            found = replace(found, touched=found.touched or _updated(entry.on_update, said.word))
        except Unfit as exc:
            troubles.append((f"{exc} (column {entry.name})", (*at, "on_update")))
        if isinstance(found.default, Expression) and found.default.sql.lower().startswith("nextval("):
            said, found = replace(said, numbered=True), replace(found, default=None)
    return Laid(entry, at, is_tag, said, found, tuple(troubles))


def _updated(raw: object, word: str) -> bool:
    if raw is None or raw is False:
        return False
    return meaning(f"ON UPDATE {'CURRENT_TIMESTAMP' if raw is True else raw}", word).touched


def _keyed(layout: Layout) -> Layout:
    """The layout with its key and its indexes; a unique index of columns that are never null may serve as the key."""
    entry, troubles = layout.entry, []
    marked = tuple(c.name for c in layout.columns if c.entry.primary_key)
    found: list[tuple[Index, Place]] = []
    primary: list[tuple[tuple[str, ...], Place]] = [(entry.key, ("key",))] if entry.key is not None else []
    if marked:
        first = next(c for c in layout.columns if c.entry.primary_key)
        primary.append((marked, (*first.at, "primary_key")))
    for number, given in enumerate(entry.indexes):
        at: Place = ("indexes", number)
        kind = " ".join((given.type or "INDEX").upper().split())
        if kind not in _KINDS and kind not in _PRIMARY:
            known = "INDEX, BTREE, UNIQUE or PRIMARY KEY"
            troubles.append((f"`type` of an index is {given.type!r}; it must be {known}", (*at, "type")))
        parts = [_PART.match(text.strip()) for text in given.columns]
        for i, (text, part) in enumerate(zip(given.columns, parts, strict=True)):
            if part is None:
                said = f"{text!r} is no column of an index: write a name, or a name and DESC"
                troubles.append((said, (*at, "columns", i)))
        columns = tuple(_ordered(part) for part in parts if part is not None)
        if not columns:
            continue
        if given.primary_key or kind in _PRIMARY:
            primary.append((tuple(c.split()[0] for c in columns), at))
            continue
        unique = given.unique or _KINDS.get(kind, False)
        name = given.name or _index_name(entry.table_name, columns, unique=unique)
        found.append((Index(name, columns, unique), at))
    for c in layout.columns:
        if c.entry.unique or c.entry.index:
            name = _index_name(entry.table_name, (c.name,), unique=c.entry.unique)
            found.append((Index(name, (c.name,), c.entry.unique), (*c.at, "unique" if c.entry.unique else "index")))
    for columns, at in primary[1:]:
        if set(columns) != set(primary[0][0]):
            how = "`primary_key: true` marks" if at[0] != "indexes" else "a primary index names"
            said = f"the key is {list(primary[0][0])} but {how} {list(columns)}: make them agree"
            troubles.append((said, at))
    key, key_at = primary[0] if primary else _serving(layout, found)
    kept = tuple(_distinct(found, layout, key, key_at))
    return replace(layout, key=key, key_at=key_at, indexes=kept, troubles=tuple(troubles))


def _ordered(part: re.Match[str]) -> str:
    return f"{part[1]} DESC" if (part[2] or "").upper() == "DESC" else part[1]


def _index_name(table: str, columns: Sequence[str], *, unique: bool) -> str:
    name = "_".join(("uk" if unique else "idx", table, *(c.replace(" DESC", "_desc") for c in columns)))
    return name if len(name) <= 63 else f"{name[:54]}_{zlib.crc32(name.encode()):08x}"


def _serving(layout: Layout, indexes: Sequence[tuple[Index, Place]]) -> tuple[tuple[str, ...], Place]:
    """The first unique index whose columns are never null."""
    required = layout.dataset.required if layout.dataset is not None else ()
    sure = {c.name for c in layout.columns if c.entry.nullable is False or c.is_tag or c.name in required}
    for index, at in indexes:
        columns = tuple(c.removesuffix(" DESC") for c in index.columns)
        if index.unique and set(columns) <= sure and (layout.dataset is None or set(columns) <= set(required)):
            return columns, at
    return (), ("key",)


def _distinct(
    indexes: Sequence[tuple[Index, Place]], layout: Layout, key: tuple[str, ...], key_at: Place
) -> Iterator[tuple[Index, Place]]:
    """Each index once, and none that is the key already."""
    seen: set[tuple[tuple[str, ...], bool]] = set()
    for index, at in indexes:
        plain = {c.removesuffix(" DESC") for c in index.columns}
        by_column = at[0] != "indexes" or layout.database is Database.TDENGINE
        if (index.columns, index.unique) in seen or at == key_at:
            continue
        if index.unique and plain == set(key) and by_column:
            continue
        seen.add((index.columns, index.unique))
        yield index, at


def built(column: Laid, *, key: Sequence[str], dataset: Dataset | None) -> Column:
    """The column as the rest of the program knows it."""
    said, entry = column.said, column.entry
    canonical = next((f.type for f in dataset.fields if f.name == entry.name), None) if dataset is not None else None
    return Column(
        entry.name,
        said.word,
        said.length,
        said.precision,
        said.scale,
        nullable=entry.name not in key and entry.nullable is not False and not column.numbered,
        default=column.meaning.default,
        comment=entry.comment or entry.description,
        is_tag=column.is_tag,
        numbered=column.numbered,
        touched=column.meaning.touched,
        values=said.values,
        canonical=canonical,
    )
