"""One frame's way in: provisional mark, check, dead letters, every table of its route. Returns when durable."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mystocks_ingest.errors import Unavailable
from mystocks_ingest.flow.witness import Witness
from mystocks_ingest.flow.writer import Writer
from mystocks_ingest.logs import get
from mystocks_ingest.market.checks import Context, Refused, check
from mystocks_ingest.market.datasets import SHANGHAI
from mystocks_ingest.market.frames import Frame
from mystocks_ingest.ports import DeadLetter, Journal, Offer
from mystocks_ingest.schema.tables import Route, Table, Tables

log = get("ingest")


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of a frame: rows now durable, rows refused, how many by each rule, and one reason a symbol."""

    accepted: Frame
    turned_down: tuple[Frame, ...]
    refused: Mapping[str, int]
    reasons: Mapping[str, str]


@dataclass(frozen=True)
class Ingest:
    """The way from a source's frame to durable rows. There is one writer a table."""

    tables: Tables
    writers: Mapping[Table, Writer]
    journal: Journal
    context: Callable[[], Context]
    run_id: str
    witness: Witness

    async def take(self, frame: Frame, offer: Offer | None, *, now: datetime) -> Taken:
        """Check ``frame`` and write what passes. Raises Unavailable when a required table cannot be reached."""
        marked = mark_provisional(frame, offer, now)
        checked = await asyncio.to_thread(check, marked, self.context())
        accepted, turned_down = checked.accepted, [checked.refused] if len(checked.refused) else []
        accepted, denied = await self.witness.heard(accepted)
        turned_down += [denied] if denied is not None else []
        if len(accepted):
            accepted, by_store = await self._store(accepted)
            turned_down += [by_store] if by_store is not None else []
        for refused in turned_down:
            await self.journal.bury(letters(refused, at=now, run_id=self.run_id))
        rules = Counter(rule for refused in turned_down for rule in refused.rules)
        if rules:
            log.warning("rows.refused", dataset=frame.dataset.name, source=frame.source, rules=dict(rules))
        reasons = {s: r for refused in reversed(turned_down) for s, r in _reasons(refused)}
        return Taken(accepted, tuple(refused.frame for refused in turned_down), rules, reasons)

    async def _store(self, frame: Frame) -> tuple[Frame, Refused | None]:
        """Write to every table of the route: the rows that are stored, and those a database refused."""
        routes = self.tables.routes(frame.dataset)
        results = await asyncio.gather(*(self.writers[t].write(frame.rows) for t in routes), return_exceptions=True)
        reasons: dict[int, str] = {}
        for table, result in zip(routes, results, strict=True):
            if isinstance(result, BaseException):
                if not (isinstance(result, Unavailable) and table.route is Route.BEST_EFFORT):
                    raise result
                log.warning("rows.skipped", table=table.name, rows=len(frame), reason=str(result))
            else:
                reasons.update({refusal.row: f"{table.name}: {refusal.reason}" for refusal in result})
        if not reasons:
            return frame, None
        bad = sorted(reasons)
        kept = np.delete(np.arange(len(frame)), bad)
        rejected = Refused(frame.take(pa.array(bad)), ["store"] * len(bad), [reasons[row] for row in bad])
        return frame.take(pa.array(kept)), rejected


def _reasons(refused: Refused) -> Iterator[tuple[str, str]]:
    if "symbol" in refused.frame.rows.schema.names:
        symbols = refused.frame.rows.column("symbol").to_pylist()
        yield from ((s, r) for s, r in zip(reversed(symbols), reversed(refused.reasons), strict=True) if s is not None)


def mark_provisional(frame: Frame, offer: Offer | None, now: datetime) -> Frame:
    """Rows of a session that has not passed the close gate are provisional: an unfinished bar is no close."""
    if "provisional" not in frame.rows.schema.names or offer is None or not len(frame):
        return frame
    local = now.astimezone(ZoneInfo(SHANGHAI))
    last_final = local.date() if local.time() >= offer.published else local.date() - timedelta(days=1)
    time = frame.rows.column(frame.dataset.time or "trade_date")
    day = pc.cast(pc.local_timestamp(time), pa.date32()) if pa.types.is_timestamp(time.type) else time
    mark = pc.fill_null(pc.greater(day, pa.scalar(last_final, pa.date32())), True)
    index = frame.rows.schema.get_field_index("provisional")
    rows = frame.rows.set_column(index, frame.rows.schema.field(index), mark)
    return replace(frame, rows=rows)


def letters(refused: Refused, *, at: datetime, run_id: str) -> list[DeadLetter]:
    """Dead letters of refused rows, with the vendor's own row and the canonical one as JSON."""
    frame = refused.frame
    rows = frame.rows.to_pylist()
    raws: Sequence[Mapping[str, object]] = frame.raw.to_pylist() if frame.raw is not None else rows
    time = frame.dataset.time
    return [
        DeadLetter(
            dataset=frame.dataset.name,
            source=frame.source,
            symbol=_text(row.get("symbol")),
            time=_text(row.get(time)) if time else None,
            rule=rule,
            reason=reason,
            raw=_json(raw),
            row=_json(row),
            at=at,
            run_id=run_id,
        )
        for row, raw, rule, reason in zip(rows, raws, refused.rules, refused.reasons, strict=True)
    ]


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _json(row: Mapping[str, object]) -> str:
    return json.dumps(row, ensure_ascii=False, default=str)
