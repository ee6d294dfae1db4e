"""A checker for the part of JSON Schema that ours uses, written from its specification (draft 2020-12)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

_TYPES: Mapping[str, Any] = {
    "string": str,
    "number": int | float,
    "integer": int,
    "boolean": bool,
    "array": list,
    "object": dict,
    "null": type(None),
}
_KNOWN = frozenset(
    [
        "$schema",
        "$defs",
        "$ref",
        "title",
        "description",
        "default",
        "type",
        "enum",
        "const",
        "pattern",
        "minLength",
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "minItems",
        "items",
        "properties",
        "additionalProperties",
        "required",
        "anyOf",
        "oneOf",
    ]
)


def faults(schema: Mapping[str, Any], value: Any, root: Mapping[str, Any] | None = None, at: str = "") -> Iterator[str]:
    """The places where ``value`` is not what the schema asks for."""
    root = root if root is not None else schema
    assert set(schema) <= _KNOWN, f"this checker does not know {set(schema) - _KNOWN}"
    if "$ref" in schema:
        yield from faults(root["$defs"][schema["$ref"].rsplit("/", 1)[1]], value, root, at)
    for word, most in (("anyOf", None), ("oneOf", 1)):
        fitting = [s for s in schema.get(word, ()) if not any(faults(s, value, root, at))]
        if word in schema and (not fitting or (most and len(fitting) > most)):
            yield at
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    wrong = isinstance(value, bool) and "boolean" not in kinds
    if kinds and (wrong or not any(isinstance(value, _TYPES[kind]) for kind in kinds)):
        yield at
        return
    if "enum" in schema and value not in schema["enum"]:
        yield at
    if isinstance(value, str):
        if len(value) < schema.get("minLength", 0) or not re.search(schema.get("pattern", ""), value):
            yield at
    elif isinstance(value, int | float) and not isinstance(value, bool):
        low, high = schema.get("minimum", value), schema.get("maximum", value)
        if not low <= value <= high or value <= schema.get("exclusiveMinimum", value - 1):
            yield at
    elif isinstance(value, list):
        if len(value) < schema.get("minItems", 0):
            yield at
        for i, item in enumerate(value):
            yield from faults(schema.get("items", {}), item, root, f"{at}/{i}")
    elif isinstance(value, dict):
        properties, rest = schema.get("properties", {}), schema.get("additionalProperties", True)
        yield from (f"{at}/{name}" for name in schema.get("required", ()) if name not in value)
        for name, item in value.items():
            if name in properties or isinstance(rest, dict):
                yield from faults(properties.get(name, rest), item, root, f"{at}/{name}")
            elif rest is False:
                yield f"{at}/{name}"
