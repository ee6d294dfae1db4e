"""Redis' words for tables: a key space is described by a sample of its keys. Pure.

Redis makes nothing ahead: an empty key space is there as the file describes it, and the plan for it is empty. Of keys
that exist, a bounded sample is compared with the file; a key that is not in the sample is not seen.

A difference is
- ``kind``: none of the sampled keys holds what the table's kind asks for (a map's rows where a row's fields are wanted,
  or several strings). Nothing can be read then, so the table's route stops; the remedy is another pattern, or to delete
  them.
- ``expire``: a key lives for ever where the file (or REDIS_EXPIRE_SECONDS) sets an end, lives longer than that, or has
  an end where none is wanted. It is mended in place.
- a field that is no column: left over from a column the file no longer has, or a stranger's. It harms nobody. Here it
  is dropped only when asked for by name; a write leaves it where the hash then has more fields than the table columns,
  and else may take it away with the row it replaces.
- a stray: a key of the pattern that is no row among others that are: another type, a row without its key, a value that
  is not of its column's type. It stands among the indexes, as what somebody made by hand; only its own row suffers.

No difference is a column without a field, for a null is kept as no field and the next write brings it; nor the order
of fields, comments, defaults, lengths, of which Redis keeps nothing; nor a message channel, which is not kept at all.

A statement is a command of Redis' own, or one for each key of a pattern: ``EACH quote:{symbol} EXPIRE 100 LT``. ``WITH
ts`` behind the pattern means the times beside each set as well.
"""

from __future__ import annotations

import json
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
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
from mystocks_ingest.schema.keyspace import KeySpace, Kind, default
from mystocks_ingest.schema.structure import ColumnShape, IndexShape, TableShape
from mystocks_ingest.schema.tables import Column, Database, Table
from mystocks_ingest.sinks.redis import decoding
from mystocks_ingest.sinks.redis.encoding import guard_of

DATABASE = ""
"""Redis has one key space; the file's ``database_name`` is a label."""
LOCK = "mystocks:schema:lock"
_SLACK_SECONDS = 60  # a life may be that much longer than asked for and still count as the same
_TYPED = re.compile(r"([A-Z][A-Z0-9 ]*?)(?:\((\d+)(?:, (\d+))?\))?$")
_KINDS = frozenset(k.value for k in Kind)


@dataclass(frozen=True, slots=True)
class Sample:
    """One key: Redis' word for its type, milliseconds to live (-1: for ever), of a hash some of its fields."""

    key: bytes
    type: str
    life: int
    fields: Mapping[bytes, bytes]


