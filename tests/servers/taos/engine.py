"""The server's mind: statements and bound rows applied to the databases, with the measured rules and codes."""

from __future__ import annotations

import pickle
import re
import time
from collections import Counter
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from . import grammar
from .grammar import Alter, Block, Create, Delete, Describe, Drop, Insert, Name, Parser, Select, Show, Use
from .kinds import (
    BIGINT,
    BOOL,
    DECIMALS,
    DOUBLE,
    FIXED,
    FLOAT,
    LATEST,
    NCHAR,
    PER_SECOND,
    SIZED,
    TEXTS,
    TIMESTAMP,
    VARCHAR,
    Column,
    TaosError,
    syntax,
)
from .selecting import Answer, select, table_of
from .storage import Database, Piece, Stable, Sub, Values, distinct

VERSION = "3.3.7.5"
ROWS_PER_TABLE = 32_767
SQL_BYTES = 1 << 20
_KEEP = re.compile(r"(\d+)([mhd]?)")
_INFORMATION = "information_schema"


@dataclass(frozen=True, slots=True)
class Field:
    """A question mark of a prepared insert; ``role``: 1 column, 2 tag, 4 table name."""

    column: Column
    role: int


@dataclass(frozen=True, slots=True)
class Prepared:
    stable: Stable
    database: Database
    fields: tuple[Field, ...]
    table: str | None  # the fixed table of `insert into t values`
    using: bool  # sub tables are made when they are missing


@dataclass(frozen=True, slots=True)
class Bound:
    """The rows of one table in a bind: tag values, and a column each for the prepared columns."""

    table: str | None
    tags: list[Any]
    columns: list[Values]
    kinds: list[int]
    rows: int


