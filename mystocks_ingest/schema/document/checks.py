"""What does not go together in a table: key and columns, columns and dataset, kind and columns."""

from __future__ import annotations

import re

from mystocks_ingest.market.datasets import DATASETS
from mystocks_ingest.schema.document import limits, storage
from mystocks_ingest.schema.document.fields import DATABASE_NAME, NAME
from mystocks_ingest.schema.document.layout import Found, Laid, Layout
from mystocks_ingest.schema.document.words import is_timed, takes_length
from mystocks_ingest.schema.keyspace import KeySpace
from mystocks_ingest.schema.tables import Database
from mystocks_ingest.schema.types import SIZED, Family, misfit

_SHORT_FLOAT = frozenset({Database.TDENGINE, Database.MYSQL, Database.MARIADB})
_NEEDS_LENGTH = _SHORT_FLOAT
_RISING = (Family.MOMENT, Family.DAY, Family.INTEGER)


def complaints(layout: Layout) -> Found:
    """Everything wrong with one table, each with its place in the table's entry."""
    yield from layout.troubles
    yield from _names(layout)
    yield from _key(layout)
    for i, column in enumerate(layout.columns):
        yield from column.troubles
        yield from _column(layout, column, layout.names[:i])
    yield from _indexes(layout)
    yield from _newest(layout)
    yield from _dataset(layout)
    yield from _kind(layout)
    yield from storage.complaints(layout)
    yield from limits.complaints(layout)


def _names(layout: Layout) -> Found:
    entry = layout.entry
    said = [(entry.table_name, ("table_name",)), *((c.name, (*c.at, "name")) for c in layout.columns)]
    said += [(index.name, (*at, "name")) for index, at in layout.indexes]
    for name, at in said:
        if not re.fullmatch(NAME, name):
            yield f"`{at[-1]}` is {name!r}; a name has letters, digits and _ (at most 63)", at
    unnamed = not entry.database_name and layout.database is Database.REDIS  # there names of keys are all there is
    if not re.fullmatch(DATABASE_NAME, entry.database_name) and not unnamed:
        text = f"`database_name` is {entry.database_name!r}; a name has letters, digits and _ (at most 63)"
        yield text, ("database_name",)
    if not entry.columns:
        yield "a table needs at least one column", ("columns",)


def _key(layout: Layout) -> Found:
    key, dataset = layout.key, layout.dataset
    for name in dict.fromkeys(key):
        if name not in layout.names:
            yield f"`key` names {name!r}, which is not a column of it", layout.key_at
        elif dataset is not None and name not in dataset.required:
            yield f"`key` names {name!r}, which rows of dataset {dataset} may lack", layout.key_at
    if len(set(key)) < len(key):
        yield "`key` names a column twice", layout.key_at


def _column(layout: Layout, column: Laid, before: tuple[str, ...]) -> Found:
    at, name, word, said = column.at, column.name, column.word, column.said
    if name.lower() in (other.lower() for other in before):
        yield f"column {name!r} stands twice", (*at, "name")
    if column.entry.nullable and name in layout.key:
        yield f"column {name} belongs to the key and cannot be null", (*at, "nullable")
    if column.entry.nullable and column.numbered:
        yield f"column {name} is counted up by the database and cannot be null", (*at, "nullable")
    if column.is_tag and not layout.is_super_table:
        place = (*at, "is_tag") if at[0] == "columns" else at
        yield f"column {name} is a tag, but the table is no super table: add `is_super_table: true`", place
    family = column.family
    if family is None or said.trouble:
        return
    if said.length is not None and not takes_length(word):
        yield f"{word} takes no `length` (column {name})", (*at, "length")
    elif said.length is not None and is_timed(word) and said.length > 6:
        yield f"{word} keeps at most 6 digits after the second (column {name})", (*at, "length")
    if said.length is None and word in SIZED and layout.database in _NEEDS_LENGTH:
        yield f"{word} needs a `length` in {layout.database.value} (column {name})", (*at, "type")
    if word == "ENUM" and not said.values:
        yield f"ENUM needs its `values` (column {name})", (*at, "type")
    if len(set(said.values)) < len(said.values):
        yield f"the values of ENUM hold one twice (column {name})", (*at, "values")
    given = [place for place in ("scale", "precision") if getattr(column.entry, place) is not None]
    if family is not Family.DECIMAL and given:
        yield f"{word} takes no `{given[0]}` (column {name})", (*at, given[0])
    if family is Family.DECIMAL and not 0 <= (said.scale or 0) <= (said.precision or 38) <= 38:
        place = (*at, given[0] if given else "type")
        yield f"{word} of column {name} must have 0 <= scale <= precision <= 38", place
    if column.numbered and family is not Family.INTEGER:
        yield f"only whole numbers can be counted up, not {word} (column {name})", (*at, "auto_increment")
    if column.numbered and column.meaning.default is not None:
        yield f"column {name} is counted up by the database: drop its default", (*at, "default")


