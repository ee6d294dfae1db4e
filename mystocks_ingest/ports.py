"""The plug-in surface on one screen: what a source, a sink and a journal must be able to do."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import date, datetime, time
from enum import StrEnum
from typing import Protocol, runtime_checkable

import pyarrow as pa

from mystocks_ingest.errors import Outcome
from mystocks_ingest.market.datasets import Dataset
from mystocks_ingest.market.frames import Frame, Request, Symbol, Window
from mystocks_ingest.schema.diff import Dialect
from mystocks_ingest.schema.paces import Pace
from mystocks_ingest.schema.structure import TableShape
from mystocks_ingest.schema.tables import Database, Table


@dataclass(frozen=True, slots=True)
class Offer:
    """What a source can give of one dataset, and how; the planner chooses the cheapest way.

    ``whole_market`` lists the asset types for which one call returns every symbol of one session.
    ``rows_per_call`` is the vendor's silent cap of a by-symbol call (None: no cap known).
    """

    by_symbol: bool = True
    whole_market: frozenset[str] = frozenset()
    rows_per_call: int | None = None
    exchanges: frozenset[str] = frozenset({"SH", "SZ", "BJ"})
    asset_types: frozenset[str] = frozenset({"stock"})
    since: date | None = None
    symbols_per_call: int = 1
    latest_sessions: int | None = None  # only the newest n sessions are served
    published: time = time(15, 5)  # Shanghai; before this the session's rows are provisional
    intraday: bool = False  # gives a provisional row while the session runs
    reports_suspensions: bool = False  # the source says of each missing row whether it was a suspension


@dataclass(frozen=True, slots=True)
class Rate:
    """At most ``calls`` in any ``seconds``."""

    calls: int
    seconds: float


class Source(Protocol):
    """A vendor of data. Calls are paced inside; errors are those of errors.py."""

    @property
    def name(self) -> str: ...

    @property
    def family(self) -> str:
        """Whose servers really answer: failover must leave the family."""
        ...

    @property
    def offers(self) -> Mapping[str, Offer]:
        """What it has, by dataset name."""
        ...

    @property
    def rates(self) -> Sequence[Rate]:
        """Every window that must hold at once, for cost and waiting time."""
        ...

    @property
    def concurrency(self) -> int:
        """How many requests may be under way at once."""
        ...

    def fetch(self, request: Request) -> AsyncIterator[Frame]:
        """Canonical frames, ascending and without exact duplicates; may include suspension frames.

        Raises Unsupported, Denied, Limited, Banned, Unreachable, Malformed. An answer that ends normally is
        complete: whatever is absent from it, the vendor does not have.
        """
        ...

    def calls(self, request: Request) -> int:
        """How many calls of the vendor's budget the request costs."""
        ...

    async def probe(self) -> None:
        """One cheap call; returns when the source answers, raises as ``fetch`` does."""
        ...

    async def aclose(self) -> None:
        """End the lanes; never raises."""
        ...


@runtime_checkable
class Paced(Protocol):
    """A source whose budget may change while it is open; one of a third party need not be."""

    def pace(self, pace: Pace) -> None:
        """Keep to ``pace`` from the next call on; what was called counts in the new windows."""
        ...


_pressing: ContextVar[bool] = ContextVar("pressing", default=False)


@contextmanager
def pressing() -> Iterator[None]:
    """Calls made within are for what nobody can ask for later, live quotes: others leave room for them in a budget."""
    before = _pressing.set(True)
    try:
        yield
    finally:
        _pressing.reset(before)


def is_pressing() -> bool:
    """Whether this is within ``pressing``."""
    return _pressing.get()


@dataclass(frozen=True, slots=True)
class Query:
    """Rows wanted of a table: symbols (empty: all), a window on the time column, columns (empty: all).

    ``limit``: the first so many in key order, texts by their bytes; the database itself leaves the rest out.
    """

    symbols: tuple[Symbol, ...] = ()
    window: Window | None = None
    columns: tuple[str, ...] = ()
    limit: int | None = None


class Sink(Protocol):
    """A database that takes rows."""

    @property
    def name(self) -> str: ...

    async def write(self, table: Table, rows: pa.RecordBatch) -> None:
        """Upsert by the table's key; returns when durable.

        The rows hold each key once. Raises Rejected (what is in the rows), Unavailable (try again later).
        """
        ...

    async def read(self, table: Table, query: Query) -> pa.Table:
        """Rows in key order."""
        ...

    async def ping(self) -> None:
        """Returns when the database answers; raises Unavailable."""
        ...


@runtime_checkable
class Streaming(Protocol):
    """A sink that can give rows as they are taken, so that the whole of a long answer is never in memory."""

    def stream(self, table: Table, query: Query) -> AsyncGenerator[pa.RecordBatch, None]:
        """As ``Sink.read``, in batches. Whoever leaves before the end closes it."""
        ...


@dataclass(frozen=True, slots=True)
class Spooled:
    """One batch in the spool. ``at`` is when it was put there, aware."""

    id: int
    target: str
    at: datetime
    rows: pa.RecordBatch


