"""One store: what separates it from the file, and the making of it, each step told to the monitor log."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from mystocks_ingest.errors import IngestError, Unavailable
from mystocks_ingest.logs import get
from mystocks_ingest.ports import Doing, Operation, Operations, Recorded, SchemaTarget, Status, Validation
from mystocks_ingest.schema.changes import (
    AddColumn,
    AddIndex,
    Change,
    ChangeColumn,
    CreateDatabase,
    CreateTable,
    DropTable,
)
from mystocks_ingest.schema.diff import diff, hazard
from mystocks_ingest.schema.drift import part
from mystocks_ingest.schema.structure import TableShape
from mystocks_ingest.schema.tables import Table

Clock = Callable[[], datetime]
EVER = datetime(1970, 1, 1, tzinfo=UTC)
log = get("schema")


def clock() -> datetime:
    """Now, for whoever brings no clock of his own."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Step:
    """One change of one store. ``hazard`` says why it is only made when asked for by name; ``table``: whom it serves."""

    change: Change
    hazard: str = ""
    table: Table | None = None

    @property
    def database(self) -> str:
        """Where its statements run; empty for the making of a database."""
        return "" if isinstance(self.change, CreateDatabase) else self.change.table.database


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a table's steps ended early, how many of them were made before, and which are left."""

    reason: IngestError
    made: int
    left: tuple[Step, ...] = ()


class Unrecorded:
    """ports.Operations that keeps nothing: for a sink that is opened without the service around it."""

    async def began(self, operation: Operation) -> str:  # noqa: ARG002 - nothing is kept
        return ""

    async def ended(self, id: str, status: Status, error: str = "", *, of: Operation | None = None) -> None: ...  # noqa: A002 - the port's word

    async def validated(self, found: Sequence[Validation]) -> None: ...

    async def operations(
        self,
        *,
        table: str = "",  # noqa: ARG002 - nothing is kept
        status: Status | None = None,  # noqa: ARG002
        since: datetime | None = None,  # noqa: ARG002
        limit: int = 100,  # noqa: ARG002
    ) -> Sequence[Recorded]:
        return ()


UNRECORDED: Operations = Unrecorded()


async def planned(target: SchemaTarget, tables: Iterable[Table]) -> list[Step]:
    """What separates the store from ``tables``, in the order in which it can be done. Reads only."""
    wanted = [(table, target.dialect.shape(table)) for table in tables]
    first = {shape.database: table for table, shape in reversed(wanted)}
    there = await target.databases()
    named = list(dict.fromkeys(shape.database for _, shape in wanted))
    steps = [Step(CreateDatabase(name), table=first[name]) for name in named if name not in there]
    live = await found(target, [name for name in named if name in there])
    for table, _ in wanted:
        shape = target.dialect.shape(table)  # once more: the catalogue may have told what the server's edition lacks
        changes = diff(shape, live.get((shape.database, shape.name)))
        steps += _apart(
            _waiting([Step(change, hazard(change, target.dialect), table) for change in changes]), shape.key
        )
    return steps


def _apart(steps: list[Step], key: Collection[str]) -> list[Step]:
    """The steps of one table; where it has not even the key's columns it may be somebody else's: nothing is done unasked."""
    added = {s.change.column.name for s in steps if isinstance(s.change, AddColumn) and not s.change.column.numbered}
    lacking = [name for name in key if name in added]
    if not lacking:
        return steps
    why = (
        f"the table has no column {lacking[0]}, which is of the key, so it may be another program's: "
        "rename it, or the table in tables.yaml"
    )
    return [step if step.hazard else replace(step, hazard=why) for step in steps]


def _waiting(steps: list[Step]) -> list[Step]:
    """The steps of one table; an index whose column is not made unasked waits for it."""
    withheld = {
        s.change.column.name if isinstance(s.change, AddColumn) else s.change.after.name
        for s in steps
        if s.hazard and isinstance(s.change, AddColumn | ChangeColumn)
    }
    return [_held_up(step, withheld) for step in steps]


def _held_up(step: Step, withheld: set[str]) -> Step:
    if not isinstance(step.change, AddIndex) or step.hazard:
        return step
    waits = [name for name in step.change.index.names if name in withheld]
    return replace(step, hazard=f"its column {waits[0]} has to be asked for first") if waits else step


async def found(target: SchemaTarget, databases: Sequence[str]) -> Mapping[tuple[str, str], TableShape]:
    """Every table of ``databases``, by database and name."""
    shapes = await target.inspect(databases) if databases else ()
    return {(shape.database, shape.name): shape for shape in shapes}


