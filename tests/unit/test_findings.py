"""What an examination comes to: findings, clocks, and the one word."""

from __future__ import annotations

from itertools import product

import pytest

from prober.clock import Instant
from prober.errors import Unreadable
from prober.findings import (
    ClockReading,
    Examined,
    Finding,
    State,
    Verdict,
    clock_findings,
    clock_of_control,
    clock_of_date,
    examine_posts,
    ok,
    timed_out,
    unknown,
    unread,
    verdict,
    warning,
    wrong,
)
from prober.model import Batch, Blindness, Control, Reading, Stamp

AT = Instant(1_700_000_000.0, 100.0, "boot")
FINE, LOOK, BAD = ok("a", "fine"), warning("a", "odd", "look"), wrong("a", "bad", "mend")
UNSEEN, UNTOLD = unknown("a", "unseen", "again"), unknown("a", "in its nature")


@pytest.mark.parametrize(
    ("findings", "comes_to"),
    [
        ((), Verdict.PASS),
        ((FINE, LOOK, UNTOLD), Verdict.PASS),
        ((FINE, UNSEEN), Verdict.VOID),
        ((UNSEEN, BAD), Verdict.FAIL),
        ((BAD,), Verdict.FAIL),
    ],
)
def test_the_verdict(findings: tuple[Finding, ...], comes_to: Verdict) -> None:
    """Wrong fails, unexamined is void, a warning and what nobody can know pass; the order does not matter."""
    assert verdict([Examined("x", findings)]) is comes_to
    assert verdict([Examined("x", (one,)) for one in reversed(findings)]) is comes_to


@pytest.mark.parametrize(
    ("reason", "detail", "state", "sentence", "mend"),
    [
        ("auth", "the token is refused; put another", State.WRONG, "the token is refused", "put another"),
        ("auth", "", State.WRONG, "auth", "put a valid token into the configuration"),
        ("timeout", "no answer", State.UNKNOWN, "no answer", "check network, host and firewall, and run this again"),
        ("protocol", "odd; in a way that the prober does not know", State.UNKNOWN,
         "odd; in a way that the prober does not know", "check that the address is that of the service"),
        ("never heard of", "what; ever; do it", State.WRONG, "what; ever", "do it"),
        ("never heard of", "", State.WRONG, "never heard of", "check the configuration"),
    ],
)  # fmt: skip
def test_an_error_as_a_finding(reason: str, detail: str, state: State, sentence: str, mend: str) -> None:
    """What an observer raises becomes a sentence and its mend, and what hindered the look is not called wrong."""
    assert unread("x", Unreadable(reason, detail)) == Finding("x", state, sentence, mend)


def test_a_date_is_cut_to_seconds() -> None:
    """A server whose clock is ours reads as right, wherever in its second it wrote the header."""
    for fraction, trip in product((0.0, 0.3, 0.999), (0.0, 0.2, 3.0)):
        asked = Instant(1_700_000_000.0 + fraction, 1.0, "b")
        (reading,) = clock_of_date("s", "Tue, 14 Nov 2023 22:13:20 GMT", asked, asked.plus(trip))
        if fraction + trip <= 1.0:
            assert abs(reading.offset) <= reading.uncertainty + 1e-6
    (ahead,) = clock_of_date("s", "Tue, 14 Nov 2023 22:14:20 GMT", AT, AT.plus(0.1))
    assert ahead.offset == pytest.approx(60.45)
    assert ahead.uncertainty == pytest.approx(0.55)


@pytest.mark.parametrize("date", [None, "", "yesterday", "Tue, 99 Nov 2023 22:13:20 GMT", "\x00", "9" * 400])
def test_a_date_that_is_none_gives_no_reading(date: str | None) -> None:
    """Whatever a server writes there, nothing is raised and no clock is made up."""
    assert clock_of_date("s", date, AT, AT.plus(0.1)) == ()


def test_a_control_message_dates_a_clock() -> None:
    """The provider stamped our message between its sending and the answer."""
    control = Control("slack", AT, AT.plus(0.4), Stamp(AT.wall + 5.2, 0.0, "slack"))
    reading = clock_of_control("slack", control)
    assert reading.offset == pytest.approx(5.0)
    assert reading.uncertainty == pytest.approx(0.2)


def test_posts_are_told_one_by_one() -> None:
    """A channel that shows our message is fine, one that does not is told with why; their stamps date the clock."""
    reading = Reading(AT, AT, continues=False)
    control = Control("a", AT, AT.plus(0.2), Stamp(AT.wall + 0.1, 0.0, "slack"))
    blind = {"b": Blindness("not_in_channel", "the bot is not in b; invite the bot", AT)}
    findings, clocks = examine_posts("slack", Batch((), "", {"a": reading}, (control,), blind))
    assert [(one.state, one.mend) for one in findings] == [(State.OK, ""), (State.WRONG, "invite the bot")]
    assert [one.source for one in clocks] == ["slack"]


def reading(source: str, offset: float, uncertainty: float = 0.5) -> ClockReading:
    return ClockReading(source, offset, uncertainty)


@pytest.mark.parametrize(
    ("readings", "states", "words"),
    [
        ([], [State.UNKNOWN], "no other clock"),
        ([reading("a", 0.2)], [State.OK], "agrees with a"),
        ([reading("a", 9.0)], [State.WARNING], "9.0 s ahead of ours"),
        ([reading("a", -9.0), reading("b", 0.0)], [State.OK, State.WARNING], "9.0 s behind ours"),
        ([reading("a", 9.0), reading("b", 9.2), reading("c", 0.0)], [State.WRONG], "this machine's clock is off"),
        ([reading("a", 9.0), reading("b", -9.0)], [State.WARNING, State.WARNING], "ahead of ours"),
        ([reading("a", 1.4)], [State.OK], "agrees"),
        ([reading("a", 9.0, 20.0), reading("a", 0.1)], [State.OK], "agrees"),
    ],
)
def test_clocks(readings: list[ClockReading], states: list[State], words: str) -> None:
    """One clock that differs is itself worth a look; where most agree that ours is off, it is ours."""
    found = clock_findings(readings)
    assert [one.state for one in found] == states
    assert words in " ".join(one.sentence for one in found)
    assert all(one.mend for one in found if one.state is not State.OK)


def test_a_part_that_takes_too_long() -> None:
    """It is told as not examined, which is void and not wrong."""
    assert verdict([timed_out("slack", 8.0)]) is Verdict.VOID
