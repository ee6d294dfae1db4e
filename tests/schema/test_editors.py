"""The JSON schema with which an editor helps to write a table file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from json_schema import faults

from mystocks_ingest.schema.document import editors

CONFIG = Path(__file__).parents[2] / "config"


@pytest.fixture(scope="module")
def shipped() -> Any:
    return yaml.safe_load((CONFIG / "tables.yaml").read_text(encoding="utf-8"))


def test_the_shipped_schema_is_what_the_reader_gives_now() -> None:
    assert (CONFIG / "tables.schema.json").read_text(encoding="utf-8") == editors.text(), "run `make docs`"


def test_the_shipped_tables_fit_the_schema_and_name_it(shipped: Any) -> None:
    assert list(faults(editors.json_schema(), shipped)) == []
    assert "$schema=tables.schema.json" in (CONFIG / "tables.yaml").read_text(encoding="utf-8").splitlines()[0]


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (lambda t: t.pop("columns"), "/tables/0/columns"),
        (lambda t: t.update(tabel_name="x"), "/tables/0/tabel_name"),
        (lambda t: t.update(database_type="Oracle"), "/tables/0/database_type"),
        (lambda t: t["columns"][0].update(length=0), "/tables/0/columns/0/length"),
        (lambda t: t["columns"][0].update(nullable="never"), "/tables/0/columns/0/nullable"),
        (lambda t: t["columns"][0].update(name="2nd"), "/tables/0/columns/0/name"),
        (lambda t: t.update(indexes=[{"name": "a"}]), "/tables/0/indexes/0"),
        (lambda t: t.update(route="maybe"), "/tables/0/route"),
        (lambda t: t.update(retention_days=-1), "/tables/0/retention_days"),
    ],
)
def test_a_broken_file_does_not_fit(shipped: Any, change: Any, place: str) -> None:
    broken = json.loads(json.dumps(shipped))
    change(broken["tables"][0])
    found = list(faults(editors.json_schema(), broken))
    assert found
    assert all(at.startswith(place) for at in found)


@pytest.mark.parametrize(
    "part",
    [
        {"indexes": ["a", ["a", "b DESC"], {"columns": "a, b", "type": "UNIQUE"}]},
        {"compression": True, "chunk_interval": "7 days", "retention_days": 30},
        {"compression": {"enabled": True, "after_days": 7, "segment_by": ["a"]}, "primary_key": ["a"]},
        {"timescaledb": {"partition_column": "a", "chunk_time_interval": "1 day", "compression": {"after": "1 day"}}},
        {"tags": [{"name": "symbol", "type": "BINARY(16)"}], "is_super_table": True},
    ],
)
def test_every_spelling_the_reader_takes_fits(part: dict[str, Any]) -> None:
    table = {
        "database_type": "mysql",
        "database_name": "q",
        "table_name": "t",
        "columns": [{"name": "a", "type": "INT"}],
    }
    assert list(faults(editors.json_schema(), {"tables": [{**table, **part}]})) == []
