"""Request templates: what is a placeholder, what stands for nothing, and that values are never read again."""

from __future__ import annotations

from typing import Any

import pytest

from prober.errors import OwnFault
from prober.targets.template import OF_PUBLICATION, Place, TemplateProblem, Value, compiled, fill, fill_json, parse

KNOWN = ("marker", "channels", "subject", "now", "now_unix", "scheduled_time", "values.api_key")
VALUES: dict[str, Value] = {
    "marker": "dp1aaa",
    "channels": ("one", "two"),
    "subject": "say {marker} {{and}} ${env:HOME} {now",
    "now": 1795428000.0,
    "now_unix": 1795428000.5,
    "values.api_key": "{marker}",
}


def filled(text: str) -> str | None:
    return fill(parse(text, KNOWN), VALUES)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", ""),
        ("plain", "plain"),
        ("{marker}", "dp1aaa"),
        ("a {marker} b {marker}", "a dp1aaa b dp1aaa"),
        ("{{marker}}", "{marker}"),
        ("{{{marker}}}", "{dp1aaa}"),
        ("{channels}", "one,two"),
        ("{now}", "2026-11-23T10:00:00.000000Z"),
        ("{now+90s}", "2026-11-23T10:01:30.000000Z"),
        ("{now-1h}", "2026-11-23T09:00:00.000000Z"),
        ("{now_unix+1.5m}", "1795428090"),
        ("{scheduled_time?}", None),
        ("at {scheduled_time?}", None),
        ("{subject}", "say {marker} {{and}} ${env:HOME} {now"),
        ("{values.api_key}", "{marker}"),
    ],
)
def test_filled(text: str, told: str | None) -> None:
    """A value is inserted as it is, whatever it looks like; an optional one that is empty leaves the field out."""
    assert filled(text) == told


@pytest.mark.parametrize(
    ("text", "problem", "mend"),
    [
        ("{makrer}", "there is no placeholder {makrer}", "did you mean 'marker'?"),
        ("{value.api_key}", "there is no placeholder {value.api_key}", "did you mean 'values.api_key'?"),
        ("{recipient}", "there is no placeholder {recipient} in this request", f"known here: {', '.join(KNOWN)}"),
        ("{marker+5m}", "{marker} is no time that could be shifted", "write {marker}"),
        ("{}", "'{}' is no placeholder", "write {name}; {{ and }} stand for braces"),
        ("{ marker }", "'{' is no placeholder", "write {name}; {{ and }} stand for braces"),
        ("a } b", "'}' is no placeholder", "write {name}; {{ and }} stand for braces"),
        ("{marker", "'{' is no placeholder", "write {name}; {{ and }} stand for braces"),
        ("{marker.x}", "there is no placeholder {marker.x}", "did you mean 'marker'?"),
        ("{marker.__class__}", "there is no placeholder {marker.__class__}", f"known: {', '.join(KNOWN)}"),
        ("{marker!r}", "'{' is no placeholder", "write {name}; {{ and }} stand for braces"),
        ("{MARKER}", "there is no placeholder {MARKER}", "did you mean 'marker'?"),
    ],
)
def test_what_is_no_template(text: str, problem: str, mend: str) -> None:
    """Anything but the strict small form is an error with its mend; no attribute, index or format is looked up."""
    with pytest.raises(TemplateProblem) as caught:
        parse(text, KNOWN)
    assert (caught.value.problem, caught.value.mend) == (problem, mend)


def test_a_shift_that_is_no_duration() -> None:
    """A time is shifted by a duration with its unit only."""
    with pytest.raises(TemplateProblem, match="now"):
        parse("{now+5 parsecs}", KNOWN)


def test_a_value_that_must_be_there() -> None:
    """A placeholder without a value is our own fault before anything leaves, unless it may be left out."""
    with pytest.raises(OwnFault, match="scheduled_time"):
        filled("{scheduled_time}")


def test_json_keeps_types_and_leaves_out() -> None:
    """Alone in its place, a list stays a list and a whole number a number; what is left out leaves no trace."""
    body: Any = {
        "ids": "{channels}",
        "text": "to {channels}",
        "at": "{now_unix}",
        "when": "{scheduled_time?}",
        "list": ["{scheduled_time?}", "{marker}", 3, None, True],
        "deep": [{"x": {"y": "{values.api_key}"}}],
        "null": None,
    }
    assert fill_json(compiled(body, KNOWN), VALUES) == {
        "ids": ["one", "two"],
        "text": "to one,two",
        "at": 1795428000,
        "list": ["dp1aaa", 3, None, True],
        "deep": [{"x": {"y": "{marker}"}}],
        "null": None,
    }


def test_every_placeholder_is_parsed() -> None:
    """Every name that the tables explain is a placeholder, also an optional one."""
    for name in OF_PUBLICATION:
        assert parse(f"{{{name}?}}", OF_PUBLICATION) == (Place(name, optional=True),)
