"""SELECT over one table, by Arrow's kernels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .grammar import Expr, Select
from .kinds import BIGINT, BOOL, DECIMALS, DOUBLE, NCHAR, TIMESTAMP, VARBINARY, VARCHAR, Column, TaosError
from .storage import Database, Stable, Sub

_AGGREGATES = {"count": "count", "sum": "sum", "min": "min", "max": "max", "avg": "mean"} | {
    "first": "first",
    "last": "last",
    "last_row": "last",
}
_ARROW = {
    1: pa.bool_(),
    2: pa.int8(),
    3: pa.int16(),
    4: pa.int32(),
    5: pa.int64(),
    6: pa.float32(),
    7: pa.float64(),
} | {
    9: pa.int64(),
    11: pa.uint8(),
    12: pa.uint16(),
    13: pa.uint32(),
    14: pa.uint64(),
}


@dataclass(slots=True)
class Answer:
    """A result: columns with their server types. Moments are epoch numbers of the database's precision."""

    kinds: list[Column]
    columns: list[pa.Array]
    precision: str = "ms"

    @property
    def rows(self) -> int:
        return len(self.columns[0]) if self.columns else 0

    @classmethod
    def of(cls, values: list[tuple[str, Any]]) -> Answer:
        return cls.listed([n for n, _ in values], [[v for _, v in values]])

    @classmethod
    def listed(cls, names: list[str], rows: list[list[Any]]) -> Answer:
        """Columns of texts or whole numbers, by what stands in them."""
        kinds, columns = [], []
        for i, name in enumerate(names):
            cells = [row[i] for row in rows]
            number = any(isinstance(c, int) for c in cells)
            columns.append(pa.array(cells, pa.int64() if number else pa.string()))
            kinds.append(Column(name, BIGINT) if number else Column(name, VARCHAR, 256))
        return cls(kinds, columns)


def arrow_type(column: Column) -> pa.DataType:
    if column.kind in DECIMALS:
        return pa.decimal128(max(column.precision, 1), column.scale)
    return pa.binary() if column.kind == VARBINARY else _ARROW.get(column.kind, pa.string())


def table_of(stable: Stable, subs: list[Sub], database: Database, *, rows: bool = True) -> Answer:
    """Every column, every tag and ``tbname`` of the sub tables, laid end to end; without rows: one line a table."""
    found: list[list[pa.Array]] = []
    for sub in subs:
        values, n = sub.merged(stable.columns, stable.second) if rows else ({}, 1)
        line = []
        if rows:
            line = [_array(*values[c.name], c) for c in stable.columns]
        line += [pa.repeat(_scalar(sub.tags.get(t.name), t), n) for t in stable.tags]
        line.append(pa.repeat(pa.scalar(sub.name), n))
        found.append(line)
    kinds = [*(stable.columns if rows else []), *stable.tags, Column("tbname", VARCHAR, 192)]
    columns = [
        pa.concat_arrays([line[i] for line in found]) if found else pa.nulls(0, arrow_type(k))
        for i, k in enumerate(kinds)
    ]
    return Answer(kinds, columns, database.precision)


def _array(values: Any, nulls: Any, column: Column) -> pa.Array:
    kind = arrow_type(column)
    if column.kind == BOOL:
        values = values.astype(bool)
    if values.dtype == object:
        return pa.array(values.tolist(), kind)
    return pa.array(values, kind, mask=nulls)


def _scalar(value: Any, column: Column) -> pa.Scalar:
    return pa.scalar(value, arrow_type(column))


