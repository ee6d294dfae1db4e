"""The schema manager's hands: compare the file with a store's live structure, and make the difference go away."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mystocks_ingest.errors import UnsafeChange
from mystocks_ingest.logs import get
from mystocks_ingest.ports import SchemaTarget
from mystocks_ingest.schema.changes import Change, CreateDatabase
from mystocks_ingest.schema.diff import diff, hazard
from mystocks_ingest.schema.tables import Table

log = get("schema")


@dataclass(frozen=True, slots=True)
class Step:
    """One change of one store. ``hazard`` says why it is only made when asked for by name; ``table``: whom it serves."""

    change: Change
    hazard: str = ""
    table: Table | None = None


async def planned(target: SchemaTarget, tables: Iterable[Table]) -> list[Step]:
    """What separates the store from ``tables``, in the order in which it can be done. Reads only."""
    wanted = [(table, target.dialect.shape(table)) for table in tables]
    named = list(dict.fromkeys(shape.database for _, shape in wanted))
    there = await target.databases()
    steps = [Step(CreateDatabase(name)) for name in named if name not in there]
    found = await target.inspect([name for name in named if name in there])
    live = {(shape.database, shape.name): shape for shape in found}
    for table, shape in wanted:
        changes = diff(shape, live.get((shape.database, shape.name)))
        steps += [Step(change, hazard(change, target.dialect), table) for change in changes]
    return steps


async def made(target: SchemaTarget, steps: Sequence[Step]) -> None:
    """Run the statements of ``steps``; the caller holds the target's lock and has asked for the unsafe ones by name."""
    for step in steps:
        change = step.change
        where = "" if isinstance(change, CreateDatabase) else change.table.database
        for statement in target.dialect.ddl(change):
            await target.execute(where, statement)
        log.info(
            "schema.changed", store=target.name, verb=change.verb, what=change.words, table=str(change.table or "")
        )


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
        if step.hazard and step.change.verb not in ("drop", "index"):
            where = step.table.where if step.table is not None and step.table.where else str(step.change.table)
            raise UnsafeChange(
                f"{where}: {step.change.words}: {step.hazard} "
                f"(`schema plan` shows the difference; `schema apply --allow-unsafe` makes it)"
            )
