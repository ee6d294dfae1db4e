"""Tables as ``config/tables.yaml`` describes them, and the routes from dataset to table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from mystocks_ingest.market.datasets import Dataset


class Database(StrEnum):
    """Where a table lives."""

    TDENGINE = "TDengine"
    POSTGRESQL = "PostgreSQL"
    REDIS = "Redis"
    MYSQL = "MySQL"
    MARIADB = "MariaDB"
    EMBEDDED = "Embedded"


class Route(StrEnum):
    """Whether a dataset's rows must reach this table before they count as stored."""

    REQUIRED = "required"
    BEST_EFFORT = "best_effort"


@dataclass(frozen=True, slots=True)
class Column:
    """One column in the seed format's terms; ``type`` is the YAML's word, upper case, without length."""

    name: str
    type: str
    length: int | None = None
    precision: int | None = None
    scale: int | None = None
    nullable: bool = True
    default: str | int | float | bool | None = None
    comment: str = ""
    is_tag: bool = False


@dataclass(frozen=True)
class Table:
    """One table. ``key`` is what makes a row unique; a table without one cannot be written to."""

    name: str
    database_type: Database
    database_name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...] = ()
    dataset: Dataset | None = None
    route: Route = Route.REQUIRED
    time_column: str | None = None
    comment: str = ""


class Tables:
    """All tables of one file, and the routes."""

    def __init__(self, tables: Sequence[Table]) -> None:
        self.all: tuple[Table, ...] = tuple(tables)
        routes: dict[str, list[Table]] = {}
        for table in self.all:
            if table.dataset is not None:
                routes.setdefault(table.dataset.name, []).append(table)
        self._routes: Mapping[str, tuple[Table, ...]] = {k: tuple(v) for k, v in routes.items()}

    def routes(self, dataset: Dataset) -> tuple[Table, ...]:
        """The tables that hold ``dataset``; ConfigError when there is none."""
        raise NotImplementedError


def load(path: Path) -> Tables:
    """Read the YAML. Raises ConfigError with file, line and column of every complaint, all at once."""
    raise NotImplementedError