def select(query: Select, source: Answer, database: Database | None) -> Answer:
    """The query over ``source``; its own table is not looked at."""
    names = [k.name for k in source.kinds]
    table = pa.table(source.columns, names=names)
    scope = _Scope({k.name: k for k in source.kinds}, database)
    if query.where is not None:
        table = table.filter(scope.value(query.where, table))
    wanted: list[tuple[Expr, str]] = []
    for expr, label in query.columns:
        if expr[0] == "star":
            wanted += [(("col", n), n) for n in names if n != "tbname"]
        else:
            wanted.append((expr, label))
    order = query.order
    if query.group or any(_aggregate(e) for e, _ in wanted):
        table, wanted, order = _grouped(query, table, wanted, scope)
    if order:
        keys = [scope.value(e, table) for e, _ in order]
        keyed = pa.table(keys, names=[str(i) for i in range(len(keys))])
        by = [(str(i), "descending" if down else "ascending") for i, (_, down) in enumerate(order)]
        table = table.take(pc.sort_indices(keyed, by))
    if query.limit is not None and not query.distinct:
        table = table.slice(query.offset, query.limit)
    kinds = [scope.column(e, label) for e, label in wanted]
    columns = [_one(scope.value(e, table), table.num_rows) for e, _ in wanted]
    columns = [c.cast(pa.string()) if pa.types.is_null(c.type) else c for c in columns]
    if query.distinct:
        labels = [str(i) for i in range(len(columns))]
        unique = pa.table(columns, names=labels).group_by(labels).aggregate([])
        columns = [unique.column(label).combine_chunks() for label in labels]
        if query.limit is not None:
            columns = [c.slice(query.offset, query.limit) for c in columns]
    return Answer(kinds, columns, database.precision if database is not None else "ms")


def _aggregate(expr: Expr) -> bool:
    return (expr[0] == "call" and expr[1] in _AGGREGATES) or (expr[0] == "cast" and _aggregate(expr[1]))


def _grouped(query: Select, table: pa.Table, wanted: list[tuple[Expr, str]], scope: _Scope) -> tuple[Any, Any, Any]:
    """The grouped table with a column for each group key and aggregate, and the expressions that name them."""
    keys = [f"key{i}" for i in range(len(query.group))]
    work = {k: scope.value(e, table) for k, e in zip(keys, query.group, strict=True)}
    calls: list[tuple[Any, ...]] = []

    def placed(expr: Expr) -> Expr:
        if expr[0] == "cast":
            return ("cast", placed(expr[1]), *expr[2:])
        for key, group in zip(keys, query.group, strict=True):
            if expr == group:
                scope.kinds[key] = scope.column(expr, key)
                return ("col", key)
        if not _aggregate(expr):
            raise TaosError(0x2647, "Not a GROUP BY expression")
        at = f"call{len(calls)}"
        argument = expr[2][0]
        whole = argument[0] == "star"
        work[at] = pa.array(np.ones(table.num_rows, np.int64)) if whole else scope.value(argument, table)
        kind = BIGINT if expr[1] == "count" else DOUBLE if expr[1] == "avg" else scope.column(argument, at).kind
        scope.kinds[f"{at}_{_AGGREGATES[expr[1]]}"] = Column(at, kind, 64)
        calls.append((at, _AGGREGATES[expr[1]]))
        return ("col", f"{at}_{_AGGREGATES[expr[1]]}")

    found = [(placed(e), label) for e, label in wanted]
    order = [(placed(e), down) for e, down in query.order]
    laid = pa.table({k: _one(v, table.num_rows) for k, v in work.items()})
    grouped = laid.group_by(keys, use_threads=False).aggregate(calls)
    if table.num_rows == 0 and not keys and any(c[1] != "count" for c in calls):
        grouped = grouped.slice(0, 0)
    return grouped, found, order


def _one(value: Any, rows: int) -> pa.Array:
    if isinstance(value, pa.ChunkedArray):
        return value.combine_chunks() if value.num_chunks != 1 else value.chunk(0)
    return pa.repeat(value, rows) if isinstance(value, pa.Scalar) else value


