"""Whole rows in the form in which Redis itself dumps a small hash: RESTORE stores one by a copy, not field by field.

The bytes of a listpack go with a checksum, and Redis keeps them as they are; HSET would look for each field in what is
stored and move what follows it. Redis spends a third of the time on a row of 31 fields. Every Redis from 7.0 on and
Valkey read them: RDB version 10, value type 16, a hash as a listpack.

All bytes of a slice are gathered by one kernel: the columns' values, and between each two of them what stands there in a
listpack (the end of one, the next field's name, the head of its value), which a table has for each pair of lengths.

Sources: redis/src/listpack.c (elements), rdb.c (lengths), cluster.c (createDumpPayload), crc64.c (Jones).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_LONGEST = 63  # bytes of a text; Redis' own limit in a listpack is 64 (hash-max-listpack-value)
_MOST = (1 << 14) - 1  # bytes of a row
_OPENING = 9  # type, the length in two bytes, and the listpack's own head of six
_ENDING = b"\xff" + (10).to_bytes(2, "little")  # of the listpack, and the RDB version
_SUM = 8
_LINE = b"\r\n"
_POLYNOMIAL = np.uint64(0x95AC9329AC4BC9B5)  # Jones', reflected
_WORD = np.dtype("<u8")


def dumped(texts: Mapping[str, pa.Array], version: pa.Array) -> pa.Array | None:
    """For each row two words of RESP: its version, its dump. None where a row is too long for a listpack.

    A null is an absent field.
    """
    count, columns = len(version), len(texts)
    lengths = np.stack([_lengths(values) for values in (*texts.values(), version)])
    if not count or lengths.max() > _LONGEST or max(map(len, map(str.encode, texts))) > _LONGEST:
        return None
    side = int(lengths.max()) + 2  # a length, or none
    between, sizes = _between(tuple(texts), side)
    pairs = np.zeros((columns + 2, count), np.int64)
    pairs[1:-1] = lengths[:-1] + 1
    places = pairs[:-1] * side + pairs[1:] + side * side * np.arange(columns + 1)[:, None]
    body = sizes[places].sum(axis=0) + lengths[:-1].clip(min=0).sum(axis=0)
    whole = body + _OPENING + len(_ENDING) + _SUM
    if whole.max() > _MOST:
        return None
    heads, head_places = _heads(np.concatenate([lengths[-1], whole]))
    rest = pa.array([_LINE, _ENDING + bytes(_SUM) + _LINE], pa.binary())
    sources = [between, heads, rest, version, _openings(body, (lengths[:-1] >= 0).sum(axis=0)), *texts.values()]
    starts = np.cumsum([0, *map(len, sources)])
    row = np.arange(count)
    order = np.empty((count, 2 * columns + 7), np.int64)
    order[:, 0] = starts[1] + head_places[:count]
    order[:, 1] = starts[3] + row
    order[:, 2] = starts[2]
    order[:, 3] = starts[1] + head_places[count:]
    order[:, 4] = starts[4] + row
    order[:, 5:-1:2] = places.T
    order[:, 6:-1:2] = starts[5:-1] + row[:, None]
    order[:, -1] = starts[2] + 1
    gathered = pa.concat_arrays(sources).take(pa.array(order.ravel()))
    return _summed(gathered, order.shape[1], whole)


def _lengths(values: pa.Array) -> np.ndarray:
    found = pc.binary_length(values)
    return np.asarray(pc.fill_null(found, -1) if values.null_count else found)


def _element(text: bytes) -> bytes:
    """A text in a listpack: its length, itself, and the length of both for who reads backwards."""
    return bytes([0x80 | len(text)]) + text + bytes([len(text) + 1])


@lru_cache(maxsize=64)
def _between(names: tuple[str, ...], side: int) -> tuple[pa.Array, np.ndarray]:
    """What stands before each field's value and after the last, for each pair of lengths, and how long it is."""
    endings = [b"", *(bytes([n + 1]) for n in range(side - 1))]
    found: list[bytes] = []
    for name in names:
        heads = [b"", *(_element(name.encode()) + bytes([0x80 | n]) for n in range(side - 1))]
        found += [ending + head for ending in endings for head in heads]
    found += [ending for ending in endings for _ in endings]
    return pa.array(found, pa.binary()), np.array([len(text) for text in found])


def _heads(lengths: np.ndarray) -> tuple[pa.Array, np.ndarray]:
    """RESP's heads of texts so long, and which of them is each one's."""
    known, places = np.unique(lengths, return_inverse=True)
    return pa.array([b"$%d\r\n" % n for n in known.tolist()], pa.binary()), places


def _openings(body: np.ndarray, fields: np.ndarray) -> pa.Array:
    """What stands before each listpack's elements, which have these lengths."""
    packed = body + 7  # with its own head and end
    out = np.empty((len(body), _OPENING), np.uint8)
    out[:, 0] = 16
    out[:, 1] = 0x40 | packed >> 8
    out[:, 2] = packed & 0xFF
    out[:, 3:7] = packed.astype("<u4").view(np.uint8).reshape(-1, 4)
    out[:, 7:9] = (2 * fields).astype("<u2").view(np.uint8).reshape(-1, 2)
    kind = pa.binary(_OPENING)
    return pa.FixedSizeBinaryArray.from_buffers(kind, len(out), [None, pa.py_buffer(out)]).cast(pa.binary())


