"""A run, told: to the journal as ever, and to the monitor log in the words of its tables."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime

from mystocks_ingest.errors import Outcome
from mystocks_ingest.flow.report import Report
from mystocks_ingest.monitor import entries, tables
from mystocks_ingest.monitor.entries import Entry, entry
from mystocks_ingest.monitor.figures import RunFigures
from mystocks_ingest.monitor.journal import EmbeddedJournal
from mystocks_ingest.monitor.log import MonitorLog
from mystocks_ingest.monitor.quality import Figures, quality
from mystocks_ingest.ports import Doing, Operation, Run, Status
from mystocks_ingest.schema.tables import Tables

_GOOD = (Outcome.OK, Outcome.EMPTY)


@dataclass
class Telling:
    """What is to be said of a run at its end. Unless the work says otherwise, it has failed."""

    status: str = "failed"
    error: str = ""
    report: Report | None = None  # as far as it went
    detail: dict[str, object] = field(default_factory=dict)


@dataclass
class Runs:
    """``tables``: those in use; each that a run fills has its line among the operations."""

    journal: EmbeddedJournal
    figures: RunFigures
    log: MonitorLog
    tables: Tables
    now: Callable[[], datetime]

    @asynccontextmanager
    async def told(self, run: Run) -> AsyncIterator[Telling]:
        """The run's beginning and end, however it ends."""
        telling = Telling(detail=dict(run.detail))
        await self.began(run)
        try:
            yield telling
        except asyncio.CancelledError:
            telling.status, telling.error = "interrupted", "interrupted by its user"
            raise
        except BaseException as exc:
            telling.error = str(exc) or type(exc).__name__
            raise
        finally:
            ended = replace(run, ended_at=self.now(), status=telling.status, detail=telling.detail)
            await self.ended(ended, telling.report, telling.error)

    async def began(self, run: Run) -> None:
        """``run.detail`` names its ``datasets``."""
        await self.journal.begin(run)
        await self.log.record([entries.ran(run), *self._filled(run, None, Status.PROCESSING, "")])

    async def ended(self, run: Run, report: Report | None = None, error: str = "") -> None:
        """``report``: as far as it went."""
        if report is not None:
            run = replace(run, detail={**run.detail, **digest(report)})
        for (source, outcome), at in sorted((report.latest if report is not None else {}).items(), key=lambda i: i[1]):
            detail = "" if outcome in _GOOD else report.failures.get(source, "") if report is not None else ""
            calls = report.outcomes[source, outcome] if report is not None else 0
            await self.journal.note(source, outcome, detail, calls=calls, at=at)
        await self.journal.end(run)
        told = [entries.ran(run, error)]
        status = Status.SUCCESS if run.status in ("complete", "partial") else Status.FAILED
        told += self._filled(run, report, status, error)
        if report is not None:
            await self.figures.add(figures(run.id, report, at=run.ended_at or self.now()))
            told += await self._refused(run)
            told += await self._reached(run)
            told += await self._sources({source for source, _ in report.outcomes} | {s for _, s in report.rows})
        await self.log.record(told)

    async def forsaken(self) -> None:
        """Runs of a process that ended without a word: the store is ours now, so nobody is at work on them."""
        for run in await self.journal.running():
            error = "interrupted: the process was killed, or the machine went down"
            await self.ended(replace(run, ended_at=self.now(), status="interrupted"), error=error)

    def _filled(self, run: Run, report: Report | None, status: Status, error: str) -> list[Entry]:
        """One line of BACKFILL for each table that the run is to fill, or has."""
        if run.command != "backfill":
            return []
        named = run.detail.get("datasets")
        wanted = [str(name) for name in named] if isinstance(named, list | tuple) else []
        rows: Counter[str] = Counter()
        for (dataset, _), count in (report.rows if report is not None else Counter[tuple[str, str]]()).items():
            rows[dataset] += count
        told = []
        for table in self.tables.all:
            name = table.dataset.name if table.dataset is not None else ""
            if name not in wanted and not rows[name]:
                continue
            details = {"run_id": run.id, "dataset": name, **(_details(name, report) if report is not None else {})}
            operation = Operation(
                Doing.BACKFILL, table.database_type, table.database_name, table.name, run.started_at, details=details
            )
            told.append(entries.operated(f"run:{run.id}:{table}", operation, status, error))
        return told

    async def _refused(self, run: Run) -> list[Entry]:
        at = run.ended_at or self.now()
        return [
            entry(
                f"refused:{run.id}:{r.dataset}:{r.source}:{r.rule}",
                0,
                tables.LETTERS,
                {
                    "run_id": run.id,
                    "dataset": r.dataset,
                    "source": r.source,
                    "rule": r.rule,
                    "row_count": r.rows,
                    "example": r.example,
                    "log_time": at,
                },
            )
            for r in await self.figures.refusals(run.id)
        ]

    async def _reached(self, run: Run) -> list[Entry]:
        named = run.detail.get("datasets")
        reaches = await self.figures.reaches([str(n) for n in named] if isinstance(named, list | tuple) else [])
        at = self.now()
        return [
            entry(
                f"checkpoint:{r.dataset}",
                _revision(at),
                tables.CHECKPOINT,
                {
                    "dataset": r.dataset,
                    "symbols": r.symbols,
                    "first_session": r.first.isoformat(),
                    "last_session": r.last.isoformat(),
                    "slowest_session": r.slowest.isoformat(),
                    "updated_at": at,
                },
            )
            for r in reaches
        ]

    async def _sources(self, names: set[str]) -> list[Entry]:
        at = self.now()
        told = []
        for status in await self.journal.statuses():
            if status.source not in names:
                continue
            score = quality(await self.figures.latest(status.source))
            values = {
                "source": status.source,
                "quality_score": score.score if score is not None else None,
                "last_success": status.last_success,
                "last_failure": status.last_failure,
                "last_outcome": status.last_outcome.value,
                "detail": status.detail or None,
                "runs": score.runs if score is not None else 0,
                "answered_percent": score.answered if score is not None else None,
                "accepted_percent": score.accepted if score is not None else None,
                "delivered_percent": score.delivered if score is not None else None,
                "outcomes": {outcome.value: calls for outcome, calls in status.outcomes.items()},
                "updated_at": at,
            }
            told.append(entry(f"source:{status.source}", _revision(at), tables.SOURCE, values))
        return told