@dataclass(slots=True)
class _Scope:
    kinds: dict[str, Column]
    database: Database | None

    def column(self, expr: Expr, label: str) -> Column:
        """The server type of an expression's column."""
        match expr:
            case ("col", name):
                found = self._known(name)
                return Column(label, found.kind, found.length, found.precision, found.scale)
            case ("cast", _, kind, length):
                return Column(label, kind, length)
            case ("call", name, []) if f"{name}()" in self.kinds or name == "tbname":
                found = self._known("tbname" if name == "tbname" else f"{name}()")
                return Column(label, found.kind, found.length)
            case ("lit", str(text)):
                return Column(label, VARCHAR, len(text.encode()))
            case ("lit", bool()):
                return Column(label, BOOL)
            case ("lit", int()):
                return Column(label, BIGINT)
            case ("op", "and" | "or" | "=" | "<>" | "<" | ">" | "<=" | ">=", _, _) | (
                "not" | "in" | "null" | "like",
                *_,
            ):
                return Column(label, BOOL)
            case _:
                return Column(label, DOUBLE)

    def _known(self, name: str) -> Column:
        if name not in self.kinds:
            raise TaosError(0x2602, f"Invalid column name: {name}")
        return self.kinds[name]

    def value(self, expr: Expr, table: pa.Table) -> Any:
        match expr:
            case ("lit", value):
                return pa.scalar(value)
            case ("col", name):
                self._known(name)
                return table.column(name)
            case ("call", "tbname", []):
                return table.column("tbname")
            case ("call", name, []) if f"{name}()" in self.kinds:
                return table.column(f"{name}()")
            case ("cast", inner, kind, length):
                return self._cast(self.value(inner, table), kind, length)
            case ("not", inner):
                return pc.invert(self.value(inner, table))
            case ("neg", inner):
                return pc.negate(self.value(inner, table))
            case ("null", inner):
                return pc.is_null(self.value(inner, table))
            case ("like", inner, pattern):
                return pc.match_like(self.value(inner, table), pattern)
            case ("in", inner, items):
                value = self.value(inner, table)
                kind = value.type
                return pc.is_in(value, pa.array([self._same(i, inner) for i in items], kind))
            case ("op", sign, left, right):
                return self._operation(sign, left, right, table)
            case _:
                raise TaosError(0x2600, f"the stand-in does not know {expr[:2]}")

    def _same(self, item: Expr, beside: Expr) -> Any:
        """A literal as the column beside it wants it: texts are times where a time stands."""
        if item[0] != "lit":
            raise TaosError(0x2600, "a literal is wanted")
        moment = beside[0] == "col" and beside[1] in self.kinds and self.kinds[beside[1]].kind == TIMESTAMP
        if isinstance(item[1], str) and moment and self.database is not None:
            text = item[1].replace(" ", "T").rstrip("Z")
            return int(np.datetime64(text, self.database.precision).astype(np.int64))
        return item[1]

    def _operation(self, sign: str, left: Expr, right: Expr, table: pa.Table) -> Any:
        if sign in ("and", "or"):
            a, b = self.value(left, table), self.value(right, table)
            return pc.and_kleene(a, b) if sign == "and" else pc.or_kleene(a, b)
        a = pa.scalar(self._same(left, right)) if left[0] == "lit" else self.value(left, table)
        b = pa.scalar(self._same(right, left)) if right[0] == "lit" else self.value(right, table)
        kernel = {
            "=": pc.equal,
            "<>": pc.not_equal,
            "<": pc.less,
            ">": pc.greater,
            "<=": pc.less_equal,
            ">=": pc.greater_equal,
            "+": pc.add,
            "-": pc.subtract,
            "*": pc.multiply,
            "/": pc.divide,
        }[sign]
        return kernel(a, b)

    @staticmethod
    def _cast(value: Any, kind: int, length: int) -> Any:
        if kind in (VARCHAR, NCHAR):
            text = value.cast(pa.string())
            return pc.utf8_slice_codeunits(text, 0, length) if length else text
        return value.cast(_ARROW[kind])
