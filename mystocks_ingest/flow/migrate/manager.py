"""The schema manager: every table of every store in use, from one file: planned, made, checked, dropped, exported.

>>> manager = SchemaManager(targets, tables.load(path).placed(stores))  # doctest: +SKIP
>>> results = await manager.batch_create_tables("config/tables.yaml")  # doctest: +SKIP

Stores are looked at together and changed one after the other, in the order of their names, each under its own lock:
two managers can neither change one store at once nor wait for each other for ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from mystocks_ingest.errors import ConfigError, IngestError, UnsafeChange
from mystocks_ingest.flow.migrate.steps import UNRECORDED, Clock, Failure, Step, clock, found, made_by_table, settle
from mystocks_ingest.flow.migrate.steps import planned as planned_in
from mystocks_ingest.ports import Doing, Operation, Operations, Recorded, SchemaTarget, Status, Validation
from mystocks_ingest.schema import tables as files
from mystocks_ingest.schema.changes import DropTable
from mystocks_ingest.schema.diff import hazard
from mystocks_ingest.schema.drift import Issue, issue, part
from mystocks_ingest.schema.structure import TableShape
from mystocks_ingest.schema.tables import Database, Table, Tables


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one table. It is true where the table is now as the file describes it.

    ``left``: unsafe changes that were not asked for by name. ``error``: why a change failed.
    """

    table: Table
    made: tuple[Step, ...] = ()
    left: tuple[Step, ...] = ()
    error: IngestError | None = None

    def __bool__(self) -> bool:
        return self.error is None and not self.left

    def __str__(self) -> str:
        if self.error is not None:
            return f"failed: {self.error}"
        if self.left:
            return f"left: {self.left[0].change.words}: {self.left[0].hazard}"
        return "; ".join(f"{s.change.verb} {s.change.words}" for s in self.made) or "as described"


@dataclass(frozen=True, slots=True)
class Compared:
    """One table held against the file."""

    table: Table
    issues: tuple[Issue, ...] = ()

    @property
    def passed(self) -> bool:
        return not self.issues


@dataclass(frozen=True, slots=True)
class Loss:
    """An unsafe step, and how many rows its table holds."""

    step: Step
    rows: int


