"""The journal in the embedded store: runs, checkpoints, dead letters, how each source has fared.

Its tables live in the schema ``journal`` of the same file as the rows, so one transaction log serves both and a
copy of the file is a copy of everything.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Protocol, TypeVar

import duckdb
import pyarrow as pa

from mystocks_ingest.errors import ConfigError, Outcome
from mystocks_ingest.logs import get
from mystocks_ingest.market.datasets import Dataset
from mystocks_ingest.market.frames import Symbol, Window
from mystocks_ingest.monitor.letters import MOST_LETTERS, bury
from mystocks_ingest.ports import Checkpoint, DeadLetter, Run

T = TypeVar("T")
log = get("journal")


class Database(Protocol):
    """What the journal needs of the store: work in one transaction, whose statements find ``incoming`` by name."""

    async def run(
        self, work: Callable[[duckdb.DuckDBPyConnection], T], *, incoming: pa.RecordBatch | pa.Table | None = None
    ) -> T: ...


@dataclass(frozen=True, slots=True)
class Buried:
    """A dead letter in the journal. ``seen`` counts how often the same row was refused."""

    id: int
    letter: DeadLetter
    seen: int
    replayed_at: datetime | None


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """How a source has fared. Times are those of the latest call that ended so."""

    source: str
    last_success: datetime | None
    last_failure: datetime | None
    last_outcome: Outcome
    detail: str
    outcomes: Mapping[Outcome, int]


_TABLES = """
CREATE SCHEMA IF NOT EXISTS journal;
CREATE TABLE IF NOT EXISTS journal.run (
    id VARCHAR PRIMARY KEY, command VARCHAR NOT NULL, started_at TIMESTAMP WITH TIME ZONE NOT NULL,
    ended_at TIMESTAMP WITH TIME ZONE, status VARCHAR NOT NULL, detail VARCHAR NOT NULL
);
CREATE TABLE IF NOT EXISTS journal.checkpoint (
    dataset VARCHAR NOT NULL, symbol VARCHAR NOT NULL, "start" DATE NOT NULL, "end" DATE NOT NULL,
    source VARCHAR NOT NULL
);
CREATE SEQUENCE IF NOT EXISTS journal.dead_letter_id;
CREATE TABLE IF NOT EXISTS journal.dead_letter (
    id BIGINT NOT NULL DEFAULT nextval('journal.dead_letter_id'), fingerprint VARCHAR NOT NULL,
    dataset VARCHAR NOT NULL, source VARCHAR NOT NULL, symbol VARCHAR, "time" VARCHAR, rule VARCHAR NOT NULL,
    reason VARCHAR NOT NULL, raw VARCHAR NOT NULL, "row" VARCHAR NOT NULL, "at" TIMESTAMP WITH TIME ZONE NOT NULL,
    run_id VARCHAR NOT NULL, seen BIGINT NOT NULL, replayed_at TIMESTAMP WITH TIME ZONE
);
CREATE TABLE IF NOT EXISTS journal.source_status (
    source VARCHAR NOT NULL, outcome VARCHAR NOT NULL, calls BIGINT NOT NULL,
    last_at TIMESTAMP WITH TIME ZONE NOT NULL, detail VARCHAR NOT NULL, PRIMARY KEY (source, outcome)
);
CREATE TABLE IF NOT EXISTS journal.letter_unkept (
    dataset VARCHAR NOT NULL, source VARCHAR NOT NULL, rule VARCHAR NOT NULL, letters BIGINT NOT NULL,
    PRIMARY KEY (dataset, source, rule)
);
"""
_INSTANT = pa.timestamp("us", tz="UTC")
_TEXTS = ("dataset", "source", "symbol", "time", "rule", "reason", "raw", "row")
_LETTERS = pa.schema(
    [
        ("fingerprint", pa.string()),
        *((name, pa.string()) for name in _TEXTS),
        ("at", _INSTANT),
        ("run_id", pa.string()),
    ]
)
_LETTER_COLUMNS = 'id, dataset, source, symbol, "time", rule, reason, raw, "row", "at", run_id, seen, replayed_at'


_COUNT = (
    "INSERT INTO journal.source_status VALUES (?, ?, ?, ?, ?) ON CONFLICT (source, outcome) "
    "DO UPDATE SET calls = calls + excluded.calls, last_at = excluded.last_at, detail = excluded.detail"
)
_FLUSH_EVERY = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class _Note:
    """Calls of one source that ended alike, and the latest of them."""

    calls: int
    at: datetime
    detail: str


class EmbeddedJournal:
    """ports.Journal in the embedded store. Open with ``await EmbeddedJournal.opened(db, now=clock)``."""

    def __init__(self, database: Database, *, now: Callable[[], datetime], most_letters: int = MOST_LETTERS) -> None:
        self._database = database
        self._now = now
        self._most_letters = most_letters
        self._noted: dict[tuple[str, Outcome], _Note] = {}
        self._flushed_at = now()

    @classmethod
    async def opened(cls, database: Database, *, now: Callable[[], datetime]) -> EmbeddedJournal:
        """The journal, its tables created where they were absent."""
        await database.run(lambda c: c.execute(_TABLES))
        return cls(database, now=now)

    async def begin(self, run: Run) -> None:
        await self._put(run)

    async def end(self, run: Run) -> None:
        await self._flush()
        await self._put(run)

    async def _put(self, run: Run) -> None:
        detail = json.dumps(dict(run.detail), ensure_ascii=False, default=str)
        values = [run.id, run.command, run.started_at, run.ended_at, run.status, detail]
        await self._database.run(
            lambda c: c.execute("INSERT OR REPLACE INTO journal.run VALUES (?, ?, ?, ?, ?, ?)", values)
        )

    async def runs(self, *, limit: int = 20) -> list[Run]:
        """The latest runs, newest first."""
        return await self._runs("ORDER BY started_at DESC, id LIMIT ?", [limit])

    async def running(self) -> list[Run]:
        """Runs that have not ended. The store is one process's at a time, so only its own are still at work."""
        return await self._runs("WHERE status = 'running' ORDER BY started_at, id", [])

    async def _runs(self, which: str, values: Sequence[object]) -> list[Run]:
        statement = f"SELECT id, command, started_at, ended_at, status, detail FROM journal.run {which}"  # noqa: S608
        return [
            Run(
                r["id"],
                r["command"],
                _utc(r["started_at"]),
                _utc_or_none(r["ended_at"]),
                r["status"],
                json.loads(r["detail"]),
            )
            for r in await self._rows(statement, values)
        ]

    async def checkpoints(self, dataset: Dataset) -> list[Checkpoint]:
        """Every window known to be done, by symbol and start."""
        statement = (
            'SELECT symbol, "start", "end", source FROM journal.checkpoint WHERE dataset = ? ORDER BY symbol, "start"'
        )
        found: pa.Table = await self._database.run(lambda c: c.sql(statement, params=[dataset.name]).to_arrow_table())
        columns = (found.column(n).to_pylist() for n in ("symbol", "start", "end", "source"))
        return [
            Checkpoint(dataset.name, Symbol(symbol), Window(start, end), source)
            for symbol, start, end, source in zip(*columns, strict=True)
        ]

    async def checkpoint(self, points: Iterable[Checkpoint]) -> None:
        """Replace all windows of every (dataset, symbol) that ``points`` name by those of ``points``."""
        given = tuple(points)
        if not given:
            return
        incoming = pa.table(
            {
                "dataset": pa.array([p.dataset for p in given], pa.string()),
                "symbol": pa.array([p.symbol for p in given], pa.string()),
                "start": pa.array([p.window.start for p in given], pa.date32()),
                "end": pa.array([p.window.end for p in given], pa.date32()),
                "source": pa.array([p.source for p in given], pa.string()),
            }
        )
        await self._database.run(_replace_windows, incoming=incoming)

    async def forget(self, dataset: Dataset, symbols: Sequence[Symbol] = ()) -> None:
        """Drop the checkpoints of ``symbols`` (empty: of the whole dataset), so that they are fetched again."""
        condition, values = "dataset = ?", [dataset.name, *([list(symbols)] if symbols else [])]
        if symbols:
            condition += " AND symbol IN (SELECT unnest(?))"
        statement = f"DELETE FROM journal.checkpoint WHERE {condition}"  # noqa: S608 - constant text
        await self._database.run(lambda c: c.execute(statement, values))

    async def bury(self, letters: Sequence[DeadLetter]) -> None:
        """Keep refused rows. One that was refused before for the same rule is counted, not kept twice.

        A vendor that begins to send another unit has thousands refused with every poll: of ``MOST_LETTERS`` open ones
        of a dataset, source and rule further ones are counted only. What was acknowledged to whoever delivered it, or
        waited in the spool, is kept always.
        """
        if not letters:
            return
        newest = {_fingerprint(letter): letter for letter in letters}
        rows = [(mark, *astuple(letter)) for mark, letter in newest.items()]
        columns = zip(*rows, strict=True)
        incoming = pa.table(
            [pa.array(column, field.type) for column, field in zip(columns, _LETTERS, strict=True)], schema=_LETTERS
        )
        unkept: list[tuple[str, str, str, int]] = await self._database.run(
            partial(bury, most=self._most_letters), incoming=incoming
        )
        for dataset, source, rule, count in unkept:
            log.warning(
                "letters.unkept", dataset=dataset, source=source, rule=rule, rows=count, kept=self._most_letters
            )

    async def letters(
        self,
        *,
        dataset: str | None = None,
        rule: str | None = None,
        source: str | None = None,
        symbol: str | None = None,
        run_id: str | None = None,
        replayed: bool | None = False,
        limit: int = 50,
        offset: int = 0,
    ) -> list[Buried]:
        """A page of dead letters, oldest first. ``replayed=None`` lists open and replayed ones alike."""
        condition, values = _condition(
            {"dataset": dataset, "rule": rule, "source": source, "symbol": symbol, "run_id": run_id}, replayed
        )
        statement = (
            f"SELECT {_LETTER_COLUMNS} FROM journal.dead_letter WHERE {condition} "  # noqa: S608 - constant names
            "ORDER BY id LIMIT ? OFFSET ?"
        )
        return [_buried(row) for row in await self._rows(statement, [*values, limit, offset])]

    async def letter(self, number: int) -> Buried:
        """One dead letter. Raises ConfigError when there is none of that number."""
        statement = f"SELECT {_LETTER_COLUMNS} FROM journal.dead_letter WHERE id = ?"  # noqa: S608 - constant names
        rows = await self._rows(statement, [number])
        if not rows:
            raise ConfigError(f"no dead letter {number}: `dead-letters list` shows those there are")
        return _buried(rows[0])

    async def letter_counts(
        self, *, run_id: str | None = None, replayed: bool | None = False
    ) -> dict[tuple[str, str, str], int]:
        """How many rows were refused, by (dataset, source, rule); those that were counted only among them."""
        condition, values = _condition({"run_id": run_id}, replayed)
        statement = (
            f"SELECT dataset, source, rule, count(*) AS letters FROM journal.dead_letter WHERE {condition} "  # noqa: S608
            "GROUP BY ALL ORDER BY ALL"
        )
        rows = await self._rows(statement, values)
        counts = Counter({(r["dataset"], r["source"], r["rule"]): r["letters"] for r in rows})
        if run_id is None and not replayed:
            for r in await self._rows("SELECT * FROM journal.letter_unkept ORDER BY ALL", []):
                counts[r["dataset"], r["source"], r["rule"]] += r["letters"]
        return dict(counts)

    async def mark_replayed(self, numbers: Sequence[int], *, at: datetime) -> None:
        """These rows have been accepted after all."""
        statement = "UPDATE journal.dead_letter SET replayed_at = ? WHERE id IN (SELECT unnest(?))"
        await self._database.run(lambda c: c.execute(statement, [at, list(numbers)]))

    async def note(
        self, source: str, outcome: Outcome, detail: str, *, calls: int = 1, at: datetime | None = None
    ) -> None:
        """Count calls' outcome. Counts reach the file at most once a second: a kill may lose the last ones."""
        now = self._now()
        before = self._noted[source, outcome].calls if (source, outcome) in self._noted else 0
        self._noted[source, outcome] = _Note(before + calls, at or now, detail)
        if abs(now - self._flushed_at) >= _FLUSH_EVERY:
            await self._flush()

    async def _flush(self) -> None:
        noted, self._noted = self._noted, {}
        self._flushed_at = self._now()
        if noted:
            rows = [[source, outcome.value, n.calls, n.at, n.detail] for (source, outcome), n in noted.items()]
            await self._database.run(lambda c: c.executemany(_COUNT, rows))

    async def statuses(self) -> list[SourceStatus]:
        """One entry for each source that was ever called, by name."""
        await self._flush()
        rows = await self._rows(
            "SELECT source, outcome, calls, last_at, detail FROM journal.source_status ORDER BY source, last_at", []
        )
        by_source: dict[str, dict[Outcome, _Note]] = {}
        for r in rows:
            note = _Note(r["calls"], _utc(r["last_at"]), r["detail"])
            by_source.setdefault(r["source"], {})[Outcome(r["outcome"])] = note
        return [_status(source, notes) for source, notes in by_source.items()]

    async def _rows(self, statement: str, values: Sequence[object]) -> list[dict[str, Any]]:
        """Through Arrow: DuckDB's own rows need pytz for instants."""
        found: pa.Table = await self._database.run(lambda c: c.sql(statement, params=list(values)).to_arrow_table())
        return found.to_pylist()  # type: ignore[no-any-return]


