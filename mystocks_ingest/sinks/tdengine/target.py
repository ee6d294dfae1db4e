"""The structure of TDengine's databases: read in three calls, changed one statement at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager

from mystocks_ingest.errors import ConfigError
from mystocks_ingest.schema.structure import TableShape
from mystocks_ingest.schema.tables import Table
from mystocks_ingest.sinks.tdengine import lock
from mystocks_ingest.sinks.tdengine.database import TDengineDatabase
from mystocks_ingest.sinks.tdengine.dialect import Place, TDengineDialect, minutes
from mystocks_ingest.sinks.tdengine.faults import Denied, Refused
from mystocks_ingest.sinks.tdengine.names import literal, quoted
from mystocks_ingest.sinks.tdengine.shape import PRECISIONS
from mystocks_ingest.sinks.tdengine.spelling import Described

_SYSTEM = frozenset({"information_schema", "performance_schema", lock.DATABASE})
_SYNTAX = 0x2600


class TDengineTarget:
    """ports.SchemaTarget of TDengine. ``tables``: all of the file's, see TDengineDialect."""

    name = "tdengine"

    def __init__(
        self, database: TDengineDatabase, tables: Iterable[Table] = (), *, patience: lock.Patience | None = None
    ) -> None:
        self._database = database
        self._patience = patience or lock.Patience()
        self._held: lock.Held | None = None
        self._tables = tuple(tables)
        self.dialect = self._dialect({})

    def _dialect(self, places: Mapping[str, Place]) -> TDengineDialect:
        options = self._database.options.database_options
        return TDengineDialect(self._tables, database_options=options, places=places)

    async def databases(self) -> frozenset[str]:
        return frozenset(await self.places())

    async def places(self) -> dict[str, Place]:
        """Every database that is not TDengine's own."""
        found = await self._database.query("SELECT name, `precision`, `keep` FROM information_schema.ins_databases")
        return {
            str(name): Place(next((p for p in PRECISIONS if p == precision), PRECISIONS[0]), minutes(str(keep)))
            for name, precision, keep in found
            if name not in _SYSTEM and keep is not None
        }

    async def inspect(self, databases: Iterable[str]) -> Sequence[TableShape]:
        """Every super table and every table that stands alone; a sub table is its super table's.

        information_schema tells which tables there are. It tells neither the tags of a super table without sub tables
        nor which column is a key's second, and its list of columns has a line per column of each of thousands of sub
        tables. DESCRIBE tells all of a table, from what the server holds in memory: all go in one call.
        """
        places = await self.places()
        self.dialect = self._dialect(places)
        wanted = [name for name in dict.fromkeys(databases) if name in places]
        if not wanted:
            return ()
        lists = await self._database.queries([sql for name in wanted for sql in _listing(name)])
        here = [
            (name, str(table), str(comment or ""))
            for number, name in enumerate(wanted)
            for table, comment in (*lists[2 * number], *lists[2 * number + 1])
        ]
        lines = await self._database.queries([f"DESCRIBE {quoted(name, table)}" for name, table, _ in here])
        return [
            self.dialect.found(name, table, places[name], [_line(row) for row in rows], comment)
            for (name, table, comment), rows in zip(here, lines, strict=True)
        ]

    async def execute(self, database: str, statement: str) -> None:
        """Raises ConfigError where the server refuses the statement, or the user lacks the right: the GRANT is named."""
        if self._held is not None:
            self._held.check()
        try:
            await self._database.execute(statement, resend=False)
        except Denied as exc:
            user = self._database.options.user
            grant = f"GRANT WRITE ON {quoted(database)}.* TO {user}" if database else f"ALTER USER {user} CREATEDB 1"
            raise ConfigError(f"{exc}; as root: {grant}") from exc
        except Refused as exc:
            if exc.code == _SYNTAX and "DECIMAL(" in statement:
                raise ConfigError(f"{exc}: before 3.3.6 TDengine has no DECIMAL: make the column DOUBLE") from exc
            raise

    async def count(self, table: TableShape) -> int:
        found = await self._database.query(f"SELECT COUNT(*) FROM {quoted(table.database, table.name)}")  # noqa: S608 - quoted
        return int(str(found[0][0])) if found else 0

    @asynccontextmanager
    async def lock(self) -> AsyncIterator[None]:
        """See lock.py: held in TDengine's own catalogue, so that it holds between machines."""
        async with lock.locked(self._database, self._patience) as held:
            self._held = held
            try:
                yield
            finally:
                self._held = None


def _listing(database: str) -> tuple[str, str]:
    """The super tables of a database, and the tables that stand alone."""
    here = literal(database)
    super_tables = "SELECT stable_name, table_comment FROM information_schema.ins_stables"
    tables = "SELECT table_name, table_comment FROM information_schema.ins_tables"
    return f"{super_tables} WHERE db_name = {here}", f"{tables} WHERE db_name = {here} AND `type` = 'NORMAL_TABLE'"


def _line(row: Sequence[object]) -> Described:
    """A line of DESCRIBE: field, type, length, note, and from 3.3 encode, compress, level."""
    compress, level = (str(row[5] or ""), str(row[6] or "")) if len(row) > 6 else ("", "")
    return Described(str(row[0]), str(row[1]), int(str(row[2])), str(row[3] or ""), compress, level)
