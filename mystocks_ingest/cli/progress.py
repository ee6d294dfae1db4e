"""Progress of a backfill: a live table on a terminal, plain lines elsewhere, JSON lines for machines.

All three are told the same things by the flow (its ``Watch`` protocol) and keep the same tally.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TextIO

import click

from mystocks_ingest.cli.printing import dumps, duration

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mystocks_ingest.errors import Outcome
    from mystocks_ingest.flow.plan import PlanLine
    from mystocks_ingest.flow.report import Report, Watch

LINE_SECONDS = 5.0  # between two plain lines
PAINTS_PER_SECOND = 4

Monotonic = Callable[[], float]


@dataclass
class Count:
    """What has happened to one dataset so far. Calls are counted by source: a plan is a source's own."""

    began: float
    rows: int = 0
    refused: int = 0
    failures: int = 0
    calls_made: int = 0
    last: float = 0.0  # when rows or calls last came
    _left: dict[str, int] = field(default_factory=dict)

    def planned(self, source: str, calls: int) -> None:
        """A new round: what is left of the source's last plan is part of this one, or will not be asked."""
        self._left[source] = calls

    def made(self, source: str, calls: int) -> None:
        self.calls_made += calls
        self._left[source] = max(self._left.get(source, 0) - calls, 0)

    def calls_left(self) -> int:
        return sum(self._left.values())

    def rows_per_second(self) -> float:
        """Up to the last row: a dataset that is done does not grow slower. One answer's pace is its whole second's."""
        return self.rows / max(self.last - self.began, 1.0)

    def seconds_left(self, now: float) -> float | None:
        """At the pace so far; None until there is one, and when nothing is left."""
        if not self.calls_left() or not self.calls_made:
            return None
        return self.calls_left() * (now - self.began) / self.calls_made


@dataclass
class Tally:
    """Counts by dataset, in the order in which the datasets were planned."""

    clock: Monotonic = time.monotonic
    counts: dict[str, Count] = field(default_factory=dict)

    def of(self, dataset: str) -> Count:
        return self.counts.setdefault(dataset, Count(began=self.clock()))

    def lines(self) -> Iterator[tuple[str, ...]]:
        """Cells of one line per dataset: name, rows, rows/s, calls left, time left, refused, failed."""
        now = self.clock()
        for name, count in self.counts.items():
            left = count.seconds_left(now)
            yield (
                name,
                f"{count.rows:,}",
                f"{count.rows_per_second():,.0f}",
                f"{count.calls_left():,}",
                "" if left is None else duration(left),
                f"{count.refused:,}" if count.refused else "",
                f"{count.failures:,}" if count.failures else "",
            )


class _Progress:
    """Keeps the tally; what is shown, and when, is the business of ``show`` and ``tell``."""

    def __init__(self, clock: Monotonic = time.monotonic) -> None:
        self.tally = Tally(clock)
        self.away: dict[str, float] = {}  # store -> when it was first missed

    def planned(self, line: PlanLine) -> None:
        self.tally.of(line.dataset).planned(line.source, line.calls)
        self.tell("planned", dataset=line.dataset, source=line.source, calls=line.calls, requests=line.requests)

    def fetched(self, dataset: str, source: str, *, rows: int, calls: int) -> None:
        count = self.tally.of(dataset)
        count.made(source, calls)
        count.rows += rows
        count.last = self.tally.clock()
        self.tell("fetched", dataset=dataset, source=source, rows=rows, calls=calls)

    def refused(self, dataset: str, source: str, rule: str, rows: int) -> None:
        self.tally.of(dataset).refused += rows
        self.tell("refused", dataset=dataset, source=source, rule=rule, rows=rows)

    def failed(self, dataset: str, source: str, outcome: Outcome, reason: str) -> None:
        self.tally.of(dataset).failures += 1
        self.tell("failed", dataset=dataset, source=source, outcome=str(outcome), reason=reason)

    def waiting(self, store: str, seconds: float, reason: str) -> None:
        self.away[store] = self.tally.clock() - seconds
        self.tell("waiting", store=store, seconds=round(seconds, 1), reason=reason)

    def returned(self, store: str, seconds: float) -> None:
        self.away.pop(store, None)
        self.tell("returned", store=store, seconds=round(seconds, 1))

    def waited_for(self) -> Iterator[str]:
        """A line per database that is away: ``waiting for postgresql, since 12 s``."""
        now = self.tally.clock()
        for store, since in self.away.items():
            yield f"waiting for {store}, since {now - since:.0f} s"

    def done(self, report: Report) -> None:
        """The report is printed by the command, after the progress has left the screen."""

    def tell(self, event: str, **values: str | float) -> None:
        """Something happened; show what is due."""