class Engine:
    """All databases. With a ``folder``, what changes them is written there first and done again after a restart."""

    def __init__(self, folder: Path | None = None, *, version: str = VERSION, counts_only: bool = False) -> None:
        self.version = version
        self.counts_only = counts_only  # of prepared inserts: rows are counted and forgotten
        self.counted: Counter[str] = Counter()  # by super table
        self.databases: dict[str, Database] = {}
        self._log: BinaryIO | None = None
        if folder is not None:
            path = folder / "changes"
            if path.exists():
                self._replay(path)
            self._log = path.open("ab", buffering=0)

    def _replay(self, path: Path) -> None:
        with path.open("rb") as file:
            while True:
                whole = file.tell()
                try:
                    what, database, sql, bound = pickle.load(file)  # noqa: S301 - our own file
                except (EOFError, pickle.UnpicklingError, ValueError):
                    break
                try:
                    if what == "sql":
                        self.execute(sql, database)
                    else:
                        self.insert(self.prepare(sql, database), bound)
                except TaosError:
                    continue  # it was refused the first time too
        with path.open("ab") as file:
            file.truncate(whole)  # a kill may have cut the last record

    def note(self, what: str, database: str | None, sql: str, bound: list[Bound] | None = None) -> None:
        """Make a change durable, as far as kill -9 can tell."""
        if self._log is not None:
            self._log.write(pickle.dumps((what, database, sql, bound), protocol=5))

    # names

    def database(self, name: str | None) -> Database:
        if name is None:
            raise TaosError(0x2616, "Database not specified")
        if name not in self.databases:
            raise TaosError(0x0388, "Database not exist")
        return self.databases[name]

    def _place(self, name: Name, current: str | None) -> Database:
        return self.database(name.database or current)

    def _found(self, name: Name, current: str | None) -> tuple[Stable, Sub | None]:
        """The super table with no sub table, or the sub (or lone) table with what it belongs to."""
        database = self._place(name, current)
        if name.table in database.stables:
            return database.stables[name.table], None
        stable = database.owner.get(name.table)
        if stable is None:
            raise TaosError(0x2603, "Table does not exist")
        return stable, stable.subs[name.table]

    # statements

    def execute(self, sql: str, current: str | None) -> tuple[int | Answer, str | None]:
        """Affected rows or an answer, and the database in use from now on."""
        if len(sql.encode()) > SQL_BYTES:
            raise TaosError(0x0219, "SQL statement too long")
        match Parser(sql).statement():
            case Use(database):
                self.database(database)
                return 0, database
            case Select() as query:
                return self._select(query, current), current
            case Describe(name):
                stable, sub = self._found(name, current)
                return _described(stable, self._place(name, current), lone=sub is not None and not stable.tags), current
            case Show(what):
                return self._show(what, current), current
            case Create() as made:
                self._create(made, current)
            case Drop(what, name, lenient):
                self._drop(what, name, lenient, current)
                if what == "database" and name.table == current:
                    return 0, None
            case Alter() as change:
                self._alter(change, current)
            case Insert(blocks):
                return self._insert(blocks, current), current
            case Delete(name, where):
                return self._delete(name, where, current), current
        return 0, current

    def _create(self, made: Create, current: str | None) -> None:
        if made.what == "database":
            self._create_database(made)
            return
        database = self._place(made.name, current)
        if made.what == "child":
            assert made.using is not None
            stable = self._place(made.using, current).stables.get(made.using.table)
            if stable is None:
                raise TaosError(0x2603, "Table does not exist")
            if made.name.table in database.owner and not made.lenient:
                raise TaosError(0x0603, "Table already exists")
            names = [n for n in made.options["names"].split(",") if n] or [t.name for t in stable.tags]
            self._sub(database, stable, made.name.table, dict(zip(names, map(_literal, made.values), strict=True)))
            return
        if made.name.table in database.stables:
            if made.lenient:
                return
            raise TaosError(0x0360, "STable already exists")
        _proper(made)
        stable = Stable(made.name.table, made.columns, made.tags, made.options.get("comment", ""))
        if made.tags:
            database.stables[stable.name] = stable
        else:
            if stable.name in database.owner:
                if made.lenient:
                    return
                raise TaosError(0x0603, "Table already exists")
            stable.subs[stable.name] = Sub(stable.name)
            database.owner[stable.name] = stable

    def _create_database(self, made: Create) -> None:
        name = made.name.table
        if name in self.databases:
            if made.lenient:
                return
            raise TaosError(0x0381, "Database already exists")
        options = {k.lower(): v for k, v in made.options.items()}
        _permitted(options, _DATABASE_OPTIONS)
        precision = options.get("precision", "ms")
        if precision not in PER_SECOND:
            raise TaosError(0x2619, f"Invalid option precision: {precision}")
        keep, duration = _minutes(options.get("keep", "3650d")), _minutes(options.get("duration", "10d"))
        if keep < 3 * duration:
            raise TaosError(0x2619, f"Invalid option keep value, should be at least 3 times of duration: {keep}")
        self.databases[name] = Database(name, options, precision, keep)

    def _drop(self, what: str, name: Name, lenient: bool, current: str | None) -> None:  # noqa: FBT001
        if what == "database":
            if name.table not in self.databases and not lenient:
                raise TaosError(0x0388, "Database not exist")
            self.databases.pop(name.table, None)
            return
        if what not in ("stable", "table"):
            raise syntax(what)
        database = self._place(name, current)
        stable = database.stables.pop(name.table, None)
        if stable is not None:
            for sub in stable.subs:
                database.owner.pop(sub, None)
            return
        if what == "stable" and name.table in database.owner:
            raise TaosError(0x263A, "Cannot drop a table that is no super table")
        stable = database.owner.pop(name.table, None)
        if stable is None:
            if not lenient:
                raise TaosError(0x2603, "Table does not exist")
            return
        stable.subs.pop(name.table)

    def _alter(self, change: Alter, current: str | None) -> None:
        if change.action == "option":
            self._alter_database(self.database(change.name.table), change.value)
            return
        stable, sub = self._found(change.name, current)
        if change.stable and sub is not None:
            raise TaosError(0x2649, "ALTER STABLE is for super tables")
        if sub is not None and stable.tags and change.action != "set tag":
            raise TaosError(0x2649, "only the tags of a sub table can be set")
        if change.action == "set tag":
            if sub is None or not stable.tags:
                raise TaosError(0x2600, "tags are set on a sub table")
            for tag, value in change.value:
                if tag not in sub.tags:
                    raise TaosError(0x2602, f"Invalid column name: {tag}")
                sub.tags[tag] = _literal(value)
            return
        if change.action == "comment":
            _commented(change.value)
            stable.comment = change.value
            return
        assert change.column is not None
        if change.action.endswith("tag") and not stable.tags:
            raise TaosError(0x2649, "a table that stands alone has no tags")
        self._alter_column(stable, change.action, change.column, change.value)

    def _alter_database(self, database: Database, options: dict[str, str]) -> None:
        _permitted(options, _CHANGEABLE)
        if not options:
            raise syntax("")
        if "keep" in options:
            keep = _minutes(options["keep"])
            if keep < 3 * _minutes(database.options.get("duration", "10d")):
                raise TaosError(0x0383, f"Invalid option keep value, should be at least 3 times of duration: {keep}")
            database.keep = keep
        database.options |= options

    def _alter_column(self, stable: Stable, action: str, column: Column, value: Any) -> None:
        """``value``: the new name, or compression and level."""
        listed = stable.tags if action.endswith("tag") else stable.columns
        at = next((i for i, c in enumerate(listed) if c.name == column.name), None)
        if action.startswith("add"):
            if any(c.name == column.name for c in (*stable.columns, *stable.tags)):
                raise TaosError(0x036E, "Column already exists")
            if column.note:
                raise TaosError(0x267A, "Invalid primary key operation")
            listed.append(column)
            _within(stable.columns, stable.tags)
            for held in stable.subs.values() if listed is stable.tags else ():
                held.tags[column.name] = None
            return
        if at is None:
            raise TaosError(0x2602, f"Invalid column name: {column.name}")
        keyed = listed is stable.columns and (at == 0 or listed[at].note)
        match action:
            case "compress":
                before = listed[at].codec
                compress, level = value
                listed[at] = replace(listed[at], compress=compress or listed[at].compress, level=level)
                if listed[at].codec == before:
                    raise TaosError(0x0374, "Column compress already exist")
            case "rename column" | "rename tag":
                if (listed is stable.columns and stable.tags) or keyed:
                    raise TaosError(0x2649, "only tags, and columns of a table that stands alone, are renamed")
                if any(c.name == value for c in (*stable.columns, *stable.tags)):
                    raise TaosError(0x036E, "Column already exists")
                listed[at] = replace(listed[at], name=value)
                for held in stable.subs.values():
                    held.tags = {value if k == column.name else k: v for k, v in held.tags.items()}
                    for piece in held.pieces:
                        piece.columns = {value if k == column.name else k: v for k, v in piece.columns.items()}
            case "drop column" | "drop tag":
                if keyed:
                    raise TaosError(0x267A if at else 0x264A, "Primary key cannot be dropped")
                if len(listed) == (1 if listed is stable.tags else 2):
                    raise TaosError(0x2651, "No columns can be dropped")
                listed.pop(at)
                for held in stable.subs.values():
                    held.tags.pop(column.name, None)
                    for piece in held.pieces:
                        piece.columns.pop(column.name, None)
            case _:
                if keyed and at:
                    raise TaosError(0x267A, "Invalid primary key operation")
                if column.kind not in SIZED or listed[at].kind != column.kind or listed[at].length >= column.length:
                    raise TaosError(0x264B, "Only var-length columns can be widened")
                listed[at] = replace(listed[at], length=column.length)
                _within(stable.columns, stable.tags)

    def _sub(self, database: Database, stable: Stable, name: str, tags: dict[str, Any]) -> Sub:
        """The sub table; a new one gets ``tags``, an old one keeps its own."""
        sub = stable.subs.get(name)
        if sub is None:
            if name in database.owner or name in database.stables:
                raise TaosError(0x2600, f"{name} is a table of another super table")
            known = {t.name: t for t in stable.tags}
            for tag, value in tags.items():
                if tag not in known:
                    raise TaosError(0x2602, f"Invalid column name: {tag}")
                if value is not None and _length(value, known[tag]) > known[tag].length and known[tag].kind in SIZED:
                    raise TaosError(0x2653, f"Value too long for column/tag: {tag}")
            sub = stable.subs[name] = Sub(name, {t.name: tags.get(t.name) for t in stable.tags})
            database.owner[name] = stable
        return sub

    # rows

    def prepare(self, sql: str, current: str | None) -> Prepared:
        """A prepared insert. Raises TaosError as the server does."""
        statement = Parser(sql).statement()
        if not isinstance(statement, Insert) or len(statement.blocks) != 1:
            raise TaosError(0x2600, "stmt2 of the stand-in takes one INSERT")
        block = statement.blocks[0]
        target = block.using or block.name
        assert target is not None
        if target.database is None and current is None:
            raise TaosError(0x0200, "db is not specified")
        if block.name is None and block.using is not None and current is None:
            raise TaosError(0x0200, "db is not specified")  # of the sub tables to come: USING says nothing of them
        database = self._place(target, current)
        stable = database.stables.get(target.table) or database.owner.get(target.table)
        if stable is None:
            raise TaosError(0x022B, "Table does not exist")
        columns = {c.name: c for c in stable.columns}
        tags = {c.name: c for c in stable.tags}
        fields: list[Field] = []
        if block.name is None:
            fields.append(Field(Column("tbname", VARCHAR, 271), 4))
        if block.using is not None:
            names = block.tag_names or list(tags)
            if len(names) != len(block.tags) or any(v[0] != "mark" for v in block.tags):
                raise TaosError(0x0216, "tags of a prepared insert must all be question marks")
            fields += [Field(_known(n, tags), 2) for n in names]
        for name in block.columns or list(columns):
            if name == "tbname":
                fields.append(Field(Column("tbname", VARCHAR, 271), 4))
            elif name in tags:
                fields.append(Field(tags[name], 2))
            else:
                fields.append(Field(_known(name, columns), 1))
        given = len([f for f in fields if f.role == 1 or block.using is None])
        if len(block.rows) != 1 or (len(block.rows[0]) != given and block.name is not None):
            raise TaosError(0x0216, "Illegal number of columns")
        needed = [stable.columns[0].name, *([stable.second] if stable.second else [])]
        if any(n not in [f.column.name for f in fields] for n in needed):
            raise TaosError(0x267B, "Primary timestamp column should not be null")
        fixed = block.name.table if block.name is not None and block.name.table in database.owner else None
        using = block.using is not None or (fixed is None and any(f.role == 2 for f in fields))
        return Prepared(stable, database, tuple(fields), fixed, using)

    def check(self, prepared: Prepared, bound: list[Bound]) -> None:
        """What the server refuses at bind or execute before any row is stored."""
        columns = [f.column for f in prepared.fields if f.role == 1]
        counted: Counter[str | None] = Counter()  # a table that a bind names twice is one table
        for rows in bound:
            counted[rows.table] += rows.rows
            if rows.table is not None and "." in rows.table.strip("`"):
                raise TaosError(0x0388, "Database not exist")
            if counted[rows.table] > ROWS_PER_TABLE:
                raise TaosError(0x0236, f"Too many rows for one table: {counted[rows.table]}")
            for column, kind, values in zip(columns, rows.kinds, rows.columns, strict=True):
                same = kind == column.kind or (kind in DECIMALS and column.kind in DECIMALS)
                if not same or len(values.nulls) != rows.rows:
                    raise TaosError(0x0200, f"stmt2 bind type mismatch or unequal lengths: {column.name}")
                if column.kind in SIZED and values.lengths is not None and len(values.lengths):
                    longest = int(values.lengths.max())
                    if column.kind == NCHAR and longest > column.length:
                        texts = (v for v in values.as_array(column) if v is not None)
                        longest = max((len(str(v)) for v in texts), default=0)
                    if longest > column.length:
                        raise TaosError(0x2653, f"Value too long for column/tag: {column.name}")
                key = column.name in (prepared.stable.columns[0].name, prepared.stable.second)
                if key and values.nulls.any():
                    raise TaosError(0x267B, "Primary timestamp column should not be null")

    def insert(self, prepared: Prepared, bound: list[Bound]) -> int:
        """Store table by table; a table with a time outside KEEP is left out whole, and said at the end."""
        self.check(prepared, bound)
        columns = [f.column for f in prepared.fields if f.role == 1]
        tags = [f.column.name for f in prepared.fields if f.role == 2]
        first = next(i for i, c in enumerate(columns) if c.name == prepared.stable.columns[0].name)
        earliest, latest = self.window(prepared.database)
        affected, outside = 0, False
        for rows in bound:
            ts = rows.columns[first].fixed
            assert ts is not None
            if rows.rows and (int(ts.min()) < earliest or int(ts.max()) > latest):
                outside = True
                continue
            name = (rows.table or prepared.table or "").strip("`")
            if not prepared.using and name not in prepared.stable.subs:
                raise TaosError(0x2603, "Table does not exist")
            if prepared.using:
                sub = self._sub(prepared.database, prepared.stable, name, dict(zip(tags, rows.tags, strict=True)))
            else:
                sub = prepared.stable.subs[name]
            held = {c.name: v for i, (c, v) in enumerate(zip(columns, rows.columns, strict=True)) if i != first}
            sub.pieces.append(Piece(ts, held))
            second = prepared.stable.second
            key = held[second].as_array(prepared.stable.columns[1]) if second is not None else None
            if key is not None and key.dtype == object:
                key = np.unique(key.astype(str), return_inverse=True)[1]
            affected += distinct(ts, key)
        if outside:
            raise TaosError(0x060B, "Timestamp data out of range")
        return affected

    def window(self, database: Database) -> tuple[int, int]:
        """The first and last time the database takes."""
        unit = PER_SECOND[database.precision]
        return int((time.time() - database.keep * 60) * unit), LATEST[database.precision]

    def _insert(self, blocks: list[Block], current: str | None) -> int:
        """SQL's INSERT, by the way of bound rows: everything is checked, then stored table by table."""
        work: list[tuple[Prepared, list[Bound]]] = []
        for block in blocks:
            assert block.name is not None
            target = block.using or block.name
            database = self._place(target, current)
            stable = database.stables.get(target.table) or database.owner.get(target.table)
            if stable is None:
                raise TaosError(0x2603, "Table does not exist")
            known = {c.name: c for c in stable.columns} | {t.name: t for t in stable.tags}
            names = block.columns or [c.name for c in stable.columns]
            if any(len(row) != len(names) for row in block.rows):
                raise TaosError(0x0216, "Illegal number of columns")
            if "tbname" in names:
                work += _by_name(block, names, database, stable, known)
                continue
            fields = [Field(_known(n, known), 1) for n in names]
            tag_names = block.tag_names or [t.name for t in stable.tags]
            fields += [Field(_known(n, known), 2) for n in tag_names] if block.using is not None else []
            tags = [_literal(v) for v in block.tags]
            cells = [[_literal(v) for v in row] for row in block.rows]
            prepared = Prepared(stable, database, tuple(fields), block.name.table, block.using is not None)
            work.append((prepared, [_bound(block.name.table, tags, cells, fields, database.precision)]))
        for prepared, bound in work:
            self.check(prepared, bound)
        affected, late = 0, None
        for prepared, bound in work:
            try:
                affected += self.insert(prepared, bound)
            except TaosError as exc:
                late = exc
        if late is not None:
            raise late
        return affected

    def _delete(self, name: Name, where: grammar.Expr | None, current: str | None) -> int:
        stable, sub = self._found(name, current)
        database = self._place(name, current)
        gone = 0
        for held in [sub] if sub is not None else list(stable.subs.values()):
            table = table_of(stable, [held], database)
            kept = select(
                Select([(("star",), "*")], where=("not", where) if where is not None else ("lit", False)),
                table,
                database,
            )
            times = kept.columns[0].to_numpy() if kept.rows else np.empty(0, np.int64)
            gone += table.rows - kept.rows
            values, _ = held.merged(stable.columns, stable.second)
            at = np.isin(values[stable.columns[0].name][0], times)
            held.pieces = [
                Piece(
                    values[stable.columns[0].name][0][at],
                    {
                        c.name: Values(n[at], v[at] if v.dtype != object else None, objects=v[at])
                        for c, (v, n) in ((c, values[c.name]) for c in stable.columns[1:])
                    },
                )
            ]
        return gone

    # answers

    def _select(self, query: Select, current: str | None) -> Answer:
        if query.table is None:
            return select(query, self._constants(current), None)
        if query.table.database == _INFORMATION:
            return select(query, self._information(query.table.table), None)
        stable, sub = self._found(query.table, current)
        database = self._place(query.table, current)
        subs = [sub] if sub is not None else list(stable.subs.values())
        if query.tags or _only_tags(query, stable):
            return select(query, table_of(stable, subs, database, rows=False), database)
        if query.where is not None and stable.tags and len(subs) > 1:
            subs = _chosen(query.where, stable, subs, database)
        return select(query, table_of(stable, subs, database), database)

    def _constants(self, current: str | None) -> Answer:
        return Answer.of([("server_status()", 1), ("server_version()", self.version), ("database()", current)])

    def _show(self, what: str, current: str | None) -> Answer:
        match what:
            case "databases":
                return Answer.listed(["name"], [[n] for n in (_INFORMATION, "performance_schema", *self.databases)])
            case "stables":
                return Answer.listed(["stable_name"], [[n] for n in self.database(current).stables])
            case "tables":
                return Answer.listed(["table_name"], [[n] for n in self.database(current).owner])
            case _:
                raise syntax(what)

    def _information(self, table: str) -> Answer:
        every = [(d, s) for d in self.databases.values() for s in (*d.stables.values(), *_lone(d))]
        match table:
            case "ins_databases":
                names = ["name", "vgroups", "ntables", "keep", "buffer", "precision", "duration"]
                rows = [
                    [
                        d.name,
                        int(d.options.get("vgroups", 2)),
                        len(d.owner),
                        ",".join([_span(d.keep)] * 3),
                        int(d.options.get("buffer", 256)),
                        d.precision,
                        d.options.get("duration", "10d"),
                    ]
                    for d in self.databases.values()
                ]
            case "ins_stables":
                names = ["stable_name", "db_name", "columns", "tags", "table_comment"]
                rows = [[s.name, d.name, len(s.columns), len(s.tags), s.comment] for d, s in every if s.tags]
            case "ins_tables":
                names = ["table_name", "db_name", "stable_name", "columns", "table_comment", "type"]
                rows = [
                    [n, d.name, s.name, len(s.columns), None, "CHILD_TABLE"]
                    if s.tags
                    else [n, d.name, None, len(s.columns), s.comment or None, "NORMAL_TABLE"]
                    for d in self.databases.values()
                    for n, s in d.owner.items()
                ]
            case "ins_columns":
                names = ["table_name", "db_name", "table_type", "col_name", "col_type", "col_length"]
                kinds = [(d, s, s.name, "SUPER_TABLE" if s.tags else "NORMAL_TABLE") for d, s in every]
                kinds += [(d, s, n, "CHILD_TABLE") for d, s in every if s.tags for n in s.subs]
                rows = [[n, d.name, kind, c.name, _typed(c), c.bytes] for d, s, n, kind in kinds for c in s.columns]
            case "ins_tags":
                names = ["table_name", "db_name", "stable_name", "tag_name", "tag_type", "tag_value"]
                rows = [
                    [n, d.name, s.name, t.name, _typed(t), None if v is None else str(v)]
                    for d, s in every
                    for n, sub in s.subs.items()
                    for t, v in zip(s.tags, sub.tags.values(), strict=True)
                ]
            case _:
                raise TaosError(0x2603, "Table does not exist")
        return Answer.listed(names, rows)


