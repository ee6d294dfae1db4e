"""The reader of ``tables.yaml``: every complaint with its line and column, all of them at once."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    NonNegativeInt,
    PositiveInt,
    StringConstraints,
    ValidationError,
)

from mystocks_ingest.errors import ConfigError
from mystocks_ingest.market.datasets import DATASETS, Dataset
from mystocks_ingest.schema.keyspace import KeySpace, Kind
from mystocks_ingest.schema.tables import Column, Database, Route, Table
from mystocks_ingest.schema.types import SIZED, WORDS, Family, misfit

_Path = tuple[str | int, ...]
_Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,62}$")]
_SHORT_FLOAT = frozenset({Database.TDENGINE, Database.MYSQL, Database.MARIADB})
_NEEDS_LENGTH = _SHORT_FLOAT


def _database(value: object) -> object:
    known = {d.value.lower(): d.value for d in Database}
    return known.get(value.lower(), value) if isinstance(value, str) else value


def _word(value: object) -> object:
    return " ".join(value.upper().split()) if isinstance(value, str) else value


class _ColumnEntry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    name: _Name
    type: Annotated[str, BeforeValidator(_word)]
    length: PositiveInt | None = None
    precision: PositiveInt | None = None
    scale: Annotated[int, "digits after the point"] | None = None
    nullable: bool | None = None
    default: str | int | float | bool | None = None
    primary_key: bool = False
    is_tag: bool = False
    comment: str = ""


class _RedisEntry(BaseModel):
    """Where a Redis table's rows lie; see KeySpace."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    pattern: Annotated[str, StringConstraints(min_length=1)]
    kind: Kind = Kind.HASH
    expire_seconds: NonNegativeInt | None = None
    channel: str | None = None
    stream: str | None = None
    stream_length: PositiveInt = 10_000


class _TableEntry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    database_type: Annotated[Database, BeforeValidator(_database)]
    database_name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_]{1,63}$")]
    table_name: _Name
    columns: Annotated[tuple[_ColumnEntry, ...], "at least one"]
    dataset: str | None = None
    key: tuple[str, ...] | None = None
    route: Route = Route.REQUIRED
    time_column: str | None = None
    is_super_table: bool = False
    is_timescale_hypertable: bool = False
    redis: _RedisEntry | None = None
    comment: str = ""


@dataclass(frozen=True, slots=True)
class _Complaint:
    """``at`` leads to the node; ``on_key``: to the key of the pair rather than its value."""

    at: _Path
    text: str
    on_key: bool = False


def read(path: Path) -> tuple[Table, ...]:
    """The tables of the file at ``path``. Raises ConfigError."""
    root = _compose(path)
    constructor = yaml.SafeLoader("")
    complaints = [_Complaint(at, text, on_key=True) for at, text in _repeated_keys(root, (), set())]
    try:
        data = constructor.construct_document(root)
    except yaml.MarkedYAMLError as exc:
        raise ConfigError(_syntax(path, exc)) from None
    entries = _entries(data, complaints)
    tables = []
    for number, entry in entries:
        tables.append(_table(entry, number, f"{path}:{_place(root, ('tables', number))}", complaints))
    complaints += _repeated_tables(entries)
    if complaints:
        raise ConfigError(_report(path, root, complaints))
    return tuple(tables)


def _compose(path: Path) -> yaml.Node:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(
            f"no table file at {path}: set MYSTOCKS_CONFIG_DIR to the folder that holds tables.yaml"
        ) from None
    except UnicodeDecodeError as exc:
        raise ConfigError(f"{path} is not UTF-8 text (byte {exc.start}): save it as UTF-8") from None
    except OSError as exc:
        raise ConfigError(f"cannot read {path}: {exc.strerror}") from None
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as exc:
        raise ConfigError(_syntax(path, exc)) from None
    except yaml.reader.ReaderError as exc:
        line, column = text.count("\n", 0, exc.position) + 1, exc.position - text.rfind("\n", 0, exc.position)
        raise ConfigError(
            f"{path}:{line}:{column}: not YAML: the character {exc.character!r} may not stand here"
        ) from None
    if root is None:
        raise ConfigError(f"{path} is empty: it must hold a list `tables:`")
    return root


def _syntax(path: Path, exc: yaml.MarkedYAMLError) -> str:
    mark = exc.problem_mark or exc.context_mark
    where = f":{mark.line + 1}:{mark.column + 1}" if mark is not None else ""
    return f"{path}{where}: not YAML: {exc.problem or exc.context}"


def _entries(data: object, complaints: list[_Complaint]) -> list[tuple[int, _TableEntry]]:
    if not isinstance(data, dict) or not isinstance(data.get("tables"), list):
        complaints.append(_Complaint((), "the file must be a mapping with a list `tables:`"))
        return []
    complaints += [
        _Complaint((key,), f"unknown entry {key!r}; known: tables", on_key=True) for key in data if key != "tables"
    ]
    entries = []
    for number, item in enumerate(data["tables"]):
        try:
            entries.append((number, _TableEntry.model_validate(item)))
        except ValidationError as exc:
            complaints += [_translated(error, ("tables", number), item) for error in exc.errors()]
    return entries