def _replace_windows(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute(
        "DELETE FROM journal.checkpoint AS c USING (SELECT DISTINCT dataset, symbol FROM incoming) AS i "
        "WHERE c.dataset = i.dataset AND c.symbol = i.symbol"
    )
    connection.execute('INSERT INTO journal.checkpoint SELECT dataset, symbol, "start", "end", source FROM incoming')


def _fingerprint(letter: DeadLetter) -> str:
    """The same vendor row refused by the same rule is the same letter, whichever run met it."""
    parts = (letter.dataset, letter.source, letter.symbol or "", letter.time or "", letter.rule, letter.raw)
    return hashlib.blake2b("\x1f".join(parts).encode(), digest_size=16).hexdigest()


def _condition(equal: Mapping[str, str | None], replayed: bool | None) -> tuple[str, list[str]]:  # noqa: FBT001
    given = {name: value for name, value in equal.items() if value is not None}
    terms = [f"{name} = ?" for name in given]
    if replayed is not None:
        terms.append(f"replayed_at IS {'NOT ' if replayed else ''}NULL")
    return " AND ".join(terms) or "true", list(given.values())


def _buried(row: Mapping[str, Any]) -> Buried:
    letter = DeadLetter(**{name: row[name] for name in _TEXTS}, at=_utc(row["at"]), run_id=row["run_id"])
    return Buried(row["id"], letter, row["seen"], _utc_or_none(row["replayed_at"]))


def _status(source: str, notes: Mapping[Outcome, _Note]) -> SourceStatus:
    """``notes`` are ascending by time."""
    good = [n.at for o, n in notes.items() if o in (Outcome.OK, Outcome.EMPTY)]
    bad = [n.at for o, n in notes.items() if o not in (Outcome.OK, Outcome.EMPTY)]
    last = list(notes)[-1]
    return SourceStatus(
        source,
        good[-1] if good else None,
        bad[-1] if bad else None,
        last,
        notes[last].detail,
        {outcome: note.calls for outcome, note in notes.items()},
    )


def _utc(value: datetime) -> datetime:
    return value.astimezone(UTC)


def _utc_or_none(value: datetime | None) -> datetime | None:
    return None if value is None else _utc(value)
