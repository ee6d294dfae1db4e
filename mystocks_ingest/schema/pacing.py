"""The reader of ``pacing.yaml``: how often each vendor is called; every complaint with its line and column, all at once."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, PositiveInt

from mystocks_ingest.errors import ConfigError
from mystocks_ingest.schema.document.entries import Entry
from mystocks_ingest.schema.document.places import Complaint, Place, Source
from mystocks_ingest.schema.document.salvage import salvaged
from mystocks_ingest.schema.paces import Calls, Pace

FILE = "pacing.yaml"
_SECONDS = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0, "day": 86_400.0}
_LENGTH = re.compile(r"^(\d+(?:\.\d+)?)?\s*(ms|s|min|h|day)$")
_CALLS = re.compile(r"^(\d{1,9})\s*/\s*(\S.*)$")
_SHORTEST, _LONGEST = 0.001, 31 * 86_400.0  # seconds


def _listed(value: object) -> object:
    return (value,) if isinstance(value, str) else value


_Listed = Annotated[tuple[str, ...], BeforeValidator(_listed)]


class _Breaker(Entry):
    strikes: PositiveInt | None = None
    rest: str | None = None


class _Source(Entry):
    calls: _Listed | None = None
    each_api: _Listed | None = None
    by_api: dict[str, _Listed] | None = None
    spacing: str | None = None
    breaker: _Breaker | None = None


def read(path: Path, known: Collection[str]) -> Mapping[str, Pace]:
    """The paces of the file at ``path``, by source; a file that is not there says nothing. Raises ConfigError.

    ``known`` are the sources there are.
    """
    if not path.exists():
        return {}
    source = Source(path, "sources")
    if not isinstance(source.data, dict) or not isinstance(source.data.get("sources") or {}, dict):
        raise ConfigError(source.report([Complaint((), "the file must be a mapping with a mapping `sources:`")]))
    complaints = list(source.repeated)
    complaints += [
        Complaint((key,), f"unknown entry {key!r}; known: sources", on_key=True)
        for key in source.data
        if key != "sources"
    ]
    paces: dict[str, Pace] = {}
    for name, item in (source.data.get("sources") or {}).items():
        at: Place = ("sources", name)
        if name not in known:
            complaints.append(Complaint(at, f"unknown source {name!r}; known: {', '.join(known)}", on_key=True))
            continue
        found = salvaged(_Source, item if item is not None else {}, at, complaints, {})
        if found is not None:
            own = list(_complaints(found.entry, at))
            complaints += [c for c in own if c.at[2:] not in found.doubtful]
            if not own:
                paces[str(name)] = _pace(found.entry)
    if complaints:
        raise ConfigError(source.report(complaints))
    return paces


def _complaints(entry: _Source, at: Place) -> Iterator[Complaint]:
    lists: list[tuple[Place, Sequence[str]]] = [
        ((*at, "calls"), entry.calls or ()),
        ((*at, "each_api"), entry.each_api or ()),
    ]
    lists += [((*at, "by_api", api), texts) for api, texts in (entry.by_api or {}).items()]
    for place, texts in lists:
        for number, text in enumerate(texts):
            if _calls(text) is None:
                form = "calls / time, such as 160 / min, 1 / 3 s or 40000 / day"
                yield Complaint((*place, number), f"{text!r} of {at[1]} is not {form}")
    rest = entry.breaker.rest if entry.breaker is not None else None
    for place, length in (((*at, "spacing"), entry.spacing), ((*at, "breaker", "rest"), rest)):
        if length is not None and _length(length) is None:
            form = "a length of time such as 500 ms, 2 s or 30 min"
            yield Complaint(place, f"`{place[-1]}` of {at[1]} is {form}, not {length!r}")


def _pace(entry: _Source) -> Pace:
    breaker = entry.breaker or _Breaker()
    return Pace(
        _all(entry.calls),
        _all(entry.each_api),
        None if entry.by_api is None else {api: _all(texts) or () for api, texts in entry.by_api.items()},
        None if entry.spacing is None else _length(entry.spacing),
        breaker.strikes,
        None if breaker.rest is None else _length(breaker.rest),
    )


def _all(texts: Sequence[str] | None) -> tuple[Calls, ...] | None:
    return None if texts is None else tuple(found for text in texts if (found := _calls(text)) is not None)


def _calls(text: str) -> Calls | None:
    match = _CALLS.match(text.strip())
    seconds = _length(match[2]) if match is not None else None
    if match is None or seconds is None or int(match[1]) < 1 or not _SHORTEST <= seconds <= _LONGEST:
        return None
    return Calls(int(match[1]), seconds)


def _length(text: str) -> float | None:
    match = _LENGTH.match(text.strip())
    return None if match is None else float(match[1] or 1) * _SECONDS[match[2]]