async def made(
    target: SchemaTarget, steps: Sequence[Step], *, log_of: Operations = UNRECORDED, now: Clock = clock
) -> None:
    """Run the statements of ``steps``; the caller holds the target's lock and has asked for the unsafe ones by name.

    Each is in the log as processing before its first statement, and as success or failed after its last one.
    """
    for step in steps:
        statements = target.dialect.ddl(step.change)
        number = await log_of.began(operation(step, statements, at=now()))
        try:
            for statement in statements:
                await target.execute(step.database, statement)
        except Exception as exc:
            await log_of.ended(number, Status.FAILED, str(exc))
            raise
        except asyncio.CancelledError:
            await log_of.ended(number, Status.FAILED, "interrupted: whether it was made, the next plan shows")
            raise
        await log_of.ended(number, Status.SUCCESS)
        change = step.change
        log.info(
            "schema.changed", store=target.name, verb=change.verb, what=change.words, table=str(change.table or "")
        )


async def made_by_table(
    target: SchemaTarget, steps: Sequence[Step], *, log_of: Operations = UNRECORDED, now: Clock = clock
) -> dict[Table | None, Failure]:
    """``made``, table by table: where one step fails, the rest of its table is left for the next plan.

    A database that cannot be made fails all its tables. Raises Unavailable when the server has gone.
    """
    failures: dict[Table | None, Failure] = {}
    lost: dict[str, Failure] = {}
    done: dict[Table | None, int] = {}
    for step in steps:
        if step.table in failures:
            continue
        if step.database in lost:
            failures[step.table] = lost[step.database]
            continue
        try:
            await made(target, [step], log_of=log_of, now=now)
        except Unavailable:
            raise
        except IngestError as exc:
            log.warning("schema.failed", store=target.name, what=step.change.words, reason=str(exc))
            failure = Failure(exc, done.get(step.table, 0))
            if isinstance(step.change, CreateDatabase):
                lost[step.change.database] = failure
            else:
                failures[step.table] = failure
        else:
            done[step.table] = done.get(step.table, 0) + 1
    rest = {table: [s for s in steps if s.table == table] for table in failures}
    return {t: replace(f, left=tuple(rest[t][done.get(t, 0) :])) for t, f in failures.items()}


def operation(step: Step, statements: Sequence[str], *, at: datetime) -> Operation:
    """The step as the monitor log has it."""
    change, table = step.change, step.table
    if table is None:
        raise ValueError(f"nobody asked for {change.words}")
    match change:
        case CreateDatabase() | CreateTable():
            kind = Doing.CREATE
        case DropTable():
            kind = Doing.DROP
        case _:
            kind = Doing.ALTER
    return Operation(
        kind,
        table.database_type,
        table.database_name if change.table is not None else change.database,
        change.table.name if change.table is not None else "",
        at,
        ddl=";\n".join(statements),
        details={"verb": change.verb, "part": part(change), "change": change.words},
        made=table if isinstance(change, CreateTable) else None,
    )


async def settle(target: SchemaTarget, tables: Sequence[Table], steps: Sequence[Step], *, log_of: Operations) -> None:
    """Close what an interrupted process left as processing; the caller holds the lock, so nobody is at work on it.

    A change of ``tables`` that ``steps`` still want was not made, or not whole; any other one was. A table that was to
    be dropped is gone where ``steps`` want to make it. What concerns other tables is left to whoever has their file.
    """
    wanted = {_name(operation(step, (), at=EVER)) for step in steps if step.table is not None}
    gone = {(s.table.database_type, s.table.database_name, s.table.name) for s in steps if _creates(s) and s.table}
    made_of = {(t.database_type, t.database_name, t.name): t for t in tables}
    for left in await unfinished(target, log_of):
        was = left.operation
        place = (was.database_type, was.database, was.table)
        if was.table and place not in made_of:
            continue
        if _name(was) in wanted or (was.kind is Doing.DROP and place not in gone):
            said = "interrupted before it was made whole: it is in the plan again"
            await log_of.ended(left.id, Status.FAILED, said, of=was)
        else:
            table = made_of.get(place) if was.kind is Doing.CREATE else None
            said = "interrupted, and found made afterwards"
            await log_of.ended(left.id, Status.SUCCESS, said, of=replace(was, made=table))


def _creates(step: Step) -> bool:
    return isinstance(step.change, CreateTable)


async def unfinished(target: SchemaTarget, log_of: Operations) -> list[Recorded]:
    """Changes of this store that the log has as processing; none while the log cannot be read."""
    kinds = (Doing.CREATE, Doing.ALTER, Doing.DROP)
    try:
        left = await log_of.operations(status=Status.PROCESSING, limit=1000)
    except Unavailable as exc:
        log.info("schema.unsettled", store=target.name, reason=str(exc))  # no change of structure waits for its log
        return []
    return [r for r in left if r.operation.kind in kinds and r.operation.database_type.store == target.name]


def _name(of: Operation) -> tuple[str, str, str, object, object]:
    return (of.database_type.value, of.database, of.table, of.details.get("verb"), of.details.get("part"))
