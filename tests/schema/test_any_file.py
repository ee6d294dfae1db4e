"""Whatever stands in a table file: it is read, or refused in sentences with places; nothing else ever happens."""

from __future__ import annotations

import contextlib
import copy
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_whole_files import whole_file

from mystocks_ingest.errors import ConfigError
from mystocks_ingest.schema.document.reading import read

WHOLE = yaml.safe_load(whole_file())
WHOLE["tables"] = WHOLE["tables"][:3]
LEAF = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**20), 10**20),
    st.floats(),
    st.text(st.characters(exclude_categories=("Cs",)), max_size=12),
    st.sampled_from(
        ["on", "VARCHAR(", "ENUM('a", "${", "${A:}", "1e999999999", "99999999999 years", "x DESC", "INT(1,2)"]
    ),
)
VALUE = st.recursive(
    LEAF, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)
KEYS = st.sampled_from(
    [
        "name",
        "type",
        "length",
        "default",
        "key",
        "dataset",
        "columns",
        "tags",
        "indexes",
        "timescaledb",
        "tdengine",
        "redis",
        "compression",
        "primary_key",
        "unique",
        "retention_days",
        "is_tag",
        "time_column",
        "values",
        "on_update",
        "enabled",
        "threshold",
        "schedule",
        "host",
        "kind",
        "pattern",
    ]
)


def spots(node: Any) -> list[tuple[Any, Any]]:
    """Every container of the tree with each of its keys."""
    pairs = list(node.items()) if isinstance(node, dict) else list(enumerate(node)) if isinstance(node, list) else []
    return [(node, key) for key, _ in pairs] + [spot for _, inner in pairs for spot in spots(inner)]


@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_file_changed_anywhere_is_read_or_refused_with_places(tmp_path: Path, data: st.DataObject) -> None:
    tree = copy.deepcopy(WHOLE)
    for _ in range(data.draw(st.integers(1, 4))):
        holder, key = data.draw(st.sampled_from(spots(tree)))
        value = data.draw(VALUE)
        if isinstance(holder, dict) and data.draw(st.booleans()):
            holder[data.draw(KEYS)] = value
        else:
            holder[key] = value
    path = tmp_path / "tables.yaml"
    path.write_text(yaml.safe_dump(tree, allow_unicode=False), encoding="utf-8")
    try:
        read(path, {})
    except ConfigError as exc:
        lines = [line for line in str(exc).splitlines() if not re.fullmatch(r"\d+ complaints", line)]
        assert lines
        assert all(re.match(rf"{re.escape(str(path))}(:\d+:\d+)?:? ", line) for line in lines)


@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_text_cut_or_garbled_anywhere_is_read_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    text = whole_file()[:3000]
    at = data.draw(st.integers(0, len(text)))
    junk = data.draw(st.text(st.sampled_from("{}[]:,-?&*!|>'\"%@`# \n\t0ay\x00\x85é表"), max_size=6))
    path = tmp_path / "tables.yaml"
    path.write_text(text[:at] + junk + text[at + data.draw(st.integers(0, 40)) :], encoding="utf-8")
    with contextlib.suppress(ConfigError):  # any other exception is what must not happen
        read(path, {})


@pytest.mark.parametrize(
    "text",
    [
        "[" * 5000,
        "a: &a {<<: *a}\n",
        "tables: &t [*t]\n",
        "tables: [&t {columns: [*t]}]\n",
        "? {a: b}\n: c\n",
        "tables: !!python/object:x {}\n",
        "1: 2\ntables: []\n",
    ],
)
def test_a_strange_document_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "tables.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError):
        read(path)
