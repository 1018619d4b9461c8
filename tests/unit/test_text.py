"""Result values as lines, on a pipe and on a terminal."""

from __future__ import annotations

import fcntl
import io
import os
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TextIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prober.cli.live import LiveView, PlainView, Waiting, waiting_lines
from prober.clock import Instant
from prober.interval import Interval
from prober.model import ChannelKind, Outcome, PublicationKind, PublishResult, Timeliness, VoidReason
from prober.report.lines import Line, Span, Tone, encodable, fold, line_cells, plain, printable, shorten, write
from prober.report.quantities import latency_text, resolution_text
from prober.report.result import AnswerResult, DeliveryResult, ProbeResult, TargetName, VerdictResult, run_result
from prober.report.text import answered_lines, delivery_lines, launched_lines, run_lines, widths_of

AT = 1_795_428_000.0
NOW = Instant(AT, 1000.0, "boot")
TARGET = TargetName("sandbox", sandbox=True)
EVIL = "[bold red]evil[/] \x1b[31mred\x07\r\nnext\u202egnp.exe :smile: [link=https://evil.example]x[/link]"


def delivery(
    channel: str,
    timeliness: Timeliness | None,
    outcome: Outcome | None,
    latency: Interval | None = None,
    *,
    why: tuple[str, str] = ("", ""),
    copies: int = 0,
) -> DeliveryResult:
    return DeliveryResult(
        channel,
        ChannelKind.EMAIL,
        30.0,
        120.0,
        None if timeliness is None else VerdictResult(timeliness, why[0], AT),
        None if outcome is None else VerdictResult(outcome, why[1], AT),
        latency,
        copies,
    )


def probe(*deliveries: DeliveryResult, answer: AnswerResult | None = None, name: str = "alert-latency") -> ProbeResult:
    answer = answer or AnswerResult(PublishResult.ACCEPTED, 201)
    return ProbeResult(name, "k3f7q2", None, PublicationKind.ALERT, AT, AT + 0.012, answer, "", deliveries)


GOOD = (Timeliness.ON_TIME, Outcome.DELIVERED)
ON_TIME = delivery("slack", Timeliness.ON_TIME, Outcome.DELIVERED, Interval(0.071, 0.213, "push"))
LATE = delivery(
    "email",
    Timeliness.OVERDUE,
    Outcome.DELIVERED,
    Interval(41.9, 42.3, "poll"),
    why=("visible only after the deadline", ""),
    copies=1,
)
LOST = delivery(
    "discord",
    Timeliness.OVERDUE,
    Outcome.LOST,
    why=("not visible at the deadline", "not visible at the horizon"),
)
DAMAGED = delivery(
    "email", Timeliness.ON_TIME, Outcome.DAMAGED, Interval(0.0, 0.9, "history"), why=("", f"missing: {EVIL}")
)
VOID = delivery("slack", Timeliness.VOID, Outcome.VOID, why=("blind", "blind"))
WAITING = delivery("discord", Timeliness.OVERDUE, None, why=("not visible at the deadline", ""))


def said(one: DeliveryResult, width: int = 200) -> str:
    return "\n".join(plain(line) for line in delivery_lines(probe(one), one, widths_of([probe(one)]), width))


@pytest.mark.parametrize(
    ("latency", "text"),
    [
        (Interval(0.071, 0.213), "0.142 s ± 0.071 s"),
        (Interval(0.1, 0.9), "0.100 to 0.900 s"),
        (Interval(0.0, 0.042), "≤ 0.042 s"),
        (Interval(0.0, 0.0), "0.000 s ± 0.000 s"),
        (Interval(41.9, 42.3), "42.10 s ± 0.20 s"),
        (Interval(600.0, 601.0), "600.5 s ± 0.5 s"),
        (Interval(-0.5, 0.25), "-0.500 to 0.250 s"),
        (Interval(-2.2, -2.0), "-2.100 s ± 0.100 s"),
    ],
)
def test_a_latency_is_written_with_its_uncertainty(latency: Interval, text: str) -> None:
    """A narrow interval is a middle and a half width, one from 0 an upper bound, a wide one its two bounds."""
    assert latency_text(latency) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(60.0, "60 s"), (1.0, "1 s"), (0.001, "1 ms"), (0.02, "20 ms"), (1e-6, "1 µs")]
)
def test_a_resolution_is_written_in_the_unit_that_suits_it(seconds: float, text: str) -> None:
    """How exact a stamp is reads as people say it, never as 1e-06."""
    assert resolution_text(seconds) == text