class SchemaManager:
    """The structure of ``tables``, which are those in use (``Tables.placed``), over ``targets`` by store name."""

    def __init__(
        self,
        targets: Mapping[str, SchemaTarget],
        tables: Tables,
        *,
        log_of: Operations = UNRECORDED,
        now: Clock = clock,
    ) -> None:
        self.tables = tables
        self._targets = dict(sorted(targets.items()))
        self._log = log_of
        self._now = now

    def target(self, table: Table) -> SchemaTarget:
        """The target of the table's store. Raises ConfigError when that is not in use."""
        try:
            return self._targets[table.database_type.store]
        except KeyError:
            raise ConfigError(
                f"{table.where or table}: the store {table.database_type.store} is not in use: "
                "name it in MYSTOCKS_STORES"
            ) from None

    def named(self, name: str) -> Table:
        """The one table so called, in short or in full. Raises ConfigError for none and for several."""
        fitting = [t for t in self.tables.all if name.lower() in _called(t)]
        if not fitting:
            raise ConfigError(f"the file describes no table {name}")
        if len(fitting) > 1:
            raise ConfigError(f"{name} may be {', '.join(str(t) for t in fitting)}: say which")
        return fitting[0]

    async def plan(self, tables: Iterable[Table] | None = None) -> list[Step]:
        """What separates the stores from the file, store by store, in the order in which it can be made."""
        by_store = self._by_store(tables)
        plans = await asyncio.gather(*(planned_in(self._targets[name], these) for name, these in by_store.items()))
        return [step for steps in plans for step in steps]

    def ddl(self, step: Step) -> list[str]:
        """The statements of ``step``; none where the database cannot make it at all."""
        if step.table is None:
            return []
        try:
            return self.target(step.table).dialect.ddl(step.change)
        except UnsafeChange:
            return []

    async def losses(self, steps: Iterable[Step]) -> list[Loss]:
        """How many rows stand behind each unsafe step."""
        out = []
        counted: dict[TableShape, int] = {}
        for step in steps:
            if step.hazard and step.table is not None and step.change.table is not None:
                shape = step.change.table
                if shape not in counted:
                    counted[shape] = await self.target(step.table).count(shape)
                out.append(Loss(step, counted[shape]))
        return out

    async def apply(self, tables: Iterable[Table] | None = None, *, allow_unsafe: Collection[str] = ()) -> list[Result]:
        """Make the difference go away: what is safe, and what is unsafe where ``allow_unsafe`` names it.

        A name is TABLE or TABLE.COLUMN (index, option, ``key``); the table's as in the file, or with its database in
        full. A step that fails leaves the rest of its table, and that only, for the next time. Raises Unavailable
        when a server goes away, and ConfigError for a name that fits no unsafe change.
        """
        results: list[Result] = []
        named = {name.lower() for name in allow_unsafe}
        if named:
            self.check_names(named, await self.plan(tables))
        for store, these in self._by_store(tables).items():
            target = self._targets[store]
            if not named and not await planned_in(target, these):
                results += [Result(table) for table in these]
                continue
            async with target.lock():
                steps = await planned_in(target, these)
                await settle(target, these, steps, log_of=self._log)
                chosen = [s for s in steps if not s.hazard or named.intersection(names(s))]
                failures = await made_by_table(target, chosen, log_of=self._log, now=self._now)
            left = [s for s in steps if s not in chosen]
            results += [_result(table, chosen, left, failures.get(table)) for table in these]
        return results

    def check_names(self, allow_unsafe: Collection[str], steps: Iterable[Step]) -> None:
        """Raises ConfigError for a name that none of the unsafe ``steps`` bears."""
        unused = {name.lower() for name in allow_unsafe}.difference(*(names(step) for step in steps if step.hazard))
        if unused:
            raise ConfigError(f"no unsafe change is named {min(unused)}: `schema plan` shows those there are")

    async def validate(self, tables: Iterable[Table] | None = None) -> list[Compared]:
        """Each table held against its store, every difference in words; all of it goes to the monitor log."""
        chosen = tuple(tables) if tables is not None else self.tables.all
        issues: dict[Table, list[Issue]] = {table: [] for table in chosen}
        for step in await self.plan(chosen):
            if step.table is not None:
                issues[step.table].append(issue(step.change))
        compared = [Compared(table, tuple(found)) for table, found in issues.items()]
        await self._log.validated([_validation(c, self._now()) for c in compared])
        return compared

    async def create_table(self, table: Table) -> Result:
        """Make ``table`` where it is missing. One that is there is left alone: the result says how it differs."""
        steps = await self.plan([table])
        if steps and any(issue(s.change).kind != "missing" or part(s.change) for s in steps):
            return Result(table, left=tuple(steps), error=ConfigError(f"{table} is there already: use alter_table"))
        return (await self.apply([table]))[0]

    async def alter_table(self, table: Table, *, allow_unsafe: Collection[str] = ()) -> Result:
        """Bring one table to what it is described as."""
        return (await self.apply([table], allow_unsafe=allow_unsafe))[0]

    async def drop_table(self, table: Table) -> int:
        """Drop the table and its rows; returns how many those were. The caller has asked. ConfigError: no such table."""
        target = self.target(table)
        shape = target.dialect.shape(table)
        async with target.lock():
            there = (await self._live(target, [shape.database])).get((shape.database, shape.name))
            if there is None:
                raise ConfigError(f"there is no table {table}")
            rows = await target.count(there)
            change = DropTable(there)
            step = Step(change, hazard(change, target.dialect), table)
            failures = await made_by_table(target, [step], log_of=self._log, now=self._now)
        if failures:
            raise failures[table].reason
        return rows

    async def count(self, table: Table) -> int | None:
        """How many rows the table holds; None where there is no such table."""
        target = self.target(table)
        shape = target.dialect.shape(table)
        there = (await self._live(target, [shape.database])).get((shape.database, shape.name))
        return None if there is None else await target.count(there)

    async def validate_table_structure(self, table: Table) -> Compared:
        """One table held against its store."""
        return (await self.validate([table]))[0]

    async def batch_create_tables(self, path: Path | str) -> dict[str, Result]:
        """Make every table of the file at ``path``, and what it lacks where it is there.

        A result for each, by its name in full. Only safe changes are made. Raises ConfigError for the file itself.
        """
        wanted = files.load(Path(path)).placed(self._targets.keys() - {Database.EMBEDDED.store})
        results = await self.apply(wanted.all)
        return {str(result.table): result for result in results}

    async def export(self, databases: Collection[str] = ()) -> list[Table]:
        """The live tables in the words of the file: of ``databases``, else of those that the file names.

        A table that the file describes keeps what no catalogue knows: its dataset, route, and place among the keys.
        """
        known = {(t.database_type.store, s.database, s.name): t for t, s in self._shaped(self.tables.all)}
        out: list[Table] = []
        for store, target in self._targets.items():
            named = set(databases) or {database for where, database, _ in known if where == store}
            there = await target.databases()
            for shape in (await self._live(target, sorted(named & there))).values():
                live = target.dialect.table(shape)
                out.append(_remembered(live, known.get((store, shape.database, shape.name))))
        for table in out:
            await self._exported(table)
        return out

    async def history(self, *, table: str = "", since: datetime | None = None, limit: int = 100) -> Sequence[Recorded]:
        """The latest operations, newest first."""
        return await self._log.operations(table=table, since=since, limit=limit)

    async def _exported(self, table: Table) -> None:
        number = await self._log.began(
            Operation(Doing.EXPORT, table.database_type, table.database_name, table.name, self._now())
        )
        await self._log.ended(number, Status.SUCCESS)

    def _shaped(self, tables: Iterable[Table]) -> list[tuple[Table, TableShape]]:
        return [(t, self.target(t).dialect.shape(t)) for t in tables if t.database_type.store in self._targets]

    async def _live(self, target: SchemaTarget, databases: Sequence[str]) -> Mapping[tuple[str, str], TableShape]:
        there = await target.databases()
        return await found(target, [name for name in databases if name in there])

    def _by_store(self, tables: Iterable[Table] | None) -> dict[str, list[Table]]:
        out: dict[str, list[Table]] = {name: [] for name in self._targets}
        for table in self.tables.all if tables is None else tables:
            self.target(table)
            out[table.database_type.store].append(table)
        return {name: these for name, these in out.items() if these}


