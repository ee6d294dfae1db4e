"""The table file's format as a JSON schema, with which an editor completes and marks while one writes."""

from __future__ import annotations

import json
from typing import Any

from pydantic import Field

from mystocks_ingest.schema.document.blocks import FileEntry
from mystocks_ingest.schema.document.entries import TableEntry


class WholeEntry(FileEntry):
    """A table file."""

    tables: tuple[TableEntry, ...] = Field(description="every table")


def json_schema() -> dict[str, Any]:
    """Draft 2020-12. What only makes sense together, such as a key and its columns, is the reader's to say."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **WholeEntry.model_json_schema(mode="validation"),
        "title": "tables.yaml",
    }


def text() -> str:
    """The schema as the text of ``config/tables.schema.json``."""
    return json.dumps(json_schema(), ensure_ascii=False, indent=1, sort_keys=True) + "\n"