@pytest.mark.parametrize("width", [80, 200])
@pytest.mark.parametrize("reason", list(VoidReason))
def test_the_common_deliveries_take_one_line(reason: VoidReason, width: int) -> None:
    """On a terminal of 80 columns, what is waited for, lost or void is said on the delivery's own line."""
    void = delivery("discord", Timeliness.VOID, Outcome.VOID, why=(reason, reason))
    for one in (WAITING, LOST, void):
        named = replace(probe(one), probe="k3f7q2m9xd")
        assert len(delivery_lines(named, one, widths_of([named]), width)) == 1


@pytest.mark.parametrize(
    ("one", "text"),
    [
        (ON_TIME, "✓ alert-latency  k3f7q2  slack  on time   0.142 s ± 0.071 s  push"),
        (
            LATE,
            "✗ alert-latency  k3f7q2  email  overdue   42.10 s ± 0.20 s   poll  1 copy more",
        ),
        (LOST, "✗ alert-latency  k3f7q2  discord  lost      not visible at the horizon"),
        (WAITING, "✗ alert-latency  k3f7q2  discord  overdue   waiting until 2m"),
        (VOID, "○ alert-latency  k3f7q2  slack  void      blind: could not be read"),
        (
            delivery("slack", Timeliness.OVERDUE, Outcome.MISPLACED, Interval(40, 41, "poll"), why=("", "in junk")),
            "✗ alert-latency  k3f7q2  slack  misplaced  40.50 s ± 0.50 s   poll  in junk; overdue",
        ),
        (delivery("slack", Timeliness.MOOT, Outcome.WITHHELD), "✓ alert-latency  k3f7q2  slack  withheld"),
        (delivery("slack", None, None), "… alert-latency  k3f7q2  slack  open      waiting until 2m"),
    ],
)
def test_a_delivery_is_one_line(one: DeliveryResult, text: str) -> None:
    """A delivery's line has its mark, names, word, latency, basis, and the reason where it is not good."""
    assert said(one) == text


def test_what_a_provider_states_stands_behind_the_verdicts_reason() -> None:
    """A bounce is told beside the proof of a loss, and beside a success too; it is text, whatever it holds."""
    stated = (f"bounced: Permanent, smtp; 550 {EVIL}",)
    lost = said(replace(LOST, stated=stated))
    assert "lost      not visible at the horizon; bounced: Permanent, smtp; 550 [bold red]evil[/]" in lost
    assert "\x1b" not in lost
    assert said(replace(ON_TIME, stated=("complained of: abuse",))).endswith("push  complained of: abuse")


def test_a_basis_gives_way_where_it_is_tight() -> None:
    """The sources of an interval are shown as far as there is room: all, how it was seen, or none."""
    one = delivery("discord", *GOOD, Interval(0.1, 0.12, "push+discord"))
    assert [said(one, width).rpartition(" s")[2].strip() for width in (80, 70, 60)] == ["push, discord", "push", ""]


def test_the_whole_run_reads_as_in_the_manual() -> None:
    """A pass is its deliveries, an aligned table per channel and one line with the result."""
    result = run_result(TARGET, [probe(ON_TIME, delivery("email", *GOOD, Interval(0.0, 0.05, "poll")))])
    assert [plain(line) for line in run_lines(result, 80)] == [
        "✓ alert-latency  k3f7q2  slack  on time   0.142 s ± 0.071 s  push",
        "✓ alert-latency  k3f7q2  email  on time   ≤ 0.050 s          poll",
        "",
        "alert-latency",
        "  channel  expected  on time      p50      p95      max  uncertainty",
        "  slack           1        1  0.213 s  0.213 s  0.213 s    ± 0.071 s",
        "  email           1        1  0.050 s  0.050 s  0.050 s    ± 0.025 s",
        "",
        "PASS  2 of 2 deliveries on time",
    ]


