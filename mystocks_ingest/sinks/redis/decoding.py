"""Redis replies to rows: texts column by column, cast to the table's types, put in key order."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc

from mystocks_ingest.errors import ConfigError
from mystocks_ingest.market.frames import Window
from mystocks_ingest.ports import Query
from mystocks_ingest.schema.keyspace import KeySpace
from mystocks_ingest.schema.tables import Table
from mystocks_ingest.sinks.redis.encoding import flag_of, guard_of

Texts = Mapping[str, Sequence[bytes | None]]
_SHANGHAI = ZoneInfo("Asia/Shanghai")
_GLOB = re.compile(rb"([\\*?\[\]])")


def columns_of(table: Table, query: Query) -> tuple[str, ...]:
    """The columns wanted. Raises ConfigError."""
    known = [c.name for c in table.columns]
    unknown = [n for n in query.columns if n not in known]
    if unknown:
        raise ConfigError(f"table {table.name} has no column {', '.join(unknown)}; it has {', '.join(known)}")
    return query.columns or tuple(known)


def named_keys(table: Table, space: KeySpace, query: Query) -> list[bytes] | None:
    """The Redis keys that hold what is asked for; None when only a search tells them."""
    if not space.places:
        return [space.pattern.encode()]
    if not query.symbols or space.places != ("symbol",) or "symbol" not in table.key:
        return None
    before, after = (text.encode() for text in space.texts)
    return [before + symbol.encode() + after for symbol in dict.fromkeys(query.symbols)]


def glob(space: KeySpace) -> bytes:
    """The MATCH of a SCAN that finds every key of the pattern, and perhaps others."""
    return b"*".join(_GLOB.sub(rb"\\\1", text.encode()) for text in space.texts)


def matcher(space: KeySpace) -> re.Pattern[bytes]:
    """Which found keys are the pattern's; a group per place."""
    place = rb"([^:]*)" if len(space.places) > 1 else rb"(.*)"
    return re.compile(place.join(re.escape(text.encode()) for text in space.texts), re.DOTALL)


def hashes(table: Table, replies: Iterable[Mapping[bytes, bytes]]) -> dict[str, list[bytes | None]]:
    """Columns of HGETALL's answers; a hash without the key's columns is none of the table's."""
    names = [(c.name, c.name.encode()) for c in table.columns]
    marks = [k.encode() for k in table.key]
    held = [r for r in replies if all(m in r for m in marks)]
    return {name: [row.get(field) for row in held] for name, field in names}


def maps(table: Table, replies: Iterable[Mapping[bytes, bytes]]) -> dict[str, list[bytes | None]]:
    """Columns of the JSON rows in the maps."""
    rows = [json.loads(text, parse_int=str, parse_float=str) for reply in replies for text in reply.values()]
    held = [row for row in rows if all(k in row for k in table.key)]
    return {
        c.name: [None if (v := row.get(c.name)) is None else v.encode("utf-8", "surrogateescape") for row in held]
        for c in table.columns
    }


def sets(
    table: Table,
    space: KeySpace,
    keys: Sequence[bytes],
    members: Sequence[Iterable[bytes]],
    times: Sequence[Mapping[bytes, bytes]],
) -> dict[str, list[bytes | None]]:
    """Columns of the sets' members, with the times that lie beside them."""
    found: dict[str, list[bytes | None]] = {c.name: [] for c in table.columns}
    guard, flag, (member,) = guard_of(table), flag_of(table), space.rest(table.key)
    form = matcher(space)
    for key, inside, beside in zip(keys, members, times, strict=True):
        places = form.fullmatch(key)
        values: dict[str | None, bytes | None] = {}
        if places is not None:
            values.update(zip(space.places, map(unescaped, places.groups()), strict=True))
        for text in inside:
            row = {**values, member: text, flag: b"1", guard: beside.get(text)}
            for name, column in found.items():
                column.append(row.get(name))
    return found


def unescaped(value: bytes) -> bytes:
    return value.replace(b"%3A", b":").replace(b"%25", b"%")


def rows(table: Table, texts: Texts) -> pa.Table:
    """The texts in the table's schema. Raises ConfigError where a stranger's values are found."""
    columns = []
    for field in table.schema:
        try:
            columns.append(typed(texts[field.name], field.type))
        except pa.ArrowInvalid as exc:
            raise ConfigError(
                f"{table.where or table.name}: a key of table {table.name} holds a {field.name} that is no "
                f"{field.type} ({exc}): another program writes to these keys; give the table a pattern of its own"
            ) from exc
    return pa.table(columns, schema=pa.schema([pa.field(f.name, f.type) for f in table.schema]))


def typed(values: Sequence[bytes | None], kind: pa.DataType) -> pa.Array:
    """The texts of one column as its values. Raises pa.ArrowInvalid where one is none."""
    texts = pa.array(values, pa.binary())
    if pa.types.is_binary(kind):
        return texts
    words = texts.cast(pa.string())
    if pa.types.is_timestamp(kind):
        return words.cast(pa.int64()).cast(kind)
    return words.cast(kind)


def selected(table: Table, found: pa.Table, query: Query, names: Sequence[str]) -> pa.Table:
    """The rows asked for, in key order."""
    if query.symbols and "symbol" in found.column_names:
        found = found.filter(pc.is_in(found.column("symbol"), pa.array(query.symbols, pa.string())))
    if query.window is not None and table.time_column is not None:
        found = found.filter(_within(found.column(table.time_column), query.window))
    if table.key:
        found = found.sort_by([(k, "ascending") for k in table.key])
    return found.select(list(names)).slice(0, query.limit)


def _within(times: pa.ChunkedArray, window: Window) -> pa.ChunkedArray:
    def bound(day: date) -> pa.Scalar:
        if pa.types.is_date(times.type):
            return pa.scalar(day, times.type)
        moment = datetime(day.year, day.month, day.day, tzinfo=_SHANGHAI)
        return pa.scalar(moment if times.type.tz is not None else moment.replace(tzinfo=None), times.type)

    return pc.and_(pc.greater_equal(times, bound(window.start)), pc.less(times, bound(window.end)))
