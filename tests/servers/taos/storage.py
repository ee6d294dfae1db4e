"""Tables and rows: what an insert leaves behind, and what a query finds.

Inserts only append pieces; equal keys are merged when the table is read: of every column, the last value given for
the key stands (NULL is a value; a column that an insert did not name keeps what it had).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt

from .kinds import DECIMALS, FIXED, TEXTS, Column

Mask = npt.NDArray[np.bool_]


@dataclass(slots=True)
class Values:
    """A column's values: fixed-width ones as an array, others as wire bytes or Python objects."""

    nulls: Mask
    fixed: npt.NDArray[Any] | None = None
    lengths: npt.NDArray[np.int32] | None = None  # of the pieces of ``raw``
    raw: bytes = b""
    objects: npt.NDArray[np.object_] | None = None

    def as_array(self, column: Column) -> npt.NDArray[Any]:
        if self.fixed is not None:
            return self.fixed
        if self.objects is None:
            assert self.lengths is not None
            ends = np.cumsum(self.lengths)
            starts = ends - self.lengths
            pieces = [self.raw[a:b] for a, b in zip(starts.tolist(), ends.tolist(), strict=True)]
            self.objects = np.empty(len(pieces), object)
            self.objects[:] = [_decoded(p, column) for p in pieces]
            self.objects[self.nulls] = None
        return self.objects


def _decoded(piece: bytes, column: Column) -> object:
    if column.kind in TEXTS:
        return piece.decode()
    if column.kind in DECIMALS:
        return Decimal(piece.decode()) if piece else None
    return piece


@dataclass(slots=True)
class Piece:
    """What one insert brought: times, the second key where there is one, and the columns it named."""

    ts: npt.NDArray[np.int64]
    columns: dict[str, Values]


@dataclass(slots=True)
class Sub:
    """A sub table, or a table that stands alone (``tags`` empty)."""

    name: str
    tags: dict[str, Any] = field(default_factory=dict)
    pieces: list[Piece] = field(default_factory=list)

    def merged(self, columns: list[Column], second: str | None) -> tuple[dict[str, tuple[npt.NDArray[Any], Mask]], int]:
        """Values and nulls by column, one row per key, ascending; and the number of rows."""
        if not self.pieces:
            return {c.name: (np.empty(0, FIXED.get(c.kind, object)), np.empty(0, bool)) for c in columns}, 0
        ts = np.concatenate([p.ts for p in self.pieces])
        order, starts = _grouped(ts, self._second(columns, second))
        last = np.append(starts[1:], len(ts)) - 1
        found: dict[str, tuple[npt.NDArray[Any], Mask]] = {}
        for column in columns:
            if column is columns[0]:
                found[column.name] = (ts[order][starts], np.zeros(len(starts), bool))
                continue
            values, nulls, given = self._laid_out(column)
            values, nulls, given = values[order], nulls[order], given[order]
            at = last
            if not given.all():
                at = np.maximum.reduceat(np.where(given, np.arange(len(ts)), -1), starts)
            found[column.name] = (values[at], nulls[at] | (at < 0))
        if len(self.pieces) > 8 or len(starts) < len(ts):
            self._compact(columns, found)
        return found, len(starts)

    def _second(self, columns: list[Column], second: str | None) -> npt.NDArray[Any] | None:
        if second is None:
            return None
        column = next(c for c in columns if c.name == second)
        values = self._laid_out(column)[0]
        return values if values.dtype != object else np.unique(values.astype(str), return_inverse=True)[1]

    def _laid_out(self, column: Column) -> tuple[npt.NDArray[Any], Mask, Mask]:
        kind = FIXED.get(column.kind, np.dtype(object))
        values, nulls, given = [], [], []
        for piece in self.pieces:
            n = len(piece.ts)
            held = piece.columns.get(column.name)
            absent = np.full(n, None, object) if kind.hasobject else np.zeros(n, kind)
            values.append(absent if held is None else held.as_array(column))
            nulls.append(np.ones(n, bool) if held is None else held.nulls)
            given.append(np.full(n, held is not None))
        return np.concatenate(values), np.concatenate(nulls), np.concatenate(given)

    def _compact(self, columns: list[Column], found: dict[str, tuple[npt.NDArray[Any], Mask]]) -> None:
        held = {}
        for column in columns[1:]:
            values, nulls = found[column.name]
            fixed = values if values.dtype != object else None
            held[column.name] = Values(nulls, fixed, objects=values if fixed is None else None)
        self.pieces = [Piece(found[columns[0].name][0], held)]


def distinct(ts: npt.NDArray[np.int64], second: npt.NDArray[Any] | None) -> int:
    """The number of different keys."""
    if second is None and len(ts) > 1 and bool((ts[1:] > ts[:-1]).all()):
        return len(ts)
    return len(_grouped(ts, second)[1]) if len(ts) else 0


def _grouped(ts: npt.NDArray[np.int64], second: npt.NDArray[Any] | None) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """A stable order by key, and where each key begins in it."""
    order = np.argsort(ts, kind="stable") if second is None else np.lexsort((second, ts))
    new = np.ones(len(ts), bool)
    new[1:] = np.diff(ts[order]) != 0
    if second is not None:
        new[1:] |= second[order][1:] != second[order][:-1]
    return order, np.flatnonzero(new)


@dataclass(slots=True)
class Stable:
    """A super table with its sub tables, or a table that stands alone with itself under its own name."""

    name: str
    columns: list[Column]
    tags: list[Column]
    comment: str = ""
    subs: dict[str, Sub] = field(default_factory=dict)

    @property
    def second(self) -> str | None:
        """The second part of the key."""
        return next((c.name for c in self.columns if c.note), None)


@dataclass(slots=True)
class Database:
    name: str
    options: dict[str, str]
    precision: str
    keep: int  # minutes
    stables: dict[str, Stable] = field(default_factory=dict)
    owner: dict[str, Stable] = field(default_factory=dict)  # sub table -> its super table
