"""Tables as ``config/tables.yaml`` describes them, and the routes from dataset to table."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from enum import Enum, StrEnum
from pathlib import Path

import pyarrow as pa

from mystocks_ingest.errors import ConfigError
from mystocks_ingest.logs import get
from mystocks_ingest.market.datasets import Dataset
from mystocks_ingest.schema.document.values import Document
from mystocks_ingest.schema.keyspace import KeySpace
from mystocks_ingest.schema.types import arrow_type

log = get("schema")


class Database(StrEnum):
    """Where a table lives."""

    TDENGINE = "TDengine"
    POSTGRESQL = "PostgreSQL"
    REDIS = "Redis"
    MYSQL = "MySQL"
    MARIADB = "MariaDB"
    EMBEDDED = "Embedded"

    @property
    def store(self) -> str:
        """Its name in ``MYSTOCKS_STORES``; MariaDB is served by the mysql store."""
        return "mysql" if self is Database.MARIADB else self.value.lower()


class Route(StrEnum):
    """Whether a dataset's rows must reach this table before they count as stored."""

    REQUIRED = "required"
    BEST_EFFORT = "best_effort"


class Moment(Enum):
    """A default that is not a value."""

    NOW = "CURRENT_TIMESTAMP"


@dataclass(frozen=True, slots=True)
class Expression:
    """A default that only its own database understands, such as ``gen_random_uuid()``."""

    sql: str


Default = str | int | float | bool | Moment | Expression | None


@dataclass(frozen=True, slots=True)
class Index:
    """An index beside the key. A column reads ``trade_date`` or ``trade_date DESC``."""

    name: str
    columns: tuple[str, ...]
    unique: bool = False


@dataclass(frozen=True, slots=True)
class Storage:
    """How a table's rows are cut, compressed and let go; None: the database's own habit.

    ``compress``: False forbids it, True asks for it. ``segment_by`` and ``order_by`` are a hypertable's; ``order_by``
    reads like an index's columns. ``codec`` (``zstd``) and ``level`` (``high``) are TDengine's.
    """

    chunk: timedelta | None = None
    compress: bool | None = None
    compress_after: timedelta | None = None
    segment_by: tuple[str, ...] = ()
    order_by: tuple[str, ...] = ()
    retention: timedelta | None = None
    codec: str | None = None
    level: str | None = None


@dataclass(frozen=True, slots=True)
class Column:
    """One column in the file's own terms; ``type`` is the file's word, upper case, without length.

    ``arrow`` is the canonical field's type where the dataset has the column, else the one the word stands for.
    ``numbered``: the database counts its values up (AUTO_INCREMENT, SERIAL). ``touched``: ON UPDATE CURRENT_TIMESTAMP.
    ``values`` are those of an ENUM.
    """

    name: str
    type: str
    length: int | None = None
    precision: int | None = None
    scale: int | None = None
    nullable: bool = True
    default: Default = None
    comment: str = ""
    is_tag: bool = False
    numbered: bool = False
    touched: bool = False
    values: tuple[str, ...] = ()
    canonical: pa.DataType | None = None

    @property
    def arrow(self) -> pa.DataType:
        return self.canonical if self.canonical is not None else arrow_type(self.type, self.precision, self.scale)


@dataclass(frozen=True)
class Table:
    """One table. ``key`` is what makes a row unique; a table without one cannot be written to.

    ``newest_by`` as the file says it; None: see ``guards``.
    ``where`` is the table's place in the file (``config/tables.yaml:12:5``), for messages.
    """

    name: str
    database_type: Database
    database_name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...] = ()
    dataset: Dataset | None = None
    route: Route = Route.REQUIRED
    time_column: str | None = None
    is_super_table: bool = False
    is_timescale_hypertable: bool = False
    comment: str = ""
    indexes: tuple[Index, ...] = ()
    storage: Storage = Storage()
    where: str = field(default="", compare=False)
    key_space: KeySpace | None = None  # of a Redis table: where its rows lie
    newest_by: tuple[str, ...] | None = None

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema of the table's rows, in column order."""
        return pa.schema([pa.field(c.name, c.arrow, nullable=c.nullable) for c in self.columns])

    @property
    def guards(self) -> tuple[str, ...]:
        """The columns by which a row of a stored key is older than what is stored, and then does not replace it.

        Where the file says nothing: the time in Redis, which holds the newest state only; else the dataset's.
        """
        if self.newest_by is not None:
            return self.newest_by
        if self.key_space is not None or self.database_type is Database.REDIS:
            return (self.time_column,) if self.time_column and self.time_column not in self.key else ()
        if self.dataset is None or self.database_type is Database.TDENGINE:
            return ()
        names = {c.name for c in self.columns} - set(self.key)
        return tuple(name for name in self.dataset.newest_by if name in names)

    def __str__(self) -> str:
        return f"{self.database_type.value}.{self.database_name}.{self.name}"

    def __hash__(self) -> int:
        return hash((self.name, self.database_type, self.database_name))