def test_an_undelivered_quantile_is_said_to_be_beyond_the_horizon() -> None:
    """A lost delivery shows as beyond its give-up in the table, never as a dash or a number that it did not have."""
    lines = [plain(line) for line in run_lines(run_result(TARGET, [probe(LOST)]), 80)]
    assert "  discord         1        0        1     1  > 2m  > 2m  > 2m            -" in lines
    assert lines[-1] == "FAIL  1 of 1 deliveries lost: discord"


def test_a_refusal_says_what_the_target_said() -> None:
    """The target's status, title, detail and correlation id stand in the answer's line."""
    answer = AnswerResult(PublishResult.REFUSED, 422, "Unprocessable", "no such channel", "req-7")
    one = probe(delivery("slack", Timeliness.MOOT, Outcome.REFUSED), answer=answer)
    assert [plain(line) for line in answered_lines(one, widths_of([one]), 200)] == [
        "✗ alert-latency  k3f7q2  refused in 0.012 s  422 Unprocessable: no such channel  correlation id req-7"
    ]


def test_a_refusal_keeps_its_correlation_id_whole() -> None:
    """On 80 columns the correlation id stands on a line of its own, so that it can be copied."""
    number = "596560f2-9a5e-4795-990a-9e94f49ad32a"
    answer = AnswerResult(PublishResult.ERROR, 503, "Service unavailable", "try again in a minute or two", number)
    one = replace(probe(answer=answer), probe="k3f7q2m9xd")
    assert [plain(line) for line in answered_lines(one, widths_of([one]), 80)] == [
        "✗ alert-latency  k3f7q2m9xd  failed in 0.012 s",
        "                             503 Service unavailable: try again in a minute or",
        "                             two",
        f"                             correlation id {number}",
    ]


EVERYTHING = (
    probe(ON_TIME, LATE, LOST),
    probe(DAMAGED, VOID, WAITING),
    probe(delivery("email-2", *GOOD, Interval(5, 6, "push")), name="newsletter-delivery"),
    probe(
        delivery("slack", Timeliness.MOOT, Outcome.REFUSED),
        answer=AnswerResult(PublishResult.REFUSED, 422, EVIL, EVIL * 5, EVIL),
    ),
)


def everything(width: int) -> list[Line]:
    widths = widths_of(EVERYTHING)
    lines = run_lines(run_result(TARGET, EVERYTHING), width)
    for one in EVERYTHING:
        lines += launched_lines(one, widths, width) + answered_lines(one, widths, width)
    return lines


@pytest.mark.parametrize("width", [80, 100, 132, 200])
def test_lines_fit_the_width(width: int) -> None:
    """At 80 columns and at 200 no line is wider than the terminal."""
    assert max(map(line_cells, everything(width))) <= width


@pytest.mark.parametrize("width", [80, 200])
def test_nothing_that_was_received_is_interpreted(width: int) -> None:
    """Markup in a message is shown as text, and control and direction characters are gone."""
    stream = io.StringIO()
    write(everything(width), stream)
    text = stream.getvalue()
    assert text.replace("\n", "").isprintable()
    assert "[bold red]evil[/]" in text
    assert "\u202e" not in text


