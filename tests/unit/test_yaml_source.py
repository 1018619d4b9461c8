"""YAML files are read with the line of every field, and whatever is wrong with one is told with its place."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prober.config import dump_configuration
from prober.errors import ConfigurationError
from prober.yaml_source import parse_located, read_located


def write(folder: Path, text: str) -> Path:
    path = folder / "prober.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def failure(call: Callable[[], object]) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        call()
    return caught.value


@pytest.mark.parametrize(
    ("content", "line", "problem"),
    [
        (b"", 1, "the file is empty"),
        (b"# nothing\n", 1, "the file is empty"),
        (b"---\n...\n", 1, "the file is empty"),
        (b"- a\n- b\n", 1, "expected fields, got a list"),
        (b"word\n", 1, "expected fields, got text"),
        (b"a: 1\nb: [1, 2\n", 3, "is no YAML"),
        (b"a: 1\n\tb: 2\n", 2, "is no YAML"),
        (b"a: b: c\n", 1, "is no YAML"),
        (b"a: 1\nb: 2\na: 3\n", 3, "stands here twice, first on line 1"),
        (b"a: {b: 1, b: 2}\n", 1, "stands here twice"),
        (b"a: 1\nb: \xff\xfe\n", 2, "is not UTF-8 text"),
        (b"a: 1\nb: \x07\n", 2, "holds a control character"),
        (b"a: 1\n2: b\n", 2, "a field's name must be text"),
        (b"a: !!python/object:os.system x\n", 1, "tag"),
        (b"a: 1\n---\nb: 1\n", 2, "is no YAML"),
        (b"a: &x [*x]\n", 1, "too large or nested too deeply"),
        (b"a: " + b"[" * 5000, None, "nested too deeply"),
        (b"a: " + b"x" * 1_000_000, None, "is larger than"),
    ],
)
def test_a_file_that_is_no_mapping_is_told_so(tmp_path: Path, content: bytes, line: int | None, problem: str) -> None:
    """Whatever is wrong with the text of a file is a ConfigurationError with the line, never another error."""
    path = tmp_path / "prober.yaml"
    path.write_bytes(content)
    error = failure(lambda: read_located(path))
    assert problem in error.problem, error
    assert (error.file, error.line) == (str(path), line)


def test_aliases_that_explode_are_refused(tmp_path: Path) -> None:
    """A short file whose aliases stand for millions of values is refused at once."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    assert "too large" in failure(lambda: read_located(write(tmp_path, "\n".join(lines)))).problem


def test_merged_fields_keep_the_own_ones() -> None:
    """``<<`` fills in fields, never replaces one that is written."""
    located = parse_located("base: &b {x: 1, y: 2}\nother:\n  <<: *b\n  y: 3\n", "text")
    assert located["other"] == {"x": 1, "y": 3}
    assert located.line(("other", "y")) == 4


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**38), 10**38)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.sampled_from(["on", "1:30", "007", "0x1f", "1e3", "~", "<<", "=", "2026-11-23", "1_000", "- a", "a: b", "*x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), VALUES, min_size=1, max_size=4))
def test_what_is_dumped_is_read_back_the_same(mapping: dict[str, Any]) -> None:
    """A configuration that was written out is read back value for value."""
    assert parse_located(dump_configuration(mapping), "text") == mapping


@given(st.text(alphabet=st.characters(codec="utf-8")) | st.text(alphabet="ab:-[]{}*&!|>'\"%@`#,? \n\t<~"))
def test_no_text_raises_anything_else(text: str) -> None:
    """Whatever stands in a file, it is a mapping or a ConfigurationError."""
    with suppress(ConfigurationError):
        assert isinstance(parse_located(text, "text"), Mapping)


def test_plain_words_are_text() -> None:
    """``on``, ``no``, sexagesimals, dates and leading zeros stay the text that was written."""
    located = parse_located("a: [on, no, 1:30, 2026-11-23, 007, 0x1f, 1_000, yes]", "text")
    assert located["a"] == ["on", "no", "1:30", "2026-11-23", "007", "0x1f", "1_000", "yes"]