class RedisDialect:
    """schema.diff.Dialect of Redis. ``expire_seconds``: of tables that do not say; 0: never."""

    def __init__(self, *, expire_seconds: int = 0) -> None:
        self._expire = expire_seconds

    def shape(self, table: Table) -> TableShape:
        space = space_of(table)
        return TableShape(
            DATABASE,
            table.name,
            tuple(ColumnShape(c.name, _spelled(c), nullable=c.nullable) for c in table.columns),
            table.key,
            options=_options(space, guard_of(table), self._life(space)),
        )

    def found(self, table: Table, samples: Sequence[Sample], *, strays: Sequence[IndexShape] = ()) -> TableShape:
        """The table as the sample shows it. ``strays`` were found elsewhere."""
        shape = self.shape(table)
        if not samples and not strays:
            return shape
        space = space_of(table)
        kinds = {s.key: _layout(table, space, s) for s in samples}
        rows = [s for s in samples if kinds[s.key] == space.kind]
        others = Counter(k for k in kinds.values() if k != space.kind)
        options = dict(shape.settings)
        odd = list(strays)
        commonest = others.most_common(1)[0] if samples and not rows else ("", 0)
        if commonest[0] in _KINDS or commonest[1] > 1:
            options["kind"] = commonest[0]
        else:
            odd += [_stray(s, f"{_a(kinds[s.key])}, not {_a(space.kind.value)}") for s in samples if s not in rows]
        if _unreadable(table, space, rows):  # one by one only where need be
            odd += [_stray(s, why) for s in rows if (why := _unreadable(table, space, [s]))]
        life = _lives(rows, self._life(space))
        if life:
            options["expire"] = f"{life} s"
        else:
            options.pop("expire", None)
        known = {c.name for c in table.columns}
        extra = dict.fromkeys(f for s in rows for f in _fields(space, s) if f not in known)
        return TableShape(
            DATABASE,
            table.name,
            (*shape.columns, *(ColumnShape(f, "TEXT") for f in extra)),
            shape.key,
            tuple(odd),
            options=tuple(options.items()),
        )

    def fit(self, before: str, after: str) -> Fit:
        """Every value is a text; whether it can be read as its column's type, the sample tells."""
        return Fit.SAME if before == after else Fit.WIDER

    def hazard(self, change: Change) -> str:
        match change:
            case SetOption(option="kind", before=before, table=table):
                return (
                    f"the keys {table.settings['pattern']} hold {_some(before)}: give the table another pattern, or "
                    "let them be deleted"
                )
            case ChangeKey() | AddIndex():
                return "Redis has no such thing: give the table another pattern"
            case DropColumn(table=table) if table.settings["kind"] != Kind.HASH.value:
                return "it goes with the next write of its row"
            case _:
                return ""

    def ddl(self, change: Change) -> list[str]:
        """Commands; none for what Redis does not keep."""
        match change:
            case DropTable(table=table) | SetOption(option="kind", table=table):
                return [_each(table, "UNLINK")]
            case DropColumn(table=table, column=column) if table.settings["kind"] == Kind.HASH.value:
                return [_each(table, "HDEL", column.name, beside=False)]
            case DropIndex(index=index):
                return [shlex.join(["UNLINK", index.name])]
            case SetOption(option="expire", table=table, after=after):
                words = ("EXPIRE", after.split(" ")[0], "LT") if after else ("PERSIST",)
                return [_each(table, *words)]
            case ChangeKey() | AddIndex() | DropColumn():
                raise UnsafeChange(f"{change.table}: {change.words}: {self.hazard(change)}")
            case CreateDatabase() | CreateTable() | AddColumn() | ChangeColumn() | SetComment() | SetOption():
                return []
            case _:
                assert_never(change)

    def table(self, shape: TableShape) -> Table:
        said = shape.settings
        expire = int(said["expire"].partition(" ")[0]) if "expire" in said else 0
        length = int(said.get("stream length", KeySpace("").stream_length))
        return Table(
            shape.name,
            Database.REDIS,
            shape.database,
            tuple(_written(c) for c in shape.columns),
            shape.key,
            time_column=said.get("newest by"),
            key_space=KeySpace(
                said["pattern"], Kind(said["kind"]), expire, said.get("channel"), said.get("stream"), length
            ),
        )

    def _life(self, space: KeySpace) -> int:
        return self._expire if space.expire_seconds is None else space.expire_seconds


def space_of(table: Table) -> KeySpace:
    """Where the table's rows lie."""
    return table.key_space or default(table.name, table.key)


def _options(space: KeySpace, guard: str, expire: int) -> tuple[tuple[str, str], ...]:
    told = {"kind": space.kind.value, "pattern": space.pattern}
    told |= {"newest by": guard} if guard else {}
    told |= {"expire": f"{expire} s"} if expire else {}
    told |= {"channel": space.channel} if space.channel else {}
    if space.stream:
        told |= {"stream": space.stream, "stream length": str(space.stream_length)}
    return tuple(told.items())


def _spelled(column: Column) -> str:
    sizes = [str(n) for n in (column.length, column.precision, column.scale) if n is not None]
    return f"{column.type}({', '.join(sizes)})" if sizes else column.type


def _written(column: ColumnShape) -> Column:
    match = _TYPED.fullmatch(column.type)
    word, *sizes = match.groups() if match is not None else ("TEXT", None, None)
    first, second = (int(n) if n is not None else None for n in sizes)
    if word in ("NUMERIC", "DECIMAL"):
        return Column(column.name, word, None, first, second, nullable=column.nullable)
    return Column(column.name, word, first, nullable=column.nullable)


# what a sample shows ------------------------------------------------------------------------------------------------


def _layout(table: Table, space: KeySpace, sample: Sample) -> str:
    """What lies under the key, in the file's words where it has one: hash, map, set; else Redis' own."""
    if sample.type != "hash":
        return sample.type
    if space.kind is not Kind.MAP and all(k.encode() in sample.fields for k in table.key):
        return Kind.HASH.value
    if sample.fields and all(_objects(sample)):
        return Kind.MAP.value
    return Kind.HASH.value if all(k.encode() in sample.fields for k in table.key) else "hash without the row's key"


def _objects(sample: Sample) -> Iterable[bool]:
    for value in sample.fields.values():
        try:
            yield isinstance(json.loads(value), dict)
        except ValueError:
            yield False


def _fields(space: KeySpace, sample: Sample) -> list[str]:
    match space.kind:
        case Kind.HASH:
            return [f.decode(errors="replace") for f in sample.fields]
        case Kind.MAP:
            return [name for value in sample.fields.values() for name in json.loads(value)]
        case Kind.SET:
            return []


