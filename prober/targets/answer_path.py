"""Where something stands in an answer: ``data.results.0.id``, ``*`` for each of a list, or a JSON pointer. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

_MOST_FOUND = 100
_MOST_STEPS = 20


def check_path(path: str) -> str:
    """The path, if it is one. Raises ValueError with the mend."""
    steps = _steps(path)
    if not all(steps) or len(steps) > _MOST_STEPS or path != path.strip():
        raise ValueError(f"{path!r} is no path: write data.id, data.results.*.id or /data/id")
    return path


def is_optional(path: str) -> bool:
    """Whether the path ends with ``?``: what it leads to may be missing."""
    return path.endswith("?")


def values_at(document: object, path: str) -> list[Any]:
    """Every value that the path leads to, at most a hundred; none for null and where there is nothing."""
    found: list[Any] = [document]
    for step in _steps(path):
        found = [inner for value in found for inner in _inside(value, step)][:_MOST_FOUND]
    return [value for value in found if value is not None]


def value_at(document: object, path: str | None) -> Any:
    """The first of :func:`values_at`, None where there is none or no path."""
    return next(iter(values_at(document, path)), None) if path else None


def word(value: object) -> str:
    """A plain value as a word: texts in lower case, others as JSON; empty for lists and objects."""
    if isinstance(value, str):
        return value.strip().lower()
    return json.dumps(value) if isinstance(value, (bool, int, float)) else ""


def _steps(path: str) -> list[str]:
    plain = path.removesuffix("?")
    if not plain.startswith("/"):
        return plain.split(".")
    return [step.replace("~1", "/").replace("~0", "~") for step in plain[1:].split("/")]


def _inside(value: object, step: str) -> Iterator[Any]:
    if isinstance(value, Mapping):
        if step in value:
            yield value[step]
        elif step == "*":
            yield from value.values()
    elif isinstance(value, list):
        if step == "*":
            yield from value
        elif step.isdecimal() and len(step) < 10 and int(step) < len(value):
            yield value[int(step)]
