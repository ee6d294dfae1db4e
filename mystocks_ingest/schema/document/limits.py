"""What a database cannot do, said when the file is read rather than when the statement fails.

Names are quoted in every statement, so a reserved word such as ``order`` is no trouble; only what quotes do not help
against stands here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mystocks_ingest.schema.document.layout import Found, Laid, Layout
from mystocks_ingest.schema.document.places import Place
from mystocks_ingest.schema.tables import Database
from mystocks_ingest.schema.types import UNSIGNED, Family

_SYSTEM_COLUMNS: Mapping[Database, frozenset[str]] = {
    Database.POSTGRESQL: frozenset({"tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"}),
    Database.TDENGINE: frozenset(
        [
            "tbname",
            "_c0",
            "_rowts",
            "_wstart",
            "_wend",
            "_wduration",
            "_qstart",
            "_qend",
            "_qduration",
            "_irowts",
            "_isfilled",
            "_none",
            "_tags",
        ]
    ),
}
_OWN_DATABASES: Mapping[Database, frozenset[str]] = {
    Database.POSTGRESQL: frozenset({"template0", "template1"}),
    Database.TDENGINE: frozenset({"information_schema", "performance_schema"}),
    Database.MYSQL: frozenset({"information_schema", "performance_schema", "mysql", "sys"}),
    Database.MARIADB: frozenset({"information_schema", "performance_schema", "mysql", "sys"}),
}
_MYSQL = frozenset({Database.MYSQL, Database.MARIADB})
_MYSQL_INDEXES = frozenset({"primary", "gen_clust_index"})
_MYSQL_TEXT, _MYSQL_ROW, _MYSQL_INDEX = 16_383, 65_535, 3_072  # characters of utf8mb4; bytes; bytes
_TDENGINE_ROW, _TDENGINE_TAGS, _TDENGINE_TAG_COUNT, _TDENGINE_COLUMNS = 65_531, 16_384, 128, 4_096
_POSTGRESQL_TEXT = 10_485_760
_UNINDEXED = frozenset({Family.JSON, Family.BYTES})


def complaints(layout: Layout) -> Found:
    """What this table's database cannot hold, with the remedy."""
    kind, entry = layout.database, layout.entry
    for column in layout.columns:
        if column.name.lower() in _SYSTEM_COLUMNS.get(kind, ()):
            yield f"{kind.value} keeps the name {column.name!r} for itself: choose another", (*column.at, "name")
    if entry.database_name.lower() in _OWN_DATABASES.get(kind, ()):
        yield f"{entry.database_name} is {kind.value}'s own database: choose another", ("database_name",)
    match kind:
        case Database.POSTGRESQL:
            yield from _postgresql(layout)
        case Database.MYSQL | Database.MARIADB:
            yield from _mysql(layout)
        case Database.TDENGINE:
            yield from _tdengine(layout)
            yield from _uncounted(layout)
        case Database.REDIS:
            yield from _uncounted(layout)
        case Database.EMBEDDED:
            pass
    if kind not in _MYSQL:
        for name in ("engine", "charset", "collation"):
            if getattr(entry, name) is not None:
                yield f"`{name}` is said of MySQL tables only: drop it", (name,)


def _postgresql(layout: Layout) -> Found:
    indexed = {c.removesuffix(" DESC") for index, _ in layout.indexes for c in index.columns} | set(layout.key)
    for column in layout.columns:
        if column.word in UNSIGNED:
            wider = "NUMERIC(20, 0)" if column.word == "BIGINT UNSIGNED" else "BIGINT"
            text = f"PostgreSQL has no {column.word} (column {column.name}): use {wider}"
            yield text, (*column.at, "type" if not column.entry.unsigned else "unsigned")
        if column.word == "JSON" and column.name in indexed:
            text = f"PostgreSQL cannot index or compare JSON (column {column.name}): use JSONB"
            yield text, (*column.at, "type")
        if (column.said.length or 0) > _POSTGRESQL_TEXT:
            text = f"{column.word} of column {column.name} is longer than PostgreSQL's {_POSTGRESQL_TEXT:,}: use TEXT"
            yield text, (*column.at, "length")