def _unreadable(table: Table, space: KeySpace, samples: Sequence[Sample]) -> str:
    """Why the sink could not read the keys' rows."""
    if space.kind is Kind.SET or not samples:
        return ""
    texts_of = decoding.hashes if space.kind is Kind.HASH else decoding.maps
    texts = texts_of(table, [s.fields for s in samples])
    needed = [c.name for c in table.columns if not c.nullable or c.name in table.key]
    rows = len(samples) if space.kind is Kind.HASH else sum(len(s.fields) for s in samples)
    for name in needed:
        if len(texts[name]) < rows or None in texts[name]:
            return f"no {name}, which no row goes without"
    for field in table.schema:
        try:
            decoding.typed(texts[field.name], field.type)
        except ValueError:  # pyarrow's errors are ValueErrors
            return f"a {field.name} that is no {field.type}"
    return ""


def _lives(rows: Sequence[Sample], asked: int) -> int:
    """Seconds that rows live, as the file would say it: ``asked`` where they agree with it."""
    lives = [s.life for s in rows]
    longest = -(-max(lives, default=0) // 1000)
    if not lives:
        return asked
    if asked:
        return 0 if any(life < 0 for life in lives) else asked if longest <= asked + _SLACK_SECONDS else longest
    return max(longest, 0)


def _stray(sample: Sample, why: str) -> IndexShape:
    return IndexShape(sample.key.decode(errors="replace"), (why,))


def _a(kind: str) -> str:
    return f"a {kind}"


def _some(kind: str | None) -> str:
    return {"hash": "a row's fields", "map": "rows as JSON", "set": "a set's members"}.get(kind or "", f"a {kind}")


def _each(table: TableShape, *words: str, beside: bool = True) -> str:
    said = table.settings
    guard = said.get("newest by") if said["kind"] == Kind.SET.value and beside else None
    return shlex.join(["EACH", said["pattern"], *(["WITH", guard] if guard else []), *words])


# rights -------------------------------------------------------------------------------------------------------------

_CONNECT = ("+ping", "+client|setname", "+select", "+role", "+cluster|slots", "+asking")
_READ = ("+scan", "+hgetall", "+smembers")
_SAMPLE = ("+type", "+pttl", "+hrandfield")
_WRITE = ("+fcall", "+function|load", "+restore", "+hset", "+hget", "+hlen", "+hdel", "+sadd", "+srem", "+pexpire")
_STRUCTURE = (
    "+scan", *_SAMPLE, "+hlen", "+scard",
    "+expire", "+persist", "+hdel", "+unlink", "+set", "+get", "+eval", "+function|load",
)  # fmt: skip


def grants(
    tables: Iterable[Table],
    *,
    writer: str = "mystocks_writer",
    reader: str = "mystocks_reader",
    migrator: str = "mystocks_migrator",
) -> list[str]:
    """ACL SETUSER for three users with no more rights than they need; ``<password>`` is to be filled in.

    The writer is the service's: it stores, samples, reads and announces, through functions it loads itself. The reader is for
    other programs: it reads and listens, and can neither write nor load code. The migrator samples and mends what is
    stored. None of them reaches a key of another pattern, nor FLUSHALL, CONFIG, KEYS. A cluster's every node is to be told.
    """
    spaces = [(space_of(t), guard_of(t)) for t in tables if t.database_type is Database.REDIS]
    keys = list(dict.fromkeys(k for space, guard in spaces for k in _reached(space, guard)))
    streams = list(dict.fromkeys(s.stream for s, _ in spaces if s.stream))
    channels = [f"&{c}" for c in dict.fromkeys(s.channel for s, _ in spaces if s.channel)]
    sent = [*(["+publish"] if channels else []), *(["+xadd"] if streams else [])]
    heard = [*(["+subscribe", "+unsubscribe"] if channels else []), *(["+xread", "+xrange"] if streams else [])]
    secret = ["reset", "on", "><password>"]
    written = [f"~{k}" for k in (*keys, *streams)]
    users = {
        writer: [*written, *channels, *_CONNECT, *_READ, *_SAMPLE, *_WRITE, *sent],
        reader: [*(f"%R~{k}" for k in (*keys, *streams)), *channels, *_CONNECT, *_READ, *heard],
        migrator: [*written, f"~{LOCK}", *_CONNECT, *_STRUCTURE],
    }
    return [shlex.join(["ACL", "SETUSER", user, *secret, *rights]) for user, rights in users.items()]


def _reached(space: KeySpace, guard: str) -> list[str]:
    """The patterns of ACL that a table's keys have; the times beside a set are a key of their own."""
    for text in space.texts:
        if any(c.isspace() for c in text):
            raise ConfigError(f"the pattern {space.pattern!r} has a space, which Redis' ACL cannot name")
    keys = decoding.glob(space).decode()
    return [keys, f"{{{keys}}}:{guard}"] if space.kind is Kind.SET and guard else [keys]
