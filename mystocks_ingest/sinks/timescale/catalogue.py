"""The structure of every table of one database, read from its catalogue in a handful of queries.

Tables are those an unqualified name reaches. Chunks, partitions, tables of extensions and what TimescaleDB keeps for
itself are not among them; nor is the index on the time column of a table that is cut by it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mystocks_ingest.schema.structure import ColumnShape, IndexShape, TableShape
from mystocks_ingest.sinks.timescale.database import Connection, transaction
from mystocks_ingest.sinks.timescale.ddl import TOUCHED
from mystocks_ingest.sinks.timescale.defaults import normal
from mystocks_ingest.sinks.timescale.spelling import span
from mystocks_ingest.sinks.timescale.structure import too_old

_OURS = """
    c.relkind IN ('r', 'p') AND NOT c.relispartition AND n.nspname !~ '^(pg_|_?timescaledb|information_schema$)'
    AND pg_table_is_visible(c.oid)
"""
_TABLES = f"""
    SELECT c.oid, c.relname, coalesce(obj_description(c.oid, 'pg_class'), ''),
           (SELECT a.attname FROM pg_partitioned_table p JOIN pg_attribute a ON a.attrelid = c.oid
            WHERE p.partrelid = c.oid AND a.attnum = p.partattrs[0])
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE {_OURS} AND NOT EXISTS (SELECT FROM pg_depend d
        WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
    ORDER BY c.relname
"""  # noqa: S608 - constants of this module
_COLUMNS = """
    SELECT a.attrelid, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull,
           CASE WHEN a.attgenerated = '' THEN pg_get_expr(d.adbin, d.adrelid) END,
           coalesce(col_description(a.attrelid, a.attnum), ''),
           a.attidentity <> '' OR (pg_get_expr(d.adbin, d.adrelid) LIKE 'nextval(%' AND EXISTS (
               SELECT FROM pg_depend o WHERE o.refclassid = 'pg_class'::regclass AND o.refobjid = a.attrelid
               AND o.refobjsubid = a.attnum AND o.classid = 'pg_class'::regclass AND o.deptype = 'a'))
    FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE a.attrelid = ANY ($1::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
    ORDER BY a.attrelid, a.attnum
"""
_INDEXES = """
    SELECT i.indrelid, c.relname, i.indisunique, i.indisprimary,
           ARRAY(SELECT coalesce(a.attname::text, pg_get_indexdef(i.indexrelid, k, true))
                        || CASE i.indoption[k - 1] WHEN 0 THEN '' WHEN 1 THEN ' DESC NULLS LAST' WHEN 2 THEN
                           ' NULLS FIRST' ELSE ' DESC' END
                 FROM generate_series(1, i.indnkeyatts) k
                 LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = nullif(i.indkey[k - 1], 0)
                 ORDER BY k),
           CASE WHEN m.amname = 'btree' THEN '' ELSE ' USING ' || m.amname END
           || coalesce(' WHERE ' || pg_get_expr(i.indpred, i.indrelid), '')
           || CASE WHEN i.indisvalid THEN '' ELSE ' INVALID' END
    FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am m ON m.oid = c.relam
    WHERE i.indrelid = ANY ($1::oid[]) AND NOT i.indisexclusion
    ORDER BY c.relname
"""
_TRIGGERS = f"""
    SELECT g.tgrelid, g.tgargs FROM pg_trigger g JOIN pg_proc p ON p.oid = g.tgfoid
    WHERE g.tgrelid = ANY ($1::oid[]) AND p.proname = '{TOUCHED}' AND g.tgnargs = 1 AND g.tgenabled <> 'D'
"""  # noqa: S608 - as above
_EDITION = """
    SELECT extversion, current_setting('timescaledb.license', true) FROM pg_extension WHERE extname = 'timescaledb'
"""
_DIMENSIONS = """
    SELECT to_regclass(format('%I.%I', hypertable_schema, hypertable_name))::oid, column_name::text,
           extract(epoch FROM time_interval)::float8
    FROM timescaledb_information.dimensions WHERE dimension_number = 1
"""
_COMPRESSED = """
    SELECT to_regclass(format('%I.%I', hypertable_schema, hypertable_name))::oid, attname::text,
           segmentby_column_index, orderby_column_index, orderby_asc, orderby_nullsfirst
    FROM timescaledb_information.compression_settings
    ORDER BY 1, segmentby_column_index, orderby_column_index
"""
_POLICIES = """
    SELECT to_regclass(format('%I.%I', hypertable_schema, hypertable_name))::oid,
           extract(epoch FROM (config ->> 'compress_after')::interval)::float8,
           extract(epoch FROM (config ->> 'drop_after')::interval)::float8
    FROM timescaledb_information.jobs
    WHERE hypertable_name IS NOT NULL AND proc_name IN ('policy_compression', 'policy_retention')
"""
_PACKED = """
    SELECT DISTINCT to_regclass(format('%I.%I', hypertable_schema, hypertable_name))::oid
    FROM timescaledb_information.chunks WHERE is_compressed
"""


@dataclass(frozen=True, slots=True)
class Found:
    """One database.

    ``limited``: its TimescaleDB knows neither compression nor policies. ``packed``: tables with compressed chunks.
    """

    tables: tuple[TableShape, ...]
    limited: bool
    packed: frozenset[str]
    complaint: str = ""  # its TimescaleDB is too old to be asked


async def inspected(connection: Connection, database: str) -> Found:
    """Everything in one transaction; without the planner's compiler, which would take longer than the queries."""
    async with transaction(
        connection, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY", "SET LOCAL jit = off"
    ):
        tables = await connection.fetch(_TABLES)
        oids = [r[0] for r in tables]
        columns: dict[int, list[Sequence[object]]] = defaultdict(list)
        for oid, *row in await connection.fetch(_COLUMNS, oids):
            columns[oid].append(row)
        indexes: dict[int, list[Sequence[object]]] = defaultdict(list)
        for oid, *row in await connection.fetch(_INDEXES, oids):
            indexes[oid].append(row)
        touched = {(oid, args.rstrip(b"\0").decode()) for oid, args in await connection.fetch(_TRIGGERS, oids)}
        edition = await connection.fetchrow(_EDITION)
        limited = edition is not None and edition[1] not in (None, "timescale")
        complaint = too_old(edition[0]) if edition is not None else ""
        asked = edition is not None and not complaint
        options, packed = await _hypertables(connection) if asked else ({}, frozenset())
    shapes = []
    for oid, name, comment, partition in tables:
        settings = options.get(oid, {}) if partition is None else {"partition": partition}
        key, others = _indexes(indexes[oid], settings.get("hypertable") or settings.get("partition"))
        shapes.append(
            TableShape(
                database,
                name,
                tuple(_column(row, touched=(oid, row[0]) in touched) for row in columns[oid]),
                key,
                others,
                comment=comment,
                options=tuple(settings.items()),
            )
        )
    names = {oid: name for oid, name, *_ in tables}
    return Found(tuple(shapes), limited, frozenset(names[oid] for oid in packed if oid in names), complaint)


def _column(row: Sequence[object], *, touched: bool) -> ColumnShape:
    name, kind, bound, default, comment, numbered = row
    assert isinstance(name, str) and isinstance(kind, str) and isinstance(comment, str)  # noqa: S101, PT018 - as asked
    assert default is None or isinstance(default, str)  # noqa: S101 - as asked
    return ColumnShape(
        name,
        kind,
        nullable=not bound,
        default=None if numbered else normal(default, kind),
        comment=comment,
        numbered=bool(numbered),
        touched=touched,
    )


def _indexes(rows: Sequence[Sequence[object]], cut: str | None) -> tuple[tuple[str, ...], tuple[IndexShape, ...]]:
    key: tuple[str, ...] = ()
    found = []
    for name, unique, primary, columns, rest in rows:
        assert isinstance(columns, list)  # noqa: S101 - as asked
        if primary:
            key = tuple(columns)
            continue
        if cut is not None and not unique and not rest and [str(c).split()[0] for c in columns] == [cut]:
            continue
        listed = [str(c) for c in columns]
        listed[-1] += str(rest)
        found.append(IndexShape(str(name), tuple(listed), unique=bool(unique)))
    return key, tuple(found)


async def _hypertables(connection: Connection) -> tuple[Mapping[int, dict[str, str]], frozenset[int]]:
    """The options of each hypertable by its oid, in the dialect's order, and those with compressed chunks."""
    options: dict[int, dict[str, str]] = {}
    for oid, column, seconds in await connection.fetch(_DIMENSIONS):
        options[oid] = {"hypertable": column} | ({"chunk": span(seconds)} if seconds is not None else {})
    lists: dict[tuple[int, str], list[str]] = defaultdict(list)
    for oid, column, segment, _, ascending, nulls_first in await connection.fetch(_COMPRESSED):
        if segment is not None:
            lists[oid, "segment_by"].append(column)
        else:
            nulls = "" if nulls_first is not ascending else f" NULLS {'FIRST' if nulls_first else 'LAST'}"
            lists[oid, "order_by"].append(f"{column}{'' if ascending else ' DESC'}{nulls}")
    ages: dict[tuple[int, str], str] = {}
    for oid, compress, drop in await connection.fetch(_POLICIES):
        ages |= {(oid, "compress_after"): span(compress)} if compress is not None else {}
        ages |= {(oid, "retention"): span(drop)} if drop is not None else {}
    for oid, found in options.items():
        found |= {name: ", ".join(lists[oid, name]) for name in ("segment_by", "order_by") if (oid, name) in lists}
        found |= {name: ages[oid, name] for name in ("compress_after", "retention") if (oid, name) in ages}
    return options, frozenset(r[0] for r in await connection.fetch(_PACKED))
