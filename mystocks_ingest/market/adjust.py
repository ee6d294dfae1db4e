"""Adjusted prices, computed on read from raw bars and back-adjustment factors.

Forward-adjusted series change with every dividend and differ between vendors, so they are never stored. Adjusted
price = raw price x factor in force on that session (back), divided by the newest factor known (forward).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mystocks_ingest.errors import ConfigError
from mystocks_ingest.market import symbols
from mystocks_ingest.market.cells import decimals
from mystocks_ingest.market.datasets import PRICE_DECIMALS
from mystocks_ingest.market.frames import Symbol

How = Literal["none", "back", "forward"]
PRICES = ("open", "high", "low", "close", "pre_close")  # pre_close is ex-right: the session's own factor fits it
_SPAN = 1 << 22  # wider than any day number


def adjust(bars: pa.Table, factors: pa.Table, how: How) -> pa.Table:
    """``bars`` with their prices adjusted, four decimals; volume and amount stay as traded.

    ``bars`` are daily or minute bars, ``factors`` ADJ_FACTOR rows (daily or on events only, any order). Factors of
    two sources never mix: each symbol uses the source that reaches back furthest. A bar before the first factor has
    null prices: a wrong price would look like a right one. An index is left as it is: nothing is paid out of it. Raises
    ConfigError for an unknown ``how``.
    """
    if how not in ("none", "back", "forward"):
        raise ConfigError(f"cannot adjust {how!r}; choose none, back or forward")
    if how == "none" or not bars.num_rows:
        return bars
    time = "trade_date" if "trade_date" in bars.schema.names else "bar_time"
    names = pa.chunked_array([*bars["symbol"].chunks, *factors["symbol"].chunks], pa.string()).unique()
    places = _places(bars["symbol"], names)
    wanted = places * _SPAN + _day_numbers(bars[time])
    keys, values = _series(factors, names)
    at = np.searchsorted(keys, wanted, side="right") - 1
    held = (at >= 0) & (keys[np.maximum(at, 0)] // _SPAN == wanted // _SPAN) if len(keys) else np.zeros(len(at), bool)
    ratio = np.full(len(wanted), np.nan)
    ratio[held] = values[at[held]]
    if how == "forward":
        newest = np.searchsorted(keys, (wanted // _SPAN + 1) * _SPAN) - 1
        ratio[held] /= values[newest[held]]
    index = np.array([symbols.asset_type_of(Symbol(name)) == "index" for name in names.to_pylist()])[places]
    ratio[index] = 1.0
    multiplier = pa.array(ratio, mask=~(held | index))
    for name in PRICES:
        if name in bars.schema.names:
            prices = decimals(pc.multiply(bars[name], multiplier), PRICE_DECIMALS)
            bars = bars.set_column(bars.schema.get_field_index(name), pa.field(name, pa.float64()), prices)
    return bars


def _series(factors: pa.Table, names: pa.Array) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Sorted (symbol, day) keys and their factors, one source per symbol."""
    if not factors.num_rows:
        return np.empty(0, np.int64), np.empty(0)
    places, days = _places(factors["symbol"], names), _day_numbers(factors["trade_date"])
    sources = factors["source"].combine_chunks().dictionary_encode()
    rank = np.argsort(np.argsort(np.array(sources.dictionary.to_pylist()), kind="stable"))
    source = rank[sources.indices.to_numpy()]
    order = np.lexsort((source, days, places))
    first = np.unique(places[order], return_index=True)[1]
    chosen = np.full(len(names), -1)
    chosen[places[order][first]] = source[order][first]  # the source of each symbol's earliest factor
    order = order[source[order] == chosen[places[order]]]
    values: npt.NDArray[np.float64] = factors["factor"].to_numpy()[order]
    return (places * _SPAN + days)[order], values


def _places(symbols: pa.ChunkedArray, names: pa.Array) -> npt.NDArray[np.int64]:
    places: npt.NDArray[np.int64] = pc.index_in(symbols, value_set=names).to_numpy().astype(np.int64)
    return places


def _day_numbers(column: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """Days since 1970 in Shanghai."""
    if pa.types.is_timestamp(column.type):
        column = pc.local_timestamp(column).cast(pa.timestamp("s"), safe=False)
        seconds: npt.NDArray[np.int64] = column.cast(pa.int64()).to_numpy()
        return seconds // 86400
    numbers: npt.NDArray[np.int64] = column.cast(pa.int32()).to_numpy().astype(np.int64)
    return numbers
