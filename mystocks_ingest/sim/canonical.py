"""The simulated market's arrays as canonical tables."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mystocks_ingest.market.datasets import SHANGHAI, Dataset
from mystocks_ingest.sim.noise import F64, I64

SOURCE = "sim"
Columns = Mapping[str, pa.Array | F64 | I64]


def tabled(dataset: Dataset, columns: Columns, fetched_at: datetime) -> pa.Table:
    """``columns`` with the dataset's schema, sorted by its key; what is not among them is null."""
    size = len(next(iter(columns.values())))
    arrays = []
    for f in dataset.schema:
        if f.name in columns:
            array = pa.array(columns[f.name]).cast(f.type)
        elif f.name == "source":
            array = pa.repeat(pa.scalar(SOURCE), size)
        elif f.name == "fetched_at":
            array = pa.repeat(pa.scalar(fetched_at, f.type), size)
        elif f.name == "provisional":
            array = pa.repeat(pa.scalar(value=False), size)
        else:
            array = pa.nulls(size, f.type)
        arrays.append(array)
    table = pa.Table.from_arrays(arrays, schema=dataset.schema)
    return table.sort_by([(k, "ascending") for k in dataset.key])


def shanghai(naive: npt.NDArray[np.datetime64]) -> pa.Array:
    """Wall-clock times of the exchange as aware time stamps (China has kept UTC+8 throughout these years)."""
    utc = naive.astype("datetime64[ms]") - np.timedelta64(8, "h")
    return pa.array(utc).cast(pa.timestamp("ms", tz=SHANGHAI))