def test_colour_is_written_only_when_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """In colour the same text stands between control sequences, and markup in it is still only text."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    colour, grey = io.StringIO(), io.StringIO()
    lines = (*everything(80), (Span("[red]x[/red] :smile: 12"),))
    write(lines, grey)
    write(lines, colour, colour=True)
    assert "\x1b" not in grey.getvalue()
    assert "\x1b[32m✓" in colour.getvalue()
    assert "\x1b[1;31m✗" in colour.getvalue()
    assert [line.rstrip() for line in without_sequences(colour.getvalue())] == grey.getvalue().splitlines()


def without_sequences(text: str) -> list[str]:
    from rich.text import Text

    return [Text.from_ansi(line).plain for line in text.splitlines()]


@given(st.text(max_size=200))
def test_printable_text_is_one_harmless_line(text: str) -> None:
    """No text, whatever is in it, brings a control or formatting character into a line."""
    assert printable(text).isprintable()
    assert len(shorten(text, 20)) <= 20


@given(st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), max_size=60), st.integers(2, 30))
def test_folding_loses_nothing(text: str, width: int) -> None:
    """Folded text fits the width and holds every character that was there."""
    lines = fold(text, width)
    assert "".join(lines) == text
    assert all(line_cells((Span(line),)) <= width for line in lines)


def test_a_word_that_is_too_wide_begins_where_there_is_room() -> None:
    """A word that has to be broken anyway does not leave the line before it empty."""
    assert fold("by " + "x" * 14 + ", to 1 s", 10) == ["by xxxxxxx", "xxxxxxx,", "to 1 s"]
    assert fold("a word that fits", 10) == ["a word", "that fits"]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_any_terminal_can_show_the_lines(encoding: str) -> None:
    """Where the encoding lacks a sign, ASCII stands in for it instead of an error."""
    raw = io.BytesIO()
    with io.TextIOWrapper(raw, encoding=encoding) as stream:
        write([*everything(80), (Span("名 é ± ✓ \udc80", Tone.GOOD),)], stream)
        stream.flush()
        text = raw.getvalue().decode(encoding)
    assert "alert-latency        k3f7q2  slack" in text
    assert encodable("✓ ± é", "ascii") == r"+ +/- \xe9"


def test_reading_results_does_not_import_rich() -> None:
    """Plain output and JSON do not pay for the terminal library."""
    code = (
        "import sys, prober.report.text, prober.report.timeline, prober.report.nagios, prober.cli.live;"
        "assert not any(name.split('.')[0] == 'rich' for name in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_waiting_shows_elapsed_time_against_the_deadline() -> None:
    """The most urgent comes first; before the deadline the bar runs to it, after it to the horizon."""
    rows = [
        Waiting("newsletter", "p2", "email", NOW.plus(4.2), 30, 120),
        Waiting("newsletter", "p2", "email-2", None, 30, 120),
        Waiting("alert", "p1", "slack", NOW.plus(-15), 30, 120),
        Waiting("alert", "p1", "discord", NOW.plus(-60), 30, 120),
        Waiting("alert", "p1", "email", NOW.plus(-121), 30, 120),
        Waiting("alert", "p1", "email-2", NOW.plus(-3), 30, 120, blind=True),
    ]
    lines = [plain(line) for line in waiting_lines(rows, NOW, 80)]
    assert [line.split("  ")[-1] for line in lines] == [
        "121.0 s, last read",
        "60.0 s of 2m, overdue",
        "15.0 s of 30s",
        "3.0 s, blind",
        "not requested yet",
        "due in 4.2 s",
    ]
    assert all(line.count("━") == line.count("─") > 0 for line in lines[1:3])  # both are half way
    assert max(map(len, lines)) <= 80
    assert plain(waiting_lines(rows, NOW, 80, limit=2)[-1]) == "  and 4 more deliveries"


@pytest.mark.parametrize("width", [40, 80, 200])
def test_waiting_fits_the_width(width: int) -> None:
    """The table of what is waited for never wraps, or it could not be redrawn in place."""
    rows = [Waiting("newsletter-delivery", "k3f7q2", "discord", NOW.plus(-60), 30, 120)]
    assert max(map(line_cells, waiting_lines(rows, NOW, width))) <= width


class Terminal:
    """A real pseudo-terminal: what was written to it can be read back."""

    def __init__(self, columns: int) -> None:
        self._ours, theirs = os.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.stream: TextIO = os.fdopen(theirs, "w", encoding="utf-8")
        self._shown = b""

    def read_until(self, text: str) -> None:
        """Wait until ``text`` is shown."""
        deadline = time.monotonic() + 10
        while text not in self._shown.decode(errors="replace"):
            assert time.monotonic() < deadline, f"{text!r} was not shown: {self._shown!r}"
            if select.select([self._ours], [], [], 0.5)[0]:
                self._shown += os.read(self._ours, 65536)

    def close(self) -> str:
        """End the terminal and return everything that was shown."""
        self.stream.flush()
        while select.select([self._ours], [], [], 0)[0]:
            self._shown += os.read(self._ours, 65536)
        self.stream.close()
        os.close(self._ours)
        return self._shown.decode()


@contextmanager
def terminal(monkeypatch: pytest.MonkeyPatch, columns: int = 80) -> Iterator[Terminal]:
    monkeypatch.setenv("TERM", "xterm-256color")
    for name in ("NO_COLOR", "COLUMNS", "LINES", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    yield Terminal(columns)


def test_a_live_view_leaves_lines_and_a_clean_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is waited for is shown while it goes on and wiped at the end; the lines above it stay."""
    one = probe(ON_TIME)
    with terminal(monkeypatch) as term:
        with LiveView(term.stream, lambda: NOW) as view:
            view.launched(one)
            view.waiting([Waiting("alert-latency", "k3f7q2", "slack", NOW.plus(-15), 30, 120)])
            term.read_until("15.0 s of 30s")
            view.settled(one, ON_TIME)
            view.closing(run_result(TARGET, [one]))
        shown = term.close()
    assert "15.0 s of 30s" in shown
    assert shown.index("15.0 s of 30s") < shown.rindex("\x1b[2K")
    assert "15.0 s of 30s" not in shown[shown.rindex("\x1b[2K") :]
    assert "deliveries on time" in shown
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")