def _lone(database: Database) -> list[Stable]:
    return [s for s in database.owner.values() if not s.tags]


def _typed(column: Column) -> str:
    """As information_schema tells it, which keeps the digits of a DECIMAL and a VARBINARY's length to itself."""
    word, length = column.described
    return f"{word}({length})" if column.kind in TEXTS else word.partition("(")[0]


def _described(stable: Stable, _database: Database, *, lone: bool) -> Answer:
    del lone
    rows = []
    for column in (*stable.columns, *stable.tags):
        tag = column in stable.tags
        word, length = column.described
        codec = ("disabled", "disabled", "disabled") if tag else column.codec
        rows.append([column.name, word, length, "TAG" if tag else column.note, *codec])
    return Answer.listed(["field", "type", "length", "note", "encode", "compress", "level"], rows)


_CHANGEABLE = {
    name: re.compile(rf"{values}$", re.IGNORECASE)
    for name, values in {
        "buffer": r"([3-9]|[1-9]\d{1,3}|1[0-5]\d{3}|16[0-3]\d{2}|1638[0-4])",
        "cachemodel": "(none|last_row|last_value|both)",
        "cachesize": r"[1-9]\d*",
        "keep": r"\d+[mhd]?(,\d+[mhd]?){0,2}",
        "minrows": r"\d+",
        "pages": r"(6[4-9]|[7-9]\d|[1-9]\d{2,})",
        "replica": "[13]",
        "stt_trigger": r"\d+",
        "wal_fsync_period": r"\d+",
        "wal_level": "[12]",
        "wal_retention_period": r"-?\d+",
        "wal_retention_size": r"-?\d+",
    }.items()
}
_DATABASE_OPTIONS = _CHANGEABLE | {
    name: re.compile(rf"{values}$", re.IGNORECASE)
    for name, values in {
        "comp": "[0-2]",
        "duration": r"\d+[mhd]?",
        "maxrows": r"\d+",
        "pagesize": r"\d+",
        "precision": r"\w+",
        "single_stable": "[01]",
        "table_prefix": r"-?\d+",
        "table_suffix": r"-?\d+",
        "tsdb_pagesize": r"\d+",
        "vgroups": r"[1-9]\d{0,3}",
    }.items()
}


