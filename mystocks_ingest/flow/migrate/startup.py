"""Before the first row: what differs from the file is mended, said, or keeps its table from being written to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from mystocks_ingest.errors import Drifted, IngestError, UnsafeChange
from mystocks_ingest.flow.migrate.steps import (
    UNRECORDED,
    Clock,
    Failure,
    Step,
    clock,
    made,
    made_by_table,
    planned,
    settle,
    unfinished,
)
from mystocks_ingest.logs import get
from mystocks_ingest.ports import Operations, SchemaTarget
from mystocks_ingest.schema.changes import AddColumn, ChangeColumn, ChangeKey, CreateDatabase, CreateTable, DropColumn
from mystocks_ingest.schema.drift import issue
from mystocks_ingest.schema.tables import Table

Ensure = Callable[[SchemaTarget, Sequence[Table]], Awaitable[None]]
"""What a sink calls when it opens, so that its tables are there."""

log = get("schema")


async def ensured(target: SchemaTarget, tables: Sequence[Table]) -> None:
    """Bring the store to the file where that is safe. Raises UnsafeChange, naming table and remedy, where it is not.

    What is there and not in the file (a column, an index somebody made) stays.
    """
    if not await planned(target, tables):
        return
    async with target.lock():
        steps = await planned(target, tables)  # another process may have been faster
        await made(target, [s for s in steps if not s.hazard])
    for step in steps:
        if step.hazard and stops(step):
            raise UnsafeChange(_sentence(step))


@dataclass
class Startup:
    """``ensured`` for a service: no difference ends it; a table that must not be written to is in ``blocked``.

    ``apply``: safe differences are mended, else only said.
    """

    apply: bool = True
    log_of: Operations = UNRECORDED
    now: Clock = clock
    blocked: dict[Table, Drifted] = field(default_factory=dict)

    async def __call__(self, target: SchemaTarget, tables: Sequence[Table]) -> None:
        """Raises Unavailable (the server has gone) and ConfigError where not even a look at the catalogue works."""
        steps = await planned(target, tables)
        if steps and self.apply and any(not s.hazard for s in steps):
            async with target.lock():
                steps = await planned(target, tables)  # another process may have been faster
                await settle(target, tables, steps, log_of=self.log_of)
                safe = [s for s in steps if not s.hazard]
                failures = await made_by_table(target, safe, log_of=self.log_of, now=self.now)
            for table, failure in failures.items():
                self._fail(target, table, failure)
            steps = [s for s in steps if s.hazard]
        else:
            await self._close_the_books(target, tables)
        for step in steps:
            self._heed(target, step)

    def _fail(self, target: SchemaTarget, table: Table | None, failure: Failure) -> None:
        """A change that failed keeps rows out only where they need it; a comment or an index they do not."""
        stop = any(needed(step) for step in failure.left)
        if stop and table is not None:
            absent = any(_adds(step) for step in failure.left)
            self.blocked[table] = Drifted(f"{table.where or table}: {failure.reason}", readable=not absent)
        log.warning("schema.failed", store=target.name, table=str(table or ""), reason=str(failure.reason), stops=stop)

    def _heed(self, target: SchemaTarget, step: Step) -> None:
        stop = stops(step) if step.hazard else needed(step)
        if stop and step.table is not None:
            absent = _adds(step)
            if step.table not in self.blocked or absent:
                self.blocked[step.table] = Drifted(_sentence(step), readable=not absent)
        say = log.warning if stop or not step.hazard else log.info
        say("schema.differs", store=target.name, table=str(step.table or ""), what=str(issue(step.change)), stops=stop)

    async def _close_the_books(self, target: SchemaTarget, tables: Sequence[Table]) -> None:
        """Settle what the log has as unfinished though nothing is to do; only then is the lock worth a trip."""
        if not await unfinished(target, self.log_of):
            return
        try:
            async with target.lock():
                await settle(target, tables, await planned(target, tables), log_of=self.log_of)
        except IngestError as exc:
            log.info("schema.unsettled", store=target.name, reason=str(exc))  # the next start does it


def stops(step: Step) -> bool:
    """Whether the table must not be written to while this unsafe change is not made."""
    change = step.change
    if isinstance(change, DropColumn):  # a column of somebody's own is no harm, unless each row would have to fill it
        column = change.column
        return not column.nullable and column.default is None and not column.numbered
    if isinstance(change, ChangeKey) and change.covered:  # a table with numbers of its own as primary key
        return False
    return change.verb not in ("drop", "index", "comment")


def needed(step: Step) -> bool:
    """Whether rows cannot be written before this safe change is made."""
    change = step.change
    if isinstance(change, ChangeColumn):
        return change.before.type != change.after.type
    return _adds(step) or isinstance(change, ChangeKey)


def _adds(step: Step) -> bool:
    return isinstance(step.change, CreateDatabase | CreateTable | AddColumn)


def _sentence(step: Step) -> str:
    where = step.table.where if step.table is not None and step.table.where else str(step.change.table or "")
    if not step.hazard:
        return f"{where}: {step.change.words}: not made yet (`schema apply` makes it)"
    return (
        f"{where}: {step.change.words}: {step.hazard} "
        f"(`schema plan` shows the difference; `schema apply --allow-unsafe` makes it)"
    )
