"""Rows to Redis commands, column by column: Arrow's kernels write the bytes, no row is touched by Python.

Numbers become their shortest exact text, times epoch milliseconds, days ISO, truth 1 or 0; a null is an absent field.
"""

from __future__ import annotations

import binascii
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mystocks_ingest.errors import Rejected
from mystocks_ingest.schema.keyspace import KeySpace, Kind
from mystocks_ingest.schema.tables import Table
from mystocks_ingest.sinks.redis.dump import dumped
from mystocks_ingest.sinks.redis.library import WHOLE, function

KEYS_A_CALL = 100  # a call of this size holds Redis for about a millisecond
SLOTS = 16_384
_EMPTY = pa.scalar(b"", pa.binary())
_SHORT = 256


@dataclass(frozen=True, slots=True)
class Call:
    """One FCALL, ready to send. ``rows`` are the numbers its keys' rows have in the batch."""

    slot: int
    rows: range | list[int]
    parts: tuple[bytes | memoryview, ...]


def command(*words: str | bytes | int) -> bytes:
    """One command in RESP."""
    out = [b"*%d\r\n" % len(words)]
    for word in words:
        text = word if isinstance(word, bytes) else str(word).encode()
        out.append(b"$%d\r\n%b\r\n" % (len(text), text))
    return b"".join(out)


def guard_of(table: Table) -> str:
    """The column by which the newest row wins; empty: the later write stands."""
    return table.guards[0] if table.guards else ""


def flag_of(table: Table) -> str | None:
    """A set's column that says whether the row's member belongs to it; None: it does."""
    return next((c.name for c in table.columns if pa.types.is_boolean(c.arrow) and c.name not in table.key), None)


def calls(
    table: Table, space: KeySpace, rows: pa.RecordBatch, *, expire_seconds: int, by_slot: bool, whole: bool
) -> Iterator[Call]:
    """The commands that store ``rows``. Raises Rejected. ``by_slot``: the keys of each call share a cluster slot.

    ``whole``: rows that have all columns of the table take the place of what is stored, where they can.
    """
    columns = {f.name: _typed(table, f, rows) for f in table.schema if f.name in rows.schema.names}
    _complete(table, columns)
    texts = {name: as_text(column) for name, column in columns.items()}
    keys = _keys(table, space, texts)
    guard = guard_of(table)
    version = texts[guard] if guard else pa.repeat(_EMPTY, rows.num_rows)
    arguments, kind, width, last = None, space.kind.value, 3, []
    if whole and space.kind is Kind.HASH and len(texts) == len(table.columns):
        arguments = dumped(texts, version)
    if arguments is not None:
        kind, width, last = WHOLE, 2, [b"%d" % len(texts)]
    else:
        first, second = _values(table, space, columns, texts)
        arguments = _join(*_bulk(version), *_bulk(first), *_bulk(second))
    fixed = [guard.encode(), b"%d" % (expire_seconds * 1000), *last]
    yield from _cut(keys, arguments, width, function(kind), fixed, by_slot=by_slot)


def _values(
    table: Table, space: KeySpace, columns: dict[str, pa.Array], texts: dict[str, pa.Array]
) -> tuple[pa.Array, pa.Array]:
    """What each row's key gets, as the function for its kind takes it."""
    match space.kind:
        case Kind.HASH:
            return _fields(texts), _absent(texts)
        case Kind.MAP:
            return _joined_key(space.rest(table.key), texts), _json(table, columns, texts)
        case Kind.SET:
            flag, member = flag_of(table), texts[space.rest(table.key)[0]]
            one = pa.scalar(b"1", pa.binary())
            if flag not in columns:
                return member, pa.repeat(one, len(member))
            return member, pc.if_else(pc.fill_null(columns[flag], fill_value=False), one, _EMPTY)


def _typed(table: Table, field: pa.Field, rows: pa.RecordBatch) -> pa.Array:
    column, wanted = rows.column(field.name), field.type
    if column.type == wanted:
        return column
    try:
        return column.cast(wanted)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as exc:
        raise Rejected(f"{table.name}: {field.name} is no {wanted}: {exc}") from exc


def _complete(table: Table, columns: dict[str, pa.Array]) -> None:
    for column in table.columns:
        must = not column.nullable or column.name in table.key or column.name == guard_of(table)
        if must and column.name not in columns and column.default is None:
            raise Rejected(f"{table.name}: the rows have no {column.name}, which may not be null")
        if must and column.name in columns and columns[column.name].null_count:
            what = "a key" if column.name in table.key else "it"
            raise Rejected(f"{table.name}: {column.name} is null, and {what} cannot be")