def _translated(error: Any, base: _Path, item: object) -> _Complaint:
    """A pydantic error in the words of the file."""
    at: _Path = base + tuple(error["loc"])
    name = f" of table {item['table_name']}" if isinstance(item, dict) and "table_name" in item else ""
    last = at[-1]
    match error["type"]:
        case "missing":
            return _Complaint(at[:-1], f"`{last}` is missing{name}")
        case "extra_forbidden":
            model = _ColumnEntry if "columns" in at else _RedisEntry if "redis" in at[:-1] else _TableEntry
            return _Complaint(at, f"unknown entry `{last}`{name}; known: {', '.join(model.model_fields)}", on_key=True)
        case "enum":
            return _Complaint(at, f"`{last}` is {error['input']!r}; it must be {error['ctx']['expected']}")
        case "string_pattern_mismatch":
            return _Complaint(at, f"`{last}` is {error['input']!r}; a name has letters, digits and _ (at most 63)")
        case _:
            return _Complaint(at, f"`{last}`{name}: {error['msg'][:1].lower()}{error['msg'][1:]}")


def _table(entry: _TableEntry, number: int, where: str, complaints: list[_Complaint]) -> Table:
    dataset = DATASETS.get(entry.dataset) if entry.dataset is not None else None
    names = [c.name for c in entry.columns]
    key = entry.key if entry.key is not None else tuple(c.name for c in entry.columns if c.primary_key)
    time_column = entry.time_column or (dataset.time if dataset is not None and dataset.time in names else None)
    for text, place in (
        *_key_complaints(entry, key, dataset),
        *(found for i in range(len(names)) for found in _column_complaints(i, entry, key)),
        *_dataset_complaints(entry, dataset),
        *_kind_complaints(entry, key, time_column),
    ):
        complaints.append(_Complaint(("tables", number, *place), f"{text} (table {entry.table_name})"))
    fields = {f.name: f.type for f in dataset.fields} if dataset is not None else {}
    columns = tuple(
        Column(
            c.name,
            c.type,
            c.length,
            c.precision,
            c.scale,
            nullable=c.name not in key and c.nullable is not False,
            default=c.default,
            comment=c.comment,
            is_tag=c.is_tag,
            canonical=fields.get(c.name),
        )
        for c in entry.columns
    )
    return Table(
        entry.table_name,
        entry.database_type,
        entry.database_name,
        columns,
        key,
        dataset,
        entry.route,
        time_column,
        is_super_table=entry.is_super_table,
        is_timescale_hypertable=entry.is_timescale_hypertable,
        comment=entry.comment,
        where=where,
        key_space=KeySpace(**dict(entry.redis)) if entry.redis is not None else None,
    )


_Found = Iterator[tuple[str, _Path]]


def _key_complaints(entry: _TableEntry, key: Sequence[str], dataset: Dataset | None) -> _Found:
    marked = tuple(c.name for c in entry.columns if c.primary_key)
    if entry.key is not None and marked and set(marked) != set(entry.key):
        yield f"`key` is {list(entry.key)} but `primary_key: true` marks {list(marked)}: make them agree", ("key",)
    for name in dict.fromkeys(key):
        if name not in (c.name for c in entry.columns):
            yield f"`key` names {name!r}, which is not a column of it", ("key",)
        elif dataset is not None and name not in dataset.required:
            yield f"`key` names {name!r}, which rows of dataset {dataset} may lack", ("key",)
    if len(set(key)) < len(key):
        yield "`key` names a column twice", ("key",)


def _dataset_complaints(entry: _TableEntry, dataset: Dataset | None) -> _Found:
    if dataset is None:
        if entry.dataset is not None:
            yield f"unknown dataset {entry.dataset!r}; known: {', '.join(sorted(DATASETS))}", ("dataset",)
        return
    fields = {f.name: f for f in dataset.fields}
    missing = [n for n in dataset.required if n not in (c.name for c in entry.columns)]
    if missing:
        yield f"dataset {dataset} needs the columns {', '.join(missing)}", ("columns",)
    for i, column in enumerate(entry.columns):
        field = fields.get(column.name)
        if field is not None and column.type in WORDS:
            reason = misfit(column.type, field, short_float=entry.database_type in _SHORT_FLOAT)
            if reason is not None:
                yield reason, ("columns", i, "type")
        if field is None and column.nullable is False and column.default is None:
            remedy = "drop the column, let it be null, or give it a default"
            yield f"{dataset} has no {column.name!r}, so every row would be refused: {remedy}", ("columns", i)


