"""What a dataset is made of: categories, fields, and the fields that many datasets share."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

import pyarrow as pa

SHANGHAI = "Asia/Shanghai"
PRICE_DECIMALS = 4
AMOUNT_DECIMALS = 2


class Category(StrEnum):
    """The five classes of data; each dataset has exactly one."""

    MARKET = "market"
    REFERENCE = "reference"
    DERIVED = "derived"
    TRANSACTION = "transaction"
    META = "meta"


@dataclass(frozen=True, slots=True)
class Field:
    """One canonical column. ``required`` columns are never null in an accepted row.

    Of a state, ``first`` are the words it begins with and ``last`` those it ends with; every other word lies between.
    """

    name: str
    type: pa.DataType
    unit: str = ""
    required: bool = False
    first: tuple[str, ...] = ()
    last: tuple[str, ...] = ()


@dataclass(frozen=True)
class Dataset:
    """A kind of record. ``time`` is the column that places a row in time; ``interval`` is set for bars.

    ``newest_by``: what is stored of a key is not replaced by a row that is older by these columns; empty: whatever comes
    later replaces it, as a vendor's correction is to.
    """

    name: str
    category: Category
    key: tuple[str, ...]
    fields: tuple[Field, ...]
    time: str | None = None
    interval: str | None = None
    newest_by: tuple[str, ...] = ()

    @cached_property
    def schema(self) -> pa.Schema:
        """The Arrow schema of every frame of this dataset, in this column order."""
        return pa.schema([pa.field(f.name, f.type, nullable=not f.required) for f in self.fields])

    @cached_property
    def required(self) -> tuple[str, ...]:
        """Names of the columns that must not be null."""
        return tuple(f.name for f in self.fields if f.required)

    def __str__(self) -> str:
        return self.name

    def __hash__(self) -> int:
        return hash(self.name)


TEXT, DAY, F64, I64, BOOL = pa.string(), pa.date32(), pa.float64(), pa.int64(), pa.bool_()
TIME = pa.timestamp("ms", tz=SHANGHAI)
ORIGIN = (Field("source", TEXT, required=True), Field("fetched_at", pa.timestamp("ms", tz="UTC"), required=True))
SYMBOL = Field("symbol", TEXT, required=True)


def levels(count: int) -> tuple[Field, ...]:
    return tuple(
        Field(f"{side}_{what}{level}", F64 if what == "price" else I64, "CNY" if what == "price" else "shares")
        for side in ("bid", "ask")
        for level in range(1, count + 1)
        for what in ("price", "volume")
    )


def text(name: str, note: str = "", *, required: bool = False) -> Field:
    return Field(name, TEXT, note, required=required)
