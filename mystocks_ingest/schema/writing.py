"""Tables as the text of a table file, which ``schema.tables.load`` reads back as the same tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Any

import yaml

from mystocks_ingest.schema.document.defaults import written as written_default
from mystocks_ingest.schema.keyspace import KeySpace, Kind
from mystocks_ingest.schema.tables import Column, Index, Route, Storage, Table


class _Line(dict[str, Any]):
    """A mapping written on one line."""


class _Flow(list[Any]):
    """A list written on one line."""


class _Dumper(yaml.SafeDumper):
    """Lists are indented below their name, and nothing is an anchor, as people write it."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002 - its signature
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - its signature
        return True


_Dumper.add_representer(
    _Line, lambda dumper, data: dumper.represent_mapping("tag:yaml.org,2002:map", data, flow_style=True)
)
_Dumper.add_representer(
    _Flow, lambda dumper, data: dumper.represent_sequence("tag:yaml.org,2002:seq", data, flow_style=True)
)


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    """In double quotes wherever a line break or another control character has to be escaped."""
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if text.isprintable() else '"')


_Dumper.add_representer(str, _text)


def written(tables: Iterable[Table], *, heading: str = "") -> str:
    """The file's text, a column a line. ``heading`` stands above it as a comment."""
    top = "".join(f"# {line}\n".replace("# \n", "#\n") for line in heading.splitlines())
    parts = [
        yaml.dump([_entry(table)], Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10_000)
        for table in tables
    ]
    if not parts:
        return f"{top}tables: []\n"
    return f"{top}tables:\n" + "\n".join(
        "".join(f"  {line}" for line in part.splitlines(keepends=True)) for part in parts
    )


def _entry(table: Table) -> dict[str, Any]:
    """A table as the file's mapping: nothing that is so anyway."""
    entry: dict[str, Any] = {
        "database_type": table.database_type.value,
        "database_name": table.database_name,
        "table_name": table.name,
    }
    if table.dataset is not None:
        entry["dataset"] = table.dataset.name
    if table.key or any(index.unique for index in table.indexes):  # an empty key: no unique index is to serve as one
        entry["key"] = _Flow(table.key)
    if table.newest_by is not None:
        entry["newest_by"] = _Flow(table.newest_by)
    if table.route is not Route.REQUIRED:
        entry["route"] = table.route.value
    if table.is_super_table:
        entry["is_super_table"] = True
    if table.is_timescale_hypertable:
        entry["is_timescale_hypertable"] = True
    if table.time_column is not None:
        entry["time_column"] = table.time_column
    entry.update(_storage(table.storage))
    if table.key_space is not None:
        entry["redis"] = _Line(_key_space(table.key_space))
    if table.comment:
        entry["comment"] = table.comment
    entry["columns"] = [_Line(_column(column, table)) for column in table.columns]
    if table.indexes:
        entry["indexes"] = [_Line(_index(index)) for index in table.indexes]
    return entry


def _column(column: Column, table: Table) -> Iterator[tuple[str, Any]]:
    yield "name", column.name
    yield "type", column.type
    for name in ("length", "precision", "scale"):
        if getattr(column, name) is not None:
            yield name, getattr(column, name)
    if column.values:
        yield "values", _Flow(column.values)
    if not column.nullable and column.name not in table.key and not column.numbered:
        yield "nullable", False
    if column.numbered:
        yield "auto_increment", True
    if column.default is not None:
        default = written_default(column.default, column.type)
        yield "default", _Line(default) if isinstance(default, dict) else default
    if column.touched:
        yield "on_update", "CURRENT_TIMESTAMP"
    if column.is_tag:
        yield "is_tag", True
    if column.comment:
        yield "comment", column.comment


def _index(index: Index) -> Iterator[tuple[str, Any]]:
    yield "name", index.name
    yield "columns", _Flow(index.columns)
    if index.unique:
        yield "unique", True


def _storage(storage: Storage) -> Iterator[tuple[str, Any]]:
    if storage.chunk is not None:
        yield "chunk_interval", _span(storage.chunk)
    if storage.retention is not None:
        yield "retention_days", _span(storage.retention)
    if storage.compress is False:
        yield "compression", False
        return
    said: dict[str, Any] = {"enabled": True} if storage.compress else {}
    if storage.compress_after is not None:
        said["compress_after"] = _span(storage.compress_after)
    if storage.segment_by:
        said["segment_by"] = _Flow(storage.segment_by)
    if storage.order_by:
        said["order_by"] = _Flow(storage.order_by)
    if storage.codec is not None:
        said["codec"] = storage.codec
    if storage.level is not None:
        said["level"] = storage.level
    if said:
        yield "compression", _Line(said) if said != {"enabled": True} else True


def _span(span: timedelta) -> int | str:
    seconds = span.total_seconds()
    if not span % timedelta(days=1):
        return span.days
    if not span % timedelta(hours=1):
        return f"{span // timedelta(hours=1)} hours"
    return f"{seconds:g} seconds" if seconds == int(seconds) and seconds < 1e6 else f"{seconds!r} seconds"


def _key_space(space: KeySpace) -> Iterator[tuple[str, Any]]:
    plain = KeySpace(space.pattern)
    yield "pattern", space.pattern
    for name in ("kind", "expire_seconds", "channel", "stream", "stream_length"):
        value = getattr(space, name)
        if value != getattr(plain, name):
            yield name, value.value if isinstance(value, Kind) else value