def as_text(column: pa.Array) -> pa.Array:
    """The column as Redis keeps it, binary."""
    kind = column.type
    if pa.types.is_timestamp(kind) or pa.types.is_boolean(kind):
        column = column.cast(pa.int64())
    if pa.types.is_binary(column.type):
        return column
    cents = _of_cents(column) if pa.types.is_float64(kind) else None
    return column.cast(pa.string()).cast(pa.binary()) if cents is None else cents


_CENTS = 300_000  # prices below 3,000 yuan


@lru_cache(maxsize=1)
def _cents() -> pa.Array:
    """The text of each number of cents, in yuan, as a cast writes it."""
    return pa.array(np.arange(_CENTS) / 100).cast(pa.string()).cast(pa.binary())


def _of_cents(column: pa.Array) -> pa.Array | None:
    """The texts of prices, looked up: a fifth of a cast's time. None where one is no whole number of cents, or large."""
    values = (pc.fill_null(column, 0.0) if column.null_count else column).to_numpy()
    if not len(values) or not (values.min() >= 0 and values.max() < _CENTS / 100):  # false for NaN, too
        return None
    places = np.rint(values * 100).astype(np.int32)
    places = np.minimum(places, _CENTS - 1)
    if ((places / 100).view(np.int64) != values.view(np.int64)).any():  # by their bits: there is a zero below zero
        return None
    nulls = column.is_null().to_numpy(zero_copy_only=False) if column.null_count else None
    return _cents().take(pa.array(places, mask=nulls))


def _keys(table: Table, space: KeySpace, texts: dict[str, pa.Array]) -> pa.Array:
    parts: list[pa.Array | pa.Scalar] = []
    for text, place in zip(space.texts, (*space.places, None), strict=True):
        parts.append(pa.scalar(text.encode(), pa.binary()))
        if place is not None:
            parts.append(escaped(texts[place]) if len(space.places) > 1 else texts[place])
    if not space.places:
        return pa.repeat(parts[0], len(texts[table.key[0]]))
    return _join(*parts)


def escaped(values: pa.Array) -> pa.Array:
    """With several places in a key, a colon within a value must not look like the one between two."""
    values = pc.replace_substring(values, pattern=b"%", replacement=b"%25")
    return pc.replace_substring(values, pattern=b":", replacement=b"%3A")


def _joined_key(names: tuple[str, ...], texts: dict[str, pa.Array]) -> pa.Array:
    if len(names) == 1:
        return texts[names[0]]
    return pc.binary_join_element_wise(*(escaped(texts[n]) for n in names), pa.scalar(b":", pa.binary()))


# one row's fields -----------------------------------------------------------------------------------------------


def _packed(length: int) -> bytes:
    """MessagePack's head of a text."""
    if length < 32:
        return bytes([0xA0 | length])
    if length < 1 << 8:
        return bytes([0xD9, length])
    if length < 1 << 16:
        return b"\xda" + length.to_bytes(2, "big")
    return b"\xdb" + length.to_bytes(4, "big")


def _named(name: str) -> bytes:
    text = name.encode()
    return _packed(len(text)) + text


def _fields(texts: dict[str, pa.Array]) -> pa.Array:
    parts = []
    for name, values in texts.items():
        parts += [_heads(values, _named(name), _packed, b""), values]
    return _join(*parts)


def _absent(texts: dict[str, pa.Array]) -> pa.Array:
    gone = [
        pc.if_else(values.is_null(), pa.scalar(_named(name), pa.binary()), _EMPTY)
        for name, values in texts.items()
        if values.null_count
    ]
    return _join(*gone) if gone else pa.repeat(_EMPTY, len(next(iter(texts.values()))))


def _json(table: Table, columns: dict[str, pa.Array], texts: dict[str, pa.Array]) -> pa.Array:
    """Rows as JSON objects without their nulls; what JSON has no number for is text."""
    parts: list[pa.Array | pa.Scalar] = [pa.scalar(b"{", pa.binary())]
    comma = b""
    for name, values in sorted(texts.items(), key=lambda pair: pair[0] not in table.key):  # a key is never null
        kind = columns[name].type
        bare = pa.types.is_integer(kind) or pa.types.is_timestamp(kind)
        if pa.types.is_floating(kind):
            finite = pc.is_finite(columns[name])
            written = pc.if_else(finite, values, _join(pa.scalar(b'"'), values, pa.scalar(b'"')))
        else:
            written = values if bare else _quoted(values)
        head = pa.scalar(comma + json.dumps(name).encode() + b":", pa.binary())
        parts += [pc.if_else(values.is_null(), _EMPTY, head), pc.fill_null(written, b"")]
        comma = b","
    return _join(*parts, pa.scalar(b"}", pa.binary()))


