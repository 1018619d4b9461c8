"""What JSON schemas of results are made of."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
INSTANT: Schema = {
    "type": "string",
    "format": "date-time",
    "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$",
}
SECONDS: Schema = {"type": "number"}
COUNT: Schema = {"type": "integer", "minimum": 0}


def an_object(properties: Mapping[str, Schema]) -> Schema:
    """An object with all of these fields, and perhaps others."""
    return {"type": "object", "properties": dict(properties), "required": list(properties)}


def a_list(items: Schema) -> Schema:
    """A list of such values."""
    return {"type": "array", "items": items}


def or_null(schema: Schema) -> Schema:
    """Such a value, or null."""
    return {"anyOf": [schema, {"type": "null"}]}


def one_of(values: type[StrEnum]) -> Schema:
    """One of the words of an enum."""
    return {"enum": [value.value for value in values]}