def _permitted(options: dict[str, str], known: dict[str, re.Pattern[str]]) -> None:
    for name, value in options.items():
        if name not in known:
            raise syntax(name)
        if not known[name].match(value):
            raise TaosError(0x2619, f"Invalid option {name}: {value}")


def _proper(made: Create) -> None:
    """What the server refuses when a table is made."""
    columns, tags = made.columns, made.tags
    if not columns or columns[0].kind != TIMESTAMP:
        raise TaosError(0x2641, "First column must be timestamp")
    if columns[0].note or any(c.note for c in columns[2:]) or any(t.note for t in tags):
        raise TaosError(0x2678, "primary key column must be the second column")
    if len({c.name for c in (*columns, *tags)}) < len((*columns, *tags)):
        raise TaosError(0x263C, "Duplicated column names")
    if len(columns) < 2:
        raise TaosError(0x263F, "Invalid number of columns")
    if set(made.options) - {"comment", "ttl"}:
        raise syntax(str(made.options))
    _commented(made.options.get("comment", ""))
    if any(t.kind in DECIMALS for t in tags) or any(t.compress or t.level for t in tags):
        raise syntax("TAGS")
    _within(columns, tags)


def _within(columns: list[Column], tags: list[Column]) -> None:
    if sum(c.bytes for c in columns) > 65_531:
        raise TaosError(0x263E, "Row length exceeds max length 65531")
    if len(tags) > 128:
        raise TaosError(0x2643, "Invalid number of tag columns")
    if sum(t.bytes for t in tags) > 16_384:
        raise TaosError(0x263D, "Invalid total length of tags")
    if any(c.kind in SIZED and c.length < 1 for c in (*columns, *tags)):
        raise TaosError(0x2642, "Invalid length of a column")


