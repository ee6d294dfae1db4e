"""The structure of one table in a database's own terms, wanted or found, so that the two can be compared.

A dialect turns a Table of the file into the shape the database's catalogue would show of it, with types, defaults and
options in that database's normal spelling; a catalogue query gives the shape that is there. Equal shapes, no change.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_PART = re.compile(r" ?\(\d+\)(?= |$)| (?:ASC|DESC)$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ColumnShape:
    """One column. ``type`` and ``default`` are in the database's normal spelling (``varchar(20)``, ``now()``).

    ``numbered``: the database counts its values up. ``touched``: set to the time of each update.
    """

    name: str
    type: str
    nullable: bool = True
    default: str | None = None
    comment: str = ""
    numbered: bool = False
    touched: bool = False
    is_tag: bool = False


@dataclass(frozen=True, slots=True)
class IndexShape:
    """One index beside the key. A column reads ``trade_date``, ``trade_date DESC``, or ``name(20)`` for its beginning."""

    name: str
    columns: tuple[str, ...]
    unique: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """Its columns' bare names."""
        return tuple(_PART.sub("", column) for column in self.columns)


@dataclass(frozen=True)
class TableShape:
    """One table. ``options`` are what is set beyond columns, by the dialect's own words: ``chunk`` -> ``180 days``."""

    database: str
    name: str
    columns: tuple[ColumnShape, ...]
    key: tuple[str, ...] = ()
    indexes: tuple[IndexShape, ...] = ()
    comment: str = ""
    options: tuple[tuple[str, str], ...] = ()

    def column(self, name: str) -> ColumnShape | None:
        return next((c for c in self.columns if c.name == name), None)

    @property
    def settings(self) -> Mapping[str, str]:
        return dict(self.options)

    def __str__(self) -> str:
        return f"{self.database}.{self.name}" if self.database else self.name