class JsonLines(_Progress):
    """One JSON object per event, on stdout."""

    def tell(self, event: str, **values: str | float) -> None:
        click.echo(dumps({"event": event, **values}))


class PlainLines(_Progress):
    """A line per dataset every few seconds, and one the first time a source fails in a new way; on stderr."""

    def __init__(self, clock: Monotonic = time.monotonic, file: TextIO | None = None) -> None:
        super().__init__(clock)
        self._file = file if file is not None else sys.stderr
        self._said_at = clock()
        self._troubles: set[tuple[str | float, ...]] = set()
        self._waits_said: dict[str | float, float] = {}  # store -> when it was last said that it is away
        self._told: dict[str, tuple[str, ...]] = {}

    def tell(self, event: str, **values: str | float) -> None:
        if event == "planned":
            self._say("{dataset}: {calls:,} calls to {source} planned".format(**values))
        elif event == "failed":
            trouble = (values["dataset"], values["source"], values["outcome"])
            if trouble not in self._troubles:
                self._troubles.add(trouble)
                self._say("{dataset}: {source} {outcome}: {reason}".format(**values))
        elif event == "waiting":
            now = self.tally.clock()
            if now - self._waits_said.get(values["store"], -LINE_SECONDS) >= LINE_SECONDS:
                self._waits_said[values["store"]] = now
                self._say(f"waiting for {values['store']}, since {float(values['seconds']):.0f} s: {values['reason']}")
        elif event == "returned":
            self._waits_said.pop(values["store"], None)
            self._say(f"{values['store']} is back after {float(values['seconds']):.0f} s")
        if self.tally.clock() - self._said_at >= LINE_SECONDS:
            self._said_at = self.tally.clock()
            for line in self._changed():
                self._say(line)

    def _changed(self) -> Iterator[str]:
        """Lines of the datasets for which something happened since they were last told."""
        for name, *cells in self.tally.lines():
            rows, pace, calls, left, refused, failed = cells
            if self._told.get(name) == (rows, calls, refused, failed):
                continue
            self._told[name] = (rows, calls, refused, failed)
            tail = (f", about {left}" if left else "") + (f", {refused} refused" if refused else "")
            tail += f", {failed} failed calls" if failed else ""
            yield f"{name}: {rows} rows ({pace}/s), {calls} calls left{tail}"

    def _say(self, line: str) -> None:
        click.echo(line, file=self._file)


class Screen(_Progress):
    """A table that is painted anew a few times a second; rich reads it when it paints."""

    def __init__(self, clock: Monotonic = time.monotonic) -> None:
        super().__init__(clock)
        self._trouble = ""

    def tell(self, event: str, **values: str | float) -> None:
        if event == "failed":
            self._trouble = "{dataset}: {source} {outcome}: {reason}".format(**values)

    def __rich__(self) -> RenderableType:
        from rich import box
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column("dataset")
        for name in ("rows", "rows/s", "calls left", "time left", "refused", "failed calls"):
            table.add_column(name, justify="right")
        for cells in self.tally.lines():
            table.add_row(*cells)
        said = [*self.waited_for(), *([f"last trouble: {self._trouble}"] if self._trouble else [])]
        return Group(table, *(Text(line, style="yellow", overflow="ellipsis", no_wrap=True) for line in said))


class _Reconfigure(Protocol):
    def __call__(self) -> None: ...


@contextmanager
def watching(*, json: bool, relog: _Reconfigure) -> Iterator[Watch]:
    """The progress fit for where stdout and stderr go.

    ``relog`` points the logs at the present ``sys.stderr``: while the live table stands, rich replaces it so
    that a log line appears above the table.
    """
    if json:
        yield JsonLines()
    elif not sys.stderr.isatty():
        yield PlainLines()
    else:
        from rich.console import Console
        from rich.live import Live

        screen = Screen()
        console = Console(stderr=True)
        with Live(get_renderable=lambda: screen, console=console, refresh_per_second=PAINTS_PER_SECOND):
            relog()
            yield screen
        relog()