def test_an_exception_leaves_a_clean_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error inside the view shows the cursor again and leaves no half-drawn table."""
    with terminal(monkeypatch) as term:

        def fail() -> None:
            with LiveView(term.stream, lambda: NOW) as view:
                view.waiting([Waiting("alert-latency", "k3f7q2", "slack", NOW, 30, 120)])
                term.read_until("0.0 s of 30s")
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            fail()
        shown = term.close()
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")
    assert "0.0 s of 30s" not in shown[shown.rindex("\x1b[2K") :]


def test_no_color_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    """With NO_COLOR a terminal gets no colour, though it still gets the live view."""
    with terminal(monkeypatch) as term:
        monkeypatch.setenv("NO_COLOR", "1")
        with LiveView(term.stream, lambda: NOW) as view:
            view.settled(probe(LOST), LOST)
            view.settled(probe(ON_TIME), ON_TIME)
        shown = term.close()
    assert "✓" in shown
    assert not any(f"\x1b[{style}m" in shown for style in ("32", "31", "1;31"))


def test_a_plain_view_writes_the_same_lines_without_waiting() -> None:
    """Without a terminal each event is a line, and nothing moves."""
    one = probe(ON_TIME)
    stream = io.StringIO()
    with PlainView(stream, 80) as view:
        view.note("a note with [markup] and \x1b[31mcolour")
        view.launched(one)
        view.answered(one)
        view.waiting([Waiting("alert-latency", "k3f7q2", "slack", NOW, 30, 120)])
        view.settled(one, ON_TIME)
        view.closing(run_result(TARGET, [one]))
    assert stream.getvalue().splitlines()[:4] == [
        "a note with [markup] and [31mcolour",
        "→ alert-latency  k3f7q2  alert to slack, within 30s",
        "  alert-latency  k3f7q2  accepted (201) in 0.012 s",
        "✓ alert-latency  k3f7q2  slack  on time   0.142 s ± 0.071 s  push",
    ]
    assert stream.getvalue().splitlines()[-1] == "PASS  1 of 1 deliveries on time"