def _summed(gathered: pa.Array, parts: int, whole: np.ndarray) -> pa.Array:
    """Each ``parts`` texts as one, with the checksum of its dump, which is ``whole`` bytes long, in its place."""
    _, offsets, data = gathered.buffers()
    at = np.frombuffer(offsets, np.int32)[: len(gathered) + 1 : parts].copy()
    room = _LANES * 8 * _steps(int(whole.max()))  # for words that begin before the first row
    held = np.zeros(room + int(at[-1]) + 7, np.uint8)
    held[room:-7] = np.frombuffer(data, np.uint8)[: at[-1]]
    ends = room + at[1:].astype(np.int64) - len(_LINE) - _SUM
    sums = checksums(held, ends - whole + _SUM, ends)
    held[ends[:, None] + np.arange(_SUM)] = sums.view(np.uint8).reshape(-1, _SUM)
    return pa.Array.from_buffers(pa.binary(), len(at) - 1, [None, pa.py_buffer(at), pa.py_buffer(held[room:-7])])


# the checksum -------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _tables() -> tuple[np.ndarray, ...]:
    """By a word's four pairs of bytes: what each pair does to the sum at the word's end."""
    one, eight, low = np.uint64(1), np.uint64(8), np.uint64(0xFF)
    sums = np.arange(256, dtype=np.uint64)
    for _ in range(8):
        sums = np.where(sums & one, sums >> one ^ _POLYNOMIAL, sums >> one)
    by_byte = [sums]  # by how many bytes follow
    for _ in range(7):
        last = by_byte[-1]
        by_byte.append(sums[(last & low).astype(np.intp)] ^ last >> eight)
    pairs = np.arange(1 << 16)
    return tuple(by_byte[7 - 2 * n][pairs & 0xFF] ^ by_byte[6 - 2 * n][pairs >> 8] for n in range(4))


_KEPT = np.array([(1 << 64) - (1 << 8 * n) for n in range(9)], np.uint64)  # of a word without its first n bytes
_LANES = 4  # parts of a stretch that are summed side by side: numpy is called a quarter as often


def _steps(longest: int) -> int:
    """Words of a lane."""
    return -(-longest // (8 * _LANES))


def checksums(data: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """CRC-64 (Jones) of those stretches, little endian: all at once, eight bytes at a time, and all end together.

    The sum begins at 0, so that zeros before a stretch change nothing: a shorter one begins later. ``data`` has seven
    bytes more, and before the first stretch room for the lanes of the longest.
    """
    anywhere = np.ndarray((data.size - 7,), _WORD, data.data, strides=(1,))  # the word that begins at each byte
    lengths = ends - starts
    steps = _steps(int(lengths.max()))
    ahead = 8 * steps * np.arange(_LANES, 0, -1)[:, None]  # bytes from each lane's begin to the end of its stretch
    places, outside = ends - ahead, ahead - lengths
    sums = np.zeros(places.shape, _WORD)
    for done in range(0, 8 * steps, 8):
        word = anywhere[places + done]
        if (outside[0] > done).any():
            word &= _KEPT[np.clip(outside - done, 0, 8)]
        sums = _stepped(word ^ sums)
    whole: np.ndarray = sums[0]
    for lane in sums[1:]:
        whole = _shifted(whole, steps) ^ lane
    return whole


def _stepped(words: np.ndarray) -> np.ndarray:
    """The sums once those words are taken in, the sums before them being in them."""
    first, second, third, fourth = _tables()
    pairs = words.view("<u2").reshape(*words.shape, 4)
    sums: np.ndarray = first.take(pairs[..., 0])
    sums ^= second.take(pairs[..., 1])
    sums ^= third.take(pairs[..., 2])
    sums ^= fourth.take(pairs[..., 3])
    return sums


def _shifted(sums: np.ndarray, steps: int) -> np.ndarray:
    """The sums once so many words of zeros are taken in."""
    octets = sums.view(np.uint8).reshape(-1, 8)
    tables = _zeros(steps)
    found: np.ndarray = tables[0].take(octets[:, 0])
    for number in range(1, 8):
        found ^= tables[number].take(octets[:, number])
    return found


@lru_cache(maxsize=64)
def _zeros(steps: int) -> np.ndarray:
    """By a sum's eight bytes: what each byte is after so many words of zeros. What bits do, they do independently."""
    bits = np.uint64(1) << np.arange(64, dtype=np.uint64)
    for _ in range(steps):
        bits = _stepped(bits.astype(_WORD, copy=False))
    tables = np.zeros((8, 256), _WORD)
    for number in range(8):
        for bit in range(8):
            half = 1 << bit
            tables[number, half : 2 * half] = tables[number, :half] ^ bits[8 * number + bit]
    return tables