def _column_complaints(i: int, entry: _TableEntry, key: Sequence[str]) -> _Found:
    column, at = entry.columns[i], ("columns", i)
    name, word, family = column.name, column.type, WORDS.get(column.type)
    if name.lower() in (c.name.lower() for c in entry.columns[:i]):
        yield f"column {name!r} stands twice", (*at, "name")
    if column.nullable and name in key:
        yield f"column {name} belongs to the key and cannot be null", (*at, "nullable")
    if column.is_tag and not entry.is_super_table:
        yield f"column {name} is a tag, but the table is no super table: add `is_super_table: true`", (*at, "is_tag")
    if family is None:
        sized = "(" in word
        remedy = "write its size under `length`, or `precision` and `scale`" if sized else f"known: {', '.join(WORDS)}"
        yield f"unknown type {word!r} of column {name}; {remedy}", (*at, "type")
        return
    if column.length is not None and word not in SIZED | {"TEXT", "BLOB", "TIMESTAMP", "DATETIME"}:
        yield f"{word} takes no `length` (column {name})", (*at, "length")
    if column.length is None and word in SIZED and entry.database_type in _NEEDS_LENGTH:
        yield f"{word} needs a `length` in {entry.database_type.value} (column {name})", (*at, "type")
    given = [place for place in ("scale", "precision") if getattr(column, place) is not None]
    if family is not Family.DECIMAL and given:
        yield f"{word} takes no `{given[0]}` (column {name})", (*at, given[0])
    if family is Family.DECIMAL and not 0 <= (column.scale or 0) <= (column.precision or 38) <= 38:
        yield f"{word} of column {name} must have 0 <= scale <= precision <= 38", (*at, given[0])


def _kind_complaints(entry: _TableEntry, key: Sequence[str], time_column: str | None) -> _Found:
    names = [c.name for c in entry.columns]
    if entry.time_column is not None and entry.time_column not in names:
        yield f"`time_column` is {entry.time_column!r}, which is not a column of it", ("time_column",)
    if entry.is_timescale_hypertable:
        at: _Path = ("is_timescale_hypertable",)
        if entry.database_type is not Database.POSTGRESQL:
            yield "only a PostgreSQL table can be a hypertable", at
        elif time_column is None:
            yield "a hypertable needs a `time_column`", at
        elif key and time_column not in key:
            yield f"the key of a hypertable must contain its time column {time_column}", ("key",)
    if entry.redis is not None:
        if entry.database_type is not Database.REDIS:
            yield "only a Redis table has `redis:`", ("redis",)
        for complaint in KeySpace(**dict(entry.redis)).complaints(key):
            yield complaint, ("redis", "pattern")
    if entry.is_super_table:
        at = ("is_super_table",)
        if entry.database_type is not Database.TDENGINE:
            yield "only a TDengine table can be a super table", at
            return
        if not any(c.is_tag for c in entry.columns):
            yield "a super table needs a column with `is_tag: true`", at
        first = next((c for c in entry.columns if not c.is_tag), None)
        if first is None or first.type != "TIMESTAMP":
            yield "the first column of a super table must be its TIMESTAMP", ("columns",)


def _repeated_tables(entries: Sequence[tuple[int, _TableEntry]]) -> Iterator[_Complaint]:
    seen: dict[tuple[str, str, str], int] = {}
    for number, entry in entries:
        full = (entry.database_type.value, entry.database_name, entry.table_name.lower())
        if full in seen:
            text = f"table {'.'.join(full)} stands twice (first as number {seen[full] + 1})"
            yield _Complaint(("tables", number, "table_name"), text)
        seen.setdefault(full, number)


def _repeated_keys(node: yaml.Node, at: _Path, seen: set[int]) -> Iterator[tuple[_Path, str]]:
    """YAML keeps the last of two equal keys in silence; that hides a column or a key."""
    if id(node) in seen:  # an anchor's node stands in several places, or within itself
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for i, item in enumerate(node.value):
            yield from _repeated_keys(item, (*at, i), seen)
    elif isinstance(node, yaml.MappingNode):
        keys: set[Hashable] = set()
        for key, value in node.value:
            if key.value in keys and key.value != "<<":
                yield (*at, key.value), f"`{key.value}` stands twice in one mapping (the last one counts)"
            keys.add(key.value if isinstance(key.value, Hashable) else id(key))
            yield from _repeated_keys(value, (*at, key.value), seen)


def _place(root: yaml.Node, at: _Path, *, on_key: bool = False) -> str:
    """``line:column`` of the node at ``at``, or of its nearest parent that exists."""
    node, mark = root, root.start_mark
    for depth, step in enumerate(at):
        if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            node = node.value[step]
            mark = node.start_mark
        elif isinstance(node, yaml.MappingNode):
            pair = next(((k, v) for k, v in reversed(node.value) if k.value == step), None)
            if pair is None:
                break
            node = pair[1]
            mark = pair[0].start_mark if on_key and depth == len(at) - 1 else node.start_mark
        else:
            break
    return f"{mark.line + 1}:{mark.column + 1}"


def _report(path: Path, root: yaml.Node, complaints: Sequence[_Complaint]) -> str:
    placed = [(_place(root, c.at, on_key=c.on_key), c.text) for c in complaints]
    placed.sort(key=lambda line: tuple(int(n) for n in line[0].split(":")))
    lines = [f"{path}:{place}: {text}" for place, text in placed]
    return lines[0] if len(lines) == 1 else f"{len(lines)} complaints\n" + "\n".join(lines)
