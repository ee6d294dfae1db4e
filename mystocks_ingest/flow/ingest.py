"""One frame's way in: provisional mark, check, dead letters, every table of its route. Returns when durable."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mystocks_ingest.errors import Drifted, Unavailable
from mystocks_ingest.flow.witness import Witness
from mystocks_ingest.flow.writer import Writer
from mystocks_ingest.logs import get, trace
from mystocks_ingest.market.checks import Context, Refused, check
from mystocks_ingest.market.datasets import SHANGHAI, Category, Dataset
from mystocks_ingest.market.frames import Frame
from mystocks_ingest.ports import DeadLetter, Journal, Offer
from mystocks_ingest.schema.tables import Route, Table, Tables

log = get("ingest")


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of a frame: rows now durable, rows refused, how many by each rule, and one reason a symbol.

    ``verdicts``: the refused rows once more, each with its rule and reason.
    """

    accepted: Frame
    turned_down: tuple[Frame, ...]
    refused: Mapping[str, int]
    reasons: Mapping[str, str]
    verdicts: tuple[Refused, ...] = ()


@dataclass(frozen=True)
class Ingest:
    """The way from a source's frame to durable rows. There is one writer a table."""

    tables: Tables
    writers: Mapping[Table, Writer]
    journal: Journal
    context: Callable[[], Context]
    run_id: str
    witness: Witness
    told: Callable[[Frame, Taken], None] | None = None  # of each frame, once it is dealt with
    _under_way: set[asyncio.Task[Taken]] = field(default_factory=set)

    async def take(self, frame: Frame, offer: Offer | None, *, now: datetime) -> Taken:
        """Check ``frame`` and write what passes. Raises Unavailable when a required table cannot be reached.

        What was begun goes on where the caller is cancelled: see ``finish``.
        """
        taking = asyncio.create_task(self._take(frame, offer, now), name=f"take:{frame.dataset.name}")
        self._under_way.add(taking)
        taking.add_done_callback(self._under_way.discard)
        try:
            return await asyncio.shield(taking)
        except asyncio.CancelledError:
            taking.add_done_callback(_alone)
            raise

    async def finish(self, seconds: float) -> None:
        """Wait for the frames that nobody waits for any more; those that take longer are left to their writers."""
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=seconds)

    async def _take(self, frame: Frame, offer: Offer | None, now: datetime) -> Taken:
        marked = mark_provisional(frame, offer, now)
        checked = await asyncio.to_thread(check, marked, self.context())
        accepted, turned_down = checked.accepted, [checked.refused] if len(checked.refused) else []
        accepted, denied = await self.witness.heard(accepted)
        turned_down += [denied] if denied is not None else []
        aside: list[Refused] = []  # stored where they must be, refused by a best-effort table
        if len(accepted):
            stored = await self._store(accepted)
            accepted = stored.rows
            turned_down += [stored.refused] if stored.refused is not None else []
            aside += [stored.refused_aside] if stored.refused_aside is not None else []
        for refused in (*turned_down, *aside):
            await self.journal.bury(letters(refused, at=now, run_id=trace() or self.run_id))
        rules = Counter(rule for refused in (*turned_down, *aside) for rule in refused.rules)
        if rules:
            log.warning("rows.refused", dataset=frame.dataset.name, source=frame.source, rules=dict(rules))
        reasons = {s: r for refused in reversed(turned_down) for s, r in _reasons(refused)}
        taken = Taken(accepted, tuple(refused.frame for refused in turned_down), rules, reasons, tuple(turned_down))
        log.info(
            "batch.taken",
            dataset=frame.dataset.name,
            source=frame.source,
            rows=len(accepted),
            refused=sum(rules.values()),
        )
        if self.told is not None:
            self.told(frame, taken)
        return taken

    async def _store(self, frame: Frame) -> _Stored:
        """Write to every table of the route.

        Rows count as stored once every required table has them. A table that is best-effort holds nobody up for
        long, and what it refuses or misses is stored all the same; only where no table is required, one must take it.
        """
        routes = self.tables.routes(frame.dataset)
        needed = [t for t in routes if t.route is Route.REQUIRED]
        steps = [needed, [t for t in routes if t not in needed]] if _history_first(frame.dataset) else [routes]
        required: dict[int, str] = {}
        others: dict[int, str] = {}
        taken, kept = 0, np.arange(len(frame))
        for tables in filter(None, steps):
            rows = frame.take(pa.array(kept)).rows if required else frame.rows
            if not rows.num_rows:
                break
            results = await asyncio.gather(
                *(self.writers[t].write(rows) if t in needed else self.writers[t].offer(rows) for t in tables),
                return_exceptions=True,
            )
            for table, result in zip(tables, results, strict=True):
                if not isinstance(result, BaseException):
                    taken += 1
                    found = required if table in needed else others
                    found.update({int(kept[refusal.row]): f"{table.name}: {refusal.reason}" for refusal in result})
                elif table in needed or not isinstance(result, Unavailable | Drifted):
                    raise result
                else:
                    log.warning("rows.skipped", table=table.name, rows=len(frame), reason=str(result))
            kept = np.delete(np.arange(len(frame)), sorted(required))
        if not taken:
            names = ", ".join(t.name for t in routes)
            raise Unavailable(f"no table of {frame.dataset.name} takes rows at the moment ({names})")
        accepted = frame.take(pa.array(kept)) if required else frame
        return _Stored(accepted, _refused(frame, required), _refused(frame, others))


def _history_first(wanted: Dataset) -> bool:
    """Whether the best-effort tables wait for the required ones: a quote is to be seen at once, a position is to be true.

    What the history of an account refused must not be shown as its latest state.
    """
    return wanted.category is Category.TRANSACTION


def _alone(taking: asyncio.Task[Taken]) -> None:
    """Say how a frame ended that nobody waited for."""
    if not taking.cancelled() and taking.exception() is not None:
        log.warning("frame.lost", reason=str(taking.exception()))


@dataclass(frozen=True, slots=True)
class _Stored:
    """What a database made of a frame; ``refused_aside``: by tables that are best-effort only."""

    rows: Frame
    refused: Refused | None
    refused_aside: Refused | None


def _refused(frame: Frame, reasons: Mapping[int, str]) -> Refused | None:
    if not reasons:
        return None
    bad = sorted(reasons)
    return Refused(frame.take(pa.array(bad)), ["store"] * len(bad), [reasons[row] for row in bad])


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
