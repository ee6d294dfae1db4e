"""Sina's packed series (``klc_*.js``), written so that the decoder akshare ships reads them.

The packing is a stream of bits, lowest first, six to a base64 letter: twelve bits of type, six of version, then
small records of differences. Days count from 1990-12-19; weekends do not exist.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from mystocks_ingest.sim.holidays import Days

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_EPOCH = np.datetime64("1990-12-19")
_DATES, _BARS = 139, 3466
_RUN = 3  # a run of sessions takes 3 x 3 bits
_WIDTHS = {"o": 8, "h": 8, "l": 8, "c": 8, "v": 16, "a": 18}  # x 3 bits
_START = {"o": 3, "h": 3, "l": 3, "c": 3, "v": 5, "a": 5}  # what the decoder begins with


class _Bits:
    def __init__(self) -> None:
        self._parts: list[str] = []

    def put(self, value: int, width: int) -> None:
        """``value`` in two's complement, lowest bit first."""
        self._parts.append(format(value & ((1 << width) - 1), f"0{width}b")[::-1])

    def flags(self, text: str) -> None:
        self._parts.append(text)

    def step(self, change: int) -> None:
        """A change of a width: a sign, then the size in strokes."""
        self._parts.append(("1" if change > 0 else "0") + "1" * (abs(change) - 1) + "0")

    def letters(self) -> str:
        stream = "".join(self._parts)
        stream += "0" * (-len(stream) % 6)
        return "".join(_LETTERS[int(stream[k : k + 6][::-1], 2)] for k in range(0, len(stream), 6))


def _header(kind: int) -> _Bits:
    bits = _Bits()
    bits.put(kind, 12)
    bits.put(63, 6)  # version 0
    return bits


def pack_dates(days: Days) -> str:
    """A list of sessions (weekdays): runs of open days between closed weekdays."""
    every = np.arange(days[0], days[-1] + 1)
    every = every[np.is_busday(every)]
    opened = np.isin(every, days)
    runs = [0]
    for is_open in opened.tolist():
        if is_open:
            runs[-1] += 1
        else:
            runs.append(0)
    bits = _header(_DATES)
    bits.put(int((days[0] - _EPOCH).astype(int)), 18)
    bits.put(int((days[-1] - _EPOCH).astype(int)), 18)
    bits.flags("1")
    bits.step(_RUN)
    for n, run in enumerate(runs):
        if n:
            bits.flags("0")
        bits.put(run, 3 * _RUN)
    return bits.letters()


def pack_bars(days: Days, rows: Iterable[Sequence[int]], decimals: int) -> str:
    """Daily bars: ``rows`` are (open, high, low, close, volume, amount), prices in units of 10**-decimals."""
    bits = _header(_BARS)
    close = volume = amount = 0
    ahead = np.busday_count(days[:-1], days[1:]).tolist() if len(days) else []
    for n, (opening, high, low, closing, shares, yuan) in enumerate(rows):
        if n == 0:
            _first(bits, int((days[0] - _EPOCH).astype(int)), decimals)
        elif ahead[n - 1] == 1:
            bits.flags("0")
        else:
            bits.flags("10111")
            _days_ahead(bits, ahead[n - 1], int((days[n] - _EPOCH).astype(int)))
        cells = (opening - close, high - opening, opening - low, closing - opening, shares - volume, yuan - amount)
        for width, cell in zip(_WIDTHS.values(), cells, strict=True):
            bits.put(cell, 3 * width)
        close, volume, amount = closing, shares, yuan
    bits.flags("11000")  # no change at all: the end
    return bits.letters()


def _first(bits: _Bits, day: int, decimals: int) -> None:
    bits.flags("11")
    bits.flags("1110000")  # amounts stand for themselves, not as a difference to price x volume
    if decimals == 2:
        bits.flags("0")
    else:
        bits.flags("1")
        bits.step(3 * (decimals - 2))
    bits.flags("00")  # volume and amount: no decimals
    bits.flags("1")
    for name, width in _WIDTHS.items():
        bits.flags("1")
        bits.step(width - _START[name])
    bits.flags("1")
    bits.put(1, 3)
    bits.put(day, 18)
    bits.flags("0")


def _days_ahead(bits: _Bits, count: int, day: int) -> None:
    if 2 <= count <= 7:
        bits.put(count, 3)
    elif count <= 63:
        bits.put(0, 3)
        bits.put(count, 6)
    else:
        bits.put(1, 3)
        bits.put(day, 18)
