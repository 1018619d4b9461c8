"""Request templates: texts with ``{placeholders}``, whose values are inserted as data and never read again. Pure.

``{name}`` stands for a value that there must be, ``{name?}`` leaves the whole field out where there is none,
``{now+5m}`` shifts a time, ``{{`` and ``}}`` stand for braces.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from prober.clock import rfc3339
from prober.durations import parse_duration
from prober.errors import OwnFault
from prober.nearest import did_you_mean

ALWAYS: Mapping[str, str] = {
    "now": "the time of the request, RFC 3339 in UTC",
    "now_unix": "the same in whole seconds since 1970",
}
"""Placeholders of every request, with what they stand for."""

OF_PUBLICATION: Mapping[str, str] = {
    "marker": "the signed marker: 48 characters of a-z and 0-9, by which a message is recognised",
    "content_id": "a signed UUID, by which a message is recognised, too",
    "probe": "the probe's name",
    "scenario": "the scenario's name",
    "kind": "newsletter, alert, digest or manual",
    "priority": "an alert's priority",
    "template_id": "the target's template, by target.templates",
    "subject": "the content's subject",
    "text": "the content's text",
    "channels": "the target channels: a list where it stands alone in JSON or a form, else joined by commas",
    "channel": "the target channel, where the publication has only one",
    "scheduled_time": "when it is to go out, RFC 3339 in UTC; empty for at once",
    "scheduled_unix": "the same in whole seconds since 1970",
    "correlation_id": "what X-Correlation-ID says",
    "idempotency_key": "what Idempotency-Key says",
    "trace_id": "32 hexadecimal digits",
    "span_id": "16 hexadecimal digits",
    "traceparent": "what the header traceparent says",
}
"""Placeholders of the steps."""

OF_RECIPIENT: Mapping[str, str] = {"recipient": "the one address that a send mails"}

OF_ID: Mapping[str, str] = {"publication_id": "the target's id for the publication, or known_as"}

OWN = "values."
"""What the name of a placeholder for one of the configuration's own values begins with."""

_TIMES = frozenset({"now", "now_unix", "scheduled_time", "scheduled_unix"})
_PLACE = re.compile(r"\{\{|\}\}|\{(?P<name>[A-Za-z0-9_.-]*?)(?P<shift>[+-]\d[^{}?]*)?(?P<optional>\?)?\}|[{}]")

Value = str | tuple[str, ...] | float
"""A text, a list of texts, or a time in wall seconds."""


class TemplateProblem(ValueError):
    """What is wrong with a template, and the mend."""

    def __init__(self, problem: str, mend: str) -> None:
        super().__init__(f"{problem} ({mend})" if mend else problem)
        self.problem = problem
        self.mend = mend


@dataclass(frozen=True, slots=True)
class Place:
    """One placeholder; ``shift`` in seconds."""

    name: str
    shift: float = 0.0
    optional: bool = False


Template = tuple[str | Place, ...]


def parse(text: str, known: Collection[str]) -> Template:
    """A text's parts. Raises TemplateProblem for a placeholder that is not ``known``, or a brace without meaning."""
    parts: list[str | Place] = []
    end = 0
    for match in _PLACE.finditer(text):
        parts.append(text[end : match.start()])
        parts.append(match[0][0] if match[0] in ("{{", "}}") else _place(match, known))
        end = match.end()
    return tuple(part for part in (*parts, text[end:]) if part != "")


def _place(match: re.Match[str], known: Collection[str]) -> Place:
    name, shift = match["name"], match["shift"]
    if not name:
        raise TemplateProblem(f"{match[0]!r} is no placeholder", "write {name}; {{ and }} stand for braces")
    if name not in known:
        elsewhere = name in {**ALWAYS, **OF_PUBLICATION, **OF_RECIPIENT, **OF_ID}
        here = " in this request" if elsewhere else ""
        mend = f"known here: {', '.join(known)}" if elsewhere else did_you_mean(name, known)
        raise TemplateProblem(f"there is no placeholder {{{name}}}{here}", mend)
    if not shift:
        return Place(name, 0.0, bool(match["optional"]))
    if name not in _TIMES:
        raise TemplateProblem(f"{{{name}}} is no time that could be shifted", f"write {{{name}}}")
    try:
        seconds = parse_duration(shift[1:])
    except ValueError as error:
        raise TemplateProblem(f"{match[0]!r}: {error}", f"write {{{name}+5m}}") from error
    return Place(name, -seconds if shift[0] == "-" else seconds, bool(match["optional"]))


def texts_in(value: Any, place: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Every text in a JSON value with its place; a mapping that a placeholder without quotes has become, as it is."""
    if isinstance(value, Mapping):
        if (len(value) == 1 and next(iter(value.values())) is None) or any("{" in str(name) for name in value):
            yield place, value
        for name, inner in value.items():
            yield from texts_in(inner, (*place, name))
    elif isinstance(value, (list, tuple)):
        for at, inner in enumerate(value):
            yield from texts_in(inner, (*place, at))
    elif isinstance(value, str):
        yield place, value


def compiled(value: Any, known: Collection[str]) -> Any:
    """A JSON value with every text in it parsed. Raises TemplateProblem."""
    if isinstance(value, Mapping):
        return {name: compiled(inner, known) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [compiled(inner, known) for inner in value]
    return parse(value, known) if isinstance(value, str) else value


def fill(template: Template, values: Mapping[str, Value], encode: Callable[[str], str] = str) -> str | None:
    """The text with its values, each passed through ``encode``; None where it is to be left out.

    Raises OwnFault for a value that there must be and is not.
    """
    parts = []
    for part in template:
        if isinstance(part, str):
            parts.append(part)
            continue
        value = _value(part, values)
        if value is None:
            return None
        parts.append(encode(value if isinstance(value, str) else ",".join(map(str, value))
                            if isinstance(value, tuple) else str(value)))  # fmt: skip
    return "".join(parts)


def fill_whole(template: Template, values: Mapping[str, Value]) -> str | int | list[str] | None:
    """As :func:`fill`; a template that is one placeholder keeps its value's type: a list, or a number."""
    if len(template) != 1 or not isinstance(template[0], Place):
        return fill(template, values)
    value = _value(template[0], values)
    return list(value) if isinstance(value, tuple) else value


def fill_json(value: Any, values: Mapping[str, Value]) -> Any:
    """A compiled JSON value with its values; what is to be left out is not in it. Raises OwnFault."""
    if isinstance(value, dict):
        filled = {name: (inner, fill_json(inner, values)) for name, inner in value.items()}
        return {name: made for name, (inner, made) in filled.items() if not _left_out(inner, made)}
    if isinstance(value, list):
        made = [(inner, fill_json(inner, values)) for inner in value]
        return [one for inner, one in made if not _left_out(inner, one)]
    return fill_whole(value, values) if isinstance(value, tuple) else value


def _left_out(template: Any, made: Any) -> bool:
    return isinstance(template, tuple) and made is None


def _value(place: Place, values: Mapping[str, Value]) -> str | int | tuple[str, ...] | None:
    value = values.get(place.name, "")
    if value in ("", ()):
        if place.optional:
            return None
        raise OwnFault(
            f"the request needs {{{place.name}}} and there is none",
            f"write {{{place.name}?}} where it may be left out",
        )
    if isinstance(value, float):
        moved = value + place.shift
        return int(moved) if place.name.endswith("_unix") else rfc3339(moved)
    return value
