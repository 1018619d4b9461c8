"""JSON in which strangers had a hand."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prober.observers.json_reading import MOST_DEPTH, read_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def depth_of(value: Any) -> int:
    levels = 0
    while isinstance(value, (list, dict)) and value:
        value = value[0] if isinstance(value, list) else next(iter(value.values()))
        levels += 1
    return levels


@given(VALUES, st.booleans())
def test_ordinary_json_is_read_as_by_everybody(value: object, ascii_only: bool) -> None:
    """What the standard library writes comes back as it was."""
    text = json.dumps(value, ensure_ascii=ascii_only)
    assert read_json(text) == value
    assert read_json(json.dumps(value).encode()) == value


@given(VALUES, st.sampled_from(["[", '{"a":']))
def test_what_is_too_deep_is_cut_and_its_neighbours_stay(value: object, opening: str) -> None:
    """Below a bound there is nothing; before it and behind it everything is as it was."""
    closing = "]" if opening == "[" else "}"
    text = json.dumps({"before": value, "deep": "HERE", "after": value})
    read = read_json(text.replace('"HERE"', opening * 5000 + json.dumps(value) + closing * 5000))
    assert (read["before"], read["after"]) == (value, value)
    assert depth_of(read["deep"]) == MOST_DEPTH - 1


@pytest.mark.parametrize("digits", [41, 4000, 5000, 100_000])
def test_long_integers_are_numbers(digits: int) -> None:
    """An integer of any length is a number: exact while it is short, else about as large."""
    assert read_json("9" * 40) == int("9" * 40)
    assert math.isclose(read_json("1" * digits), float("1" * digits))


@pytest.mark.parametrize(
    "text", ["", "{", '{"a":}', "[1,]", "nothing", "[" * 5000, '"' + "x" * 50, "[" * 5000 + '"\\"' * 5000, "]" * 5000]
)
def test_what_is_no_json_is_a_value_error(text: str) -> None:
    """Only ValueError is raised, also for what breaks off deep inside."""
    with pytest.raises(ValueError, match=r".*"):
        read_json(text)


def test_octets_that_are_no_text_are_a_value_error() -> None:
    """JSON is UTF-8."""
    with pytest.raises(ValueError, match="utf-8"):
        read_json(b'"\xff"')
