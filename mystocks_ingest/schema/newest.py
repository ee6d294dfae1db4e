"""Which of two rows of one key is the newer: what ``newest_by`` of a table means, for batches and as SQL. Pure.

The columns are looked at one after the other. The greater value is the newer one; equal values leave it to the next
column, and so does a null, which says nothing. Of a state (an order's status) a word that begins it is older than all
others, one that ends it newer. Rows that none of the columns tells apart: the later one stands.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mystocks_ingest.schema.tables import Table

_Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Guard:
    """One column of ``newest_by``; ``first`` and ``last`` are the words of a state."""

    name: str
    first: tuple[str, ...] = ()
    last: tuple[str, ...] = ()


def guards(table: Table, given: Collection[str]) -> tuple[Guard, ...]:
    """Those of the table's columns that the rows have, too."""
    fields = {f.name: f for f in table.dataset.fields} if table.dataset is not None else {}
    return tuple(
        Guard(name, fields[name].first, fields[name].last) if name in fields else Guard(name)
        for name in table.guards
        if name in given
    )


def stale(by: Sequence[Guard], stored: Callable[[str], str], given: Callable[[str], str]) -> str:
    """SQL that is true where the given row is older than the stored one; ``stored`` and ``given`` spell a column.

    Never null, and in words that every database here has.
    """
    text = "FALSE"
    for guard in reversed(by):
        held, new = (_rank_text(guard, spell(guard.name)) for spell in (stored, given))
        rest = "" if text == "FALSE" else f" OR (COALESCE({held} = {new}, TRUE) AND {text})"
        text = f"(COALESCE({held} > {new}, FALSE){rest})"
    return text


def _rank_text(guard: Guard, column: str) -> str:
    if not guard.first and not guard.last:
        return column
    cases = [f"WHEN {column} IS NULL THEN NULL"]
    for words, rank in ((guard.first, 0), (guard.last, 2)):
        if words:
            cases.append(f"WHEN {column} IN ({', '.join(map(_literal, words))}) THEN {rank}")
    return f"CASE {' '.join(cases)} ELSE 1 END"


def _literal(word: str) -> str:
    """A dataset's own word; there is none with a quote or a backslash in it."""
    if not word.replace("_", "").isalnum():
        raise ValueError(f"{word!r} is no plain word")
    return f"'{word}'"


def standing(rows: pa.RecordBatch, key: Sequence[str], by: Sequence[Guard]) -> _Numbers:
    """The numbers of the rows that stand where keys repeat, ascending: of each key the newest.

    Neighbours of one key are compared, and those that stand again, until each key is left once.
    """
    numbers = np.arange(rows.num_rows)
    numbered = pa.table([*(rows.column(k) for k in key), pa.array(numbers)], names=[*key, "#"])
    order = pc.sort_indices(numbered, sort_keys=[(name, "ascending") for name in (*key, "#")])
    sorted_keys = numbered.take(order)
    begins = np.ones(rows.num_rows, bool)
    begins[1:] = False
    for name in key:
        column = sorted_keys.column(name).combine_chunks()
        before, after = column.slice(0, len(column) - 1), column.slice(1)
        begins[1:] |= pc.fill_null(pc.not_equal(after, before), True).to_numpy(zero_copy_only=False)
    left, group = order.to_numpy(), np.cumsum(begins)
    values = [_compared(guard, rows.column(guard.name)) for guard in by]
    while len(left) > group[-1]:
        place = np.arange(len(left)) - np.searchsorted(group, group)  # within its key
        first = np.flatnonzero((place[:-1] % 2 == 0) & (group[1:] == group[:-1]))
        older = _older(values, left[first + 1], left[first])
        gone = np.where(older, first + 1, first)
        left, group = np.delete(left, gone), np.delete(group, gone)
    return np.sort(left)


_Values = tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]


def _compared(guard: Guard, column: pa.Array) -> _Values:
    """Values that can be compared, and which of them there are."""
    there = column.is_valid().to_numpy(zero_copy_only=False)
    if guard.first or guard.last:
        ranks = np.ones(len(column), np.int64)
        for words, rank in ((guard.first, 0), (guard.last, 2)):
            ranks[pc.is_in(column, pa.array(words, column.type)).to_numpy(zero_copy_only=False)] = rank
        return ranks, there
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    elif pa.types.is_date32(column.type):
        column = column.cast(pa.int32())
    return pc.fill_null(column, 0).to_numpy(zero_copy_only=False), there


def _older(values: Sequence[_Values], given: _Numbers, stored: _Numbers) -> npt.NDArray[np.bool_]:
    """Whether each given row is older than the stored one beside it."""
    older, open_ = np.zeros(len(given), bool), np.ones(len(given), bool)
    for numbers, there in values:
        both = there[given] & there[stored]
        less, more = numbers[given] < numbers[stored], numbers[given] > numbers[stored]
        older |= open_ & both & less
        open_ &= ~(both & (less | more))
    return older