class Backlog(Protocol):
    """The durable queue in front of sinks that are away; a target is a table's full name."""

    def holds(self, target: str) -> bool:
        """Whether a batch of the target waits."""
        ...

    @property
    def targets(self) -> Collection[str]:
        """Those of which a batch waits."""
        ...

    def until(self, target: str) -> int | None:
        """No row of the target that waits is newer (as told to ``put``); None: that is not known."""
        ...

    async def put(self, target: str, rows: pa.RecordBatch, *, until: int | None = None) -> None:
        """Durable on return; ``until`` is the newest row's time. Raises Full when there is no room, and Unavailable."""
        ...

    async def oldest(self, target: str, *, most_rows: int) -> list[Spooled]:
        """The oldest batches, at least one where there is any, together at most ``most_rows``."""
        ...

    async def done(self, records: Sequence[Spooled]) -> None:
        """These are durable elsewhere."""
        ...

    async def drop_oldest(self, target: str, *, least_bytes: int) -> int:
        """Make room; how many rows that cost."""
        ...


class SchemaTarget(Protocol):
    """The structure of one store's tables: read, and changed one statement at a time."""

    @property
    def name(self) -> str:
        """The store's name, as in ``MYSTOCKS_STORES``."""
        ...

    @property
    def dialect(self) -> Dialect: ...

    async def databases(self) -> frozenset[str]:
        """Those that exist and this user may see."""
        ...

    async def inspect(self, databases: Iterable[str]) -> Sequence[TableShape]:
        """Every table of these databases, the catalogue read in a few queries a database, never one a table."""
        ...

    async def execute(self, database: str, statement: str) -> None:
        """Run one statement of the dialect's. Raises ConfigError (a missing right is named), Unavailable, Rejected."""
        ...

    async def count(self, table: TableShape) -> int:
        """How many rows it holds."""
        ...

    def lock(self) -> AbstractAsyncContextManager[None]:
        """Held while structure is changed: a second holder waits, and after a while raises Unavailable naming the first."""
        ...


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """All of ``window`` is durable, or known to be absent, for this symbol of this dataset."""

    dataset: str
    symbol: Symbol
    window: Window
    source: str


NO_ROW = "{}"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A row that a check or a sink refused. ``raw`` is the vendor's row as JSON, ``row`` the canonical one.

    ``row`` is NO_ROW where what came could not be read at all.
    """

    dataset: str
    source: str
    symbol: str | None
    time: str | None
    rule: str
    reason: str
    raw: str
    row: str
    at: datetime
    run_id: str = ""


@dataclass(frozen=True, slots=True)
class Run:
    """One command's work, as the run log shows it."""

    id: str
    command: str
    started_at: datetime
    ended_at: datetime | None = None
    status: str = "running"  # running, complete, partial, failed, interrupted
    detail: Mapping[str, object] = field(default_factory=dict)


class Journal(Protocol):
    """The monitor log: runs, checkpoints, dead letters."""

    async def begin(self, run: Run) -> None: ...
    async def end(self, run: Run) -> None: ...
    async def checkpoints(self, dataset: Dataset) -> Sequence[Checkpoint]: ...
    async def checkpoint(self, points: Iterable[Checkpoint]) -> None: ...
    async def forget(self, dataset: Dataset, symbols: Sequence[Symbol]) -> None:
        """These symbols' checkpoints speak of nothing any more."""
        ...

    async def bury(self, letters: Sequence[DeadLetter]) -> None: ...
    async def note(self, source: str, outcome: Outcome, detail: str) -> None: ...


class Doing(StrEnum):
    """What is done to a table, as the monitor log names it."""

    CREATE = "CREATE"
    ALTER = "ALTER"
    DROP = "DROP"
    VALIDATE = "VALIDATE"
    EXPORT = "EXPORT"
    INSERT = "INSERT"
    BACKFILL = "BACKFILL"


class Status(StrEnum):
    """How an operation stands. One that is left in PROCESSING was interrupted."""

    PROCESSING = "processing"
    SUCCESS = "success"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Operation:
    """One change of structure, or one look at it. ``table`` is empty where the database itself is meant.

    ``details`` hold what JSON can. ``made`` is the file's table where one is created, for the log of its columns.
    """

    kind: Doing
    database_type: Database
    database: str
    table: str
    at: datetime
    ddl: str = ""
    details: Mapping[str, object] = field(default_factory=dict)
    made: Table | None = None


@dataclass(frozen=True, slots=True)
class Recorded:
    """An operation in the monitor log. ``id`` is the log's own, the same before and after it was spooled."""

    id: str
    operation: Operation
    status: Status
    error: str = ""


@dataclass(frozen=True, slots=True)
class Validation:
    """What a comparison of one table with the file found; no ``issues``: it passed. Each issue is one sentence."""

    database_type: Database
    database: str
    table: str
    at: datetime
    issues: tuple[str, ...] = ()
    details: Mapping[str, object] = field(default_factory=dict)


class Operations(Protocol):
    """The monitor log of structure.

    What it is told is durable on return: in its database, or in its spool while that is away. Telling it never
    raises for an outage: no change of structure waits for its log.
    """

    async def began(self, operation: Operation) -> str:
        """Note ``operation`` as processing, before it is done; returns its id."""
        ...

    async def ended(self, id: str, status: Status, error: str = "", *, of: Operation | None = None) -> None:  # noqa: A002 - the log's word
        """How it ended. ``of``: the operation itself, where another process noted its beginning."""
        ...

    async def validated(self, found: Sequence[Validation]) -> None: ...

    async def operations(
        self, *, table: str = "", status: Status | None = None, since: datetime | None = None, limit: int = 100
    ) -> Sequence[Recorded]:
        """The latest, newest first; the spooled ones included. Raises Unavailable when the log cannot be read."""
        ...
