"""What is known of the instruments: from when to when they were listed, and what they are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mystocks_ingest.market import symbols
from mystocks_ingest.market.frames import Symbol, Window

Days = npt.NDArray[np.datetime64]
_NEVER = np.datetime64("NaT", "D")


@dataclass(frozen=True, slots=True)
class Listing:
    """One instrument's life. ``list_date`` or ``delist_date`` is None where it is not known or has not come."""

    symbol: Symbol
    name: str | None
    asset_type: str
    status: str
    list_date: date | None
    delist_date: date | None

    def trades_in(self, window: Window) -> bool:
        """Whether a session of the window may have a row of it; the delisting day itself is the last."""
        born = self.list_date is None or self.list_date < window.end
        return born and (self.delist_date is None or self.delist_date >= window.start)


class Instruments:
    """The instrument table, looked up by symbol. Symbols it does not hold are unknown, not wrong."""

    def __init__(self, table: pa.Table | pa.RecordBatch) -> None:
        """``table`` holds canonical INSTRUMENT rows, each symbol once."""
        self._table = pa.table(table)

    @cached_property
    def _listings(self) -> dict[str, Listing]:
        names = ("symbol", "name", "asset_type", "status", "list_date", "delist_date")
        columns = [self._table[name].to_pylist() for name in names]
        return {row[0]: Listing(*row) for row in zip(*columns, strict=True)}

    @cached_property
    def _held(self) -> pa.Array:
        return self._table["symbol"].combine_chunks()

    def __len__(self) -> int:
        return len(self._listings)

    def __iter__(self) -> Iterator[Listing]:
        return iter(self._listings.values())

    def __contains__(self, symbol: object) -> bool:
        return symbol in self._listings

    def get(self, symbol: str) -> Listing | None:
        """The listing, None where the table does not hold it."""
        return self._listings.get(symbol)

    def asset_type(self, symbol: Symbol) -> str:
        """By the table, else by the exchanges' code tables."""
        found = self._listings.get(symbol)
        return found.asset_type if found else symbols.asset_type_of(symbol)

    def asset_types(self, wanted: pa.Array) -> npt.NDArray[np.object_]:
        """``asset_type`` of each symbol in ``wanted``."""
        place = pc.index_in(wanted, value_set=self._held)
        found: npt.NDArray[np.object_] = self._types.take(place).to_numpy(zero_copy_only=False)
        if place.null_count:
            for row in np.flatnonzero(pc.is_null(place).to_numpy(zero_copy_only=False)).tolist():
                found[row] = symbols.asset_type_of(wanted[row].as_py())
        return found

    @cached_property
    def _types(self) -> pa.Array:
        return self._table["asset_type"].cast(pa.string()).combine_chunks()

    def listed(self, window: Window, *, asset_types: frozenset[str] | None = None) -> list[Symbol]:
        """The symbols that could trade in the window, ascending; the delisted ones that still did are among them."""
        return sorted(
            listing.symbol
            for listing in self
            if listing.trades_in(window) and (asset_types is None or listing.asset_type in asset_types)
        )

    def codes(self, asset_type: str) -> Mapping[str, Symbol]:
        """Bare code to symbol among instruments of one type: the ``known`` of ``symbols.parse_column``."""
        return {symbols.to_bare(one.symbol): one.symbol for one in self if one.asset_type == asset_type}

    def lives(self, wanted: pa.Array) -> tuple[Days, Days]:
        """First and last possible day of each symbol in ``wanted``; NaT where it is unknown or open."""
        place = pc.index_in(wanted, value_set=self._held)
        missing = pc.is_null(place).to_numpy(zero_copy_only=False)
        at = pc.fill_null(place, 0).to_numpy(zero_copy_only=False)
        return self._days("list_date", at, missing), self._days("delist_date", at, missing)

    def _days(self, name: str, at: npt.NDArray[np.int32], missing: npt.NDArray[np.bool_]) -> Days:
        if not self._table.num_rows:
            return np.full(len(at), _NEVER)
        days: Days = self._table[name].cast(pa.date32()).to_numpy().astype("datetime64[D]")[at]
        days[missing] = _NEVER
        return days