def _commented(text: str) -> None:
    if len(text.encode()) > 1_024:
        raise TaosError(0x264E, "Comment is too long")


def _minutes(text: str) -> int:
    """The longest of the spans that KEEP may have."""
    found = [_KEEP.fullmatch(part) for part in text.split(",")]
    if None in found:
        raise syntax(text)
    return max(int(m[1]) * {"m": 1, "h": 60}.get(m[2], 1_440) for m in found if m is not None)


def _span(minutes: int) -> str:
    for unit, size in (("d", 1_440), ("h", 60)):
        if minutes % size == 0:
            return f"{minutes // size}{unit}"
    return f"{minutes}m"


def _known(name: str, columns: dict[str, Column]) -> Column:
    if name not in columns:
        raise TaosError(0x2602, f"Invalid column name: {name}")
    return columns[name]


def _literal(value: grammar.Expr) -> Any:
    if value[0] == "lit":
        return value[1]
    if value[0] == "col" and value[1] in ("nan", "inf"):
        raise TaosError(0x0216, "illegal number")
    raise TaosError(0x0216, "a value is wanted here")


def _length(value: Any, column: Column) -> int:
    return len(value) if column.kind == NCHAR else len(str(value).encode())


def _bound(table: str, tags: list[Any], rows: list[list[Any]], fields: list[Field], precision: str) -> Bound:
    """Cells of an SQL insert as the columns of a bind."""
    columns = [f.column for f in fields if f.role == 1]
    values = [_values([row[i] for row in rows], c, precision) for i, c in enumerate(columns)]
    return Bound(table, tags, values, [c.kind for c in columns], len(rows))


