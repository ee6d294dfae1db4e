"""Entries out of what is partly wrong: each mistake is one complaint, and what is left is looked at as well."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from mystocks_ingest.schema.document.entries import Entry
from mystocks_ingest.schema.document.places import SPELLINGS, Complaint, Place

_Model = TypeVar("_Model", bound=Entry)
_SECRET = ("password", "secret", "token", "url", "api_key")
_PLACEHOLDERS: Mapping[str, str] = {
    "type": "TEXT",
    "database_type": "Embedded",
    "database_name": "unreadable",
    "table_name": "unreadable",
    "pattern": "unreadable",
}


@dataclass(frozen=True)
class Salvaged(Generic[_Model]):
    """``doubtful`` are the places complained of; nothing more is said of them."""

    entry: _Model
    doubtful: tuple[Place, ...] = ()


def salvaged(
    model: type[_Model], item: object, base: Place, complaints: list[Complaint], context: Mapping[str, object]
) -> Salvaged[_Model] | None:
    """The entry at ``base``, without what is wrong in it; None when nothing can be made of it."""
    try:
        return Salvaged(model.model_validate(item, context=dict(context)))
    except ValidationError as exc:
        errors: list[Any] = list(exc.errors(include_url=False))
    misspelt = dict(_misspelt(errors))
    errors = [e for e in errors if _within(e) not in misspelt.values()]
    complaints += [_translated(model, error, base, item, misspelt) for error in errors]
    if not isinstance(item, dict):
        return None
    rest = copy.deepcopy(item)
    for wrong, right in misspelt.items():
        holder = _holder(rest, wrong)
        holder[right[-1]] = holder.pop(wrong[-1])
    places = [_within(error) for error in errors if _within(error) not in misspelt]
    for error in errors:
        if _within(error) not in misspelt:
            _mend(rest, _within(error), missing=error["type"] == "missing")
    try:
        return Salvaged(model.model_validate(rest, context=dict(context)), tuple(places))
    except ValidationError:
        return None


def _misspelt(errors: list[Any]) -> Iterator[tuple[Place, Place]]:
    """Unknown entries that are meant for a missing one: one mistake, not two."""
    unknown = [_within(e) for e in errors if e["type"] == "extra_forbidden"]
    for missing in [_within(e) for e in errors if e["type"] == "missing"]:
        beside = [
            str(u[-1]) for u in unknown if u[:-1] == missing[:-1] and abs(len(str(u[-1])) - len(str(missing[-1]))) < 3
        ]
        for near in get_close_matches(str(missing[-1]), beside, n=1, cutoff=0.7):
            yield (*missing[:-1], near), missing


def _holder(rest: Any, place: Place) -> Any:
    for step in place[:-1]:
        rest = rest[_spelling(rest, step)]
    return rest


def _within(error: Any) -> Place:
    """Where in the entry the error is; the names of a union's members, in angle brackets, are no part of the file."""
    return tuple(step for step in error["loc"] if not (isinstance(step, str) and step.startswith("<")))


def _mend(rest: dict[str, Any], loc: Place, *, missing: bool) -> None:
    """Take out what is wrong at ``loc``, or put something harmless there where something must stand."""
    holder: Any = rest
    trail: list[tuple[Any, str | int]] = []
    for step in loc[:-1]:
        key = _spelling(holder, step)
        if key is None:
            break
        trail.append((holder, key))
        holder = holder[key]
    last = loc[-1] if loc else None
    if isinstance(last, int) and len(loc) == 2 and isinstance(holder, list):
        match loc[0]:
            case "columns" | "tags":
                holder[last] = {"name": f"unreadable_{last}", "type": "TEXT"}
            case "indexes":
                holder[last] = {"name": f"unreadable_{last}", "columns": ["unreadable"]}
            case _:
                rest.pop(str(_spelling(rest, loc[0]) or loc[0]), None)
    elif isinstance(holder, dict) and last is not None:
        key = _spelling(holder, last) or last
        if last == "name" and loc[0] in ("columns", "tags") and len(loc) == 3:
            holder[key] = f"unreadable_{loc[1]}"
        elif last == "columns" and loc[0] == "indexes":
            holder[key] = ["unreadable"]
        elif last == "columns" and len(loc) == 1:
            holder[key] = [{"name": "unreadable", "type": "TEXT"}]
        elif missing or last in _PLACEHOLDERS:
            holder[key] = _PLACEHOLDERS.get(str(last), "unreadable")
        else:
            holder.pop(key, None)
    elif trail:  # within a list or a short form: the whole of it goes
        parent, key = trail[0]
        if loc[0] == "indexes" and len(trail) > 1:
            trail[1][0][trail[1][1]] = {"name": f"unreadable_{trail[1][1]}", "columns": ["unreadable"]}
        elif isinstance(parent, dict):
            parent.pop(key, None)


def _spelling(holder: Any, step: str | int) -> Any:
    """The key under which ``step`` stands in ``holder``."""
    if isinstance(holder, list):
        return step if isinstance(step, int) and step < len(holder) else None
    if not isinstance(holder, dict):
        return None
    return next((n for n in (step, *SPELLINGS.get(str(step), ())) if n in holder), None)


def _translated(
    model: type[BaseModel], error: Any, base: Place, item: object, misspelt: Mapping[Place, Place]
) -> Complaint:
    """A pydantic error in the words of the file. A secret's value is not repeated."""
    at: Place = base + _within(error)
    name = f" of table {item['table_name']}" if isinstance(item, dict) and "table_name" in item else ""
    last = at[-1]
    match error["type"]:
        case "missing":
            return Complaint(at[:-1], f"`{last}` is missing{name}")
        case "extra_forbidden":
            known = ", ".join(_known(model, _within(error)[:-1]))
            meant = f", is `{misspelt[_within(error)][-1]}` meant?" if _within(error) in misspelt else ""
            return Complaint(at, f"unknown entry `{last}`{name}{meant}; known: {known}", on_key=True)
        case "enum":
            return Complaint(at, f"`{last}` is {error['input']!r}; it must be {error['ctx']['expected']}")
        case "value_error":
            return Complaint(at, f"`{last}`{name}: {error['ctx']['error']!s}")
        case "string_type" if isinstance(error["input"], bool):
            remedy = "YAML reads yes, no, on and off as true and false: put quotes round it"
            return Complaint(at, f"`{last}`{name} is {error['input']!r}, not text; {remedy}")
        case _:
            said = f"{error['msg'][:1].lower()}{error['msg'][1:]}"
            given = error["input"]
            shown = isinstance(given, str | int | float) and not any(w in str(last).lower() for w in _SECRET)
            return Complaint(at, f"`{last}`{name}: {said}{f', not {given!r}' if shown else ''}")


def _known(model: type[BaseModel], loc: Place) -> Iterator[str]:
    """The entries of the model in which ``loc`` lies."""
    found: type[BaseModel] = model
    for step in loc:
        if isinstance(step, str) and step in found.model_fields:
            found = _inner(found.model_fields[step].annotation) or found
    yield from found.model_fields


def _inner(annotation: Any) -> type[BaseModel] | None:
    """The model somewhere in a type, such as ``tuple[ColumnEntry, ...] | None``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for part in (*getattr(annotation, "__args__", ()), *getattr(annotation, "__metadata__", ())):
        if (found := _inner(part)) is not None:
            return found
    return None
