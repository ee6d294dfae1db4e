"""Writes docs/datasets.md from the registry of datasets, and config/tables.schema.json from the reader of table files.

``make docs`` runs it; tests hold each pair together.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import pyarrow as pa

from mystocks_ingest.market.datasets import DATASETS, Dataset, Field
from mystocks_ingest.schema.document import editors

PAGE = Path(__file__).with_name("datasets.md")
SCHEMA = Path(__file__).parents[1] / "config" / "tables.schema.json"

_HEAD = """\
# Datasets

Written by `make docs` from `mystocks_ingest/market/datasets/`; change it there.

A dataset is a kind of record with one canonical schema. Whatever a vendor calls a column and whatever unit it uses,
a stored row has these names and these units. Prices are raw, never adjusted; adjusted bars are computed on read.
Times are Asia/Shanghai, and a bar is labelled by its end. "required" columns are never null in a stored row; rows
are unique by the key, and a row that comes again replaces the one before; where a dataset says by which columns the newest
stands, a row that is older by them changes nothing ([tables.md](tables.md#the-newest-row)).
"""


def _type(kind: pa.DataType) -> str:
    names = {"string": "text", "date32[day]": "date", "double": "float64", "timestamp[ms, tz=UTC]": "time, UTC"}
    return names.get(str(kind), "time, Asia/Shanghai" if pa.types.is_timestamp(kind) else str(kind))


def _row(field: Field) -> str:
    return f"| `{field.name}` | {_type(field.type)} | {field.unit} | {'yes' if field.required else ''} |"


def _section(alike: list[Dataset]) -> Iterator[str]:
    first = alike[0]
    yield f"\n## {', '.join(d.name for d in alike)}\n"
    newest = f"; the newest by {', '.join(f'`{n}`' for n in first.newest_by)} stands" if first.newest_by else ""
    yield f"Category {first.category}; key {', '.join(f'`{k}`' for k in first.key)}{newest}.\n"
    yield "| column | type | unit, meaning | required |"
    yield "|---|---|---|---|"
    yield from (_row(field) for field in first.fields)


def page() -> str:
    """The whole page; neighbours in the registry with equal columns share a section."""
    lines = [_HEAD, "| dataset | category | interval | key |", "|---|---|---|---|"]
    lines.extend(f"| `{d.name}` | {d.category} | {d.interval or ''} | {', '.join(d.key)} |" for d in DATASETS.values())
    for _, alike in groupby(DATASETS.values(), key=lambda d: (d.category, d.key, d.fields, d.newest_by)):
        lines.extend(_section(list(alike)))
    return "\n".join(lines) + "\n"


def main() -> int:
    PAGE.write_text(page(), encoding="utf-8")
    SCHEMA.write_text(editors.text(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
