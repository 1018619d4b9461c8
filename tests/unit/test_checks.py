"""Content checks: what counts as readable, and how a failure is told."""

from __future__ import annotations

import html
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prober.checks import failed
from prober.marker import MAX_SCANNED
from prober.model import Check

CALM = settings(deadline=None)  # the machine may be busy with other tests
WORDS = st.lists(st.text("abcXYZäß<>&'\"", min_size=1, max_size=8), min_size=1, max_size=6)


@pytest.mark.parametrize(
    "text",
    [
        "Hello, Weekly news & views!",
        "Weekly\u00a0news\t&\r\n  views",
        "<p>Weekly&nbsp;news &amp; views</p>",
        "Week\u200bly ne\u00adws &#38; vi\u2060ews",
        "Weekly news &#x26; views",
    ],
)
def test_what_a_person_reads_is_present(text: str) -> None:
    """White space, no-break spaces, invisible characters and character references do not hide a text."""
    assert failed([Check("Weekly  news & views")], ["other", text]) == ()


@pytest.mark.parametrize(
    "text", ["weekly news & views", "Weekly news", "Weeklynews & views", "Weekly news and views", ""]
)
def test_what_a_person_does_not_read_is_missing(text: str) -> None:
    """Case and words count, and a part is not the whole."""
    assert failed([Check("Weekly news & views")], [text]) == ("text missing: 'Weekly news & views'",)


def test_every_failure_is_told_in_order() -> None:
    """Each failed check has its own sentence, in the order of the checks, always the same."""
    checks = [Check("one"), Check("two"), Check(" three\n four "), Check("x" * 200)]
    expected = ("text missing: 'one'", "text missing: 'three four'", f"text missing: '{'x' * 79}…'")
    assert failed(checks, ["two"]) == failed(checks, ["two"]) == expected


def test_nothing_asked_is_nothing_failed() -> None:
    """Without checks any message is whole; with a check an empty one is not."""
    assert failed([], []) == ()
    assert failed([Check("a")], []) == ("text missing: 'a'",)


def test_a_check_does_not_reach_across_texts() -> None:
    """Two texts that hold half of it each do not hold it."""
    assert failed([Check("one two")], ["one", "two"]) != ()


def test_a_reference_that_is_meant_literally_is_found() -> None:
    """A check may name a character reference itself, as an article on HTML would show it."""
    assert failed([Check("write &lt; here")], ["write &amp;lt; here"]) == ()
    assert failed([Check("write &lt; here")], ["write &lt; here"]) == ()


@CALM
@given(WORDS, st.text(max_size=20), st.text(max_size=20), st.sampled_from([" ", "\u00a0", "\n\t", " \u200b "]))
def test_a_text_is_found_in_any_surroundings(words: list[str], before: str, after: str, gap: str) -> None:
    """Whatever stands around a text, and whatever white space parts its words, plain or escaped, it is found."""
    check = [Check(" ".join(words))]
    assert failed(check, [f"{before} {gap.join(words)} {after}"]) == ()
    assert failed(check, [f"{before} {gap.join(map(html.escape, words))} {after}"]) == ()


def test_only_the_first_two_megabytes_are_read() -> None:
    """The bound holds over all texts together, and a text made to be slow is not."""
    filler = "ab " * (MAX_SCANNED // 3)
    assert failed([Check("end")], [filler, "   the end"]) == ("text missing: 'end'",)
    start = time.process_time()
    assert failed([Check("ab " * 50 + "c")], [filler]) != ()
    assert failed([Check("a")], ["&amp;" * (MAX_SCANNED // 5)]) == ()
    assert time.process_time() - start < 3
