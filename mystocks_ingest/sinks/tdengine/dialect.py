"""TDengine's words for tables: what DESCRIBE shows of one, and the statements that make and change one. Pure.

A column's type is in the spelling of DESCRIBE (``VARCHAR(20)`` in bytes, ``NCHAR(20)`` in characters, ``DECIMAL(18, 4)``),
with its compression behind it where that is not the type's own. Left out, for TDengine keeps nothing of it: NOT NULL,
defaults, counted numbers, comments of columns, indexes.

The key is what TDengine makes of it: the time and, of a composite key, the second column. That rows live in a table
per tag is how the sink writes them; which tags tell rows apart cannot be seen in the database.

``precision`` and ``keep`` belong to a whole database. It is made with the finest precision any of its tables needs; a
table whose times need a coarser one lives there as well. KEEP is the longest ``retention`` of its tables; while one of them says none, no row may be deleted
and KEEP stays what it is. So the dialect is told all tables of the file; one that is told none compares table by table.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from types import MappingProxyType
from typing import assert_never

from mystocks_ingest.errors import ConfigError, UnsafeChange
from mystocks_ingest.schema.changes import (
    AddColumn,
    AddIndex,
    Change,
    ChangeColumn,
    ChangeKey,
    CreateDatabase,
    CreateTable,
    DropColumn,
    DropIndex,
    DropTable,
    SetComment,
    SetOption,
)
from mystocks_ingest.schema.diff import Fit
from mystocks_ingest.schema.structure import ColumnShape, TableShape
from mystocks_ingest.schema.tables import Database, Storage, Table
from mystocks_ingest.sinks.tdengine.names import literal, quoted
from mystocks_ingest.sinks.tdengine.shape import PRECISIONS, Precision, finest, shape
from mystocks_ingest.sinks.tdengine.spelling import CODEC, SIZED, Described, bare, digits, seen, spelled, written
from mystocks_ingest.sinks.tdengine.statements import alter, changed, created, impossible, kind_of, name_of, part_of

DATABASE_OPTIONS = "VGROUPS 1 BUFFER 64 KEEP 36500 DURATION 90 WAL_LEVEL 2 WAL_FSYNC_PERIOD 0"
_COMMENT_BYTES = 1_024  # TDengine refuses a longer one
_DAY = 1_440  # minutes
_DURATION_DAYS = 10  # TDengine's own, where the options say none
_KEEP_DAYS = 3_650  # likewise
_SPAN = re.compile(r"(\d+)([mhd]?)$")
_WIDER = {
    "TINYINT": {"SMALLINT", "INT", "BIGINT", "FLOAT", "DOUBLE"},
    "SMALLINT": {"INT", "BIGINT", "FLOAT", "DOUBLE"},
    "INT": {"BIGINT", "DOUBLE"},
    "TINYINT UNSIGNED": {"SMALLINT UNSIGNED", "INT UNSIGNED", "BIGINT UNSIGNED", "SMALLINT", "INT", "BIGINT", "DOUBLE"},
    "SMALLINT UNSIGNED": {"INT UNSIGNED", "BIGINT UNSIGNED", "INT", "BIGINT", "DOUBLE"},
    "INT UNSIGNED": {"BIGINT UNSIGNED", "BIGINT", "DOUBLE"},
    "FLOAT": {"DOUBLE"},
}


@dataclass(frozen=True, slots=True)
class Place:
    """What a database is found to be: ``keep`` in minutes, as information_schema.ins_databases tells it."""

    precision: Precision
    keep: int

    @property
    def keep_days(self) -> int:
        return self.keep // _DAY


@dataclass(frozen=True, slots=True)
class _Need:
    """What a database has to be for its tables; ``keep`` in minutes, None: whatever it is."""

    precision: Precision
    keep: int | None


class TDengineDialect:
    """schema.diff.Dialect of TDengine. ``tables`` are all of the file's, for what they share: their database."""

    def __init__(
        self,
        tables: Iterable[Table] = (),
        *,
        database_options: str = DATABASE_OPTIONS,
        places: Mapping[str, Place] = MappingProxyType({}),
    ) -> None:
        """``places``: the databases that are there, as far as somebody looked."""
        self._options = _words(database_options)
        self._places = places
        of: dict[str, list[Table]] = {}
        for table in tables:
            of.setdefault(table.database_name, []).append(table)
        self._tables = of
        self._needs = {name: _need(found) for name, found in of.items()}

    def shape(self, table: Table) -> TableShape:
        """As DESCRIBE shows the table. Raises ConfigError for one that TDengine cannot hold."""
        need = self._needs.get(table.database_name)
        if need is None or table not in self._tables[table.database_name]:
            need = _need([*self._tables.get(table.database_name, ()), table])
        laid = shape(_keyed(table), need.precision)
        key = (laid.time, laid.second) if laid.second is not None else (laid.time,)
        columns = [ColumnShape(c.name, spelled(c, key, table.storage)) for c in laid.columns]
        columns += [ColumnShape(t.name, t.sql, is_tag=True) for t in laid.tags]
        return TableShape(
            table.database_name,
            table.name,
            tuple(columns),
            key,
            comment=_clipped(table.comment),
            options=self._set(finest([table]), need.keep, super_table=bool(laid.tags)),
        )

    def found(self, database: str, name: str, place: Place, lines: Sequence[Described], comment: str) -> TableShape:
        """The shape of a table that is there, by its lines of DESCRIBE."""
        tags = [line for line in lines if line.note == "TAG"]
        rest = [line for line in lines if line.note != "TAG"]
        key = (rest[0].name, *(line.name for line in rest[1:] if "KEY" in line.note))
        columns = [ColumnShape(line.name, seen(line, valued=line.name not in key)) for line in rest]
        columns += [ColumnShape(line.name, seen(line, valued=False), is_tag=True) for line in tags]
        need = self._needs.get(database)
        keep = place.keep if need is None or need.keep is not None else None
        wanted = [finest([t]) for t in self._tables.get(database, ()) if t.name == name]
        finer = bool(wanted) and PRECISIONS.index(place.precision) >= PRECISIONS.index(wanted[0])
        precision = wanted[0] if finer else place.precision  # a finer one than is wanted serves as well
        options = self._set(precision, keep, super_table=bool(tags), coarse=bool(wanted) and not finer)
        return TableShape(database, name, tuple(columns), key, comment=comment, options=options)

    def fit(self, before: str, after: str) -> Fit:
        before, after = bare(before), bare(after)
        if before == after:
            return Fit.SAME
        old, new = SIZED.fullmatch(before), SIZED.fullmatch(after)
        if old is not None and new is not None:
            return Fit.WIDER if old[1] == new[1] and int(old[2]) < int(new[2]) else Fit.LOSSY
        narrow, broad = digits(before), digits(after)
        if narrow is not None and broad is not None:
            return Fit.WIDER if narrow[0] <= broad[0] and narrow[1] <= broad[1] else Fit.LOSSY
        return Fit.WIDER if after in _WIDER.get(before, ()) else Fit.LOSSY

    def hazard(self, change: Change) -> str:
        match change:
            case SetOption(option="keep", before=before, after=after):
                old, new = self._minutes(before), self._minutes(after)
                return f"every row of the database older than {span(new)} would be deleted" if new < old else ""
            case _:
                return self._impossible(change)

    def ddl(self, change: Change) -> list[str]:
        """The statements, one each: of two in one text TDengine runs the first alone. Raises UnsafeChange."""
        if why := self._impossible(change):
            where = "" if isinstance(change, CreateDatabase) else f"{change.table}: "
            raise UnsafeChange(f"{where}{change.words}: {why}")
        match change:
            case CreateDatabase(database=name):
                return [self._database(name)]
            case CreateTable(table=table):
                return [created(table)]
            case DropTable(table=table):
                return [f"DROP {kind_of(table)} IF EXISTS {name_of(table)}"]
            case AddColumn(table=table, column=column):
                return [f"{alter(table)} ADD {part_of(column)} {quoted(column.name)} {column.type}"]
            case DropColumn(table=table, column=column):
                return [f"{alter(table)} DROP {part_of(column)} {quoted(column.name)}"]
            case ChangeColumn(table=table, before=before, after=after):
                return changed(table, before, after)
            case SetComment(table=table):
                return [f"{alter(table)} COMMENT {literal(table.comment)}"]
            case SetOption(table=table, after=after):  # KEEP: what else differs is impossible
                return [f"ALTER DATABASE {quoted(table.database)} KEEP {span(self._minutes(after))}"]
            case ChangeKey() | AddIndex() | DropIndex():
                return []
            case _:
                assert_never(change)

    def table(self, shape: TableShape) -> Table:
        """Every tag counts to the key, since the sink writes a table per tag."""
        tags = tuple(c.name for c in shape.columns if c.is_tag)
        keep, precision = shape.settings.get("keep"), shape.settings.get("precision")
        codecs = {CODEC.sub(r"\2 \3", c.type) for c in shape.columns if CODEC.match(c.type)}
        codec, _, level = next(iter(codecs)).partition(" ") if len(codecs) == 1 else ("", "", "")
        return Table(
            shape.name,
            Database.TDENGINE,
            shape.database,
            tuple(written(c, (*tags, *shape.key), precision) for c in shape.columns),
            (*tags, *shape.key),
            time_column=shape.key[0] if shape.key else None,
            is_super_table=bool(tags),
            comment=shape.comment,
            storage=Storage(
                retention=timedelta(minutes=minutes(keep)) if keep else None, codec=codec or None, level=level or None
            ),
        )

    def _impossible(self, change: Change) -> str:
        """As the function of that name, and what the databases that are there forbid."""
        if isinstance(change, CreateTable) and change.table.database in self._places:
            there = self._places[change.table.database].precision
            wanted = change.table.settings.get("precision", PRECISIONS[0])
            if PRECISIONS.index(there) < next(i for i, p in enumerate(PRECISIONS) if p == wanted):
                return (
                    f"database {change.table.database} counts time in {there}, and the table needs {wanted}: give it "
                    "another database_name, for a precision cannot be changed"
                )
        return impossible(change)

    def _set(
        self, precision: Precision, keep: int | None, *, super_table: bool, coarse: bool = False
    ) -> tuple[tuple[str, str], ...]:
        """The options worth a word: what is not TDengine's own, or the settings'."""
        told = [("super table", "yes")] if super_table else []
        told += [("precision", precision)] if precision != PRECISIONS[0] or coarse else []
        told += [("keep", span(keep))] if keep is not None and keep != self._minutes(None) else []
        return tuple(told)

    def _minutes(self, keep: str | None) -> int:
        return minutes(keep if keep is not None else self._options.get("KEEP", f"{_KEEP_DAYS}d"))

    def _database(self, name: str) -> str:
        need = self._needs.get(name)
        options = {"PRECISION": f"'{need.precision if need is not None else PRECISIONS[0]}'"} | self._options
        if need is not None:
            options["PRECISION"] = f"'{need.precision}'"
            if need.keep is not None:
                options["KEEP"] = span(need.keep)
        keep = minutes(options.get("KEEP", f"{_KEEP_DAYS}d"))
        if 3 * minutes(options.get("DURATION", f"{_DURATION_DAYS}d")) > keep:
            options["DURATION"] = span(max(60, keep // 3))  # TDengine wants a third of KEEP at most, an hour at least
        return f"CREATE DATABASE IF NOT EXISTS {quoted(name)} " + " ".join(f"{k} {v}" for k, v in options.items())


def minutes(text: str) -> int:
    """KEEP as it is written or told: ``36500``, ``36500d``, ``100h,100d,3650d``; rows go with the last of several."""
    match = _SPAN.fullmatch(text.strip(" '").rpartition(",")[2].strip())
    if match is None:
        raise ConfigError(f"TDengine: {text!r} is no time span: write a number with d, h or m, such as 365d")
    return int(match[1]) * {"m": 1, "h": 60}.get(match[2], _DAY)


def span(length: int) -> str:
    """Minutes in the largest unit that holds them whole."""
    for unit, size in (("d", _DAY), ("h", 60)):
        if length % size == 0:
            return f"{length // size}{unit}"
    return f"{length}m"


def _words(options: str) -> dict[str, str]:
    found = re.findall(r"(\w+)\s+('[^']*'|[\w,]+)", options)
    return {name.upper(): value for name, value in found}


def _need(tables: Sequence[Table]) -> _Need:
    kept = [t.storage.retention for t in tables]
    longest = max((k for k in kept if k is not None), default=None) if None not in kept else None
    return _Need(finest(tables), max(1, int(longest.total_seconds() // 60)) if longest is not None else None)


def _keyed(table: Table) -> Table:
    """TDengine has a key whether the file names one or not: the time, in a table per tag."""
    if table.key:
        return table
    first = next((c.name for c in table.columns if not c.is_tag), None)
    return replace(table, key=(*(c.name for c in table.columns if c.is_tag), *([first] if first else [])))


def _clipped(comment: str) -> str:
    return comment.encode()[:_COMMENT_BYTES].decode(errors="ignore")
