"""Proof of a close that its own vendor gives no proof for: the next stored bar must go on from it.

Some vendors' daily bars hold neither the reference price nor the day's percentage. When such a row fills a hole among
bars of other vendors, the bar after it carries the reference price that its close must have, up to the factor.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mystocks_ingest.market.checks import Refused, Rule
from mystocks_ingest.market.datasets import ADJ_FACTOR, BAR_1D
from mystocks_ingest.market.frames import Frame, Symbol
from mystocks_ingest.market.gaps import contradicted_by_next
from mystocks_ingest.ports import Query, Sink
from mystocks_ingest.schema.tables import Tables

_COLUMNS = ("symbol", "trade_date", "pre_close")


@dataclass(frozen=True)
class Witness:
    """Looks up what is stored around rows that cannot prove themselves."""

    sink: Sink
    tables: Tables

    async def heard(self, frame: Frame) -> tuple[Frame, Refused | None]:
        """The rows that no stored bar contradicts, and those that one does."""
        if frame.dataset != BAR_1D or not len(frame) or not frame.rows.column("pre_close").null_count:
            return frame, None
        doubtful = frame.rows.filter(pc.is_null(frame.rows.column("pre_close")))
        symbols = tuple(Symbol(s) for s in pc.unique(doubtful.column("symbol")).to_pylist())
        stored = await self.sink.read(self.tables.holder(BAR_1D), Query(symbols=symbols, columns=_COLUMNS))
        if not stored.num_rows:
            return frame, None
        factors = await self.sink.read(self.tables.holder(ADJ_FACTOR), Query(symbols=symbols))
        denied = contradicted_by_next(frame.rows, stored, factors)
        if not denied:
            return frame, None
        bad = sorted(denied)
        kept = np.delete(np.arange(len(frame)), bad)
        refused = Refused(
            frame.take(pa.array(bad, pa.int64())), [str(Rule.INCONSISTENT)] * len(bad), [denied[row] for row in bad]
        )
        return frame.take(pa.array(kept, pa.int64())), refused
