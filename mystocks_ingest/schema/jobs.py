"""The reader of ``jobs.yaml``: what to fetch, when, from whom; every complaint with its line and column, all at once."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, NonNegativeInt, PositiveInt, StringConstraints

from mystocks_ingest.errors import ConfigError
from mystocks_ingest.market.datasets import DATASETS
from mystocks_ingest.market.timetable import Every, When, parse
from mystocks_ingest.schema.document.entries import Entry
from mystocks_ingest.schema.document.places import Complaint, Source
from mystocks_ingest.schema.document.salvage import salvaged

_LENGTH = re.compile(r"^(\d+)\s*(s|min|h)$")
_SECONDS = {"s": 1, "min": 60, "h": 3600}
LIVE = frozenset({"quote", "depth", "tick"})
"""Datasets that are collected while they happen, and cannot be fetched afterwards."""


@dataclass(frozen=True, slots=True)
class JobEntry:
    """One job. ``sessions``: how many trading days back from the one it is due for; 0: only what is new by itself.

    ``retries`` with ``retry_after`` between them follow a run that left something missing; ``deadline`` ends a run.
    ``catch_up``: a firing that was missed while the service was down is made up for, once.
    """

    name: str
    when: When
    datasets: tuple[str, ...]
    universe: str
    sources: tuple[str, ...]
    sessions: int
    retries: int
    retry_after: timedelta
    deadline: timedelta
    catch_up: bool
    paused: bool
    text: str  # ``when`` as the file has it

    @property
    def live(self) -> bool:
        return isinstance(self.when, Every) and self.when.in_session


def _listed(value: object) -> object:
    return (value,) if isinstance(value, str) else value


class _Entry(Entry):
    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9_-]{0,62}$")]
    when: str
    datasets: Annotated[tuple[str, ...], BeforeValidator(_listed)]
    universe: str = "all"
    sources: Annotated[tuple[str, ...], BeforeValidator(_listed)] = ("auto",)
    sessions: PositiveInt = 5
    retries: NonNegativeInt = 3
    retry_after: str = "10 min"
    deadline: str = "6 h"
    catch_up: bool = True
    paused: bool = False


def read(path: Path) -> tuple[JobEntry, ...]:
    """The jobs of the file at ``path``, in its order. Raises ConfigError."""
    source = Source(path, "jobs")
    if not isinstance(source.data, dict) or not isinstance(source.data.get("jobs"), list):
        raise ConfigError(source.report([Complaint((), "the file must be a mapping with a list `jobs:`")]))
    complaints = list(source.repeated)
    complaints += [
        Complaint((key,), f"unknown entry {key!r}; known: jobs", on_key=True) for key in source.data if key != "jobs"
    ]
    jobs: list[JobEntry] = []
    names: set[str] = set()
    for number, item in enumerate(source.data["jobs"]):
        found = salvaged(_Entry, item, ("jobs", number), complaints, {})
        if found is None:
            continue
        entry = found.entry
        own = [c for c in _complaints(entry, number) if c.at[2:] not in found.doubtful]
        if entry.name in names:
            own.append(Complaint(("jobs", number, "name"), f"job {entry.name} stands twice"))
        names.add(entry.name)
        complaints += own
        if not own and not found.doubtful:
            jobs.append(_job(entry))
    if complaints:
        raise ConfigError(source.report(complaints))
    return tuple(jobs)


def _complaints(entry: _Entry, number: int) -> Iterator[Complaint]:
    at = ("jobs", number)
    try:
        when: When | None = parse(entry.when)
    except ConfigError as exc:
        when = None
        yield Complaint((*at, "when"), f"{exc} (job {entry.name})")
    if not entry.datasets:
        yield Complaint((*at, "datasets"), f"job {entry.name} names no dataset")
    for name in entry.datasets:
        if name not in DATASETS:
            yield Complaint((*at, "datasets"), f"unknown dataset {name!r} (job {entry.name})")
        elif when is not None and (name in LIVE) != (isinstance(when, Every) and when.in_session):
            remedy = "`every 3 s in session`" if name in LIVE else "a time such as `after close + 30 min`"
            yield Complaint((*at, "when"), f"{name} wants {remedy} (job {entry.name})")
    for name in ("retry_after", "deadline"):
        if not _LENGTH.match(getattr(entry, name)):
            yield Complaint((*at, name), f"`{name}` is a length of time such as 10 min, 2 h or 30 s (job {entry.name})")


def _job(entry: _Entry) -> JobEntry:
    return JobEntry(
        entry.name,
        parse(entry.when),
        entry.datasets,
        entry.universe,
        entry.sources,
        entry.sessions,
        entry.retries,
        _length(entry.retry_after),
        _length(entry.deadline),
        entry.catch_up,
        entry.paused,
        entry.when,
    )


def _length(text: str) -> timedelta:
    match = _LENGTH.match(text)
    if match is None:
        raise ConfigError(f"{text!r} is no length of time")
    return timedelta(seconds=int(match[1]) * _SECONDS[match[2]])