class Tables:
    """All tables of one file, and the routes; ``document`` is what else the file says."""

    def __init__(self, tables: Sequence[Table], document: Document | None = None) -> None:
        self.all: tuple[Table, ...] = tuple(tables)
        self.document = document if document is not None else Document()
        routes: dict[str, list[Table]] = {}
        for table in self.all:
            if table.dataset is not None:
                routes.setdefault(table.dataset.name, []).append(table)
        self._routes: Mapping[str, tuple[Table, ...]] = {k: tuple(v) for k, v in routes.items()}

    def routes(self, dataset: Dataset) -> tuple[Table, ...]:
        """The tables that hold ``dataset``; ConfigError when there is none, or one that cannot be written to."""
        tables = self._routes.get(dataset.name, ())
        if not tables:
            raise ConfigError(
                f"no table holds dataset {dataset.name}: add one with `dataset: {dataset.name}` to config/tables.yaml"
            )
        for table in tables:
            writable(table)
        return tables

    def holder(self, dataset: Dataset) -> Table:
        """The table from which ``dataset`` is read: its first required one."""
        tables = self.routes(dataset)
        return next((t for t in tables if t.route is Route.REQUIRED), tables[0])

    @property
    def datasets(self) -> tuple[str, ...]:
        """Names of the datasets that have a table, in the file's order."""
        return tuple(self._routes)

    def placed(self, stores: Collection[str]) -> Tables:
        """The tables as they stand when only ``stores`` are in use.

        A table of a database that is not named lives in the embedded store; where that makes several embedded
        tables of one dataset, its first required one is enough. ConfigError when two would share a name.
        """
        named = frozenset(stores)
        here: dict[str, Table] = {}
        out: list[Table] = []
        for table in sorted(self.all, key=lambda t: t.route is not Route.REQUIRED):  # stable: required first
            if table.database_type.store in named:
                out.append(table)
                continue
            if table.dataset is not None and any(t.dataset == table.dataset for t in here.values()):
                continue
            twin = here.get(table.name.lower())
            if twin is not None:
                raise ConfigError(
                    f"{table.where}: in the embedded store {table} and {twin} ({twin.where}) would share the name "
                    f"{table.name}: rename one of them, or name its database in MYSTOCKS_STORES"
                )
            placed = replace(
                table, database_type=Database.EMBEDDED, is_super_table=False, is_timescale_hypertable=False
            )
            here[table.name.lower()] = placed
            out.append(placed)
        order = {(t.name, t.database_name): i for i, t in reversed(list(enumerate(self.all)))}
        return Tables(sorted(out, key=lambda t: order[t.name, t.database_name]), self.document)


def writable(table: Table) -> None:
    """ConfigError when rows cannot be upserted into ``table``, with the remedy."""
    if not table.key:
        proposal = ", ".join(table.dataset.key) if table.dataset is not None else "column, ..."
        raise ConfigError(
            f"{table.where or table.name}: table {table.name} has no key, so nothing can be written to it without "
            f"doubling rows: add `key: [{proposal}]` to it"
        )


def load(path: Path) -> Tables:
    """Read the YAML. Raises ConfigError with file, line and column of every complaint, all at once.

    What is right and yet worth saying, such as a table without a key, stands in ``document.remarks``; one line is logged.
    """
    from mystocks_ingest.schema.document.reading import read  # noqa: PLC0415 - pydantic and yaml only when a file is read

    tables, document = read(path)
    if document.remarks:
        first, rest = document.remarks[0], len(document.remarks) - 1
        log.warning("tables.remarked", says=f"{first}{f' ({rest} more like it)' if rest else ''}")
    return Tables(tables, document)
