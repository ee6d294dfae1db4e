"""The SQL of one table's rows, as text: pure.

Names come from the validated YAML and are quoted; values are bound, or rendered from typed values.
"""
# ruff: noqa: S608 - as said above

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa
import pyarrow.compute as pc

from mystocks_ingest.errors import ConfigError
from mystocks_ingest.ports import Query
from mystocks_ingest.schema.newest import guards, stale
from mystocks_ingest.schema.tables import Column, Table
from mystocks_ingest.sinks.timescale.encoding import array_type, day_number, key_columns, selected
from mystocks_ingest.sinks.timescale.spelling import quoted, sql_type


@dataclass(frozen=True)
class Statements:
    """The SQL of one table for rows that have just ``columns``. Names come from the validated YAML, quoted."""

    table: Table
    columns: tuple[Column, ...]

    @property
    def _names(self) -> str:
        return ", ".join(quoted(c.name) for c in self.columns)

    @cached_property
    def _merge(self) -> str:
        """What happens to a row whose key is stored: written anew where it differs and is not older, else left alone."""
        key = ", ".join(quoted(k) for k in self.table.key)
        values = [c for c in self.columns if c.name not in self.table.key]
        if not values:
            return f"ON CONFLICT ({key}) DO NOTHING"
        changes = ", ".join(f"{quoted(c.name)} = EXCLUDED.{quoted(c.name)}" for c in values)
        return f"ON CONFLICT ({key}) DO UPDATE SET {changes} WHERE {self._replaces('EXCLUDED')}"

    def _replaces(self, other: str) -> str:
        by = guards(self.table, [c.name for c in self.columns])
        if not by:
            return self._differs(other)
        older = stale(by, lambda n: f"{quoted(self.table.name)}.{quoted(n)}", lambda n: f"{other}.{quoted(n)}")
        return f"NOT {older} AND {self._differs(other)}"

    def _differs(self, other: str) -> str:
        values = [c for c in self.columns if c.name not in self.table.key]
        stored = ", ".join(_comparable(quoted(self.table.name), c) for c in values)
        given = ", ".join(_comparable(other, c) for c in values)
        return f"ROW({stored}) IS DISTINCT FROM ROW({given})" if values else "false"

    @cached_property
    def insert(self) -> str:
        """A few rows, each column one array parameter."""
        arrays = ", ".join(f"${i}::{array_type(c)}" for i, c in enumerate(self.columns, 1))
        return f"INSERT INTO {quoted(self.table.name)} ({self._names}) SELECT * FROM unnest({arrays}) {self._merge}"

    @cached_property
    def known(self) -> str:
        """Whether one of some keys is stored; each is looked up by itself in the key's index."""
        keys = key_columns(self.table)
        arrays = ", ".join(f"${i}::{array_type(c)}" for i, c in enumerate(keys, 1))
        names = ", ".join(f"k{i}" for i in range(len(keys)))
        same = " AND ".join(f"t.{quoted(c.name)} = k.k{i}" for i, c in enumerate(keys))
        return (
            f"SELECT EXISTS (SELECT FROM unnest({arrays}) AS k({names}), "
            f"LATERAL (SELECT FROM {quoted(self.table.name)} t WHERE {same} LIMIT 1) AS found)"
        )

    @cached_property
    def stage(self) -> str:
        """A table for this transaction, with the columns given and none of the target's conditions."""
        return (
            f"CREATE TEMP TABLE mystocks_staged ON COMMIT DROP AS "
            f"SELECT {self._names} FROM {quoted(self.table.name)} WITH NO DATA"
        )

    @cached_property
    def merge_staged(self) -> str:
        """Staged rows that are new or differ go in. The time bounds let whole chunks be left out."""
        name = quoted(self.table.name)
        same = " AND ".join(f"{name}.{quoted(k)} = s.{quoted(k)}" for k in self.table.key)
        bounds = "".join(f" AND {name}.{quoted(c.name)} BETWEEN {{}} AND {{}}" for c in self._bounded)
        given = ", ".join(f"s.{quoted(c.name)}" for c in self.columns)
        first = quoted(self.table.key[0])
        return (
            f"INSERT INTO {name} ({self._names}) SELECT {given} FROM mystocks_staged s "
            f"LEFT JOIN {name} ON {same}{bounds} "
            f"WHERE {name}.{first} IS NULL OR ({self._replaces('s')}) {self._merge}"
        )

    @cached_property
    def _bounded(self) -> list[Column]:
        return [c for c in key_columns(self.table) if c.name == self.table.time_column]

    def bounds(self, rows: pa.RecordBatch) -> list[str]:
        """The literals for ``merge_staged``: the least and greatest time of the rows."""
        found = []
        for column in self._bounded:
            span = pc.min_max(rows.column(column.name)).as_py()
            kind = sql_type(column)
            zone = "+00" if kind == "timestamp with time zone" else ""
            found += [f"'{span[end].isoformat()}{zone}'::{kind}" for end in ("min", "max")]
        return found


def _comparable(of: str, column: Column) -> str:
    """The column in a form that has an equality; ``json`` has none."""
    name = f"{of}.{quoted(column.name)}"
    return f"{name}::text" if sql_type(column) == "json" else name


def wanted(table: Table, query: Query) -> list[Column]:
    known = {c.name: c for c in table.columns}
    unknown = [n for n in query.columns if n not in known]
    if unknown:
        raise ConfigError(f"table {table.name} has no column {', '.join(unknown)}; it has {', '.join(known)}")
    return [known[n] for n in query.columns or known]


def select(table: Table, query: Query, columns: Sequence[Column]) -> tuple[str, list[object]]:
    """The statement of a query and its values."""
    terms: list[str] = []
    values: list[object] = []
    if query.symbols:
        values.append(list(query.symbols))
        terms.append(f"symbol = ANY (${len(values)}::text[])")
    if query.window is not None and table.time_column is not None:
        kind = next(sql_type(c) for c in table.columns if c.name == table.time_column)
        zone = " AT TIME ZONE 'Asia/Shanghai'" if kind == "timestamp with time zone" else ""
        for sign, day in ((">=", query.window.start), ("<", query.window.end)):
            values.append(day_number(day))
            bound = f"${len(values)}::date" + (f"::timestamp{zone}" if kind != "date" else "")
            terms.append(f"{quoted(table.time_column)} {sign} {bound}")
    where = f" WHERE {' AND '.join(terms)}" if terms else ""
    cut = query.limit is not None
    order = f" ORDER BY {', '.join(_ordered(table, k, by_bytes=cut) for k in table.key)}" if table.key else ""
    limit = f" LIMIT {query.limit:d}" if query.limit is not None else ""
    given = ", ".join(selected(c) for c in columns)
    return f"SELECT {given} FROM {quoted(table.name)}{where}{order}{limit}", values


def _ordered(table: Table, key: str, *, by_bytes: bool) -> str:
    """A term of ORDER BY. Which rows come first must not hang on the database's language."""
    text = by_bytes and pa.types.is_string(table.schema.field(key).type)
    return f'{quoted(key)} COLLATE "C"' if text else quoted(key)
