"""The reader of ``tables.yaml``: every complaint with its line and column, all of them at once."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from mystocks_ingest.errors import ConfigError
from mystocks_ingest.schema.document import beside, checks, storage
from mystocks_ingest.schema.document.entries import TableEntry
from mystocks_ingest.schema.document.layout import Layout, built, laid_out
from mystocks_ingest.schema.document.places import Complaint, Place, Source
from mystocks_ingest.schema.document.salvage import Salvaged, salvaged
from mystocks_ingest.schema.document.values import Document, Remark
from mystocks_ingest.schema.keyspace import KeySpace
from mystocks_ingest.schema.tables import Database, Table

_UNINDEXED = frozenset({Database.TDENGINE, Database.REDIS})
_Read = tuple[int, Salvaged[TableEntry], Layout]


def read(path: Path, environment: Mapping[str, str] | None = None) -> tuple[tuple[Table, ...], Document]:
    """The tables of the file at ``path``, and what else it says. Raises ConfigError.

    ``environment`` fills ``${NAME}`` in names of databases; default the process's own.
    """
    source = Source(path)
    context = {"environment": os.environ if environment is None else environment}
    complaints = list(source.repeated)
    items = _items(source)
    document = beside.document(source.data, complaints, context)
    read_tables: list[_Read] = []
    for number, item in enumerate(items):
        entry = salvaged(TableEntry, item, ("tables", number), complaints, context)
        if entry is not None:
            read_tables.append((number, entry, laid_out(entry.entry)))
    for number, entry, layout in read_tables:
        complaints += _own(number, entry, layout)
    complaints += _repeated([(n, layout) for n, e, layout in read_tables if not _unnamed(e)])
    if complaints:
        raise ConfigError(source.report(complaints))
    tables = tuple(_table(layout, source.where(("tables", number))) for number, _, layout in read_tables)
    return tables, replace(document, remarks=tuple(_remarks(source, read_tables)))


def _items(source: Source) -> list[object]:
    data = source.data
    if not isinstance(data, dict) or not isinstance(data.get("tables"), list):
        complaint = Complaint((), "the file must be a mapping with a list `tables:`")
        raise ConfigError(source.report([complaint]))
    return list(data["tables"])


def _own(number: int, read: Salvaged[TableEntry], layout: Layout) -> Iterator[Complaint]:
    """Complaints of one table, but for those that only follow from one that was made already."""
    doubtful = [_anchor(place) for place in read.doubtful]
    only_columns = any(_shakes(place) for place in read.doubtful)
    for text, at in checks.complaints(layout):
        if any(at[: len(place)] == place for place in doubtful):
            continue
        if only_columns and not (at[0] in ("columns", "tags") and len(at) > 1):
            continue
        yield Complaint(("tables", number, *at), f"{text} (table {layout.entry.table_name})")


def _anchor(place: Place) -> Place:
    """What is said of a column's type depends on all of it, so a doubtful size makes its column doubtful."""
    sized = place[0] in ("columns", "tags") and place[-1] in ("type", "length", "precision", "scale")
    return place[:2] if sized else place


def _shakes(place: Place) -> bool:
    """Whether a mistake there makes what is said of the whole table unsure."""
    of_table = place[0] in ("key", "dataset", "database_type") or place in {("columns",), ("tags",)}
    return of_table or (place[0] in ("columns", "tags") and (place[-1] == "name" or len(place) == 2))


def _unnamed(read: Salvaged[TableEntry]) -> bool:
    return any(place[0] in ("database_type", "database_name", "table_name") for place in read.doubtful)


def _repeated(read: Sequence[tuple[int, Layout]]) -> Iterator[Complaint]:
    """Tables that stand twice, and names that PostgreSQL, where indexes share the tables' names, could not keep apart."""
    seen: dict[tuple[str, str, str], int] = {}
    for number, layout in read:
        entry = layout.entry
        full = (entry.database_type.value, entry.database_name, entry.table_name.lower())
        if full in seen:
            text = f"table {'.'.join(full)} stands twice (first as number {seen[full] + 1})"
            yield Complaint(("tables", number, "table_name"), text)
        seen.setdefault(full, number)
    taken = {(r.entry.database_name, r.entry.table_name): f"table {r.entry.table_name}" for _, r in read if _shared(r)}
    for number, layout in read:
        for index, at in layout.indexes if _shared(layout) else ():
            name = (layout.entry.database_name, index.name)
            if name in taken and taken[name] != f"index of {layout.entry.table_name}":
                text = f"index {index.name!r} shares its name with the {taken[name]}, which PostgreSQL cannot have"
                yield Complaint(("tables", number, *at, "name"), f"{text} (table {layout.entry.table_name})")
            taken.setdefault(name, f"index of {layout.entry.table_name}")


def _shared(layout: Layout) -> bool:
    return layout.database is Database.POSTGRESQL


def _table(layout: Layout, where: str) -> Table:
    entry, key = layout.entry, layout.key
    keeps_indexes = entry.database_type not in _UNINDEXED
    return Table(
        entry.table_name,
        entry.database_type,
        entry.database_name,
        tuple(built(c, key=key, dataset=layout.dataset) for c in layout.columns),
        key,
        layout.dataset,
        entry.route,
        layout.time_column,
        is_super_table=layout.is_super_table,
        is_timescale_hypertable=layout.is_hypertable,
        comment=entry.comment or entry.description,
        indexes=tuple(index for index, _ in layout.indexes) if keeps_indexes else (),
        storage=storage.stored(layout),
        where=where,
        key_space=KeySpace(**dict(entry.redis)) if entry.redis is not None else None,
        newest_by=entry.newest_by,
    )


def _remarks(source: Source, read: Sequence[_Read]) -> Iterator[Remark]:
    """What is right and yet worth saying."""
    for number, _, layout in read:
        name, at = layout.entry.table_name, ("tables", number)
        kind = layout.database.value
        if not layout.key:
            proposal = ", ".join(_proposed(layout)) or "column, ..."
            text = f"table {name} has no key: it is made, but nothing is written to it; add `key: [{proposal}]`"
            yield Remark(source.where(at), text)
        if layout.indexes and layout.database in _UNINDEXED:
            text = f"{kind} has no such indexes, so those of table {name} are left out"
            yield Remark(source.where((*at, *layout.indexes[0][1])), text)
        if storage.only_kept_in_mind(layout):
            text = f"{kind} deletes no rows by itself, so `retention_days` of table {name} is only kept in mind"
            yield Remark(source.where((*at, "retention_days")), text)


def _proposed(layout: Layout) -> tuple[str, ...]:
    if layout.dataset is not None:
        return layout.dataset.key
    if layout.is_super_table:
        first = next((c.name for c in layout.columns if not c.is_tag), "")
        return (*(c.name for c in layout.columns if c.is_tag), first)
    return tuple(c.name for c in layout.columns if c.entry.nullable is False)
