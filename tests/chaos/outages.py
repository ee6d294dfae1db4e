"""The outage matrix: who is away, how, for how long; what that cost, and what health said of it.

A row is one outage amid a simulated session at ``SPEED``: quotes are polled and clients deliver to every database all the
while. It is over once nothing waits, every part of health is fresh, and everything that is owed stands in its database.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
from campaigns import count_rows
from outage_faults import FAULTS, SUBJECTS, begin, end, prepare
from outage_rows import Balance
from outage_stage import VENDORS, Look, Stage

SPEED = 20.0
MINUTES = (1, 10)
RECOVERY_SECONDS = 180.0
SETTLE_SECONDS = 40.0
VENDOR_SECONDS = 45.0
"""How long health is waited for after a vendor's outage: pauses that spare a vendor pass by the machine's clock."""
_FIRST_SESSIONS = 3
QUOTES = "{{name: quotes, when: every 20 s in session, datasets: quote, sources: {source}}}"
HISTORY = (
    "{{name: history, when: every 1 min, datasets: bar_1d, universe: symbols.txt, sources: {source}, "
    "sessions: {sessions}}}"
)
HEAD = ("away", "how", "minutes", "owed", "lost", "doubled", "recovered", "before", "during", "after")


@dataclass(frozen=True)
class Case:
    """``minutes`` of the exchange's time."""

    subject: str
    fault: str
    minutes: int

    def __str__(self) -> str:
        return f"{self.subject}-{self.fault}-{self.minutes}"


CASES = tuple(Case(subject, fault, m) for subject in SUBJECTS for fault in FAULTS for m in MINUTES)


@dataclass(frozen=True)
class Result:
    """``seconds`` from the end of the outage until all was well, of this machine's time. ``note``: why it is none."""

    case: Case
    balance: Balance
    seconds: float
    before: Look
    during: Look
    after: Look
    note: str = ""
    aside: int = 0  # rows that the spool set aside and reported

    @property
    def faultless(self) -> bool:
        """Nothing lost, nothing doubled."""
        return not (self.balance.lost or self.balance.doubled or self.note.startswith("failed"))

    @property
    def well(self) -> bool:
        """Health was fresh again in time."""
        return self.after.code == 200 and set(self.after.bad) <= ({"spool"} if self.aside else set())

    def cells(self) -> tuple[str, ...]:
        case, b = self.case, self.balance
        if self.note:
            return case.subject, case.fault, str(case.minutes), *["-"] * 4, self.note
        lost = f"{b.lost} (+{self.aside} reported)" if self.aside else str(b.lost)
        counts = (str(b.owed), lost, str(b.doubled), f"{'' if self.well else '> '}{self.seconds:.1f} s")
        looks = (str(self.before), str(self.during), str(self.after))
        return case.subject, case.fault, str(case.minutes), *counts, *looks


def table(results: Sequence[Result]) -> Iterator[str]:
    lines = [HEAD, *(r.cells() for r in results)]
    widths = [max(len(line[i]) for line in lines if i < len(line)) for i in range(len(HEAD))]
    for line in lines:
        yield "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=False)).rstrip()


def work(stage: Stage, subject: str, sessions: int) -> None:
    """The jobs amid an outage of ``subject``: quotes, and of a vendor the daily bars of the last ``sessions``."""
    quotes = QUOTES.format(source={"akshare": "akshare-sina"}.get(subject, "tushare"))
    stage.jobs(quotes, *([HISTORY.format(source=subject, sessions=sessions)] if subject in VENDORS else []))


async def begin_day(stage: Stage, subject: str) -> None:
    """The service at work, for an outage of ``subject``."""
    work(stage, subject, _FIRST_SESSIONS)
    await asyncio.to_thread(prepare, stage)
    await stage.start()


async def meet(stage: Stage, case: Case, number: int) -> Result:
    """One outage. ``number``: how many came before it on this stage."""
    before = await well(stage)
    await begin(stage, case.subject, case.fault)
    sessions = _FIRST_SESSIONS
    if case.subject in VENDORS:  # something to fetch that nobody else may give
        sessions += 2 * (number + 1)
        work(stage, case.subject, sessions)
    during = await watched(stage, case.minutes * 60 / stage.speed)
    await end(stage, case.subject, case.fault)
    return await aftermath(stage, case, before, during, sessions=sessions)


async def well(stage: Stage) -> Look:
    """All is well before the outage, and clients deliver."""
    seen = await stage.settled(SETTLE_SECONDS)
    stage.feeder.flowing.set()
    return seen


async def watched(stage: Stage, seconds: float) -> Look:
    """The worst that health said meanwhile."""
    ends = time.monotonic() + seconds
    worst = await stage.look()
    while time.monotonic() < ends:
        await asyncio.sleep(0.1)
        worst = max(worst, await stage.look(), key=lambda seen: seen.worse)
    return worst


async def aftermath(
    stage: Stage, case: Case, before: Look, during: Look, *, sessions: int = _FIRST_SESSIONS, spoilt: bool = False
) -> Result:
    """Wait for the recovery, then count. ``sessions`` of bars are owed by the vendor that was away."""
    began = time.monotonic()
    stage.feeder.flowing.clear()  # what was begun is repeated until it is acknowledged
    most = VENDOR_SECONDS if case.subject in VENDORS else RECOVERY_SECONDS
    after = await stage.settled(most, spoilt=spoilt)
    while case.subject in VENDORS and (await bars(stage, sessions)).lost:
        if time.monotonic() > began + RECOVERY_SECONDS:
            break
        await asyncio.sleep(0.5)
    seconds = time.monotonic() - began
    if stage.feeder.under_way:
        note = f"failed: not acknowledged {stage.feeder.under_way}: {stage.feeder.last_said}; {after} {after.reasons}"
        return Result(case, Balance(), seconds, before, during, after, note)
    stage.jobs("{name: quiet, when: before open, datasets: calendar}")  # nobody writes while it is counted
    await quiet(stage)
    found = await stage.balance()
    if case.subject in VENDORS:
        found += await bars(stage, sessions)
    work(stage, case.subject, sessions)
    return Result(case, found, seconds, before, during, after)


async def quiet(stage: Stage) -> None:
    """Until no acknowledgement has come for a while: polls that were under way have ended."""
    ledger = stage.folder / "ledger"
    size, since = -1, time.monotonic()
    while time.monotonic() - since < 2.5:
        if ledger.stat().st_size != size:
            size, since = ledger.stat().st_size, time.monotonic()
        await asyncio.sleep(0.1)


async def bars(stage: Stage, sessions: int) -> Balance:
    """Daily bars of the last sessions against the market's, today's not being owed yet."""
    truth = stage.sim.market.bars_1d()
    days = sorted(set(truth["trade_date"].to_pylist()))[-sessions:-1]
    truth = truth.filter(pc.is_in(truth["symbol"], pa.array(stage.symbols)))
    due = truth.filter(pc.is_in(truth["trade_date"], pa.array(days)))
    stored = await stage.bars()
    kept = stored.filter(pc.is_in(stored["trade_date"], pa.array(days)))
    found = count_rows(kept, "bar_1d", due)
    lost = found.lost + found.wrong
    said = (f"bar_1d: {found}",) if lost or found.doubled or found.foreign else ()
    return Balance(found.truth, lost, found.doubled + found.foreign, said)