def _mysql(layout: Layout) -> Found:
    entry, numbered = layout.entry, [c for c in layout.columns if c.numbered]
    name = layout.database.value
    for column in numbered[1:]:
        text = f"{name} counts up one column a table, which is {numbered[0].name}: drop `auto_increment` here"
        yield text, (*column.at, "auto_increment")
    leading = {i.columns[0] for i, _ in layout.indexes} | set(layout.key[:1])
    for column in numbered[:1]:
        if column.name not in leading:
            text = (
                f"{name} counts up only the first column of a key or an index: make {column.name} `primary_key: true`"
            )
            yield text, (*column.at, "auto_increment")
    for index, at in layout.indexes:
        if index.name.lower() in _MYSQL_INDEXES:
            yield f"{name} keeps the index name {index.name!r} for itself: choose another", (*at, "name")
        yield from _mysql_index(layout, f"index {index.name}", index.columns, at)
    yield from _mysql_index(layout, "the key", layout.key, layout.key_at)
    for column in layout.columns:
        if column.family is Family.TEXT and column.word != "TEXT" and (column.said.length or 0) > _MYSQL_TEXT:
            text = f"{column.word} of column {column.name} is longer than {name}'s {_MYSQL_TEXT:,} characters: use TEXT"
            yield text, (*column.at, "length")
    width = sum(_bytes(c) for c in layout.columns)
    if width > _MYSQL_ROW:
        longest = max(layout.columns, key=_bytes)
        text = f"a row of {name} holds {_MYSQL_ROW:,} bytes, not {width:,}: make {longest.name} a TEXT"
        yield text, (*longest.at, "length")
    if entry.engine is not None and entry.engine.lower() != "innodb":
        yield f"`engine` is {entry.engine!r}; rows are kept in InnoDB, the only one with transactions", ("engine",)
    if entry.charset is not None and entry.charset.lower().replace("-", "") not in ("utf8mb4", "utf8"):
        yield f"`charset` is {entry.charset!r}; text is kept in utf8mb4, which holds every letter", ("charset",)


def _mysql_index(layout: Layout, what: str, columns: Sequence[str], at: Place) -> Found:
    found = [c for c in (layout.column(name.removesuffix(" DESC")) for name in columns) if c is not None]
    for column in found:
        endless = column.word in ("TEXT", "TINYTEXT", "MEDIUMTEXT", "LONGTEXT") or column.family in _UNINDEXED
        if endless and not column.said.trouble:
            text = (
                f"{layout.database.value} cannot index {column.word} (column {column.name}): use VARCHAR with a length"
            )
            yield f"{what}: {text}", at
    width = sum(_bytes(c) for c in found)
    if width > _MYSQL_INDEX:
        yield (
            f"{what} has {width:,} bytes and {layout.database.value} indexes {_MYSQL_INDEX:,}: shorten its columns",
            at,
        )


def _bytes(column: Laid) -> int:
    """The most a value takes within a row, in bytes; long texts lie elsewhere."""
    if column.family is Family.TEXT and column.word not in ("ENUM", "TEXT", "TINYTEXT", "MEDIUMTEXT", "LONGTEXT"):
        return 4 * (column.said.length or 0)
    return (column.said.length or 0) if column.word == "VARBINARY" else 8


def _tdengine(layout: Layout) -> Found:
    tags, values = [c for c in layout.columns if c.is_tag], [c for c in layout.columns if not c.is_tag]
    time = values[0].name if values else ""
    required = layout.dataset.required if layout.dataset is not None else ()
    for column in values[1:]:
        if column.entry.nullable is False and column.name not in (*layout.key, *required):
            text = f"TDengine cannot refuse NULL in a column of values (column {column.name}): drop `nullable: false`"
            yield text, (*column.at, "nullable")
    if layout.key:
        rest = [k for k in layout.key if k not in {c.name for c in tags} and k != time]
        if time and time not in layout.key:
            yield f"the key must hold {time}: TDengine keeps one row a time", layout.key_at
        elif len(rest) > 1:
            text = "beside tags TDengine's key is the time and at most one more column"
            yield f"{text}, not {', '.join(rest)}: make one of them a tag", layout.key_at
    for index, at in layout.indexes:
        if index.unique:
            yield f"TDengine keeps nothing unique but the key: drop index {index.name}, or make it the `key`", at
    for held, most, what in ((values, _TDENGINE_ROW, "row"), (tags, _TDENGINE_TAGS, "set of tags")):
        width = sum(_tdengine_bytes(c) for c in held)
        if width > most:
            longest = max(held, key=_tdengine_bytes)
            yield f"a {what} of TDengine holds {most:,} bytes, not {width:,}: shorten {longest.name}", longest.at
    if len(tags) > _TDENGINE_TAG_COUNT:
        yield f"TDengine takes {_TDENGINE_TAG_COUNT} tags, not {len(tags)}", tags[_TDENGINE_TAG_COUNT].at
    if len(layout.columns) > _TDENGINE_COLUMNS:
        text = f"TDengine takes {_TDENGINE_COLUMNS:,} columns, not {len(layout.columns):,}"
        yield text, layout.columns[_TDENGINE_COLUMNS].at


def _tdengine_bytes(column: Laid) -> int:
    if column.family in (Family.TEXT, Family.BYTES, Family.JSON):
        return (4 if column.word in ("NCHAR", "NVARCHAR") else 1) * (column.said.length or 0) + 2
    return 8


def _uncounted(layout: Layout) -> Found:
    for column in layout.columns:
        if column.numbered:
            text = f"{layout.database.value} counts no column up (column {column.name}): give the number with the row"
            yield text, (*column.at, "auto_increment" if column.entry.auto_increment else "type")