def digest(report: Report) -> dict[str, object]:
    """The report in few words."""
    return {
        "rows": sum(report.rows.values()),
        "refused": sum(report.refused.values()),
        "missing": sum(m.sessions for m in report.missing),
        "seconds": round(report.seconds, 3),
        "failures": report.failures,
        **({"stopped": report.stopped} if report.stopped else {}),
    }


def figures(run_id: str, report: Report, *, at: datetime) -> list[Figures]:
    """Each source's part of a run."""
    names = sorted({s for s, _ in report.outcomes} | {s for _, s in report.rows} | {s for _, s, _ in report.refused})
    missing: Counter[str] = Counter()
    for gap in report.missing:
        missing.update(gap.asked)
    return [
        Figures(
            name,
            run_id,
            at,
            good=sum(report.outcomes[name, outcome] for outcome in _GOOD),
            failed=sum(n for (s, o), n in report.outcomes.items() if s == name and o not in (*_GOOD, Outcome.LIMITED)),
            limited=report.outcomes[name, Outcome.LIMITED],
            rows=sum(n for (_, s), n in report.rows.items() if s == name),
            refused=sum(n for (_, s, _), n in report.refused.items() if s == name),
            missing=missing[name],
        )
        for name in names
    ]


def _details(dataset: str, report: Report) -> dict[str, object]:
    by_source: Sequence[tuple[str, int]] = [(s, n) for (d, s), n in sorted(report.rows.items()) if d == dataset and n]
    return {
        "data_count": sum(n for _, n in by_source),
        "refused": sum(n for (d, _, _), n in report.refused.items() if d == dataset),
        "missing": sum(m.sessions for m in report.missing if m.dataset == dataset),
        "sources": dict(by_source),
    }


def _revision(at: datetime) -> int:
    """Later ones are greater."""
    return int(at.timestamp() * 1_000_000)
