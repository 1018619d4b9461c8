"""Durations as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prober.durations import format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("200ms", 0.2),
        ("30s", 30),
        ("5m", 300),
        ("2h", 7200),
        ("1d", 86400),
        ("1.5s", 1.5),
        (" 3 s ", 3),
        (7, 7),
        (0.5, 0.5),
    ],
)
def test_each_unit_is_read(text: str | float, seconds: float) -> None:
    """A number with a unit, or bare seconds, gives seconds."""
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "wrong",
    ["", "5", "s", "5 parsecs", "-5s", "1h30m", "٣s", "nan", "9" * 400 + "s", -1, float("nan"), float("inf"), True],
)
def test_anything_else_is_refused_with_the_mend(wrong: str | float) -> None:
    """What is no duration says how one is written."""
    with pytest.raises(ValueError, match="200ms, 30s, 5m or 2h"):
        parse_duration(wrong)


@given(st.integers(0, 10**9))
def test_what_is_written_is_read_back(milliseconds: int) -> None:
    """Formatting and parsing are inverse to the millisecond."""
    assert parse_duration(format_duration(milliseconds / 1000)) == pytest.approx(milliseconds / 1000)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (0.2, "200ms"), (90, "90s"), (300, "5m"), (7200, "2h"), (1.25, "1.25s")]
)
def test_the_shortest_exact_form(seconds: float, text: str) -> None:
    """One unit, the largest that fits without a rest."""
    assert format_duration(seconds) == text


@pytest.mark.parametrize("wrong", [-1.0, float("nan"), float("inf")])
def test_only_durations_are_written(wrong: float) -> None:
    """What is no duration cannot be formatted."""
    with pytest.raises(ValueError, match="no duration"):
        format_duration(wrong)
