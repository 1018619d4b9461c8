"""Where something stands in an answer."""

from __future__ import annotations

from typing import Any

import pytest

from prober.targets.answer_path import check_path, is_optional, value_at, values_at, word

DOCUMENT = {
    "data": {"id": "a", "null": None, "results": [{"id": 1}, {"id": 2}, {"other": 3}, "x"]},
    "a/b": {"m~n": "odd"},
    "0": "zero",
}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("data.id", ["a"]),
        ("data.id?", ["a"]),
        ("/data/id", ["a"]),
        ("data.results.*.id", [1, 2]),
        ("data.results.1.id", [2]),
        ("/data/results/1/id", [2]),
        ("data.results.4.id", []),
        ("data.results.-1.id", []),
        ("data.results.\u0661.id", [2]),
        ("data.results.99999999999.id", []),
        ("data.null", []),
        ("data.id.x", []),
        ("/a~1b/m~0n", ["odd"]),
        ("0", ["zero"]),
        ("data.*.0.id", [1]),
        ("missing", []),
    ],
)
def test_values(path: str, found: list[Any]) -> None:
    """A path leads to each value once, and to nothing where there is nothing or null."""
    assert values_at(DOCUMENT, check_path(path)) == found
    assert value_at(DOCUMENT, path) == (found[0] if found else None)


@pytest.mark.parametrize("path", ["", "?", "a..b", "a.", ".a", "/", "/a/", " a", "a.b ", ".".join("a" * 30)])
def test_no_path(path: str) -> None:
    """Empty steps, blanks around and endless ways are no path."""
    with pytest.raises(ValueError, match="is no path"):
        check_path(path)


@pytest.mark.parametrize("document", [None, 3, "text", [], {}, [[]], True])
def test_strange_documents(document: object) -> None:
    """Whatever was answered, looking into it raises nothing."""
    assert values_at(document, "data.*.id") == []


def test_bounded() -> None:
    """Of a long list only the first hundred are looked at."""
    assert len(values_at([[1] * 1000] * 1000, "*.*")) == 100


def test_words() -> None:
    """Plain values are compared as words; lists and objects are none."""
    plain: list[object] = [" Failed ", False, True, 3, None, [], {}]
    assert [word(value) for value in plain] == ["failed", "false", "true", "3", "", "", ""]
    assert is_optional("a?")
    assert not is_optional("a")