def _values(cells: list[Any], column: Column, precision: str) -> Values:
    nulls = np.array([c is None for c in cells])
    if column.kind in FIXED:
        filled = [0 if c is None else _number(c, column, precision) for c in cells]
        with np.errstate(over="ignore"):
            return Values(nulls, np.array(filled, FIXED[column.kind]))
    objects = np.empty(len(cells), object)
    if column.kind in DECIMALS:
        objects[:] = [None if c is None else Decimal(str(c)) for c in cells]
        return Values(nulls, objects=objects)
    if any(c is not None and not isinstance(c, str) for c in cells):
        raise TaosError(0x0216, f"a text is wanted for {column.name}")
    raw = [b"" if c is None else str(c).encode() for c in cells]
    return Values(nulls, lengths=np.array([len(r) for r in raw], np.int32), raw=b"".join(raw))


def _number(cell: Any, column: Column, precision: str) -> Any:
    if column.kind == TIMESTAMP and isinstance(cell, str):
        return int(np.datetime64(cell.replace(" ", "T").rstrip("Z"), precision).astype(np.int64))
    if column.kind == BOOL:
        return bool(cell)
    if isinstance(cell, str):
        raise TaosError(0x0216, f"a number is wanted for {column.name}")
    if column.kind in (FLOAT, DOUBLE):
        if abs(cell) > np.finfo(FIXED[column.kind]).max:
            raise TaosError(0x0216, "illegal number")
        return float(cell)
    bounds = np.iinfo(FIXED[column.kind] if column.kind != BIGINT else np.int64)
    if not bounds.min <= int(cell) <= bounds.max:
        raise TaosError(0x0216, f"number out of range for {column.name}")
    return int(cell)