def names(step: Step) -> set[str]:
    """What ``allow_unsafe`` may call the step, in lower case."""
    if step.table is None:
        return set()
    whole = _called(step.table)
    about = part(step.change).lower()
    return whole | {f"{name}.{about}" for name in whole} if about else whole


def _called(table: Table) -> set[str]:
    return {table.name.lower(), f"{table.database_name}.{table.name}".lower(), str(table).lower()}


def _result(table: Table, chosen: Sequence[Step], left: Sequence[Step], failure: Failure | None) -> Result:
    here = tuple(s for s in chosen if s.table is not None and s.table == table)
    done = here if failure is None else here[: failure.made]
    return Result(
        table,
        done,
        tuple(s for s in left if s.table is not None and s.table == table),
        failure.reason if failure is not None else None,
    )


def _validation(compared: Compared, at: datetime) -> Validation:
    table = compared.table
    kinds = {i.kind.value: sum(j.kind == i.kind for j in compared.issues) for i in compared.issues}
    return Validation(
        table.database_type, table.database_name, table.name, at, tuple(str(i) for i in compared.issues), kinds
    )


def _remembered(live: Table, known: Table | None) -> Table:
    if known is None:
        return live if live.database_name else replace(live, database_name=live.database_type.store)
    return replace(
        live,
        database_name=known.database_name,
        dataset=known.dataset,
        route=known.route,
        time_column=live.time_column or known.time_column,
        key_space=live.key_space or known.key_space,
    )