def _indexes(layout: Layout) -> Found:
    seen: set[str] = set()
    for index, at in layout.indexes:
        for i, column in enumerate(index.columns):
            if column.removesuffix(" DESC") not in layout.names:
                text = f"an index names {column.removesuffix(' DESC')!r}, which is not a column of it"
                yield text, (*at, "columns", i)
        plain = [c.removesuffix(" DESC") for c in index.columns]
        if len(set(plain)) < len(plain):
            yield f"index {index.name} names a column twice", at
        if index.name.lower() in seen:
            yield f"index {index.name!r} stands twice", (*at, "name")
        seen.add(index.name.lower())


def _newest(layout: Layout) -> Found:
    given = layout.entry.newest_by or ()
    fields = layout.dataset.fields if layout.dataset is not None and layout.database is not Database.REDIS else ()
    states = {f.name for f in fields if f.first or f.last}
    for i, name in enumerate(given):
        at, column = ("newest_by", i), layout.column(name)
        if column is None:
            yield f"`newest_by` names {name!r}, which is not a column of it", at
        elif name in layout.key:
            yield f"`newest_by` names {name}, which belongs to the key: rows of one key have one {name}", at
        elif column.family not in (None, *_RISING) and name not in states:
            yield f"`newest_by` names {name}, a {column.word}: it takes times, days and whole numbers", at
        elif name in given[:i]:
            yield f"`newest_by` names {name} twice", at
    if given and layout.database is Database.TDENGINE:
        yield "in TDengine the later row of a key stands, so `newest_by` cannot hold there: drop it", ("newest_by",)
    if len(given) > 1 and layout.database is Database.REDIS:
        yield "in Redis one column tells which row is the newest: name one in `newest_by`", ("newest_by",)


def _dataset(layout: Layout) -> Found:
    entry, dataset = layout.entry, layout.dataset
    if dataset is None:
        if entry.dataset is not None:
            yield f"unknown dataset {entry.dataset!r}; known: {', '.join(sorted(DATASETS))}", ("dataset",)
        return
    fields = {f.name: f for f in dataset.fields}
    missing = [n for n in dataset.required if n not in layout.names]
    if missing:
        yield f"dataset {dataset} needs the columns {', '.join(missing)}", ("columns",)
    for column in layout.columns:
        field = fields.get(column.name)
        if field is not None and column.family is not None and not column.said.trouble:
            reason = misfit(column.word, field, short_float=layout.database in _SHORT_FLOAT)
            if reason is not None:
                yield reason, (*column.at, "type")
        filled = column.meaning.default is not None or column.numbered
        if field is None and column.entry.nullable is False and not filled:
            remedy = "drop the column, let it be null, or give it a default"
            yield f"{dataset} has no {column.name!r}, so every row would be refused: {remedy}", column.at


def _kind(layout: Layout) -> Found:
    entry = layout.entry
    if entry.time_column is not None and entry.time_column not in layout.names:
        yield f"`time_column` is {entry.time_column!r}, which is not a column of it", ("time_column",)
    elif layout.time_column is not None and layout.time_column not in layout.names:
        yield f"`time_column` is {layout.time_column!r}, which is not a column of it", ("timescaledb", "time_column")
    if layout.is_hypertable:
        yield from _hypertable(layout)
    if entry.redis is not None:
        if entry.database_type is not Database.REDIS:
            yield "only a Redis table has `redis:`", ("redis",)
        for complaint in KeySpace(**dict(entry.redis)).complaints(layout.key):
            yield complaint, ("redis", "pattern")
    if layout.is_super_table:
        at = ("is_super_table",) if entry.is_super_table else ("tags",) if entry.tags else ("tdengine",)
        if entry.database_type is not Database.TDENGINE:
            yield "only a TDengine table can be a super table", at
            return
        if not any(c.is_tag for c in layout.columns):
            yield "a super table needs a column with `is_tag: true`", at
    if entry.database_type is Database.TDENGINE:
        first = next((c for c in layout.columns if not c.is_tag), None)
        if first is None or (first.word != "TIMESTAMP" and first.family is not None):
            kind = "super table" if layout.is_super_table else "TDengine table"
            yield f"the first column of a {kind} must be its TIMESTAMP", ("columns",)


def _hypertable(layout: Layout) -> Found:
    time, at = layout.time_column, ("is_timescale_hypertable",)
    if layout.entry.is_timescale_hypertable is None:
        at = ("timescaledb",)
    if layout.database is not Database.POSTGRESQL:
        yield "only a PostgreSQL table can be a hypertable", at
        return
    if time is None:
        yield "a hypertable needs a `time_column`", at
        return
    column = layout.column(time)
    if column is not None and column.family not in (None, Family.DAY, Family.MOMENT):
        text = f"the time column {time} of a hypertable must be a DATE or a TIMESTAMP, not {column.word}"
        yield text, (*column.at, "type")
    if layout.key and time not in layout.key and column is not None:
        how = "`key`" if layout.entry.key is not None else "it by `primary_key: true`"
        remedy = f"add {time} to {how}, or drop `is_timescale_hypertable`"
        yield f"the key of a hypertable must contain its time column {time}: {remedy}", layout.key_at
    for index, place in layout.indexes:
        if index.unique and time not in (c.removesuffix(" DESC") for c in index.columns):
            remedy = f"add {time} to it, or drop `unique`"
            text = f"the unique index {index.name} of a hypertable must contain its time column {time}: {remedy}"
            yield text, place