def _by_name(
    block: Block, names: list[str], database: Database, stable: Stable, known: dict[str, Column]
) -> list[tuple[Prepared, list[Bound]]]:
    """`insert into stb(tbname, ...) values`: the table's name stands in each row."""
    at = names.index("tbname")
    tags = [n for n in names if n in {t.name for t in stable.tags}]
    fields = [Field(_known(n, known), 2 if n in tags else 1) for n in names if n != "tbname"]
    groups: dict[str, list[list[Any]]] = {}
    for row in block.rows:
        cells = [_literal(v) for v in row]
        groups.setdefault(str(cells[at]), []).append(cells)
    found = []
    for table, rows in groups.items():
        given = [rows[0][names.index(t)] for t in tags]
        columns = [[c for n, c in zip(names, row, strict=True) if n != "tbname" and n not in tags] for row in rows]
        prepared = Prepared(stable, database, tuple(fields), table, bool(tags))
        found.append((prepared, [_bound(table, given, columns, fields, database.precision)]))
    return found


def _only_tags(query: Select, stable: Stable) -> bool:
    """DISTINCT over nothing but tags and the table's name asks the tables, not the rows."""
    names = {t.name for t in stable.tags} | {"tbname"}
    wanted = [e[1] if e[0] == "col" else e[1] if e[0] == "call" and not e[2] else None for e, _ in query.columns]
    return query.distinct and all(n in names for n in wanted)


def _chosen(where: grammar.Expr, stable: Stable, subs: list[Sub], database: Database) -> list[Sub]:
    """The sub tables that the conditions on tags leave."""
    names = {t.name for t in stable.tags} | {"tbname"}
    terms = [t for t in _terms(where) if (used := _used(t)) and used <= names]
    if not terms:
        return subs
    condition = terms[0]
    for term in terms[1:]:
        condition = ("op", "and", condition, term)
    query = Select([(("call", "tbname", []), "tbname")], where=condition)
    left = set(select(query, table_of(stable, subs, database, rows=False), database).columns[0].to_pylist())
    return [s for s in subs if s.name in left]


def _terms(where: grammar.Expr) -> list[grammar.Expr]:
    return [*_terms(where[2]), *_terms(where[3])] if where[:2] == ("op", "and") else [where]


def _used(expr: Any) -> set[str]:
    match expr:
        case ("col", name):
            return {name}
        case ("call", "tbname", _):
            return {"tbname"}
        case tuple() | list():
            return set().union(*(_used(e) for e in expr)) if expr else set()
        case _:
            return set()
