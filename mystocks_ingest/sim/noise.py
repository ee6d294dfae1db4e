"""Randomness by counter: a number depends only on (seed, channel, symbol, session), never on the order of asking.

So a day of the whole market and the history of one symbol show the same rows, and neither needs the other.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
I64 = npt.NDArray[np.int64]

_STEP = np.uint64(0x9E3779B97F4A7C15)
_MIX1, _MIX2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def _scramble(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    x = (x ^ (x >> np.uint64(30))) * _MIX1
    x = (x ^ (x >> np.uint64(27))) * _MIX2
    return x ^ (x >> np.uint64(31))


def uniform(seed: int, channel: int, i: npt.ArrayLike, t: npt.ArrayLike) -> F64:
    """Floats in [0, 1), shaped like ``i`` and ``t`` broadcast (splitmix64 of the counters)."""
    base = np.uint64((seed * 1_000_003 + channel * 7_919 + 12_345) & 0xFFFFFFFFFFFFFFFF)
    with np.errstate(over="ignore"):
        key = _scramble(np.atleast_1d(np.asarray(i, dtype=np.int64)).astype(np.uint64) * _STEP + base)
        out = _scramble(key ^ (np.asarray(t, dtype=np.int64).astype(np.uint64) * _MIX2 + _STEP))
    return (out >> np.uint64(11)).astype(np.float64) * 2.0**-53


def normal(seed: int, channel: int, i: npt.ArrayLike, t: npt.ArrayLike) -> F64:
    """About standard normal, within +-3.5 (four uniforms summed)."""
    parts = [uniform(seed, channel * 16 + k + 1_000, i, t) for k in range(4)]
    return np.asarray((parts[0] + parts[1] + parts[2] + parts[3] - 2.0) * np.sqrt(3.0))