def _quoted(values: pa.Array) -> pa.Array:
    coded = values.dictionary_encode()
    words = [
        json.dumps(text.decode("utf-8", "surrogateescape"), ensure_ascii=False).encode("utf-8", "surrogateescape")
        for text in coded.dictionary.to_pylist()
    ]
    return pa.array(words, pa.binary()).take(coded.indices)


# bytes ------------------------------------------------------------------------------------------------------------


def _join(*parts: pa.Array | pa.Scalar) -> pa.Array:
    """The parts end to end, element by element; a null is nothing."""
    return pc.binary_join_element_wise(*parts, _EMPTY, null_handling="replace", null_replacement=b"")


def _head(length: int) -> bytes:
    return b"$%d\r\n" % length


def _bulk(values: pa.Array) -> tuple[pa.Array, pa.Array, pa.Scalar]:
    """RESP's bulk strings of the values, as parts to join."""
    return _heads(values, b"", _head, _head(0)), values, pa.scalar(b"\r\n", pa.binary())


@lru_cache(maxsize=1024)
def _table(before: bytes, form: Callable[[int], bytes], null: bytes) -> pa.Array:
    return pa.array([*(before + form(n) for n in range(_SHORT)), null], pa.binary())


def _heads(values: pa.Array, before: bytes, form: Callable[[int], bytes], null: bytes) -> pa.Array:
    """For each value ``before`` and the head that tells its length; ``null`` for a null."""
    lengths = pc.binary_length(values)
    longest = pc.max(lengths).as_py() or 0
    if longest < _SHORT:
        return _table(before, form, null).take(pc.fill_null(lengths, _SHORT) if values.null_count else lengths)
    coded = pc.fill_null(lengths, -1).dictionary_encode()
    heads = [null if n < 0 else before + form(n) for n in coded.dictionary.to_pylist()]
    return pa.array(heads, pa.binary()).take(coded.indices)


def _words(*words: bytes) -> bytes:
    return b"".join(_head(len(word)) + word + b"\r\n" for word in words)


def _bounds(column: pa.Array) -> tuple[list[int], memoryview]:
    _, offsets, data = column.buffers()
    places = np.frombuffer(offsets, np.int32)[column.offset : column.offset + len(column) + 1]
    return places.tolist(), memoryview(data) if data is not None else memoryview(b"")


def slot_of(key: bytes) -> int:
    """The cluster's slot of a key: of the text between its first braces, where there is any."""
    begin = key.find(b"{")
    if begin >= 0:
        end = key.find(b"}", begin + 1)
        if end > begin + 1:
            key = key[begin + 1 : end]
    return binascii.crc_hqx(key, 0) % SLOTS


def _cut(
    keys: pa.Array, arguments: pa.Array, width: int, name: bytes, fixed: Sequence[bytes], *, by_slot: bool
) -> Iterator[Call]:
    """Calls of ``name`` with the ``fixed`` arguments and ``width`` for each key."""
    count = len(keys)
    order = np.arange(count)
    slots = np.zeros(count, np.int64)
    if by_slot:
        slots = np.fromiter(map(slot_of, keys.to_pylist()), np.int64, count)
        order = np.argsort(slots, kind="stable")
        keys, arguments, slots = keys.take(pa.array(order)), arguments.take(pa.array(order)), slots[order]
    key_at, key_bytes = _bounds(_join(*_bulk(keys)))
    argument_at, argument_bytes = _bounds(arguments)
    starts = [0, *(np.flatnonzero(np.diff(slots)) + 1).tolist(), count]
    for start, stop in pairwise(starts):
        for first in range(start, stop, KEYS_A_CALL):
            last = min(first + KEYS_A_CALL, stop)
            keys_here = last - first
            words = 3 + len(fixed) + (1 + width) * keys_here
            opening = b"*%d\r\n%b" % (words, _words(b"FCALL", name, b"%d" % keys_here))
            yield Call(
                int(slots[first]),
                order[first:last].tolist() if by_slot else range(first, last),
                (
                    opening,
                    key_bytes[key_at[first] : key_at[last]],
                    _words(*fixed),
                    argument_bytes[argument_at[first] : argument_at[last]],
                ),
            )
