"""How errands and their results travel: as JSON by their types, and what is told meanwhile line by line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import cache
from typing import Any

from pydantic import TypeAdapter

from mystocks_ingest.control import Tell
from mystocks_ingest.errors import Outcome
from mystocks_ingest.flow.plan import PlanLine
from mystocks_ingest.flow.report import Report, Watch


@dataclass(frozen=True)
class Teller:
    """A watch at the other end of the line. Losing an event loses no more than a figure of the progress."""

    tell: Tell

    def planned(self, line: PlanLine) -> None:
        self.tell({"told": "planned", "line": sent(PlanLine, line)})

    def fetched(self, dataset: str, source: str, *, rows: int, calls: int) -> None:
        self.tell({"told": "fetched", "dataset": dataset, "source": source, "rows": rows, "calls": calls})

    def refused(self, dataset: str, source: str, rule: str, rows: int) -> None:
        self.tell({"told": "refused", "dataset": dataset, "source": source, "rule": rule, "rows": rows})

    def failed(self, dataset: str, source: str, outcome: Outcome, reason: str) -> None:
        self.tell({"told": "failed", "dataset": dataset, "source": source, "outcome": outcome.value, "reason": reason})

    def waiting(self, store: str, seconds: float, reason: str) -> None:
        self.tell({"told": "waiting", "store": store, "seconds": seconds, "reason": reason})

    def returned(self, store: str, seconds: float) -> None:
        self.tell({"told": "returned", "store": store, "seconds": seconds})

    def done(self, report: Report) -> None:
        """The report is the answer."""


def hears(watch: Watch) -> Tell:
    def hear(line: Mapping[str, object]) -> None:
        values: dict[str, Any] = {name: value for name, value in line.items() if name != "told"}
        match line["told"]:
            case "planned":
                watch.planned(received(PlanLine, values["line"]))
            case "fetched":
                watch.fetched(**values)
            case "refused":
                watch.refused(**values)
            case "failed":
                watch.failed(**{**values, "outcome": Outcome(values["outcome"])})
            case "waiting":
                watch.waiting(**values)
            case "returned":
                watch.returned(**values)

    return hear


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def sent(kind: Any, value: object) -> object:
    """``value``, of the type ``kind``, as JSON can hold it: a mapping whose keys are tuples as a list of pairs."""
    return _plain(_adapter(kind).dump_python(value))


def received(kind: Any, value: object) -> Any:
    """The other way. Raises ValidationError."""
    return _adapter(kind).validate_python(_keyed(value))


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        if all(isinstance(key, str) for key in value):
            return {key: _plain(inner) for key, inner in value.items()}
        return {"": [[_plain(key), _plain(inner)] for key, inner in value.items()]}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(inner) for inner in value]
    return value.isoformat() if isinstance(value, date) else value


def _keyed(value: object) -> object:
    if isinstance(value, list):
        return [_keyed(inner) for inner in value]
    if isinstance(value, dict):
        if set(value) == {""}:
            return {tuple(key) if isinstance(key, list) else key: _keyed(inner) for key, inner in value[""]}
        return {key: _keyed(inner) for key, inner in value.items()}
    return value
